//! `/v1/chat/completions`.

use serde_json::Value;
use tacit_api::openai::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatDelta, ChatLogprobs, ChatMessage, FunctionChunk,
    ToolCallChunk, UsageField,
};
use tacit_inference::{Event, ToolCall, ToolCallDelta, Usage};

use super::{Piece, Renderer, Stamp, logprobs, reason};
use crate::ai::convert;

/// Renders chats.
pub(crate) struct ChatRenderer {
    stamp: Stamp,
    choices: Vec<Choice>,
    with_logprobs: bool,
    with_usage: bool,
}

#[derive(Default)]
struct Choice {
    text: String,
    calls: Vec<ToolCall>,
    logprobs: ChatLogprobs,
    finished: Option<&'static str>,
}

impl ChatRenderer {
    pub fn new(stamp: Stamp, choices: u32, with_logprobs: bool, with_usage: bool) -> Self {
        let choices = (0..choices).map(|_| Choice::default()).collect();
        Self { stamp, choices, with_logprobs, with_usage }
    }

    fn chunk(&self, choices: Vec<ChatChunkChoice>, usage: Option<UsageField>) -> Value {
        let chunk = ChatChunk {
            id: self.stamp.id.clone(),
            object: "chat.completion.chunk",
            created: self.stamp.created,
            model: self.stamp.model.clone(),
            choices,
            system_fingerprint: self.stamp.fingerprint.clone(),
            usage: self.with_usage.then_some(usage),
        };
        serde_json::to_value(chunk).unwrap_or_default()
    }

    fn delta(&self, index: u32, delta: ChatDelta, logprobs: Option<ChatLogprobs>) -> Value {
        self.chunk(vec![ChatChunkChoice { index, delta, logprobs, finish_reason: None }], None)
    }
}

/// Adds a piece of a tool call to those of a choice.
pub(super) fn add_call(calls: &mut Vec<ToolCall>, delta: &ToolCallDelta) {
    let index = delta.index as usize;
    if index >= tacit_api::openai::MAX_TOOLS {
        return;
    }
    while calls.len() <= index {
        calls.push(ToolCall { id: String::new(), name: String::new(), arguments: String::new() });
    }
    let call = &mut calls[index];
    if let Some(id) = &delta.id {
        call.id.clone_from(id);
    }
    if let Some(name) = &delta.name {
        call.name.clone_from(name);
    }
    call.arguments.push_str(&delta.arguments);
}

impl Renderer for ChatRenderer {
    fn opening(&mut self) -> Vec<Piece> {
        let first = ChatDelta { role: Some("assistant"), content: Some(String::new()), tool_calls: Vec::new() };
        (0..).zip(&self.choices).map(|(index, _)| Piece::new(self.delta(index, first.clone(), None))).collect()
    }

    fn pieces(&mut self, event: Event) -> Vec<Piece> {
        match event {
            Event::Text { choice, text, logprobs: tokens } => {
                let told = self.with_logprobs.then(|| ChatLogprobs { content: logprobs(&tokens), refusal: None });
                let Some(state) = self.choices.get_mut(choice as usize) else { return Vec::new() };
                state.text.push_str(&text);
                if let Some(told) = &told {
                    state.logprobs.content.extend(told.content.iter().cloned());
                }
                let delta = ChatDelta { content: Some(text), ..ChatDelta::default() };
                vec![Piece::text(self.delta(choice, delta, told))]
            }
            Event::ToolCall { choice, delta } => {
                let Some(state) = self.choices.get_mut(choice as usize) else { return Vec::new() };
                add_call(&mut state.calls, &delta);
                let chunk = ToolCallChunk {
                    index: delta.index,
                    kind: delta.id.is_some().then_some("function"),
                    id: delta.id,
                    function: FunctionChunk { name: delta.name, arguments: delta.arguments },
                };
                let delta = ChatDelta { tool_calls: vec![chunk], ..ChatDelta::default() };
                vec![Piece::text(self.delta(choice, delta, None))]
            }
            Event::Finished { choice, reason: why } => {
                let Some(state) = self.choices.get_mut(choice as usize) else { return Vec::new() };
                state.finished = Some(reason(why));
                let finished = ChatChunkChoice {
                    index: choice,
                    delta: ChatDelta::default(),
                    logprobs: None,
                    finish_reason: Some(reason(why)),
                };
                vec![Piece::new(self.chunk(vec![finished], None))]
            }
            Event::Used(_) | Event::Done(_) | Event::Failed(_) => Vec::new(),
        }
    }

    fn closing(&mut self, usage: Usage) -> Vec<Piece> {
        if !self.with_usage {
            return Vec::new();
        }
        let usage = UsageField::new(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens);
        vec![Piece::new(self.chunk(Vec::new(), Some(usage)))]
    }

    fn whole(self: Box<Self>, usage: Usage) -> serde_json::Result<Value> {
        let with_logprobs = self.with_logprobs;
        let choice = |(index, choice): (u32, Choice)| ChatChoice {
            index,
            message: ChatMessage {
                role: "assistant",
                content: (!choice.text.is_empty() || choice.calls.is_empty()).then_some(choice.text),
                refusal: None,
                tool_calls: choice.calls.into_iter().map(convert::tool_call).collect(),
            },
            logprobs: with_logprobs.then_some(choice.logprobs),
            finish_reason: choice.finished.unwrap_or("stop"),
        };
        serde_json::to_value(ChatCompletion {
            id: self.stamp.id,
            object: "chat.completion",
            created: self.stamp.created,
            model: self.stamp.model,
            choices: (0..).zip(self.choices).map(choice).collect(),
            usage: UsageField::new(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens),
            system_fingerprint: self.stamp.fingerprint,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tacit_inference::{FinishReason, TokenLogprob};

    use super::*;

    fn stamp() -> Stamp {
        Stamp { id: "chatcmpl-1".into(), created: 5, model: "m".into(), fingerprint: "fp_0".into() }
    }

    fn events() -> Vec<Event> {
        let token = TokenLogprob { bytes: b"Hi".to_vec(), logprob: -0.5, top: vec![(b"Hi".to_vec(), -0.5)] };
        vec![
            Event::Text { choice: 0, text: "Hi".into(), logprobs: vec![token] },
            Event::Text { choice: 0, text: "!".into(), logprobs: vec![] },
            Event::Finished { choice: 0, reason: FinishReason::Stop },
        ]
    }

    const USAGE: Usage = Usage { prompt_tokens: 3, cached_tokens: 1, completion_tokens: 2, seed: 9 };

    #[test]
    fn a_body_holds_everything() {
        let mut renderer = Box::new(ChatRenderer::new(stamp(), 1, true, false));
        for event in events() {
            renderer.pieces(event);
        }
        let body = renderer.whole(USAGE).unwrap();
        assert_eq!(body["choices"][0]["message"]["content"], "Hi!");
        assert_eq!(body["choices"][0]["finish_reason"], "stop");
        assert_eq!(body["choices"][0]["logprobs"]["content"][0]["bytes"], json!([72, 105]));
        assert_eq!(body["usage"]["total_tokens"], 5);
        assert_eq!(body["usage"]["prompt_tokens_details"]["cached_tokens"], 1);
    }

    #[test]
    fn a_stream_tells_the_same_in_pieces() {
        let mut renderer = ChatRenderer::new(stamp(), 1, false, true);
        let mut pieces = renderer.opening();
        for event in events() {
            pieces.extend(renderer.pieces(event));
        }
        pieces.extend(renderer.closing(USAGE));
        assert_eq!(pieces[0].data["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
        assert_eq!(pieces[1].data["choices"][0]["delta"], json!({"content": "Hi"}));
        assert_eq!(pieces[1].data["usage"], Value::Null);
        assert_eq!(pieces[3].data["choices"][0]["finish_reason"], "stop");
        assert_eq!(
            (pieces[4].data["choices"].clone(), pieces[4].data["usage"]["total_tokens"].clone()),
            (json!([]), json!(5))
        );
        assert!(pieces[1].text && !pieces[3].text);
    }

    #[test]
    fn tool_calls_are_put_together() {
        let mut renderer = Box::new(ChatRenderer::new(stamp(), 1, false, false));
        let delta = |id: Option<&str>, name: Option<&str>, arguments: &str| Event::ToolCall {
            choice: 0,
            delta: ToolCallDelta {
                index: 0,
                id: id.map(Into::into),
                name: name.map(Into::into),
                arguments: arguments.into(),
            },
        };
        let first = renderer.pieces(delta(Some("call_1"), Some("add"), ""));
        assert_eq!(first[0].data["choices"][0]["delta"]["tool_calls"][0]["type"], "function");
        renderer.pieces(delta(None, None, "{\"a\":"));
        renderer.pieces(delta(None, None, "1}"));
        renderer.pieces(Event::Finished { choice: 0, reason: FinishReason::ToolCalls });
        let body = renderer.whole(USAGE).unwrap();
        let message = &body["choices"][0]["message"];
        assert_eq!(message["tool_calls"][0]["function"], json!({"name": "add", "arguments": "{\"a\":1}"}));
        assert_eq!((&message["content"], &body["choices"][0]["finish_reason"]), (&Value::Null, &json!("tool_calls")));
    }
}
