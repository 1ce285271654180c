//! Step 4: who saw it. Plaintext markers are searched in every file and process of the network.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::{
    exposure::{Markers, Searched},
    inputs::Inputs,
    network::Network,
    screen::bytes,
};

/// Searches and shows what was found where.
pub fn run(network: &Network, inputs: &Inputs) -> Result<()> {
    let data = inputs.left()?;
    let texts: Vec<String> = data.rows.iter().map(|row| row.marker.clone()).collect();
    let markers = Markers::new(&texts)?;
    let folder = network.tool.network();
    let status = network.status()?;

    println!("4 WHO SAW IT   searched for {} plaintext markers", texts.len());
    let control = markers.in_file(&inputs.client_file)?;
    let gateways = total([
        memory(&markers, status.gateways.iter().map(|gateway| gateway.pid))?,
        folders(&markers, folder, "gateway-")?,
        Searched { found: markers.in_file(&data.traffic)?, places: 1, bytes: std::fs::metadata(&data.traffic)?.len() },
    ]);
    let at_rest = total([
        markers.in_folder(&folder.join("store"))?,
        markers.in_folder(&folder.join("logs"))?,
        markers.in_folder(&folder.join("chain"))?,
        folders(&markers, folder, "worker-")?,
        memory(&markers, [status.chain.pid])?,
    ]);
    let gatekeepers = total([
        memory(&markers, status.gatekeepers.iter().map(|gatekeeper| gatekeeper.pid))?,
        folders(&markers, folder, "gatekeeper-")?,
    ]);
    let workers = memory(&markers, status.workers.iter().map(|worker| worker.pid))?;

    println!("  the client's own file (control)               {:>4} found", control.len());
    for (place, searched) in [
        ("gateways: memory, disk, traffic", &gateways),
        ("store, logs, worker disks, chain", &at_rest),
        ("gatekeepers: memory, disk", &gatekeepers),
    ] {
        println!("  {place:<45} {:>4} found in {}", searched.found.len(), bytes(searched.bytes));
    }
    println!(
        "  worker memory, read as root                   {:>4} found in {}   <- expected here: simulated chips do not",
        workers.found.len(),
        bytes(workers.bytes)
    );
    println!("{:67}encrypt memory; this is what a real TEE removes", "");
    ensure!(
        control.len() == texts.len(),
        "expected that all {} markers are found in {}, or the search shows nothing; found {}",
        texts.len(),
        inputs.client_file.display(),
        control.len()
    );
    for (name, searched) in
        [("the gateways", &gateways), ("what is at rest", &at_rest), ("the gatekeepers", &gatekeepers)]
    {
        ensure!(searched.bytes > 0, "expected something to search in {name}, found nothing");
        ensure!(searched.found.is_empty(), "expected no marker in {name}, found {}", searched.found.len());
    }
    Ok(())
}

fn memory(markers: &Markers, pids: impl IntoIterator<Item = Option<u32>>) -> Result<Searched> {
    Ok(total(pids.into_iter().flatten().map(|pid| markers.in_memory(pid)).collect::<Result<Vec<_>>>()?))
}

/// Folders of the network whose names begin so.
fn folders(markers: &Markers, network: &Path, prefix: &str) -> Result<Searched> {
    let mut all = Searched::default();
    for entry in std::fs::read_dir(network)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            all.add(markers.in_folder(&entry.path())?);
        }
    }
    Ok(all)
}

fn total(searches: impl IntoIterator<Item = Searched>) -> Searched {
    searches.into_iter().fold(Searched::default(), |mut all, search| {
        all.add(search);
        all
    })
}
