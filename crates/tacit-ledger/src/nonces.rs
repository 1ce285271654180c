//! The nonces of one account that intents of this process hold.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex as PlainMutex, PoisonError},
};

use tokio::sync::{Mutex, MutexGuard};

/// What the writers of one account in this process share.
#[derive(Default)]
pub(crate) struct Account {
    order: Mutex<()>,
    held: PlainMutex<BTreeSet<u64>>,
}

impl Account {
    /// One submission at a time, so that nonces reach the chain in order.
    pub(crate) async fn order(&self) -> MutexGuard<'_, ()> {
        self.order.lock().await
    }

    /// Takes the first nonce from `least` on that no other intent of this process holds.
    pub(crate) fn hold_from(self: &Arc<Self>, least: u64) -> HeldNonce {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let nonce = first_free(&held, least);
        held.insert(nonce);
        HeldNonce { account: Arc::clone(self), nonce }
    }

    /// The nonce that [`Self::hold_from`] would take.
    pub(crate) fn next_from(&self, least: u64) -> u64 {
        first_free(&self.held.lock().unwrap_or_else(PoisonError::into_inner), least)
    }

    /// Whether an intent of this process holds the nonce, and so cares for it.
    pub(crate) fn is_held(&self, nonce: u64) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).contains(&nonce)
    }
}

fn first_free(held: &BTreeSet<u64>, least: u64) -> u64 {
    (least..).find(|nonce| !held.contains(nonce)).unwrap_or(least)
}

/// A nonce that one intent holds; free for others when dropped. Whether the chain still knows it is the chain's to say.
pub(crate) struct HeldNonce {
    account: Arc<Account>,
    nonce: u64,
}

impl HeldNonce {
    pub(crate) const fn number(&self) -> u64 {
        self.nonce
    }
}

impl Drop for HeldNonce {
    fn drop(&mut self) {
        self.account.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.nonce);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_nonce_is_taken_and_comes_back() {
        let account = Arc::new(Account::default());
        let first = account.hold_from(4);
        let second = account.hold_from(4);
        let third = account.hold_from(6);
        assert_eq!((first.number(), second.number(), third.number()), (4, 5, 6));
        assert_eq!((account.next_from(0), account.next_from(4), account.next_from(9)), (0, 7, 9));
        drop(second);
        assert!(account.is_held(4) && !account.is_held(5) && account.is_held(6));
        assert_eq!(account.hold_from(4).number(), 5);
    }
}
