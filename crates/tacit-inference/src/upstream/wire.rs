//! Requests and answers in OpenAI's form, as a client of it.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    ChatRequest, CompletionRequest, Embedding, EmbeddingRequest, Event, FinishReason, InferenceError, Message,
    OutputFormat, Prompt, Role, Sampling, TokenLogprob, ToolCallDelta, ToolChoice, Usage, limits::parameter,
};

/// A chat as a request body.
///
/// # Errors
/// [`InferenceError::Parameter`] for what servers have no common form for.
pub(super) fn chat(model: &str, request: &ChatRequest, seed: u64) -> Result<Value, InferenceError> {
    let mut body = common(model, &request.sampling, seed);
    body.insert("messages".to_owned(), request.messages.iter().map(message).collect());
    if let Some(count) = request.sampling.logprobs {
        body.insert("logprobs".to_owned(), true.into());
        body.insert("top_logprobs".to_owned(), count.into());
    }
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            let function = json!({ "name": tool.name, "description": tool.description, "parameters": tool.parameters });
            json!({ "type": "function", "function": function })
        });
        body.insert("tools".to_owned(), tools.collect());
        let choice = match &request.tool_choice {
            ToolChoice::Auto => json!("auto"),
            ToolChoice::None => json!("none"),
            ToolChoice::Required => json!("required"),
            ToolChoice::Named(name) => json!({ "type": "function", "function": { "name": name } }),
        };
        body.insert("tool_choice".to_owned(), choice);
        body.insert("parallel_tool_calls".to_owned(), request.parallel_tool_calls.into());
    }
    format(&mut body, &request.format)?;
    Ok(Value::Object(body))
}

/// A completion as a request body.
///
/// # Errors
/// As [`chat`].
pub(super) fn completion(model: &str, request: &CompletionRequest, seed: u64) -> Result<Value, InferenceError> {
    let mut body = common(model, &request.sampling, seed);
    body.insert("prompt".to_owned(), prompt(&request.prompt));
    body.insert("echo".to_owned(), request.echo.into());
    if request.sampling.logprobs.is_some() {
        return Err(parameter("logprobs", "are given for chats alone by this model"));
    }
    format(&mut body, &request.format)?;
    Ok(Value::Object(body))
}

/// Texts to embed as a request body.
pub(super) fn embedding(model: &str, request: &EmbeddingRequest) -> Value {
    let mut body = json!({ "model": model, "encoding_format": "float" });
    body["input"] = request.inputs.iter().map(prompt).collect();
    if let Some(dimensions) = request.dimensions {
        body["dimensions"] = dimensions.into();
    }
    body
}

fn common(model: &str, sampling: &Sampling, seed: u64) -> Map<String, Value> {
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
    set("model", model.into());
    set("stream", true.into());
    set("stream_options", json!({ "include_usage": true }));
    set("temperature", sampling.temperature.into());
    set("top_p", sampling.top_p.into());
    set("presence_penalty", sampling.presence_penalty.into());
    set("frequency_penalty", sampling.frequency_penalty.into());
    set("seed", seed.into());
    set("n", sampling.choices.into());
    if let Some(most) = sampling.max_tokens {
        set("max_tokens", most.into());
    }
    if sampling.min_p > 0.0 {
        set("min_p", sampling.min_p.into());
    }
    if sampling.top_k > 0 {
        set("top_k", sampling.top_k.into());
    }
    if !sampling.stop.is_empty() {
        set("stop", sampling.stop.iter().map(String::as_str).collect());
    }
    if !sampling.logit_bias.is_empty() {
        let biases = sampling.logit_bias.iter().map(|(token, bias)| (token.to_string(), Value::from(*bias)));
        set("logit_bias", Value::Object(biases.collect()));
    }
    body
}

fn format(body: &mut Map<String, Value>, format: &OutputFormat) -> Result<(), InferenceError> {
    let format = match format {
        OutputFormat::Text => return Ok(()),
        OutputFormat::JsonObject => json!({ "type": "json_object" }),
        OutputFormat::JsonSchema(schema) => {
            json!({ "type": "json_schema", "json_schema": { "name": "answer", "schema": schema, "strict": true } })
        }
        OutputFormat::Grammar(_) => return Err(parameter("grammar", "is not understood by this model's server")),
    };
    body.insert("response_format".to_owned(), format);
    Ok(())
}

fn prompt(prompt: &Prompt) -> Value {
    match prompt {
        Prompt::Text(text) => text.as_str().into(),
        Prompt::Tokens(tokens) => tokens.as_slice().into(),
    }
}

fn message(message: &Message) -> Value {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let mut object = json!({ "role": role, "content": message.content });
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| {
            json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": call.arguments } })
        });
        object["tool_calls"] = calls.collect();
    }
    if let Some(id) = &message.tool_call_id {
        object["tool_call_id"] = id.as_str().into();
    }
    object
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Piece>,
    usage: Option<Counts>,
}

#[derive(Deserialize)]
struct Piece {
    #[serde(default)]
    index: u32,
    delta: Option<Delta>,
    text: Option<String>,
    logprobs: Option<Logprobs>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<CallPiece>>,
}

#[derive(Deserialize)]
struct CallPiece {
    #[serde(default)]
    index: u32,
    id: Option<String>,
    function: Option<FunctionPiece>,
}

#[derive(Deserialize)]
struct FunctionPiece {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct Logprobs {
    content: Option<Vec<Token>>,
}

#[derive(Deserialize)]
struct Token {
    token: String,
    logprob: f32,
    bytes: Option<Vec<u8>>,
    #[serde(default)]
    top_logprobs: Vec<Token>,
}

#[derive(Deserialize)]
struct Counts {
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
    prompt_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    cached_tokens: Option<u32>,
}

/// An answer that arrives in pieces.
#[derive(Debug)]
pub(super) struct Answer {
    finished: Vec<bool>,
    usage: Option<Usage>,
    seed: u64,
    is_chat: bool,
}

impl Answer {
    pub(super) fn new(choices: u32, seed: u64, is_chat: bool) -> Self {
        Self { finished: vec![false; choices as usize], usage: None, seed, is_chat }
    }

    /// Reads the data of one event; says whether it was the last.
    ///
    /// # Errors
    /// What is wrong with it, in words that quote nothing.
    pub(super) fn read(&mut self, data: &str, events: &mut Vec<Event>) -> Result<bool, &'static str> {
        if data.trim() == "[DONE]" {
            if self.finished.contains(&false) {
                return Err("it ended before every choice was complete");
            }
            events.push(Event::Done(self.usage.ok_or("it did not say how many tokens it used")?));
            return Ok(true);
        }
        let chunk: Chunk = serde_json::from_str(data).map_err(|_| "it sent what is no part of an answer")?;
        if let Some(counts) = chunk.usage {
            self.usage = Some(Usage {
                prompt_tokens: counts.prompt_tokens,
                cached_tokens: counts.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0),
                completion_tokens: counts.completion_tokens,
                seed: self.seed,
            });
        }
        for piece in chunk.choices {
            self.piece(piece, events)?;
        }
        Ok(false)
    }

    fn piece(&mut self, piece: Piece, events: &mut Vec<Event>) -> Result<(), &'static str> {
        let choice = piece.index;
        match self.finished.get(choice as usize) {
            Some(false) => {}
            Some(true) => return Err("it went on after the end of a choice"),
            None => return Err("it sent a choice that was not asked for"),
        }
        let (content, calls) = match piece.delta {
            Some(delta) if self.is_chat => (delta.content, delta.tool_calls.unwrap_or_default()),
            _ => (piece.text, Vec::new()),
        };
        let logprobs: Vec<TokenLogprob> =
            piece.logprobs.and_then(|logprobs| logprobs.content).unwrap_or_default().into_iter().map(token).collect();
        let text = content.unwrap_or_default();
        if !text.is_empty() || !logprobs.is_empty() {
            events.push(Event::Text { choice, text, logprobs });
        }
        for call in calls {
            let (name, arguments) = call.function.map_or((None, None), |function| (function.name, function.arguments));
            let arguments = arguments.unwrap_or_default();
            let delta = ToolCallDelta { index: call.index, id: call.id, name, arguments };
            events.push(Event::ToolCall { choice, delta });
        }
        if let Some(reason) = piece.finish_reason {
            let reason = match reason.as_str() {
                "length" => FinishReason::Length,
                "tool_calls" => FinishReason::ToolCalls,
                _ => FinishReason::Stop,
            };
            self.finished[choice as usize] = true;
            events.push(Event::Finished { choice, reason });
        }
        Ok(())
    }
}

fn token(token: Token) -> TokenLogprob {
    let bytes = |token: &Token| token.bytes.clone().unwrap_or_else(|| token.token.clone().into_bytes());
    let top = token.top_logprobs.iter().map(|other| (bytes(other), other.logprob)).collect();
    TokenLogprob { bytes: bytes(&token), logprob: token.logprob, top }
}

#[derive(Deserialize)]
struct Vectors {
    data: Vec<Vector>,
    usage: Counts,
}

#[derive(Deserialize)]
struct Vector {
    index: usize,
    embedding: Vec<f32>,
}

/// Reads vectors, of which there must be as many as texts, each of that length.
///
/// # Errors
/// What is wrong with them.
pub(super) fn read_embedding(bytes: &[u8], count: usize, length: u32) -> Result<Embedding, &'static str> {
    let vectors: Vectors = serde_json::from_slice(bytes).map_err(|_| "it sent what is no list of vectors")?;
    let mut found: Vec<Option<Vec<f32>>> = vec![None; count];
    for vector in vectors.data {
        let place = found.get_mut(vector.index).ok_or("it sent a vector that was not asked for")?;
        let norm = vector.embedding.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>().sqrt();
        if vector.embedding.len() != length as usize || !norm.is_finite() || norm == 0.0 {
            return Err("it sent a vector of another length, or none at all");
        }
        #[allow(clippy::cast_possible_truncation)]
        let unit = vector.embedding.iter().map(|value| (f64::from(*value) / norm) as f32).collect();
        if place.replace(unit).is_some() {
            return Err("it sent a vector twice");
        }
    }
    let found: Option<Vec<Vec<f32>>> = found.into_iter().collect();
    Ok(Embedding { vectors: found.ok_or("it left a vector out")?, prompt_tokens: vectors.usage.prompt_tokens })
}
