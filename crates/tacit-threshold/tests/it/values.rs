//! Keys, certificates and leases for these tests.

use tacit_threshold::{Facts, HeldLease};
use tacit_types::{
    Address, ChipId, ClusterId, CodeHash, Digest, FunctionId, Head, KeysetDigest, ManifestHash, Measurement,
    PolicyHash, RootId, UnixTime,
    eip712::{Certificate, Platform},
    quorum::{GatekeeperSet, IndexedSignature},
    register::{Ack, Lease, LeaseRole},
    signature::SigningKey,
};

pub const CLUSTER: ClusterId = ClusterId::ZERO;
pub const NOW: UnixTime = UnixTime(1_800_000_000);

pub fn gatekeeper_key(index: u32) -> SigningKey {
    SigningKey::from_bytes(&[index as u8 + 1; 32]).unwrap()
}

pub fn worker_key(worker: u8) -> SigningKey {
    SigningKey::from_bytes(&[worker + 100; 32]).unwrap()
}

pub fn set(count: u32, threshold: u32) -> GatekeeperSet {
    GatekeeperSet { epoch: 1, threshold, members: (0..count).map(|index| gatekeeper_key(index).address()).collect() }
}

pub fn certificate(worker: u8) -> Certificate {
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

pub fn function() -> FunctionId {
    FunctionId::from([9; 32])
}

pub fn facts() -> Facts {
    Facts {
        code_hash: CodeHash::from([6; 32]),
        manifest_hash: ManifestHash::from([7; 32]),
        key_epoch: 1,
        block_number: 10,
    }
}

pub fn lease(worker: u8, fence: u64, until: UnixTime) -> Lease {
    Lease {
        function_id: function(),
        certificate: certificate(worker).id(CLUSTER),
        role: LeaseRole::Writer,
        fence,
        code_hash: facts().code_hash,
        manifest_hash: facts().manifest_hash,
        key_epoch: 1,
        block_number: 10,
        until,
    }
}

pub fn held(worker: u8, fence: u64) -> HeldLease {
    let lease = lease(worker, fence, NOW.plus(30));
    let digest = lease.digest(CLUSTER);
    let signatures =
        (0..3).map(|index| IndexedSignature { index, signature: gatekeeper_key(index).sign(digest) }).collect();
    HeldLease { lease, certificate: certificate(worker), signatures }
}

pub fn ack(fence: u64, sequence: u64, head: Head, time: UnixTime) -> Ack {
    Ack { epoch: 1, function_id: function(), fence, sequence, head, receipts_root: Digest::ZERO, time }
}
