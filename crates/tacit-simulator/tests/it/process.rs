//! Machines as processes of their own, and callers whose executable is measured.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use tacit_attest::{AttestError, Collateral, Evidence, Policy, Preset, TcbStatus, verify, verify_bound};
use tacit_platform::{Driver, GuestSocket};
use tacit_simulator::{
    AmdRoot, EndorsementKey, Generation, Hardware, Machine, Root, Setup, Simulator, measure_executable_on,
};
use tacit_types::{Measurement, UnixTime};

pub fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
}

/// A machine as a process; killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn simulator() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tacit-simulator"))
}

fn init_root(folder: &Path) -> PathBuf {
    let root = folder.join("root");
    init_root_for(&root, &["tdx"]);
    root
}

fn init_root_for(root: &Path, platforms: &[&str]) {
    let platforms = platforms.iter().flat_map(|platform| ["--platform", platform]);
    let mut command = simulator();
    let made = command.args(["init-root", "--name", "test-sim", "--dir"]).arg(root).args(platforms).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

async fn start(folder: &Path, root: &Path, name: &str, guest_files: &[PathBuf]) -> (Process, PathBuf) {
    start_as(folder, root, name, guest_files, &["--platform", "tdx"]).await
}

async fn start_as(
    folder: &Path,
    root: &Path,
    name: &str,
    guest_files: &[PathBuf],
    more: &[&str],
) -> (Process, PathBuf) {
    let socket = folder.join(format!("{name}.sock"));
    let _ = std::fs::remove_file(&socket);
    let mut command = simulator();
    command
        .arg("--dir")
        .arg(folder.join(name))
        .arg("--socket")
        .arg(&socket)
        .arg("--root")
        .arg(root)
        .args(["--name", name])
        .args(more);
    for file in guest_files {
        command.arg("--guest-file").arg(file);
    }
    let process = Process(command.stdout(Stdio::null()).spawn().unwrap());
    for _ in 0..600 {
        if tokio::net::UnixStream::connect(&socket).await.is_ok() {
            return (process, socket);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{name} did not start");
}

fn policy_of(root: &Path) -> Policy {
    let entries = Root::open(root).unwrap().policy_entries("SIM test").unwrap();
    let mut policy = entries.into_iter().fold(Policy::preset(Preset::Dev), Policy::with_root);
    policy.snp.vlek_providers = vec![AmdRoot::PROVIDER.into()];
    policy
}

/// Not a test by itself: run as another process, it asks the machine named by the environment and prints what it gets.
#[test]
fn caller() {
    let Some(socket) = std::env::var_os("TACIT_TEST_SOCKET") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = GuestSocket::new(socket);
        let evidence = socket.quote(&[5; 64]).await.unwrap();
        let key = socket.seal_key("test").await.unwrap();
        println!("evidence={}", String::from_utf8(evidence.to_json()).unwrap());
        println!("key={}", hex::encode(key.expose()));
    });
}

/// Runs [`caller`] from another executable: its evidence and its sealing key.
fn call_from(executable: &Path, socket: &Path) -> (Evidence, String) {
    let output = Command::new(executable)
        .args(["process::caller", "--exact", "--nocapture", "--test-threads", "1"])
        .env("TACIT_TEST_SOCKET", socket)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let value = |name: &str| {
        let start = text.find(name).unwrap_or_else(|| panic!("no {name} in {text}")) + name.len();
        text[start..].lines().next().unwrap().to_owned()
    };
    (Evidence::from_json(value("evidence=").as_bytes()).unwrap(), value("key="))
}

/// A copy of this test's executable with one byte changed: a byte of the ELF identification that no loader reads.
fn altered_copy(folder: &Path) -> PathBuf {
    let mut bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    assert_eq!(&bytes[..4], b"\x7fELF");
    bytes[15] ^= 1;
    let path = folder.join("altered");
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    path
}

#[tokio::test]
async fn an_altered_executable_is_measured_as_another_and_refused_on_every_platform() {
    let folder = tempfile::tempdir().unwrap();
    let root = init_root(folder.path());
    init_root_for(&root, &["snp"]);
    let guest = folder.path().join("image");
    std::fs::write(&guest, b"guest image").unwrap();
    let mut seen = Vec::new();
    for (platform, more, hardware) in [
        ("tdx", &[][..], Hardware::Tdx),
        ("sgx", &[], Hardware::Sgx),
        ("snp", &[], snp(Generation::Genoa, EndorsementKey::Vcek)),
        ("snp", &["--generation", "turin"], snp(Generation::Turin, EndorsementKey::Vcek)),
        ("snp", &["--endorsement-key", "vlek"], snp(Generation::Genoa, EndorsementKey::Vlek)),
    ] {
        let name = format!("machine-{}", seen.len());
        let options = [&["--platform", platform], more].concat();
        let (_process, socket) = start_as(folder.path(), &root, &name, std::slice::from_ref(&guest), &options).await;
        let allowed = check_altered(folder.path(), &root, platform, &guest, &socket).await;
        let own = std::env::current_exe().unwrap();
        assert_eq!(measure_executable_on(hardware, &own, std::slice::from_ref(&guest)).unwrap(), allowed);
        seen.push(allowed);
    }
    // One number for each platform, whatever the generation and the key.
    assert_eq!(seen[2], seen[3]);
    assert_eq!(seen[2], seen[4]);
    assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2]);
}

fn snp(generation: Generation, key: EndorsementKey) -> Hardware {
    Hardware::SevSnp { generation, key }
}

/// This test's executable is allowed on the machine, one with a changed byte is not. Gives the measurement.
async fn check_altered(folder: &Path, root: &Path, platform: &str, guest: &Path, socket: &Path) -> Measurement {
    let own = std::env::current_exe().unwrap();
    let mut command = simulator();
    command.args(["measure", "--platform", platform, "--executable"]).arg(&own).arg("--guest-file").arg(guest);
    let measured = command.output().unwrap();
    let allowed = String::from_utf8(measured.stdout).unwrap().trim().parse().unwrap();
    let policy = policy_of(root).with_image("worker", &[allowed]);

    let driver = Driver::GuestSocket(GuestSocket::new(socket));
    let collateral: Collateral = driver.collateral().await.unwrap();
    let (evidence, key) = call_from(&own, socket);
    let verified = verify_bound(&evidence, &collateral, &policy, now(), &[5; 64]).unwrap();
    assert_eq!((verified.image(), verified.measurement()), (Some("worker"), allowed));
    assert!(verified.simulated());
    assert!(matches!(
        verify(&evidence, &collateral, &Policy::preset(Preset::Dev), now()),
        Err(AttestError::WrongRoot { .. })
    ));

    let altered = altered_copy(folder);
    let (other_evidence, other_key) = call_from(&altered, socket);
    let other = verify(&other_evidence, &collateral, &policy_of(root), now()).unwrap().measurement();
    assert_ne!(other, allowed);
    assert_eq!(
        verify(&other_evidence, &collateral, &policy, now()),
        Err(AttestError::MeasurementNotAllowed { measurement: other.to_string() })
    );
    assert_ne!(key, other_key, "sealed for one executable, opened by another");
    assert_eq!(call_from(&own, socket).1, key);
    allowed
}

#[tokio::test]
async fn what_the_vendors_publish_and_what_is_wrong_with_a_machine_reaches_the_verifier() {
    let folder = tempfile::tempdir().unwrap();
    let root = init_root(folder.path());
    let policy = policy_of(&root);
    let publish = |options: &[&str]| {
        let said = simulator().arg("publish").arg("--root").arg(&root).args(options).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    };
    let ask = async |socket: &Path| {
        let socket = GuestSocket::new(socket);
        let collateral = socket.collateral().await.unwrap();
        verify(&socket.quote(&[1; 64]).await.unwrap(), &collateral, &policy, now())
    };
    let (_process, socket) = start(folder.path(), &root, "one", &[]).await;
    assert_eq!(ask(&socket).await.unwrap().tcb_status(), TcbStatus::UpToDate);
    publish(&["--status", "OutOfDate", "--advisory", "INTEL-SA-00001", "--evaluation-number", "9"]);
    let verified = ask(&socket).await.unwrap();
    assert_eq!(verified.tcb_status(), TcbStatus::OutOfDate);
    assert_eq!(verified.advisories(), ["INTEL-SA-00001"]);
    assert_eq!(verified.evaluation_number(), Some(9));
    let chip = GuestSocket::new(&socket).info().await.unwrap().device_id;
    publish(&["--revoke-chip", &chip]);
    assert_eq!(ask(&socket).await, Err(AttestError::Revoked { what: "certificate" }));
    publish(&["--issued", "1700000000", "--lifetime", "60"]);
    assert!(matches!(ask(&socket).await, Err(AttestError::Expired { .. })));
    publish(&[]);
    assert!(ask(&socket).await.is_ok());

    let (_debug, socket) = start_as(folder.path(), &root, "debug", &[], &["--platform", "sgx", "--debug-guest"]).await;
    assert_eq!(ask(&socket).await, Err(AttestError::Debug));
    let (_old, socket) = start_as(folder.path(), &root, "old", &[], &["--old-firmware"]).await;
    assert_eq!(ask(&socket).await.unwrap().tcb_status(), TcbStatus::OutOfDate);
}

#[tokio::test]
async fn a_machine_keeps_its_chip_and_its_keys_and_shares_them_with_none() {
    let folder = tempfile::tempdir().unwrap();
    let root = init_root(folder.path());
    let (process, socket) = start(folder.path(), &root, "one", &[]).await;
    let (_other, other_socket) = start(folder.path(), &root, "two", &[]).await;
    let (one, two) = (GuestSocket::new(&socket), GuestSocket::new(&other_socket));
    let policy = policy_of(&root);
    let chip = async |socket: &GuestSocket| {
        let collateral = socket.collateral().await.unwrap();
        verify(&socket.quote(&[1; 64]).await.unwrap(), &collateral, &policy, now()).unwrap().chip()
    };
    let key = async |socket: &GuestSocket, label: &str| *socket.seal_key(label).await.unwrap().expose();
    let before = (chip(&one).await, key(&one, "a").await);
    assert_ne!(before.0, chip(&two).await);
    assert_ne!(before.1, key(&two, "a").await);
    assert_ne!(before.1, key(&one, "b").await);
    let info = one.info().await.unwrap();
    assert_eq!(info.app_name, "one");
    let compose: serde_json::Value = serde_json::from_str(&info.app_compose().unwrap()).unwrap();
    assert_eq!(compose["name"], "one");
    assert!(compose["source_provenance"]["image_digest"].as_str().unwrap().starts_with("sha256:"));

    drop(process);
    let (_process, socket) = start(folder.path(), &root, "one", &[]).await;
    let one = GuestSocket::new(&socket);
    assert_eq!((chip(&one).await, key(&one, "a").await), before);
}

#[tokio::test]
async fn other_guest_files_give_another_measurement_and_other_keys() {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::create(&folder.path().join("root"), "test-sim", now()).unwrap();
    let policy = Policy::preset(Preset::Dev).with_root(root.policy_entry("SIM test").unwrap());
    let mut seen = Vec::new();
    for content in [&b"image"[..], b"imagf"] {
        let image = folder.path().join("image");
        std::fs::write(&image, content).unwrap();
        let root = Root::open(&folder.path().join("root")).unwrap();
        let machine = Machine::open(&folder.path().join("machine"), root, "m", &[image], now()).unwrap();
        let running = Simulator::start(machine, &folder.path().join("m.sock")).unwrap();
        let socket = GuestSocket::new(running.socket());
        let evidence = socket.quote(&[2; 64]).await.unwrap();
        let collateral = running.machine().collateral(now()).unwrap();
        let verified = verify(&evidence, &collateral, &policy, now()).unwrap();
        seen.push((verified.measurement(), *socket.seal_key("a").await.unwrap().expose()));
        running.stop().await;
        assert!(socket.quote(&[2; 64]).await.is_err());
    }
    assert_ne!(seen[0].0, seen[1].0);
    assert_ne!(seen[0].1, seen[1].1);
}

#[test]
fn secrets_are_for_their_owner_alone_and_a_root_is_not_overwritten() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let root = init_root(folder.path());
    let again = simulator().args(["init-root", "--dir"]).arg(&root).output().unwrap();
    assert!(!again.status.success());
    init_root_for(&root, &["tdx", "snp"]);
    let again = simulator().args(["init-root", "--platform", "snp", "--dir"]).arg(&root).output().unwrap();
    assert!(!again.status.success());
    drop(Machine::open(&folder.path().join("machine"), Root::open(&root).unwrap(), "m", &[], now()).unwrap());
    let setup = Setup { hardware: snp(Generation::Genoa, EndorsementKey::Vcek), ..Setup::default() };
    let amd = folder.path().join("amd-machine");
    drop(Machine::open_as(&amd, Root::open(&root).unwrap(), &setup, now()).unwrap());
    for directory in [root.join("amd"), root, folder.path().join("machine"), amd] {
        assert_eq!(std::fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        for file in std::fs::read_dir(&directory).unwrap().map(Result::unwrap) {
            if file.file_type().unwrap().is_file() {
                assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
            }
        }
    }
}

#[tokio::test]
async fn the_attestation_of_the_second_guest_api_holds_the_same_evidence() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let folder = tempfile::tempdir().unwrap();
    let root = init_root(folder.path());
    init_root_for(&root, &["snp"]);
    let policy = policy_of(&root);
    for platform in ["tdx", "snp"] {
        let (_process, socket) = start_as(folder.path(), &root, platform, &[], &["--platform", platform]).await;
        // An agent that knows the newer method alone: it passes everything else on, and refuses quotes.
        let newer = folder.path().join(format!("{platform}-v1.sock"));
        let listener = tokio::net::UnixListener::bind(&newer).unwrap();
        let behind = socket.clone();
        tokio::spawn(async move {
            while let Ok((mut caller, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let read = caller.read(&mut request).await.unwrap_or(0);
                if request.starts_with(b"POST /GetQuote") {
                    let body = r#"{"error":"unsupported"}"#;
                    let head = format!("HTTP/1.1 400 Bad Request\r\nContent-Length: {}\r\n\r\n", body.len());
                    let _ = caller.write_all(format!("{head}{body}").as_bytes()).await;
                } else {
                    let mut agent = tokio::net::UnixStream::connect(&behind).await.unwrap();
                    agent.write_all(&request[..read]).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut caller, &mut agent).await;
                }
            }
        });
        let socket = GuestSocket::new(&newer);
        let evidence = socket.quote(&[4; 64]).await.unwrap();
        let collateral = socket.collateral().await.unwrap();
        let verified = verify_bound(&evidence, &collateral, &policy, now(), &[4; 64]).unwrap();
        assert_eq!(verified.platform().name(), evidence.platform().name());
        assert_eq!(evidence.event_log().is_some(), platform == "tdx");
    }
}
