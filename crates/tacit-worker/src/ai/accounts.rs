//! Who may ask, how often and how much.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tacit_api::openai::{ApiError, ErrorKind};
use tacit_types::{Digest, FunctionId, UnixTime};

use super::config::KeyConfig;

/// Longest key that is looked at.
const MAX_KEY: usize = 512;
/// Seconds of a minute.
const MINUTE: u64 = 60;

/// The credential that a receipt is bound to: SHA-256 of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Credential(pub Digest);

impl Credential {
    fn of(key: &str) -> Self {
        Self(Digest::from(<[u8; 32]>::from(Sha256::digest(key.as_bytes()))))
    }

    /// Whose earlier work a request may reuse: that of the same key.
    pub const fn reuse_group(self) -> Digest {
        self.0
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Whoever has this key.
    Key(Credential),
    /// A function that runs here: bounded by its own limits.
    Function(FunctionId),
}

impl Asker {
    /// What receipts are bound to. A function's is no hash of any key: nobody but its worker fetches them.
    pub fn credential(self) -> Credential {
        match self {
            Self::Key(credential) => credential,
            Self::Function(function) => {
                let hash = Sha256::new_with_prefix("tacit/ai/function/1").chain_update(function.as_bytes()).finalize();
                Credential(Digest::from(<[u8; 32]>::from(hash)))
            }
        }
    }
}

/// All keys with what they used.
pub(crate) struct Accounts {
    keys: Vec<KeyConfig>,
    used: Mutex<HashMap<Digest, Used>>,
    /// Tokens used in all, by key.
    file: PathBuf,
}

#[derive(Debug, Clone, Copy, Default)]
struct Used {
    /// The minute that the next two count in.
    minute: u64,
    requests: u32,
    tokens: u32,
    total: u64,
}

impl Accounts {
    /// Reads what was used before from `file`.
    pub fn open(keys: Vec<KeyConfig>, file: PathBuf) -> std::io::Result<Self> {
        let used = match std::fs::read(&file) {
            Ok(bytes) => {
                let totals: HashMap<Digest, u64> = serde_json::from_slice(&bytes).map_err(std::io::Error::other)?;
                totals.into_iter().map(|(key, total)| (key, Used { total, ..Used::default() })).collect()
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => HashMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { keys, used: Mutex::new(used), file })
    }

    /// The key that an `Authorization` header names, if somebody was given it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`].
    pub fn authenticate(&self, authorization: Option<&str>) -> Result<Credential, ApiError> {
        let refused = |message: &str| ApiError::new(ErrorKind::InvalidKey, message);
        let header = authorization.ok_or_else(|| refused("you did not provide an API key"))?;
        let (scheme, key) = header.split_once(' ').unwrap_or_default();
        let key = key.trim();
        if !scheme.eq_ignore_ascii_case("bearer") || key.is_empty() || key.len() > MAX_KEY {
            return Err(refused("the Authorization header is not: Bearer KEY"));
        }
        let credential = Credential::of(key);
        // All are compared, each in constant time: neither which one nor how much of it matches can be timed.
        let mut found = subtle::Choice::from(0);
        for known in &self.keys {
            found |= known.sha256.as_bytes().ct_eq(credential.0.as_bytes());
        }
        if bool::from(found) { Ok(credential) } else { Err(refused("the API key is not valid")) }
    }

    /// Counts a request, or refuses it.
    ///
    /// # Errors
    /// [`ErrorKind::RateLimit`] and [`ErrorKind::Quota`].
    pub fn admit(&self, asker: Asker, now: UnixTime) -> Result<(), ApiError> {
        let Asker::Key(credential) = asker else { return Ok(()) };
        let Some(limits) = self.limits(credential) else {
            return Err(ApiError::new(ErrorKind::InvalidKey, "the API key is not valid"));
        };
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let used = used.entry(credential.0).or_default();
        used.enter(now);
        let wait = MINUTE - now.0 % MINUTE;
        if limits.requests_per_minute.is_some_and(|most| used.requests >= most) {
            return Err(ApiError::new(ErrorKind::RateLimit, "too many requests in a minute").retry_after(wait));
        }
        if limits.tokens_per_minute.is_some_and(|most| used.tokens >= most) {
            return Err(ApiError::new(ErrorKind::RateLimit, "too many tokens in a minute").retry_after(wait));
        }
        if limits.tokens.is_some_and(|most| used.total >= most) {
            return Err(ApiError::new(ErrorKind::Quota, "the key's tokens are used up"));
        }
        used.requests = used.requests.saturating_add(1);
        Ok(())
    }

    /// Counts what a request used.
    pub fn charge(&self, asker: Asker, tokens: u32, now: UnixTime) {
        let Asker::Key(credential) = asker else { return };
        let limited = self.limits(credential).is_some_and(|limits| limits.tokens.is_some());
        let totals: HashMap<Digest, u64> = {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            let account = used.entry(credential.0).or_default();
            account.enter(now);
            account.tokens = account.tokens.saturating_add(tokens);
            account.total = account.total.saturating_add(u64::from(tokens));
            if !limited {
                return;
            }
            used.iter().map(|(key, used)| (*key, used.total)).collect()
        };
        if let Err(error) = self.write(&totals) {
            tracing::warn!(%error, "the tokens used cannot be written down");
        }
    }

    fn write(&self, totals: &HashMap<Digest, u64>) -> std::io::Result<()> {
        let staged = self.file.with_extension("new");
        std::fs::write(&staged, serde_json::to_vec(totals)?)?;
        std::fs::rename(staged, &self.file)
    }

    fn limits(&self, credential: Credential) -> Option<&KeyConfig> {
        self.keys.iter().find(|key| key.sha256 == credential.0)
    }
}

impl Used {
    fn enter(&mut self, now: UnixTime) {
        let minute = now.0 / MINUTE;
        if self.minute != minute {
            (self.minute, self.requests, self.tokens) = (minute, 0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> KeyConfig {
        KeyConfig {
            name: name.into(),
            sha256: Credential::of(name).0,
            requests_per_minute: None,
            tokens_per_minute: None,
            tokens: None,
        }
    }

    #[test]
    fn only_given_keys_get_in() {
        let folder = tempfile::tempdir().unwrap();
        let accounts = Accounts::open(vec![key("one"), key("two")], folder.path().join("used.json")).unwrap();
        assert_eq!(accounts.authenticate(Some("Bearer two")).unwrap(), Credential::of("two"));
        assert_eq!(accounts.authenticate(Some("bearer one")).unwrap(), Credential::of("one"));
        let long = format!("Bearer {}", "k".repeat(MAX_KEY + 1));
        for wrong in [None, Some("two"), Some("Bearer "), Some("Bearer three"), Some("Basic two"), Some(long.as_str())]
        {
            assert_eq!(accounts.authenticate(wrong).unwrap_err().kind, ErrorKind::InvalidKey, "{wrong:?}");
        }
    }

    #[test]
    fn rates_begin_anew_each_minute_and_quotas_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("used.json");
        let keys = vec![
            KeyConfig { requests_per_minute: Some(2), ..key("slow") },
            KeyConfig { tokens_per_minute: Some(10), ..key("short") },
            KeyConfig { tokens: Some(100), ..key("poor") },
        ];
        let accounts = Accounts::open(keys.clone(), file.clone()).unwrap();
        let (slow, short, poor) = (Credential::of("slow"), Credential::of("short"), Credential::of("poor"));
        let (slow, short, poor) = (Asker::Key(slow), Asker::Key(short), Asker::Key(poor));
        let kind = |result: Result<(), ApiError>| result.map_err(|error| (error.kind, error.retry_after));
        assert_eq!(kind(accounts.admit(slow, UnixTime(61))), Ok(()));
        assert_eq!(kind(accounts.admit(slow, UnixTime(70))), Ok(()));
        assert_eq!(kind(accounts.admit(slow, UnixTime(119))), Err((ErrorKind::RateLimit, Some(1))));
        assert_eq!(kind(accounts.admit(slow, UnixTime(120))), Ok(()));
        accounts.charge(short, 10, UnixTime(61));
        assert_eq!(kind(accounts.admit(short, UnixTime(62))), Err((ErrorKind::RateLimit, Some(58))));
        assert_eq!(kind(accounts.admit(short, UnixTime(120))), Ok(()));
        assert_eq!(kind(accounts.admit(poor, UnixTime(61))), Ok(()));
        accounts.charge(poor, 100, UnixTime(61));
        let accounts = Accounts::open(keys, file).unwrap();
        assert_eq!(kind(accounts.admit(poor, UnixTime(600))), Err((ErrorKind::Quota, None)));
        assert_eq!(
            accounts.admit(Asker::Key(Credential::of("nobody")), UnixTime(1)).unwrap_err().kind,
            ErrorKind::InvalidKey
        );
    }
}
