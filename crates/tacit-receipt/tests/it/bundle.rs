use proptest::prelude::*;
use tacit_receipt::{Bundle, Effect, MAX_BUNDLE, Opening, ReceiptError, SignedCertificate, VERSION, effects_root};
use tacit_types::eip712::{Certificate, Kind, Outcome, Platform, Receipt};
use tacit_types::formats::{Tag, commit};
use tacit_types::keyset::Keyset;
use tacit_types::quorum::IndexedSignature;
use tacit_types::signature::SigningKey;
use tacit_types::*;

fn bundle() -> Bundle {
    let key = SigningKey::from_bytes(&[1; 32]).unwrap();
    let salt = Digest::from([8; 32]);
    let effects = vec![Effect::Call { receipt: Digest::from([7; 32]) }];
    let receipt = Receipt {
        function_id: FunctionId::from([1; 32]),
        code_hash: CodeHash::from([2; 32]),
        certificate: CertificateId::from([3; 32]),
        call_id: CallId::from([4; 32]),
        kind: Kind::Command,
        outcome: Outcome::Ok,
        method: commit(Tag::Method, salt, b"price"),
        caller: commit(Tag::Caller, salt, b""),
        request: commit(Tag::Request, salt, b"{}"),
        response: commit(Tag::Response, salt, b"1"),
        sequence: 1,
        head_before: Head::ZERO,
        head_after: Head::from([5; 32]),
        fence: 1,
        effects: effects_root(&effects),
        usage: Digest::ZERO,
        fuel: 1000,
        time: UnixTime(1_790_000_000),
        epoch: 1,
    };
    let cluster = ClusterId::from([9; 32]);
    let certificate = Certificate {
        worker: key.address(),
        keyset: KeysetDigest::from([1; 32]),
        platform: Platform::Tdx,
        measurement: Measurement::from([2; 32]),
        chip: ChipId::from([3; 32]),
        confidence: 1,
        root: RootId::from([4; 32]),
        policy: PolicyHash::from([5; 32]),
        simulated: true,
        operator: Address::from([6; 20]),
        collateral_time: UnixTime(1),
        not_before: UnixTime(2),
        not_after: UnixTime(3),
        epoch: 1,
    };
    let keyset = Keyset {
        subject: None,
        not_after: UnixTime(4),
        receipt_signing_keys: vec![],
        e2ee_public_keys: vec![],
        tls_public_keys: vec![],
    };
    let signatures = vec![IndexedSignature { index: 0, signature: key.sign(Digest::ZERO) }];
    let opening = |bytes: &[u8]| Some(Opening { salt, bytes: bytes.to_vec() });
    let mut bundle = Bundle {
        version: VERSION,
        cluster,
        signature: key.sign(receipt.digest(cluster)),
        receipt,
        certificate: SignedCertificate { certificate, keyset, signatures },
        openings: Default::default(),
        effects,
        code: None,
        acknowledgement: None,
        confirmation: None,
        log: None,
        evidence: None,
    };
    bundle.openings.method = opening(b"price");
    bundle.openings.request = opening(b"{}");
    bundle
}

#[test]
fn a_bundle_returns_and_opens() {
    let bundle = bundle();
    let bytes = bundle.encode().unwrap();
    let read = Bundle::parse(&bytes).unwrap();
    assert_eq!(read, bundle);
    assert!(read.effects_hold());
    for (tag, opening) in read.openings.members() {
        if let Some(opening) = opening {
            assert!(read.opens(tag, opening));
            assert!(!read.opens(tag, &Opening { salt: Digest::from([1; 32]), ..opening.clone() }));
            assert!(!read.opens(tag, &Opening { bytes: b"other".to_vec(), ..opening.clone() }));
        }
    }
}

#[test]
fn salt_zero_is_for_the_chain_only() {
    let check = |kind, tag, expected: bool| {
        let mut bundle = bundle();
        bundle.receipt.kind = kind;
        let commitment = commit(tag, Digest::ZERO, b"x");
        match tag {
            Tag::Method => bundle.receipt.method = commitment,
            Tag::Caller => bundle.receipt.caller = commitment,
            Tag::Request => bundle.receipt.request = commitment,
            Tag::Response => bundle.receipt.response = commitment,
        }
        let opening = Opening { salt: Digest::ZERO, bytes: b"x".to_vec() };
        assert_eq!(bundle.opens(tag, &opening), expected, "{kind:?} {tag:?}");
    };
    for tag in [Tag::Method, Tag::Caller, Tag::Request, Tag::Response] {
        check(Kind::Command, tag, false);
        check(Kind::Query, tag, false);
        check(Kind::ChainRequest, tag, true);
        check(Kind::Publish, tag, tag == Tag::Response);
    }
}

#[test]
fn other_spellings_are_refused() {
    let text = String::from_utf8(bundle().encode().unwrap()).unwrap();
    let check = |altered: String| {
        assert_ne!(altered, text);
        assert!(matches!(Bundle::parse(altered.as_bytes()), Err(ReceiptError::Bundle(_))), "{altered}");
    };
    check(format!("{text}\n"));
    check(format!(" {text}"));
    check(text.replacen("\"epoch\":1", "\"epoch\": 1", 1));
    check(text.replacen("\"epoch\":1", "\"epoch\":1,\"epoch\":1", 1));
    check(text.replacen("\"epoch\":1", "\"epoch\":1.0", 1));
    check(text.replacen("\"epoch\":1", "\"epoch\":1,\"extra\":1", 1));
    check(text.replacen("\"version\":1", "\"log\":null,\"version\":1", 1));
    check(text.replacen("0x09", "0X09", 1));
    check(text.replacen("\"price\"", "\"pr\\u0069ce\"", 1).replacen("0x7b7d", "0x7B7D", 1));
    check(text.replacen("{\"certificate\"", "{\"a\":0,\"certificate\"", 1));
    check(text[..text.len() - 1].to_owned());
}

#[test]
fn rules_beyond_the_shape_are_checked() {
    let other = Bundle { version: 2, ..bundle() };
    assert!(matches!(other.encode(), Err(ReceiptError::Version(2))));
    let mut large = bundle();
    large.receipt.fuel = 1 << 53;
    assert!(matches!(large.encode(), Err(ReceiptError::Bundle(_))));
    assert!(Bundle::parse(&vec![b' '; MAX_BUNDLE + 1]).is_err());
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Bundle::parse(nested.as_bytes()).is_err());
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Bundle::parse(&bytes).is_err());
    }

    #[test]
    fn altered_bundles_are_refused_or_other_bundles(position: prop::sample::Index, value: u8) {
        let bundle = bundle();
        let mut bytes = bundle.encode().unwrap();
        let position = position.index(bytes.len());
        prop_assume!(bytes[position] != value);
        bytes[position] = value;
        if let Ok(read) = Bundle::parse(&bytes) {
            prop_assert_ne!(&read, &bundle);
            prop_assert_eq!(read.encode().unwrap(), bytes);
        }
    }
}
