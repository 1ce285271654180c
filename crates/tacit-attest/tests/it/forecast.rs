//! Forecasts on Intel's real documents and on made-up machines.

use tacit_attest::forecast::*;
use tacit_attest::*;
use tacit_types::UnixTime;

use crate::evidence::{of_samples, sample};

fn documents(name: &str) -> (TcbInfo, QeIdentity) {
    let Collateral::Intel(collateral) = sample(name).unwrap().collateral else { panic!("an Intel sample") };
    (TcbInfo::parse(&collateral.tcb_info).unwrap(), QeIdentity::parse(&collateral.qe_identity).unwrap())
}

fn profile(name: &str) -> MachineProfile {
    let sample = sample(name).unwrap();
    let Collateral::Intel(collateral) = &sample.collateral else { panic!("an Intel sample") };
    MachineProfile::of_quote(name, &sample.evidence, Some(collateral)).unwrap()
}

#[test]
fn a_forecast_says_of_today_what_the_verifier_says() {
    for name in ["intel-tdx-v4", "intel-tdx-v5", "intel-sgx-v3"] {
        let sample = sample(name).unwrap();
        let verified = verify(&sample.evidence, &sample.collateral, &of_samples(Preset::Dev), sample.at).unwrap();
        let (info, identity) = documents(name);
        let found = forecast(&profile(name), &info, Some(&identity)).unwrap();
        assert_eq!(found.standing, Standing::Status(verified.tcb_status()), "{name}");
        assert_eq!(found.advisories, verified.advisories(), "{name}");
        assert_eq!(Some(found.evaluation_number), verified.evaluation_number(), "{name}");
    }
    // And a machine that the verifier refuses as below every level is that here.
    let (info, identity) = documents("intel-tdx-v5-old");
    let old = forecast(&profile("intel-tdx-v5-old"), &info, Some(&identity)).unwrap();
    assert_eq!(old.standing, Standing::BelowEveryLevel);
    assert!(!old.shortfalls.is_empty());
}

#[test]
fn the_next_documents_tell_what_to_update() {
    // The documents of 2025 and of 2026 are about one family: the newer ones are the machine's future.
    let machine = profile("intel-tdx-v4");
    let (now, _) = documents("intel-tdx-v4");
    let (next, next_qe) = documents("intel-tdx-v5");
    assert!(now.evaluation_number() < next.evaluation_number());
    assert_eq!(forecast(&machine, &now, None).unwrap().standing, Standing::Status(TcbStatus::UpToDate));
    let found = forecast(&machine, &next, Some(&next_qe)).unwrap();
    println!("{}", serde_json::to_string_pretty(&found).unwrap());
    assert_eq!(found.standing, Standing::Status(TcbStatus::OutOfDate));
    let short = |component: &str| found.shortfalls.iter().find(|short| short.component == component);
    let early = short("sgx 0").unwrap();
    assert_eq!((early.have, early.needs, early.short_by, early.raised_by), (3, 4, 1, Update::Microcode));
    assert_eq!(early.category.as_deref(), Some("BIOS"));
    assert_eq!(short("sgx 1").unwrap().category.as_deref(), Some("OS/VMM"));
    assert_eq!(short("pce"), None);
    assert_eq!(found.newest_level_date, "2025-08-13T00:00:00Z");
    assert!(found.closes.contains(&"INTEL-SA-01192".to_owned()) && found.closes == found.advisories);
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["standing"], "OutOfDate");
    assert_eq!(json["shortfalls"][0]["raisedBy"], "microcode");
    assert_eq!(json["shortfalls"][0]["shortBy"], 1);
    assert_eq!(json["shortfalls"][0]["type"], "Early Microcode Update");
}

#[test]
fn each_component_names_what_raises_it() {
    let (info, identity) = documents("intel-tdx-v5");
    let good = profile("intel-tdx-v5");
    assert_eq!(forecast(&good, &info, Some(&identity)).unwrap().shortfalls, []);
    let lacking = |change: fn(&mut MachineProfile)| {
        let mut machine = good.clone();
        change(&mut machine);
        let mut found = forecast(&machine, &info, Some(&identity)).unwrap().shortfalls;
        assert_eq!(found.len(), 1, "{found:?}");
        let short = found.remove(0);
        (short.component, short.raised_by)
    };
    let zero = |machine: &mut MachineProfile, at: usize| machine.cpu_svn[at] = 0;
    assert_eq!(lacking(|machine| machine.cpu_svn[0] = 3), ("sgx 0".into(), Update::Microcode));
    assert_eq!(lacking(|machine| machine.cpu_svn[2] = 0), ("sgx 2".into(), Update::CodeModule));
    assert_eq!(lacking(|machine| machine.cpu_svn[3] = 0), ("sgx 3".into(), Update::Bios));
    assert_eq!(lacking(|machine| machine.cpu_svn[7] = 0), ("sgx 7".into(), Update::CodeModule));
    assert_eq!(lacking(|machine| machine.pce_svn = 10), ("pce".into(), Update::ProvisioningEnclave));
    assert_eq!(lacking(|machine| machine.qe_isv_svn = Some(3)), ("qe".into(), Update::QuotingEnclave));
    assert_eq!(
        lacking(|machine| machine.tee_tcb_svn =
            machine.tee_tcb_svn.map(|svn| [&[1], &svn[1..]].concat().try_into().unwrap())),
        ("tdx-module".into(), Update::TdxModule)
    );
    let mut machine = good.clone();
    zero(&mut machine, 4);
    assert_eq!(forecast(&machine, &info, None).unwrap().standing, Standing::BelowEveryLevel);
    machine = good.clone();
    machine.tee_tcb_svn = Some([9; 16]);
    assert_eq!(forecast(&machine, &info, None).unwrap().standing, Standing::BelowEveryLevel, "an unknown module");
}

#[test]
fn a_forecast_needs_the_right_document() {
    let (tdx, _) = documents("intel-tdx-v4");
    let (sgx, _) = documents("intel-sgx-v3");
    let machine = profile("intel-tdx-v4");
    assert_eq!(forecast(&machine, &sgx, None), Err(AttestError::WrongTcbInfo { expected: "TDX", found: "SGX".into() }));
    let mut other = machine.clone();
    other.fmspc[0] ^= 1;
    assert_eq!(forecast(&other, &tdx, None), Err(AttestError::FmspcMismatch));
    for text in ["", "{}", "[]", r#"{"tcbInfo":1}"#, &"[".repeat(10_000)] {
        assert!(TcbInfo::parse(text).is_err() && QeIdentity::parse(text).is_err(), "{text:.20}");
    }
}

#[test]
fn a_rehearsal_tells_which_machines_fall_out() {
    // INTEL-SA-01421 in August 2026 took 7 of 22 nodes out overnight. Here is what would have told a month before.
    let (next, next_qe) = documents("intel-tdx-v5");
    let documents = [(next, Some(next_qe))];
    let (current, updated) = (profile("intel-tdx-v4"), profile("intel-tdx-v5"));
    let mut fleet: Vec<MachineProfile> = (0..22)
        .map(|index| {
            let machine = if index < 7 { &current } else { &updated };
            MachineProfile { name: format!("node-{index}"), ..machine.clone() }
        })
        .collect();
    fleet.push(profile("intel-sgx-v3"));
    let mut policy = of_samples(Preset::Standard);
    let at = UnixTime(1_790_000_000);
    let found = rehearse(&fleet, &documents, &policy, at);
    assert_eq!(
        (found.stays.len(), found.falls.len(), found.unjudged.as_slice()),
        (15, 7, ["intel-sgx-v3".to_owned()].as_slice())
    );
    assert_eq!(found.falls[0].forecast.machine, "node-0");
    assert_eq!(found.falls[0].reason, "TCB status OutOfDate is below what policy `standard` accepts");
    // A dated grace keeps them for a while, a denied advisory does not.
    policy.tcb.grace = vec![Grace { status: TcbStatus::OutOfDate, until: at }];
    assert_eq!(rehearse(&fleet, &documents, &policy, at).falls.len(), 0);
    assert_eq!(rehearse(&fleet, &documents, &policy, at.plus(1)).falls.len(), 7);
    policy.tcb.denied_advisories = vec!["INTEL-SA-01192".into()];
    let denied = rehearse(&fleet, &documents, &policy, at);
    assert_eq!(denied.falls[6].reason, "advisory INTEL-SA-01192 applies and is denied");
}

#[test]
fn a_profile_survives_a_file() {
    let machine = profile("intel-tdx-v5");
    let json = serde_json::to_string(&machine).unwrap();
    assert_eq!(serde_json::from_str::<MachineProfile>(&json).unwrap(), machine);
    println!("{json}");
    // The certificate alone tells less: no module, no quoting enclave.
    let Collateral::Intel(collateral) = sample("intel-tdx-v5").unwrap().collateral else { panic!("an Intel sample") };
    let chain = collateral.pck_certificate_chain.unwrap();
    let leaf = chain.split_inclusive("-----END CERTIFICATE-----").next().unwrap();
    let alone = MachineProfile::of_certificate("intel-tdx-v5", Platform::Tdx, leaf.as_bytes()).unwrap();
    assert_eq!(alone, MachineProfile { tee_tcb_svn: None, qe_isv_svn: None, ..machine });
}
