//! Names of exchanges: one number names the receipt, the answer and the file.

use rand::RngExt as _;
use tacit_types::UnixTime;

const DAY: u64 = 86_400;
const DIGITS: usize = 8 + 32;

/// An exchange: the day, which says in which folder its receipt lies, and 128 random bits, which nobody guesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ExchangeId {
    pub day: u32,
    random: [u8; 16],
}

impl ExchangeId {
    pub fn generate(now: UnixTime) -> Self {
        Self { day: day_of(now), random: rand::rng().random() }
    }

    /// The receipt's id.
    pub fn receipt(self) -> String {
        format!("rcpt_{self}")
    }

    /// An answer's id.
    pub fn named(self, prefix: &str) -> String {
        format!("{prefix}{self}")
    }

    /// From a receipt's or an answer's id.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.rsplit(['_', '-']).next()?;
        if digits.len() != DIGITS || !digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let mut random = [0; 16];
        hex::decode_to_slice(&digits[8..], &mut random).ok()?;
        Some(Self { day: u32::from_str_radix(&digits[..8], 16).ok()?, random })
    }
}

/// The number of a day.
pub(crate) fn day_of(now: UnixTime) -> u32 {
    u32::try_from(now.0 / DAY).unwrap_or(u32::MAX)
}

impl std::fmt::Display for ExchangeId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:08x}{}", self.day, hex::encode(self.random))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_of_an_exchange_leads_back_to_it() {
        let id = ExchangeId::generate(UnixTime(20_000 * DAY + 5));
        assert_eq!(id.day, 20_000);
        for text in [id.receipt(), id.named("chatcmpl-"), id.named("resp_"), id.to_string()] {
            assert_eq!(ExchangeId::parse(&text), Some(id), "{text}");
        }
        let upper = id.receipt().to_uppercase();
        for wrong in ["", "rcpt_", "rcpt_00", upper.as_str(), "../../../../../../../../../etc/passwd0000000000"] {
            assert_eq!(ExchangeId::parse(wrong), None, "{wrong}");
        }
    }
}
