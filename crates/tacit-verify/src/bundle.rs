//! Verification of receipt bundles.

use std::sync::Arc;

use tacit_attest::Policy;
use tacit_receipt::{Bundle, QuorumConfirmation, log_origin};
use tacit_types::chain::Publication;
use tacit_types::eip712::{Kind, Outcome, Receipt};
use tacit_types::formats::publish_call_id;
use tacit_types::manifest::Manifest;
use tacit_types::quorum::QuorumError;
use tacit_types::register::QuorumAck;
use tacit_types::{CallId, ClusterId, Digest, FunctionId, UnixTime};

use crate::anchor::chain_text;
use crate::judge::{judge_certificate, root_name};
use crate::report::Steps;
use crate::worker::{KnownCertificates, check_evidence};
use crate::{Anchor, Judge, Report, StepName, TimeProof, Verdict, VerifyError};

/// How far the clocks of honest nodes may differ, in seconds (trust.md, section 7).
pub(crate) const SKEW: u64 = 5;
/// Longest time between a call's receipt and its acknowledgement, in seconds: the longest call that a manifest allows.
const LONGEST_CALL: u64 = 600;

/// A receipt that holds in every step under the verifier's policy; nothing else makes one.
#[derive(Debug, Clone)]
pub struct VerifiedReceipt {
    bundle: Bundle,
    digest: Digest,
    time: TimeProof,
}

impl VerifiedReceipt {
    /// The receipt.
    pub fn receipt(&self) -> &Receipt {
        &self.bundle.receipt
    }

    /// The bundle that it came in.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The receipt's EIP-712 digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How its time is known.
    pub fn time(&self) -> TimeProof {
        self.time
    }
}

/// Verifies against one cluster under one policy. The gatekeepers' quotes are judged once, when it is made; the gatekeepers'
/// signatures under one worker's certificate once, when it is first seen. Clones share what they know.
#[derive(Debug, Clone)]
pub struct Verifier {
    pub(crate) anchor: Anchor,
    pub(crate) judge: Policy,
    pub(crate) gatekeepers: Result<bool, VerifyError>,
    pub(crate) certificates: Arc<KnownCertificates>,
}

impl Verifier {
    /// A verifier that trusts `anchor` and judges by `judge`.
    pub fn new(anchor: Anchor, judge: Judge) -> Self {
        let judge = judge.policy_for(Some(&anchor));
        let gatekeepers = anchor.judge_gatekeepers(&judge);
        Self { anchor, judge, gatekeepers, certificates: Arc::default() }
    }

    /// What it trusts.
    pub fn anchor(&self) -> &Anchor {
        &self.anchor
    }

    /// The policy that it judges by.
    pub fn policy(&self) -> &Policy {
        &self.judge
    }

    /// Verifies a bundle's bytes and reports every step.
    pub fn verify_bundle(&self, bytes: &[u8], now: UnixTime) -> Report {
        self.examine(bytes, now).0
    }

    /// Verifies a bundle's bytes.
    ///
    /// # Errors
    /// The report, for every verdict but [`Verdict::Verified`].
    pub fn verify_receipt(&self, bytes: &[u8], now: UnixTime) -> Result<VerifiedReceipt, Box<Report>> {
        match self.examine(bytes, now) {
            (Report { verdict: Verdict::Verified, time: Some(time), .. }, Some(bundle)) => {
                Ok(VerifiedReceipt { digest: bundle.digest(), bundle, time })
            }
            (report, _) => Err(Box::new(report)),
        }
    }

    fn examine(&self, bytes: &[u8], now: UnixTime) -> (Report, Option<Bundle>) {
        let mut steps = Steps::default();
        let parsed = Bundle::parse(bytes).map_err(|error| VerifyError::Unreadable(chain_text(&error)));
        let Some(bundle) = steps.record(StepName::Parse, parsed) else {
            return (steps.report(true), None);
        };
        if steps.record(StepName::Anchor, self.check_cluster(bundle.cluster)).is_none() {
            return (steps.report(true), None);
        }
        let gatekeepers_named = steps.record(StepName::Gatekeepers, self.gatekeepers.clone());

        let certificate = &bundle.certificate.certificate;
        steps.record(StepName::Certificate, self.certificates.check(&self.anchor, &bundle.certificate));
        let certificate_named =
            steps.record(StepName::Policy, judge_certificate(certificate, &self.anchor, &self.judge));
        steps.record(StepName::Receipt, self.check_receipt(&bundle));
        let mut could_talk_to = None;
        if let Some(code) = &bundle.code {
            let holds = code.hash() == Some(bundle.receipt.code_hash);
            let fits = VerifyError::Mismatch("module and manifest are not the receipt's code hash");
            let allowed = self.check_destination(&bundle, &code.manifest);
            steps.record(StepName::Code, if holds { allowed } else { Err(fits) });
            could_talk_to = holds.then(|| code.manifest.could_talk_to());
        }
        if !bundle.openings.is_empty() {
            steps.record(StepName::Commitments, check_openings(&bundle));
        }
        let effects = VerifyError::Mismatch("the effects are not the receipt's");
        steps.record(StepName::Effects, if bundle.effects_hold() { Ok(()) } else { Err(effects) });
        let countersigned = steps.record(StepName::Acknowledgement, self.check_quorum(&bundle));
        steps.record(StepName::Log, check_log(&bundle));
        let time = prove_time(&bundle, countersigned.flatten(), now);
        let time = steps.record(StepName::Time, time);
        if let Some(evidence) = &bundle.evidence {
            steps.record(StepName::Evidence, check_evidence(self, &bundle.certificate, evidence).map(drop));
        }
        let named = gatekeepers_named.unwrap_or(false) && certificate_named.unwrap_or(false);
        let mut report = steps.report(named);
        report.time = time;
        report.root = Some(root_name(&self.anchor, certificate.root));
        report.could_talk_to = could_talk_to;
        (report, Some(bundle))
    }

    pub(crate) fn check_cluster(&self, found: ClusterId) -> Result<(), VerifyError> {
        let expected = self.anchor.cluster();
        if found == expected { Ok(()) } else { Err(VerifyError::OtherCluster { expected, found }) }
    }

    fn check_receipt(&self, bundle: &Bundle) -> Result<(), VerifyError> {
        let (receipt, certificate) = (&bundle.receipt, &bundle.certificate.certificate);
        if receipt.certificate != bundle.certificate.id(bundle.cluster) {
            return Err(VerifyError::Mismatch("the receipt names another certificate"));
        }
        if receipt.epoch != certificate.epoch {
            return Err(VerifyError::Mismatch("receipt and certificate are of different gatekeeper epochs"));
        }
        if bundle.signature.recover(bundle.digest()).ok() != Some(certificate.worker) {
            return Err(VerifyError::ReceiptSignature);
        }
        if matches!(receipt.kind, Kind::Query | Kind::StaleQuery) && receipt.head_before != receipt.head_after {
            return Err(VerifyError::Mismatch("a query cannot move the head"));
        }
        if receipt.kind == Kind::Publish && (receipt.outcome != Outcome::Ok || !receipt.effects.is_zero()) {
            return Err(VerifyError::Mismatch(
                "a publication is of a call that succeeded, and has no effects of its own",
            ));
        }
        Ok(())
    }

    /// Whether the manifest lets the function publish where an opened publication goes.
    fn check_destination(&self, bundle: &Bundle, manifest: &Manifest) -> Result<(), VerifyError> {
        let Some(publication) = opened_publication(bundle) else { return Ok(()) };
        let genesis = self.anchor.genesis();
        if publication.chain_id == genesis.chain_id && manifest.may_publish(&genesis.network, publication.consumer) {
            Ok(())
        } else {
            Err(VerifyError::Mismatch("the manifest does not let the function publish to this contract"))
        }
    }

    /// The quorum's word about the receipt, and the time at which it was given; `None` for a stale query, which has none.
    fn check_quorum(&self, bundle: &Bundle) -> Result<Option<UnixTime>, VerifyError> {
        match (bundle.receipt.kind, &bundle.acknowledgement, &bundle.confirmation) {
            (Kind::StaleQuery, None, None) => Ok(None),
            (Kind::Query, None, Some(confirmation)) => self.check_confirmation(bundle, confirmation).map(Some),
            (Kind::Query, None, None) => Err(VerifyError::Missing("the quorum's confirmation of the query".into())),
            (Kind::Query | Kind::StaleQuery, _, _) => {
                Err(VerifyError::Mismatch("a query has no acknowledgement, a stale one no confirmation"))
            }
            (
                Kind::Command | Kind::Trigger | Kind::ChainRequest | Kind::Publish | Kind::Inference | Kind::Training,
                ack,
                confirmation,
            ) => match (ack, confirmation) {
                (Some(ack), None) => self.check_acknowledgement(bundle, ack).map(Some),
                (None, None) => Err(VerifyError::Missing("the quorum's acknowledgement of the commit".into())),
                (_, Some(_)) => Err(VerifyError::Mismatch("only a query has a confirmation")),
            },
        }
    }

    fn check_acknowledgement(&self, bundle: &Bundle, quorum: &QuorumAck) -> Result<UnixTime, VerifyError> {
        let (receipt, ack, batch) = (&bundle.receipt, &quorum.ack, &quorum.batch);
        let set = self.anchor.gatekeepers(batch.epoch)?;
        let source = |source| VerifyError::Quorum { what: "acknowledgement", source };
        set.verify(batch.digest(bundle.cluster), &quorum.signatures, set.quorum()).map_err(source)?;
        if !bundle.acknowledgement_paths_hold(quorum) {
            return Err(VerifyError::Mismatch(
                "the acknowledgement's paths do not lead from this receipt to its batch",
            ));
        }
        let same = ack.epoch == batch.epoch && ack.time == batch.time && ack.epoch == receipt.epoch;
        let about = (ack.function_id, ack.fence, ack.sequence, ack.head);
        if !same || about != (receipt.function_id, receipt.fence, receipt.sequence, receipt.head_after) {
            return Err(VerifyError::Mismatch("the acknowledgement is of another commit"));
        }
        countersigned_at(bundle, ack.time)
    }

    fn check_confirmation(&self, bundle: &Bundle, quorum: &QuorumConfirmation) -> Result<UnixTime, VerifyError> {
        let receipt = &bundle.receipt;
        let set = self.anchor.gatekeepers(quorum.epoch)?;
        let source = |source| VerifyError::Quorum { what: "confirmation", source };
        let found = u32::try_from(quorum.signatures.len()).unwrap_or(u32::MAX);
        if found < set.quorum() {
            return Err(source(QuorumError::TooFew { needed: set.quorum(), found }));
        }
        let mut previous = None;
        for signed in &quorum.signatures {
            if previous.is_some_and(|previous| previous >= signed.index) {
                return Err(source(QuorumError::Order));
            }
            previous = Some(signed.index);
            let member = set.members.get(signed.index as usize).ok_or(source(QuorumError::Index(signed.index)))?;
            let statement = quorum.statement(receipt, signed);
            if signed.signature.recover(statement.digest(bundle.cluster)).ok() != Some(*member) {
                return Err(source(QuorumError::Signer(signed.index)));
            }
        }
        if !bundle.confirmation_path_holds(quorum) {
            return Err(VerifyError::Mismatch("the confirmation's path does not lead from this receipt to its nonce"));
        }
        if quorum.epoch != receipt.epoch {
            return Err(VerifyError::Mismatch("receipt and confirmation are of different gatekeeper epochs"));
        }
        // The quorum's time is the median: with fewer than t liars in q it lies between two honest clocks.
        let mut times: Vec<UnixTime> = quorum.signatures.iter().map(|signed| signed.time).collect();
        times.sort_unstable();
        countersigned_at(bundle, times.get(times.len() / 2).copied().unwrap_or_default())
    }
}

/// Checks that a quorum's time fits the receipt's and lies in the certificate's life.
fn countersigned_at(bundle: &Bundle, time: UnixTime) -> Result<UnixTime, VerifyError> {
    let (receipt, certificate) = (&bundle.receipt, &bundle.certificate.certificate);
    if receipt.time > time.plus(SKEW) || time > receipt.time.plus(LONGEST_CALL + SKEW) {
        return Err(VerifyError::Time("the quorum signed at another time than the receipt's"));
    }
    if !certificate.is_live(time) {
        return Err(VerifyError::Time("the quorum signed outside the certificate's life"));
    }
    Ok(time)
}

fn check_openings(bundle: &Bundle) -> Result<(), VerifyError> {
    for (tag, opening) in bundle.openings.members() {
        if let Some(opening) = opening
            && !bundle.opens(tag, opening)
        {
            return Err(VerifyError::Mismatch(match tag.name() {
                "method" => "the method is not the receipt's",
                "caller" => "the caller is not the receipt's",
                "request" => "the request is not the receipt's",
                _ => "the response is not the receipt's",
            }));
        }
    }
    if bundle.receipt.kind == Kind::Publish {
        if bundle.openings.response.is_some() && opened_publication(bundle).is_none() {
            return Err(VerifyError::Mismatch("the response is not a publication"));
        }
        if let Some(request) = &bundle.openings.request
            && publication_id(bundle.receipt.function_id, &request.bytes) != Some(bundle.receipt.call_id)
        {
            return Err(VerifyError::Mismatch("the call id is not that of a publication of the opened call"));
        }
    }
    Ok(())
}

/// What the opened response of a `publish` receipt holds.
fn opened_publication(bundle: &Bundle) -> Option<Publication> {
    let response = bundle.openings.response.as_ref().filter(|_| bundle.receipt.kind == Kind::Publish)?;
    Publication::decode(&response.bytes)
}

/// The call id that goes with the request bytes of a `publish` receipt.
fn publication_id(function: FunctionId, request: &[u8]) -> Option<CallId> {
    let (parent, index) = request.split_first_chunk::<32>()?;
    let (high, low) = index.split_first_chunk::<24>()?;
    let index = u64::from_be_bytes(low.try_into().ok()?);
    (*high == [0; 24]).then(|| publish_call_id(function, (*parent).into(), index))
}

fn check_log(bundle: &Bundle) -> Result<(), VerifyError> {
    let log = bundle
        .log
        .as_ref()
        .ok_or_else(|| VerifyError::Missing("the proof that the receipt stands in the log".into()))?;
    let refuse = |error: &dyn std::error::Error| VerifyError::Log(chain_text(error));
    let note_key = bundle.certificate.keyset.note_key().map_err(|error| refuse(&error))?;
    let origin = log_origin(bundle.cluster, bundle.certificate.certificate.worker);
    log.verify(bundle.digest(), &origin, &note_key).map_err(|error| refuse(&error)).map(drop)
}

fn prove_time(bundle: &Bundle, countersigned: Option<UnixTime>, now: UnixTime) -> Result<TimeProof, VerifyError> {
    let (receipt, certificate) = (&bundle.receipt, &bundle.certificate.certificate);
    if !certificate.is_live(receipt.time) {
        return Err(VerifyError::Time("the receipt's time lies outside its certificate's life"));
    }
    if receipt.time > now.plus(SKEW) {
        return Err(VerifyError::Time("the receipt's time lies in the future"));
    }
    if certificate.is_live(now) {
        Ok(TimeProof::Live)
    } else if countersigned.is_some() {
        Ok(TimeProof::Countersigned)
    } else {
        Err(VerifyError::Unproven)
    }
}

/// The cluster that a bundle says it is of, to look a deployment up by; nothing is verified.
pub fn cluster_of(bytes: &[u8]) -> Option<ClusterId> {
    Bundle::parse(bytes).ok().map(|bundle| bundle.cluster)
}

/// The report for a bundle where no deployment is known: refused, with a hint.
pub fn refuse_without_anchor(bytes: &[u8]) -> Report {
    let mut steps = Steps::default();
    let parsed = Bundle::parse(bytes).map_err(|error| VerifyError::Unreadable(chain_text(&error)));
    if let Some(bundle) = steps.record(StepName::Parse, parsed) {
        steps.record::<()>(StepName::Anchor, Err(VerifyError::NoAnchor(bundle.cluster)));
    }
    steps.report(true)
}
