//! Driver for `/dev/sev-guest`, the SEV-SNP guest's device of Linux 5.19 and later (`linux/sev-guest.h`).
//!
//! Kernels from 6.7 on offer the same through `configfs`; this is for those before.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use tacit_attest::{Collateral, Evidence};

use crate::PlatformError;
use crate::certificate_table::{CertificateTable, MAX_TABLE};

const DEVICE: &str = "dev/sev-guest";
/// Where kernels from 6.11 on say at which privilege level the guest runs.
const LEVEL: &str = "sys/devices/system/cpu/sev/vmpl";
/// Bytes of the kernel's answer, of the head before the report in it, and of the report.
const RESPONSE: usize = 4000;
const HEAD: usize = 32;
const REPORT: usize = 1184;
/// The version of the messages to the firmware.
const MESSAGE_VERSION: u8 = 1;

/// The SEV-SNP guest's device.
///
/// Not yet run on hardware. What goes to the kernel and what comes back is tested; the call itself only against a file that is
/// no such device.
#[derive(Debug, Clone)]
pub struct SevGuest {
    device: PathBuf,
    level: u32,
}

impl SevGuest {
    /// The device below `root` (`/` outside tests), if there is one.
    pub fn open(root: &Path) -> Option<Self> {
        let device = root.join(DEVICE);
        let level = std::fs::read_to_string(root.join(LEVEL)).ok().and_then(|text| text.trim().parse().ok());
        device.exists().then(|| Self { device, level: level.unwrap_or(0) })
    }

    /// Evidence over `report_data`.
    ///
    /// # Errors
    /// [`PlatformError::File`] for what the kernel refuses, [`PlatformError::Firmware`] for what the secure processor refuses.
    pub async fn quote(&self, report_data: &[u8; 64]) -> Result<Evidence, PlatformError> {
        Ok(Evidence::sev_snp(self.ask(Operation::Report, *report_data).await?.report(report_data)?)?)
    }

    /// The certificates that the host put beside its reports.
    ///
    /// # Errors
    /// As [`SevGuest::quote`]; [`PlatformError::Unsupported`] where the host has none: fetch them from AMD.
    pub async fn collateral(&self) -> Result<Collateral, PlatformError> {
        let table = self.ask(Operation::ExtendedReport, [0; 64]).await?.certificates()?;
        table.into_collateral().ok_or_else(|| PlatformError::Unsupported {
            platform: "this SEV-SNP host".into(),
            what: "certificates beside its reports",
        })
    }

    async fn ask(&self, operation: Operation, report_data: [u8; 64]) -> Result<Exchange, PlatformError> {
        let (device, level) = (self.device.clone(), self.level);
        let exchange = tokio::task::spawn_blocking(move || {
            let failed = |source| PlatformError::File { path: device.clone(), source };
            let file = File::options().read(true).write(true).open(&device).map_err(failed)?;
            let mut exchange = Exchange::new(operation, &report_data, level);
            exchange.run(|exchange| kernel::call(&file, exchange)).map_err(|stopped| stopped.name(&device))?;
            Ok(exchange)
        });
        exchange.await.map_err(|_| PlatformError::Raced)?
    }
}

/// What is asked of the firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Report,
    /// With the host's certificates.
    ExtendedReport,
}

/// `struct snp_report_req`, and behind it what `struct snp_ext_report_req` adds.
#[repr(C)]
struct ReportRequest {
    report_data: [u8; 64],
    level: u32,
    reserved: [u8; 28],
    certificates_address: u64,
    certificates_length: u32,
    padding: u32,
}

/// One question to the firmware with room for its answer.
struct Exchange {
    operation: Operation,
    request: ReportRequest,
    response: Box<[u8; RESPONSE]>,
    certificates: Vec<u8>,
    /// `exitinfo2`: the firmware's error in the lower half, the hypervisor's in the upper.
    error: u64,
}

/// Why the kernel gave no answer.
#[derive(Debug)]
enum Stopped {
    Kernel(io::Error),
    Firmware(u32),
    Hypervisor(u32),
}

impl Stopped {
    fn name(self, device: &Path) -> PlatformError {
        match self {
            Self::Kernel(source) => PlatformError::File { path: device.to_owned(), source },
            Self::Firmware(code) => PlatformError::Firmware { who: "the secure processor", code },
            Self::Hypervisor(code) => PlatformError::Firmware { who: "the hypervisor", code },
        }
    }
}

impl Exchange {
    fn new(operation: Operation, report_data: &[u8; 64], level: u32) -> Self {
        let certificates = vec![0; if operation == Operation::ExtendedReport { MAX_TABLE } else { 0 }];
        let request = ReportRequest {
            report_data: *report_data,
            level,
            reserved: [0; 28],
            certificates_address: 0,
            certificates_length: certificates.len() as u32,
            padding: 0,
        };
        Self { operation, request, response: Box::new([0; RESPONSE]), certificates, error: 0 }
    }

    /// Puts the question by `call`, which in tests is not the kernel.
    fn run(&mut self, call: impl FnOnce(&mut Self) -> io::Result<()>) -> Result<(), Stopped> {
        let result = call(self);
        // The kernel may answer success and an error of the firmware together.
        match (self.error as u32, (self.error >> 32) as u32, result) {
            (0, 0, Ok(())) => Ok(()),
            (0, 0, Err(error)) => Err(Stopped::Kernel(error)),
            (0, code, _) => Err(Stopped::Hypervisor(code)),
            (code, _, _) => Err(Stopped::Firmware(code)),
        }
    }

    /// The report, which must be over `report_data` (AMD 56860, table 25).
    fn report(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, PlatformError> {
        let word = |at: usize| {
            u32::from_le_bytes([self.response[at], self.response[at + 1], self.response[at + 2], self.response[at + 3]])
        };
        match word(0) {
            0 => {}
            code => return Err(PlatformError::Firmware { who: "the secure processor", code }),
        }
        let size = word(4) as usize;
        if size != REPORT {
            return Err(PlatformError::Answer { method: DEVICE, what: format!("a report of {size} bytes") });
        }
        let report = &self.response[HEAD..HEAD + REPORT];
        if report[0x50..0x90] != *report_data {
            return Err(PlatformError::OtherReportData);
        }
        Ok(report.to_vec())
    }

    fn certificates(&self) -> Result<CertificateTable, PlatformError> {
        CertificateTable::parse(&self.certificates)
    }
}

/// The one place where the kernel is given addresses.
#[allow(unsafe_code)]
mod kernel {
    use std::fs::File;
    use std::io;

    use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

    use super::{Exchange, MESSAGE_VERSION, Operation, ReportRequest};

    /// `struct snp_guest_request_ioctl`.
    #[repr(C)]
    struct GuestRequest {
        message_version: u8,
        padding: [u8; 7],
        request: u64,
        response: u64,
        error: u64,
    }

    // The layout that `linux/sev-guest.h` gives these structures, and so the numbers of the calls.
    const _: () = assert!(size_of::<GuestRequest>() == 32 && size_of::<ReportRequest>() == 112);
    const GET_REPORT: Opcode = opcode::read_write::<GuestRequest>(b'S', 0);
    const GET_EXTENDED_REPORT: Opcode = opcode::read_write::<GuestRequest>(b'S', 2);

    /// Asks the kernel.
    pub(super) fn call(file: &File, exchange: &mut Exchange) -> io::Result<()> {
        exchange.request.certificates_address = exchange.certificates.as_mut_ptr() as u64;
        let mut request = GuestRequest {
            message_version: MESSAGE_VERSION,
            padding: [0; 7],
            request: (&raw mut exchange.request) as u64,
            response: exchange.response.as_mut_ptr() as u64,
            error: 0,
        };
        // SAFETY: both numbers stand for calls that take a `GuestRequest`. The addresses in it lead to a `ReportRequest`, to the
        // 4000 bytes of the response and to as many bytes for certificates as the request says. The exchange owns all three, is
        // borrowed mutably until the call is over, and any bytes that the kernel writes are valid for them. A file that is no
        // SEV guest's device does not know these numbers: the kernel then answers ENOTTY and touches nothing.
        let result = unsafe {
            match exchange.operation {
                Operation::Report => ioctl(file, Updater::<GET_REPORT, GuestRequest>::new(&mut request)),
                Operation::ExtendedReport => {
                    ioctl(file, Updater::<GET_EXTENDED_REPORT, GuestRequest>::new(&mut request))
                }
            }
        };
        exchange.error = request.error;
        Ok(result?)
    }

    #[cfg(test)]
    #[test]
    fn the_calls_have_the_kernels_numbers() {
        assert_eq!((GET_REPORT, GET_EXTENDED_REPORT), (0xc020_5300, 0xc020_5302));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: [u8; 64] = [7; 64];

    /// Plays a kernel that answers with a report over what it was asked for, and then changes its answer.
    fn answered(operation: Operation, change: impl FnOnce(&mut Exchange)) -> Result<Exchange, Stopped> {
        let mut exchange = Exchange::new(operation, &DATA, 2);
        exchange.run(|exchange| {
            assert_eq!((exchange.request.level, exchange.request.report_data), (2, DATA));
            exchange.response[4..8].copy_from_slice(&(REPORT as u32).to_le_bytes());
            exchange.response[HEAD + 0x50..HEAD + 0x90].copy_from_slice(&DATA);
            change(exchange);
            Ok(())
        })?;
        Ok(exchange)
    }

    #[test]
    fn a_report_and_certificates_are_read() {
        let exchange = answered(Operation::Report, |_| ()).unwrap();
        assert_eq!(exchange.report(&DATA).unwrap().len(), REPORT);
        assert!(exchange.certificates.is_empty());
        let exchange = answered(Operation::ExtendedReport, |exchange| {
            assert_eq!(exchange.request.certificates_length, 16 * 1024);
        })
        .unwrap();
        assert_eq!(exchange.certificates().unwrap(), CertificateTable::default());
    }

    #[test]
    fn hostile_answers_are_refused_by_name() {
        let report =
            |change: fn(&mut Exchange)| answered(Operation::Report, change).unwrap().report(&DATA).unwrap_err();
        let error = report(|exchange| exchange.response[0] = 0x16);
        assert!(matches!(error, PlatformError::Firmware { who: "the secure processor", code: 0x16 }), "{error:?}");
        for size in [0, 1183, 1185, u32::MAX] {
            let exchange = answered(Operation::Report, |exchange| {
                exchange.response[4..8].copy_from_slice(&size.to_le_bytes());
            });
            let error = exchange.unwrap().report(&DATA).unwrap_err();
            assert!(matches!(error, PlatformError::Answer { .. }), "{error:?}");
        }
        let error = report(|exchange| exchange.response[HEAD + 0x50] ^= 1);
        assert!(matches!(error, PlatformError::OtherReportData), "{error:?}");
        let table = answered(Operation::ExtendedReport, |exchange| exchange.certificates.fill(0xff)).unwrap();
        assert!(matches!(table.certificates(), Err(PlatformError::Answer { .. })));
    }

    #[test]
    fn errors_of_kernel_firmware_and_hypervisor_are_told_apart() {
        let stopped = |error: u64, result: io::Result<()>| {
            let mut exchange = Exchange::new(Operation::Report, &DATA, 0);
            let stopped = exchange.run(|exchange| {
                exchange.error = error;
                result
            });
            stopped.unwrap_err().name(Path::new("x")).to_string()
        };
        let refused = || Err(io::Error::from_raw_os_error(5));
        assert_eq!(stopped(0, refused()), "x");
        assert_eq!(stopped(0x16, refused()), "the secure processor refused with code 0x16");
        assert_eq!(stopped(1 << 32, Ok(())), "the hypervisor refused with code 0x1");
    }

    #[tokio::test]
    async fn a_file_that_is_no_such_device_is_named() {
        let tree = tempfile::tempdir().unwrap();
        assert!(SevGuest::open(tree.path()).is_none());
        std::fs::create_dir_all(tree.path().join("dev")).unwrap();
        std::fs::write(tree.path().join(DEVICE), b"").unwrap();
        let level = tree.path().join(LEVEL);
        std::fs::create_dir_all(level.parent().unwrap()).unwrap();
        std::fs::write(level, "2\n").unwrap();
        let device = SevGuest::open(tree.path()).unwrap();
        assert_eq!(device.level, 2);
        for error in [device.quote(&DATA).await.unwrap_err(), device.collateral().await.unwrap_err()] {
            let PlatformError::File { path, source } = error else { panic!("{error:?}") };
            assert!(path.ends_with(DEVICE));
            // ENOTTY: a file that takes no such calls.
            assert_eq!(source.raw_os_error(), Some(25));
        }
    }
}
