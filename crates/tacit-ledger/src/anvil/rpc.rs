//! The few calls that only a local anvil answers.

use std::time::Duration;

use alloy::{
    primitives::{Address as AlloyAddress, Bytes, U256},
    rpc::client::{ClientBuilder, RpcClient},
    transports::TransportError,
};
use tacit_types::Address;

use crate::error::LedgerError;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to the supervised process.
pub(super) struct LocalRpc {
    client: RpcClient,
    url: String,
}

impl LocalRpc {
    pub(super) fn new(port: u16) -> Result<Self, LedgerError> {
        let url = format!("http://127.0.0.1:{port}");
        let client = ClientBuilder::default().http(url.parse().map_err(|_| LedgerError::Address)?);
        Ok(Self { client, url })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) async fn block_number(&self) -> Result<u64, LedgerError> {
        let number: U256 = self.ask("eth_blockNumber", self.client.request_noparams("eth_blockNumber")).await?;
        Ok(number.saturating_to())
    }

    /// Mines one empty block with the present second as its timestamp.
    pub(super) async fn mine(&self) -> Result<(), LedgerError> {
        let _: Option<serde_json::Value> =
            self.ask("anvil_mine", self.client.request("anvil_mine", (U256::from(1), U256::ZERO))).await?;
        Ok(())
    }

    pub(super) async fn set_balance(&self, account: Address, amount: u128) -> Result<(), LedgerError> {
        let parameters = (AlloyAddress::from(account), U256::from(amount));
        let _: Option<serde_json::Value> =
            self.ask("anvil_setBalance", self.client.request("anvil_setBalance", parameters)).await?;
        Ok(())
    }

    /// The chain's state as anvil packs it, without states of older blocks.
    pub(super) async fn dump_state(&self) -> Result<Bytes, LedgerError> {
        self.ask("anvil_dumpState", self.client.request("anvil_dumpState", (false,))).await
    }

    pub(super) async fn load_state(&self, state: &Bytes) -> Result<(), LedgerError> {
        let loaded: bool = self.ask("anvil_loadState", self.client.request("anvil_loadState", (state,))).await?;
        if loaded { Ok(()) } else { Err(LedgerError::Answer("anvil_loadState")) }
    }

    async fn ask<T>(
        &self,
        method: &'static str,
        request: impl IntoFuture<Output = Result<T, TransportError>>,
    ) -> Result<T, LedgerError> {
        let unreachable = |reason: String| LedgerError::Unreachable { rpc: self.url.clone(), reason };
        match tokio::time::timeout(TIMEOUT, request.into_future()).await {
            Err(_) => Err(unreachable(format!("no answer to {method} within {} s", TIMEOUT.as_secs()))),
            Ok(Ok(value)) => Ok(value),
            Ok(Err(TransportError::ErrorResp(payload))) => {
                Err(LedgerError::Rpc { method, message: payload.message.to_string() })
            }
            Ok(Err(error)) => Err(unreachable(error.to_string())),
        }
    }
}
