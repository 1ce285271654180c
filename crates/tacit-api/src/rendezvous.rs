//! In which order the workers of a cluster are tried for a function: highest random weight, without coordination.

use sha2::{Digest as _, Sha256};
use tacit_types::{Address, FunctionId};

/// A worker's weight for a function: `SHA-256("tacit/rendezvous/1" ‖ function id ‖ worker address)`, compared as bytes.
pub fn weight(function: FunctionId, worker: Address) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"tacit/rendezvous/1");
    hash.update(function);
    hash.update(worker);
    hash.finalize().into()
}

/// The workers with the greatest weight first.
pub fn order<T>(function: FunctionId, workers: impl IntoIterator<Item = T>, address: impl Fn(&T) -> Address) -> Vec<T> {
    let mut weighted: Vec<_> = workers.into_iter().map(|worker| (weight(function, address(&worker)), worker)).collect();
    weighted.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    weighted.into_iter().map(|(_, worker)| worker).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn function(byte: u8) -> FunctionId {
        FunctionId::from([byte; 32])
    }

    #[test]
    fn functions_spread_over_workers() {
        let workers: Vec<Address> = (0..4).map(|byte| Address::from([byte; 20])).collect();
        let mut firsts = [0; 4];
        for byte in 0..=255 {
            firsts[order(function(byte), workers.clone(), |worker| *worker)[0].as_bytes()[0] as usize] += 1;
        }
        assert!(firsts.iter().all(|count| (40..=90).contains(count)), "{firsts:?}");
    }

    proptest! {
        #[test]
        fn the_order_does_not_depend_on_the_input_order_and_survives_a_loss(
            addresses in proptest::collection::btree_set(any::<[u8; 20]>(), 2..12), byte: u8, lost: proptest::sample::Index,
        ) {
            let workers: Vec<Address> = addresses.into_iter().map(Address::from).collect();
            let ordered = order(function(byte), workers.clone(), |worker| *worker);
            let mut reversed = workers.clone();
            reversed.reverse();
            prop_assert_eq!(&order(function(byte), reversed, |worker| *worker), &ordered);
            let gone = workers[lost.index(workers.len())];
            let rest = order(function(byte), workers.into_iter().filter(|worker| *worker != gone), |worker| *worker);
            let expected: Vec<Address> = ordered.into_iter().filter(|worker| *worker != gone).collect();
            prop_assert_eq!(rest, expected);
        }
    }
}
