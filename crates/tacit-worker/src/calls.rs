//! The way of one call: fields, nonce, caller, access rule, then command or query.

use std::sync::Arc;

use bytes::Bytes;
use tacit_api::{
    CallKind, Problem, ProblemKind,
    calls::{SECRETS_SET, is_idempotency_key, is_method_name},
    headers, limits,
};
use tacit_types::{
    Address, CertificateId, Digest, FunctionId, UnixTime,
    eip712::{CallAuthorization, Kind, keccak},
    formats::call_id,
    manifest::{CallerRule, Callers, MethodKind, ModuleKind},
    signature::Signature,
};
use tokio::sync::oneshot;

use crate::{
    answer::{Answer, Word, publish, release},
    commands::{Command, Order, Work},
    context::Context,
    execute::Admitted,
    functions::Functions,
    held::Held,
    nonces::{Nonces, Seen},
    outcome::{KEEP_CALLS, Request},
    queries::{self, Query},
    time::now,
    under_way::{Same, UnderWay},
};

/// Secrets that one call may set.
const MOST_SECRETS: usize = 256;
/// Bytes of one secret.
const SECRET_BYTES: usize = 64 << 10;

/// Where a call comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Out of a seal.
    Sealed,
    /// Without a seal.
    Plain,
}

/// The fields of a call, read and bounded, nothing checked yet.
#[derive(Debug)]
pub(crate) struct Fields {
    pub nonce: Option<Digest>,
    pub deadline: Option<UnixTime>,
    pub certificate: Option<CertificateId>,
    pub least: u64,
    pub idempotency_key: Option<String>,
    pub caller: Option<Address>,
    pub signature: Option<Signature>,
    pub kind: Option<CallKind>,
}

impl Fields {
    /// Reads the fields through `field`, which gives a header's one value.
    pub fn read<'a>(field: impl Fn(&'static str) -> Option<&'a str>) -> Result<Self, Problem> {
        fn parse<T>(
            name: &'static str,
            value: Option<&str>,
            read: impl Fn(&str) -> Option<T>,
        ) -> Result<Option<T>, Problem> {
            let bad = || Problem::new(ProblemKind::InvalidHeader, format!("{name} has a value that cannot be read"));
            value.map(|value| read(value).ok_or_else(bad)).transpose()
        }
        let take = |name| (name, field(name));
        let number = |text: &str| text.parse::<u64>().ok().filter(|number| number.to_string() == text);
        let (name, value) = take(headers::NONCE);
        let nonce = parse(name, value, |text| text.parse().ok())?;
        let (name, value) = take(headers::DEADLINE);
        let deadline = parse(name, value, |text| number(text).map(UnixTime))?;
        let (name, value) = take(headers::WORKER);
        let certificate = parse(name, value, |text| text.parse().ok())?;
        let (name, value) = take(headers::MIN_SEQUENCE);
        let least = parse(name, value, number)?.unwrap_or(0);
        let (name, value) = take(headers::IDEMPOTENCY_KEY);
        let idempotency_key = parse(name, value, |text| is_idempotency_key(text).then(|| text.to_owned()))?;
        let (name, value) = take(headers::CALLER);
        let caller = parse(name, value, |text| text.parse().ok())?;
        let (name, value) = take(headers::SIGNATURE);
        let signature = parse(name, value, |text| text.parse().ok())?;
        let (name, value) = take(headers::KIND);
        let kind = parse(name, value, CallKind::named)?;
        Ok(Self { nonce, deadline, certificate, least, idempotency_key, caller, signature, kind })
    }
}

/// Takes calls.
#[derive(Clone)]
pub(crate) struct Calls {
    pub context: Arc<Context>,
    pub functions: Functions,
    pub nonces: Arc<Nonces>,
    pub under_way: Arc<UnderWay<Answer>>,
}

impl Calls {
    /// Carries out one call.
    pub async fn call(
        &self,
        way: Way,
        function: FunctionId,
        method: &str,
        body: Bytes,
        fields: Fields,
    ) -> Result<Answer, Problem> {
        if !is_method_name(method) && method != SECRETS_SET {
            return Err(Problem::new(ProblemKind::UnknownMethod, "not the name of a method"));
        }
        let time = now();
        let deadline = check_deadline(way, &fields, time)?;
        let caller = self.check_caller(way, function, method, &body, &fields, deadline, time)?;
        self.check_nonce(way, &fields, deadline, time)?;
        let key = match (&fields.idempotency_key, fields.nonce) {
            (Some(key), _) => key.clone(),
            (None, Some(nonce)) => nonce.to_string(),
            (None, None) => {
                let mut nonce = [0; 32];
                rand::Rng::fill_bytes(&mut rand::rng(), &mut nonce);
                Digest::from(nonce).to_string()
            }
        };
        let request =
            Request { function, method: method.to_owned(), body, caller, call_id: call_id(function, caller, &key) };
        let held = self.functions.obtain(function).await?;
        if way == Way::Plain && !held.version.code.manifest.access.plaintext {
            return Err(Problem::new(ProblemKind::SealedOnly, "its manifest does not allow calls without a seal"));
        }
        if method == SECRETS_SET {
            return self.set_secrets(&held, request, deadline).await;
        }
        let js = held.version.code.manifest.function.kind == ModuleKind::Js;
        if js && !held.version.program.methods().iter().any(|known| known == method) {
            return Err(Problem::new(ProblemKind::UnknownMethod, format!("it has no method \"{method}\"")));
        }
        let method = held.version.code.manifest.method(method);
        let kind = match (fields.kind, method.kind) {
            (Some(CallKind::Stale), _) => Kind::StaleQuery,
            (Some(CallKind::Query), _) | (None, MethodKind::Query) => Kind::Query,
            (None, MethodKind::Command) => Kind::Command,
        };
        let denied = !is_let_in(&held, caller);
        let number = held.number;
        let least = fields.least;
        let same = Same { call_id: request.call_id, request: request.digest(), kind, deadline, least };
        let admitted = Admitted { request, method, kind, deadline, trigger: None, version: number };
        let this = self.clone();
        let answer = self.under_way.join(same, async move { this.run(&held, admitted, denied, least).await }).await?;
        Ok(Arc::try_unwrap(answer).unwrap_or_else(|answer| Answer::clone(&answer)))
    }

    async fn run(&self, held: &Arc<Held>, admitted: Admitted, denied: bool, least: u64) -> Result<Answer, Problem> {
        if admitted.kind == Kind::Command {
            let work = if denied { Work::Deny } else { Work::Run };
            return self.command(held, admitted, work, least, now().plus(KEEP_CALLS)).await;
        }
        let query = Query { admitted, denied, least };
        let answered = queries::answer(&self.context, held, &query).await?;
        let word = match answered.confirmation {
            Some(confirmation) => Word::Confirmed(confirmation),
            None => Word::Stale(answered.confirmed),
        };
        release(&self.context, held, &query.admitted.request, answered.ended, answered.receipt, word).await
    }

    /// Has a command run after those before it, and waits for the quorum.
    pub async fn command(
        &self,
        held: &Arc<Held>,
        admitted: Admitted,
        work: Work,
        least: u64,
        keep_until: UnixTime,
    ) -> Result<Answer, Problem> {
        let (reply, answer) = oneshot::channel();
        let request = admitted.request.clone();
        held.send(Order::Call(Box::new(Command { admitted, work, least, keep_until, reply })))?;
        let committed = answer.await.map_err(|_| held.problem())??;
        if committed.repeated {
            tracing::debug!(call = %request.call_id, "answered with the stored outcome");
        }
        for stated in committed.publications {
            // What cannot be released now waits in the state and is stated again.
            if let Err(problem) = publish(&self.context, held, stated).await {
                tracing::warn!(call = %request.call_id, %problem, "the receipt of a publication is not released yet");
            }
        }
        let word = Word::Acknowledged(committed.acknowledgement);
        release(&self.context, held, &request, committed.ended, committed.receipt, word).await
    }

    async fn set_secrets(&self, held: &Arc<Held>, request: Request, deadline: UnixTime) -> Result<Answer, Problem> {
        let denied = request.caller != Some(held.owner);
        let secrets = if denied { Vec::new() } else { parse_secrets(&request.body)? };
        let method = held.version.code.manifest.method(SECRETS_SET);
        let admitted = Admitted { request, method, kind: Kind::Command, deadline, trigger: None, version: held.number };
        let work = if denied { Work::Deny } else { Work::SetSecrets(secrets) };
        self.command(held, admitted, work, 0, now().plus(KEEP_CALLS)).await
    }

    /// The caller's account: none without a signature, refused with a bad one.
    #[allow(clippy::too_many_arguments)]
    fn check_caller(
        &self,
        way: Way,
        function: FunctionId,
        method: &str,
        body: &[u8],
        fields: &Fields,
        deadline: UnixTime,
        time: UnixTime,
    ) -> Result<Option<Address>, Problem> {
        let certificates = &self.context.certificates;
        if way == Way::Sealed || fields.certificate.is_some() {
            let missing = || Problem::new(ProblemKind::InvalidHeader, "tacit-worker is missing");
            let id = fields.certificate.ok_or_else(missing)?;
            if certificates.live(id, time).is_none() {
                return Err(Problem::new(
                    ProblemKind::WrongKey,
                    "the certificate is not one of this worker's that live",
                )
                .with_hint("fetch the function's workers again, verify and seal again"));
            }
        }
        let (caller, signature) = match (fields.caller, fields.signature) {
            (None, None) => return Ok(None),
            (Some(caller), Some(signature)) => (caller, signature),
            _ => return Err(Problem::new(ProblemKind::InvalidHeader, "tacit-caller and tacit-signature go together")),
        };
        let incomplete = || {
            Problem::new(ProblemKind::InvalidHeader, "a signed call needs tacit-nonce, tacit-deadline and tacit-worker")
        };
        let authorization = CallAuthorization {
            function_id: function,
            method: keccak(method.as_bytes()),
            body: keccak(body),
            certificate: fields.certificate.ok_or_else(incomplete)?,
            nonce: fields.nonce.ok_or_else(incomplete)?,
            deadline: fields.deadline.map(|_| deadline).ok_or_else(incomplete)?,
        };
        if signature.recover(authorization.digest(self.context.cluster)).ok() != Some(caller) {
            return Err(Problem::new(ProblemKind::BadSignature, "it is not the caller's over this very call"));
        }
        Ok(Some(caller))
    }

    fn check_nonce(&self, way: Way, fields: &Fields, deadline: UnixTime, time: UnixTime) -> Result<(), Problem> {
        let Some(nonce) = fields.nonce else {
            return match way {
                Way::Sealed => Err(Problem::new(ProblemKind::InvalidHeader, "tacit-nonce is missing")),
                Way::Plain => Ok(()),
            };
        };
        match self.nonces.take(nonce, deadline, time) {
            Seen::Fresh => Ok(()),
            Seen::Used => Err(Problem::new(ProblemKind::Replayed, "")
                .with_hint("send again with a fresh nonce and the same idempotency key")),
            Seen::Full => Err(Problem::new(ProblemKind::Overloaded, "too many nonces to remember")),
        }
    }
}

fn check_deadline(way: Way, fields: &Fields, time: UnixTime) -> Result<UnixTime, Problem> {
    let latest = time.plus(limits::MAX_DEADLINE.as_secs());
    let deadline = match (fields.deadline, way) {
        (Some(deadline), _) => deadline,
        (None, Way::Plain) => time.plus(limits::DEFAULT_DEADLINE.as_secs()),
        (None, Way::Sealed) => return Err(Problem::new(ProblemKind::InvalidHeader, "tacit-deadline is missing")),
    };
    if deadline < time || deadline > latest {
        let detail = format!("it is {}, this worker's clock says {}", deadline.0, time.0);
        return Err(Problem::new(ProblemKind::DeadlineExpired, detail).with_hint("at most 900 seconds from now"));
    }
    Ok(deadline)
}

/// Whether the access rule lets a caller in.
fn is_let_in(held: &Held, caller: Option<Address>) -> bool {
    match &held.version.code.manifest.access.callers {
        Callers::Rule(CallerRule::Anyone) => true,
        Callers::Rule(CallerRule::Owner) => caller == Some(held.owner),
        Callers::Accounts(accounts) => caller.is_some_and(|caller| accounts.contains(&caller)),
    }
}

/// Reads `{"NAME": "value" | null, …}`.
fn parse_secrets(body: &[u8]) -> Result<Vec<(String, Option<Bytes>)>, Problem> {
    let bad = |detail: &str| Problem::new(ProblemKind::InvalidRequest, detail);
    let secrets: std::collections::BTreeMap<String, Option<String>> =
        serde_json::from_slice(body).map_err(|_| bad("the body is not an object of names and texts (or null)"))?;
    if secrets.is_empty() || secrets.len() > MOST_SECRETS {
        return Err(bad("1 to 256 secrets"));
    }
    if secrets.keys().any(|name| !is_method_name(name)) {
        return Err(bad("a secret's name is a letter or underscore, then letters, digits and underscores"));
    }
    if secrets.values().flatten().any(|value| value.len() > SECRET_BYTES) {
        return Err(bad("a secret has at most 64 KiB"));
    }
    Ok(secrets.into_iter().map(|(name, value)| (name, value.map(Bytes::from))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(values: &'static [(&'static str, &'static str)]) -> Result<Fields, Problem> {
        Fields::read(|name| values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
    }

    #[test]
    fn fields_are_read_strictly() {
        assert!(fields(&[]).is_ok());
        let read = fields(&[("tacit-deadline", "12"), ("tacit-kind", "stale"), ("tacit-min-sequence", "7")]).unwrap();
        assert_eq!((read.deadline, read.kind, read.least), (Some(UnixTime(12)), Some(CallKind::Stale), 7));
        for bad in [
            &[("tacit-deadline", "012")] as &'static [_],
            &[("tacit-deadline", "-1")],
            &[("tacit-deadline", "1e9")],
            &[("tacit-nonce", "0x12")],
            &[("tacit-kind", "command")],
            &[("tacit-caller", "0xAB")],
            &[("tacit-signature", "0x")],
            &[("idempotency-key", "")],
            &[("idempotency-key", "a b")],
            &[("tacit-worker", "x")],
        ] {
            assert_eq!(fields(bad).unwrap_err().kind, ProblemKind::InvalidHeader, "{bad:?}");
        }
    }

    #[test]
    fn deadlines_are_bounded_both_ways() {
        let at = |deadline: u64| Fields { deadline: Some(UnixTime(deadline)), ..fields(&[]).unwrap() };
        let check = |way, fields: Fields| check_deadline(way, &fields, UnixTime(1_000)).map_err(|problem| problem.kind);
        assert_eq!(check(Way::Sealed, at(1_000)), Ok(UnixTime(1_000)));
        assert_eq!(check(Way::Sealed, at(1_900)), Ok(UnixTime(1_900)));
        assert_eq!(check(Way::Sealed, at(999)), Err(ProblemKind::DeadlineExpired));
        assert_eq!(check(Way::Sealed, at(1_901)), Err(ProblemKind::DeadlineExpired));
        assert_eq!(check(Way::Sealed, fields(&[]).unwrap()), Err(ProblemKind::InvalidHeader));
        assert_eq!(check(Way::Plain, fields(&[]).unwrap()), Ok(UnixTime(1_060)));
    }

    #[test]
    fn secrets_are_names_and_texts() {
        let check = |body: &str, expected: bool| assert_eq!(parse_secrets(body.as_bytes()).is_ok(), expected, "{body}");
        check(r#"{"API_KEY":"x","OLD":null}"#, true);
        check("{}", false);
        check("[]", false);
        check(r#"{"a b":"x"}"#, false);
        check(r#"{"A":1}"#, false);
        check(&format!(r#"{{"A":"{}"}}"#, "x".repeat(SECRET_BYTES + 1)), false);
    }
}
