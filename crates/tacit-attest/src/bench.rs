//! What the benchmark compares [`crate::verify`] with: the library's own verification of the same bytes, which is signatures,
//! chain and dates without a policy. Where there is no library, our own chain and signature.
//!
//! Nothing here gives a verdict that anybody could act on: the answer is unit or a refusal.

use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::verify::QuoteVerifier;
use sev::certs::snp::{Certificate, Chain, Verifiable as _, ca};
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser as _;
use tacit_types::UnixTime;

use crate::nvidia::GpuEvidence;
use crate::root::Vendor;
use crate::{AttestError, Collateral, Evidence, Policy, VendorRoot, intel, nitro, nvidia};

/// One piece of evidence in the form that its library takes.
pub struct SignatureOnly(Subject);

enum Subject {
    Intel { verifier: Box<QuoteVerifier>, document: Vec<u8>, collateral: Box<QuoteCollateralV3> },
    Amd { root: Vec<u8>, ask: Vec<u8>, vcek: Vec<u8>, report: Vec<u8> },
    Nitro(Vec<u8>),
    Gpus(GpuEvidence),
}

impl SignatureOnly {
    /// Evidence of a CPU, under the vendor's own root.
    ///
    /// # Errors
    /// [`AttestError`] for collateral of another vendor, or a report whose generation is not told.
    pub fn of(evidence: &Evidence, collateral: &Collateral, root: VendorRoot) -> Result<Self, AttestError> {
        let document = evidence.document().to_vec();
        Ok(Self(match collateral {
            Collateral::Intel(collateral) => Subject::Intel {
                verifier: Box::new(QuoteVerifier::new(root.certificate())),
                document,
                collateral: Box::new(intel::dcap_collateral(collateral)),
            },
            Collateral::Amd(collateral) => Subject::Amd {
                root: root.certificate(),
                ask: collateral.ask.clone(),
                vcek: collateral.vcek.clone(),
                report: document,
            },
            Collateral::Nitro(_) => Subject::Nitro(document),
        }))
    }

    /// Evidence of GPUs, under NVIDIA's own root.
    pub fn of_gpus(evidence: &GpuEvidence) -> Self {
        Self(Subject::Gpus(evidence.clone()))
    }

    /// Checks signatures and chain, from bytes on.
    ///
    /// # Errors
    /// [`AttestError`]; for AMD without a finer name than [`AttestError::Refused`].
    pub fn check(&self, policy: &Policy, now: UnixTime) -> Result<(), AttestError> {
        let refused = |error: std::io::Error| AttestError::Refused(error.to_string());
        match &self.0 {
            Subject::Intel { verifier, document, collateral } => verifier
                .verify(document, collateral, now.0)
                .map(drop)
                .map_err(|error| AttestError::Refused(format!("{error:#}"))),
            Subject::Amd { root, ask, vcek, report } => {
                let certificate = |der: &[u8]| Certificate::from_der(der).map_err(refused);
                let ca = ca::Chain { ark: certificate(root)?, ask: certificate(ask)? };
                let chain = Chain { ca, vek: certificate(vcek)? };
                let report = AttestationReport::from_bytes(report).map_err(refused)?;
                (&chain, &report).verify().map_err(refused)
            }
            Subject::Nitro(document) => {
                nitro::check_signatures(document, policy.trusted_roots(Vendor::Aws), now).map(drop)
            }
            Subject::Gpus(evidence) => nvidia::check_signatures(evidence, policy, now),
        }
    }
}
