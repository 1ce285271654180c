//! The boot log of a trust domain (CCEL): what firmware and kernel measured into run-time registers 0 to 2.
//!
//! A crypto agile log as of the TCG PC Client Platform Firmware Profile, section 10, with the register in the place of the PCR
//! (UEFI 2.10, section 38): index 0 is MRTD, 1 to 4 are RTMR0 to RTMR3.

use sha2::{Digest as _, Sha384};

use crate::AttestError;
use crate::event_log::extend;

const WHAT: &str = "boot log";
const NO_ACTION: u32 = 3;
const SIGNATURE: &[u8; 16] = b"Spec ID Event03\0";
const SHA384: u16 = 0x000c;
/// Most events of one log.
const MAX_EVENTS: usize = 4096;
/// Most digest algorithms of one log.
const MAX_ALGORITHMS: usize = 8;
/// What follows the last event in an ACPI table of fixed size.
const END: u32 = u32::MAX;

/// An event of the boot log, which the registers confirm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootEvent {
    /// The run-time register that it was measured into: 0 to 2.
    pub register: u8,
    /// The event's type (TCG PC Client Platform Firmware Profile, table 27).
    pub event_type: u32,
    /// What was measured: SHA-384.
    pub digest: [u8; 48],
    /// What the log says about it. Proven only where it is the very thing that was measured, see
    /// [`BootEvent::is_data_measured`].
    pub data: Vec<u8>,
}

impl BootEvent {
    /// True if the data is what was measured, so that the registers confirm it too.
    pub fn is_data_measured(&self) -> bool {
        self.digest == <[u8; 48]>::from(Sha384::digest(&self.data))
    }
}

/// Reads a boot log. Nothing is confirmed yet.
///
/// # Errors
/// [`AttestError::Truncated`], [`AttestError::Malformed`], [`AttestError::Unsupported`] or [`AttestError::TrailingBytes`].
pub fn parse(bytes: &[u8]) -> Result<Vec<BootEvent>, AttestError> {
    let mut reader = Reader(bytes);
    let algorithms = header(&mut reader)?;
    let mut events = Vec::new();
    while !reader.0.is_empty() {
        let index = match reader.padding()? {
            Some(()) => break,
            None => reader.u32()?,
        };
        if events.len() == MAX_EVENTS {
            return Err(malformed("more than 4096 events"));
        }
        let event_type = reader.u32()?;
        let digest = digest(&mut reader, &algorithms)?;
        let size = reader.u32()?;
        let data = reader.take(size as usize)?.to_vec();
        if event_type == NO_ACTION {
            continue;
        }
        let register = match index {
            1..=3 => (index - 1) as u8,
            // MRTD is measured by the module, RTMR3 by what runs later: what this log says about them stays unsaid.
            0 | 4 => continue,
            other => return Err(AttestError::Unsupported { what: "register of a boot event", found: other }),
        };
        events.push(BootEvent { register, event_type, digest, data });
    }
    Ok(events)
}

/// Reads and replays a boot log: its events must lead to registers 0, 1 and 2.
pub(crate) fn check(bytes: &[u8], registers: [&[u8; 48]; 3]) -> Result<Vec<BootEvent>, AttestError> {
    let events = parse(bytes)?;
    let replayed = replay(&events);
    for (index, name) in ["RTMR0", "RTMR1", "RTMR2"].into_iter().enumerate() {
        if replayed[index] != *registers[index] {
            return Err(AttestError::BootLogMismatch { register: name });
        }
    }
    Ok(events)
}

/// The values of registers 0, 1 and 2 that events lead to.
pub fn replay(events: &[BootEvent]) -> [[u8; 48]; 3] {
    let mut registers = [[0; 48]; 3];
    for event in events {
        if let Some(register) = registers.get_mut(usize::from(event.register)) {
            *register = extend(register, &event.digest);
        }
    }
    registers
}

/// The first event names the digest algorithms and their sizes; it is in the old form of a SHA-1 log.
fn header(reader: &mut Reader<'_>) -> Result<Vec<(u16, u16)>, AttestError> {
    reader.u32()?;
    if reader.u32()? != NO_ACTION {
        return Err(malformed("it does not begin with a specification event"));
    }
    if reader.take(20)?.iter().any(|byte| *byte != 0) {
        return Err(malformed("the specification event has a digest"));
    }
    let size = reader.u32()?;
    let mut event = Reader(reader.take(size as usize)?);
    if event.take(16)? != SIGNATURE {
        return Err(malformed("not a crypto agile log"));
    }
    // Platform class, version of the specification, size of a native integer.
    event.take(8)?;
    let count = event.u32()? as usize;
    if count == 0 || count > MAX_ALGORITHMS {
        return Err(malformed("no digest algorithm, or more than eight"));
    }
    let algorithms: Vec<(u16, u16)> =
        (0..count).map(|_| Ok((event.u16()?, event.u16()?))).collect::<Result<_, AttestError>>()?;
    let vendor = event.take(1)?[0];
    event.take(usize::from(vendor))?;
    if !event.0.is_empty() {
        return Err(AttestError::TrailingBytes { what: WHAT });
    }
    let repeated =
        algorithms.iter().enumerate().any(|(at, (id, _))| algorithms[..at].iter().any(|(other, _)| other == id));
    if repeated || !algorithms.contains(&(SHA384, 48)) {
        return Err(malformed("no SHA-384, or an algorithm twice"));
    }
    Ok(algorithms)
}

/// The SHA-384 among an event's digests: one for each algorithm of the header.
fn digest(reader: &mut Reader<'_>, algorithms: &[(u16, u16)]) -> Result<[u8; 48], AttestError> {
    let count = reader.u32()? as usize;
    if count != algorithms.len() {
        return Err(malformed("an event without exactly one digest for each algorithm"));
    }
    let mut found = None;
    let mut seen: Vec<u16> = Vec::new();
    for _ in 0..count {
        let id = reader.u16()?;
        let (_, size) = algorithms
            .iter()
            .find(|(known, _)| *known == id)
            .ok_or_else(|| malformed("an algorithm that the header does not name"))?;
        if seen.contains(&id) {
            return Err(malformed("an algorithm twice"));
        }
        seen.push(id);
        let bytes = reader.take(usize::from(*size))?;
        if id == SHA384 {
            found = <[u8; 48]>::try_from(bytes).ok();
        }
    }
    found.ok_or_else(|| malformed("an event without SHA-384"))
}

fn malformed(detail: &str) -> AttestError {
    AttestError::Malformed { what: WHAT, detail: detail.to_owned() }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, size: usize) -> Result<&'a [u8], AttestError> {
        let (taken, rest) = self.0.split_at_checked(size).ok_or(AttestError::Truncated { what: WHAT })?;
        self.0 = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, AttestError> {
        let bytes = self.take(2)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Result<u32, AttestError> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// True at the padding of the table: all ones, or all zeros, up to the end.
    fn padding(&self) -> Result<Option<()>, AttestError> {
        let ones = self.0.starts_with(&END.to_le_bytes());
        // An event of all zeros would be an event without digests, which no log has.
        let zeros = self.0.len() >= 12 && self.0[..12].iter().all(|byte| *byte == 0);
        if !ones && !zeros {
            return Ok(None);
        }
        let fill = if ones { 0xff } else { 0 };
        if self.0.iter().all(|byte| *byte == fill) {
            Ok(Some(()))
        } else {
            Err(AttestError::TrailingBytes { what: WHAT })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header_of(algorithms: &[(u16, u16)]) -> Vec<u8> {
        let mut event = SIGNATURE.to_vec();
        event.extend([0, 0, 0, 0, 0, 2, 0, 2]);
        event.extend((algorithms.len() as u32).to_le_bytes());
        for (id, size) in algorithms {
            event.extend(id.to_le_bytes());
            event.extend(size.to_le_bytes());
        }
        event.push(0);
        let mut header = [1u32.to_le_bytes(), NO_ACTION.to_le_bytes()].concat();
        header.extend([0; 20]);
        header.extend((event.len() as u32).to_le_bytes());
        header.extend(event);
        header
    }

    fn event(index: u32, event_type: u32, data: &[u8]) -> Vec<u8> {
        let mut event = [index, event_type, 1].map(u32::to_le_bytes).concat();
        event.extend(SHA384.to_le_bytes());
        event.extend(Sha384::digest(data));
        event.extend((data.len() as u32).to_le_bytes());
        event.extend(data);
        event
    }

    fn log() -> Vec<u8> {
        let events =
            [event(1, 4, &[0; 4]), event(1, NO_ACTION, b"note"), event(2, 0x8000_0007, b"exit"), event(3, 6, b"cmd")];
        [header_of(&[(SHA384, 48)]), events.concat()].concat()
    }

    #[test]
    fn a_log_replays_to_its_registers() {
        let events = parse(&log()).unwrap();
        assert_eq!(events.iter().map(|event| event.register).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(events.iter().all(BootEvent::is_data_measured));
        let [first, second, third] = replay(&events);
        assert_eq!(first, extend(&[0; 48], &Sha384::digest([0; 4]).into()));
        assert!(check(&log(), [&first, &second, &third]).is_ok());
        let refused = |registers, register| {
            assert_eq!(check(&log(), registers), Err(AttestError::BootLogMismatch { register }));
        };
        refused([&second, &second, &third], "RTMR0");
        refused([&first, &first, &third], "RTMR1");
        refused([&first, &second, &first], "RTMR2");
        // Data that is not what was measured is told apart.
        let mut changed = events[1].clone();
        changed.data = b"exit!".to_vec();
        assert!(!changed.is_data_measured());
    }

    #[test]
    fn padding_ends_a_log_and_hides_nothing() {
        for fill in [0xff, 0] {
            let mut padded = log();
            padded.resize(padded.len() + 64, fill);
            assert_eq!(parse(&padded), parse(&log()), "{fill:#x}");
            *padded.last_mut().unwrap() = 7;
            assert_eq!(parse(&padded), Err(AttestError::TrailingBytes { what: WHAT }), "{fill:#x}");
        }
    }

    #[test]
    fn logs_of_the_wrong_shape_are_refused_by_name() {
        let malformed = |log: Vec<u8>| {
            let refused = parse(&log);
            assert!(matches!(refused, Err(AttestError::Malformed { .. })), "{refused:?}");
        };
        malformed(event(1, 4, b""));
        malformed(header_of(&[]));
        malformed(header_of(&[(0x0b, 32)]));
        malformed(header_of(&[(SHA384, 32)]));
        malformed(header_of(&[(SHA384, 48), (SHA384, 48)]));
        malformed(header_of(&[(SHA384, 48); 9]));
        malformed([header_of(&[(SHA384, 48), (0x0b, 32)]), event(1, 4, b"")].concat());
        let mut other = log();
        other[32] = b's';
        malformed(other);
        let mut algorithm = [header_of(&[(SHA384, 48)]), event(1, 4, b"")].concat();
        let at = header_of(&[(SHA384, 48)]).len() + 12;
        algorithm[at] = 0x0b;
        malformed(algorithm);
        let of_register = |index| parse(&[header_of(&[(SHA384, 48)]), event(index, 4, b"")].concat());
        assert_eq!((of_register(0), of_register(4)), (Ok(vec![]), Ok(vec![])));
        assert_eq!(of_register(5), Err(AttestError::Unsupported { what: "register of a boot event", found: 5 }));
        for length in 0..log().len() {
            let cut = log()[..length].to_vec();
            let whole_events = parse(&cut).is_ok();
            assert!(!whole_events || length >= header_of(&[(SHA384, 48)]).len(), "{length}");
        }
        let many = [header_of(&[(SHA384, 48)]), event(1, 4, b"").repeat(MAX_EVENTS + 1)].concat();
        malformed(many);
    }
}
