//! Versions of NVIDIA's drivers and firmware, ordered by their numbers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::AttestError;

/// A driver's version: two to four decimal numbers, `535.86.09`.
///
/// Kept as written (NVIDIA writes `86.09`, not `86.9`); ordered by the numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct DriverVersion {
    text: String,
    numbers: Vec<u32>,
}

impl DriverVersion {
    /// True if this version is older than `other`.
    pub fn is_older_than(&self, other: &Self) -> bool {
        self.numbers < other.numbers
    }
}

impl FromStr for DriverVersion {
    type Err = AttestError;

    fn from_str(text: &str) -> Result<Self, AttestError> {
        let malformed = || AttestError::Malformed { what: "driver version", detail: text.escape_default().to_string() };
        if text.len() > 32 {
            return Err(malformed());
        }
        let number = |part: &str| {
            let digits = (1..=6).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
            if digits { part.parse().map_err(|_| malformed()) } else { Err(malformed()) }
        };
        let numbers: Vec<u32> = text.split('.').map(number).collect::<Result<_, _>>()?;
        if !(2..=4).contains(&numbers.len()) {
            return Err(malformed());
        }
        Ok(Self { text: text.to_owned(), numbers })
    }
}

impl TryFrom<String> for DriverVersion {
    type Error = AttestError;

    fn try_from(text: String) -> Result<Self, AttestError> {
        text.parse()
    }
}

impl From<DriverVersion> for String {
    fn from(version: DriverVersion) -> Self {
        version.text
    }
}

impl fmt::Display for DriverVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A VBIOS version: five bytes in hex, `96.00.5E.00.01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct VbiosVersion([u8; 5]);

impl VbiosVersion {
    /// From a report's field: a little-endian word with the first four, then the fifth, then padding.
    pub(crate) fn from_report(field: [u8; 8]) -> Result<Self, AttestError> {
        let [fourth, third, second, first, fifth, 0, 0, 0] = field else {
            return Err(AttestError::Malformed { what: "VBIOS version", detail: hex::encode(field) });
        };
        Ok(Self([first, second, third, fourth, fifth]))
    }
}

impl FromStr for VbiosVersion {
    type Err = AttestError;

    fn from_str(text: &str) -> Result<Self, AttestError> {
        let malformed = || AttestError::Malformed {
            what: "VBIOS version",
            detail: text.chars().take(32).collect::<String>().escape_default().to_string(),
        };
        let mut bytes = [0; 5];
        let mut parts = text.split('.');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(malformed)?;
            hex::decode_to_slice(part, std::slice::from_mut(byte)).map_err(|_| malformed())?;
        }
        if parts.next().is_some() { Err(malformed()) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for VbiosVersion {
    type Error = AttestError;

    fn try_from(text: String) -> Result<Self, AttestError> {
        text.parse()
    }
}

impl From<VbiosVersion> for String {
    fn from(version: VbiosVersion) -> Self {
        version.to_string()
    }
}

impl fmt::Display for VbiosVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e] = self.0;
        write!(f, "{a:02X}.{b:02X}.{c:02X}.{d:02X}.{e:02X}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_written_and_ordered() {
        let driver = |text: &str| text.parse::<DriverVersion>().unwrap();
        assert!(driver("535.86.09").is_older_than(&driver("535.104.05")));
        assert!(driver("535.86.09").is_older_than(&driver("550.90")));
        assert!(!driver("550.90.07").is_older_than(&driver("550.90.07")));
        assert_eq!(driver("535.86.09").to_string(), "535.86.09");
        for text in ["", "535", "535.", "535.x", "1.2.3.4.5", "535.86.0999999", "+535.86", "535.86 "] {
            assert!(text.parse::<DriverVersion>().is_err(), "{text}");
        }
        let vbios = VbiosVersion::from_report([0x00, 0x5e, 0x00, 0x96, 0x01, 0, 0, 0]).unwrap();
        assert!(VbiosVersion::from_report([0x00, 0x5e, 0x00, 0x96, 0x01, 0, 0, 1]).is_err());
        assert_eq!(vbios.to_string(), "96.00.5E.00.01");
        assert_eq!("96.00.5e.00.01".parse(), Ok(vbios));
        assert!(vbios < "96.00.74.00.01".parse().unwrap());
        for text in ["", "96.00.5E.00", "96.00.5E.00.01.02", "96.00.5E.00.0g", "9600.5E.00.01"] {
            assert!(text.parse::<VbiosVersion>().is_err(), "{text}");
        }
    }
}
