//! One choice of a generation: its sampler, and what its tokens become on their way to the caller.

use llama_cpp_2::{sampling::LlamaSampler, token::LlamaToken};
use rand::RngExt as _;

use super::{
    sampler::{TokenSampler, logprob},
    vocabulary::Vocabulary,
};
use crate::{
    Event, FinishReason, TokenLogprob, ToolCallDelta,
    text::{Characters, Piece, StopFilter, ToolParser},
};

/// How a choice handles tools.
#[derive(Debug)]
pub(super) struct ToolUse {
    pub(super) parser: ToolParser,
    /// What may follow the mark that begins a call, in a choice that is free until then.
    pub(super) grammar: Option<LlamaSampler>,
    pub(super) several: bool,
}

/// A choice under way.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) index: u32,
    pub(super) sampler: TokenSampler,
    pub(super) stop: StopFilter,
    pub(super) tools: Option<ToolUse>,
    /// Alternatives to report.
    pub(super) logprobs: Option<u8>,
    /// Most tokens.
    pub(super) limit: u32,
    /// Tokens so far.
    pub(super) produced: u32,
    pub(super) characters: Characters,
    /// Probabilities of tokens whose text is held back.
    pub(super) untold: Vec<TokenLogprob>,
}

/// What a step of a choice brought.
pub(super) enum Step {
    /// The token to work through next.
    Next(LlamaToken),
    /// The choice is complete.
    Finished,
}

impl Choice {
    /// Chooses the next token and turns it into events.
    pub(super) fn step(&mut self, vocabulary: &Vocabulary, logits: &[f32], events: &mut Vec<Event>) -> Step {
        let Some(token) = self.sampler.pick(logits) else {
            // The grammar allows nothing more.
            return self.finish(FinishReason::Stop, events);
        };
        self.produced += 1;
        if vocabulary.is_end(token) {
            return self.finish(FinishReason::Stop, events);
        }
        self.sampler.accept(token);
        if let Some(count) = self.logprobs {
            self.untold.push(logprob(vocabulary, logits, token, count));
        }
        // Marks of tool calls may be control tokens, which otherwise have no text.
        let bytes = vocabulary.piece(token, self.tools.is_some());
        let text = self.characters.push(&bytes);
        let told = self.stop.push(&text);
        self.tell(told, events);
        if self.stop.is_hit() {
            self.untold.clear();
            return self.finish(FinishReason::Stop, events);
        }
        if let Some(tools) = &mut self.tools {
            if tools.parser.calls() > 0 && !tools.several {
                return self.finish(FinishReason::Stop, events);
            }
            // Within a call, from its mark on, only JSON of a tool's schema: as soon as the mark is complete.
            if let Some(grammar) = &tools.grammar {
                match tools.parser.begun() {
                    Some(begun) if begun.trim().is_empty() && !self.sampler.is_constrained() => {
                        self.sampler.constrain(grammar.clone());
                    }
                    None if self.sampler.is_constrained() => self.sampler.release(),
                    _ => {}
                }
            }
        }
        if self.produced >= self.limit {
            return self.finish(FinishReason::Length, events);
        }
        Step::Next(token)
    }

    fn finish(&mut self, reason: FinishReason, events: &mut Vec<Event>) -> Step {
        if !self.stop.is_hit() {
            let rest = self.characters.finish();
            let mut told = self.stop.push(&rest);
            told.push_str(&self.stop.finish());
            self.tell(told, events);
        }
        let mut reason = reason;
        if let Some(mut tools) = self.tools.take() {
            let pieces = tools.parser.finish();
            let before = tools.parser.calls();
            self.pieces(pieces, before, events);
            if before > 0 {
                reason = FinishReason::ToolCalls;
            }
        }
        if !self.untold.is_empty() {
            let logprobs = std::mem::take(&mut self.untold);
            events.push(Event::Text { choice: self.index, text: String::new(), logprobs });
        }
        events.push(Event::Finished { choice: self.index, reason });
        Step::Finished
    }

    /// Passes text on, through the parser of tool calls if there are tools.
    fn tell(&mut self, text: String, events: &mut Vec<Event>) {
        match &mut self.tools {
            Some(tools) => {
                let pieces = tools.parser.push(&text);
                let calls = tools.parser.calls();
                self.pieces(pieces, calls, events);
            }
            None => self.text(text, events),
        }
    }

    fn text(&mut self, text: String, events: &mut Vec<Event>) {
        if text.is_empty() && (self.untold.is_empty() || self.stop.is_holding()) {
            return;
        }
        let logprobs = std::mem::take(&mut self.untold);
        events.push(Event::Text { choice: self.index, text, logprobs });
    }

    /// Tells pieces; `calls` is how many calls there are with those among the pieces.
    fn pieces(&mut self, pieces: Vec<Piece>, calls: u32, events: &mut Vec<Event>) {
        let new = pieces.iter().filter(|piece| matches!(piece, Piece::Call { .. })).count();
        let mut index = calls - u32::try_from(new).unwrap_or(calls);
        for piece in pieces {
            match piece {
                Piece::Text(text) => self.text(text, events),
                Piece::Call { name, arguments } => {
                    let delta = ToolCallDelta { index, id: Some(call_id()), name: Some(name), arguments };
                    events.push(Event::ToolCall { choice: self.index, delta });
                    index += 1;
                }
            }
        }
    }
}

/// A name for a call that no other has.
fn call_id() -> String {
    format!("call_{:024x}", rand::rng().random::<u128>() >> 32)
}
