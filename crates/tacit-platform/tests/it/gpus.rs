//! The GPU evidence command, played by a shell.

use tacit_platform::{GpuCommand, PlatformError};

fn shell(script: &str) -> GpuCommand {
    GpuCommand { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into(), "tool".into()] }
}

#[tokio::test]
async fn the_tool_gets_the_nonce_and_its_list_is_read() {
    // The nonce that is printed is the one that came as an argument.
    let list = r#"printf '[{"arch":"HOPPER","nonce":"%s","certificate":"YQ==","evidence":"Yg=="}]' "$1""#;
    let evidence = shell(list).evidence(&[0xab; 32]).await.unwrap();
    let [item] = evidence.items() else { panic!("{evidence:?}") };
    assert_eq!((item.nonce, item.certificates.as_slice(), item.report.as_slice()), ([0xab; 32], &b"a"[..], &b"b"[..]));
    let ours = r#"printf '{"version":1,"evidenceList":[{"arch":"BLACKWELL","nonce":"%s","certificate":"","evidence":""}]}' "$1""#;
    assert_eq!(shell(ours).evidence(&[1; 32]).await.unwrap().items()[0].nonce, [1; 32]);
}

#[tokio::test]
async fn a_tool_that_fails_is_named() {
    let missing = GpuCommand { program: "/nonexistent/tool".into(), arguments: vec![] };
    assert!(matches!(missing.evidence(&[0; 32]).await, Err(PlatformError::File { .. })));
    let refused = async |script: &str| shell(script).evidence(&[0; 32]).await.unwrap_err();
    assert!(matches!(refused("exit 3").await, PlatformError::Answer { what, .. } if what.contains('3')));
    assert!(matches!(refused("echo hello").await, PlatformError::Evidence(_)));
    assert!(matches!(refused("echo '[]'").await, PlatformError::Evidence(_)));
    // A tool without an end is cut off, not waited for.
    assert!(matches!(refused("yes").await, PlatformError::Answer { what, .. } if what.contains("more than")));
}
