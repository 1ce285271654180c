//! From what the OpenAI interface says to what a backend is asked. Every bound and range is checked here.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tacit_api::openai::{
    self, ApiError, AssistantToolCall, CalledFunction, Content, ErrorKind, FunctionTool, InputContent, InputItem,
    MAX_CHOICES, MAX_ITEMS, MAX_STOPS, MAX_TOOLS, MAX_TOP_LOGPROBS, PromptField, RequestMessage, ResponseFormat,
    ResponseInput, ResponseRequest, ResponseTextFormat, StopTexts, ToolChoiceField, ToolDefinition,
};
use tacit_inference::{
    ChatRequest, CompletionRequest, EmbeddingRequest, InferenceError, Message, OutputFormat, Prompt, Role, Sampling,
    Tool, ToolCall, ToolChoice,
};
use tacit_receipt::aci::{self, PrefixedDigest};
use tacit_types::jcs;

/// Most bytes of a tool's or function's name.
const MAX_NAME: usize = 64;
/// Tokens of a completion that does not say how many.
const COMPLETION_TOKENS: u32 = 16;
/// Most alternatives that the older interface tells.
const MAX_COMPLETION_LOGPROBS: u8 = 5;

fn refuse<T>(kind: ErrorKind, param: impl Into<String>, message: impl Into<String>) -> Result<T, ApiError> {
    Err(ApiError::new(kind, message).at(param))
}

fn invalid<T>(param: impl Into<String>, message: impl Into<String>) -> Result<T, ApiError> {
    refuse(ErrorKind::InvalidValue, param, message)
}

/// A chat as a backend takes it.
pub(crate) fn chat(request: openai::ChatRequest) -> Result<ChatRequest, ApiError> {
    if request.store == Some(true) {
        return refuse(ErrorKind::Unsupported, "store", "nothing is stored here");
    }
    if request.max_tokens.is_some() && request.max_completion_tokens.is_some() {
        return invalid("max_tokens", "max_tokens and max_completion_tokens are the same; give one");
    }
    let sampling = sampling(Ranges {
        max_tokens: request.max_completion_tokens.or(request.max_tokens),
        temperature: request.temperature,
        top_p: request.top_p,
        min_p: request.min_p,
        top_k: request.top_k,
        presence_penalty: request.presence_penalty,
        frequency_penalty: request.frequency_penalty,
        logit_bias: request.logit_bias,
        seed: request.seed,
        stop: request.stop,
        logprobs: chat_logprobs(request.logprobs, request.top_logprobs)?,
        choices: request.n,
    })?;
    let tools = tools(request.tools.unwrap_or_default())?;
    Ok(ChatRequest {
        messages: messages(request.messages)?,
        tool_choice: tool_choice(request.tool_choice, &tools)?,
        parallel_tool_calls: request.parallel_tool_calls.unwrap_or(true),
        tools,
        format: match request.response_format {
            None | Some(ResponseFormat::Text) => OutputFormat::Text,
            Some(ResponseFormat::JsonObject) => OutputFormat::JsonObject,
            Some(ResponseFormat::JsonSchema { json_schema }) => match json_schema.schema {
                Some(schema) => OutputFormat::JsonSchema(schema),
                None => OutputFormat::JsonObject,
            },
        },
        sampling,
        ..ChatRequest::default()
    })
}

/// A completion for each prompt, as a backend takes them.
pub(crate) fn completions(request: openai::CompletionRequest) -> Result<Vec<CompletionRequest>, ApiError> {
    if request.best_of.is_some_and(|best| best != request.n.unwrap_or(1)) {
        return refuse(ErrorKind::Unsupported, "best_of", "best_of other than n is not served");
    }
    if request.logprobs.is_some_and(|count| count > MAX_COMPLETION_LOGPROBS) {
        return invalid("logprobs", format!("between 0 and {MAX_COMPLETION_LOGPROBS}"));
    }
    let sampling = sampling(Ranges {
        max_tokens: Some(request.max_tokens.unwrap_or(COMPLETION_TOKENS)),
        temperature: request.temperature,
        top_p: request.top_p,
        min_p: request.min_p,
        top_k: request.top_k,
        presence_penalty: request.presence_penalty,
        frequency_penalty: request.frequency_penalty,
        logit_bias: request.logit_bias,
        seed: request.seed,
        stop: request.stop,
        logprobs: request.logprobs,
        choices: request.n,
    })?;
    let prompts = prompts(request.prompt, "prompt")?;
    let answers = u32::try_from(prompts.len()).unwrap_or(u32::MAX).saturating_mul(sampling.choices);
    if answers > MAX_CHOICES {
        return invalid("prompt", format!("prompts times n is at most {MAX_CHOICES}"));
    }
    let echo = request.echo.unwrap_or(false);
    let each = |prompt| CompletionRequest {
        prompt,
        format: OutputFormat::Text,
        sampling: sampling.clone(),
        echo,
        reuse_group: None,
    };
    Ok(prompts.into_iter().map(each).collect())
}

/// Embeddings as a backend takes them.
pub(crate) fn embeddings(request: openai::EmbeddingRequest) -> Result<EmbeddingRequest, ApiError> {
    Ok(EmbeddingRequest { inputs: prompts(request.input, "input")?, dimensions: request.dimensions })
}

/// A request of the Responses interface as the chat that it is.
pub(crate) fn response(request: ResponseRequest) -> Result<ChatRequest, ApiError> {
    if request.store == Some(true) {
        return refuse(ErrorKind::Unsupported, "store", "nothing is stored here");
    }
    let sampling = sampling(Ranges {
        max_tokens: request.max_output_tokens,
        temperature: request.temperature,
        top_p: request.top_p,
        logprobs: chat_logprobs(request.top_logprobs.map(|_| true), request.top_logprobs)?,
        ..Ranges::default()
    })?;
    let definitions = request.tools.unwrap_or_default().into_iter().map(|tool| ToolDefinition {
        kind: tool.kind,
        function: FunctionTool {
            name: tool.name,
            description: tool.description,
            parameters: tool.parameters,
            strict: tool.strict,
        },
    });
    let tools = tools(definitions.collect())?;
    let choice = match request.tool_choice {
        None | Some(Value::Null) => None,
        Some(Value::String(mode)) => Some(ToolChoiceField::Mode(mode)),
        Some(Value::Object(named)) => match (named.get("type"), named.get("name")) {
            (Some(Value::String(kind)), Some(Value::String(name))) if kind == "function" => {
                Some(ToolChoiceField::Named {
                    kind: kind.clone(),
                    function: openai::NamedFunction { name: name.clone() },
                })
            }
            _ => return invalid("tool_choice", "only functions can be named"),
        },
        Some(_) => return refuse(ErrorKind::InvalidType, "tool_choice", "a string or an object"),
    };
    let mut conversation = Vec::new();
    if let Some(instructions) = request.instructions {
        conversation.push(plain_message(Role::System, instructions));
    }
    match request.input {
        ResponseInput::Text(text) => conversation.push(plain_message(Role::User, text)),
        ResponseInput::Items(items) => input_items(items, &mut conversation)?,
    }
    if conversation.is_empty() {
        return invalid("input", "at least one item");
    }
    Ok(ChatRequest {
        messages: conversation,
        tool_choice: tool_choice(choice, &tools)?,
        parallel_tool_calls: request.parallel_tool_calls.unwrap_or(true),
        tools,
        format: match request.text.and_then(|text| text.format) {
            None | Some(ResponseTextFormat::Text) => OutputFormat::Text,
            Some(ResponseTextFormat::JsonObject) => OutputFormat::JsonObject,
            Some(ResponseTextFormat::JsonSchema { schema, .. }) => OutputFormat::JsonSchema(schema),
        },
        sampling,
        ..ChatRequest::default()
    })
}

fn plain_message(role: Role, content: String) -> Message {
    Message { role, content, tool_calls: Vec::new(), tool_call_id: None }
}

fn input_items(items: Vec<InputItem>, conversation: &mut Vec<Message>) -> Result<(), ApiError> {
    if items.len() > MAX_ITEMS {
        return invalid("input", format!("at most {MAX_ITEMS} items"));
    }
    for (index, item) in items.into_iter().enumerate() {
        let at = |member: &str| format!("input[{index}].{member}");
        match item.kind.as_deref() {
            None | Some("message") => {
                let role = role(item.role.as_deref().unwrap_or_default(), &at("role"))?;
                let text = match item.content {
                    Some(InputContent::Text(text)) => text,
                    Some(InputContent::Parts(parts)) => {
                        let mut text = String::new();
                        for (number, part) in parts.into_iter().enumerate() {
                            match (part.kind.as_str(), part.text) {
                                ("input_text" | "output_text", Some(more)) => text.push_str(&more),
                                _ => {
                                    let param = format!("input[{index}].content[{number}]");
                                    return refuse(ErrorKind::Unsupported, param, "only text is served");
                                }
                            }
                        }
                        text
                    }
                    None => return refuse(ErrorKind::MissingParameter, at("content"), "a message has content"),
                };
                conversation.push(plain_message(role, text));
            }
            Some("function_call") => {
                let (Some(id), Some(name), Some(arguments)) = (item.call_id, item.name, item.arguments) else {
                    return refuse(ErrorKind::MissingParameter, at("call_id"), "call_id, name and arguments");
                };
                let call = ToolCall { id, name, arguments };
                match conversation.last_mut() {
                    Some(last) if last.role == Role::Assistant => last.tool_calls.push(call),
                    _ => conversation.push(Message {
                        role: Role::Assistant,
                        content: String::new(),
                        tool_calls: vec![call],
                        tool_call_id: None,
                    }),
                }
            }
            Some("function_call_output") => {
                let (Some(id), Some(output)) = (item.call_id, item.output) else {
                    return refuse(ErrorKind::MissingParameter, at("output"), "call_id and output");
                };
                conversation.push(Message {
                    role: Role::Tool,
                    content: output,
                    tool_calls: Vec::new(),
                    tool_call_id: Some(id),
                });
            }
            Some(_) => return refuse(ErrorKind::Unsupported, at("type"), "this type of item is not served"),
        }
    }
    Ok(())
}

fn chat_logprobs(wanted: Option<bool>, top: Option<u8>) -> Result<Option<u8>, ApiError> {
    match (wanted.unwrap_or(false), top) {
        (_, Some(top)) if top > MAX_TOP_LOGPROBS => {
            invalid("top_logprobs", format!("between 0 and {MAX_TOP_LOGPROBS}"))
        }
        (false, Some(_)) => invalid("top_logprobs", "logprobs must be true with top_logprobs"),
        (true, top) => Ok(Some(top.unwrap_or(0))),
        (false, None) => Ok(None),
    }
}

/// Sampling parameters as they arrive.
#[derive(Default)]
struct Ranges {
    max_tokens: Option<u32>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    top_k: Option<u32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    logit_bias: Option<BTreeMap<String, f32>>,
    seed: Option<u64>,
    stop: Option<StopTexts>,
    logprobs: Option<u8>,
    choices: Option<u32>,
}

fn within(param: &str, value: Option<f32>, low: f32, high: f32, default: f32) -> Result<f32, ApiError> {
    match value {
        None => Ok(default),
        Some(value) if value >= low && value <= high => Ok(value),
        Some(_) => invalid(param, format!("between {low} and {high}")),
    }
}

fn sampling(ranges: Ranges) -> Result<Sampling, ApiError> {
    let mut biases = BTreeMap::new();
    for (token, bias) in ranges.logit_bias.unwrap_or_default() {
        let Ok(number) = token.parse() else { return invalid("logit_bias", "members are token numbers") };
        biases.insert(number, within("logit_bias", Some(bias), -100.0, 100.0, 0.0)?);
    }
    let stop = match ranges.stop {
        None => Vec::new(),
        Some(StopTexts::One(text)) => vec![text],
        Some(StopTexts::Several(texts)) => texts,
    };
    if stop.len() > MAX_STOPS || stop.iter().any(|text| text.is_empty() || text.len() > 256) {
        return invalid("stop", format!("at most {MAX_STOPS} texts of 1 to 256 bytes"));
    }
    let choices = ranges.choices.unwrap_or(1);
    if !(1..=MAX_CHOICES).contains(&choices) {
        return invalid("n", format!("between 1 and {MAX_CHOICES}"));
    }
    if ranges.max_tokens == Some(0) {
        return invalid("max_tokens", "at least 1");
    }
    if ranges.seed.is_some_and(|seed| seed > jcs::MAX_INTEGER) {
        return invalid("seed", "at most 2^53 - 1");
    }
    Ok(Sampling {
        max_tokens: ranges.max_tokens,
        temperature: within("temperature", ranges.temperature, 0.0, 2.0, 1.0)?,
        top_p: within("top_p", ranges.top_p, 0.0, 1.0, 1.0)?,
        min_p: within("min_p", ranges.min_p, 0.0, 1.0, 0.0)?,
        top_k: ranges.top_k.unwrap_or(0),
        presence_penalty: within("presence_penalty", ranges.presence_penalty, -2.0, 2.0, 0.0)?,
        frequency_penalty: within("frequency_penalty", ranges.frequency_penalty, -2.0, 2.0, 0.0)?,
        logit_bias: biases,
        seed: ranges.seed,
        stop,
        logprobs: ranges.logprobs,
        choices,
    })
}

fn role(name: &str, param: &str) -> Result<Role, ApiError> {
    match name {
        "system" | "developer" => Ok(Role::System),
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        "tool" => Ok(Role::Tool),
        _ => invalid(param, "system, developer, user, assistant or tool"),
    }
}

fn messages(messages: Vec<RequestMessage>) -> Result<Vec<Message>, ApiError> {
    if messages.is_empty() || messages.len() > MAX_ITEMS {
        return invalid("messages", format!("1 to {MAX_ITEMS} messages"));
    }
    let converted = messages.into_iter().enumerate().map(|(index, message)| {
        let at = |member: &str| format!("messages[{index}].{member}");
        let role = role(&message.role, &at("role"))?;
        let calls = message.tool_calls.unwrap_or_default();
        if role != Role::Assistant && !calls.is_empty() {
            return invalid(at("tool_calls"), "only an assistant calls tools");
        }
        if role == Role::Tool && message.tool_call_id.is_none() {
            return refuse(ErrorKind::MissingParameter, at("tool_call_id"), "a tool's message names the call");
        }
        let content = match message.content {
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => {
                let mut text = String::new();
                for (number, part) in parts.into_iter().enumerate() {
                    match (part.kind.as_str(), part.text) {
                        ("text", Some(more)) => text.push_str(&more),
                        _ => {
                            let param = format!("messages[{index}].content[{number}]");
                            return refuse(ErrorKind::Unsupported, param, "only text is served");
                        }
                    }
                }
                text
            }
            None if role == Role::Assistant => message.refusal.unwrap_or_default(),
            None => return refuse(ErrorKind::MissingParameter, at("content"), "this message has content"),
        };
        let calls = calls.into_iter().map(|call| ToolCall {
            id: call.id,
            name: call.function.name,
            arguments: call.function.arguments,
        });
        Ok(Message { role, content, tool_calls: calls.collect(), tool_call_id: message.tool_call_id })
    });
    converted.collect()
}

fn tools(definitions: Vec<ToolDefinition>) -> Result<Vec<Tool>, ApiError> {
    if definitions.len() > MAX_TOOLS {
        return invalid("tools", format!("at most {MAX_TOOLS}"));
    }
    let named = |name: &str| {
        !name.is_empty()
            && name.len() <= MAX_NAME
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    };
    let mut tools: Vec<Tool> = Vec::with_capacity(definitions.len());
    for (index, definition) in definitions.into_iter().enumerate() {
        if definition.kind != "function" {
            return refuse(ErrorKind::Unsupported, format!("tools[{index}].type"), "only functions are served");
        }
        let function = definition.function;
        if !named(&function.name) || tools.iter().any(|tool| tool.name == function.name) {
            let message = "a name of its own, of 1 to 64 letters, digits, _ and -";
            return invalid(format!("tools[{index}].function.name"), message);
        }
        let parameters = match function.parameters {
            None => json!({"type": "object", "properties": {}}),
            Some(parameters @ Value::Object(_)) => parameters,
            Some(_) => {
                let param = format!("tools[{index}].function.parameters");
                return refuse(ErrorKind::InvalidSchema, param, "a JSON Schema is an object");
            }
        };
        tools.push(Tool { name: function.name, description: function.description, parameters });
    }
    Ok(tools)
}

fn tool_choice(choice: Option<ToolChoiceField>, tools: &[Tool]) -> Result<ToolChoice, ApiError> {
    let choice = match choice {
        None => return Ok(if tools.is_empty() { ToolChoice::None } else { ToolChoice::Auto }),
        Some(ToolChoiceField::Mode(mode)) => match mode.as_str() {
            "none" => return Ok(ToolChoice::None),
            "auto" => ToolChoice::Auto,
            "required" => ToolChoice::Required,
            _ => return invalid("tool_choice", "none, auto, required or a function"),
        },
        Some(ToolChoiceField::Named { function, .. }) => ToolChoice::Named(function.name),
    };
    if tools.is_empty() {
        return invalid("tool_choice", "tool_choice needs tools");
    }
    match &choice {
        ToolChoice::Named(name) if !tools.iter().any(|tool| tool.name == *name) => {
            invalid("tool_choice", "no tool has this name")
        }
        _ => Ok(choice),
    }
}

fn prompts(field: PromptField, param: &str) -> Result<Vec<Prompt>, ApiError> {
    let prompts: Vec<Prompt> = match field {
        PromptField::Text(text) => vec![Prompt::Text(text)],
        PromptField::Texts(texts) => texts.into_iter().map(Prompt::Text).collect(),
        PromptField::Tokens(tokens) => vec![Prompt::Tokens(tokens)],
        PromptField::TokenLists(lists) => lists.into_iter().map(Prompt::Tokens).collect(),
    };
    let empty = |prompt: &Prompt| match prompt {
        Prompt::Text(text) => text.is_empty(),
        Prompt::Tokens(tokens) => tokens.is_empty(),
    };
    if prompts.is_empty() || prompts.len() > MAX_ITEMS || prompts.iter().any(empty) {
        return invalid(param, format!("1 to {MAX_ITEMS} texts, none empty"));
    }
    Ok(prompts)
}

/// The sampling parameters that a receipt commits to, each as text. Texts of the client's stand here as their digests.
pub(crate) fn sampling_hash(sampling: &Sampling, format: &OutputFormat) -> PrefixedDigest {
    let optional = |value: Option<String>| value.unwrap_or_else(|| "null".to_owned());
    let biases: Vec<String> = sampling.logit_bias.iter().map(|(token, bias)| format!("{token}:{bias}")).collect();
    let stops: Vec<String> = sampling.stop.iter().map(|text| digest_of(text)).collect();
    let parameters = [
        ("choices", sampling.choices.to_string()),
        (
            "format",
            match format {
                OutputFormat::Text => "text".to_owned(),
                OutputFormat::JsonObject => "json_object".to_owned(),
                OutputFormat::JsonSchema(schema) => format!("json_schema {}", digest_of(&schema.to_string())),
                OutputFormat::Grammar(grammar) => format!("grammar {}", digest_of(grammar)),
            },
        ),
        ("frequency_penalty", sampling.frequency_penalty.to_string()),
        ("logit_bias", biases.join(",")),
        ("max_tokens", optional(sampling.max_tokens.map(|most| most.to_string()))),
        ("min_p", sampling.min_p.to_string()),
        ("presence_penalty", sampling.presence_penalty.to_string()),
        ("stop", stops.join(",")),
        ("temperature", sampling.temperature.to_string()),
        ("top_k", sampling.top_k.to_string()),
        ("top_p", sampling.top_p.to_string()),
    ];
    aci::sampling_hash(parameters.iter().map(|(name, value)| (*name, value.as_str())))
}

fn digest_of(text: &str) -> String {
    PrefixedDigest::of(text.as_bytes()).to_string()
}

/// A backend's refusal as the interface says it.
pub(crate) fn backend_error(error: &InferenceError) -> ApiError {
    let message = error.to_string();
    match error {
        InferenceError::ContextLength { .. } => ApiError::new(ErrorKind::ContextLength, message).at("messages"),
        InferenceError::Parameter { parameter, .. } if parameter.starts_with("response_format") => {
            ApiError::new(ErrorKind::InvalidSchema, message).at(parameter.clone())
        }
        InferenceError::Parameter { parameter, .. } => {
            ApiError::new(ErrorKind::InvalidValue, message).at(parameter.clone())
        }
        InferenceError::Unsupported { .. } => ApiError::new(ErrorKind::Unsupported, message).at("model"),
        InferenceError::Busy { .. } => ApiError::new(ErrorKind::Busy, message).retry_after(1),
        InferenceError::Upstream { .. } => ApiError::new(ErrorKind::Upstream, message),
        _ => ApiError::new(ErrorKind::Internal, "the model's engine failed"),
    }
}

/// A tool call as the interface writes it.
pub(crate) fn tool_call(call: ToolCall) -> AssistantToolCall {
    AssistantToolCall {
        id: call.id,
        kind: "function".to_owned(),
        function: CalledFunction { name: call.name, arguments: call.arguments },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tacit_api::openai::parse_request;

    fn asked(body: Value) -> Result<ChatRequest, ApiError> {
        chat(parse_request(&body)?)
    }

    fn refused(more: Value) -> (ErrorKind, String) {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let error = asked(body).unwrap_err();
        (error.kind, error.param.unwrap_or_default())
    }

    #[test]
    fn a_chat_is_converted() {
        let request = asked(json!({
            "model": "m", "temperature": 0.5, "max_completion_tokens": 9, "n": 2, "stop": "END", "seed": 7,
            "logprobs": true, "top_logprobs": 3, "logit_bias": {"5": -100},
            "messages": [
                {"role": "developer", "content": "be short"},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "3"}
            ],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}
        }))
        .unwrap();
        assert_eq!(request.messages[0].role, Role::System);
        assert_eq!(request.messages[1].content, "ab");
        assert_eq!(request.messages[2].tool_calls[0].name, "f");
        assert_eq!(request.tool_choice, ToolChoice::Named("f".into()));
        assert_eq!(request.format, OutputFormat::JsonSchema(json!({"type": "object"})));
        let sampling = request.sampling;
        assert_eq!((sampling.choices, sampling.logprobs, sampling.max_tokens), (2, Some(3), Some(9)));
        assert_eq!(sampling.logit_bias[&5], -100.0);
    }

    #[test]
    fn values_out_of_range_are_refused_with_their_name() {
        let check = |more: Value, kind: ErrorKind, param: &str| {
            assert_eq!(refused(more.clone()), (kind, param.to_owned()), "{more}");
        };
        check(json!({"temperature": 2.1}), ErrorKind::InvalidValue, "temperature");
        check(json!({"top_p": -0.1}), ErrorKind::InvalidValue, "top_p");
        check(json!({"n": 0}), ErrorKind::InvalidValue, "n");
        check(json!({"n": 9}), ErrorKind::InvalidValue, "n");
        check(json!({"max_tokens": 0}), ErrorKind::InvalidValue, "max_tokens");
        check(json!({"max_tokens": 1, "max_completion_tokens": 1}), ErrorKind::InvalidValue, "max_tokens");
        check(json!({"stop": ["a", "b", "c", "d", "e"]}), ErrorKind::InvalidValue, "stop");
        check(json!({"stop": ""}), ErrorKind::InvalidValue, "stop");
        check(json!({"top_logprobs": 2}), ErrorKind::InvalidValue, "top_logprobs");
        check(json!({"logprobs": true, "top_logprobs": 21}), ErrorKind::InvalidValue, "top_logprobs");
        check(json!({"logit_bias": {"x": 1}}), ErrorKind::InvalidValue, "logit_bias");
        check(json!({"seed": 9_007_199_254_740_992_u64}), ErrorKind::InvalidValue, "seed");
        check(json!({"store": true}), ErrorKind::Unsupported, "store");
        check(json!({"tool_choice": "required"}), ErrorKind::InvalidValue, "tool_choice");
        check(json!({"messages": []}), ErrorKind::InvalidValue, "messages");
        check(json!({"messages": [{"role": "king", "content": ""}]}), ErrorKind::InvalidValue, "messages[0].role");
        check(
            json!({"messages": [{"role": "tool", "content": ""}]}),
            ErrorKind::MissingParameter,
            "messages[0].tool_call_id",
        );
        let image =
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": ""}}]}]});
        check(image, ErrorKind::Unsupported, "messages[0].content[0]");
        let twice = json!({"tools": [{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "f"}}]});
        check(twice, ErrorKind::InvalidValue, "tools[1].function.name");
    }

    #[test]
    fn the_sampling_hash_depends_on_every_parameter() {
        let base = Sampling::default();
        let digest = |sampling: &Sampling| sampling_hash(sampling, &OutputFormat::Text);
        let altered = [
            Sampling { max_tokens: Some(1), ..base.clone() },
            Sampling { temperature: 0.5, ..base.clone() },
            Sampling { top_p: 0.5, ..base.clone() },
            Sampling { min_p: 0.5, ..base.clone() },
            Sampling { top_k: 5, ..base.clone() },
            Sampling { presence_penalty: 0.5, ..base.clone() },
            Sampling { frequency_penalty: 0.5, ..base.clone() },
            Sampling { logit_bias: BTreeMap::from([(1, 1.0)]), ..base.clone() },
            Sampling { stop: vec!["x".into()], ..base.clone() },
            Sampling { choices: 2, ..base.clone() },
        ];
        let mut digests: Vec<_> = altered.iter().map(digest).collect();
        digests.push(digest(&base));
        digests.push(sampling_hash(&base, &OutputFormat::JsonObject));
        digests.push(sampling_hash(&base, &OutputFormat::JsonSchema(json!({}))));
        let count = digests.len();
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), count);
    }

    #[test]
    fn a_response_is_the_chat_that_it_is() {
        let body = json!({"model": "m", "instructions": "be short", "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "2+2?"}]},
            {"type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "4"}
        ]});
        let request = response(parse_request(&body).unwrap()).unwrap();
        let roles: Vec<Role> = request.messages.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool]);
    }
}
