//! The kernel's report interface, played by a thread: each file of an entry is a pipe, so that driver and kernel take turns.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tacit_attest::{Evidence, Platform};
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
}

/// Plays the kernel for one entry below `reports`.
fn play(kernel: Kernel, reports: &Path) {
    let entry = wait_for(|| std::fs::read_dir(reports).ok()?.flatten().next().map(|entry| entry.path()));
    let (provider, size, at) = match kernel {
        Kernel::Sev => ("sev_guest", 1184, 0x50),
        Kernel::Unknown => ("new_guest", 700, 0),
        Kernel::Tdx | Kernel::OtherData | Kernel::Races => ("tdx_guest", 700, 48 + 520),
    };
    std::fs::write(entry.join("provider"), format!("{provider}\n")).unwrap();
    // The driver waits for the input file, so that comes last.
    for pipe in ["generation", "outblob", "inblob"] {
        assert!(Command::new("mkfifo").arg(entry.join(pipe)).status().unwrap().success());
    }
    let data = std::fs::read(entry.join("inblob")).unwrap();
    let mut document = vec![0; size];
    document[at..at + 64].copy_from_slice(&data);
    if kernel == Kernel::OtherData {
        document[at] ^= 1;
    }
    std::fs::write(entry.join("generation"), "1\n").unwrap();
    std::fs::write(entry.join("outblob"), document).unwrap();
    std::fs::write(entry.join("generation"), if kernel == Kernel::Races { "2\n" } else { "1\n" }).unwrap();
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
    let folder = tempfile::tempdir().unwrap();
    let reports: PathBuf = folder.path().join("sys/kernel/config/tsm/report");
    std::fs::create_dir_all(&reports).unwrap();
    let driver = Driver::ConfigfsTsm(ConfigfsTsm::open(folder.path()).unwrap());
    let thread = std::thread::spawn(move || play(kernel, &reports));
    let result = driver.quote(&DATA).await;
    thread.join().unwrap();
    result
}

#[tokio::test]
async fn tdx_and_sev_guests_give_evidence() {
    assert_eq!(quote(Kernel::Tdx).await.unwrap().platform(), Platform::Tdx);
    assert_eq!(quote(Kernel::Sev).await.unwrap().platform(), Platform::SevSnp);
}

#[tokio::test]
async fn what_the_kernel_should_not_do_is_refused_by_name() {
    let error = quote(Kernel::OtherData).await.unwrap_err();
    assert!(matches!(error, PlatformError::OtherReportData), "{error:?}");
    let error = quote(Kernel::Races).await.unwrap_err();
    assert!(matches!(error, PlatformError::Raced), "{error:?}");
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
    assert!(matches!(driver.collateral().await, Err(PlatformError::Unsupported { what: "collateral", .. })));
}
