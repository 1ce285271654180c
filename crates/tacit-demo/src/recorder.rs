//! A wire tap between client and gateway: forwards every byte and keeps a copy.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::JoinHandle,
};

/// A tap that listens on loopback.
pub struct Recorder {
    url: String,
    copy: Arc<Mutex<File>>,
    path: PathBuf,
    accepting: JoinHandle<()>,
}

impl Recorder {
    /// Forwards to the gateway at `url` and writes what passes, both ways, to `path`.
    pub async fn start(url: &str, path: &Path) -> Result<Self> {
        let target = url.strip_prefix("http://").context("the gateway's URL is not http")?.to_owned();
        let copy = Arc::new(Mutex::new(File::create(path).await.with_context(|| path.display().to_string())?));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let own = format!("http://{}", listener.local_addr()?);
        let shared = copy.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (target, copy) = (target.clone(), shared.clone());
                tokio::spawn(async move {
                    if let Ok(gateway) = TcpStream::connect(&target).await {
                        let (client_read, client_write) = client.into_split();
                        let (gateway_read, gateway_write) = gateway.into_split();
                        tokio::join!(
                            pass(client_read, gateway_write, copy.clone()),
                            pass(gateway_read, client_write, copy)
                        );
                    }
                });
            }
        });
        Ok(Self { url: own, copy, path: path.to_owned(), accepting })
    }

    /// The URL to use instead of the gateway's.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops listening and returns the file with the copy.
    pub async fn stop(self) -> Result<PathBuf> {
        self.accepting.abort();
        self.copy.lock().await.flush().await?;
        Ok(self.path)
    }
}

async fn pass(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, copy: Arc<Mutex<File>>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if copy.lock().await.write_all(&buffer[..read]).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    // The other side hangs up when it reads the end.
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_passes_is_kept() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::start(&url, &folder.path().join("copy")).await.unwrap();
        let address = recorder.url().strip_prefix("http://").unwrap().to_owned();
        let client = tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"question").await.unwrap();
            let mut answer = [0; 6];
            stream.read_exact(&mut answer).await.unwrap();
            answer
        });
        let (mut server, _) = listener.accept().await.unwrap();
        let mut question = [0; 8];
        server.read_exact(&mut question).await.unwrap();
        server.write_all(b"answer").await.unwrap();
        assert_eq!(&client.await.unwrap(), b"answer");
        let copy = std::fs::read(recorder.stop().await.unwrap()).unwrap();
        assert_eq!(copy, b"questionanswer");
    }
}
