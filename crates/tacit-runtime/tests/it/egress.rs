//! The way out against a real TLS server on loopback, over a resolver and a dialer that record what they were asked.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tacit_runtime::egress::{Dial, Resolve, Stream};
use tacit_runtime::{
    AllowList, Egress, EgressError, EgressLimits, FetchRequest, FetchResponse, HostError, Network, Redirect,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::block_on;

const PUBLIC: &str = "93.184.215.14";

/// Answers of the resolver for each name, one after the other; the last one stays.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<BTreeMap<String, VecDeque<Vec<IpAddr>>>>>);

impl Names {
    fn set(&self, host: &str, answers: &[&[&str]]) {
        let answers = answers
            .iter()
            .map(|addresses| addresses.iter().map(|address| address.parse().unwrap()).collect())
            .collect();
        self.0.lock().unwrap().insert(host.to_owned(), answers);
    }
}

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let mut names = self.0.lock().unwrap();
        let answers = names.get_mut(host).ok_or_else(|| io::Error::other("no such name"))?;
        Ok(if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() })
    }
}

/// Takes every connection to the one server, and records where it was meant to go.
#[derive(Clone)]
struct Dialer {
    server: SocketAddr,
    dialed: Arc<Mutex<Vec<SocketAddr>>>,
}

#[async_trait]
impl Dial for Dialer {
    async fn dial(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        self.dialed.lock().unwrap().push(address);
        Ok(Box::new(TcpStream::connect(self.server).await?))
    }
}

struct World {
    names: Names,
    dialer: Dialer,
    network: Arc<Network>,
    requests: Arc<Mutex<Vec<String>>>,
}

/// A server whose certificate is for these names, and that answers by path.
async fn world(certified: &[&str]) -> World {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = parameters.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(parameters, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = certified.iter().map(|name| (*name).to_owned()).collect();
    let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(certificate)],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority)).unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialer = Dialer { server: listener.local_addr().unwrap(), dialed: Arc::default() };
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let seen = requests.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, seen) = (acceptor.clone(), seen.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                while !request.windows(4).any(|window| window == b"\r\n\r\n") {
                    match stream.read(&mut buffer).await {
                        Ok(length) if length > 0 => request.extend_from_slice(&buffer[..length]),
                        _ => return,
                    }
                }
                let text = String::from_utf8_lossy(&request).into_owned();
                let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
                seen.lock().unwrap().push(text);
                let answer = match path.as_str() {
                    "/large" => format!("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{}", "x".repeat(100_000)),
                    "/endless" => {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
                        return;
                    }
                    "/silent" => {
                        let _ = stream.read(&mut buffer).await;
                        return;
                    }
                    "/headers" => format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(1000)),
                    path if path.starts_with("/to/") => {
                        format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", &path[4..])
                    }
                    path if path.starts_with("/keep/") => format!(
                        "HTTP/1.1 307 Temporary Redirect\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
                        &path[6..]
                    ),
                    _ => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-answer: yes\r\nconnection: close\r\n\r\nhello"
                        .to_owned(),
                };
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    let resolver = Names::default();
    for name in certified {
        resolver.set(name, &[&[PUBLIC]]);
    }
    let network = Arc::new(Network::new(Box::new(resolver.clone()), Box::new(dialer.clone()), roots));
    World { names: resolver, dialer, network, requests }
}

impl World {
    fn egress(&self, allow: &[&str]) -> Egress {
        let limits = EgressLimits { response: 50_000, timeout: Duration::from_secs(2), ..EgressLimits::default() };
        Egress::new(AllowList::new(allow), limits, self.network.clone())
    }

    async fn get(&self, allow: &[&str], url: &str) -> Result<FetchResponse, EgressError> {
        self.egress(allow).fetch(request(url)).await
    }
}

fn request(url: &str) -> FetchRequest {
    FetchRequest { method: "GET".into(), url: url.into(), headers: vec![], body: None, redirect: Redirect::Follow }
}

#[test]
fn an_allowed_host_answers_at_the_address_that_was_checked() {
    block_on(async {
        let world = world(&["api.example"]).await;
        let answer = world.get(&["api.example"], "https://api.example/path?q=1#part").await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
        assert!(answer.headers.contains(&("x-answer".into(), "yes".into())));
        assert!(!answer.headers.iter().any(|(name, _)| name == "connection"));
        assert_ne!(answer.server_key, [0; 32]);
        assert_eq!(*world.dialer.dialed.lock().unwrap(), [format!("{PUBLIC}:443").parse().unwrap()]);
        let sent = world.requests.lock().unwrap()[0].clone();
        assert!(sent.starts_with("GET /path?q=1 HTTP/1.1\r\n") && sent.contains("host: api.example\r\n"), "{sent}");
    });
}

#[test]
fn a_host_that_the_manifest_lacks_is_refused_with_the_line_to_add() {
    block_on(async {
        let world = world(&["api.example", "other.example"]).await;
        let error = world.get(&["api.example"], "https://other.example/").await.unwrap_err();
        let text = match HostError::from(error) {
            HostError::Denied(text) => text,
            other => panic!("{other:?}"),
        };
        assert!(text.contains(r#"[egress]: allow = ["api.example", "other.example"]"#), "{text}");
        assert!(world.dialer.dialed.lock().unwrap().is_empty());
    });
}

#[test]
fn forms_that_never_leave_are_refused() {
    block_on(async {
        let world = world(&["api.example"]).await;
        let check = async |url: &str, expected: &str| {
            let error = world
                .get(&["api.example", "127.0.0.1", "[::1]", "localhost", "10.0.0.1", "169.254.169.254"], url)
                .await
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{url}: {error}");
        };
        check("http://api.example/", "only https").await;
        check("ftp://api.example/", "only https").await;
        check("file:///etc/passwd", "only https").await;
        check("https://api.example:8443/", "port 8443").await;
        check("https://user:word@api.example/", "user name or password").await;
        check("nonsense", "not valid").await;
        // Numbers in any spelling are the addresses that they are.
        for url in ["https://127.0.0.1/", "https://2130706433/", "https://0x7f.1/", "https://0177.0.0.1/"] {
            check(url, "127.0.0.1, loopback").await;
        }
        check("https://[::1]/", "loopback").await;
        check("https://[::ffff:10.0.0.1]/", "IPv4 address in IPv6 clothes").await;
        check("https://10.0.0.1/", "a private network").await;
        check("https://169.254.169.254/latest/meta-data", "metadata").await;
        assert!(world.dialer.dialed.lock().unwrap().is_empty());
    });
}

#[test]
fn names_of_forbidden_addresses_are_refused_whatever_the_manifest_says() {
    block_on(async {
        let world = world(&["api.example"]).await;
        let check = async |addresses: &[&str], reason: &str| {
            world.names.set("api.example", &[addresses]);
            let error = world.get(&["api.example"], "https://api.example/").await.unwrap_err();
            assert!(matches!(error, EgressError::Address { .. }), "{error}");
            assert!(error.to_string().contains(reason), "{error}");
        };
        check(&["10.1.2.3"], "a private network").await;
        check(&["172.20.0.1"], "a private network").await;
        check(&["192.168.1.1"], "a private network").await;
        check(&["100.64.0.1"], "carrier").await;
        check(&["127.0.0.1"], "loopback").await;
        check(&["169.254.169.254"], "metadata").await;
        check(&["0.0.0.0"], "this network").await;
        check(&["224.0.0.1"], "multicast").await;
        check(&["::1"], "loopback").await;
        check(&["fe80::1"], "link-local").await;
        check(&["fd00:ec2::254"], "a private network").await;
        check(&["::ffff:127.0.0.1"], "clothes").await;
        check(&["64:ff9b::7f00:1"], "translated").await;
        // One bad address among good ones refuses the name.
        check(&[PUBLIC, "10.0.0.1"], "a private network").await;
        assert!(world.dialer.dialed.lock().unwrap().is_empty());
    });
}

#[test]
fn a_name_that_changes_its_answer_gains_nothing() {
    block_on(async {
        let world = world(&["rebind.example"]).await;
        world.names.set("rebind.example", &[&[PUBLIC], &["127.0.0.1"]]);
        // The first answer is checked, and the connection goes there: the name is not asked again.
        assert!(world.get(&["rebind.example"], "https://rebind.example/").await.is_ok());
        assert_eq!(*world.dialer.dialed.lock().unwrap(), [format!("{PUBLIC}:443").parse().unwrap()]);
        // The second answer is checked as well, also when it comes in the middle of an exchange.
        world.names.set("rebind.example", &[&[PUBLIC], &["127.0.0.1"]]);
        let error = world.get(&["rebind.example"], "https://rebind.example/to//again").await.unwrap_err();
        assert!(matches!(error, EgressError::Address { .. }), "{error}");
        assert_eq!(world.dialer.dialed.lock().unwrap().len(), 2);
    });
}

#[test]
fn redirects_are_checked_like_first_requests() {
    block_on(async {
        let world = world(&["a.example", "b.example"]).await;
        world.names.set("inside.example", &[&["10.0.0.1"]]);
        let allow = ["a.example", "inside.example"];
        let check = async |to: &str, expected: &str| {
            let error = world.get(&allow, &format!("https://a.example/to/{to}")).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{to}: {error}");
        };
        check("https://b.example/", "does not allow \"b.example\"").await;
        check("https://inside.example/", "a private network").await;
        check("https://127.0.0.1/", "loopback").await;
        check("http://a.example/", "only https").await;
        check("https://a.example:22/", "port 22").await;
        let answer = world.get(&allow, "https://a.example/to//there").await.unwrap();
        assert_eq!((answer.url.as_str(), answer.redirected), ("https://a.example/there", true));
        let manual = world
            .egress(&allow)
            .fetch(FetchRequest { redirect: Redirect::Manual, ..request("https://a.example/to//there") })
            .await
            .unwrap();
        assert_eq!((manual.status, manual.redirected), (302, false));
        let refused = world
            .egress(&allow)
            .fetch(FetchRequest { redirect: Redirect::Error, ..request("https://a.example/to//there") })
            .await;
        assert!(matches!(refused, Err(EgressError::Redirect(_))));
    });
}

#[test]
fn another_origin_sees_no_credentials() {
    block_on(async {
        let world = world(&["a.example", "b.example"]).await;
        let headers = vec![
            ("authorization".to_owned(), "Bearer s3cret".to_owned()),
            ("cookie".to_owned(), "c=1".to_owned()),
            ("x-kept".to_owned(), "1".to_owned()),
        ];
        let post = FetchRequest {
            method: "POST".into(),
            headers,
            body: Some("body".into()),
            ..request("https://a.example/keep/https://b.example/")
        };
        world.egress(&["a.example", "b.example"]).fetch(post).await.unwrap();
        let requests = world.requests.lock().unwrap();
        assert!(requests[0].contains("Bearer s3cret") && requests[0].starts_with("POST"));
        assert!(
            !requests[1].contains("s3cret") && !requests[1].contains("c=1") && requests[1].contains("x-kept: 1"),
            "{}",
            requests[1]
        );
        assert!(requests[1].starts_with("POST"), "a 307 keeps the method");
    });
}

#[test]
fn a_server_without_the_right_certificate_is_no_server() {
    block_on(async {
        let world = world(&["a.example"]).await;
        world.names.set("b.example", &[&[PUBLIC]]);
        let error = world.get(&["b.example"], "https://b.example/").await.unwrap_err();
        assert!(matches!(error, EgressError::Connect { .. }), "{error}");
    });
}

#[test]
fn sizes_and_time_are_bounded() {
    block_on(async {
        let world = world(&["a.example"]).await;
        let get = async |path: &str| world.get(&["a.example"], &format!("https://a.example{path}")).await.unwrap_err();
        assert!(matches!(get("/large").await, EgressError::TooLarge { .. }));
        assert!(matches!(get("/endless").await, EgressError::TooLarge { .. }));
        assert!(matches!(get("/headers").await, EgressError::Http { .. }));
        assert!(matches!(get("/silent").await, EgressError::Timeout { .. }));
        assert!(matches!(get("/to//to//to//to//to//to//to//to//to//to//to//to//end").await, EgressError::Redirect(_)));
        let body = FetchRequest {
            method: "POST".into(),
            body: Some(vec![0; 5 << 20].into()),
            ..request("https://a.example/")
        };
        assert!(matches!(world.egress(&["a.example"]).fetch(body).await, Err(EgressError::TooLarge { .. })));
    });
}

#[test]
fn requests_cannot_smuggle() {
    block_on(async {
        let world = world(&["a.example"]).await;
        let send = async |name: &str, value: &str| {
            world
                .egress(&["a.example"])
                .fetch(FetchRequest { headers: vec![(name.into(), value.into())], ..request("https://a.example/") })
                .await
        };
        assert!(matches!(send("x", "a\r\nevil: 1").await, Err(EgressError::Request(_))));
        assert!(matches!(send("x y", "1").await, Err(EgressError::Request(_))));
        send("host", "evil.example").await.unwrap();
        send("transfer-encoding", "chunked").await.unwrap();
        for sent in world.requests.lock().unwrap().iter() {
            assert!(!sent.contains("evil") && !sent.contains("chunked"), "{sent}");
        }
        let connect = FetchRequest { method: "CONNECT".into(), ..request("https://a.example/") };
        assert!(matches!(world.egress(&["a.example"]).fetch(connect).await, Err(EgressError::Request(_))));
    });
}
