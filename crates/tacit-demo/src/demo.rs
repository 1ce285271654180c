//! The steps in their order, and the network that they share.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{
    attacks, evidence, impostor, inputs::Inputs, mutations::Mutation, network::Network, private_ai, private_data,
    screen::Clock, tool::Tool, verification, witness,
};

/// A step of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// 1: real evidence.
    Evidence,
    /// 2: a network.
    Network,
    /// 3: private data.
    PrivateData,
    /// 4: who saw it.
    WhoSawIt,
    /// 5: verify.
    Verify,
    /// 6: attacks.
    Attacks,
    /// 7: private AI.
    PrivateAi,
}

impl Step {
    /// What this program shows. Step 1 ran before, while the rest was being built.
    const SHOWN: [Self; 6] =
        [Self::Network, Self::PrivateData, Self::WhoSawIt, Self::Verify, Self::Attacks, Self::PrivateAi];

    /// Number and name, as in an error.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Evidence => "step 1, real evidence",
            Self::Network => "step 2, a network",
            Self::PrivateData => "step 3, private data",
            Self::WhoSawIt => "step 4, who saw it",
            Self::Verify => "step 5, verify",
            Self::Attacks => "step 6, attacks",
            Self::PrivateAi => "step 7, private AI",
        }
    }
}

/// A run of the demo: a folder of its own and, from step 2 on, a network.
pub struct Demo {
    binaries: PathBuf,
    folder: TempDir,
    tool: Tool,
    clock: Clock,
    network: Option<Network>,
    /// What the steps read when nobody spoils anything.
    pub inputs: Inputs,
}

impl Demo {
    /// A demo that has not begun.
    pub fn new(project: &Path, binaries: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tacit-demo-").tempdir()?;
        let tool = Tool::new(binaries.join("tacit"), folder.path());
        let inputs = Inputs::honest(project, tool.network())?;
        Ok(Self { binaries: binaries.to_owned(), folder, tool, clock: Clock::start(), network: None, inputs })
    }

    /// Shows every step, with one input spoiled if there is a mutation.
    pub async fn show(&mut self, mutation: Option<&Mutation>) -> Result<()> {
        let mut inputs = self.inputs.clone();
        if let Some(mutation) = mutation.filter(|mutation| mutation.step == Step::Evidence) {
            (mutation.spoil)(&mut inputs, self.folder())?;
            self.run(Step::Evidence, &mut inputs).await?;
        }
        for step in Step::SHOWN {
            // As late as possible: steps 4 to 6 also read what step 3 leaves.
            if let Some(mutation) = mutation.filter(|mutation| mutation.step == step) {
                (mutation.spoil)(&mut inputs, self.folder())?;
            }
            self.run(step, &mut inputs).await?;
        }
        println!(
            "DONE in {} after the build. Not shown by this machine: memory encryption, real chip roots, a GPU,\n\
             several sites. docs/hardware.md",
            self.clock.seconds()
        );
        println!("Try: tacit new my-oracle && tacit dev my-oracle");
        Ok(())
    }

    /// Runs one step. It sees its inputs and does not know whether they were spoiled.
    pub async fn run(&mut self, step: Step, inputs: &mut Inputs) -> Result<()> {
        self.checks(step, inputs).await.with_context(|| step.name())
    }

    async fn checks(&mut self, step: Step, inputs: &mut Inputs) -> Result<()> {
        if step == Step::Evidence {
            return evidence::run(&self.binaries, inputs);
        }
        if self.network.is_none() {
            self.network = Some(Network::start(self.tool.clone(), self.folder.path(), inputs)?);
        }
        let network = self.network.as_ref().context("the network runs from here on")?;
        match step {
            Step::Evidence => {}
            Step::Network => {
                network.show(inputs).await?;
                impostor::run(network, inputs)?;
            }
            Step::PrivateData => inputs.left = Some(private_data::run(network, inputs).await?),
            Step::WhoSawIt => witness::run(network, inputs)?,
            Step::Verify => verification::run(network, inputs)?,
            Step::Attacks => attacks::run(network, inputs).await?,
            Step::PrivateAi => private_ai::run(network, inputs).await?,
        }
        Ok(())
    }

    /// Whether the network's workers have a model to ask.
    pub fn offers_models(&self) -> bool {
        private_ai::is_offered(&self.tool)
    }

    /// The demo's own folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Stops the network and removes the folder, unless `KEEP=1` asks for both to stay.
    pub fn end(self) -> Result<()> {
        if std::env::var_os("KEEP").is_some_and(|keep| keep == "1") {
            let network = self.tool.network().display();
            println!("Kept: {} (stop it with: tacit down --dir {network})", self.folder.keep().display());
        } else if self.network.is_some() || self.tool.network().exists() {
            self.tool.run(&["down"])?;
        }
        Ok(())
    }
}
