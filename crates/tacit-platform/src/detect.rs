//! What this machine offers, by its device files.

use std::path::{Path, PathBuf};

/// An interface to trusted hardware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Device {
    /// A TDX guest's device.
    TdxGuest,
    /// An SEV-SNP guest's device.
    SevGuest,
    /// The kernel's report interface of a TDX or SEV-SNP guest.
    ConfigfsTsm,
    /// SGX enclaves can be started.
    SgxEnclave,
    /// This process runs under Gramine, which makes SGX quotes.
    Gramine,
    /// An AWS Nitro enclave's security module.
    NitroNsm,
    /// A dstack guest agent's socket.
    DstackSocket,
    /// An NVIDIA GPU; whether it is in confidential mode shows only in its evidence.
    NvidiaGpu,
}

impl Device {
    /// The name on the screen.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TdxGuest => "Intel TDX guest",
            Self::SevGuest => "AMD SEV-SNP guest",
            Self::ConfigfsTsm => "kernel report interface",
            Self::SgxEnclave => "Intel SGX",
            Self::Gramine => "Gramine (Intel SGX)",
            Self::NitroNsm => "AWS Nitro enclave",
            Self::DstackSocket => "dstack guest agent",
            Self::NvidiaGpu => "NVIDIA GPU",
        }
    }

    /// True if it can by itself make evidence about the CPU that this process runs on.
    pub const fn attests(self) -> bool {
        !matches!(self, Self::SgxEnclave | Self::NvidiaGpu)
    }

    /// True if a driver of this crate can ask it.
    pub const fn has_driver(self) -> bool {
        matches!(self, Self::SevGuest | Self::ConfigfsTsm | Self::Gramine | Self::DstackSocket)
    }
}

/// Every path that [`detect`] looks at, below the root.
pub const LOOKED_FOR: [(&str, Device); 15] = [
    ("dev/tdx_guest", Device::TdxGuest),
    ("dev/tdx-guest", Device::TdxGuest),
    ("dev/sev-guest", Device::SevGuest),
    ("sys/kernel/config/tsm/report", Device::ConfigfsTsm),
    ("dev/sgx_enclave", Device::SgxEnclave),
    ("dev/sgx/enclave", Device::SgxEnclave),
    ("dev/attestation/attestation_type", Device::Gramine),
    ("dev/attestation/quote", Device::Gramine),
    ("dev/nsm", Device::NitroNsm),
    ("var/run/dstack.sock", Device::DstackSocket),
    ("run/dstack.sock", Device::DstackSocket),
    ("var/run/dstack/dstack.sock", Device::DstackSocket),
    ("run/dstack/dstack.sock", Device::DstackSocket),
    ("dev/nvidia0", Device::NvidiaGpu),
    ("dev/nvidia-caps", Device::NvidiaGpu),
];

/// Something found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub device: Device,
    /// Where it is.
    pub path: PathBuf,
}

/// Looks for trusted hardware below `root` (`/` outside tests): each kind at most once, in the order of [`LOOKED_FOR`].
pub fn detect(root: &Path) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for (path, device) in LOOKED_FOR {
        let path = root.join(path);
        if path.exists() && found.iter().all(|earlier| earlier.device != device) {
            found.push(Found { device, path });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Driver;

    #[test]
    fn each_device_is_found_on_a_tree_that_has_it() {
        for (path, device) in LOOKED_FOR {
            let tree = tempfile::tempdir().unwrap();
            let file = tree.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, b"").unwrap();
            assert_eq!(detect(tree.path()), [Found { device, path: file }]);
        }
    }

    #[test]
    fn the_driver_that_is_found_is_the_newest() {
        let tree = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        };
        assert!(Driver::find(tree.path()).is_none());
        make("dev/nsm");
        make("run/dstack.sock");
        assert!(Driver::find(tree.path()).is_none());
        make("dev/sev-guest");
        assert!(matches!(Driver::find(tree.path()), Some(Driver::SevGuest(_))));
        make("sys/kernel/config/tsm/report/x");
        assert!(matches!(Driver::find(tree.path()), Some(Driver::ConfigfsTsm(_))));
        make("dev/attestation/attestation_type");
        assert!(matches!(Driver::find(tree.path()), Some(Driver::Gramine(_))));
    }

    #[test]
    fn this_machine_is_looked_at_without_harm() {
        // Wherever tests run: what is found is there, and a kind without a device is not claimed.
        for found in detect(Path::new("/")) {
            assert!(found.path.exists(), "{found:?}");
        }
    }

    #[test]
    fn an_empty_tree_has_nothing_and_no_kind_is_found_twice() {
        let tree = tempfile::tempdir().unwrap();
        assert_eq!(detect(tree.path()), []);
        std::fs::create_dir_all(tree.path().join("dev")).unwrap();
        std::fs::write(tree.path().join("dev/tdx_guest"), b"").unwrap();
        std::fs::write(tree.path().join("dev/tdx-guest"), b"").unwrap();
        assert_eq!(detect(tree.path()).len(), 1);
    }
}
