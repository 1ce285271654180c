//! What an AMD report, its certificates, its revocation list and the policy must say, one named refusal each.

use tacit_attest::sweep::{Scope, sweep};
use tacit_attest::*;
use tacit_types::UnixTime;

use crate::forge::*;

fn genoa() -> KeySpec {
    forge().chip_key(Generation::Genoa)
}

fn judge(evidence: &Evidence, collateral: AmdCollateral, policy: &Policy) -> Result<VerifiedEvidence, AttestError> {
    verify(evidence, &Collateral::Amd(Box::new(collateral)), policy, NOW)
}

/// A report of a chip, changed before it is signed, under a changed policy.
fn of_report(
    change: impl FnOnce(&mut Vec<u8>),
    demand: impl FnOnce(&mut Policy),
) -> Result<VerifiedEvidence, AttestError> {
    let mut policy = forge().policy();
    demand(&mut policy);
    judge(&forge().report(&genoa(), change), forge().collateral(&genoa()), &policy)
}

fn with_list(
    list: impl Into<Option<Vec<u8>>>,
    demand: impl FnOnce(&mut Policy),
) -> Result<VerifiedEvidence, AttestError> {
    let mut policy = forge().policy();
    demand(&mut policy);
    let mut collateral = forge().collateral_without_list(&genoa());
    collateral.crl = list.into();
    judge(&forge().report(&genoa(), |_| ()), collateral, &policy)
}

#[test]
fn a_good_report_is_verified_with_its_list() {
    let verified = of_report(|_| (), |_| ()).unwrap();
    assert_eq!((verified.tcb_status(), verified.confidence().level()), (TcbStatus::UpToDate, 1));
    assert_eq!(verified.tcb(), "bootloader 10 tee 2 snp 23 microcode 84");
    assert!(verified.names_chip() && verified.provider().is_none() && verified.simulated());
    // The list ends before the certificates do, so no certificate of ours may outlive it.
    let soon = forge().list(&ListSpec { next: Some(NOW.plus(DAY)), ..ListSpec::default() });
    assert_eq!(with_list(soon, |_| ()).unwrap().collateral_expires(), NOW.plus(DAY));
}

#[test]
fn every_signed_byte_of_report_chain_and_list_counts() {
    let evidence = forge().report(&genoa(), |_| ());
    let collateral = Collateral::Amd(Box::new(forge().collateral(&genoa())));
    let found = sweep(&evidence, &collateral, &forge().policy(), NOW, Scope::Everything).unwrap();
    println!(
        "AMD under a root of its own: {} signed bytes changed one at a time, {} refused",
        found.tried, found.refused
    );
    assert_eq!(found.accepted, []);
    assert!(found.tried > 2_500);
}

#[test]
fn a_revocation_list_is_demanded_and_judged() {
    let list = |change: fn(&mut ListSpec)| {
        let mut spec = ListSpec::default();
        change(&mut spec);
        forge().list(&spec)
    };
    let check = |change: fn(&mut ListSpec), expected: AttestError| {
        assert_eq!(with_list(list(change), |_| ()).err(), Some(expected));
    };
    assert_eq!(with_list(None, |_| ()).err(), Some(AttestError::Missing { what: "AMD's revocation list" }));
    assert!(with_list(None, |policy| policy.snp.crl = Presence::IfPresent).is_ok());
    // A list that is there is judged whatever the policy says about its absence.
    let revoked = list(|spec| spec.revoked.push(ASK_SERIAL));
    let refused = Some(AttestError::Revoked { what: "ASK certificate" });
    assert_eq!(with_list(revoked.clone(), |_| ()).err(), refused);
    assert_eq!(with_list(revoked, |policy| policy.snp.crl = Presence::IfPresent).err(), refused);

    let what = "AMD CRL";
    check(|spec| spec.next = Some(NOW.minus(1)), AttestError::Expired { what });
    check(|spec| spec.issued = NOW.plus(1), AttestError::NotYetValid { what });
    check(|spec| spec.signed_by_ask = true, AttestError::BadSignature { what });
    check(
        |spec| spec.issuer = Some("CN=ARK-OTHER"),
        AttestError::BadChain { what, detail: "not by the root of the report's key".into() },
    );
    let malformed = |change: fn(&mut ListSpec)| {
        let refused = with_list(list(change), |_| ());
        assert!(matches!(refused, Err(AttestError::Malformed { what: "AMD CRL", .. })), "{refused:?}");
    };
    malformed(|spec| spec.next = None);
    malformed(|spec| spec.critical_extension = true);
    malformed(|spec| spec.number = vec![2, 6, 1, 0, 0, 0, 0, 0]);
    let old = list(|spec| spec.issued = NOW.minus(500 * DAY));
    let limit = 400 * DAY;
    assert_eq!(with_list(old.clone(), |_| ()).err(), Some(AttestError::RevocationListTooOld { age: 500 * DAY, limit }));
    assert!(with_list(old, |policy| policy.snp.max_crl_age = 500 * DAY).is_ok());

    let mut longer = list(|_| ());
    longer.push(0);
    assert!(matches!(
        with_list(longer, |_| ()),
        Err(AttestError::Malformed { .. } | AttestError::TrailingBytes { .. })
    ));
    let oversized = with_list(vec![0x30; MAX_COLLATERAL_PART + 1], |_| ());
    assert!(matches!(oversized, Err(AttestError::Oversized { what: "AMD CRL", .. })));
}

#[test]
fn a_chips_own_serial_number_is_not_looked_up() {
    // Every VCEK has serial number 0: a list that names 0 would revoke every chip there is.
    let list = forge().list(&ListSpec { revoked: vec![0], ..ListSpec::default() });
    assert!(with_list(list, |_| ()).is_ok());
}

#[test]
fn certificates_and_lists_may_come_as_pem_and_hex() {
    let mut collateral = forge().collateral(&genoa());
    let pem = |kind: &str, der: &[u8]| {
        use base64::Engine as _;
        let digits = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {kind}-----\n{digits}\n-----END {kind}-----\n").into_bytes()
    };
    let report = forge().report(&genoa(), |_| ());
    collateral.ask = pem("CERTIFICATE", &collateral.ask);
    collateral.vcek = pem("CERTIFICATE", &collateral.vcek);
    let list = collateral.crl.clone().unwrap();
    for form in [pem("X509 CRL", &list), hex::encode(&list).into_bytes()] {
        collateral.crl = Some(form);
        assert!(judge(&report, collateral.clone(), &forge().policy()).is_ok());
    }
    collateral.ask = [collateral.ask.clone(), collateral.ask.clone()].concat();
    let two = judge(&report, collateral, &forge().policy());
    assert!(matches!(two, Err(AttestError::Malformed { what: "ASK certificate", .. })), "{two:?}");
}

#[test]
fn an_older_list_than_one_seen_is_refused() {
    let evidence = forge().report(&genoa(), |_| ());
    let with_number = |number: u8| {
        let list = forge().list(&ListSpec { number: vec![2, 1, number], ..ListSpec::default() });
        Collateral::Amd(Box::new(forge().collateral_without_list(&genoa()).with_crl(list)))
    };
    let policy = forge().policy();
    let (_, seen) = verify_seen(&evidence, &with_number(8), &policy, NOW, &Seen::default()).unwrap();
    assert_eq!(
        verify_seen(&evidence, &with_number(7), &policy, NOW, &seen).err(),
        Some(AttestError::Downgrade { what: "AMD CRL", found: 7, minimum: 8 })
    );
    let (_, newer) = verify_seen(&evidence, &with_number(9), &policy, NOW, &seen).unwrap();
    assert_ne!(newer, seen);
    assert_eq!(newer.merge(&seen), newer);
}

#[test]
fn a_providers_key_names_no_chip_and_must_be_named_by_the_policy() {
    let key = forge().provider_key(Generation::Genoa);
    let accept = |policy: &mut Policy| policy.snp.vlek_providers = vec![PROVIDER.to_owned()];
    let of = |key: &KeySpec, change: fn(&mut Vec<u8>), demand: fn(&mut Policy)| {
        let mut policy = forge().policy();
        demand(&mut policy);
        judge(&forge().report(key, change), forge().collateral(key), &policy)
    };
    let refused = AttestError::ProviderNotAccepted { provider: PROVIDER.to_owned() };
    for preset in [Preset::Dev, Preset::Standard, Preset::High] {
        let policy = Policy { extra_roots: forge().policy().extra_roots, ..Policy::preset(preset) };
        assert_eq!(
            judge(&forge().report(&key, |_| ()), forge().collateral(&key), &policy).err(),
            Some(refused.clone())
        );
    }
    assert_eq!(of(&key, |_| (), |policy| policy.snp.vlek_providers = vec!["CN=other".into()]).err(), Some(refused));

    let verified = of(&key, |_| (), accept).unwrap();
    assert_eq!((verified.names_chip(), verified.provider()), (false, Some(PROVIDER)));
    assert_eq!(verified.confidence().level(), 3);
    // A chip id in the report is vouched for by nobody: two machines of the provider are one to us.
    let other = of(&key, |bytes| bytes[0x1a0..0x1e0].fill(9), accept).unwrap();
    assert_eq!(verified.chip(), other.chip());
    assert_ne!(verified.chip(), of_report(|_| (), |_| ()).unwrap().chip());

    // The list names the authority of providers' keys, too.
    let list = forge().list(&ListSpec { revoked: vec![ASVK_SERIAL], ..ListSpec::default() });
    let mut policy = forge().policy();
    accept(&mut policy);
    let revoked = judge(&forge().report(&key, |_| ()), forge().collateral_without_list(&key).with_crl(list), &policy);
    assert_eq!(revoked.err(), Some(AttestError::Revoked { what: "ASVK certificate" }));
}

#[test]
fn keys_of_chips_and_providers_do_not_pass_for_each_other() {
    let (chip, provider) = (genoa(), forge().provider_key(Generation::Genoa));
    let mut policy = forge().policy();
    policy.snp.vlek_providers = vec![PROVIDER.to_owned()];
    let of = |report: &KeySpec, collateral: &KeySpec| {
        let refused = judge(&forge().report(report, |_| ()), forge().collateral(collateral), &policy).err();
        let Some(AttestError::Malformed { what, detail }) = refused else { panic!("{refused:?}") };
        (what, detail)
    };
    assert_eq!(of(&chip, &provider), ("VCEK certificate", "it names a provider, a chip's key has none".into()));
    assert_eq!(of(&provider, &chip), ("VLEK certificate", "it names a chip, a provider's key has none".into()));
    let both = KeySpec { hardware_id: Some(vec![7; 64]), ..provider.clone() };
    let neither = KeySpec { provider: None, ..provider.clone() };
    assert_eq!(of(&provider, &both).0, "VLEK certificate");
    assert_eq!(of(&provider, &neither), ("VLEK certificate", "no provider".into()));
    assert_eq!(of(&chip, &neither), ("VCEK certificate", "no hardware id".into()));
    let short = KeySpec { hardware_id: Some(vec![7; 8]), ..chip.clone() };
    assert_eq!(of(&chip, &short), ("VCEK certificate", "the hardware id has a strange length".into()));
}

#[test]
fn another_chip_and_another_tcb_than_the_certificates_are_refused() {
    let judge_with = |key: &KeySpec, change: fn(&mut Vec<u8>)| {
        judge(&forge().report(key, change), forge().collateral(key), &forge().policy()).err()
    };
    let genoa = genoa();
    assert_eq!(judge_with(&genoa, |bytes| bytes[0x1a0] ^= 1), Some(AttestError::ChipMismatch));
    assert_eq!(judge_with(&genoa, |bytes| bytes[0x189] = 0x01), Some(AttestError::ChipMismatch), "Milan's number");
    assert_eq!(judge_with(&genoa, |bytes| bytes[0x188] = 0x18), Some(AttestError::ChipMismatch), "no EPYC");
    let lower: [(usize, &str); 4] = [(0x180, "bootloader"), (0x181, "tee"), (0x186, "snp"), (0x187, "microcode")];
    for (at, component) in lower {
        let report = forge().report(&genoa, |bytes| bytes[at] -= 1);
        let refused = judge(&report, forge().collateral(&genoa), &forge().policy()).err();
        assert_eq!(refused, Some(AttestError::TcbMismatch { component }));
    }
    let turin = forge().chip_key(Generation::Turin);
    let lower = [(0x180, "fmc"), (0x181, "bootloader"), (0x182, "tee"), (0x183, "snp"), (0x187, "microcode")];
    for (at, component) in lower {
        let report = forge().report(&turin, |bytes| bytes[at] -= 1);
        let refused = judge(&report, forge().collateral(&turin), &forge().policy()).err();
        assert_eq!(refused, Some(AttestError::TcbMismatch { component }), "Turin");
    }
    // Turin's chip id has eight bytes; what follows must be zero.
    assert_eq!(judge_with(&turin, |bytes| bytes[0x1a8] = 1), Some(AttestError::ChipMismatch));
    assert_eq!(judge_with(&turin, |_| ()), None);
}

#[test]
fn versions_of_firmware_in_a_report_hang_together() {
    let order = |change: fn(&mut Vec<u8>), lower, higher, component| {
        assert_eq!(of_report(change, |_| ()).err(), Some(AttestError::TcbOrder { lower, higher, component }));
    };
    order(|bytes| bytes[0x1e0] -= 1, "committed", "reported", "bootloader");
    order(|bytes| bytes[0x38 + 7] -= 1, "current", "committed", "microcode");
    order(|bytes| bytes[0x1ee] = 1, "current", "committed", "firmware version");
    // A platform that has committed to more than it reports, and a guest that was started before the last update.
    let committed = |bytes: &mut Vec<u8>| (bytes[0x1e7], bytes[0x3f]) = (85, 85);
    assert_eq!(
        of_report(committed, |_| ()).err(),
        Some(AttestError::TcbTooLow { policy: "standard".into(), status: TcbStatus::OutOfDate })
    );
    let started = of_report(|bytes| bytes[0x1f7] -= 1, |_| ()).unwrap();
    assert_eq!((started.tcb_status(), started.confidence().level()), (TcbStatus::TDRelaunchAdvised, 4));
    let high = of_report(|bytes| bytes[0x1f7] -= 1, |policy| policy.tcb.accept = vec![TcbStatus::UpToDate]);
    assert!(matches!(high, Err(AttestError::TcbTooLow { status: TcbStatus::TDRelaunchAdvised, .. })));
}

#[test]
fn a_minimum_of_firmware_holds_now_and_at_launch() {
    let least = SnpMinimum { class: HardwareClass::EpycGenoa, fmc: 0, bootloader: 10, tee: 2, snp: 23, microcode: 84 };
    assert!(of_report(|_| (), |policy| policy.tcb.snp_minimum = vec![least.clone()]).is_ok());
    let too_low = |change: fn(&mut Vec<u8>), raise: fn(&mut SnpMinimum)| {
        let mut least = least.clone();
        raise(&mut least);
        let refused = of_report(change, |policy| policy.tcb.snp_minimum = vec![least]);
        assert!(matches!(refused, Err(AttestError::TcbTooLow { .. })), "{refused:?}");
    };
    too_low(|_| (), |least| least.bootloader += 1);
    too_low(|_| (), |least| least.tee += 1);
    too_low(|_| (), |least| least.snp += 1);
    too_low(|_| (), |least| least.microcode += 1);
    too_low(|bytes| bytes[0x1f7] -= 1, |_| ());
    let turin = forge().chip_key(Generation::Turin);
    let mut policy = forge().policy();
    policy.tcb.snp_minimum = vec![SnpMinimum { class: HardwareClass::EpycTurin, fmc: 2, ..least }];
    let refused = judge(&forge().report(&turin, |_| ()), forge().collateral(&turin), &policy);
    assert!(matches!(refused, Err(AttestError::TcbTooLow { .. })), "{refused:?}");
}

#[test]
fn a_report_of_each_version_is_read() {
    for version in [2, 3, 4, 5] {
        let verified = of_report(
            |bytes| {
                bytes[0] = version;
                if version == 2 {
                    bytes[0x188..0x18b].fill(0);
                }
            },
            |_| (),
        );
        assert!(verified.is_ok(), "version {version}: {verified:?}");
    }
    for version in [0, 1, 6] {
        let refused = of_report(|bytes| bytes[0] = version, |_| ()).err();
        assert_eq!(refused, Some(AttestError::Unsupported { what: "report version", found: version.into() }));
    }
}

#[test]
fn what_no_policy_can_allow() {
    let everything = |policy: &mut Policy| {
        policy.snp.max_vmpl = 3;
        policy.tcb.accept = Policy::preset(Preset::Dev).tcb.accept;
    };
    assert_eq!(of_report(|bytes| bytes[0x0a] |= 1 << 3, everything).err(), Some(AttestError::Debug));
    let migrated = of_report(|bytes| bytes[0x0a] |= 1 << 2, everything);
    assert!(matches!(migrated, Err(AttestError::Attribute(_))), "{migrated:?}");
    assert_eq!(of_report(|bytes| bytes[0x48] = 0b10, everything).err(), Some(AttestError::MaskedChip));
    assert_eq!(of_report(|bytes| bytes[0x30] = 4, everything).err(), Some(AttestError::Vmpl { found: 4 }));
}

#[test]
fn each_demand_of_the_policy_refuses_by_name() {
    let pin = |byte: u8, length: usize| Pin::new(&vec![byte; length]).unwrap();
    // Vmpl.
    assert_eq!(of_report(|bytes| bytes[0x30] = 2, |_| ()).err(), Some(AttestError::Vmpl { found: 2 }));
    assert!(of_report(|bytes| bytes[0x30] = 2, |policy| policy.snp.max_vmpl = 2).is_ok());
    // Interface and guest version.
    let abi = |policy: &mut Policy| policy.snp.minimum_abi = (1, 31);
    assert!(of_report(|bytes| (bytes[0x09], bytes[0x08]) = (1, 31), abi).is_ok());
    for (major, minor) in [(1, 30), (0, 99), (0, 0)] {
        let refused = of_report(|bytes| (bytes[0x09], bytes[0x08]) = (major, minor), abi);
        assert!(matches!(refused, Err(AttestError::Demand { .. })), "{refused:?}");
    }
    let svn = |policy: &mut Policy| policy.snp.minimum_guest_svn = 3;
    assert!(of_report(|bytes| bytes[0x04] = 3, svn).is_ok());
    assert!(matches!(of_report(|bytes| bytes[0x04] = 2, svn), Err(AttestError::Demand { .. })));
    // Bits: the tables in the crate go through all of them.
    let hiding = |policy: &mut Policy| policy.snp.guest = vec![SnpGuestDemand::CiphertextHiding];
    assert!(of_report(|bytes| bytes[0x0b] |= 1, hiding).is_ok());
    assert_eq!(of_report(|_| (), hiding).err(), Some(AttestError::Demand { what: "a guest with ciphertext hiding" }));
    let alias = |policy: &mut Policy| policy.snp.platform = vec![SnpPlatformDemand::AliasCheck];
    assert!(of_report(|_| (), alias).is_ok());
    assert_eq!(
        of_report(|bytes| bytes[0x40] &= !(1 << 5), alias).err(),
        Some(AttestError::Demand { what: "a platform that looked for aliased memory" })
    );
    // Pins.
    type Pins = fn(&mut Policy) -> &mut Vec<Pin>;
    let pins: [(&str, usize, usize, Pins); 3] = [
        ("HOST_DATA", 0xc0, 32, |policy| &mut policy.snp.host_data),
        ("ID_KEY_DIGEST", 0xe0, 48, |policy| &mut policy.snp.id_keys),
        ("AUTHOR_KEY_DIGEST", 0x110, 48, |policy| &mut policy.snp.author_keys),
    ];
    for (register, at, length, field) in pins {
        let change = |bytes: &mut Vec<u8>| bytes[at..at + length].fill(5);
        assert!(of_report(change, |policy| *field(policy) = vec![pin(4, length), pin(5, length)]).is_ok());
        let found = hex::encode(vec![5; length]);
        assert_eq!(
            of_report(change, |policy| *field(policy) = vec![pin(4, length)]).err(),
            Some(AttestError::PinMismatch { register, found })
        );
    }
}

#[test]
fn a_chip_may_need_a_location() {
    let chip = of_report(|_| (), |_| ()).unwrap().chip();
    let at = |grade| Location { chip, grade, proof: "Proof of Cloud, entry 17".into() };
    let verified = of_report(|_| (), |policy| policy.chips.located = vec![at(2), at(1)]).unwrap();
    assert_eq!(verified.location_grade(), 2);
    let graded = |located: Vec<Location>| {
        of_report(|_| (), |policy| (policy.chips.located, policy.chips.minimum_grade) = (located, 2)).err()
    };
    assert_eq!(graded(vec![at(2)]), None);
    assert_eq!(graded(vec![at(1)]), Some(AttestError::LocationTooLow { found: 1, minimum: 2 }));
    assert_eq!(graded(vec![]), Some(AttestError::LocationTooLow { found: 0, minimum: 2 }));
}

#[test]
fn dates_of_the_chain_are_judged() {
    let evidence = forge().report(&genoa(), |_| ());
    let at = |now: UnixTime| {
        let collateral = Collateral::Amd(Box::new(forge().collateral_without_list(&genoa())));
        let mut policy = forge().policy();
        policy.snp.crl = Presence::IfPresent;
        verify(&evidence, &collateral, &policy, now).err()
    };
    assert_eq!(at(NOW.plus(300 * DAY)), None);
    assert_eq!(at(NOW.plus(300 * DAY + 1)), Some(AttestError::Expired { what: "ARK certificate" }));
    assert_eq!(at(NOW.minus(300 * DAY + 1)), Some(AttestError::NotYetValid { what: "ARK certificate" }));
}
