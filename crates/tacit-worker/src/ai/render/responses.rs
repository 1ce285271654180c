//! `/v1/responses`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tacit_api::openai::{ResponseAnswer, ResponseContent, ResponseEvent, ResponseOutput, ResponseTool, ResponseUsage};
use tacit_inference::{Event, FinishReason, ToolCall, Usage};

use super::{Piece, Renderer, Stamp, chat::add_call, logprobs};

/// What of a request its response repeats.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub instructions: Option<String>,
    pub max_output_tokens: Option<u32>,
    pub parallel_tool_calls: bool,
    pub temperature: f32,
    pub top_p: f32,
    pub tool_choice: Value,
    pub tools: Vec<ResponseTool>,
    pub metadata: BTreeMap<String, String>,
}

/// Renders responses.
pub(crate) struct ResponseRenderer {
    stamp: Stamp,
    settings: Settings,
    text: String,
    /// Whether the message was announced.
    speaking: bool,
    calls: Vec<ToolCall>,
    reason: Option<FinishReason>,
    sequence: u64,
}

impl ResponseRenderer {
    pub fn new(stamp: Stamp, settings: Settings) -> Self {
        Self { stamp, settings, text: String::new(), speaking: false, calls: Vec::new(), reason: None, sequence: 0 }
    }

    fn message_id(&self) -> String {
        self.stamp.id.replacen("resp_", "msg_", 1)
    }

    fn item_id(&self, index: usize) -> String {
        format!("{}_{index}", self.stamp.id.replacen("resp_", "fc_", 1))
    }

    /// Place of a call among the items: a message, if there is one, stands first.
    fn place(&self, call: u32) -> u32 {
        call + u32::from(self.speaking)
    }

    fn status(&self) -> &'static str {
        match self.reason {
            None => "in_progress",
            Some(FinishReason::Length) => "incomplete",
            Some(_) => "completed",
        }
    }

    fn part(text: String) -> ResponseContent {
        ResponseContent::OutputText { text, annotations: Vec::new() }
    }

    fn message(&self) -> ResponseOutput {
        ResponseOutput::Message {
            id: self.message_id(),
            status: self.status(),
            role: "assistant",
            content: vec![Self::part(self.text.clone())],
        }
    }

    fn call(&self, index: usize, call: &ToolCall, status: &'static str) -> ResponseOutput {
        ResponseOutput::FunctionCall {
            id: self.item_id(index),
            call_id: call.id.clone(),
            name: call.name.clone(),
            arguments: call.arguments.clone(),
            status,
        }
    }

    fn response(&self, usage: Option<Usage>) -> ResponseAnswer {
        let mut output = Vec::new();
        if usage.is_some() {
            if self.speaking || self.calls.is_empty() {
                output.push(self.message());
            }
            output.extend(self.calls.iter().enumerate().map(|(index, call)| self.call(index, call, "completed")));
        }
        let incomplete = self.reason == Some(FinishReason::Length);
        ResponseAnswer {
            id: self.stamp.id.clone(),
            object: "response",
            created_at: self.stamp.created,
            status: self.status(),
            error: None,
            incomplete_details: incomplete.then(|| json!({"reason": "max_output_tokens"})),
            instructions: self.settings.instructions.clone(),
            max_output_tokens: self.settings.max_output_tokens,
            model: self.stamp.model.clone(),
            output,
            parallel_tool_calls: self.settings.parallel_tool_calls,
            previous_response_id: None,
            store: false,
            temperature: self.settings.temperature,
            tool_choice: self.settings.tool_choice.clone(),
            tools: self.settings.tools.clone(),
            top_p: self.settings.top_p,
            truncation: "disabled",
            usage: usage
                .map(|usage| ResponseUsage::new(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)),
            metadata: self.settings.metadata.clone(),
        }
    }

    fn piece(&mut self, event: &ResponseEvent, text: bool) -> Piece {
        let mut data = serde_json::to_value(event).unwrap_or_default();
        if let Some(members) = data.as_object_mut() {
            members.insert("sequence_number".to_owned(), self.sequence.into());
        }
        self.sequence += 1;
        Piece { event: Some(name(event)), data, text }
    }

    fn speak(&mut self) -> Vec<Piece> {
        if self.speaking {
            return Vec::new();
        }
        self.speaking = true;
        let item = ResponseOutput::Message {
            id: self.message_id(),
            status: "in_progress",
            role: "assistant",
            content: Vec::new(),
        };
        let added = self.piece(&ResponseEvent::ItemAdded { output_index: 0, item }, false);
        let part = ResponseEvent::PartAdded {
            item_id: self.message_id(),
            output_index: 0,
            content_index: 0,
            part: Self::part(String::new()),
        };
        vec![added, self.piece(&part, false)]
    }

    fn close_items(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if self.speaking {
            let (item_id, text) = (self.message_id(), self.text.clone());
            let done = ResponseEvent::TextDone {
                item_id: item_id.clone(),
                output_index: 0,
                content_index: 0,
                text: text.clone(),
                logprobs: Vec::new(),
            };
            pieces.push(self.piece(&done, true));
            let part = ResponseEvent::PartDone { item_id, output_index: 0, content_index: 0, part: Self::part(text) };
            pieces.push(self.piece(&part, true));
            let item = self.message();
            pieces.push(self.piece(&ResponseEvent::ItemDone { output_index: 0, item }, true));
        }
        for (index, call) in self.calls.clone().iter().enumerate() {
            let output_index = self.place(u32::try_from(index).unwrap_or(u32::MAX));
            let done = ResponseEvent::ArgumentsDone {
                item_id: self.item_id(index),
                output_index,
                name: call.name.clone(),
                arguments: call.arguments.clone(),
            };
            pieces.push(self.piece(&done, true));
            let item = self.call(index, call, "completed");
            pieces.push(self.piece(&ResponseEvent::ItemDone { output_index, item }, true));
        }
        pieces
    }
}

impl Renderer for ResponseRenderer {
    fn opening(&mut self) -> Vec<Piece> {
        let created = ResponseEvent::Created { response: self.response(None) };
        let running = ResponseEvent::InProgress { response: self.response(None) };
        vec![self.piece(&created, false), self.piece(&running, false)]
    }

    fn pieces(&mut self, event: Event) -> Vec<Piece> {
        match event {
            Event::Text { text, logprobs: tokens, .. } => {
                // A message that begins after a call would move the calls: it is told at the end with the whole answer.
                let mut pieces = if self.calls.is_empty() { self.speak() } else { Vec::new() };
                self.text.push_str(&text);
                if self.speaking {
                    let delta = ResponseEvent::TextDelta {
                        item_id: self.message_id(),
                        output_index: 0,
                        content_index: 0,
                        delta: text,
                        logprobs: logprobs(&tokens),
                    };
                    pieces.push(self.piece(&delta, true));
                }
                pieces
            }
            Event::ToolCall { delta, .. } => {
                let (known, index) = (self.calls.len(), delta.index as usize);
                add_call(&mut self.calls, &delta);
                let Some(call) = self.calls.get(index).cloned() else { return Vec::new() };
                let output_index = self.place(delta.index);
                let mut pieces = Vec::new();
                if index >= known {
                    let item = self.call(index, &ToolCall { arguments: String::new(), ..call }, "in_progress");
                    pieces.push(self.piece(&ResponseEvent::ItemAdded { output_index, item }, true));
                }
                if !delta.arguments.is_empty() {
                    let item_id = self.item_id(index);
                    let more = ResponseEvent::ArgumentsDelta { item_id, output_index, delta: delta.arguments };
                    pieces.push(self.piece(&more, true));
                }
                pieces
            }
            Event::Finished { reason, .. } => {
                self.reason = Some(reason);
                self.close_items()
            }
            Event::Used(_) | Event::Done(_) | Event::Failed(_) => Vec::new(),
        }
    }

    fn closing(&mut self, usage: Usage) -> Vec<Piece> {
        let response = self.response(Some(usage));
        let last = match self.reason {
            Some(FinishReason::Length) => ResponseEvent::Incomplete { response },
            _ => ResponseEvent::Completed { response },
        };
        vec![self.piece(&last, true)]
    }

    fn whole(self: Box<Self>, usage: Usage) -> serde_json::Result<Value> {
        serde_json::to_value(self.response(Some(usage)))
    }

    fn ends_with_done(&self) -> bool {
        false
    }
}

const fn name(event: &ResponseEvent) -> &'static str {
    match event {
        ResponseEvent::Created { .. } => "response.created",
        ResponseEvent::InProgress { .. } => "response.in_progress",
        ResponseEvent::ItemAdded { .. } => "response.output_item.added",
        ResponseEvent::PartAdded { .. } => "response.content_part.added",
        ResponseEvent::TextDelta { .. } => "response.output_text.delta",
        ResponseEvent::TextDone { .. } => "response.output_text.done",
        ResponseEvent::PartDone { .. } => "response.content_part.done",
        ResponseEvent::ArgumentsDelta { .. } => "response.function_call_arguments.delta",
        ResponseEvent::ArgumentsDone { .. } => "response.function_call_arguments.done",
        ResponseEvent::ItemDone { .. } => "response.output_item.done",
        ResponseEvent::Completed { .. } => "response.completed",
        ResponseEvent::Incomplete { .. } => "response.incomplete",
        ResponseEvent::Error { .. } => "error",
    }
}

#[cfg(test)]
mod tests {
    use tacit_inference::ToolCallDelta;

    use super::*;

    fn renderer() -> ResponseRenderer {
        let stamp = Stamp { id: "resp_1".into(), created: 5, model: "m".into(), fingerprint: "fp_0".into() };
        let settings = Settings {
            instructions: None,
            max_output_tokens: None,
            parallel_tool_calls: true,
            temperature: 1.0,
            top_p: 1.0,
            tool_choice: json!("auto"),
            tools: Vec::new(),
            metadata: BTreeMap::new(),
        };
        ResponseRenderer::new(stamp, settings)
    }

    const USAGE: Usage = Usage { prompt_tokens: 3, cached_tokens: 0, completion_tokens: 2, seed: 9 };

    #[test]
    fn events_come_in_order_and_agree_with_their_names() {
        let mut renderer = renderer();
        let mut pieces = renderer.opening();
        pieces.extend(renderer.pieces(Event::Text { choice: 0, text: "Hi".into(), logprobs: Vec::new() }));
        pieces.extend(renderer.pieces(Event::Text { choice: 0, text: "!".into(), logprobs: Vec::new() }));
        pieces.extend(renderer.pieces(Event::Finished { choice: 0, reason: FinishReason::Stop }));
        pieces.extend(renderer.closing(USAGE));
        let names: Vec<&str> = pieces.iter().filter_map(|piece| piece.event).collect();
        assert_eq!(
            names,
            [
                "response.created",
                "response.in_progress",
                "response.output_item.added",
                "response.content_part.added",
                "response.output_text.delta",
                "response.output_text.delta",
                "response.output_text.done",
                "response.content_part.done",
                "response.output_item.done",
                "response.completed",
            ]
        );
        for (number, piece) in pieces.iter().enumerate() {
            assert_eq!(piece.data["type"], piece.event.unwrap());
            assert_eq!(piece.data["sequence_number"], number);
        }
        let last = &pieces.last().unwrap().data["response"];
        assert_eq!((&last["status"], &last["output"][0]["content"][0]["text"]), (&json!("completed"), &json!("Hi!")));
    }

    #[test]
    fn function_calls_are_items() {
        let mut renderer = Box::new(renderer());
        let delta =
            ToolCallDelta { index: 0, id: Some("call_1".into()), name: Some("add".into()), arguments: "{}".into() };
        let pieces = renderer.pieces(Event::ToolCall { choice: 0, delta });
        assert_eq!(pieces[0].data["item"]["name"], "add");
        renderer.pieces(Event::Finished { choice: 0, reason: FinishReason::ToolCalls });
        let body = renderer.whole(USAGE).unwrap();
        assert_eq!(body["output"][0]["type"], "function_call");
        assert_eq!(body["output"][0]["arguments"], "{}");
        assert_eq!(body["output"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn an_answer_cut_at_its_limit_is_incomplete() {
        let mut renderer = Box::new(renderer());
        renderer.pieces(Event::Text { choice: 0, text: "Hi".into(), logprobs: Vec::new() });
        renderer.pieces(Event::Finished { choice: 0, reason: FinishReason::Length });
        let body = renderer.whole(USAGE).unwrap();
        assert_eq!(
            (&body["status"], &body["incomplete_details"]["reason"]),
            (&json!("incomplete"), &json!("max_output_tokens"))
        );
    }
}
