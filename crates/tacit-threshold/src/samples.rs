//! Values for the tests of this crate.

use tacit_types::{
    Address, ChipId, ClusterId, CodeHash, Digest, FunctionId, Head, KeysetDigest, ManifestHash, Measurement,
    PolicyHash, RootId, UnixTime,
    eip712::{Certificate, Platform},
    quorum::{GatekeeperSet, IndexedSignature},
    register::{Ack, Lease, LeaseRole},
    signature::SigningKey,
};

use crate::lease::HeldLease;

pub(crate) const CLUSTER: ClusterId = ClusterId::ZERO;
pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);

pub(crate) fn gatekeeper_key(index: u32) -> SigningKey {
    SigningKey::from_bytes(&[index as u8 + 1; 32]).unwrap()
}

pub(crate) fn worker_key(worker: u8) -> SigningKey {
    SigningKey::from_bytes(&[worker + 100; 32]).unwrap()
}

pub(crate) fn set() -> GatekeeperSet {
    GatekeeperSet { epoch: 1, threshold: 2, members: (0..4).map(|index| gatekeeper_key(index).address()).collect() }
}

pub(crate) fn certificate(worker: u8) -> Certificate {
    Certificate {
        worker: worker_key(worker).address(),
        keyset: KeysetDigest::from([worker; 32]),
        platform: Platform::Tdx,
        measurement: Measurement::from([2; 32]),
        chip: ChipId::from([worker; 32]),
        confidence: 1,
        root: RootId::from([3; 32]),
        policy: PolicyHash::from([4; 32]),
        simulated: true,
        operator: Address::from([5; 20]),
        collateral_time: NOW.minus(100),
        not_before: NOW.minus(10),
        not_after: NOW.plus(86_400),
        epoch: 1,
    }
}

pub(crate) fn function() -> FunctionId {
    FunctionId::from([9; 32])
}

pub(crate) fn lease(worker: u8, fence: u64) -> Lease {
    Lease {
        function_id: function(),
        certificate: certificate(worker).id(CLUSTER),
        role: LeaseRole::Writer,
        fence,
        code_hash: CodeHash::from([6; 32]),
        manifest_hash: ManifestHash::from([7; 32]),
        key_epoch: 1,
        block_number: 10,
        until: NOW.plus(30),
    }
}

pub(crate) fn held(worker: u8, fence: u64) -> HeldLease {
    let lease = lease(worker, fence);
    let digest = lease.digest(CLUSTER);
    let signatures =
        (0..3).map(|index| IndexedSignature { index, signature: gatekeeper_key(index).sign(digest) }).collect();
    HeldLease { lease, certificate: certificate(worker), signatures }
}

pub(crate) fn held_lease() -> HeldLease {
    held(1, 1)
}

pub(crate) fn ack(fence: u64, sequence: u64) -> Ack {
    Ack {
        epoch: 1,
        function_id: function(),
        fence,
        sequence,
        head: Head::from([sequence as u8; 32]),
        receipts_root: Digest::ZERO,
        time: NOW,
    }
}
