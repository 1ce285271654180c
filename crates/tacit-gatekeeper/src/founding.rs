//! The founding of a cluster from one gatekeeper's side. The coordinator is not trusted: everything that it carries is
//! evidence, signed or sealed, and what it proposes is checked.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tacit_api::{
    Problem, ProblemKind,
    gatekeeper::{Candidate, GenesisStart},
};
use tacit_attest::{AttestError, Collateral, Evidence, Member, Policy, Seen, VerifiedEvidence, verify_seen};
use tacit_envelope::{open_with, seal_to};
use tacit_threshold::{
    admission::{GATEKEEPER_IMAGE, require_image},
    dealing::{Deal, DealtSubKey, SUB_KEY_INFO, SealedSubKey, sub_key_context, transcript},
    subkeys::{MAX_GATEKEEPERS, SubKey, SubKeys, Subset, subsets},
};
use tacit_types::{
    ClusterId, Digest, UnixTime,
    deployment::Genesis,
    keyset::{Keyset, report_data},
    quorum::GatekeeperSet,
};
use zeroize::Zeroizing;

use crate::{
    error::GatekeeperError,
    identity::{Identity, transport_key_of},
    seal::{Sealer, read_sealed, write_sealed},
    seen::SeenNumbers,
};

/// Farthest that a genesis document's time may be from a gatekeeper's clock, in seconds.
const MAX_GENESIS_SKEW: u64 = 600;

/// What a gatekeeper agreed to and has dealt, until it has everybody's sub-keys.
pub(crate) struct Founding {
    pub(crate) cluster: ClusterId,
    pub(crate) deal: Deal,
    agreed: Agreed,
    set: GatekeeperSet,
    drawn: BTreeMap<Subset, SubKey>,
}

/// A gatekeeper's part in a founded cluster.
pub(crate) struct Founded {
    pub(crate) cluster: ClusterId,
    pub(crate) agreed: Agreed,
    pub(crate) set: GatekeeperSet,
    pub(crate) policy: Policy,
    pub(crate) transcript: Digest,
    pub(crate) deal: Deal,
    pub(crate) sub_keys: SubKeys,
}

/// The public part of what is stored.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Agreed {
    pub(crate) genesis: Genesis,
    pub(crate) policy: Value,
    pub(crate) index: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StoredFounding {
    version: u32,
    agreed: Agreed,
    deal: Deal,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StoredCluster {
    version: u32,
    agreed: Agreed,
    transcript: Digest,
    deal: Deal,
}

fn refuse(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::GenesisRefused, detail)
}

impl Founding {
    /// Judges a proposal and draws this gatekeeper's sub-keys. Takes milliseconds per gatekeeper: not for an async thread.
    pub(crate) fn begin(
        identity: &Identity,
        now: UnixTime,
        seen: &SeenNumbers,
        start: GenesisStart,
    ) -> Result<Self, Problem> {
        let GenesisStart { genesis, policy: policy_json, candidates, .. } = start;
        let (policy, newest) = judge(&genesis, &policy_json, &candidates, now, seen.present())?;
        let cluster = genesis.cluster_id().map_err(|error| refuse(error.to_string()))?;
        let index = genesis.gatekeepers.iter().position(|gatekeeper| gatekeeper.keyset == identity.digest);
        let index = index.ok_or_else(|| refuse("this gatekeeper's keyset is not in the genesis document"))? as u32;
        seen.note(&newest).map_err(|error| refuse(error.to_string()))?;
        let set = genesis.gatekeeper_set();
        tracing::info!(%cluster, index, policy = policy.name, "agreed to a genesis document");

        let mut drawn = BTreeMap::new();
        let mut dealt = Vec::new();
        let all = subsets(set.size(), set.threshold).map_err(|error| refuse(error.to_string()))?;
        for subset in all.into_iter().filter(|subset| subset.dealer() == Some(index)) {
            let key = SubKey::generate(&mut rand::rng());
            let mut sealed = Vec::new();
            for to in subset.members().filter(|member| *member != index) {
                let keyset = candidates.get(to as usize).map(|candidate| &candidate.keyset);
                let public = keyset
                    .and_then(transport_key_of)
                    .ok_or_else(|| refuse(format!("gatekeeper {to} has no X-Wing key")))?;
                let context = sub_key_context(cluster, subset, index, to);
                let bytes =
                    seal_to(&mut rand::rng(), &public, SUB_KEY_INFO, &context, key.to_secret_bytes().as_slice())
                        .map_err(|error| refuse(format!("gatekeeper {to}: {error}")))?;
                sealed.push(SealedSubKey { to, sealed: bytes.into() });
            }
            dealt.push(DealtSubKey { subset, commitment: key.commitment(cluster, subset), sealed });
            drawn.insert(subset, key);
        }
        let deal = Deal::signed(cluster, index, dealt, &identity.chain_key);
        Ok(Self { cluster, deal, agreed: Agreed { genesis, policy: policy_json, index }, set, drawn })
    }

    /// The index of this gatekeeper.
    pub(crate) fn index(&self) -> u32 {
        self.agreed.index
    }

    /// Whether this is the founding of exactly this genesis document.
    pub(crate) fn is_of(&self, genesis: &Genesis) -> bool {
        self.agreed.genesis == *genesis
    }

    /// Opens this gatekeeper's sub-keys.
    pub(crate) fn receive(&self, identity: &Identity, deals: &[Deal]) -> Result<Founded, Problem> {
        let index = self.agreed.index;
        let transcript =
            transcript(&self.set, self.cluster, deals).map_err(|error| refuse(format!("deals: {error}")))?;
        if deals.get(index as usize) != Some(&self.deal) {
            return Err(refuse("this gatekeeper's own deal was replaced"));
        }
        let transport = identity.transport_key();
        let mut keys = BTreeMap::new();
        for (dealer, dealt) in deals.iter().flat_map(|deal| deal.sub_keys.iter().map(move |dealt| (deal.dealer, dealt)))
        {
            let subset = dealt.subset;
            let key = if dealer == index {
                self.drawn.get(&subset).map(|key| SubKey::from_bytes(&key.to_secret_bytes()))
            } else if let Some(sealed) = dealt.sealed.iter().find(|sealed| sealed.to == index) {
                let context = sub_key_context(self.cluster, subset, dealer, index);
                let opened = open_with(&transport, SUB_KEY_INFO, &context, &sealed.sealed).map(Zeroizing::new);
                let bytes =
                    opened.ok().and_then(|bytes| Some(Zeroizing::new(<[u8; 32]>::try_from(bytes.as_slice()).ok()?)));
                bytes.map(|bytes| SubKey::from_bytes(&bytes))
            } else {
                continue;
            };
            let key = key.filter(|key| key.commitment(self.cluster, subset) == dealt.commitment);
            let key = key.ok_or_else(|| {
                refuse(format!("the sub-key that gatekeeper {dealer} dealt is not the one it promised"))
            })?;
            keys.insert(subset, key);
        }
        let sub_keys = SubKeys::new(self.cluster, index, self.set.size(), self.set.threshold, keys)
            .map_err(|error| refuse(error.to_string()))?;
        let policy = parse_policy(&self.agreed.policy)?;
        let (agreed, set, deal) = (self.agreed.clone(), self.set.clone(), self.deal.clone());
        Ok(Founded { cluster: self.cluster, agreed, set, policy, transcript, deal, sub_keys })
    }

    /// Makes the founding durable.
    pub(crate) fn store(&self, path: &Path, sealer: &Sealer) -> Result<(), GatekeeperError> {
        let mut secret = Zeroizing::new(Vec::new());
        for (subset, key) in &self.drawn {
            secret.push(subset.mask());
            secret.extend_from_slice(key.to_secret_bytes().as_slice());
        }
        write_parts(
            path,
            sealer,
            &StoredFounding { version: 1, agreed: self.agreed.clone(), deal: self.deal.clone() },
            &secret,
        )
    }

    /// Reads what [`Self::store`] wrote.
    pub(crate) fn load(path: &Path, sealer: &Sealer) -> Result<Option<Self>, GatekeeperError> {
        let Some((stored, secret)) = read_parts::<StoredFounding>(path, sealer)? else { return Ok(None) };
        let wrong = |reason: String| GatekeeperError::Stored { path: path.to_owned(), reason };
        let cluster = stored.agreed.genesis.cluster_id().map_err(|error| wrong(error.to_string()))?;
        let mut drawn = BTreeMap::new();
        for chunk in secret.chunks(33) {
            let bytes =
                chunk.get(1..).and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| wrong("cut short".into()))?;
            drawn.insert(Subset::from_mask(chunk[0]), SubKey::from_bytes(bytes));
        }
        let set = stored.agreed.genesis.gatekeeper_set();
        Ok(Some(Self { cluster, deal: stored.deal, agreed: stored.agreed, set, drawn }))
    }
}

impl Founded {
    /// Makes this gatekeeper's part durable.
    pub(crate) fn store(&self, path: &Path, sealer: &Sealer) -> Result<(), GatekeeperError> {
        let (agreed, transcript, deal) = (self.agreed.clone(), self.transcript, self.deal.clone());
        let stored = StoredCluster { version: 1, agreed, transcript, deal };
        write_parts(path, sealer, &stored, &self.sub_keys.to_secret_bytes())
    }

    /// Reads what [`Self::store`] wrote.
    pub(crate) fn load(path: &Path, sealer: &Sealer) -> Result<Option<Self>, GatekeeperError> {
        let Some((stored, secret)) = read_parts::<StoredCluster>(path, sealer)? else { return Ok(None) };
        let wrong = |reason: String| GatekeeperError::Stored { path: path.to_owned(), reason };
        let StoredCluster { agreed, transcript, deal, .. } = stored;
        let cluster = agreed.genesis.cluster_id().map_err(|error| wrong(error.to_string()))?;
        let set = agreed.genesis.gatekeeper_set();
        let policy = parse_policy(&agreed.policy).map_err(|problem| wrong(problem.detail))?;
        let sub_keys = SubKeys::from_secret_bytes(cluster, agreed.index, set.size(), set.threshold, &secret)
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Some(Self { cluster, agreed, set, policy, transcript, deal, sub_keys }))
    }
}

fn parse_policy(json: &Value) -> Result<Policy, Problem> {
    Policy::from_json(json.to_string().as_bytes()).map_err(|error| refuse(format!("policy: {error}")))
}

/// Everything that a gatekeeper checks about the others and the document before it deals.
fn judge(
    genesis: &Genesis,
    policy: &Value,
    candidates: &[Candidate],
    now: UnixTime,
    mut seen: Seen,
) -> Result<(Policy, Seen), Problem> {
    genesis.cluster_id().map_err(|error| refuse(error.to_string()))?;
    if genesis.gatekeepers.len() > MAX_GATEKEEPERS as usize {
        return Err(refuse(format!("at most {MAX_GATEKEEPERS} gatekeepers are possible")));
    }
    if genesis.time.distance(now) > MAX_GENESIS_SKEW {
        return Err(refuse(format!("its time {} is too far from this clock, {now}", genesis.time)));
    }
    let policy = parse_policy(policy)?;
    let hash = policy.hash().map_err(|error| refuse(format!("policy: {error}")))?;
    if hash != genesis.policy {
        return Err(refuse("the policy is not the one whose digest stands in the genesis document"));
    }
    if !policy.lists_measurements() {
        return Err(refuse("the policy lists no measurements; a cluster cannot accept any code"));
    }
    if policy.names_simulated_root() != genesis.simulated {
        return Err(refuse("the document and its policy differ about simulated roots"));
    }
    if candidates.len() != genesis.gatekeepers.len() {
        return Err(refuse("not the candidates of the genesis document"));
    }
    let mut simulated = None;
    let mut members: Vec<VerifiedEvidence> = Vec::with_capacity(candidates.len());
    for (index, (candidate, named)) in candidates.iter().zip(&genesis.gatekeepers).enumerate() {
        let wrong = |detail: String| refuse(format!("gatekeeper {index}: {detail}"));
        check_keyset(&candidate.keyset, named.address, named.keyset, now).map_err(wrong)?;
        let evidence =
            Evidence::from_json(candidate.evidence.to_string().as_bytes()).map_err(|error| wrong(error.to_string()))?;
        let collateral = Collateral::from_json(candidate.collateral.to_string().as_bytes())
            .map_err(|error| wrong(error.to_string()))?;
        let verify = || -> Result<(VerifiedEvidence, Seen), AttestError> {
            let (verified, seen) = verify_seen(&evidence, &collateral, &policy, now, &seen)?;
            verified.require_report_data(&report_data(named.keyset, None))?;
            Ok((verified, seen))
        };
        let (verified, newest) = verify().map_err(|error| wrong(error.to_string()))?;
        seen = newest;
        require_image(&policy, &verified, GATEKEEPER_IMAGE).map_err(|error| wrong(error.to_string()))?;
        if !genesis.roots.contains(&verified.root()) {
            return Err(wrong(format!("root {} is not in the genesis document", verified.root())));
        }
        if *simulated.get_or_insert(verified.simulated()) != verified.simulated() {
            return Err(refuse("simulated and real gatekeepers in one cluster"));
        }
        members.push(verified);
    }
    check_diversity(&policy, &members)?;
    Ok((policy, seen))
}

/// What the policy says of a set holds for this one. A gatekeeper names no operator, so nobody can say how many one has.
fn check_diversity(policy: &Policy, members: &[VerifiedEvidence]) -> Result<(), Problem> {
    if policy.diversity.per_operator.is_some() {
        return Err(refuse("the policy limits gatekeepers by operator, and gatekeepers name none"));
    }
    let members: Vec<Member<'_>> =
        members.iter().map(|evidence| Member { evidence, operator: tacit_types::Address::ZERO }).collect();
    policy.diversity.check(&members).map_err(|error| refuse(error.to_string()))
}

fn check_keyset(
    keyset: &Keyset,
    address: tacit_types::Address,
    digest: tacit_types::KeysetDigest,
    now: UnixTime,
) -> Result<(), String> {
    if keyset.digest().map_err(|error| error.to_string())? != digest {
        return Err("its keyset is not the one of the genesis document".into());
    }
    if keyset.receipt_address().map_err(|error| error.to_string())? != address {
        return Err("its chain key is not the one of the genesis document".into());
    }
    if keyset.not_after <= now {
        return Err("its keys have expired".into());
    }
    transport_key_of(keyset).map(|_| ()).ok_or_else(|| "it has no X-Wing key".to_owned())
}

fn write_parts(path: &Path, sealer: &Sealer, public: &impl Serialize, secret: &[u8]) -> Result<(), GatekeeperError> {
    let json = serde_json::to_vec(public)
        .map_err(|error| GatekeeperError::Stored { path: path.to_owned(), reason: error.to_string() })?;
    let mut plain = Zeroizing::new(Vec::with_capacity(8 + json.len() + secret.len()));
    plain.extend_from_slice(&(json.len() as u64).to_be_bytes());
    plain.extend_from_slice(&json);
    plain.extend_from_slice(secret);
    write_sealed(path, sealer, &plain)
}

type Parts<T> = (T, Zeroizing<Vec<u8>>);

fn read_parts<T: DeserializeOwned>(path: &Path, sealer: &Sealer) -> Result<Option<Parts<T>>, GatekeeperError> {
    let Some(plain) = read_sealed(path, sealer)? else { return Ok(None) };
    let wrong = |reason: &str| GatekeeperError::Stored { path: path.to_owned(), reason: reason.to_owned() };
    let (length, rest) = plain.split_first_chunk::<8>().ok_or_else(|| wrong("cut short"))?;
    let length = usize::try_from(u64::from_be_bytes(*length)).map_err(|_| wrong("cut short"))?;
    let (json, secret) = rest.split_at_checked(length).ok_or_else(|| wrong("cut short"))?;
    let public = serde_json::from_slice(json).map_err(|error| wrong(&error.to_string()))?;
    Ok(Some((public, Zeroizing::new(secret.to_vec()))))
}
