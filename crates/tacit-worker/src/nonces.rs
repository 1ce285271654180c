//! Which nonces have been used: a sealed request opens once.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Mutex, PoisonError},
};

use tacit_types::{Digest, UnixTime};

/// Nonces until their deadline has passed; a call whose deadline has passed is refused anyway.
pub(crate) struct Nonces {
    capacity: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    seen: HashSet<Digest>,
    by_deadline: BTreeSet<(UnixTime, Digest)>,
}

/// What a nonce is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It was not used before; now it is.
    Fresh,
    /// It was used.
    Used,
    /// There is no room to remember it, so it must be refused.
    Full,
}

impl Nonces {
    pub fn new(capacity: usize) -> Self {
        Self { capacity, inner: Mutex::default() }
    }

    /// Takes note of a nonce that must be remembered until `deadline`.
    pub fn take(&self, nonce: Digest, deadline: UnixTime, now: UnixTime) -> Seen {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((until, old)) = inner.by_deadline.first().copied()
            && until < now
        {
            inner.by_deadline.pop_first();
            inner.seen.remove(&old);
        }
        if inner.seen.contains(&nonce) {
            return Seen::Used;
        }
        if inner.seen.len() >= self.capacity {
            return Seen::Full;
        }
        inner.seen.insert(nonce);
        inner.by_deadline.insert((deadline, nonce));
        Seen::Fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_remembered_until_its_deadline() {
        let nonces = Nonces::new(2);
        let nonce = |byte| Digest::from([byte; 32]);
        let check = |byte, deadline, now, expected| {
            assert_eq!(nonces.take(nonce(byte), UnixTime(deadline), UnixTime(now)), expected, "{byte} at {now}");
        };
        check(1, 10, 5, Seen::Fresh);
        check(1, 10, 5, Seen::Used);
        check(1, 10, 10, Seen::Used);
        check(2, 20, 10, Seen::Fresh);
        check(3, 20, 10, Seen::Full);
        check(3, 20, 11, Seen::Fresh);
        check(2, 20, 11, Seen::Used);
    }
}
