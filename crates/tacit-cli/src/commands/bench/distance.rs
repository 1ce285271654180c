//! Nodes that are apart: relays of our own that hold every byte back, and workers that are configured to go through them.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    time::Duration,
};

use anyhow::{Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use super::network::{self, BenchNetwork};
use crate::context::write_file;

/// Pieces on their way in one direction of one connection.
const PIECES: usize = 1_024;
/// Longest that gateways may take to see where the workers are now.
const PATIENCE: Duration = Duration::from_secs(60);

/// A relay on a loopback port; it ends when it is dropped.
pub struct Relay {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Relay {
    /// Relays connections to `target`; every byte is passed on `delay` after it came.
    async fn start(target: SocketAddr, delay: Duration) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                connections.spawn(relay(near, target, delay));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, task })
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(near: TcpStream, target: SocketAddr, delay: Duration) {
    let Ok(far) = TcpStream::connect(target).await else { return };
    if near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).is_err() {
        return;
    }
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    tokio::join!(pump(near_read, far_write, delay), pump(far_read, near_write, delay));
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let read = async move {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match from.read(&mut buffer).await {
                Ok(length) if length > 0 => {
                    let piece = (Instant::now() + delay, buffer[..length].to_vec());
                    if sender.send(piece).await.is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    };
    let write = async move {
        while let Some((at, piece)) = receiver.recv().await {
            tokio::time::sleep_until(at).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        // The other side has gone or is gone already: either way nothing more is to be said.
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}

/// Puts `round_trip` between the gateways and each worker, and between each worker and each gatekeeper: the workers are started
/// again with a deployment file that names relays, on other ports, under endpoints that are relays.
pub async fn put_apart(network: &BenchNetwork<'_>, round_trip: Duration) -> Result<Vec<Relay>> {
    let (local, delay) = (network.local, round_trip / 2);
    let mut relays = Vec::new();
    let mut deployment = local.folder.deployment()?;
    for (gatekeeper, name) in deployment.gatekeepers.iter_mut().zip(local.plan.gatekeeper_names()) {
        let relay = Relay::start(local.plan.address(&name)?, delay).await?;
        gatekeeper.url = relay.url();
        relays.push(relay);
    }
    let file = local.layout.folder().join("deployment-apart.json");
    write_file(&file, &serde_json::to_vec(&deployment)?, 0o644)?;
    let mut endpoints = Vec::new();
    for name in local.plan.worker_names() {
        // Gateways still know the former port from the registry, so it must not lead anywhere.
        let listen = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let relay = Relay::start(listen, delay).await?;
        let endpoint = relay.url();
        let change = |config: &mut tacit_worker::WorkerConfig| {
            config.listen = listen;
            config.endpoint = Some(endpoint.clone());
            config.deployment = file.clone();
        };
        network.reconfigure(&name, change, &relay.url()).await?;
        endpoints.push(relay.url());
        relays.push(relay);
    }
    wait_for_gateways(network, &endpoints).await?;
    Ok(relays)
}

/// Waits until the gateways name these endpoints and no others.
async fn wait_for_gateways(network: &BenchNetwork<'_>, endpoints: &[String]) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    let function = network.deploy(&["apart".to_owned()]).await?[0];
    loop {
        let mut agreed = true;
        for gateway in network.client.deployment().gateways.clone() {
            let client = network::client(network.local)?.through(vec![tacit_client::Entry::gateway(&gateway)]);
            let workers = client.fetch_workers(function).await;
            agreed &= workers.is_ok_and(|workers| {
                workers.len() == endpoints.len()
                    && workers.iter().all(|worker| {
                        endpoints.iter().any(|endpoint| worker.endpoint.trim_end_matches('/') == endpoint)
                    })
            });
        }
        if agreed {
            return Ok(());
        }
        ensure!(Instant::now() < until, "the gateways do not see where the workers are");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_come_whole_and_late_in_both_directions() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let target = listener.local_addr().unwrap();
        let echo = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; 200_000];
            stream.read_exact(&mut bytes).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        });
        let delay = Duration::from_millis(40);
        let relay = Relay::start(target, delay).await.unwrap();
        let mut stream = TcpStream::connect(relay.address).await.unwrap();
        let sent: Vec<u8> = (0..200_000u32).map(|number| number as u8).collect();
        let began = Instant::now();
        stream.write_all(&sent).await.unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        assert!(began.elapsed() >= 2 * delay, "{:?}", began.elapsed());
        assert_eq!(received, sent);
        echo.await.unwrap();
        let address = relay.address;
        drop(relay);
        let until = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(address).await.is_ok() {
            assert!(Instant::now() < until, "the relay still listens");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
