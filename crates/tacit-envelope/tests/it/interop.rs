//! The crates `ohttp` and `bhttp` are independent implementations of the same RFCs.

use std::io::{Cursor, Result as IoResult};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::executor::block_on;
use futures::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use ohttp::hpke::{Aead, Kdf, Kem as PeerKem};
use ohttp::{ClientRequest, KeyConfig as PeerConfig, Server, SymmetricSuite};
use tacit_envelope::{Framing, Kem, KeyConfig, KeyPair, Limits, Request, Response, seal_chunked_request, seal_request};

use crate::rng;

const KEMS: [(Kem, PeerKem); 2] = [(Kem::XWing, PeerKem::XWing), (Kem::X25519, PeerKem::X25519Sha256)];

fn peer_server(kem: PeerKem) -> (Server, KeyConfig) {
    ohttp::init();
    let suites = vec![SymmetricSuite::new(Kdf::HkdfSha256, Aead::Aes128Gcm)];
    let server = Server::new(PeerConfig::new(9, kem, suites).unwrap()).unwrap();
    let config = KeyConfig::parse(&server.config().encode().unwrap()).unwrap();
    (server, config)
}

fn peer_client(pair: &KeyPair) -> ClientRequest {
    ohttp::init();
    ClientRequest::from_encoded_config(&pair.config().encode()).unwrap()
}

#[test]
fn our_client_with_their_server() {
    for (_, kem) in KEMS {
        let (server, config) = peer_server(kem);
        let (sealed, opener) = seal_request(&mut rng(1), &config, b"question").unwrap();
        let (plain, response) = server.decapsulate(&sealed).unwrap();
        assert_eq!(plain, b"question");
        assert_eq!(opener.open(&response.encapsulate(b"answer").unwrap()).unwrap(), b"answer");
    }
}

#[test]
fn their_client_with_our_server() {
    for (kem, _) in KEMS {
        let pair = KeyPair::generate(&mut rng(1), 9, kem);
        let (sealed, response) = peer_client(&pair).encapsulate(b"question").unwrap();
        let (plain, sealer) = pair.open_request(&sealed).unwrap();
        assert_eq!(plain, b"question");
        assert_eq!(response.decapsulate(&sealer.seal(&mut rng(2), b"answer").unwrap()).unwrap(), b"answer");
    }
}

/// Bytes written through it can be read elsewhere.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl AsyncWrite for Sink {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<IoResult<usize>> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<IoResult<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<IoResult<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn their_chunked_client_with_our_server() {
    let pair = KeyPair::generate(&mut rng(1), 9, Kem::X25519);
    let question: Vec<u8> = (0..40_000u32).map(|number| number as u8).collect();
    let sent = Sink::default();
    let mut client = peer_client(&pair).encapsulate_stream(sent.clone()).unwrap();
    block_on(async {
        client.write_all(&question).await.unwrap();
        client.close().await.unwrap();
    });
    let bytes = sent.bytes();
    let (start, rest) = bytes.split_at(pair.chunked_start_length());
    let mut opener = pair.open_chunked_request(start).unwrap();
    let mut plain = opener.push(rest).unwrap();
    let (end, mut answer, mut sealer) = opener.finish(&mut rng(2)).unwrap();
    plain.extend_from_slice(&end);
    assert_eq!(plain, question);

    answer.extend_from_slice(&sealer.seal(b"one ").unwrap());
    answer.extend_from_slice(&sealer.finish(b"two").unwrap());
    let mut read = Vec::new();
    let mut response = client.response(Cursor2::new(answer)).unwrap();
    block_on(response.read_to_end(&mut read)).unwrap();
    assert_eq!(read, b"one two");
}

type Cursor2 = futures::io::Cursor<Vec<u8>>;

#[test]
fn our_chunked_client_with_their_server() {
    let (server, config) = peer_server(PeerKem::X25519Sha256);
    let (mut bytes, mut sealer) = seal_chunked_request(&mut rng(1), &config).unwrap();
    bytes.extend_from_slice(&sealer.seal(b"one ").unwrap());
    let (end, mut opener) = sealer.finish(b"two").unwrap();
    bytes.extend_from_slice(&end);
    let mut request = server.decapsulate_stream(Cursor2::new(bytes));
    let mut plain = Vec::new();
    block_on(request.read_to_end(&mut plain)).unwrap();
    assert_eq!(plain, b"one two");

    let sent = Sink::default();
    let mut response = request.response(sent.clone()).unwrap();
    block_on(async {
        response.write_all(b"three").await.unwrap();
        response.close().await.unwrap();
    });
    let mut plain = opener.push(&sent.bytes()).unwrap();
    plain.extend_from_slice(&opener.finish().unwrap());
    assert_eq!(plain, b"three");
}

#[test]
fn their_binary_http_is_ours() {
    let mut request = Request::post("function", "/0xabc/price").header("tacit-nonce", "0x01").body(b"{}".to_vec());
    request.trailers.push("tacit-bundle", "AAAA");
    for (ours, theirs) in
        [(Framing::KnownLength, bhttp::Mode::KnownLength), (Framing::Indeterminate, bhttp::Mode::IndeterminateLength)]
    {
        let message = bhttp::Message::read_bhttp(&mut Cursor::new(request.encode_framed(ours).unwrap())).unwrap();
        assert_eq!(message.control().method(), Some(b"POST".as_slice()));
        assert_eq!(message.control().path(), Some(b"/0xabc/price".as_slice()));
        assert_eq!(message.header().get(b"tacit-nonce"), Some(b"0x01".as_slice()));
        assert_eq!(message.content(), b"{}");
        assert_eq!(message.trailer().get(b"tacit-bundle"), Some(b"AAAA".as_slice()));
        let mut written = Vec::new();
        message.write_bhttp(theirs, &mut written).unwrap();
        assert_eq!(Request::decode(&written, &Limits::default()).unwrap(), request);
    }
    let mut message = bhttp::Message::response(bhttp::StatusCode::OK);
    message.put_header("content-type", "text/plain");
    message.write_content(b"ok");
    let mut written = Vec::new();
    message.write_bhttp(bhttp::Mode::IndeterminateLength, &mut written).unwrap();
    let expected = Response::new(200).header("content-type", "text/plain").body(b"ok".to_vec());
    assert_eq!(Response::decode(&written, &Limits::default()).unwrap(), expected);
}
