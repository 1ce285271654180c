//! One random byte of a receipt bundle changed, a thousand times.

use anyhow::{Result, ensure};
use rand::RngExt as _;

use crate::{clock::now, inputs::Inputs, network::Network};

/// Shows altered bundles to the verifier and counts those that it takes.
pub fn show_altered(network: &Network, inputs: &Inputs) -> Result<usize> {
    let bundle = &inputs.left()?.bundle;
    let (client, now) = (network.client()?, now()?);
    let holds = |bytes: &[u8]| client.verifier().verify_receipt(bytes, now).is_ok();
    ensure!(holds(bundle), "expected that the unaltered bundle holds, or its alterations show nothing");
    let mut accepted = 0;
    for bits in &inputs.altered_bits {
        let mut altered = bundle.clone();
        altered[rand::rng().random_range(0..bundle.len())] ^= bits;
        accepted += usize::from(holds(&altered));
    }
    Ok(accepted)
}
