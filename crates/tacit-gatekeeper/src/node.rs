//! One gatekeeper process: its keys, its cluster once it has one, and the way from the one to the other.

use std::{
    fs::{self, File},
    path::PathBuf,
    sync::{Arc, Mutex as StdMutex, OnceLock, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use tacit_api::{
    Problem, ProblemKind,
    gatekeeper::{
        Candidate, GatekeeperState, GatekeeperStatus, GenesisDeal, GenesisQuote, GenesisReceive, GenesisReceived,
        GenesisStart, GenesisStarted, GenesisStep, Version1,
    },
};
use tacit_ledger::{Addresses, Ledger};
use tacit_peer::CollateralSource;
use tacit_platform::{Driver, PlatformError};
use tacit_types::{deployment::genesis_report_data, keyset::report_data};
use tokio::{sync::Mutex, task::JoinHandle};
use zeroize::Zeroizing;

use crate::{
    chain::ChainView,
    config::{Clock, Config},
    desk::{Desk, live_certificates},
    error::GatekeeperError,
    founding::{Founded, Founding},
    identity::Identity,
    seal::Sealer,
    seen::SeenNumbers,
    serving::{ReleaseLog, Serving},
};

/// Label of the machine's sealing key.
const SEAL_LABEL: &str = "gatekeeper/1";

/// How long to wait for a process that is about to end to let go of the folder.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// A gatekeeper before and after its cluster is founded.
pub(crate) struct Node {
    config: Config,
    driver: Driver,
    clock: Clock,
    seal_key: Zeroizing<[u8; 32]>,
    identity: Arc<Identity>,
    founding: Mutex<Option<Arc<Founding>>>,
    serving: OnceLock<Arc<Serving>>,
    follower: StdMutex<Option<JoinHandle<()>>>,
    collateral: CollateralSource,
    renewal: JoinHandle<()>,
    seen: SeenNumbers,
    lock: Arc<File>,
}

impl Node {
    /// Opens the data folder under this machine's sealing key; a founded gatekeeper serves at once.
    pub(crate) async fn open(config: Config, driver: Driver, clock: Clock) -> Result<Self, GatekeeperError> {
        let failed = |source| GatekeeperError::File { path: config.data.clone(), source };
        fs::create_dir_all(&config.data).map_err(failed)?;
        let lock = File::create(config.data.join("lock")).map_err(failed)?;
        let until = Instant::now() + LOCK_PATIENCE;
        while lock.try_lock().is_err() {
            if Instant::now() >= until {
                return Err(GatekeeperError::InUse { path: config.data.clone() });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let seal_key = Zeroizing::new(*driver.seal_key(SEAL_LABEL).await?.expose());
        let identity = Arc::new(Identity::open(&config.data, &seal_key, clock.now())?);
        let seen = SeenNumbers::open(config.data.join("seen.sealed"), Sealer::new(&seal_key, "seen"))?;
        let collateral = CollateralSource::new(config.collateral.clone())?;
        let renewal = tokio::spawn({
            let clock = clock.clone();
            collateral.clone().keep_renewing(move || clock.now())
        });
        let node = Self {
            collateral,
            renewal,
            seen,
            founding: Mutex::new(None),
            serving: OnceLock::new(),
            follower: StdMutex::new(None),
            config,
            driver,
            clock,
            seal_key,
            identity,
            lock: Arc::new(lock),
        };
        match Founded::load(&node.file("cluster.sealed"), &node.sealer("cluster"))? {
            Some(founded) => node.serve(founded)?,
            None => {
                let founding = Founding::load(&node.file("founding.sealed"), &node.sealer("founding"))?;
                *node.founding.lock().await = founding.map(Arc::new);
            }
        }
        Ok(node)
    }

    /// What serves workers.
    pub(crate) fn serving(&self) -> Result<Arc<Serving>, Problem> {
        let not_founded = || Problem::new(ProblemKind::NotFounded, "no genesis has been completed here");
        self.serving.get().cloned().ok_or_else(not_founded)
    }

    /// Stops following the chain and the vendors.
    pub(crate) async fn stop(&self) {
        self.renewal.abort();
        let follower = self.follower.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(follower) = follower {
            follower.abort();
            let _aborted = follower.await;
        }
    }

    pub(crate) async fn candidate(&self) -> Result<Candidate, Problem> {
        let (evidence, collateral) = self.evidence(&report_data(self.identity.digest, None)).await?;
        Ok(Candidate { version: Version1, keyset: self.identity.keyset.clone(), evidence, collateral })
    }

    pub(crate) async fn start(&self, start: GenesisStart) -> Result<GenesisStarted, Problem> {
        let mut founding = self.founding.lock().await;
        if let Some(serving) = self.serving.get() {
            let cluster = start.genesis.cluster_id().ok();
            return if cluster == Some(serving.demands.cluster) {
                Ok(GenesisStarted { version: Version1, cluster: serving.demands.cluster, index: serving.index })
            } else {
                Err(Problem::new(ProblemKind::GenesisRefused, "this gatekeeper belongs to another cluster"))
            };
        }
        if let Some(present) = founding.as_ref().filter(|present| present.is_of(&start.genesis)) {
            return Ok(GenesisStarted { version: Version1, cluster: present.cluster, index: present.index() });
        }
        let (identity, now) = (self.identity.clone(), self.clock.now());
        let seen = self.seen.clone();
        let begun = tokio::task::spawn_blocking(move || Founding::begin(&identity, now, &seen, start)).await;
        let begun = begun.map_err(|error| internal(&error))??;
        begun.store(&self.file("founding.sealed"), &self.sealer("founding")).map_err(|error| internal(&error))?;
        let answer = GenesisStarted { version: Version1, cluster: begun.cluster, index: begun.index() };
        *founding = Some(Arc::new(begun));
        Ok(answer)
    }

    pub(crate) async fn deal(&self, step: GenesisStep) -> Result<GenesisDeal, Problem> {
        let founding = self.founding.lock().await;
        if let Some(serving) = self.serving.get().filter(|serving| serving.demands.cluster == step.cluster) {
            return Ok(GenesisDeal { version: Version1, deal: serving.deal.clone() });
        }
        let present = founding.as_ref().filter(|present| present.cluster == step.cluster).ok_or_else(out_of_turn)?;
        Ok(GenesisDeal { version: Version1, deal: present.deal.clone() })
    }

    pub(crate) async fn receive(&self, message: GenesisReceive) -> Result<GenesisReceived, Problem> {
        let mut founding = self.founding.lock().await;
        if let Some(serving) = self.serving.get() {
            let transcript =
                tacit_threshold::dealing::transcript(&serving.set, serving.demands.cluster, &message.deals).ok();
            return if message.cluster == serving.demands.cluster && transcript == Some(serving.transcript) {
                Ok(GenesisReceived { version: Version1, transcript: serving.transcript })
            } else {
                Err(Problem::new(ProblemKind::GenesisRefused, "this cluster was founded with other deals"))
            };
        }
        let present = founding.as_ref().filter(|present| present.cluster == message.cluster).ok_or_else(out_of_turn)?;
        let founded = present.receive(&self.identity, &message.deals)?;
        let transcript = founded.transcript;
        founded.store(&self.file("cluster.sealed"), &self.sealer("cluster")).map_err(|error| internal(&error))?;
        self.serve(founded).map_err(|error| internal(&error))?;
        *founding = None;
        if let Err(error) = fs::remove_file(self.file("founding.sealed")) {
            tracing::warn!(%error, "the founding's file stays behind");
        }
        Ok(GenesisReceived { version: Version1, transcript })
    }

    pub(crate) async fn quote(&self) -> Result<GenesisQuote, Problem> {
        let serving = self.serving()?;
        let (cluster, transcript) = (serving.demands.cluster, serving.transcript);
        let statement = genesis_report_data(cluster, transcript, self.identity.digest);
        let (evidence, collateral) = self.evidence(&statement).await?;
        Ok(GenesisQuote { version: Version1, cluster, transcript, evidence, collateral })
    }

    pub(crate) async fn status(&self) -> GatekeeperStatus {
        let now = self.clock.now();
        let mut status = GatekeeperStatus {
            version: Version1,
            state: GatekeeperState::Waiting,
            pid: std::process::id(),
            address: self.identity.chain_key.address(),
            keyset: self.identity.digest,
            cluster: None,
            index: None,
            epoch: 0,
            threshold: 0,
            quorum: 0,
            functions: 0,
            leases: 0,
            certificates: 0,
            admitted: 0,
            refused: 0,
            releases: 0,
            last_refusal: None,
            chain: None,
            time: now,
        };
        let Some(serving) = self.serving.get() else {
            if let Some(founding) = self.founding.lock().await.as_ref() {
                status.state = GatekeeperState::Founding;
                (status.cluster, status.index) = (Some(founding.cluster), Some(founding.index()));
            }
            return status;
        };
        let counts = serving.desk.counts();
        status.state = if counts.halted.load(Ordering::Relaxed) {
            GatekeeperState::Halted
        } else if serving.chain.head().is_err() {
            GatekeeperState::WithoutChain
        } else {
            GatekeeperState::Serving
        };
        (status.cluster, status.index) = (Some(serving.demands.cluster), Some(serving.index));
        (status.epoch, status.threshold, status.quorum) =
            (serving.set.epoch, serving.set.threshold, serving.set.quorum());
        status.functions = counts.functions.load(Ordering::Relaxed);
        status.leases = serving.desk.leases().await.unwrap_or_default();
        status.certificates = live_certificates(&serving.desk, now);
        status.admitted = serving.admitted.load(Ordering::Relaxed);
        status.refused = serving.refused.load(Ordering::Relaxed);
        status.releases = serving.releases.count();
        status.last_refusal = serving.last_refusal.lock().unwrap_or_else(PoisonError::into_inner).clone();
        status.chain = serving.chain.status();
        status
    }

    /// Opens the register and begins to serve.
    fn serve(&self, founded: Founded) -> Result<(), GatekeeperError> {
        let genesis = &founded.agreed.genesis;
        let rpc =
            genesis.rpcs.first().ok_or_else(|| GatekeeperError::Genesis("it names no RPC of the home chain".into()))?;
        let ledger = Ledger::connect(rpc, Addresses::from_map(&genesis.contracts)?, self.config.finality)?;
        let chain = ChainView::new(ledger, genesis.chain_id, self.clock.clone());
        let (data, clock, epoch) = (&self.config.data, self.clock.clone(), founded.set.epoch);
        let desk = Desk::open(data, self.sealer("register"), founded.cluster, epoch, clock, self.lock.clone())?;
        let releases = ReleaseLog::open(&self.config.data)?;
        *self.follower.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(tokio::spawn(chain.clone().follow(desk.clone())));
        let (chain_key, clock, seen) = (self.identity.chain_key.clone(), self.clock.clone(), self.seen.clone());
        let serving = Serving::new(founded, chain_key, clock, desk, chain, releases, seen);
        let _first = self.serving.set(Arc::new(serving));
        Ok(())
    }

    async fn evidence(&self, report_data: &[u8; 64]) -> Result<(serde_json::Value, serde_json::Value), Problem> {
        let failed = |error: PlatformError| internal(&error);
        let evidence = self.driver.quote(report_data).await.map_err(failed)?;
        let machine = self.driver.collateral();
        let collateral = self.collateral.obtain(&evidence, self.clock.now(), machine).await.map_err(failed)?;
        let json = |bytes: Vec<u8>| serde_json::from_slice(&bytes).map_err(|error| internal(&error));
        Ok((json(evidence.to_json())?, json(collateral.to_json())?))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.config.data.join(name)
    }

    fn sealer(&self, label: &str) -> Sealer {
        Sealer::new(&self.seal_key, label)
    }
}

fn out_of_turn() -> Problem {
    Problem::new(ProblemKind::GenesisRefused, "this founding has not begun here")
}

fn internal(error: &dyn std::fmt::Display) -> Problem {
    tracing::error!(%error, "internal failure");
    Problem::new(ProblemKind::Internal, "see this gatekeeper's log")
}
