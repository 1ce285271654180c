//! What a call ended with, before the log gives it a place: kept in the commit, and stated again to whoever asks again.

use bytes::Bytes;
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use tacit_receipt::{Effect, effects_root};
use tacit_store::CallRecord;
use tacit_types::{
    Address, CallId, CertificateId, CodeHash, Digest, FunctionId, Head, UnixTime,
    eip712::{Kind, Outcome, Receipt},
    formats::{Tag, commit},
    manifest::Body,
};
use zeroize::Zeroizing;

const VERSION: u8 = 1;

/// Seconds that the stored outcome of a caller's call is kept at least, bounds on number and size aside.
pub(crate) const KEEP_CALLS: u64 = 7 * 86_400;

/// What was asked.
#[derive(Clone)]
pub(crate) struct Request {
    pub function: FunctionId,
    pub method: String,
    pub body: Bytes,
    /// The caller's account, or the contract that asked.
    pub caller: Option<Address>,
    pub call_id: CallId,
}

impl Request {
    /// Digest that tells two requests under one call id apart.
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        hash.update(b"tacit/request/1\0");
        hash.update((self.method.len() as u64).to_be_bytes());
        hash.update(self.method.as_bytes());
        hash.update(&self.body);
        Digest::from(<[u8; 32]>::from(hash.finalize()))
    }

    fn caller_bytes(&self) -> &[u8] {
        self.caller.as_ref().map_or(&[], |caller| caller.as_bytes())
    }
}

/// What it ended with.
#[derive(Clone)]
pub(crate) struct Ended {
    pub kind: Kind,
    pub outcome: Outcome,
    pub response: Bytes,
    pub format: Body,
    pub salts: Salts,
    pub effects: Vec<Effect>,
    pub fuel: u64,
    pub code_hash: CodeHash,
}

/// The key that a call's four salts come from; zero are those of chain requests, and that of a publication's response.
#[derive(Clone)]
pub(crate) struct Salts(Zeroizing<[u8; 32]>);

impl Salts {
    /// The salts of a call with this seed.
    pub fn of_seed(seed: &[u8; 32]) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(b"tacit/salts/1"), seed)
            .expand(b"key", key.as_mut_slice())
            .expect("32 bytes are a valid HKDF output length");
        Self(key)
    }

    /// The salts of the receipt of one of the call's publications.
    pub fn of_publication(&self, index: u64) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(b"tacit/salts/publish/1"), self.0.as_slice())
            .expand(&index.to_be_bytes(), key.as_mut_slice())
            .expect("32 bytes are a valid HKDF output length");
        Self(key)
    }

    /// The salts with this key.
    pub fn from_bytes(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }

    /// The key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The salt of one commitment.
    pub fn salt(&self, kind: Kind, tag: Tag) -> Digest {
        if kind == Kind::ChainRequest || (kind == Kind::Publish && tag == Tag::Response) {
            return Digest::ZERO;
        }
        let mut salt = [0; 32];
        Hkdf::<Sha256>::new(None, self.0.as_slice())
            .expand(tag.name().as_bytes(), &mut salt)
            .expect("32 bytes are a valid HKDF output length");
        salt.into()
    }
}

/// Where in the log a receipt stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub certificate: CertificateId,
    pub epoch: u64,
    pub fence: u64,
    pub sequence: u64,
    pub head_before: Head,
    pub head_after: Head,
    pub time: UnixTime,
}

impl Ended {
    /// The receipt of this outcome at a place in the log.
    pub fn receipt(&self, request: &Request, standing: &Standing) -> Receipt {
        let salted = |tag, bytes: &[u8]| commit(tag, self.salts.salt(self.kind, tag), bytes);
        Receipt {
            function_id: request.function,
            code_hash: self.code_hash,
            certificate: standing.certificate,
            call_id: request.call_id,
            kind: self.kind,
            outcome: self.outcome,
            method: salted(Tag::Method, request.method.as_bytes()),
            caller: salted(Tag::Caller, request.caller_bytes()),
            request: salted(Tag::Request, &request.body),
            response: salted(Tag::Response, &self.response),
            sequence: standing.sequence,
            head_before: standing.head_before,
            head_after: standing.head_after,
            fence: standing.fence,
            effects: effects_root(&self.effects),
            usage: Digest::ZERO,
            fuel: self.fuel,
            time: standing.time,
            epoch: standing.epoch,
        }
    }

    /// The openings of the receipt's commitments.
    pub fn openings(&self, request: &Request) -> tacit_receipt::Openings {
        let open = |tag, bytes: &[u8]| {
            Some(tacit_receipt::Opening { salt: self.salts.salt(self.kind, tag), bytes: bytes.to_vec() })
        };
        tacit_receipt::Openings {
            method: open(Tag::Method, request.method.as_bytes()),
            caller: open(Tag::Caller, request.caller_bytes()),
            request: open(Tag::Request, &request.body),
            response: open(Tag::Response, &self.response),
        }
    }

    /// Whether the code must not run again for this call.
    pub fn is_settled(&self) -> bool {
        match self.kind {
            // Only an ok outcome closes a request.
            Kind::ChainRequest => self.outcome == Outcome::Ok,
            _ => matches!(self.outcome, Outcome::Ok | Outcome::Thrown | Outcome::Limit),
        }
    }

    /// The record that goes into the commit.
    pub fn record(&self, request: &Request, keep_until: UnixTime, pinned: bool) -> CallRecord {
        CallRecord {
            call_id: request.call_id,
            request: request.digest(),
            keep_until,
            pinned,
            body: self.encode().into(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let effects = serde_json::to_vec(&self.effects).expect("effects are plain data");
        let mut out = Vec::with_capacity(96 + effects.len() + self.response.len());
        out.extend_from_slice(&[VERSION, self.kind.code(), self.outcome.code(), u8::from(self.format == Body::Bytes)]);
        out.extend_from_slice(self.salts.as_bytes());
        out.extend_from_slice(self.code_hash.as_bytes());
        out.extend_from_slice(&self.fuel.to_be_bytes());
        out.extend_from_slice(&(effects.len() as u64).to_be_bytes());
        out.extend_from_slice(&effects);
        out.extend_from_slice(&self.response);
        out
    }

    /// Reads a record's body back; `None` for one that this build did not write.
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<4>()?;
        let (salts, rest) = rest.split_first_chunk::<32>()?;
        let (code_hash, rest) = rest.split_first_chunk::<32>()?;
        let (fuel, rest) = rest.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<8>()?;
        let (effects, response) = rest.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)?;
        let [VERSION, kind, outcome, format] = *head else { return None };
        Some(Self {
            kind: KINDS.into_iter().find(|known| known.code() == kind)?,
            outcome: OUTCOMES.into_iter().find(|known| known.code() == outcome)?,
            format: if format == 1 { Body::Bytes } else { Body::Json },
            salts: Salts::from_bytes(*salts),
            code_hash: (*code_hash).into(),
            fuel: u64::from_be_bytes(*fuel),
            effects: serde_json::from_slice(effects).ok()?,
            response: bytes.slice_ref(response),
        })
    }
}

const KINDS: [Kind; 8] = [
    Kind::Command,
    Kind::Query,
    Kind::StaleQuery,
    Kind::Trigger,
    Kind::ChainRequest,
    Kind::Publish,
    Kind::Inference,
    Kind::Training,
];
const OUTCOMES: [Outcome; 5] = [Outcome::Ok, Outcome::Thrown, Outcome::Limit, Outcome::Denied, Outcome::Unavailable];

/// An exchange of the runtime as the receipt states it.
pub(crate) fn effect(effect: &tacit_runtime::Effect) -> Effect {
    match effect {
        tacit_runtime::Effect::Fetch { method, url, status, response, server_key } => Effect::Fetch {
            method: method.clone(),
            url: (*url).into(),
            status: *status,
            response: (*response).into(),
            server_key: (*server_key).into(),
        },
        tacit_runtime::Effect::Inference { receipt, model } => {
            Effect::Inference { receipt: (*receipt).into(), model: (*model).into() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(kind: Kind, outcome: Outcome) -> Ended {
        Ended {
            kind,
            outcome,
            response: Bytes::from_static(b"{\"a\":1}"),
            format: Body::Json,
            salts: Salts::of_seed(&[1; 32]),
            effects: vec![Effect::Fetch {
                method: "GET".into(),
                url: [1; 32].into(),
                status: 200,
                response: [2; 32].into(),
                server_key: [3; 32].into(),
            }],
            fuel: 77,
            code_hash: [4; 32].into(),
        }
    }

    fn request() -> Request {
        Request {
            function: [1; 32].into(),
            method: "price".into(),
            body: Bytes::from_static(b"{}"),
            caller: Some([5; 20].into()),
            call_id: [6; 32].into(),
        }
    }

    fn standing() -> Standing {
        Standing {
            certificate: [7; 32].into(),
            epoch: 1,
            fence: 2,
            sequence: 3,
            head_before: Head::ZERO,
            head_after: [8; 32].into(),
            time: UnixTime(9),
        }
    }

    #[test]
    fn a_stored_outcome_makes_the_same_commitments() {
        for kind in KINDS {
            for outcome in OUTCOMES {
                let ended = ended(kind, outcome);
                let record = ended.record(&request(), UnixTime(1), false);
                let again = Ended::decode(&record.body).unwrap();
                assert_eq!(again.receipt(&request(), &standing()), ended.receipt(&request(), &standing()));
                for length in 0..record.body.len() - ended.response.len() {
                    assert!(Ended::decode(&record.body.slice(..length)).is_none());
                }
            }
        }
    }

    #[test]
    fn openings_open_and_only_what_contracts_recompute_has_no_salt() {
        let check = |kind, zero: fn(Tag) -> bool| {
            let (ended, request) = (ended(kind, Outcome::Ok), request());
            let receipt = ended.receipt(&request, &standing());
            let openings = ended.openings(&request);
            let commitments = [receipt.method, receipt.caller, receipt.request, receipt.response];
            for ((tag, opening), commitment) in openings.members().into_iter().zip(commitments) {
                let opening = opening.unwrap();
                assert_eq!(commit(tag, opening.salt, &opening.bytes), commitment);
                assert_eq!(opening.salt.is_zero(), zero(tag));
            }
        };
        check(Kind::Command, |_| false);
        check(Kind::ChainRequest, |_| true);
        check(Kind::Publish, |tag| tag == Tag::Response);
    }

    #[test]
    fn salts_differ_by_call_and_member() {
        let one = Salts::of_seed(&[1; 32]);
        assert_ne!(one.salt(Kind::Query, Tag::Method), one.salt(Kind::Query, Tag::Request));
        assert_ne!(one.salt(Kind::Query, Tag::Method), Salts::of_seed(&[2; 32]).salt(Kind::Query, Tag::Method));
    }

    #[test]
    fn only_outcomes_that_stand_are_kept() {
        let check =
            |kind, outcome, expected| assert_eq!(ended(kind, outcome).is_settled(), expected, "{kind:?} {outcome:?}");
        check(Kind::Command, Outcome::Ok, true);
        check(Kind::Command, Outcome::Thrown, true);
        check(Kind::Command, Outcome::Limit, true);
        check(Kind::Command, Outcome::Denied, false);
        check(Kind::Command, Outcome::Unavailable, false);
        check(Kind::ChainRequest, Outcome::Ok, true);
        check(Kind::ChainRequest, Outcome::Thrown, false);
    }

    #[test]
    fn two_requests_have_two_digests() {
        let other = Request { body: Bytes::from_static(b"[]"), ..request() };
        assert_ne!(request().digest(), other.digest());
        let moved = Request { method: "pric".into(), body: Bytes::from_static(b"e{}"), ..request() };
        assert_ne!(request().digest(), moved.digest());
    }
}
