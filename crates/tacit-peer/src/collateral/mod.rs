//! Collateral: fetched from the vendors, kept, and renewed before it expires. Never inside a verification.

mod cache;
mod fetch;
mod source;

use serde::{Deserialize, Serialize};
use url::Url;

pub use cache::CollateralCache;
pub use fetch::Update;
pub use source::CollateralSource;

/// Where the vendors publish. Every address is a parameter: a data centre has caches of its own, and tests have servers.
///
/// What comes back is signed by the vendors, so a service that lies can only withhold. The section `[collateral]` of a node's
/// configuration; what it does not name is the vendor's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Endpoints {
    /// Intel's provisioning certification service, or a PCCS (`…/sgx/certification/v4/…`).
    pub pccs: Url,
    /// The revocation list of Intel's root (DER).
    pub intel_root_crl: Url,
    /// AMD's key distribution service (`…/vcek/v1/…`).
    pub kds: Url,
    /// NVIDIA's reference manifests (`…/v1/rim/…`).
    pub rim: Url,
    /// NVIDIA's certificate status responder (RFC 6960).
    pub ocsp: Url,
}

impl Default for Endpoints {
    fn default() -> Self {
        let url = |text: &str| Url::parse(text).expect("a constant address");
        Self {
            pccs: url("https://api.trustedservices.intel.com"),
            intel_root_crl: url("https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"),
            kds: url("https://kdsintf.amd.com"),
            rim: url("https://rim.attestation.nvidia.com"),
            ocsp: url("https://ocsp.ndis.nvidia.com"),
        }
    }
}
