//! SEV-SNP guests.

use std::path::Path;
use std::sync::OnceLock;

use tacit_attest::sweep::{Scope, sweep};
use tacit_attest::{
    AttestError, Collateral, Evidence, HardwareClass, Platform, Policy, Preset, SnpMinimum, TcbStatus,
    VerifiedEvidence, verify,
};
use tacit_types::ChipId;

use super::{Bench, DATA, EXECUTABLE, NOW, vendors_refuse};
use crate::machine::Attester;
use crate::snp::Guest;
use crate::{
    AmdRoot, Bulletin, EndorsementKey, Flaws, Generation, Hardware, Machine, RevocableAuthority, Root, Setup,
    SimulatorError,
};

const GENOA: Hardware = Hardware::SevSnp { generation: Generation::Genoa, key: EndorsementKey::Vcek };
const TURIN: Hardware = Hardware::SevSnp { generation: Generation::Turin, key: EndorsementKey::Vcek };

/// One of two networks whose AMD keys, which take seconds to make, serve every test.
fn root(which: usize) -> Root {
    static FOLDERS: [OnceLock<tempfile::TempDir>; 2] = [OnceLock::new(), OnceLock::new()];
    let folder = FOLDERS[which].get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        Root::create(&folder.path().join("root"), "test-sim", NOW).unwrap().with_amd(NOW).unwrap();
        folder
    });
    Root::open(&folder.path().join("root")).unwrap()
}

fn bench(hardware: Hardware, flaws: Flaws) -> Bench {
    Bench::under_root(tempfile::tempdir().unwrap(), root(0), hardware, flaws)
}

fn genoa() -> Bench {
    bench(GENOA, Flaws::default())
}

/// A machine of a cloud operator, under a policy that accepts the operator.
fn provider(hardware: Hardware) -> Bench {
    let mut bench = bench(hardware, Flaws::default());
    bench.policy.snp.vlek_providers = vec![AmdRoot::PROVIDER.into()];
    bench
}

fn of_guest(bench: &Bench, change: impl FnOnce(&mut Guest)) -> Result<VerifiedEvidence, AttestError> {
    let Attester::Amd(processor) = &bench.machine.attester else { panic!("not an AMD machine") };
    let mut guest = processor.guest();
    change(&mut guest);
    let report = processor.report_of(&guest, &bench.machine.guest().launch(EXECUTABLE), &DATA);
    verify(&Evidence::sev_snp(report).unwrap(), &bench.collateral(), &bench.policy, NOW)
}

#[test]
fn guests_of_both_generations_are_verified_under_their_own_root_alone() {
    for (hardware, class) in [(GENOA, HardwareClass::EpycGenoa), (TURIN, HardwareClass::EpycTurin)] {
        let bench = bench(hardware, Flaws::default());
        let verified = bench.verified();
        assert!(verified.simulated());
        assert_eq!((verified.platform(), verified.hardware_class()), (Platform::SevSnp, class));
        assert_eq!(verified.root(), bench.machine.root().amd().unwrap().id());
        assert_eq!(verified.root_name(), "SIM test-amd");
        assert_eq!(verified.measurement(), bench.measurement());
        assert_eq!(verified.report_data(), &DATA);
        assert_eq!(verified.tcb_status(), TcbStatus::UpToDate);
        vendors_refuse(&bench);
        // The other network's root has the same names, and another key.
        let other = Policy::preset(Preset::Dev).with_root(root(1).amd().unwrap().policy_entry("other").unwrap());
        let refused = verify(&bench.evidence(), &bench.collateral(), &other, NOW);
        assert_eq!(refused, Err(AttestError::BadSignature { what: "ASK certificate" }));
        // The Intel part of the same network does not vouch for AMD machines.
        let intel = Policy::preset(Preset::Dev).with_root(root(0).policy_entry("intel").unwrap());
        let refused = verify(&bench.evidence(), &bench.collateral(), &intel, NOW);
        assert!(matches!(refused, Err(AttestError::WrongRoot { .. })), "{refused:?}");
    }
}

#[test]
fn every_signed_byte_of_a_simulated_report_counts() {
    let bench = genoa();
    let result = sweep(&bench.evidence(), &bench.collateral(), &bench.policy, NOW, Scope::Document).unwrap();
    println!("simulated SNP v3: {} signed bytes changed one at a time, {} refused", result.tried, result.refused);
    assert_eq!(result.accepted, []);
    assert!(result.tried > 700);
}

#[test]
fn a_guest_set_up_badly_or_another_chip_is_refused_by_name() {
    for hardware in [GENOA, TURIN] {
        let bench = bench(hardware, Flaws::default());
        let check = |change: fn(&mut Guest), expected: AttestError| assert_eq!(of_guest(&bench, change), Err(expected));
        assert!(of_guest(&bench, |_| ()).is_ok());
        check(|guest| guest.policy |= 1 << 19, AttestError::Debug);
        check(|guest| guest.policy |= 1 << 18, AttestError::Attribute("a migration agent may move the guest".into()));
        check(|guest| guest.policy &= !(1 << 17), AttestError::Attribute("guest policy 0x10000".into()));
        check(|guest| guest.vmpl = 1, AttestError::Vmpl { found: 1 });
        check(|guest| guest.key_info = 2, AttestError::MaskedChip);
        check(|guest| guest.chip_id = [0; 64], AttestError::MaskedChip);
        check(|guest| guest.chip_id[0] ^= 1, AttestError::ChipMismatch);
        check(|guest| guest.processor = [0x19, 0x01, 1], AttestError::ChipMismatch);
        check(|guest| guest.reported_tcb[7] -= 1, AttestError::TcbMismatch { component: "microcode" });
    }
}

#[test]
fn flaws_and_policies_are_judged_by_the_production_path() {
    let debug = bench(GENOA, Flaws { debug: true, ..Flaws::default() });
    assert_eq!(debug.result(), Err(AttestError::Debug));
    let old = bench(TURIN, Flaws { old_firmware: true, ..Flaws::default() });
    assert_eq!(old.result().unwrap().tcb_status(), TcbStatus::OutOfDate);
    let bench = genoa();
    let minimum =
        |microcode| SnpMinimum { class: HardwareClass::EpycGenoa, fmc: 0, bootloader: 9, tee: 0, snp: 23, microcode };
    assert!(bench.under(|policy| policy.tcb.snp_minimum = vec![minimum(72)]).is_ok());
    assert_eq!(
        bench.under(|policy| policy.tcb.snp_minimum = vec![minimum(73)]),
        Err(AttestError::TcbTooLow { policy: "dev".into(), status: TcbStatus::UpToDate })
    );
    assert_eq!(
        bench.under(|policy| policy.denied_classes = vec![HardwareClass::EpycGenoa]),
        Err(AttestError::HardwareClassDenied { policy: "dev".into(), class: HardwareClass::EpycGenoa })
    );
    let chip = bench.verified().chip();
    assert_eq!(
        bench.under(|policy| policy.chips.deny = vec![chip]),
        Err(AttestError::ChipDenied { chip: chip.to_string() })
    );
    assert!(bench.under(|policy| policy.chips.deny = vec![ChipId::from([1; 32])]).is_ok());
}

#[test]
fn a_cloud_operators_key_vouches_for_the_operator_and_for_no_chip() {
    let vlek = Hardware::SevSnp { generation: Generation::Genoa, key: EndorsementKey::Vlek };
    let (bench, other) = (provider(vlek), provider(vlek));
    let verified = bench.verified();
    assert_eq!(
        bench.under(|policy| policy.snp.vlek_providers.clear()),
        Err(AttestError::ProviderNotAccepted { provider: AmdRoot::PROVIDER.into() })
    );
    assert!(verified.simulated());
    assert_eq!(verified.hardware_class(), HardwareClass::EpycGenoa);
    assert_ne!(bench.machine.chip(), other.machine.chip());
    assert_eq!(verified.chip(), other.verified().chip());
    assert_ne!(verified.chip(), genoa().verified().chip());
    vendors_refuse(&bench);
    // A report that claims the chip's own key is not signed by one.
    let refused = of_guest(&bench, |guest| guest.key_info = 0);
    assert!(matches!(refused, Err(AttestError::Malformed { what: "VCEK certificate", .. })), "{refused:?}");
}

#[test]
fn a_revoked_authority_takes_its_own_keys_with_it() {
    let vlek = Hardware::SevSnp { generation: Generation::Genoa, key: EndorsementKey::Vlek };
    let (chip, provider) = (genoa(), provider(vlek));
    let of = |bench: &Bench, authority| bench.of_bulletin(|bulletin| bulletin.revoked_authorities = vec![authority]);
    assert_eq!(of(&chip, RevocableAuthority::Ask), Err(AttestError::Revoked { what: "ASK certificate" }));
    assert!(of(&chip, RevocableAuthority::Asvk).is_ok());
    assert_eq!(of(&provider, RevocableAuthority::Asvk), Err(AttestError::Revoked { what: "ASVK certificate" }));
    assert!(of(&provider, RevocableAuthority::Ask).is_ok());
    assert_eq!(
        chip.of_bulletin(|bulletin| (bulletin.issued, bulletin.lifetime) = (Some(NOW.minus(90)), 89)),
        Err(AttestError::Expired { what: "AMD CRL" })
    );
    assert_eq!(
        chip.of_bulletin(|bulletin| bulletin.issued = Some(NOW.plus(60))),
        Err(AttestError::NotYetValid { what: "AMD CRL" })
    );
    // A list by the other network's root.
    let Collateral::Amd(mut collateral) = chip.collateral() else { panic!("not AMD") };
    collateral.crl = Some(root(1).amd().unwrap().revocation_list(&Bulletin::default(), NOW).unwrap());
    let refused = verify(&chip.evidence(), &Collateral::Amd(collateral), &chip.policy, NOW);
    assert_eq!(refused, Err(AttestError::BadSignature { what: "AMD CRL" }));
}

#[test]
fn the_certificates_of_another_chip_are_refused() {
    let (bench, other) = (genoa(), genoa());
    let refused = verify(&bench.evidence(), &other.collateral(), &bench.policy, NOW);
    assert_eq!(refused, Err(AttestError::BadSignature { what: "SEV-SNP report" }));
    let tdx = Bench::new(Hardware::Tdx, Flaws::default());
    let refused = verify(&bench.evidence(), &tdx.collateral(), &bench.policy, NOW);
    assert!(matches!(refused, Err(AttestError::CollateralMismatch { .. })), "{refused:?}");
}

#[test]
fn a_machine_keeps_its_hardware_and_needs_a_root_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let open = |root: Root, directory: &Path, hardware: Hardware| {
        Machine::open_as(directory, root, &Setup { hardware, ..Setup::default() }, NOW)
    };
    let plain = || Root::open_or_create(&folder.path().join("root"), "test-sim", NOW).unwrap();
    let refused = open(plain(), &folder.path().join("a"), GENOA).err();
    assert!(matches!(refused, Some(SimulatorError::NoAmdRoot { .. })), "{refused:?}");
    let machine = open(root(0), &folder.path().join("b"), GENOA).unwrap();
    assert_eq!(machine.chip().len(), 128);
    let refused = open(root(0), &folder.path().join("b"), TURIN).err();
    assert!(matches!(refused, Some(SimulatorError::OtherHardware { .. })), "{refused:?}");
    assert_eq!(open(root(0), &folder.path().join("b"), GENOA).unwrap().chip(), machine.chip());
}
