//! `tacit chat`: asks a model, prints the answer as it comes, and says what is proven about it.

use std::{
    io::{BufRead as _, IsTerminal as _, Write as _},
    sync::Arc,
};

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tacit_client::ai::{AiClient, AiRequest, Proof};
use tacit_receipt::aci::InferenceOutcome;

use super::{
    CommandResult, Environment,
    ai_node::{ai_error, client, introduce},
};
use crate::{
    arguments::ChatArguments,
    error::{CommandError, Exit},
    output,
};

/// Longest event of a stream, and longest line that is typed.
const MOST: usize = 1 << 20;

/// `--json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChatReport<'a> {
    answer: &'a str,
    verdict: &'a str,
    model: Option<&'a str>,
    model_digest: Option<String>,
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    log_index: u64,
    measurement: &'a str,
    hardware: &'a str,
    transcript: Option<String>,
    receipt: &'a Value,
}

pub async fn run(arguments: &ChatArguments, environment: &Environment) -> CommandResult {
    let client = client(&arguments.node, environment)?;
    let node = client.verify().await.map_err(ai_error)?;
    introduce(&node, &client);
    let model = match &arguments.model {
        Some(model) => model.clone(),
        None => first_model(&client).await?,
    };
    let mut conversation = Conversation::new(arguments, model);
    if let Some(message) = &arguments.message {
        let (answer, proof) = conversation.say(&client, message, !arguments.json).await?;
        if arguments.json {
            output::json(&report(&answer, &proof))?;
        }
        return settle(arguments, &proof);
    }
    let (interactive, mut exit) = (std::io::stdin().is_terminal(), Exit::Ok);
    while let Some(line) = read_line(interactive)? {
        match line.trim() {
            "" => continue,
            "/quit" => break,
            message => {
                let (_, proof) = conversation.say(&client, message, true).await?;
                exit = settle(arguments, &proof)?;
            }
        }
    }
    Ok(exit)
}

/// Says what is proven, and keeps the transcript where it was asked for.
fn settle(arguments: &ChatArguments, proof: &Proof) -> CommandResult {
    output::note(format!("proof: {}", proof.line()));
    if let (Some(path), Some(stored)) = (&arguments.save, &proof.stored) {
        std::fs::copy(stored, path).with_context(|| format!("could not write {}", path.display()))?;
    }
    match proof.receipt.inference().map(|inference| inference.outcome) {
        Some(InferenceOutcome::Ok) => Ok(Exit::Ok),
        _ => Err(anyhow!("the model did not answer to its end; the receipt says so").into()),
    }
}

fn report<'a>(answer: &'a str, proof: &'a Proof) -> ChatReport<'a> {
    let inference = proof.receipt.inference();
    ChatReport {
        answer,
        verdict: proof.verdict(),
        model: proof.receipt.model(),
        model_digest: inference.map(|inference| inference.model_digest.to_string()),
        prompt_tokens: inference.map(|inference| inference.usage.prompt_tokens),
        completion_tokens: inference.map(|inference| inference.usage.completion_tokens),
        log_index: proof.log_index,
        measurement: &proof.measurement,
        hardware: &proof.hardware,
        transcript: proof.stored.as_ref().map(|path| path.display().to_string()),
        receipt: proof.receipt.document(),
    }
}

/// The first model that the node offers for conversations.
async fn first_model(client: &AiClient) -> Result<String, CommandError> {
    #[derive(Deserialize)]
    struct List {
        data: Vec<Offer>,
    }
    #[derive(Deserialize)]
    struct Offer {
        id: String,
        /// Other services of this interface do not say it.
        #[serde(default = "yes")]
        generates: bool,
    }
    const fn yes() -> bool {
        true
    }
    let mut answer = client.send(AiRequest::get("/v1/models")).await.map_err(ai_error)?;
    let body = answer.rest().await.map_err(ai_error)?;
    let status = answer.status();
    answer.finish().await.map_err(ai_error)?;
    if status != 200 {
        return Err(refusal(status, &body));
    }
    let list: List = serde_json::from_slice(&body).map_err(|_| anyhow!("the node's list of models cannot be read"))?;
    let first = list.data.into_iter().find(|offer| offer.generates);
    first
        .map(|offer| offer.id)
        .ok_or_else(|| CommandError::from(anyhow!("the node offers no model that answers chats")))
}

/// What was said so far, and how it goes on.
struct Conversation {
    model: String,
    messages: Vec<Value>,
    max_tokens: Option<u32>,
    temperature: Option<f64>,
    seed: Option<u64>,
}

impl Conversation {
    fn new(arguments: &ChatArguments, model: String) -> Self {
        let system = arguments.system.iter().map(|text| json!({ "role": "system", "content": text }));
        Self {
            model,
            messages: system.collect(),
            max_tokens: arguments.max_tokens,
            temperature: arguments.temperature,
            seed: arguments.seed,
        }
    }

    fn body(&self) -> Value {
        let mut body = json!({
            "model": self.model,
            "messages": self.messages,
            "stream": true,
            "stream_options": { "include_usage": true },
        });
        let optional = [
            ("max_completion_tokens", self.max_tokens.map(Value::from)),
            ("temperature", self.temperature.map(Value::from)),
            ("seed", self.seed.map(Value::from)),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                body[name] = value;
            }
        }
        body
    }

    /// Says something, prints the answer as it comes if `aloud`, and gives it with its proof.
    async fn say(
        &mut self,
        client: &AiClient,
        message: &str,
        aloud: bool,
    ) -> Result<(String, Arc<Proof>), CommandError> {
        self.messages.push(json!({ "role": "user", "content": message }));
        let body = serde_json::to_vec(&self.body())?;
        let request = AiRequest::post("/v1/chat/completions", body).header("accept", "text/event-stream");
        let mut answer = client.send(request).await.map_err(ai_error)?;
        if !answer.is_stream() {
            let (status, body) = (answer.status(), answer.rest().await.map_err(ai_error)?);
            answer.finish().await.map_err(ai_error)?;
            return Err(refusal(status, &body));
        }
        let (mut deltas, mut text) = (Deltas::default(), String::new());
        while let Some(piece) = answer.next().await.map_err(ai_error)? {
            let new = deltas.push(&piece)?;
            if aloud {
                output::bytes(new.as_bytes())?;
            }
            text.push_str(&new);
        }
        if aloud && !text.ends_with('\n') {
            output::bytes(b"\n")?;
        }
        let proof = answer.finish().await.map_err(ai_error)?;
        let proof = proof.ok_or_else(|| CommandError::new(Exit::Refused, anyhow!("the node gave no receipt")))?;
        self.messages.push(json!({ "role": "assistant", "content": text }));
        Ok((text, proof))
    }
}

/// A refusal in the interface's own words.
fn refusal(status: u16, body: &[u8]) -> CommandError {
    let body: Option<Value> = serde_json::from_slice(body).ok();
    let message = body.as_ref().and_then(|body| body["error"]["message"].as_str()).unwrap_or("no reason is given");
    let exit = if matches!(status, 401 | 403) { Exit::Refused } else { Exit::Failed };
    CommandError::new(exit, anyhow!("{message}").context(format!("the node refused with {status}")))
}

/// The text in a stream of chat events.
#[derive(Default)]
pub struct Deltas {
    rest: Vec<u8>,
}

impl Deltas {
    /// Takes bytes and gives the text that their events add.
    ///
    /// # Errors
    /// When an event says that the model failed, or has no end.
    pub fn push(&mut self, bytes: &[u8]) -> anyhow::Result<String> {
        self.rest.extend_from_slice(bytes);
        let mut text = String::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let Some(data) = line.trim_ascii().strip_prefix(b"data:") else { continue };
            let Ok(event) = serde_json::from_slice::<Value>(data.trim_ascii()) else { continue };
            if let Some(message) = event["error"]["message"].as_str() {
                return Err(anyhow!("{message}").context("the model failed"));
            }
            text.push_str(event["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
        }
        anyhow::ensure!(self.rest.len() <= MOST, "the node sends an event without end");
        Ok(text)
    }
}

/// A line that was typed; none at the end.
fn read_line(interactive: bool) -> anyhow::Result<Option<String>> {
    if interactive {
        eprint!("> ");
        let _ = std::io::stderr().flush();
    }
    let mut line = Vec::new();
    let mut input = std::io::stdin().lock();
    std::io::Read::take(&mut input, MOST as u64)
        .read_until(b'\n', &mut line)
        .context("could not read standard input")?;
    Ok((!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_taken_from_events_in_pieces_of_any_size() {
        let event = |text: &str| format!("data: {}\n\n", json!({ "choices": [{ "delta": { "content": text } }] }));
        let stream = format!(
            "{}{}{}data: {}\n\ndata: [DONE]\n\n",
            event("Grüß"),
            ": a comment\n\n",
            event(" Gott"),
            json!({ "choices": [], "usage": { "prompt_tokens": 1 } })
        );
        for size in [1, 3, 7, stream.len()] {
            let mut deltas = Deltas::default();
            let pieces = stream.as_bytes().chunks(size).map(|piece| deltas.push(piece).unwrap());
            assert_eq!(pieces.collect::<String>(), "Grüß Gott", "{size}");
        }
        let mut deltas = Deltas::default();
        let error = deltas.push(b"data: {\"error\":{\"message\":\"engine failed\"}}\n\n").unwrap_err();
        assert_eq!(format!("{error:#}"), "the model failed: engine failed");
        assert!(Deltas::default().push(&vec![b'x'; MOST + 1]).is_err());
    }

    #[test]
    fn a_refusal_says_why() {
        let error = refusal(401, br#"{"error":{"message":"the API key is not valid"}}"#);
        assert_eq!(error.exit, Exit::Refused);
        assert!(error.lines().contains("because: the API key is not valid"));
        assert_eq!(refusal(503, b"busy").exit, Exit::Failed);
    }
}
