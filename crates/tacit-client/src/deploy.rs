//! Publishing a function: blobs to the gateways, a version to the registry, and the wait until it can be called.

use std::time::{Duration, Instant};

use tacit_api::{FunctionAnswer, ProblemKind, calls, limits};
use tacit_ledger::{At, FunctionRecord, NewVersion, Outcome, Writer};
use tacit_types::{CodeHash, FunctionId};

use crate::{CallRequest, Client, ClientError, Entry, Package, workers::is_gateway};

const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the gateways may take to see a version that is final on the chain.
const VISIBLE: Duration = Duration::from_secs(60);

/// How long one probe of the new code may take.
const PROBE: Duration = Duration::from_secs(10);

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
    /// A verified worker answers with this code.
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
            Some(record) if record.code_hash == package.code_hash() && record.uri == version.uri => {
                (record.versions, None)
            }
            Some(record) => (record.versions + 1, Some(writer.upgrade_function(function, &version).await?)),
        };
        let unchanged = outcome.is_none();
        let outcome = match &existing {
            Some(record) => self.follow_manifest(&writer, record, package).await?.or(outcome),
            None => outcome,
        };
        if let Some(Outcome { block, .. }) = &outcome {
            progress(Step::Registered { block: *block });
        }
        let waits = existing.as_ref().is_some_and(|record| record.upgrade_delay > 0) && !unchanged;
        if !waits {
            self.wait_until_callable(function, package.code_hash()).await?;
            progress(Step::Callable);
        }
        self.forget_workers(function);
        let url = self.first_gateway().map(|gateway| format!("{gateway}/f/{function}")).unwrap_or_default();
        Ok(Deployed { function, version: number, code_hash: package.code_hash(), url, unchanged })
    }

    /// Brings what the registry enforces of `[upgrade]` in line with the manifest of a function that exists.
    async fn follow_manifest(
        &self,
        writer: &Writer,
        record: &FunctionRecord,
        package: &Package,
    ) -> Result<Option<Outcome>, ClientError> {
        let upgrade = &package.manifest().upgrade;
        let mut last = None;
        if upgrade.delay != record.upgrade_delay && !record.frozen {
            last = Some(writer.set_upgrade_delay(record.id, upgrade.delay).await?);
        }
        if upgrade.frozen && !record.frozen {
            last = Some(writer.freeze_function(record.id).await?);
        }
        Ok(last)
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

    /// Waits until a gateway shows this code and a verified worker answers with it.
    async fn wait_until_callable(&self, function: FunctionId, code: CodeHash) -> Result<(), ClientError> {
        let end = Instant::now() + VISIBLE;
        let mut pause = Duration::from_millis(10);
        loop {
            let ready = match self.sees(function, code).await {
                Ok(true) => self.runs(function, code).await,
                other => other,
            };
            match ready {
                Ok(true) => return Ok(()),
                Err(error) if !waits(&error) => return Err(error),
                Err(error) if Instant::now() >= end => return Err(ClientError::Deadline(Some(Box::new(error)))),
                Ok(false) if Instant::now() >= end => return Err(ClientError::Deadline(None)),
                _ => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(400));
        }
    }

    /// Asks for what every function denies to those without a name: the denial's receipt says which code is in force.
    async fn runs(&self, function: FunctionId, code: CodeHash) -> Result<bool, ClientError> {
        let request = CallRequest { patience: PROBE, ..CallRequest::new(function, calls::SECRETS_SET, "{}") };
        let answer = self.nameless().call(&request).await?;
        Ok(answer.receipt().code_hash == code)
    }

    async fn sees(&self, function: FunctionId, code: CodeHash) -> Result<bool, ClientError> {
        let ask = |entry: &Entry| {
            let url = format!("{}/f/{function}", entry.url());
            async move {
                let bytes = self.http.get(&url, limits::MAX_FUNCTION_ANSWER, LOOKUP_TIMEOUT).await?;
                let answer: FunctionAnswer = serde_json::from_slice(&bytes)
                    .map_err(|error| ClientError::BadAnswer { url, reason: error.to_string() })?;
                Ok(answer.function.code_hash == code)
            }
        };
        self.ways.look_up(LOOKUP_TIMEOUT, is_gateway, ask).await
    }

    fn first_gateway(&self) -> Option<String> {
        self.ways.entries().iter().find_map(|entry| match entry {
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

/// Whether a failure of the probe may pass by itself: the nodes have not all read the newest block yet.
fn waits(error: &ClientError) -> bool {
    match error {
        ClientError::Deadline(_) | ClientError::BadAnswer { .. } | ClientError::Unreachable { .. } => true,
        ClientError::Lookup { problem, .. } | ClientError::Unsealed { problem, .. } | ClientError::Sealed(problem) => {
            matches!(problem.kind, ProblemKind::UnknownFunction)
                || problem.kind.is_passing()
                || problem.kind.asks_to_seal_again()
        }
        _ => false,
    }
}
