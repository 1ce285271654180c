//! A gateway that lies: it passes everything on and alters what comes back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// What it does to the body of a sealed answer.
#[derive(Clone, Copy)]
pub enum Meddling {
    /// Flips one bit in the middle.
    Flips,
    /// Leaves out the second half.
    Cuts,
    /// Answers with a refusal of its own.
    Refuses,
}

/// A proxy in front of a gateway, on a thread and runtime of its own.
pub struct Meddler {
    pub url: String,
    pub meddled: Arc<AtomicUsize>,
}

impl Meddler {
    pub fn start(gateway: &str, meddling: Meddling) -> Self {
        let gateway = gateway.trim_start_matches("http://").to_owned();
        let (sender, receiver) = std::sync::mpsc::channel();
        let meddled = Arc::new(AtomicUsize::new(0));
        let count = meddled.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let (gateway, count) = (gateway.clone(), count.clone());
                    tokio::spawn(async move {
                        let _ = pass(stream, &gateway, meddling, &count).await;
                    });
                }
            });
        });
        Self { url: format!("http://{}", receiver.recv().unwrap()), meddled }
    }

    pub fn count(&self) -> usize {
        self.meddled.load(Ordering::SeqCst)
    }
}

/// One request and its answer; the connection is closed after it.
async fn pass(mut client: TcpStream, gateway: &str, meddling: Meddling, count: &AtomicUsize) -> std::io::Result<()> {
    let (head, body) = read_message(&mut client).await?;
    let mut upstream = TcpStream::connect(gateway).await?;
    let head = closing(&head);
    upstream.write_all(head.as_bytes()).await?;
    upstream.write_all(&body).await?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).await?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    let (answer_head, answer_body) = (String::from_utf8_lossy(&answer[..end]).into_owned(), answer[end..].to_vec());
    if !answer_head.contains("message/ohttp-res") {
        return client.write_all(&answer).await;
    }
    count.fetch_add(1, Ordering::SeqCst);
    let altered = match meddling {
        Meddling::Flips => {
            let mut altered = answer_body;
            let middle = altered.len() / 2;
            altered[middle] ^= 1;
            altered
        }
        Meddling::Cuts => answer_body[..answer_body.len() / 2].to_vec(),
        Meddling::Refuses => {
            let problem = br#"{"type":"urn:tacit:problem:denied","title":"x","status":403,"detail":"made up"}"#;
            let head = format!(
                "HTTP/1.1 403 Forbidden\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                problem.len()
            );
            client.write_all(head.as_bytes()).await?;
            return client.write_all(problem).await;
        }
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-res\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        altered.len()
    );
    client.write_all(head.as_bytes()).await?;
    client.write_all(&altered).await
}

/// The head with `connection: close`, so that the answer ends with the connection.
fn closing(head: &str) -> String {
    let lines = head.trim_end().lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    lines.collect::<Vec<_>>().join("\r\n") + "\r\nconnection: close\r\n\r\n"
}

async fn read_message(stream: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let length = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length:").and_then(|value| value.trim().parse().ok())
        })
        .unwrap_or(0);
    let mut body = bytes[end..].to_vec();
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok((head, body))
}
