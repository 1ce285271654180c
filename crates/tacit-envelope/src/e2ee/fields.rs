//! Which places of a body are sealed, and how their plaintext is written (section 5). Nothing here knows a key.

use serde_json::{Map, Value};

use super::E2eeError;

/// An endpoint whose bodies have places that are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
    /// `/v1/embeddings`.
    Embeddings,
}

impl Endpoint {
    /// The endpoint at a path.
    ///
    /// # Errors
    /// [`E2eeError::UnsupportedEndpoint`].
    pub fn at(path: &str) -> Result<Self, E2eeError> {
        match path {
            "/v1/chat/completions" => Ok(Self::Chat),
            "/v1/completions" => Ok(Self::Completions),
            "/v1/embeddings" => Ok(Self::Embeddings),
            _ => Err(E2eeError::UnsupportedEndpoint),
        }
    }
}

/// How the plaintext of a place is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The string itself.
    Text,
    /// A string, or an array as compact JSON.
    Content,
    /// Any value as compact JSON.
    Json,
}

/// What is done at a place: its field path, form and value.
pub(super) type Visit<'a> = dyn FnMut(&str, Form, &mut Value) -> Result<(), E2eeError> + 'a;

/// Members of a response that spell the prompt or the answer in some engines and are never sent sealed.
const WITHHELD: [&str; 3] = ["prompt_logprobs", "prompt_token_ids", "token_ids"];

impl Form {
    /// The plaintext of a value; none for null, which stays.
    pub fn write(self, value: &Value) -> Result<Option<Vec<u8>>, E2eeError> {
        match (self, value) {
            (_, Value::Null) => Ok(None),
            (Self::Text | Self::Content, Value::String(text)) => Ok(Some(text.as_bytes().to_vec())),
            (Self::Content, Value::Array(_)) | (Self::Json, _) => {
                serde_json::to_vec(value).map(Some).map_err(|_| E2eeError::Seal)
            }
            (Self::Text | Self::Content, _) => Err(E2eeError::Seal),
        }
    }

    /// The value of a plaintext.
    pub fn read(self, plaintext: Vec<u8>) -> Result<Value, E2eeError> {
        let text = String::from_utf8(plaintext).map_err(|_| E2eeError::DecryptionFailed)?;
        match self {
            Self::Text => Ok(Value::String(text)),
            Self::Content => Ok(array(&text).unwrap_or(Value::String(text))),
            Self::Json => serde_json::from_str(&text).map_err(|_| E2eeError::DecryptionFailed),
        }
    }
}

/// The array that a text spells.
pub(super) fn array(text: &str) -> Option<Value> {
    text.trim_start().starts_with('[').then(|| serde_json::from_str(text).ok().filter(Value::is_array)).flatten()
}

/// Visits every place of a sealed request. A client seals a message's content as a whole; a service opens it part by part where
/// it stands as parts. Gives how many places were visited.
pub(super) fn visit_request(
    endpoint: Endpoint,
    tools: bool,
    body: &mut Map<String, Value>,
    visit: &mut Visit<'_>,
) -> Result<usize, E2eeError> {
    let mut count = 0;
    let mut counting = |field: &str, form: Form, value: &mut Value| {
        count += 1;
        visit(field, form, value)
    };
    match endpoint {
        Endpoint::Completions => visit_texts("prompt", body, &mut counting)?,
        Endpoint::Embeddings => visit_texts("input", body, &mut counting)?,
        Endpoint::Chat => {
            let messages = body.get_mut("messages").and_then(Value::as_array_mut);
            let messages = messages.ok_or(E2eeError::DecryptionFailed)?;
            for (index, message) in messages.iter_mut().enumerate() {
                let Value::Object(message) = message else { continue };
                visit_content(&format!("messages.{index}.content"), message, &mut counting)?;
                if tools {
                    visit_tool_calls(&format!("messages.{index}"), message, &mut counting)?;
                }
            }
            if tools && let Some(tools) = body.get_mut("tools") {
                counting("tools", Form::Json, tools)?;
            }
        }
    }
    Ok(count)
}

fn visit_texts(name: &str, body: &mut Map<String, Value>, visit: &mut Visit<'_>) -> Result<(), E2eeError> {
    match body.get_mut(name) {
        Some(value @ Value::String(_)) => visit(name, Form::Text, value),
        // Token ids are numbers and stay.
        Some(Value::Array(items)) => {
            let texts = items.iter_mut().enumerate().filter(|(_, item)| item.is_string());
            texts.into_iter().try_for_each(|(index, item)| visit(&format!("{name}.{index}"), Form::Text, item))
        }
        _ => Ok(()),
    }
}

fn visit_content(field: &str, message: &mut Map<String, Value>, visit: &mut Visit<'_>) -> Result<(), E2eeError> {
    match message.get_mut("content") {
        Some(content @ Value::String(_)) => visit(field, Form::Content, content),
        Some(Value::Array(parts)) => parts.iter_mut().enumerate().try_for_each(|(index, part)| {
            let (outer, inner) = match part.get("type").and_then(Value::as_str) {
                Some("text") => (None, "text"),
                Some("image_url") => (Some("image_url"), "url"),
                Some("input_audio") => (Some("input_audio"), "data"),
                _ => return Ok(()),
            };
            let holder = match outer {
                None => Some(part),
                Some(outer) => part.get_mut(outer),
            };
            match holder.and_then(|holder| holder.get_mut(inner)) {
                Some(value @ Value::String(_)) => {
                    let path = outer.map(|outer| format!("{outer}.")).unwrap_or_default();
                    visit(&format!("{field}.{index}.{path}{inner}"), Form::Text, value)
                }
                _ => Ok(()),
            }
        }),
        _ => Ok(()),
    }
}

/// The arguments of tool calls, by the call's `index` where it has one.
fn visit_tool_calls(field: &str, message: &mut Map<String, Value>, visit: &mut Visit<'_>) -> Result<(), E2eeError> {
    let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
    for (position, call) in calls.into_iter().flatten().enumerate() {
        let index = index_of(call, position);
        let arguments = call.get_mut("function").and_then(|function| function.get_mut("arguments"));
        if let Some(arguments) = arguments {
            visit(&format!("{field}.tool_calls.{index}.function.arguments"), Form::Text, arguments)?;
        }
    }
    Ok(())
}

/// Takes out of a response what spells content and has no sealed place.
pub(super) fn withhold(tools: bool, body: &mut Map<String, Value>) {
    let withheld = |name: &str| WITHHELD.contains(&name);
    body.retain(|name, _| !withheld(name));
    let choices = body.get_mut("choices").and_then(Value::as_array_mut);
    for choice in choices.into_iter().flatten().filter_map(Value::as_object_mut) {
        choice.retain(|name, _| !withheld(name));
        if !tools && let Some(probabilities) = choice.get_mut("logprobs") {
            *probabilities = Value::Null;
        }
        // A first chunk often says an empty content; sealed it would only be longer.
        if let Some(Value::Object(delta)) = choice.get_mut("delta") {
            delta.retain(|name, value| name != "content" || value.as_str() != Some(""));
        }
    }
}

/// Visits every place of a response, a whole one or one chunk of a stream. Gives how many were visited.
pub(super) fn visit_response(
    tools: bool,
    body: &mut Map<String, Value>,
    visit: &mut Visit<'_>,
) -> Result<usize, E2eeError> {
    let mut count = 0;
    let mut visit = |field: &str, form: Form, value: &mut Value| {
        // Null says that there is nothing, and stays.
        if !value.is_null() {
            count += 1;
            visit(field, form, value)?;
        }
        Ok(())
    };
    let choices = body.get_mut("choices").and_then(Value::as_array_mut);
    for (position, choice) in choices.into_iter().flatten().enumerate() {
        let field = format!("choices.{}", index_of(choice, position));
        let Value::Object(choice) = choice else { continue };
        if let Some(text) = choice.get_mut("text") {
            visit(&format!("{field}.text"), Form::Text, text)?;
        }
        for part in ["message", "delta"] {
            let Some(Value::Object(message)) = choice.get_mut(part) else { continue };
            let field = format!("{field}.{part}");
            for name in ["content", "reasoning", "reasoning_content", "refusal"] {
                if let Some(value) = message.get_mut(name) {
                    visit(&format!("{field}.{name}"), Form::Text, value)?;
                }
            }
            if let Some(Value::Object(audio)) = message.get_mut("audio") {
                for name in ["data", "transcript"] {
                    if let Some(value) = audio.get_mut(name) {
                        visit(&format!("{field}.audio.{name}"), Form::Text, value)?;
                    }
                }
            }
            if tools {
                visit_tool_calls(&field, message, &mut visit)?;
            }
        }
        if tools && let Some(probabilities) = choice.get_mut("logprobs") {
            visit(&format!("{field}.logprobs"), Form::Json, probabilities)?;
        }
    }
    let entries = body.get_mut("data").and_then(Value::as_array_mut);
    for (position, entry) in entries.into_iter().flatten().enumerate() {
        let index = index_of(entry, position);
        if let Some(embedding) = entry.get_mut("embedding") {
            visit(&format!("data.{index}.embedding"), Form::Json, embedding)?;
        }
    }
    Ok(count)
}

fn index_of(entry: &Value, position: usize) -> u64 {
    entry.get("index").and_then(Value::as_u64).unwrap_or(position as u64)
}
