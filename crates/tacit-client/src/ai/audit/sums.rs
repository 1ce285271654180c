//! What was used, by model.

use std::collections::BTreeMap;

use tacit_receipt::aci::InferenceEvent;

use super::ModelSummary;

/// Sums by name and digest of the model.
#[derive(Default)]
pub(super) struct Sums(BTreeMap<(String, String), ModelSummary>);

impl Sums {
    pub(super) fn add(&mut self, model: &str, inference: &InferenceEvent) {
        let digest = inference.model_digest.to_string();
        let sum = self.0.entry((model.to_owned(), digest.clone())).or_insert_with(|| ModelSummary {
            model: model.to_owned(),
            digest,
            requests: 0,
            prompt_tokens: 0,
            cached_tokens: 0,
            completion_tokens: 0,
            prices: BTreeMap::new(),
        });
        let usage = &inference.usage;
        sum.requests += 1;
        sum.prompt_tokens = sum.prompt_tokens.saturating_add(usage.prompt_tokens);
        sum.cached_tokens = sum.cached_tokens.saturating_add(usage.cached_tokens);
        sum.completion_tokens = sum.completion_tokens.saturating_add(usage.completion_tokens);
        if let Some(price) = &inference.price {
            let total = sum.prices.entry(price.currency.clone()).or_insert_with(|| "0".to_owned());
            *total = add_decimal(total, &price.amount);
        }
    }

    pub(super) fn into_models(self) -> Vec<ModelSummary> {
        self.0.into_values().collect()
    }
}

/// The sum of two numbers in decimal digits, however long; amounts of tokens have up to 78 digits.
fn add_decimal(one: &str, other: &str) -> String {
    let digit = |text: &str, place: usize| {
        let bytes = text.as_bytes();
        bytes.len().checked_sub(place + 1).map_or(0, |index| bytes[index].saturating_sub(b'0').min(9))
    };
    let mut digits = Vec::with_capacity(one.len().max(other.len()) + 1);
    let mut carry = 0;
    for place in 0..one.len().max(other.len()) {
        let sum = digit(one, place) + digit(other, place) + carry;
        digits.push(char::from(b'0' + sum % 10));
        carry = sum / 10;
    }
    if carry > 0 {
        digits.push('1');
    }
    digits.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_added_whatever_their_length() {
        let check = |one: &str, other: &str, sum: &str| {
            assert_eq!(add_decimal(one, other), sum);
            assert_eq!(add_decimal(other, one), sum);
        };
        check("0", "0", "0");
        check("0", "17", "17");
        check("999", "1", "1000");
        check("5", "5", "10");
        check(&"9".repeat(78), "1", &format!("1{}", "0".repeat(78)));
        for (one, other) in [(12_345_u128, 98_765_u128), (u128::from(u64::MAX), 1), (7, 1_000_000_007)] {
            check(&one.to_string(), &other.to_string(), &(one + other).to_string());
        }
    }
}
