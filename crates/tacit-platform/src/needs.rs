//! What a machine would need in order to make evidence, in the words of whoever runs it.

use serde::Serialize;

use crate::Device;

/// What one kind of trusted hardware needs. Every text is a sentence for the person at the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Needs {
    /// The devices by which it is known; any of them will do.
    #[serde(skip)]
    pub devices: &'static [Device],
    /// The name on the screen.
    pub platform: &'static str,
    /// The processor, and the machine around it.
    pub hardware: &'static str,
    /// What must be set in the firmware of the host.
    pub firmware: &'static str,
    /// The host's system.
    pub host: &'static str,
    /// The system in which the worker runs.
    pub guest: &'static str,
    /// The file that must be there, and who may use it.
    pub device: &'static str,
    /// How a worker uses it: a line of its configuration, or why it cannot.
    pub worker: &'static str,
}

/// What each kind of trusted hardware needs.
///
/// From the vendors' and the kernel's public documentation; none of it has been tried on hardware.
pub fn needs() -> [Needs; 6] {
    [
        Needs {
            devices: &[Device::TdxGuest, Device::ConfigfsTsm],
            platform: "Intel TDX",
            hardware: "a server with an Intel Xeon of the 5th generation or later (of the 4th in some clouds)",
            firmware: "BIOS of the host: enable total memory encryption (with many keys), TDX, the SEAM loader and SGX; reserve TDX key ids",
            host: "a host kernel and QEMU with TDX (Linux 6.16 and QEMU 10.1, or your distribution's), and a quote generation service (QGS)",
            guest: "a confidential VM with Linux 6.7 or later, CONFIG_INTEL_TDX_GUEST and CONFIG_TDX_GUEST_DRIVER; module tdx_guest loaded and configfs mounted",
            device: "/sys/kernel/config/tsm/report, writable by the worker's user (root, unless you change the folder's group)",
            worker: "machine = { kind = \"kernel\", root = \"/\" }",
        },
        Needs {
            devices: &[Device::SevGuest, Device::ConfigfsTsm],
            platform: "AMD SEV-SNP",
            hardware: "a server with an AMD EPYC of the 4th generation (Genoa) or later; policy `standard` refuses Milan",
            firmware: "BIOS of the host: enable SMEE, SNP memory coverage (RMP table) and SEV-SNP; ASID space for SNP above zero; IOMMU on",
            host: "a host with Linux 6.11 or later, kvm_amd with sev_snp=1, QEMU 9.1 or later and current SEV firmware",
            guest: "a confidential VM with Linux 5.19 or later (6.7 for the newer interface), CONFIG_AMD_MEM_ENCRYPT and CONFIG_SEV_GUEST; module sev-guest loaded",
            device: "/sys/kernel/config/tsm/report, or /dev/sev-guest: read and write for the worker's user (root, unless a udev rule gives it a group)",
            worker: "machine = { kind = \"kernel\", root = \"/\" }",
        },
        Needs {
            devices: &[Device::SgxEnclave, Device::Gramine],
            platform: "Intel SGX with Gramine",
            hardware: "a server with an Intel Xeon Scalable of the 3rd generation or later, with SGX2 for dynamic memory",
            firmware: "BIOS of the host: enable SGX, flexible launch control and total memory encryption; reserve processor memory (PRMRR) of several GiB",
            host: "Linux 6.0 or later with CONFIG_X86_SGX, Intel's AESM service with the DCAP quoting library, and a collateral cache or access to Intel's",
            guest: "the worker started by gramine-sgx with sgx.remote_attestation = \"dcap\"; whether it runs there is not known, see docs/hardware.md",
            device: "/dev/sgx_enclave, and /dev/sgx_provision for the AESM service: the user must be in the groups sgx and sgx_prv",
            worker: "machine = { kind = \"kernel\", root = \"/\" }",
        },
        Needs {
            devices: &[Device::DstackSocket],
            platform: "dstack (TDX or SEV-SNP)",
            hardware: "a host of a dstack cloud, or your own TDX host with dstack installed",
            firmware: "as for the host's processor, above",
            host: "dstack-vmm and dstack's key service",
            guest: "an application whose compose file mounts the guest agent's socket into the worker's container",
            device: "/var/run/dstack.sock: whoever can open it gets every key of the application, so mount it for the worker alone",
            worker: "machine = { kind = \"guest-agent\", socket = \"/var/run/dstack.sock\" }",
        },
        Needs {
            devices: &[Device::NitroNsm],
            platform: "AWS Nitro Enclaves",
            hardware: "an EC2 instance started with enclave support",
            firmware: "none: AWS sets it",
            host: "the package aws-nitro-enclaves-cli, and memory and processors set aside for enclaves",
            guest: "an enclave image with the worker",
            device: "/dev/nsm, inside the enclave",
            worker: "there is no driver yet: the device is found, and nothing more",
        },
        Needs {
            devices: &[Device::NvidiaGpu],
            platform: "NVIDIA GPU in confidential mode",
            hardware: "an H100, H200 or Blackwell GPU in a machine that offers TDX or SEV-SNP",
            firmware: "confidential mode switched on for the GPU by the host (nvidia_gpu_tools), then a reset",
            host: "the GPU passed through to the confidential VM",
            guest: "NVIDIA's driver 550 or later with open kernel modules, and the GPU set ready for use",
            device: "/dev/nvidia0, for the worker's user (group video or render)",
            worker: "gpus = { command = [\"TOOL\"] }, beside the machine: the tool prints what the GPUs sign over the nonce that it gets",
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LOOKED_FOR;

    #[test]
    fn whatever_is_looked_for_is_explained() {
        for (path, device) in LOOKED_FOR {
            assert!(needs().iter().any(|needs| needs.devices.contains(&device)), "{path}");
        }
    }
}
