//! Whatever a caller sends, the machine answers the next one.

use std::path::Path;

use tacit_platform::GuestSocket;
use tacit_simulator::{EndorsementKey, Generation, Hardware, Machine, Root, RunningSimulator, Setup, Simulator};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::process::now;

fn machine(folder: &Path) -> RunningSimulator {
    let root = Root::create(&folder.join("root"), "test-sim", now()).unwrap();
    start(folder, root, Hardware::Tdx)
}

fn start(folder: &Path, root: Root, hardware: Hardware) -> RunningSimulator {
    let setup = Setup { hardware, name: "m".into(), ..Setup::default() };
    let machine = Machine::open_as(&folder.join(hardware.name()), root, &setup, now()).unwrap();
    Simulator::start(machine, &folder.join("m.sock")).unwrap()
}

/// Sends bytes and returns the status of the answer; 0 if the connection ended without one.
async fn send(socket: &Path, bytes: &[u8]) -> u16 {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    // The other side may stop reading at once: then the rest cannot be written.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn post(path: &str, body: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn bad_requests_get_a_status_and_the_next_caller_is_served_on_every_platform() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    drop(Root::create(&root, "test-sim", now()).unwrap().with_amd(now()).unwrap());
    let snp = Hardware::SevSnp { generation: Generation::Turin, key: EndorsementKey::Vcek };
    for hardware in [Hardware::Tdx, Hardware::Sgx, snp] {
        let running = start(folder.path(), Root::open(&root).unwrap(), hardware);
        check_bad_requests(&running).await;
        running.stop().await;
    }
}

async fn check_bad_requests(running: &RunningSimulator) {
    let long = "a".repeat(20_000);
    let mut wrong = Vec::new();
    let mut check = async |bytes: Vec<u8>, expected: u16| {
        let status = send(running.socket(), &bytes).await;
        if status != expected {
            wrong.push((String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned(), status, expected));
        }
    };
    check(post("/GetQuote", ""), 200).await;
    check(post("/GetQuote", r#"{"report_data":"0xab","unknown":1}"#), 200).await;
    check(post("/GetQuote", r#"{"report_data":"zz"}"#), 400).await;
    check(post("/GetQuote", r#"{"report_data":7}"#), 400).await;
    check(post("/GetQuote", &format!(r#"{{"report_data":"{}"}}"#, "ab".repeat(65))), 400).await;
    check(post("/GetQuote", "{"), 400).await;
    check(post("/GetQuote", &"[".repeat(10_000)), 400).await;
    check(post("/GetKey", r#"{"path":"a","algorithm":"rsa"}"#), 400).await;
    check(post("/GetKey", r#"{"path":"a","measurement":"0x00"}"#), 400).await;
    check(post("/GetKey", &format!(r#"{{"path":"{}"}}"#, "a".repeat(1025))), 400).await;
    check(post("/Nothing", ""), 404).await;
    check(post("/GetQuote", &long), 413).await;
    check(post("/Collateral", "{"), 200).await;
    let attests = if running.machine().hardware() == Hardware::Sgx { 400 } else { 200 };
    check(post("/v1/Attest", ""), attests).await;
    check(post("/v1/Attest", r#"{"report_data":"zz"}"#), 400).await;
    check(post("/v1/Attest", &format!(r#"{{"report_data":"{}"}}"#, "ab".repeat(65))), 400).await;
    check(post("/v1/Attest", "7"), 400).await;
    check(post("/v1/Nothing", ""), 404).await;
    check(post("/Version", ""), 200).await;
    check(b"GET /Info HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), 405).await;
    check(b"\x16\x03\x01 this is not HTTP\r\n\r\n".to_vec(), 400).await;
    check(format!("POST /Info HTTP/1.1\r\nX: {long}\r\n\r\n").into_bytes(), 431).await;
    check(b"POST /Info HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(), 400).await;
    check(b"POST /Info".to_vec(), 0).await;
    check(vec![0; 100_000], 400).await;
    assert_eq!(wrong, []);
    assert!(GuestSocket::new(running.socket()).quote(&[3; 64]).await.is_ok());
}

#[tokio::test]
async fn silent_connections_do_not_shut_others_out() {
    let folder = tempfile::tempdir().unwrap();
    let running = machine(folder.path());
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(UnixStream::connect(running.socket()).await.unwrap());
    }
    assert!(GuestSocket::new(running.socket()).quote(&[3; 64]).await.is_ok());
}
