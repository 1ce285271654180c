//! Names to addresses, addresses to connections, connections to TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Turns a name into addresses.
#[async_trait]
pub trait Resolve: Send + Sync + 'static {
    /// All addresses of `host`.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// A connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// Opens a connection to an address that was checked.
#[async_trait]
pub trait Dial: Send + Sync + 'static {
    /// Connects to exactly this address.
    async fn dial(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>>;
}

/// The machine's own resolver.
struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 443)).await?.map(|address| address.ip()).collect())
    }
}

/// TCP.
struct TcpDialer;

#[async_trait]
impl Dial for TcpDialer {
    async fn dial(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

/// What exchanges go over: a resolver, a dialer and the certificate authorities that servers must have.
pub struct Network {
    resolver: Box<dyn Resolve>,
    dialer: Box<dyn Dial>,
    tls: TlsConnector,
}

impl Network {
    /// The internet: the machine's resolver, TCP, and Mozilla's authorities as compiled in, so that they are measured.
    pub fn internet() -> Self {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        Self::new(Box::new(SystemResolver), Box::new(TcpDialer), roots)
    }

    /// A network of these parts.
    pub fn new(resolver: Box<dyn Resolve>, dialer: Box<dyn Dial>, roots: RootCertStore) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring supports the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { resolver, dialer, tls: TlsConnector::from(Arc::new(config)) }
    }

    pub(super) async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        self.resolver.resolve(host).await
    }

    /// Connects to an address and makes sure that `host` answers there.
    pub(super) async fn connect(
        &self,
        host: &str,
        address: IpAddr,
    ) -> io::Result<(TlsStream<Box<dyn Stream>>, [u8; 32])> {
        let stream = self.dialer.dial(SocketAddr::new(address, 443)).await?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = self.tls.connect(name, stream).await?;
        let key = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).and_then(|certificate| {
            webpki::EndEntityCert::try_from(certificate).ok().map(|certificate| certificate.subject_public_key_info())
        });
        let key = key.ok_or_else(|| io::Error::other("the server's key cannot be read"))?;
        Ok((stream, Sha256::digest(&key).into()))
    }
}
