//! The guest agent's socket: what it may answer, and what is made of it.

use std::path::PathBuf;

use tacit_attest::Platform;
use tacit_platform::{Driver, GuestSocket, PlatformError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

/// A guest agent that gives the same answer to everybody.
fn agent(folder: &tempfile::TempDir, answer: Vec<u8>) -> PathBuf {
    agent_by_path(folder, move |_| answer.clone())
}

/// A guest agent that answers by the first line of the request.
fn agent_by_path(folder: &tempfile::TempDir, answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> PathBuf {
    let answer = std::sync::Arc::new(answer);
    let socket = folder.path().join("dstack.sock");
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = std::sync::Arc::clone(&answer);
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let read = stream.read(&mut request).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&request[..read]);
                let _ = stream.write_all(&answer(text.lines().next().unwrap_or_default())).await;
            });
        }
    });
    socket
}

fn http(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

/// The signed part of a quote with this report data.
fn quote(version: u16, tee: u32, report_data: &[u8; 64]) -> String {
    let mut bytes = vec![0; 700];
    bytes[..2].copy_from_slice(&version.to_le_bytes());
    bytes[2] = 2; // ECDSA P-256
    bytes[4..8].copy_from_slice(&tee.to_le_bytes());
    let at = match (version, tee) {
        (3, _) => 48 + 320,
        (4, _) => 48 + 520,
        _ => 54 + 520,
    };
    bytes[at..at + 64].copy_from_slice(report_data);
    hex::encode(bytes)
}

#[tokio::test]
async fn quotes_of_every_version_are_taken_with_the_right_report_data() {
    let folder = tempfile::tempdir().unwrap();
    for (version, tee, platform) in [(3, 0, Platform::Sgx), (4, 0x81, Platform::Tdx), (5, 0x81, Platform::Tdx)] {
        let body = format!(r#"{{"quote":"{}","event_log":"[]","extra":1}}"#, quote(version, tee, &[7; 64]));
        let driver = Driver::GuestSocket(GuestSocket::new(agent(&folder, http("200 OK", &body))));
        assert_eq!(driver.quote(&[7; 64]).await.unwrap().platform(), platform);
        assert!(matches!(driver.quote(&[8; 64]).await, Err(PlatformError::OtherReportData)));
    }
}

#[tokio::test]
async fn answers_of_another_shape_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let ask = async |answer: Vec<u8>| GuestSocket::new(agent(&folder, answer)).quote(&[7; 64]).await.unwrap_err();
    let odd = quote(4, 0x7f, &[7; 64]);
    for body in ["{", r#"{"quote":"zz"}"#, r#"{"quote":7}"#, "null", &format!(r#"{{"quote":"{odd}"}}"#)] {
        let error = ask(http("200 OK", body)).await;
        assert!(matches!(error, PlatformError::Answer { method: "/GetQuote", .. }), "{body}: {error:?}");
    }
    let short = ask(http("200 OK", r#"{"quote":"0400"}"#)).await;
    assert!(matches!(short, PlatformError::Evidence(_)), "{short:?}");
    let refused = ask(http("400 Bad Request", &format!(r#"{{"error":"no\u001b[31m{}"}}"#, "x".repeat(500)))).await;
    assert!(
        matches!(&refused, PlatformError::Refused { status: 400, reason, .. } if reason.starts_with("no[31mxx") && reason.len() == 200),
        "{refused:?}"
    );
    let broken = ask(b"this is not HTTP\r\n\r\n".to_vec()).await;
    assert!(matches!(broken, PlatformError::Http { .. }), "{broken:?}");
    let endless =
        ask([&b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n"[..], &vec![b' '; 9_000_000]].concat()).await;
    assert!(matches!(endless, PlatformError::Http { .. }), "{endless:?}");
    let absent = GuestSocket::new(folder.path().join("absent")).quote(&[7; 64]).await.unwrap_err();
    assert!(matches!(absent, PlatformError::Connect { .. }), "{absent:?}");
}

#[tokio::test]
async fn keys_have_32_bytes_and_never_show_in_errors() {
    let folder = tempfile::tempdir().unwrap();
    let secret = "ab".repeat(32);
    let ask = async |body: String| GuestSocket::new(agent(&folder, http("200 OK", &body))).seal_key("x").await;
    assert_eq!(ask(format!(r#"{{"key":"{secret}","signature_chain":[]}}"#)).await.unwrap().expose(), &[0xab; 32]);
    for body in
        [format!(r#"{{"key":"{secret}00"}}"#), format!(r#"{{"key":"{secret}"#), format!(r#"{{"key":["{secret}"]}}"#)]
    {
        let error = match ask(body).await {
            Ok(_) => panic!("a key of another shape was taken"),
            Err(error) => error,
        };
        assert!(!format!("{error} {error:?}").contains("abab"), "{error:?}");
    }
}

#[tokio::test]
async fn an_agent_without_collateral_says_so() {
    let folder = tempfile::tempdir().unwrap();
    for status in ["404 Not Found", "400 Bad Request"] {
        let driver =
            Driver::GuestSocket(GuestSocket::new(agent(&folder, http(status, r#"{"error":"no such method"}"#))));
        let error = driver.collateral().await.unwrap_err();
        assert!(matches!(error, PlatformError::Unsupported { what: "collateral", .. }), "{error:?}");
    }
}

/// A report of an AMD machine over this report data, and the same inside version 1's attestation.
fn snp(report_data: &[u8; 64]) -> (Vec<u8>, String) {
    let mut report = vec![0; 1184];
    report[0] = 5;
    report[0x50..0x90].copy_from_slice(report_data);
    let attestation = serde_json::json!({
        "version": 1,
        "platform": { "kind": "sev-snp", "data": { "report": report, "cert_chain": [], "mr_config": "" } },
    });
    let packed = hex::encode(rmp_serde::to_vec_named(&attestation).unwrap());
    (report, packed)
}

#[tokio::test]
async fn an_amd_machines_report_comes_as_a_quote_or_as_an_attestation() {
    let folder = tempfile::tempdir().unwrap();
    let (report, attestation) = snp(&[7; 64]);
    let as_quote = agent(&folder, http("200 OK", &format!(r#"{{"quote":"{}"}}"#, hex::encode(report))));
    assert_eq!(GuestSocket::new(as_quote).quote(&[7; 64]).await.unwrap().platform(), Platform::SevSnp);
    for status in ["400 Bad Request", "404 Not Found"] {
        let body = format!(r#"{{"attestation":"{attestation}"}}"#);
        let socket = GuestSocket::new(agent_by_path(&folder, move |line| match line {
            "POST /v1/Attest HTTP/1.1" => http("200 OK", &body),
            _ => http(status, r#"{"error":"no quote on this platform"}"#),
        }));
        assert_eq!(socket.quote(&[7; 64]).await.unwrap().platform(), Platform::SevSnp);
        assert!(matches!(socket.quote(&[8; 64]).await, Err(PlatformError::OtherReportData)));
    }
}

#[tokio::test]
async fn an_agent_without_either_keeps_its_first_word() {
    let folder = tempfile::tempdir().unwrap();
    let socket = GuestSocket::new(agent_by_path(&folder, |line| match line {
        "POST /v1/Attest HTTP/1.1" => http("404 Not Found", r#"{"error":"no such method"}"#),
        _ => http("400 Bad Request", r#"{"error":"the quoting service is down"}"#),
    }));
    let error = socket.quote(&[7; 64]).await.unwrap_err();
    assert!(
        matches!(&error, PlatformError::Refused { method: "/GetQuote", reason, .. } if reason.contains("down")),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_agent_says_its_version() {
    let folder = tempfile::tempdir().unwrap();
    let socket = GuestSocket::new(agent(&folder, http("200 OK", r#"{"version":"0.5.11","rev":"ab","more":1}"#)));
    assert_eq!(socket.version().await.unwrap().version, "0.5.11");
}
