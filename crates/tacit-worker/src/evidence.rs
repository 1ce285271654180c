//! What this machine shows of itself: evidence of its processor and its GPUs, and the collateral for it.

use std::{path::PathBuf, sync::Arc};

use tacit_attest::{
    Collateral, Evidence,
    nvidia::{GpuCollateral, GpuEvidence, gpu_nonce},
};
use tacit_peer::CollateralSource;
use tacit_platform::{Driver, GpuCommand};
use tacit_types::{Digest, KeysetDigest, UnixTime, keyset::report_data};

use crate::{config::WorkerConfig, error::WorkerError};

/// Where evidence and collateral come from.
pub(crate) struct EvidenceSource {
    machine: Driver,
    collateral: CollateralSource,
    gpus: Option<Gpus>,
}

struct Gpus {
    command: GpuCommand,
    manifests: Vec<PathBuf>,
}

/// Evidence over one keyset and nonce.
pub(crate) struct Shown {
    /// The processor's.
    pub evidence: Evidence,
    /// The GPUs', and what vouches for them.
    pub gpus: Option<(GpuEvidence, GpuCollateral)>,
}

impl EvidenceSource {
    /// The sources that the configuration names.
    ///
    /// # Errors
    /// [`WorkerError::Config`] for a GPU command without a program, [`WorkerError::Collateral`].
    pub(crate) fn new(config: &WorkerConfig, machine: Driver) -> Result<Self, WorkerError> {
        let gpus = config.gpus.as_ref().map(|gpus| {
            let [program, arguments @ ..] = gpus.command.as_slice() else {
                return Err(WorkerError::Config { key: "gpus.command", reason: "a program".to_owned() });
            };
            let command = GpuCommand { program: program.into(), arguments: arguments.to_vec() };
            Ok(Gpus { command, manifests: gpus.manifests.clone() })
        });
        let collateral = CollateralSource::new(config.collateral.clone()).map_err(WorkerError::Collateral)?;
        Ok(Self { machine, collateral, gpus: gpus.transpose()? })
    }

    /// Where collateral comes from, to be renewed.
    pub(crate) fn renewed(&self) -> CollateralSource {
        self.collateral.clone()
    }

    /// Evidence over a keyset and a gatekeeper's nonce.
    ///
    /// # Errors
    /// When the machine or its GPUs give none, or a manifest cannot be read.
    pub(crate) async fn show(&self, keyset: KeysetDigest, nonce: Digest) -> Result<Shown, WorkerError> {
        let evidence = self.machine.quote(&report_data(keyset, Some(nonce))).await?;
        let gpus = match &self.gpus {
            None => None,
            Some(Gpus { command, manifests }) => {
                let mut read = Vec::with_capacity(manifests.len());
                for path in manifests {
                    let bytes = tokio::fs::read(path).await;
                    read.push(bytes.map_err(|source| WorkerError::File { path: path.clone(), source })?);
                }
                let evidence = command.evidence(&gpu_nonce(keyset, nonce.as_ref())).await?;
                Some((evidence, GpuCollateral::new(read, None)))
            }
        };
        Ok(Shown { evidence, gpus })
    }

    /// Collateral for that evidence.
    ///
    /// # Errors
    /// When neither the vendor nor the machine gives any.
    pub(crate) async fn collateral(&self, evidence: &Evidence, now: UnixTime) -> Result<Arc<Collateral>, WorkerError> {
        Ok(self.collateral.obtain(evidence, now, self.machine.collateral()).await?)
    }
}
