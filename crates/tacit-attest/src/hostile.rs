//! Bodies of fuzz targets: plain functions of hostile bytes that must return.

use tacit_types::UnixTime;

use crate::nvidia::{GpuCollateral, GpuEvidence, GpuPolicy, Manifest, TokenKey, verify_gpus};
use crate::{Collateral, Evidence, NitroCollateral, Policy, Preset, nitro, nvidia, verify};

/// A Nitro document, its content, and its certificates.
pub fn nitro_document(bytes: &[u8]) {
    nitro::parse_hostile(bytes);
    if let Ok(evidence) = Evidence::nitro(bytes.to_vec()) {
        let _ = verify(&evidence, &collateral(), &Policy::preset(Preset::Dev), UnixTime(1_766_668_537));
    }
}

/// A GPU's report, and the XML of a manifest.
pub fn gpu_structures(bytes: &[u8]) {
    nvidia::parse_hostile(bytes);
}

/// A reference manifest, signature and all.
pub fn gpu_manifest(bytes: &[u8]) {
    let _ = Manifest::verify(bytes, &Policy::preset(Preset::Dev), UnixTime(1_720_000_000));
}

/// The JSON of GPU evidence, judged if it can be read.
pub fn gpu_evidence(bytes: &[u8]) {
    let policy = Policy::preset(Preset::Dev).with_gpu(GpuPolicy::preset(Preset::Dev));
    for evidence in [GpuEvidence::from_json(bytes), GpuEvidence::from_evidence_list(bytes)].into_iter().flatten() {
        let nonce = evidence.items()[0].nonce;
        let _ = verify_gpus(&evidence, &GpuCollateral::default(), &policy, &nonce, UnixTime(1_720_000_000));
    }
}

/// The JSON of GPU collateral, a key set and a policy's demands.
pub fn gpu_collateral(bytes: &[u8]) {
    let _ = GpuCollateral::from_json(bytes);
    let _ = TokenKey::from_jwks("issuer", bytes);
    let _ = Policy::from_json(bytes);
}

fn collateral() -> Collateral {
    Collateral::Nitro(NitroCollateral::default())
}
