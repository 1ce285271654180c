//! A conversation as the text that a model was trained on, by the Jinja template inside the model's file.

use minijinja::{Environment, Error, ErrorKind, Value, syntax::SyntaxConfig, value::Serde};
use serde::Serialize as _;
use serde_json::{Map, Value as Json, json};

use crate::{
    ChatRequest, InferenceError, Message, Role, Tool,
    text::{CLOSE, OPEN},
};

/// Most bytes of a template.
const MAX_TEMPLATE: usize = 256 * 1024;
/// Steps of the template engine for one conversation.
const FUEL: u64 = 5_000_000;
/// The template's name inside its environment.
const NAME: &str = "chat";
/// What is used where a model's file has no template: the form that most small models know.
const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A model's chat template.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    /// Whether the template shows tools to the model, in the form whose calls are understood here.
    knows_tools: bool,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// Reads a template; without one, ChatML.
    ///
    /// # Errors
    /// [`InferenceError::Engine`] if the template is too large or not Jinja.
    pub(crate) fn parse(source: Option<&str>, bos: &str, eos: &str) -> Result<Self, InferenceError> {
        let source = source.unwrap_or(CHATML);
        let failed = |reason: String| InferenceError::Engine(format!("the model's chat template: {reason}"));
        if source.len() > MAX_TEMPLATE {
            return Err(failed(format!("{} bytes, at most {MAX_TEMPLATE}", source.len())));
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| failed(error.to_string()))?);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", |reason: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, reason))
        });
        environment.add_template_owned(NAME, source.to_owned()).map_err(|error| failed(error.kind().to_string()))?;
        let knows_tools = source.contains(OPEN)
            && environment.get_template(NAME).is_ok_and(|chat| chat.undeclared_variables(false).contains("tools"));
        Ok(Self { environment, knows_tools, bos: bos.to_owned(), eos: eos.to_owned() })
    }

    /// The conversation as text that ends where the model's answer begins.
    ///
    /// # Errors
    /// [`InferenceError::Parameter`] if the template refuses the conversation, for example for its order of roles.
    pub(crate) fn render(&self, request: &ChatRequest, tools: &[Tool]) -> Result<String, InferenceError> {
        let messages: Vec<Json> = if self.knows_tools {
            request.messages.iter().map(native).collect()
        } else {
            let mut messages = request.messages.clone();
            if !tools.is_empty() {
                describe_tools(&mut messages, tools);
            }
            messages.iter().map(plain).collect()
        };
        let mut context = Map::new();
        context.insert("messages".to_owned(), Json::Array(messages));
        context.insert("add_generation_prompt".to_owned(), Json::Bool(true));
        context.insert("bos_token".to_owned(), Json::String(self.bos.clone()));
        context.insert("eos_token".to_owned(), Json::String(self.eos.clone()));
        if self.knows_tools && !tools.is_empty() {
            context.insert("tools".to_owned(), tools.iter().map(declared).collect());
        }
        let chat = self.environment.get_template(NAME).expect("it was added when the template was read");
        // The engine's own text may quote the conversation: only its kind is told.
        chat.render(Value::from(Serde(Json::Object(context)))).map_err(|error| InferenceError::Parameter {
            parameter: "messages".to_owned(),
            reason: format!("the model's chat template refuses this conversation ({})", error.kind()),
        })
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

/// A message as templates that know tools take it.
fn native(message: &Message) -> Json {
    let mut object = json!({ "role": role(message.role), "content": message.content });
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| {
            json!({
                "id": call.id,
                "type": "function",
                "function": { "name": call.name, "arguments": arguments(&call.arguments) },
            })
        });
        object["tool_calls"] = calls.collect();
    }
    if let Some(id) = &message.tool_call_id {
        object["tool_call_id"] = Json::String(id.clone());
    }
    object
}

/// A message as templates take it that know no tools: calls and results stand in the text.
fn plain(message: &Message) -> Json {
    let mut content = message.content.clone();
    for call in &message.tool_calls {
        let written = json!({ "name": call.name, "arguments": arguments(&call.arguments) });
        if !content.is_empty() {
            content.push('\n');
        }
        content.push_str(&format!("{OPEN}\n{written}\n{CLOSE}"));
    }
    match message.role {
        Role::Tool => json!({ "role": "user", "content": format!("<tool_response>\n{content}\n</tool_response>") }),
        other => json!({ "role": role(other), "content": content }),
    }
}

fn declared(tool: &Tool) -> Json {
    json!({
        "type": "function",
        "function": { "name": tool.name, "description": tool.description, "parameters": tool.parameters },
    })
}

/// Arguments as an object where they are JSON, else as the text that they are.
fn arguments(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.to_owned()))
}

/// Puts a description of the tools at the end of the system message, or makes one.
fn describe_tools(messages: &mut Vec<Message>, tools: &[Tool]) {
    let listed: Vec<String> = tools.iter().map(|tool| declared(tool).to_string()).collect();
    let described = format!(
        "You may call tools. Each is described by one line of JSON between <tools> and </tools>:\n<tools>\n{}\n</tools>\n\
         To call one, write its name and its arguments as JSON between {OPEN} and {CLOSE}:\n\
         {OPEN}\n{{\"name\": \"tool\", \"arguments\": {{}}}}\n{CLOSE}",
        listed.join("\n")
    );
    match messages.first_mut().filter(|first| first.role == Role::System) {
        Some(system) => system.content = format!("{}\n\n{described}", system.content),
        None => messages
            .insert(0, Message { role: Role::System, content: described, tool_calls: Vec::new(), tool_call_id: None }),
    }
}

/// JSON as Python's `json.dumps` writes it, which is what templates were written for: spaces after commas and colons, and no
/// escapes for HTML.
fn to_json(value: Value, options: minijinja::value::Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let failed = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    let mut out = Vec::new();
    match indent {
        Some(width) => {
            let spaces = " ".repeat(width.min(8));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter)).map_err(failed)?;
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced)).map_err(failed)?,
    }
    Ok(Value::from_safe_string(String::from_utf8(out).expect("JSON is UTF-8")))
}

struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ToolCall;

    fn message(role: Role, content: &str) -> Message {
        Message { role, content: content.to_owned(), tool_calls: Vec::new(), tool_call_id: None }
    }

    fn adder() -> Tool {
        Tool {
            name: "add".to_owned(),
            description: Some("Adds.".to_owned()),
            parameters: json!({"type": "object", "properties": {"a": {"type": "integer"}}}),
        }
    }

    fn chat(messages: Vec<Message>) -> ChatRequest {
        ChatRequest { messages, ..ChatRequest::default() }
    }

    #[test]
    fn a_conversation_is_rendered_as_the_template_says() {
        let template = ChatTemplate::parse(None, "", "").unwrap();
        let request = chat(vec![message(Role::System, "Be brief."), message(Role::User, "Hi <b> & {{ x }}")]);
        assert_eq!(
            template.render(&request, &[]).unwrap(),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi <b> & {{ x }}<|im_end|>\n<|im_start|>assistant\n"
        );
    }

    #[test]
    fn tools_are_described_where_the_template_knows_none() {
        let template = ChatTemplate::parse(None, "", "").unwrap();
        let mut assistant = message(Role::Assistant, "");
        assistant.tool_calls =
            vec![ToolCall { id: "call_1".to_owned(), name: "add".to_owned(), arguments: "{\"a\":1}".to_owned() }];
        let request = chat(vec![message(Role::User, "1?"), assistant, message(Role::Tool, "2")]);
        let text = template.render(&request, &[adder()]).unwrap();
        assert!(text.starts_with("<|im_start|>system\nYou may call tools."), "{text}");
        assert!(text.contains("\"description\":\"Adds.\""), "{text}");
        assert!(text.contains("<tool_call>\n{\"name\":\"add\",\"arguments\":{\"a\":1}}\n</tool_call>"), "{text}");
        assert!(text.contains("<|im_start|>user\n<tool_response>\n2\n</tool_response>"), "{text}");
    }

    #[test]
    fn a_template_that_knows_tools_gets_them_as_python_would_write_them() {
        let source = "{%- if tools %}{% for tool in tools %}{{ tool | tojson }}{% endfor %}<tool_call>{% endif %}\
            {% for m in messages if m.role.strip().startswith('u') %}[{{ m.content }}]{% endfor %}";
        let template = ChatTemplate::parse(Some(source), "", "").unwrap();
        let text = template.render(&chat(vec![message(Role::User, "x")]), &[adder()]).unwrap();
        assert_eq!(
            text,
            "{\"type\": \"function\", \"function\": {\"name\": \"add\", \"description\": \"Adds.\", \"parameters\": \
             {\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}}}}}<tool_call>[x]"
        );
        assert_eq!(template.render(&chat(vec![message(Role::User, "x")]), &[]).unwrap(), "[x]");
    }

    #[test]
    fn a_template_that_refuses_or_never_ends_is_an_error_without_the_conversation() {
        let check = |source: &str| {
            let template = ChatTemplate::parse(Some(source), "", "").unwrap();
            let error = template.render(&chat(vec![message(Role::User, "secret")]), &[]).unwrap_err();
            assert!(matches!(error, InferenceError::Parameter { .. }), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        };
        check("{{ raise_exception('no ' ~ messages[0].content) }}");
        check("{% for a in range(100000) %}{% for b in range(100000) %}{{ b }}{% endfor %}{% endfor %}");
        check("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}");
        check("{{ messages[0].content.nothing() }}");
        assert!(ChatTemplate::parse(Some("{% if %}"), "", "").is_err());
        assert!(ChatTemplate::parse(Some(&" ".repeat(MAX_TEMPLATE + 1)), "", "").is_err());
    }
}
