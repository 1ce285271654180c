//! From a function's record on the chain to a program that runs: blobs from any gateway, checked by hash, compiled once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tacit_api::{BlobUri, Problem, ProblemKind, limits};
use tacit_ledger::FunctionRecord;
use tacit_receipt::Code;
use tacit_runtime::{Engine, Program};
use tacit_store::Blobs;
use tacit_types::{
    CodeHash, Digest,
    eip712::keccak,
    formats::{code_hash_of, sha256},
    manifest::{Manifest, ModuleKind},
};

use crate::gatekeepers;

/// Programs that are kept compiled.
const KEPT: usize = 512;
/// Longest that one gateway is waited for.
const FETCH_TIMEOUT: Duration = Duration::from_secs(20);

/// A version of a function, ready to run.
pub(crate) struct Version {
    pub code_hash: CodeHash,
    pub code: Code,
    pub program: Program,
}

/// Fetches, checks and compiles.
pub(crate) struct Loader {
    engine: Engine,
    blobs: Blobs,
    gateways: Vec<String>,
    client: reqwest::Client,
    compiled: Mutex<HashMap<CodeHash, Arc<Version>>>,
}

impl Loader {
    pub fn new(engine: Engine, blobs: Blobs, gateways: Vec<String>) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(2))
            .timeout(FETCH_TIMEOUT)
            .build()?;
        Ok(Self { engine, blobs, gateways, client, compiled: Mutex::default() })
    }

    /// The version that a record names.
    pub async fn load(&self, record: &FunctionRecord) -> Result<Arc<Version>, Problem> {
        if let Some(version) = self.compiled.lock().unwrap_or_else(PoisonError::into_inner).get(&record.code_hash) {
            return Ok(Arc::clone(version));
        }
        let invalid = |detail: String| Problem::new(ProblemKind::InvalidCode, detail);
        let uri: BlobUri = record.uri.parse().map_err(|error| invalid(format!("the registry's uri is {error}")))?;
        let module = self.blob(uri.module).await?;
        let manifest_bytes = self.blob(uri.manifest).await?;
        let manifest = Manifest::from_canonical(&manifest_bytes).map_err(|error| invalid(error.to_string()))?;
        let manifest_hash = manifest.hash().map_err(|error| invalid(error.to_string()))?;
        let module_hash = keccak(&module);
        if code_hash_of(module_hash, manifest_hash) != record.code_hash || manifest_hash != record.manifest_hash {
            return Err(invalid("the blobs are not the version that the registry names".into()));
        }
        let map = match uri.map {
            // The source map only names lines; without it the function runs all the same.
            Some(map) => self.blob(map).await.ok(),
            None => None,
        };
        let program = self.compile(&manifest, &module, map).await?;
        let version =
            Arc::new(Version { code_hash: record.code_hash, code: Code { module: module_hash, manifest }, program });
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if compiled.len() >= KEPT {
            // Those that nobody runs; if all run, any.
            compiled.retain(|_, version| Arc::strong_count(version) > 1);
            if compiled.len() >= KEPT
                && let Some(any) = compiled.keys().next().copied()
            {
                compiled.remove(&any);
            }
        }
        compiled.insert(version.code_hash, Arc::clone(&version));
        Ok(version)
    }

    async fn compile(&self, manifest: &Manifest, module: &Bytes, map: Option<Bytes>) -> Result<Program, Problem> {
        let invalid = |detail: String| Problem::new(ProblemKind::InvalidCode, detail);
        let compiled = match manifest.function.kind {
            ModuleKind::Js => {
                let source = std::str::from_utf8(module).map_err(|_| invalid("the module is not text".into()))?;
                let map = map.as_ref().and_then(|map| std::str::from_utf8(map).ok());
                self.engine.compile_js(source, map).await
            }
            ModuleKind::Wasm => self.engine.load_component(module.clone()).await,
        };
        compiled.map_err(|error| invalid(error.to_string()))
    }

    /// A blob from this worker's own store, else from the first gateway that has it.
    async fn blob(&self, digest: Digest) -> Result<Bytes, Problem> {
        match self.blobs.fetch(digest).await {
            Ok(Some(bytes)) => return Ok(bytes),
            Ok(None) => {}
            Err(error) => tracing::warn!(%digest, %error, "a blob cannot be read from the own store"),
        }
        for gateway in &self.gateways {
            let url = format!("{}/v1/blobs/{digest}", gateway.trim_end_matches('/'));
            let Ok(response) = self.client.get(&url).send().await else { continue };
            if !response.status().is_success() {
                continue;
            }
            match gatekeepers::read(response, limits::MAX_BLOB).await {
                Ok(bytes) if sha256(&bytes) == digest => {
                    if let Err(error) = self.blobs.put(bytes.clone()).await {
                        tracing::warn!(%digest, %error, "a blob cannot be kept");
                    }
                    return Ok(bytes);
                }
                Ok(_) => tracing::warn!(%gateway, %digest, "a gateway gave other bytes than were asked for"),
                Err(error) => tracing::warn!(%gateway, %digest, %error, "a blob cannot be fetched"),
            }
        }
        let detail = format!("no gateway has the function's blob {digest}");
        Err(Problem::new(ProblemKind::StorageUnavailable, detail))
    }
}
