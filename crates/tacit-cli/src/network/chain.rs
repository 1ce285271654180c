//! The local chain of a network: started, and its accounts funded.

use anyhow::{Context, Result};
use tacit_ledger::{Anvil, AnvilConfig, AnvilSearch};
use tacit_types::Address;

use super::layout::{Layout, Plan};

/// What every account of a new local network is given: ten thousand coins, without value.
const FUNDS: u128 = 10_000 * 1_000_000_000_000_000_000;

/// Starts the chain kept in the network's folder, or a new one, on the port that the genesis document names.
pub async fn start(layout: &Layout, plan: &Plan) -> Result<Anvil> {
    let binary = AnvilSearch::from_environment().find().context("the local chain's node is not installed")?;
    let port = Some(plan.address("chain")?.port());
    let config = AnvilConfig { binary, directory: layout.chain(), port, chain_id: plan.chain_id };
    Anvil::start(config).await.context("the local chain did not start")
}

/// Funds accounts.
pub async fn fund(chain: &Anvil, accounts: &[Address]) -> Result<()> {
    for account in accounts {
        chain.fund(*account, FUNDS).await.with_context(|| format!("could not fund {account}"))?;
    }
    Ok(())
}
