//! The refusal table: everything is signed by whoever could sign it, one thing is wrong, and the step that must notice does.

use tacit_attest::{Location, Policy, Preset};
use tacit_receipt::{Bundle, Effect, Opening};
use tacit_types::chain::Publication;
use tacit_types::eip712::{Kind, Outcome, Platform};
use tacit_types::formats::publish_request;
use tacit_types::quorum::QuorumError;
use tacit_types::*;
use tacit_verify::{Anchor, Judge, Report, StepName, Verdict, Verifier, VerifyError};

use crate::golden::{anchor, sample, verifier};
use crate::network::{CALL, LATER, NOT_AFTER, NOT_BEFORE, Sample};

fn report(bundle: &Bundle, verifier: &Verifier, now: UnixTime) -> Report {
    verifier.verify_bundle(&bundle.encode().unwrap(), now)
}

fn expect(report: &Report, step: StepName, expected: &VerifyError) {
    let failed = report.failed().unwrap_or_else(|| panic!("nothing failed: {report}"));
    assert_eq!((failed.step, failed.error.as_ref()), (step, Some(expected)), "{report}");
    let missing = matches!(expected, VerifyError::Missing(_));
    assert_eq!(report.verdict, if missing { Verdict::Incomplete } else { Verdict::Refused });
}

/// Changes the sample, signs everything anew, and expects one refusal.
fn resigned(change: impl Fn(&mut Sample), step: StepName, expected: VerifyError) {
    let mut sample = sample();
    change(&mut sample);
    expect(&report(&sample.bundle(), &verifier(Preset::Dev), LATER), step, &expected);
}

/// Changes the finished bundle, and expects one refusal.
fn altered(change: impl Fn(&mut Bundle), step: StepName, expected: VerifyError) {
    let mut bundle = sample().bundle();
    change(&mut bundle);
    expect(&report(&bundle, &verifier(Preset::Dev), LATER), step, &expected);
}

fn quorum(what: &'static str, source: QuorumError) -> VerifyError {
    VerifyError::Quorum { what, source }
}

#[test]
fn anchor_and_gatekeepers() {
    let expected = anchor().cluster();
    let found = ClusterId::from([1; 32]);
    altered(|bundle| bundle.cluster = found, StepName::Anchor, VerifyError::OtherCluster { expected, found });

    // A deployment whose quotes were taken from one another: it still agrees with itself.
    let mut deployment = anchor().deployment().clone();
    let (first, second) = (deployment.gatekeepers[0].evidence.clone(), deployment.gatekeepers[1].evidence.clone());
    (deployment.gatekeepers[0].evidence, deployment.gatekeepers[1].evidence) = (second, first);
    let swapped = Verifier::new(Anchor::new(deployment).unwrap(), Judge::Preset(Preset::Dev));
    let source = tacit_attest::AttestError::ReportDataMismatch;
    expect(
        &report(&sample().bundle(), &swapped, LATER),
        StepName::Gatekeepers,
        &VerifyError::Gatekeeper { index: 0, source },
    );

    let mut deployment = anchor().deployment().clone();
    deployment.gatekeepers[2].transcript = Digest::ZERO;
    let other = Verifier::new(Anchor::new(deployment).unwrap(), Judge::Preset(Preset::Dev));
    expect(&report(&sample().bundle(), &other, LATER), StepName::Gatekeepers, &VerifyError::Transcript(2));

    // The user's own policy denies the class of the gatekeepers' machines.
    let mut policy = Policy::preset(Preset::Dev);
    policy.denied_classes.push(tacit_attest::HardwareClass::IntelTdx);
    let strict = Verifier::new(anchor(), Judge::Policy(Box::new(policy)));
    let report = report(&sample().bundle(), &strict, LATER);
    assert_eq!((report.verdict, report.failed().unwrap().step), (Verdict::Refused, StepName::Gatekeepers), "{report}");
}

#[test]
fn deployments_that_contradict_themselves_are_no_anchor() {
    let refuse = |change: fn(&mut tacit_types::deployment::Deployment)| {
        let mut deployment = anchor().deployment().clone();
        change(&mut deployment);
        assert!(matches!(Anchor::new(deployment), Err(VerifyError::Anchor(_))));
    };
    refuse(|deployment| deployment.version = 2);
    refuse(|deployment| deployment.cluster_id = ClusterId::ZERO);
    refuse(|deployment| deployment.genesis.threshold = 1);
    refuse(|deployment| deployment.genesis.simulated = false);
    refuse(|deployment| deployment.policy["name"] = "other".into());
    refuse(|deployment| deployment.gatekeepers.truncate(3));
    refuse(|deployment| deployment.gatekeepers.swap(0, 1));
    let with_genesis = |change: fn(&mut tacit_types::deployment::Deployment)| {
        let mut deployment = anchor().deployment().clone();
        change(&mut deployment);
        deployment.cluster_id = deployment.genesis.cluster_id().unwrap();
        assert!(matches!(Anchor::new(deployment), Err(VerifyError::Anchor(_))));
    };
    with_genesis(|deployment| deployment.genesis.roots = vec![RootId::ZERO]);
    with_genesis(|deployment| deployment.genesis.roots = vec![]);
    with_genesis(|deployment| deployment.genesis.policy = PolicyHash::ZERO);
    with_genesis(|deployment| {
        deployment.genesis.simulated = false;
        deployment.genesis.network = "golden".into();
    });
    assert!(matches!(Anchor::parse(b"{}"), Err(VerifyError::Anchor(_))));
    assert!(matches!(Anchor::parse(&vec![b' '; 5 << 20]), Err(VerifyError::Anchor(_))));
}

#[test]
fn certificate() {
    let refuse = |change: fn(&mut Sample), expected| resigned(change, StepName::Certificate, expected);
    refuse(|s| s.certifiers = vec![3], quorum("certificate", QuorumError::TooFew { needed: 2, found: 1 }));
    refuse(|s| s.certifiers = vec![], quorum("certificate", QuorumError::TooFew { needed: 2, found: 0 }));
    refuse(|s| s.certifiers = vec![1, 1], quorum("certificate", QuorumError::Order));
    refuse(|s| s.certifiers = vec![2, 0], quorum("certificate", QuorumError::Order));
    refuse(|s| s.certificate.epoch = 2, VerifyError::Epoch { expected: 1, found: 2 });
    refuse(|s| s.certificate.keyset = KeysetDigest::ZERO, VerifyError::Mismatch("the keyset is not the certificate's"));
    refuse(
        |s| s.certificate.worker = Address::ZERO,
        VerifyError::Mismatch("the keyset's receipt key is not the certificate's"),
    );
    let life = "the certificate's life is not within its keyset's";
    refuse(|s| s.certificate.not_after = s.certificate.not_after.plus(400 * 86_400), VerifyError::Time(life));
    refuse(|s| s.certificate.not_after = NOT_BEFORE.minus(1), VerifyError::Time(life));

    let altered = |change: fn(&mut Bundle), expected| altered(change, StepName::Certificate, expected);
    altered(|b| b.certificate.signatures[1].index = 3, quorum("certificate", QuorumError::Signer(3)));
    altered(|b| b.certificate.signatures[1].index = 9, quorum("certificate", QuorumError::Index(9)));
    altered(|b| b.certificate.certificate.confidence = 2, quorum("certificate", QuorumError::Signer(0)));
}

#[test]
fn a_certificate_that_held_before_vouches_for_itself_alone() {
    let verifier = verifier(Preset::Dev);
    let good = sample().bundle();
    let refuse = |change: fn(&mut Bundle), expected: VerifyError| {
        for _ in 0..2 {
            assert_eq!(report(&good, &verifier, LATER).verdict, Verdict::Verified);
            let mut bundle = good.clone();
            change(&mut bundle);
            expect(&report(&bundle, &verifier, LATER), StepName::Certificate, &expected);
        }
    };
    refuse(
        |b| b.certificate.signatures.truncate(1),
        quorum("certificate", QuorumError::TooFew { needed: 2, found: 1 }),
    );
    refuse(|b| b.certificate.signatures[1].index = 3, quorum("certificate", QuorumError::Signer(3)));
    refuse(|b| b.certificate.certificate.confidence = 2, quorum("certificate", QuorumError::Signer(0)));
    refuse(
        |b| b.certificate.keyset.subject = Some("another".into()),
        VerifyError::Mismatch("the keyset is not the certificate's"),
    );
    // Certificates that are refused push no other out and are never remembered.
    for byte in 0..200 {
        let mut bundle = good.clone();
        bundle.certificate.certificate.chip = ChipId::from([byte; 32]);
        expect(
            &report(&bundle, &verifier, LATER),
            StepName::Certificate,
            &quorum("certificate", QuorumError::Signer(0)),
        );
    }
    assert_eq!(report(&good, &verifier, LATER).verdict, Verdict::Verified);
}

#[test]
fn policy() {
    let refuse = |change: fn(&mut Sample), expected| resigned(change, StepName::Policy, expected);
    let mismatch = |what| VerifyError::Mismatch(what);
    refuse(
        |s| s.certificate.policy = PolicyHash::ZERO,
        mismatch("the certificate was issued under another policy than the cluster's"),
    );
    refuse(|s| s.certificate.root = RootId::ZERO, VerifyError::Root(RootId::ZERO));
    refuse(
        |s| s.certificate.simulated = false,
        mismatch("the certificate and its roots differ in whether they are simulated"),
    );
    let other = Measurement::from([1; 32]);
    refuse(|s| s.certificate.measurement = Measurement::from([1; 32]), VerifyError::Measurement(other));
    refuse(|s| s.certificate.confidence = 0, VerifyError::Confidence { found: 0, limit: 5 });
    refuse(|s| s.certificate.confidence = 6, VerifyError::Confidence { found: 6, limit: 5 });
    refuse(
        |s| s.certificate.collateral_time = NOT_BEFORE.minus(401 * 86_400),
        VerifyError::CollateralAge { found: 401 * 86_400, limit: 400 * 86_400 },
    );

    // What the cluster accepts and the user does not.
    let judge = |change: fn(&mut Policy, &Sample), altered: fn(&mut Sample), expected: VerifyError| {
        let mut sample = sample();
        altered(&mut sample);
        let mut policy = Judge::Preset(Preset::Dev).policy_for(Some(&sample.anchor));
        change(&mut policy, &sample);
        let verifier = Verifier::new(anchor(), Judge::Policy(Box::new(policy)));
        let report = report(&sample.bundle(), &verifier, LATER);
        let step = report.steps.iter().find(|step| step.step == StepName::Policy).unwrap();
        assert_eq!(step.error, Some(expected), "{report}");
        assert_eq!(report.verdict, Verdict::Refused);
    };
    let same: fn(&mut Sample) = |_| {};
    let chip = sample().certificate.chip;
    judge(|policy, sample| policy.chips.deny.push(sample.certificate.chip), same, VerifyError::Chip(chip));
    judge(|policy, _| policy.chips.allow.push(ChipId::ZERO), same, VerifyError::Chip(chip));
    judge(
        |policy, sample| {
            let location = Location { chip: sample.certificate.chip, grade: 1, proof: "seen".into() };
            (policy.chips.located, policy.chips.minimum_grade) = (vec![location], 2);
        },
        same,
        VerifyError::Location { found: 1, minimum: 2 },
    );
    judge(
        |policy, _| {
            policy.measurements = Policy::preset(Preset::Dev).with_image("x", &[Measurement::ZERO]).measurements
        },
        same,
        VerifyError::Measurement(sample().certificate.measurement),
    );
    judge(
        |policy, _| policy.denied_classes.push(tacit_attest::HardwareClass::IntelSgx),
        |sample| sample.certificate.platform = Platform::Sgx,
        VerifyError::Class("Intel SGX".into()),
    );
    judge(
        |policy, _| policy.tcb.accept = vec![tacit_attest::TcbStatus::UpToDate],
        |sample| sample.certificate.confidence = 3,
        VerifyError::Confidence { found: 3, limit: 2 },
    );
    judge(
        |policy, _| policy.max_collateral_age = 100,
        |sample| sample.certificate.collateral_time = NOT_BEFORE.minus(101),
        VerifyError::CollateralAge { found: 101, limit: 100 },
    );
}

#[test]
fn receipt_code_commitments_and_effects() {
    altered(|b| b.receipt.fuel += 1, StepName::Receipt, VerifyError::ReceiptSignature);
    altered(
        |b| b.receipt.certificate = CertificateId::ZERO,
        StepName::Receipt,
        VerifyError::Mismatch("the receipt names another certificate"),
    );
    resigned(
        |s| s.receipt.epoch = 2,
        StepName::Receipt,
        VerifyError::Mismatch("receipt and certificate are of different gatekeeper epochs"),
    );
    resigned(
        |s| {
            s.receipt.kind = Kind::Query;
        },
        StepName::Receipt,
        VerifyError::Mismatch("a query cannot move the head"),
    );
    // Signed by somebody else, in full.
    let other = signature::SigningKey::from_bytes(&[9; 32]).unwrap();
    altered(|b| b.signature = other.sign(b.digest()), StepName::Receipt, VerifyError::ReceiptSignature);

    let code = VerifyError::Mismatch("module and manifest are not the receipt's code hash");
    altered(|b| b.code.as_mut().unwrap().module = Digest::ZERO, StepName::Code, code.clone());
    altered(|b| b.code.as_mut().unwrap().manifest.egress.allow.clear(), StepName::Code, code.clone());
    resigned(|s| s.receipt.code_hash = CodeHash::ZERO, StepName::Code, code);

    let commitments =
        |change: fn(&mut Bundle), what| altered(change, StepName::Commitments, VerifyError::Mismatch(what));
    commitments(|b| b.openings.method.as_mut().unwrap().bytes.push(0), "the method is not the receipt's");
    commitments(|b| b.openings.caller.as_mut().unwrap().salt = Digest::ZERO, "the caller is not the receipt's");
    commitments(|b| b.openings.request = b.openings.response.clone(), "the request is not the receipt's");
    commitments(|b| b.openings.response.as_mut().unwrap().bytes.clear(), "the response is not the receipt's");
    resigned(
        |s| s.openings.request = Some(Opening { salt: Digest::ZERO, bytes: vec![] }),
        StepName::Commitments,
        VerifyError::Mismatch("the request is not the receipt's"),
    );

    let effects = VerifyError::Mismatch("the effects are not the receipt's");
    altered(|b| b.effects.clear(), StepName::Effects, effects.clone());
    altered(|b| b.effects.push(b.effects[0].clone()), StepName::Effects, effects);
}

#[test]
fn publications() {
    let dev = verifier(Preset::Dev);
    let good = sample().publication().bundle();
    assert_eq!(report(&good, &dev, LATER).verdict, Verdict::Verified);
    // The holder may strike out what is not public; without the response nothing is said of the destination.
    let mut bare = good.clone();
    bare.openings = Default::default();
    assert_eq!(report(&bare, &dev, LATER).verdict, Verdict::Verified);

    let resigned = |change: &dyn Fn(&mut Sample), step, what| {
        let mut sample = sample().publication();
        change(&mut sample);
        expect(&report(&sample.bundle(), &dev, LATER), step, &VerifyError::Mismatch(what));
    };
    let plain = "a publication is of a call that succeeded, and has no effects of its own";
    resigned(&|s| s.receipt.outcome = Outcome::Thrown, StepName::Receipt, plain);
    resigned(&|s| s.effects = vec![Effect::Call { receipt: Digest::ZERO }], StepName::Receipt, plain);

    let other_id = "the call id is not that of a publication of the opened call";
    let parent = sample().receipt.call_id;
    let request = |bytes: Vec<u8>| Some(Opening { salt: Digest::from([1; 32]), bytes });
    resigned(&|s| s.receipt.call_id = parent, StepName::Commitments, other_id);
    resigned(&|s| s.openings.request = request(publish_request(parent, 0)), StepName::Commitments, other_id);
    resigned(&|s| s.openings.request = request(publish_request(CallId::ZERO, 1)), StepName::Commitments, other_id);
    resigned(
        &|s| s.openings.request = request(publish_request(parent, 1)[..63].to_vec()),
        StepName::Commitments,
        other_id,
    );
    let long = [publish_request(parent, 1), vec![0]].concat();
    resigned(&|s| s.openings.request = request(long.clone()), StepName::Commitments, other_id);
    let high = [&parent.as_bytes()[..], &[1], &[0; 30], &[1]].concat();
    resigned(&|s| s.openings.request = request(high.clone()), StepName::Commitments, other_id);

    let bytes = |s: &Sample| s.openings.response.as_ref().unwrap().bytes.clone();
    let with = |s: &mut Sample, bytes| s.openings.response = Some(Opening { salt: Digest::ZERO, bytes });
    let no_publication = "the response is not a publication";
    resigned(&|s| with(s, b"{}".to_vec()), StepName::Commitments, no_publication);
    resigned(&|s| with(s, [bytes(s), vec![0; 32]].concat()), StepName::Commitments, no_publication);
    resigned(
        &|s| s.openings.request = Some(Opening { salt: Digest::ZERO, bytes: publish_request(parent, 1) }),
        StepName::Commitments,
        "the request is not the receipt's",
    );

    let elsewhere = "the manifest does not let the function publish to this contract";
    let publication = |s: &Sample| Publication::decode(&bytes(s)).unwrap();
    resigned(
        &|s| with(s, Publication { consumer: Address::ZERO, ..publication(s) }.encode()),
        StepName::Code,
        elsewhere,
    );
    resigned(&|s| with(s, Publication { chain_id: 1, ..publication(s) }.encode()), StepName::Code, elsewhere);
    resigned(
        &|s| {
            s.code.manifest.publish.clear();
            s.receipt.code_hash = s.code.hash().unwrap();
        },
        StepName::Code,
        elsewhere,
    );

    // The quorum's word is needed as for any commit.
    let mut alone = good.clone();
    alone.acknowledgement = None;
    let missing = VerifyError::Missing("the quorum's acknowledgement of the commit".into());
    expect(&report(&alone, &dev, CALL), StepName::Acknowledgement, &missing);
}

#[test]
fn acknowledgement() {
    let step = StepName::Acknowledgement;
    let few = |found| quorum("acknowledgement", QuorumError::TooFew { needed: 3, found });
    resigned(|s| s.acknowledgers = vec![0, 1], step, few(2));
    resigned(|s| s.acknowledgers = vec![1, 1, 1], step, quorum("acknowledgement", QuorumError::Order));
    let commit = VerifyError::Mismatch("the acknowledgement is of another commit");
    resigned(|s| s.ack = |ack| ack.function_id = FunctionId::ZERO, step, commit.clone());
    resigned(|s| s.ack = |ack| ack.fence += 1, step, commit.clone());
    resigned(|s| s.ack = |ack| ack.sequence += 1, step, commit.clone());
    resigned(|s| s.ack = |ack| ack.head = Head::ZERO, step, commit.clone());
    resigned(|s| s.ack = |ack| ack.epoch = 2, step, commit.clone());
    resigned(|s| s.ack = |ack| ack.time = ack.time.plus(1), step, commit);
    let paths = VerifyError::Mismatch("the acknowledgement's paths do not lead from this receipt to its batch");
    resigned(|s| s.ack = |ack| ack.receipts_root = Digest::ZERO, step, paths.clone());
    resigned(|s| s.batch = |batch| batch.root = Digest::ZERO, step, paths.clone());
    resigned(|s| s.batch = |batch| batch.epoch = 2, step, VerifyError::Epoch { expected: 1, found: 2 });
    altered(|b| b.acknowledgement.as_mut().unwrap().receipt_path.clear(), step, paths.clone());
    altered(|b| b.acknowledgement.as_mut().unwrap().batch_path.clear(), step, paths);
    let other = VerifyError::Time("the quorum signed at another time than the receipt's");
    resigned(
        |s| {
            s.ack = |ack| ack.time = CALL.minus(6);
            s.batch = |batch| batch.time = CALL.minus(6);
        },
        step,
        other.clone(),
    );
    resigned(
        |s| {
            s.ack = |ack| ack.time = CALL.plus(606);
            s.batch = |batch| batch.time = CALL.plus(606);
        },
        step,
        other,
    );
    resigned(
        |s| {
            s.receipt.time = NOT_AFTER;
            s.ack = |ack| ack.time = NOT_AFTER.plus(1);
            s.batch = |batch| batch.time = NOT_AFTER.plus(1);
        },
        step,
        VerifyError::Time("the quorum signed outside the certificate's life"),
    );

    let mut bundle = sample().bundle();
    bundle.acknowledgement = None;
    let missing = VerifyError::Missing("the quorum's acknowledgement of the commit".into());
    expect(&report(&bundle, &verifier(Preset::Dev), CALL), step, &missing);
    // Past the certificate's life, nobody vouches for the time either.
    expect(&report(&bundle, &verifier(Preset::Dev), LATER), StepName::Time, &VerifyError::Unproven);
}

#[test]
fn confirmation_of_queries() {
    let step = StepName::Acknowledgement;
    let verifier = verifier(Preset::Dev);
    let report_of = |bundle: &Bundle, now| report(bundle, &verifier, now);
    let good = sample().query().bundle();
    assert_eq!(report_of(&good, LATER).verdict, Verdict::Verified);

    let refuse = |change: &dyn Fn(&mut Bundle), expected: VerifyError| {
        let mut bundle = good.clone();
        change(&mut bundle);
        expect(&report_of(&bundle, LATER), step, &expected);
    };
    let few = quorum("confirmation", QuorumError::TooFew { needed: 3, found: 2 });
    refuse(&|b| drop(b.confirmation.as_mut().unwrap().signatures.pop()), few);
    let wrong = |index| quorum("confirmation", QuorumError::Signer(index));
    refuse(&|b| b.confirmation.as_mut().unwrap().signatures[1].time = CALL, wrong(1));
    refuse(&|b| b.confirmation.as_mut().unwrap().signatures[2].path.clear(), wrong(3));
    refuse(&|b| b.confirmation.as_mut().unwrap().signatures[2].index = 2, wrong(2));
    refuse(&|b| b.confirmation.as_mut().unwrap().signatures[0].index = 1, wrong(1));
    refuse(&|b| b.confirmation.as_mut().unwrap().nonce = Digest::ZERO, wrong(0));
    refuse(
        &|b| b.confirmation.as_mut().unwrap().receipt_path.clear(),
        VerifyError::Mismatch("the confirmation's path does not lead from this receipt to its nonce"),
    );
    refuse(&|b| b.confirmation.as_mut().unwrap().signatures[2].index = 0, quorum("confirmation", QuorumError::Order));
    refuse(
        &|b| b.confirmation.as_mut().unwrap().signatures[2].index = 7,
        quorum("confirmation", QuorumError::Index(7)),
    );
    refuse(&|b| b.confirmation.as_mut().unwrap().epoch = 2, VerifyError::Epoch { expected: 1, found: 2 });

    // The confirmation of another position of the same function: signed by the quorum, but not about what was read.
    let mut other = sample().query();
    other.receipt.sequence += 1;
    let mut bundle = good.clone();
    bundle.confirmation = other.bundle().confirmation;
    expect(&report_of(&bundle, LATER), step, &wrong(0));

    let mut bundle = good.clone();
    bundle.confirmation = None;
    expect(&report_of(&bundle, CALL), step, &VerifyError::Missing("the quorum's confirmation of the query".into()));

    // A stale query has no quorum's word: it is fine while the certificate lives, and unproven later.
    let mut stale = sample().query();
    stale.receipt.kind = Kind::StaleQuery;
    let bundle = stale.bundle();
    assert_eq!(report_of(&bundle, CALL).verdict, Verdict::Verified);
    expect(&report_of(&bundle, LATER), StepName::Time, &VerifyError::Unproven);

    // The wrong kind of word.
    let mut command = sample().bundle();
    command.acknowledgement = None;
    command.confirmation = good.confirmation.clone();
    expect(&report_of(&command, LATER), step, &VerifyError::Mismatch("only a query has a confirmation"));
}

#[test]
fn log() {
    let refuse = |change: fn(&mut Bundle), text: &str| altered(change, StepName::Log, VerifyError::Log(text.into()));
    let inclusion = "the log proof does not lead to the checkpoint's root";
    refuse(|b| b.log.as_mut().unwrap().index = 4, inclusion);
    refuse(|b| b.log.as_mut().unwrap().index = 11, "there is no leaf 11 in a log of 11");
    refuse(|b| b.log.as_mut().unwrap().path.truncate(1), inclusion);
    refuse(|b| b.log.as_mut().unwrap().path[0] = Digest::ZERO, inclusion);
    let replace = |b: &mut Bundle, from: &str, to: &str| {
        let log = b.log.as_mut().unwrap();
        assert!(log.checkpoint.contains(from));
        log.checkpoint = log.checkpoint.replacen(from, to, 1);
    };
    let signature = "the checkpoint is not signed by the log's key";
    altered(|b| replace(b, "\n11\n", "\n12\n"), StepName::Log, VerifyError::Log(signature.into()));
    altered(
        |b| replace(b, "tacit/0x", "tacit/1x"),
        StepName::Log,
        VerifyError::Log("the checkpoint is of another log".into()),
    );
    let mut bundle = sample().bundle();
    bundle.log = None;
    let missing = VerifyError::Missing("the proof that the receipt stands in the log".into());
    expect(&report(&bundle, &verifier(Preset::Dev), LATER), StepName::Log, &missing);
}

#[test]
fn time() {
    let bundle = sample().bundle();
    let future = VerifyError::Time("the receipt's time lies in the future");
    expect(&report(&bundle, &verifier(Preset::Dev), CALL.minus(6)), StepName::Time, &future);
    assert_eq!(report(&bundle, &verifier(Preset::Dev), CALL.minus(5)).verdict, Verdict::Verified);
    let outside = VerifyError::Time("the receipt's time lies outside its certificate's life");
    let expect_time = |time: UnixTime| {
        let mut sample = sample();
        sample.receipt.time = time;
        let report = report(&sample.bundle(), &verifier(Preset::Dev), LATER);
        let step = report.steps.iter().find(|step| step.step == StepName::Time).unwrap();
        assert_eq!(step.error.as_ref(), Some(&outside), "{report}");
        assert_eq!(report.verdict, Verdict::Refused);
    };
    expect_time(NOT_BEFORE.minus(1));
    expect_time(NOT_AFTER.plus(1));
}
