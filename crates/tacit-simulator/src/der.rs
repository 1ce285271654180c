//! The few DER structures that Intel's certificate extension needs.

/// A tag, a length and the content.
pub(crate) fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let significant = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1)..];
        out.push(0x80 | significant.len() as u8);
        out.extend_from_slice(significant);
    }
    out.extend_from_slice(content);
    out
}

pub(crate) fn sequence(items: &[Vec<u8>]) -> Vec<u8> {
    tagged(0x30, &items.concat())
}

pub(crate) fn octets(bytes: &[u8]) -> Vec<u8> {
    tagged(0x04, bytes)
}

pub(crate) fn boolean(value: bool) -> Vec<u8> {
    tagged(0x01, &[if value { 0xff } else { 0 }])
}

pub(crate) fn enumerated(value: u8) -> Vec<u8> {
    tagged(0x0a, &[value])
}

/// A small non-negative INTEGER.
pub(crate) fn integer(value: u8) -> Vec<u8> {
    if value < 0x80 { tagged(0x02, &[value]) } else { tagged(0x02, &[0, value]) }
}

/// An object identifier below Intel's 1.2.840.113741.1.13.1, by its last arcs (each below 128).
pub(crate) fn sgx_oid(arcs: &[u8]) -> Vec<u8> {
    const PREFIX: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01];
    tagged(0x06, &[PREFIX.as_slice(), arcs].concat())
}

/// An entry of Intel's extension: an identifier and its value.
pub(crate) fn entry(arcs: &[u8], value: Vec<u8>) -> Vec<u8> {
    sequence(&[sgx_oid(arcs), value])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_integers_are_minimal() {
        assert_eq!(octets(&[1, 2]), [4, 2, 1, 2]);
        assert_eq!(octets(&[0; 0x80])[..3], [4, 0x81, 0x80]);
        assert_eq!(octets(&[0; 0x123])[..4], [4, 0x82, 0x01, 0x23]);
        assert_eq!(integer(0x7f), [2, 1, 0x7f]);
        assert_eq!(integer(0xff), [2, 2, 0, 0xff]);
    }
}
