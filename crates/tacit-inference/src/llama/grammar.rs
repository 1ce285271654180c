//! Grammars for what a request asks: JSON, a schema, a tool call.

use std::panic::{AssertUnwindSafe, catch_unwind};

use llama_cpp_2::{json_schema_to_grammar, model::LlamaModel, sampling::LlamaSampler};
use serde_json::{Value, json};

use crate::{
    InferenceError, OutputFormat, Tool,
    limits::{MAX_RULES, parameter},
    text::{CLOSE, OPEN},
};

/// One JSON object.
const JSON_OBJECT: &str = r#"root ::= object
value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" ws ( string ws ":" ws value ( ws "," ws string ws ":" ws value )* )? ws "}"
array ::= "[" ws ( value ( ws "," ws value )* )? ws "]"
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" ( ["\\/bfnrt] | "u" [0-9a-fA-F]{4} ) )* "\""
number ::= "-"? ( "0" | [1-9] [0-9]{0,15} ) ( "." [0-9]{1,16} )? ( [eE] [-+]? [0-9]{1,3} )?
ws ::= [ \n\t]{0,20}
"#;

/// The grammar of a request's format, if it has one.
///
/// # Errors
/// [`InferenceError::Parameter`] if llama.cpp does not understand it.
pub(super) fn of_format(format: &OutputFormat) -> Result<Option<String>, InferenceError> {
    match format {
        OutputFormat::Text => Ok(None),
        OutputFormat::JsonObject => Ok(Some(JSON_OBJECT.to_owned())),
        OutputFormat::JsonSchema(schema) => of_schema("response_format", schema).map(Some),
        OutputFormat::Grammar(grammar) => Ok(Some(grammar.clone())),
    }
}

/// The parameter that a request's format came in.
pub(super) fn parameter_of(format: &OutputFormat) -> &'static str {
    if matches!(format, OutputFormat::Grammar(_)) { "grammar" } else { "response_format" }
}

/// The grammar of an answer that is nothing but tool calls.
pub(super) fn of_calls(tools: &[&Tool], several: bool) -> Result<String, InferenceError> {
    let call = format!("\"{OPEN}\" ws call ws \"{CLOSE}\"");
    let root = if several { format!("root ::= {call} ( ws {call} )*") } else { format!("root ::= {call}") };
    Ok(format!("{root}\n{}", calls(tools)?))
}

/// The grammar of a call after its opening mark.
pub(super) fn of_begun_call(tools: &[&Tool]) -> Result<String, InferenceError> {
    Ok(format!("root ::= ws call ws \"{CLOSE}\" ws\n{}", calls(tools)?))
}

/// Rules of which `call` is the JSON of one call, and `ws` white space.
fn calls(tools: &[&Tool]) -> Result<String, InferenceError> {
    let options: Vec<Value> = tools
        .iter()
        .map(|tool| {
            let arguments = if tool.parameters.as_object().is_some_and(|schema| schema.is_empty()) {
                json!({ "type": "object" })
            } else {
                tool.parameters.clone()
            };
            json!({
                "type": "object",
                "properties": { "name": { "const": tool.name }, "arguments": arguments },
                "required": ["name", "arguments"],
                "additionalProperties": false,
            })
        })
        .collect();
    let schema = if options.len() == 1 { options[0].clone() } else { json!({ "oneOf": options }) };
    let rules = of_schema("tools", &schema)?;
    // The rule that begins everything gets another name; rules that refer to it would mean a schema's reference to itself.
    let renamed: Vec<String> = rules
        .lines()
        .map(|line| line.strip_prefix("root ::=").map_or_else(|| line.to_owned(), |rule| format!("call ::={rule}")))
        .collect();
    Ok(format!("ws ::= [ \\n\\t]{{0,4}}\n{}\n", renamed.join("\n")))
}

fn of_schema(name: &str, schema: &Value) -> Result<String, InferenceError> {
    let grammar = json_schema_to_grammar(&schema.to_string())
        .map_err(|_| parameter(name, "is not a JSON Schema that this engine can follow"))?;
    if grammar.matches("::=").count() > 4 * MAX_RULES {
        return Err(parameter(name, "needs too many rules"));
    }
    Ok(grammar)
}

/// A sampler for a grammar.
///
/// # Errors
/// [`InferenceError::Parameter`] about `name` if the grammar is not valid.
pub(super) fn sampler(model: &LlamaModel, name: &str, grammar: &str) -> Result<LlamaSampler, InferenceError> {
    let refused = || parameter(name, "is not a grammar that this engine can follow");
    match catch_unwind(AssertUnwindSafe(|| LlamaSampler::grammar(model, grammar, "root"))) {
        Ok(sampler) => sampler.map_err(|_| refused()),
        Err(_) => Err(refused()),
    }
}
