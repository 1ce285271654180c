//! Fetching, keeping and renewing.

use std::{path::PathBuf, time::Duration};

use tacit_attest::{AttestError, Collateral, Evidence, HardwareClass, Policy, Presence, Preset, verify};
use tacit_peer::{PeerError, Update};
use tacit_types::UnixTime;

use crate::vendor::{Answer, NOW, Simulated, Vendor};

const DAY: u64 = 86_400;

#[tokio::test]
async fn what_is_fetched_verifies_and_is_kept() {
    let (simulated, vendor) = (Simulated::new(), Vendor::start().await);
    vendor.publish(&simulated, NOW, "standard");
    let cache = vendor.cache();
    let evidence = simulated.quote(&[1; 64]);
    assert!(cache.kept(&evidence, NOW).is_none(), "nothing was fetched yet, and looking fetches nothing");
    assert_eq!(vendor.asked(), 0);

    let collateral = cache.obtain(&evidence, NOW).await.unwrap();
    assert_eq!(*collateral, simulated.machine.collateral(NOW).unwrap(), "byte for byte as the vendor signed it");
    verify(&evidence, &collateral, &simulated.policy, NOW).unwrap();
    let asked = vendor.asked();
    assert_eq!(asked, 4);
    cache.obtain(&simulated.quote(&[2; 64]), NOW).await.unwrap();
    assert!(cache.kept(&evidence, NOW).is_some());
    assert_eq!(vendor.asked(), asked, "one platform family is fetched once");
}

#[tokio::test]
async fn many_who_ask_at_once_cause_one_fetch() {
    let (simulated, vendor) = (Simulated::new(), Vendor::start().await);
    vendor.publish(&simulated, NOW, "standard");
    let cache = vendor.cache();
    let evidence = simulated.quote(&[1; 64]);
    let askers: Vec<_> = (0..32)
        .map(|_| {
            let (cache, evidence) = (cache.clone(), evidence.clone());
            tokio::spawn(async move { cache.obtain(&evidence, NOW).await.map(drop) })
        })
        .collect();
    for asker in askers {
        asker.await.unwrap().unwrap();
    }
    assert_eq!(vendor.asked(), 4);
}

#[tokio::test]
async fn it_is_renewed_before_it_expires_and_serves_until_then() {
    let (simulated, vendor) = (Simulated::new(), Vendor::start().await);
    vendor.publish(&simulated, NOW, "standard");
    let cache = vendor.cache();
    let evidence = simulated.quote(&[1; 64]);
    let first = cache.obtain(&evidence, NOW).await.unwrap();
    cache.renew_due(NOW.plus(6 * DAY)).await;
    assert_eq!(vendor.asked(), 4, "not due after six days");

    // Due after a week: new documents are there.
    let week = NOW.plus(7 * DAY);
    vendor.publish(&simulated, week, "standard");
    cache.renew_due(week).await;
    assert_eq!(vendor.asked(), 8);
    let second = cache.kept(&evidence, week).unwrap();
    assert_ne!(first, second);

    // From now on the service is down: what is kept serves until the vendor's own date, then nothing does.
    vendor.answers.lock().unwrap().clear();
    let late = week.plus(29 * DAY);
    cache.renew_due(late).await;
    assert_eq!(cache.obtain(&evidence, late).await.unwrap(), second);
    let over = week.plus(31 * DAY);
    assert!(cache.kept(&evidence, over).is_none());
    let error = cache.obtain(&evidence, over).await.unwrap_err();
    assert!(matches!(error, PeerError::Status { status: 404, .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("does not know this platform"), "{text}");
}

#[tokio::test]
async fn a_service_that_refuses_is_left_alone_for_a_while() {
    let (simulated, vendor) = (Simulated::new(), Vendor::start().await);
    let cache = vendor.cache();
    let evidence = simulated.quote(&[1; 64]);
    let pck_crl = "/sgx/certification/v4/pckcrl?ca=platform&encoding=der";
    vendor.set(pck_crl, Answer::status(429));
    let refused = cache.obtain(&evidence, NOW).await.unwrap_err();
    assert!(matches!(refused, PeerError::Status { status: 429, .. }), "{refused:?}");
    vendor.publish(&simulated, NOW, "standard");
    let waiting = cache.obtain(&evidence, NOW.plus(4)).await.unwrap_err();
    assert!(matches!(waiting, PeerError::Waiting { at, .. } if at == NOW.plus(5)), "{waiting:?}");
    assert_eq!(vendor.asked(), 1);
    cache.obtain(&evidence, NOW.plus(5)).await.unwrap();
}

#[tokio::test]
async fn answers_of_another_shape_are_refused_by_name() {
    let simulated = Simulated::new();
    let pck_crl = "/sgx/certification/v4/pckcrl?ca=platform&encoding=der";
    let check = async |change: &dyn Fn(&mut Answer), expected: &str| {
        let vendor = Vendor::start().await;
        vendor.publish(&simulated, NOW, "standard");
        change(vendor.answers.lock().unwrap().get_mut(pck_crl).unwrap());
        let error = vendor.cache().obtain(&simulated.quote(&[1; 64]), NOW).await.unwrap_err();
        let text = format!("{error}: {}", std::error::Error::source(&error).map_or(String::new(), ToString::to_string));
        assert!(text.contains(expected), "{text} does not contain {expected}");
    };
    check(&|answer| answer.headers.clear(), "no issuer chain").await;
    check(&|answer| answer.headers[0].1 = "%f".into(), "not percent-encoded").await;
    check(&|answer| answer.body = b"<html>".to_vec(), "a revocation list in an unknown form").await;
    check(&|answer| answer.body = vec![0x30; (1 << 20) + 1], "more than 1048576 bytes").await;
    check(&|answer| answer.status = 503, "status 503").await;
    check(&|answer| answer.delay = Duration::from_secs(10), "cannot be reached").await;
}

#[tokio::test]
async fn a_service_that_lies_can_only_withhold() {
    let (simulated, other, vendor) = (Simulated::new(), Simulated::new(), Vendor::start().await);
    // Another vendor's documents under the right addresses.
    vendor.publish(&other, NOW, "standard");
    let evidence = simulated.quote(&[1; 64]);
    let collateral = vendor.cache().obtain(&evidence, NOW).await.unwrap();
    let refused = verify(&evidence, &collateral, &simulated.policy, NOW).unwrap_err();
    assert!(matches!(refused, AttestError::WrongRoot { .. }), "{refused:?}");
}

#[tokio::test]
async fn the_early_edition_is_another_document() {
    let (simulated, vendor) = (Simulated::new(), Vendor::start().await);
    vendor.publish(&simulated, NOW, "standard");
    vendor.publish(&simulated, NOW.plus(DAY), "early");
    let cache = vendor.cache();
    let evidence = simulated.quote(&[1; 64]);
    let standard = cache.edition(&evidence, Update::Standard).await.unwrap();
    let early = cache.edition(&evidence, Update::Early).await.unwrap();
    assert_ne!(standard, early);
}

#[tokio::test]
async fn manifests_and_certificate_status_are_fetched() {
    let vendor = Vendor::start().await;
    let cache = vendor.cache();
    vendor.set("/v1/rim/NV_GPU_1", Answer::ok(r#"{"id":"NV_GPU_1","rim":"cmlt","sha256":""}"#));
    assert_eq!(cache.manifest("NV_GPU_1").await.unwrap(), b"rim");
    vendor.set("/v1/rim/NV_GPU_2", Answer::ok(r#"{"id":"NV_GPU_1","rim":"cmlt"}"#));
    assert!(cache.manifest("NV_GPU_2").await.is_err());
    let before = vendor.asked();
    for name in ["", "../x", "a b", &"a".repeat(129)] {
        assert!(matches!(cache.manifest(name).await, Err(PeerError::NotPublished(_))), "{name}");
    }
    assert_eq!(vendor.asked(), before);
    vendor.set("/ocsp", Answer::ok("status of "));
    assert_eq!(cache.certificate_status(b"this".to_vec()).await.unwrap(), b"status of this");
}

/// A real AMD report, whose chip AMD's own service would be asked about.
#[tokio::test]
async fn amds_service_is_asked_for_the_reports_own_chip() {
    let folder = evidence_folder();
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap_or_else(|_| panic!("{name}: run `make evidence`"));
    let evidence = Evidence::sev_snp(read("amd-genoa.bin")).unwrap();
    let report = evidence.document();
    let tcb = &report[0x180..0x188];
    let path = format!(
        "/vcek/v1/Genoa/{}?blSPL={:02}&teeSPL={:02}&snpSPL={:02}&ucodeSPL={:02}",
        hex::encode(&report[0x1a0..0x1e0]),
        tcb[0],
        tcb[1],
        tcb[6],
        tcb[7]
    );
    let vendor = Vendor::start().await;
    vendor.set(&path, Answer::ok(der(&read("amd-genoa.vcek.pem"))));
    vendor.set("/vcek/v1/Genoa/cert_chain", Answer::ok(read("amd-genoa.ask.pem")));
    vendor.set("/vcek/v1/Genoa/crl", Answer::ok("AMD's list"));
    let cache = vendor.cache();
    // 2026-02-06: within the life of its certificates.
    let at = UnixTime(1_770_379_200);
    let collateral = cache.obtain(&evidence, at).await.unwrap();
    let Collateral::Amd(mut amd) = (*collateral).clone() else { panic!("not AMD's") };
    assert_eq!(amd.crl.take().as_deref(), Some(&b"AMD's list"[..]));
    // A list that AMD signed is not at hand; everything else is judged without one.
    let mut policy = Policy::preset(Preset::Dev);
    policy.snp.crl = Presence::IfPresent;
    let verified = verify(&evidence, &Collateral::Amd(amd), &policy, at).unwrap();
    assert_eq!(verified.hardware_class(), HardwareClass::EpycGenoa);
}

fn evidence_folder() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache")).join("tacit/evidence")
}

fn der(pem: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    let text = std::str::from_utf8(pem).unwrap();
    let body = text.split("-----").nth(2).unwrap();
    let digits: String = body.split_ascii_whitespace().collect();
    base64::prelude::BASE64_STANDARD.decode(digits).unwrap()
}
