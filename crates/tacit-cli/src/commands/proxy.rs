//! `tacit proxy`: a local OpenAI endpoint in front of a verified node.

use tacit_client::ai::proxy::{Proxy, ProxySettings};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    CommandResult, Environment,
    ai_node::{ai_error, client, introduce, read_secret},
};
use crate::{arguments::ProxyArguments, error::Exit, output};

/// Verifies the node, then listens until it is told to stop.
pub async fn run(arguments: &ProxyArguments, environment: &Environment) -> CommandResult {
    let client = client(&arguments.node, environment)?;
    let local_key = arguments.local_key_file.as_deref().map(read_secret).transpose()?;
    let node = client.verify().await.map_err(ai_error)?;
    introduce(&node, &client);
    let settings = ProxySettings { listen: arguments.listen, local_key };
    let proxy = Proxy::start(client.clone(), settings).await.map_err(ai_error)?;
    let rows = [
        ("node", format!("{} · policy {} · {}", client.node_url(), client.policy_name(), node.hardware())),
        ("measurement", node.service().evidence().measurement().to_string()),
        ("transcripts", client.store().map(|store| store.folder().display().to_string()).unwrap_or_default()),
        ("status", format!("http://{}/tacit/status", proxy.address())),
    ];
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(name, value)| vec![format!("  {name}"), value]).collect();
    output::note(output::table(&rows).trim_end());
    output::note("Every answer that passes is proven. End with Ctrl-C.");
    // The address alone, for programs that start the proxy on a free port.
    output::line(format_args!("http://{}/v1", proxy.address()))?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(Exit::Ok)
}
