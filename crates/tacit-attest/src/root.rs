//! Roots of trust: the vendors' own, and others that a policy brings along.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tacit_types::RootId;

use crate::der;
use crate::evidence::base64_bytes;
use crate::{AttestError, PolicyError};

/// Whose evidence format a root signs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vendor {
    /// SGX and TDX quotes.
    Intel,
    /// SEV-SNP reports.
    Amd,
    /// Nitro attestation documents.
    Aws,
    /// Reports of NVIDIA GPUs.
    NvidiaDevice,
    /// Reference manifests (RIM) of NVIDIA drivers and VBIOS.
    NvidiaRim,
}

/// A root that its vendor published and that this crate carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VendorRoot {
    /// Intel SGX Root CA, which signs for SGX and TDX.
    IntelSgx,
    /// AMD ARK-Milan.
    AmdMilan,
    /// AMD ARK-Genoa.
    AmdGenoa,
    /// AMD ARK-Turin.
    AmdTurin,
    /// AWS Nitro Enclaves Root G1.
    AwsNitro,
    /// NVIDIA Device Identity CA, under which every GPU's key is certified.
    NvidiaDevice,
    /// NVIDIA CoRIM signing Root CA, under which reference manifests are signed.
    NvidiaRim,
}

impl VendorRoot {
    /// Every root that this crate carries.
    pub const ALL: [Self; 7] = [
        Self::IntelSgx,
        Self::AmdMilan,
        Self::AmdGenoa,
        Self::AmdTurin,
        Self::AwsNitro,
        Self::NvidiaDevice,
        Self::NvidiaRim,
    ];

    /// The name in policies and on the screen.
    pub const fn name(self) -> &'static str {
        match self {
            Self::IntelSgx => "intel-sgx",
            Self::AmdMilan => "amd-milan",
            Self::AmdGenoa => "amd-genoa",
            Self::AmdTurin => "amd-turin",
            Self::AwsNitro => "aws-nitro",
            Self::NvidiaDevice => "nvidia-device",
            Self::NvidiaRim => "nvidia-rim",
        }
    }

    /// Whose it is.
    pub const fn vendor(self) -> Vendor {
        match self {
            Self::IntelSgx => Vendor::Intel,
            Self::AmdMilan | Self::AmdGenoa | Self::AmdTurin => Vendor::Amd,
            Self::AwsNitro => Vendor::Aws,
            Self::NvidiaDevice => Vendor::NvidiaDevice,
            Self::NvidiaRim => Vendor::NvidiaRim,
        }
    }

    /// The certificate (DER).
    pub fn certificate(self) -> Vec<u8> {
        use sev::certs::snp::builtin::{genoa, milan, turin};
        let pem = match self {
            // https://certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.cer
            Self::IntelSgx => return include_bytes!("../roots/intel-sgx.der").to_vec(),
            // https://aws-nitro-enclaves.amazonaws.com/AWS_NitroEnclaves_Root-G1.zip
            Self::AwsNitro => return include_bytes!("../roots/aws-nitro-g1.der").to_vec(),
            // As NVIDIA's own verifiers carry them: `verifier_device_root.pem` and `verifier_RIM_root.pem`.
            Self::NvidiaDevice => return include_bytes!("../roots/nvidia-device.der").to_vec(),
            Self::NvidiaRim => return include_bytes!("../roots/nvidia-rim.der").to_vec(),
            Self::AmdMilan => milan::ARK,
            Self::AmdGenoa => genoa::ARK,
            Self::AmdTurin => turin::ARK,
        };
        der::certificates_in_pem("vendor root", pem)
            .ok()
            .and_then(|mut certificates| certificates.pop())
            .expect("the vendors' certificates are part of this build and tested")
    }

    /// Its id.
    pub fn id(self) -> RootId {
        root_id(&self.certificate())
    }
}

/// A root that a policy names besides the vendors': in practice that of a simulated network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtraRoot {
    /// The name on the screen.
    pub name: String,
    /// Whose evidence format it signs for.
    pub vendor: Vendor,
    /// True if its machines are simulated; every verdict then says so.
    pub simulated: bool,
    /// The certificate (DER; base64 in files).
    #[serde(with = "base64_bytes")]
    pub certificate: Vec<u8>,
}

impl ExtraRoot {
    /// A simulated root, from its certificate (DER).
    ///
    /// # Errors
    /// [`PolicyError::Root`] if the certificate cannot be read or is a vendor's own.
    pub fn simulated(name: impl Into<String>, vendor: Vendor, certificate: Vec<u8>) -> Result<Self, PolicyError> {
        let root = Self { name: name.into(), vendor, simulated: true, certificate };
        root.validate()?;
        Ok(root)
    }

    /// Its id.
    pub fn id(&self) -> RootId {
        root_id(&self.certificate)
    }

    pub(crate) fn validate(&self) -> Result<(), PolicyError> {
        let refuse = |reason: &str| Err(PolicyError::Root { name: self.name.clone(), reason: reason.to_owned() });
        if self.name.is_empty() || self.name.len() > 64 || self.name.chars().any(char::is_control) {
            return refuse("the name must have 1 to 64 bytes and no control characters");
        }
        if self.certificate.len() > 16 * 1024 {
            return refuse("the certificate has more than 16 KiB");
        }
        let certificate = match der::certificate("root certificate", &self.certificate) {
            Ok(certificate) => certificate,
            Err(error) => return refuse(&error.to_string()),
        };
        if VendorRoot::ALL.into_iter().any(|vendor| vendor.id() == self.id()) {
            return refuse("this is a vendor's root: list it by its name");
        }
        if !self.simulated && certificate.tbs_certificate.subject.to_string().to_uppercase().contains("SIMULATED") {
            return refuse("the certificate says that it is simulated, the policy does not");
        }
        Ok(())
    }
}

/// The id of a root: SHA-256 of its certificate in DER.
pub fn root_id(certificate: &[u8]) -> RootId {
    RootId::from(<[u8; 32]>::from(Sha256::digest(certificate)))
}

/// A root that the policy names, with what to say about it.
#[derive(Debug, Clone)]
pub(crate) struct TrustedRoot {
    pub(crate) id: RootId,
    pub(crate) name: String,
    pub(crate) simulated: bool,
    pub(crate) builtin: Option<VendorRoot>,
    pub(crate) certificate: Vec<u8>,
}

pub(crate) fn wrong_root(found: impl std::fmt::Display) -> AttestError {
    AttestError::WrongRoot { root: found.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vendors_roots_have_these_fingerprints() {
        // SHA-256 fingerprints as the vendors' certificates have them.
        assert_eq!(
            VendorRoot::IntelSgx.id().to_string(),
            "0x44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
        );
        // As AWS's user guide states it.
        assert_eq!(
            VendorRoot::AwsNitro.id().to_string(),
            "0x641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"
        );
        // As computed from the files in NVIDIA's verifiers; the device root's serial number stands in NVIDIA's documents too.
        assert_eq!(
            VendorRoot::NvidiaDevice.id().to_string(),
            "0x102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48"
        );
        assert_eq!(
            VendorRoot::NvidiaRim.id().to_string(),
            "0x12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1"
        );
        let subjects = VendorRoot::ALL.map(|root| {
            let certificate = der::certificate("root", &root.certificate()).unwrap();
            certificate.tbs_certificate.subject.to_string()
        });
        assert!(subjects[0].contains("CN=Intel SGX Root CA"), "{}", subjects[0]);
        assert!(subjects[1].contains("CN=ARK-Milan"), "{}", subjects[1]);
        assert!(subjects[2].contains("CN=ARK-Genoa"), "{}", subjects[2]);
        assert!(subjects[3].contains("CN=ARK-Turin"), "{}", subjects[3]);
        assert!(subjects[4].contains("CN=aws.nitro-enclaves"), "{}", subjects[4]);
        assert!(subjects[5].contains("CN=NVIDIA Device Identity CA"), "{}", subjects[5]);
        assert!(subjects[6].contains("CN=NVIDIA CoRIM signing Root CA"), "{}", subjects[6]);
    }

    #[test]
    fn a_vendors_root_cannot_be_passed_off_as_another() {
        let check = |vendor: VendorRoot| {
            let result = ExtraRoot::simulated("mine", vendor.vendor(), vendor.certificate());
            assert!(matches!(result, Err(PolicyError::Root { .. })), "{result:?}");
        };
        VendorRoot::ALL.into_iter().for_each(check);
        assert!(ExtraRoot::simulated("mine", Vendor::Intel, vec![0x30, 0]).is_err());
    }
}
