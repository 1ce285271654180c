//! Records of the register on disk: compact, versioned, written before an answer leaves.

use tacit_types::{
    Address, CertificateId, ChipId, CodeHash, Digest, FunctionId, Head, KeysetDigest, ManifestHash, Measurement,
    PolicyHash, RootId, UnixTime,
    eip712::{Certificate, Platform},
    quorum::IndexedSignature,
    register::{Ack, AckBatch, Lease, LeaseRole},
    signature::Signature,
};

use crate::{
    error::ThresholdError,
    lease::{HeldLease, MAX_PATH},
};

/// Version of the encoding that this build writes.
pub const RECORD_VERSION: u8 = 1;
/// Most bytes of one encoded record.
pub const MAX_RECORD: usize = 8 * 1024;

/// One change of the register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A certificate was noted.
    Certified(Box<Certificate>),
    /// A certificate was revoked.
    Revoked(CertificateId),
    /// A fence was promised, or the end of its lease moved.
    Promised {
        /// The function.
        function: FunctionId,
        /// The fence.
        fence: u64,
        /// Who may write under it.
        holder: CertificateId,
        /// When a silent holder may be replaced; zero once it said that it may be.
        until: UnixTime,
    },
    /// A quorum was seen to have granted the lease promised last.
    Held(Box<HeldLease>),
    /// An acknowledgement was accepted.
    Accepted {
        /// The statement.
        ack: Ack,
        /// The batch that it was in.
        batch: AckBatch,
        /// Siblings up to the batch's root.
        path: Vec<Digest>,
        /// The holder's signature over the batch.
        signature: Signature,
    },
}

impl Record {
    /// Appends the encoding: version, kind, then the fields in order; integers big-endian, lists behind their count.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(RECORD_VERSION);
        match self {
            Self::Certified(certificate) => {
                out.push(1);
                write_certificate(certificate, out);
            }
            Self::Revoked(id) => {
                out.push(2);
                out.extend_from_slice(id.as_ref());
            }
            Self::Promised { function, fence, holder, until } => {
                out.push(3);
                out.extend_from_slice(function.as_ref());
                out.extend_from_slice(&fence.to_be_bytes());
                out.extend_from_slice(holder.as_ref());
                out.extend_from_slice(&until.0.to_be_bytes());
            }
            Self::Held(held) => {
                out.push(4);
                write_lease(&held.lease, out);
                write_certificate(&held.certificate, out);
                out.push(u8::try_from(held.signatures.len()).expect("a set has at most 64 members"));
                for IndexedSignature { index, signature } in &held.signatures {
                    out.extend_from_slice(&index.to_be_bytes());
                    out.extend_from_slice(signature.as_bytes());
                }
            }
            Self::Accepted { ack, batch, path, signature } => {
                out.push(5);
                out.extend_from_slice(&ack.epoch.to_be_bytes());
                out.extend_from_slice(ack.function_id.as_ref());
                out.extend_from_slice(&ack.fence.to_be_bytes());
                out.extend_from_slice(&ack.sequence.to_be_bytes());
                out.extend_from_slice(ack.head.as_ref());
                out.extend_from_slice(ack.receipts_root.as_ref());
                out.extend_from_slice(&ack.time.0.to_be_bytes());
                out.extend_from_slice(batch.root.as_ref());
                out.push(u8::try_from(path.len()).expect("a path has at most MAX_PATH members"));
                path.iter().for_each(|sibling| out.extend_from_slice(sibling.as_ref()));
                out.extend_from_slice(signature.as_bytes());
            }
        }
    }

    /// Reads one record from the front of `bytes`, which moves on.
    ///
    /// # Errors
    /// [`ThresholdError::Record`].
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, ThresholdError> {
        let mut reader = Reader(bytes);
        if reader.u8()? != RECORD_VERSION {
            return Err(ThresholdError::Record("unknown version"));
        }
        let record = match reader.u8()? {
            1 => Self::Certified(Box::new(reader.certificate()?)),
            2 => Self::Revoked(reader.array::<32>()?.into()),
            3 => Self::Promised {
                function: reader.array::<32>()?.into(),
                fence: reader.u64()?,
                holder: reader.array::<32>()?.into(),
                until: reader.time()?,
            },
            4 => {
                let (lease, certificate) = (reader.lease()?, reader.certificate()?);
                let signatures = (0..reader.u8()?)
                    .map(|_| {
                        Ok(IndexedSignature {
                            index: u32::from_be_bytes(reader.array()?),
                            signature: reader.signature()?,
                        })
                    })
                    .collect::<Result<_, ThresholdError>>()?;
                Self::Held(Box::new(HeldLease { lease, certificate, signatures }))
            }
            5 => {
                let ack = Ack {
                    epoch: reader.u64()?,
                    function_id: reader.array::<32>()?.into(),
                    fence: reader.u64()?,
                    sequence: reader.u64()?,
                    head: Head::from(reader.array::<32>()?),
                    receipts_root: reader.array::<32>()?.into(),
                    time: reader.time()?,
                };
                let root = reader.array::<32>()?.into();
                let count = usize::from(reader.u8()?);
                if count > MAX_PATH {
                    return Err(ThresholdError::Record("a path is too long"));
                }
                let path =
                    (0..count).map(|_| Ok(reader.array::<32>()?.into())).collect::<Result<_, ThresholdError>>()?;
                let batch = AckBatch { epoch: ack.epoch, root, time: ack.time };
                Self::Accepted { batch, ack, path, signature: reader.signature()? }
            }
            _ => return Err(ThresholdError::Record("unknown kind")),
        };
        *bytes = reader.0;
        Ok(record)
    }

    /// Reads records until `bytes` end.
    ///
    /// # Errors
    /// [`ThresholdError::Record`].
    pub fn decode_all(mut bytes: &[u8]) -> Result<Vec<Self>, ThresholdError> {
        let mut records = Vec::new();
        while !bytes.is_empty() {
            records.push(Self::decode(&mut bytes)?);
        }
        Ok(records)
    }
}

fn write_lease(lease: &Lease, out: &mut Vec<u8>) {
    out.extend_from_slice(lease.function_id.as_ref());
    out.extend_from_slice(lease.certificate.as_ref());
    out.push(lease.role.code());
    out.extend_from_slice(&lease.fence.to_be_bytes());
    out.extend_from_slice(lease.code_hash.as_ref());
    out.extend_from_slice(lease.manifest_hash.as_ref());
    for number in [lease.key_epoch, lease.block_number, lease.until.0] {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

fn write_certificate(certificate: &Certificate, out: &mut Vec<u8>) {
    out.extend_from_slice(certificate.worker.as_ref());
    out.extend_from_slice(certificate.keyset.as_ref());
    out.push(certificate.platform.code());
    out.extend_from_slice(certificate.measurement.as_ref());
    out.extend_from_slice(certificate.chip.as_ref());
    out.push(certificate.confidence);
    out.extend_from_slice(certificate.root.as_ref());
    out.extend_from_slice(certificate.policy.as_ref());
    out.push(u8::from(certificate.simulated));
    out.extend_from_slice(certificate.operator.as_ref());
    for number in [certificate.collateral_time.0, certificate.not_before.0, certificate.not_after.0, certificate.epoch]
    {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ThresholdError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(ThresholdError::Record("cut short"))?;
        self.0 = tail;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, ThresholdError> {
        Ok(self.array::<1>()?[0])
    }

    fn u64(&mut self) -> Result<u64, ThresholdError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn time(&mut self) -> Result<UnixTime, ThresholdError> {
        Ok(UnixTime(self.u64()?))
    }

    fn signature(&mut self) -> Result<Signature, ThresholdError> {
        Signature::from_bytes(self.array()?).map_err(|_| ThresholdError::Record("a malformed signature"))
    }

    fn lease(&mut self) -> Result<Lease, ThresholdError> {
        Ok(Lease {
            function_id: self.array::<32>()?.into(),
            certificate: self.array::<32>()?.into(),
            role: match self.u8()? {
                0 => LeaseRole::Writer,
                1 => LeaseRole::Reader,
                _ => return Err(ThresholdError::Record("an unknown role")),
            },
            fence: self.u64()?,
            code_hash: CodeHash::from(self.array::<32>()?),
            manifest_hash: ManifestHash::from(self.array::<32>()?),
            key_epoch: self.u64()?,
            block_number: self.u64()?,
            until: self.time()?,
        })
    }

    fn certificate(&mut self) -> Result<Certificate, ThresholdError> {
        Ok(Certificate {
            worker: Address::from(self.array::<20>()?),
            keyset: KeysetDigest::from(self.array::<32>()?),
            platform: match self.u8()? {
                1 => Platform::Sgx,
                2 => Platform::Tdx,
                3 => Platform::SevSnp,
                4 => Platform::Nitro,
                _ => return Err(ThresholdError::Record("an unknown platform")),
            },
            measurement: Measurement::from(self.array::<32>()?),
            chip: ChipId::from(self.array::<32>()?),
            confidence: self.u8()?,
            root: RootId::from(self.array::<32>()?),
            policy: PolicyHash::from(self.array::<32>()?),
            simulated: match self.u8()? {
                0 => false,
                1 => true,
                _ => return Err(ThresholdError::Record("a truth value is neither 0 nor 1")),
            },
            operator: Address::from(self.array::<20>()?),
            collateral_time: self.time()?,
            not_before: self.time()?,
            not_after: self.time()?,
            epoch: self.u64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use proptest::prelude::*;

    fn records() -> Vec<Record> {
        let held = samples::held_lease();
        let signature = held.signatures[0].signature;
        let ack = samples::ack(7, 9);
        let batch = AckBatch { epoch: ack.epoch, root: Digest::from([8; 32]), time: ack.time };
        vec![
            Record::Certified(Box::new(held.certificate.clone())),
            Record::Revoked(CertificateId::from([1; 32])),
            Record::Promised {
                function: FunctionId::from([2; 32]),
                fence: 3,
                holder: CertificateId::from([4; 32]),
                until: UnixTime(5),
            },
            Record::Held(Box::new(held)),
            Record::Accepted { ack, batch, path: vec![Digest::from([1; 32]); 3], signature },
        ]
    }

    #[test]
    fn records_read_back() {
        let records = records();
        let mut bytes = Vec::new();
        for record in &records {
            let before = bytes.len();
            record.encode(&mut bytes);
            assert!(bytes.len() - before <= MAX_RECORD);
        }
        assert_eq!(Record::decode_all(&bytes).unwrap(), records);
    }

    #[test]
    fn every_truncation_is_refused() {
        for record in records() {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            for end in 1..bytes.len() {
                assert!(
                    matches!(Record::decode_all(&bytes[..end]), Err(ThresholdError::Record(_))),
                    "{end} {record:?}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(kind in 0u8..8, bytes in proptest::collection::vec(any::<u8>(), 0..900)) {
            let _ = Record::decode_all(&bytes);
            let _ = Record::decode_all(&[&[RECORD_VERSION, kind], bytes.as_slice()].concat());
        }
    }
}
