//! The event `tacit.inference`: which model answered, how it was asked, what was used and what that costs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tacit_types::jcs;

use super::{AciError, PrefixedDigest, is_name};

/// Most adapters of one inference.
const MAX_ADAPTERS: usize = 16;
/// Longest amount in digits: more than any 256-bit number has.
const MAX_DIGITS: usize = 78;

/// What Tacit adds to an ACI receipt. It stands between the reserved events, under the receipt's signature; readers of plain ACI
/// pass over it. Every number is an integer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferenceEvent {
    /// Digest of the model manifest: weights, tokenizer, chat template, licence.
    pub model_digest: PrefixedDigest,
    /// Digests of the adapters that were applied, in order.
    pub adapters: Vec<PrefixedDigest>,
    /// See [`sampling_hash`].
    pub sampling_hash: PrefixedDigest,
    /// The seed that tokens were drawn with, in decimal digits; `null` where the engine draws its own.
    #[serde(with = "decimal")]
    pub seed: Option<u64>,
    /// Tokens read and written.
    pub usage: TokenUsage,
    /// What the inference costs; `null` where nothing is billed.
    pub price: Option<Price>,
    /// How it ended.
    pub outcome: InferenceOutcome,
}

/// Tokens of one inference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenUsage {
    /// Tokens of the prompt, cached ones included.
    pub prompt_tokens: u64,
    /// Tokens of the prompt whose state was kept from an earlier request.
    pub cached_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
}

/// An amount of money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// The currency or token, as `USD` or `eip155:31337/erc20:0x…`.
    pub currency: String,
    /// The amount in the currency's smallest unit, in decimal digits.
    pub amount: String,
}

/// How an inference ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InferenceOutcome {
    /// The model answered, to its end or to a limit that the request set.
    Ok,
    /// The request was refused before the model ran.
    Refused,
    /// The engine or the upstream service failed.
    Failed,
    /// The caller went away; the receipt covers the bytes that were sent.
    Cancelled,
}

impl InferenceEvent {
    /// Checks the rules that the types do not hold.
    ///
    /// # Errors
    /// [`AciError::Member`].
    pub(super) fn check(&self) -> Result<(), AciError> {
        if self.adapters.len() > MAX_ADAPTERS {
            return Err(AciError::Member("more adapters than are read"));
        }
        if self.usage.cached_tokens > self.usage.prompt_tokens {
            return Err(AciError::Member("more cached tokens than the prompt has"));
        }
        if let Some(price) = &self.price {
            let canonical = price.amount == "0" || !price.amount.starts_with('0');
            let digits = !price.amount.is_empty() && price.amount.bytes().all(|byte| byte.is_ascii_digit());
            if !is_name(&price.currency) || !digits || !canonical || price.amount.len() > MAX_DIGITS {
                return Err(AciError::Member("a price is a currency and decimal digits"));
            }
        }
        Ok(())
    }
}

/// SHA-256 of the canonical JSON object of the sampling parameters as they were applied, each value as text: `0.7` stays `0.7`
/// whatever a JSON library would make of the number.
pub fn sampling_hash<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> PrefixedDigest {
    let parameters: BTreeMap<&str, &str> = parameters.into_iter().collect();
    PrefixedDigest::of(&jcs::to_bytes(&parameters).expect("an object of texts has a canonical form"))
}

mod decimal {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(seed: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        match seed {
            Some(seed) => serializer.collect_str(seed),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let seed: u64 = text.parse().map_err(|_| de::Error::custom("not a seed"))?;
        if seed.to_string() == text { Ok(Some(seed)) } else { Err(de::Error::custom("not a seed in its one spelling")) }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in crate::aci) fn sample() -> InferenceEvent {
        InferenceEvent {
            model_digest: PrefixedDigest::of(b"model"),
            adapters: vec![PrefixedDigest::of(b"adapter")],
            sampling_hash: sampling_hash([("temperature", "0.7"), ("top_p", "0.9")]),
            seed: Some(u64::MAX),
            usage: TokenUsage { prompt_tokens: 12, cached_tokens: 4, completion_tokens: 7 },
            price: Some(Price { currency: "USD".into(), amount: "1900".into() }),
            outcome: InferenceOutcome::Ok,
        }
    }

    #[test]
    fn the_event_has_this_form() {
        assert_eq!(
            serde_json::to_value(sample()).unwrap(),
            json!({
                "model_digest": PrefixedDigest::of(b"model").to_string(),
                "adapters": [PrefixedDigest::of(b"adapter").to_string()],
                "sampling_hash": PrefixedDigest::of(br#"{"temperature":"0.7","top_p":"0.9"}"#).to_string(),
                "seed": "18446744073709551615",
                "usage": { "prompt_tokens": 12, "cached_tokens": 4, "completion_tokens": 7 },
                "price": { "currency": "USD", "amount": "1900" },
                "outcome": "ok",
            })
        );
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        let refuse = |change: &dyn Fn(&mut InferenceEvent)| {
            let mut event = sample();
            change(&mut event);
            assert!(matches!(event.check(), Err(AciError::Member(_))), "{event:?}");
        };
        assert!(sample().check().is_ok());
        refuse(&|event| event.adapters = vec![PrefixedDigest::of(b""); MAX_ADAPTERS + 1]);
        refuse(&|event| event.usage.cached_tokens = 13);
        for amount in ["", "01", "1.5", "-1", "1e3", &"9".repeat(79)] {
            refuse(&|event| event.price = Some(Price { currency: "USD".into(), amount: amount.into() }));
        }
        refuse(&|event| event.price = Some(Price { currency: String::new(), amount: "1".into() }));
        for seed in [json!("01"), json!("-1"), json!(1), json!("18446744073709551616")] {
            let mut value = serde_json::to_value(sample()).unwrap();
            value["seed"] = seed;
            assert!(serde_json::from_value::<InferenceEvent>(value).is_err());
        }
    }
}
