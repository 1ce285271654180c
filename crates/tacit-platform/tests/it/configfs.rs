//! The kernel's report interface, played by a thread: each file of an entry is a pipe, so that driver and kernel take turns.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tacit_attest::{AmdCollateral, Collateral, Evidence, Platform};
use tacit_platform::{ConfigfsTsm, Driver, PlatformError};

const DATA: [u8; 64] = [7; 64];

/// Which guest the thread plays, and what it does wrong.
#[derive(Clone, Copy, PartialEq)]
enum Kernel {
    Tdx,
    Sev,
    Unknown,
    OtherData,
    Races,
    /// The first entry is disturbed, the second is not.
    RacesOnce,
    /// Runs below privilege level 0, and has certificates.
    SevBelow,
    StrangeLevel,
}

/// Plays the kernel for one entry below `reports`, and says how the driver answered.
fn play(kernel: Kernel, reports: &Path) {
    let seen = &mut Vec::new();
    match kernel {
        Kernel::Races => (0..3).for_each(|_| play_entry(kernel, reports, seen)),
        Kernel::RacesOnce => {
            play_entry(Kernel::Races, reports, seen);
            play_entry(Kernel::Tdx, reports, seen);
        }
        other => play_entry(other, reports, seen),
    }
}

fn play_entry(kernel: Kernel, reports: &Path, seen: &mut Vec<PathBuf>) {
    let entry = wait_for(|| {
        let mut entries = std::fs::read_dir(reports).ok()?.flatten().map(|entry| entry.path());
        entries.find(|entry| !seen.contains(entry))
    });
    seen.push(entry.clone());
    let (provider, size, at) = match kernel {
        Kernel::Sev | Kernel::SevBelow => ("sev_guest", 1184, 0x50),
        Kernel::Unknown => ("new_guest", 700, 0),
        _ => ("tdx_guest", 700, 48 + 520),
    };
    std::fs::write(entry.join("provider"), format!("{provider}\n")).unwrap();
    let floor = match kernel {
        Kernel::SevBelow => Some("2"),
        Kernel::StrangeLevel => Some("two"),
        _ => None,
    };
    if let Some(floor) = floor {
        std::fs::write(entry.join("privlevel_floor"), format!("{floor}\n")).unwrap();
        std::fs::write(entry.join("privlevel"), "").unwrap();
    }
    if kernel == Kernel::SevBelow {
        std::fs::write(entry.join("auxblob"), certificate_table()).unwrap();
    }
    // The driver waits for the input file, so that comes last.
    for pipe in ["generation", "outblob", "inblob"] {
        assert!(Command::new("mkfifo").arg(entry.join(pipe)).status().unwrap().success());
    }
    if kernel == Kernel::StrangeLevel {
        return;
    }
    let data = std::fs::read(entry.join("inblob")).unwrap();
    if kernel == Kernel::SevBelow {
        assert_eq!(std::fs::read_to_string(entry.join("privlevel")).unwrap(), "2");
    }
    let mut document = vec![0; size];
    (document[0], document[2]) = if provider == "sev_guest" { (3, 0) } else { (4, 2) };
    document[at..at + 64].copy_from_slice(&data);
    if kernel == Kernel::OtherData {
        document[at] ^= 1;
    }
    std::fs::write(entry.join("generation"), "1\n").unwrap();
    std::fs::write(entry.join("outblob"), document).unwrap();
    std::fs::write(entry.join("generation"), if kernel == Kernel::Races { "2\n" } else { "1\n" }).unwrap();
}

/// A table with one certificate of an authority and one of a chip.
fn certificate_table() -> Vec<u8> {
    let mut table = Vec::new();
    let guids = ["4ab7b379bbac4fe4a02f05aef327c782", "63da758de6644564adc5f4b93be8accd"];
    for (guid, offset) in guids.into_iter().zip([72u32, 75]) {
        table.extend(hex::decode(guid).unwrap());
        table.extend(offset.to_le_bytes());
        table.extend(3u32.to_le_bytes());
    }
    table.extend([0; 24]);
    table.extend(*b"askvek");
    table
}

fn wait_for<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "waited in vain");
        std::thread::sleep(Duration::from_millis(1));
    }
}

async fn quote(kernel: Kernel) -> Result<Evidence, PlatformError> {
    ask(kernel, async |driver| driver.quote(&DATA).await).await
}

async fn ask<T>(kernel: Kernel, question: impl AsyncFnOnce(Driver) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let reports: PathBuf = folder.path().join("sys/kernel/config/tsm/report");
    std::fs::create_dir_all(&reports).unwrap();
    let driver = Driver::ConfigfsTsm(ConfigfsTsm::open(folder.path()).unwrap());
    let thread = std::thread::spawn(move || play(kernel, &reports));
    let result = question(driver).await;
    thread.join().unwrap();
    result
}

#[tokio::test]
async fn tdx_and_sev_guests_give_evidence() {
    assert_eq!(quote(Kernel::Tdx).await.unwrap().platform(), Platform::Tdx);
    assert_eq!(quote(Kernel::Sev).await.unwrap().platform(), Platform::SevSnp);
    assert_eq!(quote(Kernel::SevBelow).await.unwrap().platform(), Platform::SevSnp);
}

#[tokio::test]
async fn certificates_beside_a_report_are_collateral() {
    let collateral = ask(Kernel::SevBelow, async |driver| driver.collateral().await).await.unwrap();
    let expected = AmdCollateral::new(b"ask".to_vec(), b"vek".to_vec());
    assert_eq!(collateral, Collateral::Amd(Box::new(expected)));
    for kernel in [Kernel::Sev, Kernel::Tdx] {
        let error = ask(kernel, async |driver| driver.collateral().await).await.unwrap_err();
        assert!(matches!(error, PlatformError::Unsupported { what: "collateral", .. }), "{error:?}");
    }
}

#[tokio::test]
async fn an_entry_that_was_disturbed_is_asked_for_again_a_few_times() {
    assert_eq!(quote(Kernel::RacesOnce).await.unwrap().platform(), Platform::Tdx);
}

#[tokio::test]
async fn what_the_kernel_should_not_do_is_refused_by_name() {
    let error = quote(Kernel::OtherData).await.unwrap_err();
    assert!(matches!(error, PlatformError::OtherReportData), "{error:?}");
    let error = quote(Kernel::Races).await.unwrap_err();
    assert!(matches!(error, PlatformError::Raced), "{error:?}");
    let error = quote(Kernel::StrangeLevel).await.unwrap_err();
    assert!(matches!(error, PlatformError::Answer { method: "privlevel_floor", .. }), "{error:?}");
    let error = quote(Kernel::Unknown).await.unwrap_err();
    assert!(matches!(error, PlatformError::Unsupported { .. }), "{error:?}");
}

#[tokio::test]
async fn a_tree_without_the_interface_has_no_driver_and_an_empty_one_no_report() {
    let folder = tempfile::tempdir().unwrap();
    assert!(ConfigfsTsm::open(folder.path()).is_none());
    std::fs::create_dir_all(folder.path().join("sys/kernel/config/tsm/report")).unwrap();
    let driver = Driver::ConfigfsTsm(ConfigfsTsm::open(folder.path()).unwrap());
    let error = driver.quote(&DATA).await.unwrap_err();
    assert!(matches!(error, PlatformError::File { .. }), "{error:?}");
    assert!(matches!(driver.seal_key("a").await, Err(PlatformError::Unsupported { what: "sealing key", .. })));
    assert!(matches!(driver.collateral().await, Err(PlatformError::File { .. })));
}
