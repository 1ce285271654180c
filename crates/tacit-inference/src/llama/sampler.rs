//! How the next token is chosen from the model's logits.

use llama_cpp_2::{
    sampling::LlamaSampler,
    token::{LlamaToken, data::LlamaTokenData, data_array::LlamaTokenDataArray, logit_bias::LlamaLogitBias},
};

use super::vocabulary::Vocabulary;
use crate::{Sampling, TokenLogprob, oblivious::highest};

/// Stands for the logarithm of a probability of zero, which JSON cannot write.
const LOWEST: f64 = -9999.0;

/// The sampler of one choice.
#[derive(Debug)]
pub(super) struct TokenSampler {
    /// Absent where the likeliest token is taken as it is.
    chain: Option<LlamaSampler>,
    grammar: Option<LlamaSampler>,
}

impl TokenSampler {
    /// A sampler with its own seed.
    pub(super) fn new(sampling: &Sampling, vocabulary: i32, context: u32, seed: u32) -> Self {
        let mut chain = Vec::new();
        if !sampling.logit_bias.is_empty() {
            let biases: Vec<LlamaLogitBias> = sampling
                .logit_bias
                .iter()
                .map(|(token, bias)| LlamaLogitBias::new(LlamaToken(token.cast_signed()), *bias))
                .collect();
            chain.push(LlamaSampler::logit_bias(vocabulary, &biases));
        }
        if sampling.presence_penalty != 0.0 || sampling.frequency_penalty != 0.0 {
            let (frequency, presence) = (sampling.frequency_penalty, sampling.presence_penalty);
            let last = i32::try_from(context).unwrap_or(i32::MAX);
            chain.push(LlamaSampler::penalties(vocabulary, last, 1.0, frequency, presence));
        }
        if sampling.temperature > 0.0 {
            chain.push(LlamaSampler::temp(sampling.temperature));
            if sampling.top_k > 0 {
                chain.push(LlamaSampler::top_k(i32::try_from(sampling.top_k).unwrap_or(i32::MAX)));
            }
            if sampling.top_p < 1.0 {
                chain.push(LlamaSampler::top_p(sampling.top_p, 1));
            }
            if sampling.min_p > 0.0 {
                chain.push(LlamaSampler::min_p(sampling.min_p, 1));
            }
            chain.push(LlamaSampler::dist(seed));
        } else if !chain.is_empty() {
            chain.push(LlamaSampler::greedy());
        }
        let chain = (!chain.is_empty()).then(|| LlamaSampler::chain(chain, true));
        Self { chain, grammar: None }
    }

    /// From now on only what this grammar allows.
    pub(super) fn constrain(&mut self, grammar: LlamaSampler) {
        self.grammar = Some(grammar);
    }

    /// Anything is allowed again.
    pub(super) fn release(&mut self) {
        self.grammar = None;
    }

    /// Whether a grammar is in force.
    pub(super) fn is_constrained(&self) -> bool {
        self.grammar.is_some()
    }

    /// Chooses the next token; `None` if the grammar allows none.
    ///
    /// A grammar is asked about the one token that was chosen without it, and about the whole vocabulary only if it refuses that.
    pub(super) fn pick(&mut self, logits: &[f32]) -> Option<LlamaToken> {
        let token = self.choose(logits, false)?;
        if self.grammar.as_mut().is_none_or(|grammar| allows(grammar, token)) {
            return Some(token);
        }
        self.choose(logits, true)
    }

    /// Takes note of a token that was chosen and is no end.
    pub(super) fn accept(&mut self, token: LlamaToken) {
        for sampler in [&mut self.chain, &mut self.grammar].into_iter().flatten() {
            sampler.accept(token);
        }
    }

    fn choose(&mut self, logits: &[f32], constrained: bool) -> Option<LlamaToken> {
        if self.chain.is_none() && !constrained {
            return highest(logits).map(|token| LlamaToken(token.cast_signed()));
        }
        let candidates =
            (0_i32..).zip(logits).map(|(token, logit)| LlamaTokenData::new(LlamaToken(token), *logit, 0.0));
        let mut candidates = LlamaTokenDataArray::from_iter(candidates, false);
        if constrained && let Some(grammar) = &mut self.grammar {
            candidates.apply_sampler(grammar);
            candidates.data.retain(|candidate| candidate.logit() > f32::NEG_INFINITY);
            if candidates.data.is_empty() {
                return None;
            }
        }
        match &mut self.chain {
            Some(chain) => candidates.apply_sampler(chain),
            None => candidates.apply_sampler(&mut LlamaSampler::greedy()),
        }
        candidates.selected_token()
    }
}

/// Whether a grammar allows a token next.
fn allows(grammar: &mut LlamaSampler, token: LlamaToken) -> bool {
    let mut candidate = LlamaTokenDataArray::new(vec![LlamaTokenData::new(token, 0.0, 0.0)], false);
    candidate.apply_sampler(grammar);
    candidate.data.first().is_some_and(|candidate| candidate.logit() > f32::NEG_INFINITY)
}

/// The probability of `token` and of the `count` likeliest ones, as the model gives them, before temperature and penalties.
pub(super) fn logprob(vocabulary: &Vocabulary, logits: &[f32], token: LlamaToken, count: u8) -> TokenLogprob {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).sum();
    #[allow(clippy::cast_possible_truncation)]
    let of = |logit: f32| (f64::from(logit - highest) - sum.ln()).max(LOWEST) as f32;
    let piece = |token: LlamaToken| vocabulary.piece(token, true);
    let mut top: Vec<(usize, f32)> = Vec::with_capacity(usize::from(count) + 1);
    for (index, &logit) in logits.iter().enumerate() {
        if top.len() < usize::from(count) || top.last().is_some_and(|(_, lowest)| logit > *lowest) {
            let place = top.partition_point(|(_, other)| *other >= logit);
            top.insert(place, (index, logit));
            top.truncate(usize::from(count));
        }
    }
    let own = usize::try_from(token.0).ok().and_then(|index| logits.get(index)).copied().unwrap_or(f32::NEG_INFINITY);
    let top = top
        .into_iter()
        .filter_map(|(index, logit)| Some((piece(LlamaToken(i32::try_from(index).ok()?)), of(logit))))
        .collect();
    TokenLogprob { bytes: piece(token), logprob: of(own), top }
}
