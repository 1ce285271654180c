//! The contract that pays buyers back: deployed, paid, and watched.

use std::time::{Duration, Instant};

use alloy_primitives::{Address as AlloyAddress, B256};
use alloy_sol_types::{SolValue, sol};
use anyhow::{Context, Result, ensure};
use tacit_ledger::{At, Ledger, Writer};
use tacit_types::{Address, CodeHash, FunctionId};

use crate::{contract::creation_code, inputs::Inputs, network::Network};

sol! {
    #![sol(all_derives)]
    struct Order { address buyer; uint96 price; bool refunded; }
    function pay(bytes32 order) external payable;
    function orderOf(bytes32 order) external view returns (Order memory);
}

/// `RefundDesk`, and the buyer's account.
pub struct Desk {
    /// The contract.
    pub contract: Address,
    ledger: Ledger,
    buyer: Writer,
}

/// An order that was paid back.
pub struct Refunded {
    /// Whoever paid, and got the money.
    pub buyer: Address,
    /// In the chain's smallest unit.
    pub price: u128,
    /// First block at which it was seen.
    pub block: u64,
}

impl Desk {
    /// Deploys the contract, which believes this version of the function alone.
    pub async fn deploy(network: &Network, inputs: &Inputs, function: FunctionId, code: CodeHash) -> Result<Self> {
        let ledger = network.client()?.ledger()?;
        let buyer = ledger.writer(&network.caller_key()?)?;
        let roots: Vec<B256> = network.deployment()?.genesis.roots.iter().map(|root| B256::from(*root)).collect();
        let hub = AlloyAddress::from(ledger.addresses().request_hub);
        let mut creation = creation_code(inputs, "RefundDesk")?;
        creation.extend((hub, B256::from(function), B256::from(code), roots).abi_encode_params());
        let contract = buyer.deploy(creation).await?.created.context("the deployment created no contract")?;
        Ok(Self { contract, ledger, buyer })
    }

    /// Pays for an order.
    pub async fn pay(&self, order: B256, price: u128) -> Result<()> {
        self.buyer.call_with(self.contract, payCall { order }, price).await?;
        Ok(())
    }

    /// Whether an order was paid back by now.
    pub async fn is_refunded(&self, order: B256) -> Result<bool> {
        Ok(self.ledger.view(self.contract, orderOfCall { order }, At::Latest).await?.refunded)
    }

    /// Waits until an order is paid back.
    pub async fn refunded(&self, order: B256, patience: Duration) -> Result<Refunded> {
        let until = Instant::now() + patience;
        loop {
            let found = self.ledger.view(self.contract, orderOfCall { order }, At::Latest).await?;
            if found.refunded {
                let block = self.ledger.latest().await?.number;
                return Ok(Refunded { buyer: found.buyer.into(), price: found.price.to(), block });
            }
            ensure!(Instant::now() < until, "expected a refund within {} s, found none", patience.as_secs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
