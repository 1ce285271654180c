//! Handshakes over a pipe: who gets through, and who does not and why.

use std::{sync::Arc, time::Duration};

use rustls::{
    ClientConfig, ServerConfig,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName},
};
use tacit_peer::{Identity, NewKey, Peer, Peers, Refused, Trust, client_config, server_config};
use tacit_types::{
    KeysetDigest, UnixTime,
    keyset::{Keyset, report_data},
};
use tacit_verify::PeerStatement;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::vendor::{Simulated, Vendor};

/// The handshake itself reads the machine's clock, so these tests live in the present.
fn now() -> UnixTime {
    UnixTime(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs())
}

/// A node: its TLS identity and what it says.
struct Node {
    identity: Identity,
    statement: PeerStatement,
    digest: KeysetDigest,
}

fn keyset(key: &NewKey, not_after: UnixTime) -> Keyset {
    Keyset {
        subject: Some("node".into()),
        not_after,
        receipt_signing_keys: vec![],
        e2ee_public_keys: vec![],
        tls_public_keys: vec![key.tls_key()],
    }
}

fn statement(simulated: &Simulated, keyset: Keyset) -> PeerStatement {
    let evidence = simulated.quote(&report_data(keyset.digest().unwrap(), None));
    let evidence = serde_json::to_value(evidence).unwrap();
    PeerStatement { version: 1, keyset, nonce: None, evidence }
}

fn node(simulated: &Simulated) -> Node {
    let key = Identity::generate().unwrap();
    let statement = statement(simulated, keyset(&key, now().plus(86_400)));
    let digest = statement.keyset.digest().unwrap();
    Node { identity: key.certify(&statement, now()).unwrap(), statement, digest }
}

impl Node {
    fn peer(&self) -> Peer {
        Peer { keyset: self.digest, until: now().plus(3_600) }
    }

    fn known(&self) -> Peers {
        let peers = Peers::default();
        assert!(peers.admit(&self.statement.keyset, self.digest, self.peer().until));
        peers
    }
}

/// One handshake with one byte each way.
async fn meet(server: ServerConfig, client: ClientConfig) -> Result<(), (String, String)> {
    let (near, far) = tokio::io::duplex(1 << 16);
    let name = ServerName::try_from("node.invalid").unwrap();
    let serve = async {
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(far).await?;
        let byte = stream.read_u8().await?;
        stream.write_u8(byte + 1).await?;
        stream.shutdown().await
    };
    let call = async {
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, near).await?;
        stream.write_u8(41).await?;
        stream.read_u8().await
    };
    let both = async { tokio::join!(serve, call) };
    let (served, called) = tokio::time::timeout(Duration::from_secs(30), both).await.expect("it ends");
    match (served, called) {
        (Ok(()), Ok(42)) => Ok(()),
        (served, called) => {
            let text =
                |result: Result<(), std::io::Error>| result.err().map_or(String::new(), |error| format!("{error:?}"));
            Err((text(served), text(called.map(drop))))
        }
    }
}

#[tokio::test]
async fn nodes_that_know_each_other_meet() {
    let simulated = Simulated::new();
    let (server, client) = (node(&simulated), node(&simulated));
    let far = server_config(&server.identity, Trust::Known(client.known())).unwrap();
    let near = client_config(&client.identity, Trust::Known(server.known())).unwrap();
    meet(far, near).await.unwrap();
}

#[tokio::test]
async fn a_stranger_with_evidence_is_let_in_where_evidence_counts() {
    let (simulated, vendor) = (Simulated::new(), Vendor::start().await);
    vendor.publish(&simulated, now(), "standard");
    let (server, client) = (node(&simulated), node(&simulated));
    let collateral = vendor.cache();
    let trust = || Trust::Attested {
        peers: Peers::default(),
        policy: Arc::new(simulated.policy.clone()),
        collateral: collateral.clone(),
    };
    let configs =
        || (server_config(&server.identity, trust()).unwrap(), client_config(&client.identity, trust()).unwrap());
    // Nothing is fetched inside a handshake.
    let (far, near) = configs();
    let (_, called) = meet(far, near).await.unwrap_err();
    assert!(called.contains("NoCollateral"), "{called}");
    assert_eq!(vendor.asked(), 0);
    collateral.obtain(&server.statement.evidence().unwrap(), now()).await.unwrap();
    let (far, near) = configs();
    meet(far, near).await.unwrap();
}

#[tokio::test]
async fn who_may_not_meet_is_refused_by_name() {
    let simulated = Simulated::new();
    let (server, client, stranger) = (node(&simulated), node(&simulated), node(&simulated));
    let check = async |far: ServerConfig, near: ClientConfig, expected: &str| {
        let (served, called) = meet(far, near).await.unwrap_err();
        assert!(served.contains(expected) || called.contains(expected), "{expected}: {served} / {called}");
    };
    let far = |trust| server_config(&server.identity, trust).unwrap();
    let near = |trust| client_config(&client.identity, trust).unwrap();
    let knows = |node: &Node| Trust::Known(node.known());

    // Either end may be the one that is unknown.
    check(far(knows(&stranger)), near(knows(&server)), "Unknown").await;
    check(far(knows(&client)), near(knows(&stranger)), "Unknown").await;
    // A peer whose certificate is over, and one that was revoked.
    let over = Peers::default();
    assert!(over.admit(&client.statement.keyset, client.digest, now().minus(1)));
    check(far(Trust::Known(over)), near(knows(&server)), "Unknown").await;
    let revoked = client.known();
    revoked.remove(client.digest);
    check(far(Trust::Known(revoked)), near(knows(&server)), "Unknown").await;
    // A client without a certificate.
    let anonymous = {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(Vec::<CertificateDer<'static>>::new());
        assert_eq!(added, 0);
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
        builder.unwrap().with_root_certificates(roots).with_no_client_auth()
    };
    let (served, _) = meet(far(knows(&client)), anonymous).await.unwrap_err();
    assert!(!served.is_empty());
    // The old protocol.
    let mut old = near(knows(&server));
    old = {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS12]);
        let built = builder.unwrap().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        drop(old);
        built
    };
    check(far(knows(&client)), old, "Tls12NotOffered").await;
}

#[tokio::test]
async fn a_stolen_certificate_is_worth_nothing_without_its_key() {
    let simulated = Simulated::new();
    let (server, client, thief) = (node(&simulated), node(&simulated), node(&simulated));
    // The thief shows the client's certificate and signs with its own key. Public as it is, it is taken from a handshake.
    let shown = certificate_of(&client);
    let own = PrivatePkcs8KeyDer::from(key_pair());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let signer = provider.key_provider.load_private_key(own.into()).unwrap();
    let near = client_config(&thief.identity, Trust::Known(server.known())).unwrap();
    let near = {
        let mut config = near;
        config.client_auth_cert_resolver =
            Arc::new(Shows(Arc::new(rustls::sign::CertifiedKey::new(vec![shown], signer))));
        config
    };
    let far = server_config(&server.identity, Trust::Known(client.known())).unwrap();
    let (served, _) = meet(far, near).await.unwrap_err();
    assert!(served.contains("BadSignature"), "{served}");
}

#[derive(Debug)]
struct Shows(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn key_pair() -> Vec<u8> {
    rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_der()
}

fn certificate_of(node: &Node) -> CertificateDer<'static> {
    node.identity.certificate().clone()
}

#[test]
fn every_way_in_which_evidence_can_fail_is_refused() {
    let (simulated, other) = (Simulated::new(), Simulated::new());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let vendor = runtime.block_on(Vendor::start());
    vendor.publish(&simulated, now(), "standard");
    let collateral = vendor.cache();
    let honest = node(&simulated);
    runtime.block_on(collateral.obtain(&honest.statement.evidence().unwrap(), now())).unwrap();
    let judge = |policy: &tacit_attest::Policy, certificates: &[CertificateDer<'_>], at: UnixTime| {
        let trust = Trust::Attested {
            peers: Peers::default(),
            policy: Arc::new(policy.clone()),
            collateral: collateral.clone(),
        };
        trust.judge(certificates, at)
    };
    let certificate = certificate_of(&honest);
    let peer = judge(&simulated.policy, std::slice::from_ref(&certificate), now()).unwrap();
    assert_eq!(peer.keyset, honest.digest);

    let refused = |certificates: &[CertificateDer<'_>], at| judge(&simulated.policy, certificates, at).unwrap_err();
    assert_eq!(refused(&[], now()), Refused::Chain);
    assert_eq!(refused(&[certificate.clone(), certificate.clone()], now()), Refused::Chain);
    assert_eq!(refused(&[CertificateDer::from(vec![0x30, 0])], now()), Refused::Unreadable);
    assert_eq!(refused(&[CertificateDer::from(vec![0; 1 << 20])], now()), Refused::Unreadable);
    assert_eq!(refused(std::slice::from_ref(&certificate), now().plus(90_000)), Refused::Dates);
    assert_eq!(refused(std::slice::from_ref(&certificate), now().minus(3_600)), Refused::Dates);
    // Under a policy that does not name the simulated root.
    assert!(matches!(judge(&other.policy, std::slice::from_ref(&certificate), now()), Err(Refused::Evidence(_))));
    // A plain certificate, evidence for another keyset, a keyset that is over.
    let plain = rcgen::CertificateParams::default().self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let plain = plain.der().clone();
    let at = UnixTime(now().0);
    assert_eq!(refused(std::slice::from_ref(&plain), at), Refused::NoStatement);
    let key = Identity::generate().unwrap();
    let mut swapped = statement(&simulated, keyset(&key, now().plus(86_400)));
    swapped.evidence = honest.statement.evidence.clone();
    let swapped = key.certify(&swapped, now()).unwrap();
    assert!(matches!(refused(&[swapped.certificate().clone()], now()), Refused::Evidence(_)));
    // A statement that does not name the key is not even put into a certificate by an honest node.
    let key = Identity::generate().unwrap();
    assert!(key.certify(&honest.statement, now()).is_err());
    // Every byte of the certificate that is altered leads to a refusal or to the same statement under the same key.
    let mut accepted = 0;
    for place in (0..certificate.len()).step_by(7) {
        let mut altered = certificate.to_vec();
        altered[place] ^= 1;
        if let Ok(peer) = judge(&simulated.policy, &[CertificateDer::from(altered)], now()) {
            assert_eq!(peer.keyset, honest.digest);
            accepted += 1;
        }
    }
    // The certificate's own signature and names say nothing here: the handshake proves the key, the evidence the rest.
    assert!(accepted < 60, "{accepted}");
}
