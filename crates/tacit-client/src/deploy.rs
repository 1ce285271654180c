//! Publishing a function: blobs to the gateways, a version to the registry, and the wait until it can be called.

use std::time::{Duration, Instant};

use tacit_api::{FunctionAnswer, limits};
use tacit_ledger::{At, NewVersion, Outcome, Writer};
use tacit_types::{CodeHash, FunctionId};

use crate::{Client, ClientError, Entry, Package};

const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the gateways may take to see a version that is final on the chain.
const VISIBLE: Duration = Duration::from_secs(60);

/// How far a deployment has come; for a line on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// The blobs are at so many of so many gateways.
    Uploaded {
        /// Gateways that have them.
        gateways: usize,
        /// Gateways there are.
        of: usize,
    },
    /// The version is final on the home chain.
    Registered {
        /// Number of the block.
        block: u64,
    },
    /// A gateway names a verified worker for it.
    Callable,
}

/// A function that is on the chain and can be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// The function.
    pub function: FunctionId,
    /// Number of this version, counted from 1.
    pub version: u64,
    /// Code and manifest.
    pub code_hash: CodeHash,
    /// Where it is called.
    pub url: String,
    /// Whether this version was there already, so that nothing was sent.
    pub unchanged: bool,
}

impl Client {
    /// Publishes a package as the caller's function: a new one, or a new version of the one with that name.
    ///
    /// # Errors
    /// [`ClientError::NoKey`] without a caller's key; else as uploading and the registry fail.
    pub async fn deploy(&self, package: &Package, progress: impl Fn(Step)) -> Result<Deployed, ClientError> {
        let key = self.caller.as_ref().ok_or(ClientError::NoKey)?;
        let name = &package.manifest().function.name;
        let function = self.function_id(key.address(), name)?;
        let ledger = self.ledger()?;
        let existing = ledger.function(function, At::Final).await?;
        self.upload(package, &progress).await?;
        let version = NewVersion {
            module_hash: package.module_hash(),
            manifest_hash: package.manifest_hash(),
            uri: package.uri().to_string(),
        };
        let writer = ledger.writer(key)?;
        let (number, outcome) = match &existing {
            None => {
                let upgrade = &package.manifest().upgrade;
                let (_, outcome) = writer.register_function(name, &version, upgrade.delay).await?;
                let outcome = if upgrade.frozen { writer.freeze_function(function).await? } else { outcome };
                (1, Some(outcome))
            }
            Some(record) if record.code_hash == package.code_hash() && record.uri == version.uri => (record.versions, None),
            Some(record) => (record.versions + 1, Some(writer.upgrade_function(function, &version).await?)),
        };
        if let Some(Outcome { block, .. }) = &outcome {
            progress(Step::Registered { block: *block });
        }
        let waits = existing.as_ref().is_some_and(|record| record.upgrade_delay > 0) && outcome.is_some();
        if !waits {
            self.wait_until_callable(function, package.code_hash()).await?;
            progress(Step::Callable);
        }
        self.forget_workers(function);
        let url = self.first_gateway().map(|gateway| format!("{gateway}/f/{function}")).unwrap_or_default();
        Ok(Deployed { function, version: number, code_hash: package.code_hash(), url, unchanged: outcome.is_none() })
    }

    /// Sends the blobs to every gateway; one that takes them is enough, since gateways ask each other.
    async fn upload(&self, package: &Package, progress: &impl Fn(Step)) -> Result<(), ClientError> {
        let gateways: Vec<&String> = self
            .entries()?
            .iter()
            .filter_map(|entry| match entry {
                Entry::Gateway(url) => Some(url),
                Entry::Worker(_) => None,
            })
            .collect();
        let (mut reached, mut last) = (0, ClientError::NoEntry);
        for gateway in &gateways {
            match self.upload_to(gateway, package).await {
                Ok(()) => reached += 1,
                Err(error) => last = error,
            }
        }
        if reached == 0 {
            return Err(last);
        }
        progress(Step::Uploaded { gateways: reached, of: gateways.len() });
        Ok(())
    }

    async fn upload_to(&self, gateway: &str, package: &Package) -> Result<(), ClientError> {
        for (digest, bytes) in package.blobs() {
            self.http.put(&format!("{gateway}/v1/blobs/{digest}"), bytes, UPLOAD_TIMEOUT).await?;
        }
        Ok(())
    }

    /// Waits until a gateway shows this code and a worker that holds under the policy.
    async fn wait_until_callable(&self, function: FunctionId, code: CodeHash) -> Result<(), ClientError> {
        let end = Instant::now() + VISIBLE;
        let mut pause = Duration::from_millis(10);
        loop {
            let seen = self.sees(function, code).await;
            match seen {
                Ok(true) => {
                    self.fetch_workers(function).await?;
                    return Ok(());
                }
                Err(error) if Instant::now() >= end => return Err(ClientError::Deadline(Some(Box::new(error)))),
                Ok(false) if Instant::now() >= end => return Err(ClientError::Deadline(None)),
                _ => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(400));
        }
    }

    async fn sees(&self, function: FunctionId, code: CodeHash) -> Result<bool, ClientError> {
        let gateway = self.first_gateway().ok_or(ClientError::NoEntry)?;
        let mut last = None;
        for entry in self.entries()? {
            let Entry::Gateway(url) = entry else { continue };
            let url = format!("{url}/f/{function}");
            match self.http.get(&url, limits::MAX_FUNCTION_ANSWER, LOOKUP_TIMEOUT).await {
                Ok(bytes) => {
                    let answer: FunctionAnswer = serde_json::from_slice(&bytes)
                        .map_err(|error| ClientError::BadAnswer { url, reason: error.to_string() })?;
                    return Ok(answer.function.code_hash == code);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or(ClientError::BadAnswer { url: gateway, reason: "no answer".into() }))
    }

    fn first_gateway(&self) -> Option<String> {
        self.entries.iter().find_map(|entry| match entry {
            Entry::Gateway(url) => Some(url.clone()),
            Entry::Worker(_) => None,
        })
    }

    /// Writes to the home chain with the caller's key.
    ///
    /// # Errors
    /// [`ClientError::NoKey`] without one.
    pub fn writer(&self) -> Result<Writer, ClientError> {
        let key = self.caller.as_ref().ok_or(ClientError::NoKey)?;
        Ok(self.ledger()?.writer(key)?)
    }
}
