//! Gramine's files, as a tree of ordinary ones: what a driver reads there, and what it refuses.

use std::path::Path;

use tacit_attest::Platform;
use tacit_platform::{Driver, Gramine, PlatformError};

const DATA: [u8; 64] = [7; 64];

/// A tree whose quote is over [`DATA`].
fn tree(kind: &str) -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    let keys = tree.path().join("dev/attestation/keys");
    std::fs::create_dir_all(&keys).unwrap();
    let mut quote = vec![0; 1200];
    (quote[0], quote[2]) = (3, 2);
    quote[48 + 320..48 + 384].copy_from_slice(&DATA);
    for (name, content) in [
        ("attestation_type", kind.as_bytes()),
        ("user_report_data", &[0; 64]),
        ("quote", &quote),
        ("keys/_sgx_mrenclave", &[5; 16]),
    ] {
        std::fs::write(tree.path().join("dev/attestation").join(name), content).unwrap();
    }
    tree
}

fn driver(root: &Path) -> Driver {
    Driver::Gramine(Gramine::open(root).unwrap())
}

fn file(tree: &tempfile::TempDir, name: &str) -> std::path::PathBuf {
    tree.path().join("dev/attestation").join(name)
}

#[tokio::test]
async fn a_quote_is_over_what_was_written() {
    let tree = tree("dcap\n");
    let evidence = driver(tree.path()).quote(&DATA).await.unwrap();
    assert_eq!(evidence.platform(), Platform::Sgx);
    assert_eq!(std::fs::read(file(&tree, "user_report_data")).unwrap(), DATA);
    let error = driver(tree.path()).quote(&[8; 64]).await.unwrap_err();
    assert!(matches!(error, PlatformError::OtherReportData), "{error:?}");
}

#[tokio::test]
async fn what_gramine_should_not_do_is_refused_by_name() {
    assert!(Gramine::open(tempfile::tempdir().unwrap().path()).is_none());
    let none = tree("none");
    let error = driver(none.path()).quote(&DATA).await.unwrap_err();
    assert!(matches!(error, PlatformError::Unsupported { what: "quote", .. }), "{error:?}");
    let tree = tree("dcap");
    let refused = async |content: &[u8]| {
        std::fs::write(file(&tree, "quote"), content).unwrap();
        driver(tree.path()).quote(&DATA).await.unwrap_err()
    };
    let error = refused(&[4; 1200]).await;
    assert!(matches!(error, PlatformError::Answer { method: "quote", .. }), "{error:?}");
    let error = refused(&[3, 0]).await;
    assert!(matches!(error, PlatformError::Evidence(_)), "{error:?}");
    let error = refused(&vec![3; 200_000]).await;
    assert!(matches!(error, PlatformError::Answer { method: "quote", .. }), "{error:?}");
    // A tree without the input file is not given one.
    std::fs::remove_file(file(&tree, "user_report_data")).unwrap();
    let error = driver(tree.path()).quote(&DATA).await.unwrap_err();
    assert!(matches!(error, PlatformError::File { .. }), "{error:?}");
    assert!(!file(&tree, "user_report_data").exists());
}

#[tokio::test]
async fn the_sealing_key_depends_on_enclave_and_label() {
    let tree = tree("dcap");
    let key = async |label: &str| *driver(tree.path()).seal_key(label).await.unwrap().expose();
    let first = key("a").await;
    assert_eq!(first, key("a").await);
    assert_ne!(first, key("b").await);
    std::fs::write(file(&tree, "keys/_sgx_mrenclave"), [6; 16]).unwrap();
    assert_ne!(first, key("a").await);
    std::fs::write(file(&tree, "keys/_sgx_mrenclave"), [6; 15]).unwrap();
    let error = driver(tree.path()).seal_key("a").await.err().unwrap();
    assert!(matches!(error, PlatformError::Answer { .. }), "{error:?}");
    assert!(matches!(driver(tree.path()).collateral().await, Err(PlatformError::Unsupported { .. })));
}
