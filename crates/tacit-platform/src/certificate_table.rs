//! The table of certificates that an AMD host puts beside a report (GHCB specification, version 2, section 4.1.8.1).

use tacit_attest::{AmdCollateral, Collateral};

use crate::PlatformError;

/// Most bytes of a table: the kernel asks the host for no more.
pub(crate) const MAX_TABLE: usize = 16 * 1024;
/// Bytes of an entry: a GUID, an offset and a length.
const ENTRY: usize = 24;
/// Most entries: the specification names five kinds.
const MAX_ENTRIES: usize = 32;

const VCEK: [u8; 16] = guid("63da758de6644564adc5f4b93be8accd");
const VLEK: [u8; 16] = guid("a8074bc2a25a483eaae639c045a0b8a1");
const ASK: [u8; 16] = guid("4ab7b379bbac4fe4a02f05aef327c782");
const ARK: [u8; 16] = guid("c0b406a4a803495297433fb6014cd0ae");
const CRL: [u8; 16] = guid("92f81bc358114d3d97ffd19f88dc67ea");

/// Certificates (DER) as the host gave them; nobody has checked them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateTable {
    /// The chip's own key.
    pub vcek: Option<Vec<u8>>,
    /// The key that the vendor gave to the cloud's operator.
    pub vlek: Option<Vec<u8>>,
    /// The authority that issued the key.
    pub ask: Option<Vec<u8>>,
    /// The root.
    pub ark: Option<Vec<u8>>,
    /// The root's revocation list.
    pub crl: Option<Vec<u8>>,
}

impl CertificateTable {
    /// Reads a table; a buffer of zeros is an empty one. Kinds that are not known are passed over.
    ///
    /// # Errors
    /// [`PlatformError::Answer`] for a table without an end, an entry that points outside, or the same kind twice.
    pub fn parse(bytes: &[u8]) -> Result<Self, PlatformError> {
        let wrong = |what: &str| PlatformError::Answer { method: "the certificate table", what: what.to_owned() };
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        if bytes.len() > MAX_TABLE {
            return Err(wrong("more than 16 KiB"));
        }
        let mut table = Self::default();
        for index in 0..MAX_ENTRIES {
            let entry = bytes.get(index * ENTRY..(index + 1) * ENTRY).ok_or_else(|| wrong("no end"))?;
            let word =
                |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]) as usize;
            let kind = &entry[..16];
            if kind.iter().all(|byte| *byte == 0) {
                return Ok(table);
            }
            let (offset, length) = (word(16), word(20));
            let content = offset
                .checked_add(length)
                .and_then(|end| bytes.get(offset..end))
                .filter(|content| !content.is_empty())
                .ok_or_else(|| wrong("an entry that points outside"))?;
            let place = match kind {
                _ if kind == VCEK => &mut table.vcek,
                _ if kind == VLEK => &mut table.vlek,
                _ if kind == ASK => &mut table.ask,
                _ if kind == ARK => &mut table.ark,
                _ if kind == CRL => &mut table.crl,
                _ => continue,
            };
            if place.replace(content.to_vec()).is_some() {
                return Err(wrong("one kind twice"));
            }
        }
        Err(wrong("no end"))
    }

    /// The certificates as collateral, where both below the root are there.
    pub fn into_collateral(self) -> Option<Collateral> {
        let key = self.vcek.or(self.vlek)?;
        Some(Collateral::Amd(Box::new(AmdCollateral::new(self.ask?, key))))
    }
}

/// A GUID in the order of its digits, as the table has it.
const fn guid(digits: &str) -> [u8; 16] {
    const fn value(digit: u8) -> u8 {
        match digit {
            b'0'..=b'9' => digit - b'0',
            _ => digit - b'a' + 10,
        }
    }
    let digits = digits.as_bytes();
    let mut out = [0; 16];
    let mut at = 0;
    while at < 16 {
        out[at] = value(digits[2 * at]) << 4 | value(digits[2 * at + 1]);
        at += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table with these entries, and their contents behind it.
    fn table(entries: &[(&[u8; 16], &[u8])]) -> Vec<u8> {
        let mut head = Vec::new();
        let mut body = Vec::new();
        let start = (entries.len() + 1) * ENTRY;
        for (kind, content) in entries {
            head.extend_from_slice(*kind);
            head.extend_from_slice(&((start + body.len()) as u32).to_le_bytes());
            head.extend_from_slice(&(content.len() as u32).to_le_bytes());
            body.extend_from_slice(content);
        }
        head.extend_from_slice(&[0; ENTRY]);
        [head, body].concat()
    }

    #[test]
    fn kinds_are_told_apart_and_strange_ones_passed_over() {
        let bytes = table(&[(&ARK, b"ark"), (&[9; 16], b"?"), (&ASK, b"ask"), (&VCEK, b"vcek"), (&CRL, b"crl")]);
        let read = CertificateTable::parse(&bytes).unwrap();
        assert_eq!(read.ark.as_deref(), Some(&b"ark"[..]));
        assert_eq!(read.crl.as_deref(), Some(&b"crl"[..]));
        let expected = AmdCollateral::new(b"ask".to_vec(), b"vcek".to_vec());
        assert_eq!(read.into_collateral(), Some(Collateral::Amd(Box::new(expected))));
        let provider = CertificateTable::parse(&table(&[(&VLEK, b"vlek")])).unwrap();
        assert_eq!((provider.vlek.as_deref(), provider.vcek.as_deref()), (Some(&b"vlek"[..]), None));
        assert_eq!(provider.into_collateral(), None);
        assert_eq!(CertificateTable::parse(&[0; 4096]).unwrap(), CertificateTable::default());
        assert_eq!(CertificateTable::parse(&[]).unwrap(), CertificateTable::default());
    }

    #[test]
    fn hostile_tables_are_refused() {
        let refuse = |bytes: &[u8], expected: &str| match CertificateTable::parse(bytes) {
            Err(PlatformError::Answer { what, .. }) => assert_eq!(what, expected),
            other => panic!("{other:?}"),
        };
        refuse(&[1; 23], "no end");
        refuse(&table(&[(&ARK, b"a")])[..ENTRY + 3], "an entry that points outside");
        refuse(&[9; ENTRY * 40], "an entry that points outside");
        refuse(&table(&[(&ARK, b"")]), "an entry that points outside");
        refuse(&table(&[(&ARK, b"a"), (&ARK, b"b")]), "one kind twice");
        refuse(&vec![0; MAX_TABLE + 1], "more than 16 KiB");
        let many: Vec<(&[u8; 16], &[u8])> = vec![(&[9; 16], b"?"); MAX_ENTRIES];
        refuse(&table(&many), "no end");
        let mut wraps = table(&[(&ARK, b"a")]);
        wraps[16..24].fill(0xff);
        refuse(&wraps, "an entry that points outside");
    }
}
