//! `/v1/completions`.

use std::collections::BTreeMap;

use serde_json::Value;
use tacit_api::openai::{CompletionAnswer, CompletionChoice, CompletionLogprobs, UsageField};
use tacit_inference::{Event, TokenLogprob, Usage};

use super::{Piece, Renderer, Stamp, reason, token_text};

/// Renders completions.
pub(crate) struct CompletionRenderer {
    stamp: Stamp,
    choices: Vec<Choice>,
    with_logprobs: bool,
    with_usage: bool,
}

#[derive(Default)]
struct Choice {
    text: String,
    characters: usize,
    logprobs: CompletionLogprobs,
    finished: Option<&'static str>,
}

impl CompletionRenderer {
    pub fn new(stamp: Stamp, choices: u32, with_logprobs: bool, with_usage: bool) -> Self {
        let choices = (0..choices).map(|_| Choice::default()).collect();
        Self { stamp, choices, with_logprobs, with_usage }
    }

    fn answer(&self, choices: Vec<CompletionChoice>, usage: Option<Option<UsageField>>) -> Value {
        let answer = CompletionAnswer {
            id: self.stamp.id.clone(),
            object: "text_completion",
            created: self.stamp.created,
            model: self.stamp.model.clone(),
            choices,
            usage,
            system_fingerprint: self.stamp.fingerprint.clone(),
        };
        serde_json::to_value(answer).unwrap_or_default()
    }

    fn piece(&self, choice: CompletionChoice) -> Value {
        self.answer(vec![choice], self.with_usage.then_some(None))
    }
}

fn told(tokens: &[TokenLogprob], mut offset: usize) -> CompletionLogprobs {
    let mut told = CompletionLogprobs::default();
    for token in tokens {
        let text = token_text(&token.bytes);
        told.text_offset.push(offset);
        offset += text.chars().count();
        told.tokens.push(text);
        told.token_logprobs.push(token.logprob.max(-9_999.0));
        let top: BTreeMap<_, _> =
            token.top.iter().map(|(bytes, logprob)| (token_text(bytes), logprob.max(-9_999.0))).collect();
        told.top_logprobs.push(top);
    }
    told
}

impl Renderer for CompletionRenderer {
    fn opening(&mut self) -> Vec<Piece> {
        Vec::new()
    }

    fn pieces(&mut self, event: Event) -> Vec<Piece> {
        match event {
            Event::Text { choice, text, logprobs } => {
                let Some(state) = self.choices.get_mut(choice as usize) else { return Vec::new() };
                let told = self.with_logprobs.then(|| told(&logprobs, state.characters));
                if let Some(told) = told.clone() {
                    state.logprobs.tokens.extend(told.tokens);
                    state.logprobs.token_logprobs.extend(told.token_logprobs);
                    state.logprobs.top_logprobs.extend(told.top_logprobs);
                    state.logprobs.text_offset.extend(told.text_offset);
                }
                state.characters += text.chars().count();
                state.text.push_str(&text);
                vec![Piece::text(self.piece(CompletionChoice {
                    text,
                    index: choice,
                    logprobs: told,
                    finish_reason: None,
                }))]
            }
            Event::Finished { choice, reason: why } => {
                let Some(state) = self.choices.get_mut(choice as usize) else { return Vec::new() };
                state.finished = Some(reason(why));
                let last = CompletionChoice {
                    text: String::new(),
                    index: choice,
                    logprobs: None,
                    finish_reason: Some(reason(why)),
                };
                vec![Piece::new(self.piece(last))]
            }
            // Completions have no tools.
            Event::ToolCall { .. } | Event::Used(_) | Event::Done(_) | Event::Failed(_) => Vec::new(),
        }
    }

    fn closing(&mut self, usage: Usage) -> Vec<Piece> {
        if !self.with_usage {
            return Vec::new();
        }
        let usage = UsageField::new(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens);
        vec![Piece::new(self.answer(Vec::new(), Some(Some(usage))))]
    }

    fn whole(mut self: Box<Self>, usage: Usage) -> serde_json::Result<Value> {
        let with_logprobs = self.with_logprobs;
        let choices = std::mem::take(&mut self.choices);
        let choice = |(index, choice): (u32, Choice)| CompletionChoice {
            text: choice.text,
            index,
            logprobs: with_logprobs.then_some(choice.logprobs),
            finish_reason: Some(choice.finished.unwrap_or("stop")),
        };
        let usage = UsageField::new(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens);
        Ok(self.answer((0..).zip(choices).map(choice).collect(), Some(Some(usage))))
    }
}

#[cfg(test)]
mod tests {
    use tacit_inference::FinishReason;

    use super::*;

    #[test]
    fn texts_and_offsets_add_up() {
        let stamp = Stamp { id: "cmpl-1".into(), created: 5, model: "m".into(), fingerprint: "fp_0".into() };
        let mut renderer = Box::new(CompletionRenderer::new(stamp, 2, true, false));
        let token = |text: &str| TokenLogprob { bytes: text.as_bytes().to_vec(), logprob: -1.0, top: Vec::new() };
        for (choice, text) in [(0, "né"), (1, "x"), (0, "e")] {
            renderer.pieces(Event::Text { choice, text: text.into(), logprobs: vec![token(text)] });
        }
        let last = renderer.pieces(Event::Finished { choice: 0, reason: FinishReason::Length });
        assert_eq!(last[0].data["choices"][0]["finish_reason"], "length");
        let usage = Usage { prompt_tokens: 1, cached_tokens: 0, completion_tokens: 3, seed: 0 };
        let body = renderer.whole(usage).unwrap();
        assert_eq!(body["choices"][0]["text"], "née");
        assert_eq!(body["choices"][0]["logprobs"]["text_offset"], serde_json::json!([0, 2]));
        assert_eq!(body["choices"][1]["text"], "x");
        assert_eq!(body["usage"]["completion_tokens"], 3);
    }
}
