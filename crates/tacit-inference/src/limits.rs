//! What a request may ask, before any work is done for it.

use serde_json::Value;

use crate::{
    InferenceError, OutputFormat, Tool,
    request::{Sampling, ToolChoice},
};

/// Most stop texts.
const MAX_STOPS: usize = 16;
/// Most bytes of a stop text.
const MAX_STOP: usize = 256;
/// Most alternatives for each token.
const MAX_LOGPROBS: u8 = 20;
/// Most biased tokens.
const MAX_BIASES: usize = 1024;
/// Most bytes of a JSON Schema or grammar.
const MAX_FORM: usize = 64 * 1024;
/// Deepest nesting of a JSON Schema.
const MAX_SCHEMA_DEPTH: usize = 32;
/// Deepest nesting of parentheses in a grammar.
const MAX_GRAMMAR_DEPTH: usize = 64;
/// Most rules of a grammar.
pub(crate) const MAX_RULES: usize = 1024;
/// Most tools.
const MAX_TOOLS: usize = 128;
/// Longest name of a tool.
const MAX_TOOL_NAME: usize = 64;

/// An error about a parameter.
pub(crate) fn parameter(parameter: &str, reason: impl Into<String>) -> InferenceError {
    InferenceError::Parameter { parameter: parameter.to_owned(), reason: reason.into() }
}

fn within(name: &str, value: f32, low: f32, high: f32) -> Result<(), InferenceError> {
    if value.is_finite() && (low..=high).contains(&value) {
        return Ok(());
    }
    Err(parameter(name, format!("is a number from {low} to {high}")))
}

/// Checks how tokens are to be chosen.
///
/// # Errors
/// [`InferenceError::Parameter`].
pub(crate) fn sampling(sampling: &Sampling, choices: u32, vocabulary: u32) -> Result<(), InferenceError> {
    within("temperature", sampling.temperature, 0.0, 2.0)?;
    within("top_p", sampling.top_p, 0.0, 1.0)?;
    within("min_p", sampling.min_p, 0.0, 1.0)?;
    within("presence_penalty", sampling.presence_penalty, -2.0, 2.0)?;
    within("frequency_penalty", sampling.frequency_penalty, -2.0, 2.0)?;
    if sampling.max_tokens == Some(0) {
        return Err(parameter("max_tokens", "is at least 1"));
    }
    if sampling.top_k > i32::MAX as u32 {
        return Err(parameter("top_k", "is too large"));
    }
    if sampling.logprobs.is_some_and(|count| count > MAX_LOGPROBS) {
        return Err(parameter("top_logprobs", format!("is at most {MAX_LOGPROBS}")));
    }
    if sampling.stop.len() > MAX_STOPS || sampling.stop.iter().any(|stop| stop.len() > MAX_STOP) {
        return Err(parameter("stop", format!("has at most {MAX_STOPS} texts of at most {MAX_STOP} bytes")));
    }
    if sampling.logit_bias.len() > MAX_BIASES {
        return Err(parameter("logit_bias", format!("names at most {MAX_BIASES} tokens")));
    }
    for (token, bias) in &sampling.logit_bias {
        if *token >= vocabulary {
            return Err(parameter("logit_bias", format!("token {token} is not in the vocabulary of {vocabulary}")));
        }
        within("logit_bias", *bias, -100.0, 100.0)?;
    }
    if !(1..=choices).contains(&sampling.choices) {
        return Err(parameter("n", format!("is 1 to {choices}")));
    }
    Ok(())
}

/// Checks the form of the output, but not whether the engine understands it.
///
/// # Errors
/// [`InferenceError::Parameter`].
pub(crate) fn format(format: &OutputFormat) -> Result<(), InferenceError> {
    match format {
        OutputFormat::Text | OutputFormat::JsonObject => Ok(()),
        OutputFormat::JsonSchema(schema) => self::schema("response_format", schema),
        OutputFormat::Grammar(grammar) => self::grammar(grammar),
    }
}

/// Checks size and nesting of a JSON Schema.
///
/// # Errors
/// [`InferenceError::Parameter`] about `name`.
pub(crate) fn schema(name: &str, schema: &Value) -> Result<(), InferenceError> {
    if !schema.is_object() {
        return Err(parameter(name, "a JSON Schema is an object"));
    }
    let mut left = MAX_FORM;
    if !fits(schema, MAX_SCHEMA_DEPTH, &mut left) {
        let reason = format!("a JSON Schema has at most {MAX_FORM} bytes and {MAX_SCHEMA_DEPTH} levels");
        return Err(parameter(name, reason));
    }
    Ok(())
}

/// Whether a value is no deeper than `depth` and no larger than what is `left`.
fn fits(value: &Value, depth: usize, left: &mut usize) -> bool {
    let size = match value {
        Value::String(text) => text.len(),
        Value::Object(members) => members.keys().map(|key| key.len() + 4).sum(),
        _ => 0,
    } + 4;
    if depth == 0 || size > *left {
        return false;
    }
    *left -= size;
    match value {
        Value::Array(items) => items.iter().all(|item| fits(item, depth - 1, left)),
        Value::Object(members) => members.values().all(|member| fits(member, depth - 1, left)),
        _ => true,
    }
}

/// Checks size and nesting of a grammar.
///
/// # Errors
/// [`InferenceError::Parameter`].
fn grammar(grammar: &str) -> Result<(), InferenceError> {
    const NAME: &str = "grammar";
    if grammar.len() > MAX_FORM || grammar.contains('\0') {
        return Err(parameter(NAME, format!("has at most {MAX_FORM} bytes and no zero byte")));
    }
    if grammar.matches("::=").count() > MAX_RULES {
        return Err(parameter(NAME, format!("has at most {MAX_RULES} rules")));
    }
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in grammar.bytes() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > MAX_GRAMMAR_DEPTH {
        return Err(parameter(NAME, format!("is nested at most {MAX_GRAMMAR_DEPTH} deep")));
    }
    Ok(())
}

/// Checks tools and the choice among them.
///
/// # Errors
/// [`InferenceError::Parameter`].
pub(crate) fn tools(tools: &[Tool], choice: &ToolChoice) -> Result<(), InferenceError> {
    if tools.len() > MAX_TOOLS {
        return Err(parameter("tools", format!("are at most {MAX_TOOLS}")));
    }
    for (index, tool) in tools.iter().enumerate() {
        let is_named = (1..=MAX_TOOL_NAME).contains(&tool.name.len())
            && tool.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
        if !is_named {
            let reason = format!("is 1 to {MAX_TOOL_NAME} of the characters a-z, A-Z, 0-9, _, - and .");
            return Err(parameter(&format!("tools[{index}].function.name"), reason));
        }
        if tools[..index].iter().any(|before| before.name == tool.name) {
            return Err(parameter(&format!("tools[{index}].function.name"), "was used before"));
        }
        schema(&format!("tools[{index}].function.parameters"), &tool.parameters)?;
    }
    match choice {
        ToolChoice::Required if tools.is_empty() => Err(parameter("tool_choice", "requires a tool, and there is none")),
        ToolChoice::Named(name) if !tools.iter().any(|tool| tool.name == *name) => {
            Err(parameter("tool_choice", "names a tool that is not on offer"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refuses(result: Result<(), InferenceError>, name: &str) {
        match result {
            Err(InferenceError::Parameter { parameter, .. }) => assert_eq!(parameter, name),
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn every_bound_of_sampling_refuses() {
        let check = |name: &str, change: &dyn Fn(&mut Sampling)| {
            let mut changed = Sampling::default();
            change(&mut changed);
            refuses(sampling(&changed, 4, 100), name);
        };
        sampling(&Sampling::default(), 4, 100).unwrap();
        check("temperature", &|s| s.temperature = -0.1);
        check("temperature", &|s| s.temperature = f32::NAN);
        check("temperature", &|s| s.temperature = 2.1);
        check("top_p", &|s| s.top_p = 1.5);
        check("min_p", &|s| s.min_p = f32::INFINITY);
        check("presence_penalty", &|s| s.presence_penalty = -3.0);
        check("frequency_penalty", &|s| s.frequency_penalty = 3.0);
        check("max_tokens", &|s| s.max_tokens = Some(0));
        check("top_k", &|s| s.top_k = u32::MAX);
        check("top_logprobs", &|s| s.logprobs = Some(21));
        check("stop", &|s| s.stop = vec!["x".to_owned(); 17]);
        check("stop", &|s| s.stop = vec!["x".repeat(257)]);
        check("logit_bias", &|s| s.logit_bias = [(100, 1.0)].into());
        check("logit_bias", &|s| s.logit_bias = [(99, 101.0)].into());
        check("logit_bias", &|s| s.logit_bias = (0..1025).map(|token| (token, 0.0)).collect());
        check("n", &|s| s.choices = 0);
        check("n", &|s| s.choices = 5);
    }

    #[test]
    fn forms_are_bounded_in_size_and_depth() {
        let mut deep = json!({});
        for _ in 0..40 {
            deep = json!({ "items": deep });
        }
        refuses(format(&OutputFormat::JsonSchema(deep)), "response_format");
        refuses(format(&OutputFormat::JsonSchema(json!([]))), "response_format");
        refuses(format(&OutputFormat::JsonSchema(json!({"const": "x".repeat(70_000)}))), "response_format");
        refuses(format(&OutputFormat::JsonSchema(json!({"enum": vec![1; 20_000]}))), "response_format");
        refuses(format(&OutputFormat::Grammar("(".repeat(65))), "grammar");
        refuses(format(&OutputFormat::Grammar("a::=b\n".repeat(1025))), "grammar");
        refuses(format(&OutputFormat::Grammar("\0".to_owned())), "grammar");
        refuses(format(&OutputFormat::Grammar(" ".repeat(70_000))), "grammar");
        format(&OutputFormat::JsonSchema(json!({"type": "object"}))).unwrap();
    }

    #[test]
    fn tools_are_named_once_and_chosen_among_those_on_offer() {
        let tool = |name: &str| Tool { name: name.to_owned(), description: None, parameters: json!({}) };
        tools(&[tool("a"), tool("b")], &ToolChoice::Named("b".to_owned())).unwrap();
        refuses(tools(&[tool("a b")], &ToolChoice::Auto), "tools[0].function.name");
        refuses(tools(&[tool("a"), tool("a")], &ToolChoice::Auto), "tools[1].function.name");
        refuses(tools(&[], &ToolChoice::Required), "tool_choice");
        refuses(tools(&[tool("a")], &ToolChoice::Named("b".to_owned())), "tool_choice");
        refuses(tools(&vec![tool("a"); 129], &ToolChoice::Auto), "tools");
        let mut shapeless = tool("a");
        shapeless.parameters = json!(true);
        refuses(tools(&[shapeless], &ToolChoice::Auto), "tools[0].function.parameters");
    }
}
