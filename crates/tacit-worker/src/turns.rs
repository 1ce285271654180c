//! Whose turn it is: the order in which workers look after a function that none of them holds.

use std::collections::HashMap;

use tacit_api::rendezvous;
use tacit_ledger::{Ledger, LedgerError};
use tacit_types::{Address, FunctionId, UnixTime};

use crate::time::now;

/// Seconds that each worker leaves to the one before it.
const TURN: u64 = 5;

/// The workers that the chain knows to be alive. Nothing here is trusted: a wrong turn costs time.
pub(crate) struct Turns {
    own: Address,
    /// By address, with the end of their newest certificate.
    workers: HashMap<Address, UnixTime>,
    next_block: u64,
}

impl Turns {
    pub fn new(own: Address) -> Self {
        Self { own, workers: HashMap::new(), next_block: 0 }
    }

    /// Reads what was published since the last time.
    pub async fn read(&mut self, ledger: &Ledger) -> Result<(), LedgerError> {
        let newest = ledger.finalized().await?;
        if newest.number >= self.next_block {
            for published in ledger.certificates(self.next_block, newest).await? {
                let until = self.workers.entry(published.certificate.worker).or_default();
                *until = published.certificate.not_after.max(*until);
            }
            self.next_block = newest.number + 1;
        }
        let time = now();
        self.workers.retain(|_, until| *until >= time);
        Ok(())
    }

    /// Seconds that this worker leaves to those before it in a function's order.
    pub fn wait(&self, function: FunctionId) -> u64 {
        let order = rendezvous::order(function, self.workers.keys().copied(), |worker| *worker);
        let place = order.iter().position(|worker| *worker == self.own).unwrap_or(order.len());
        place as u64 * TURN
    }
}
