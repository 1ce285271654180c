//! Models for the tests, which `cargo xtask models` fetches.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use tacit_inference::{
    ChatRequest, CompletionRequest, EngineSettings, Event, FinishReason, Generation, LlamaCpp, Message, ModelManifest,
    OutputFormat, Prompt, Role, Sampling, Usage,
    manifest::{FileRole, MODEL_VERSION, ModelFile},
    store::{CheckedFile, OpenModel},
};
use tacit_types::formats;

/// A fetched file; `None` where it is not there, which is a failure in CI alone.
pub fn fetched(name: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"), PathBuf::from);
    let path = cache.join("tacit/models").join(name);
    if path.is_file() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing; run cargo xtask models", path.display());
    println!("not tested: {} is not there; cargo xtask models fetches it", path.display());
    None
}

pub fn smollm() -> Option<PathBuf> {
    fetched("smollm2-135m-instruct-q4_1.gguf")
}

/// A model with these weights, as a store opens it.
pub fn open(weights: &Path) -> OpenModel {
    let size = weights.metadata().unwrap().len();
    let mut bytes = Vec::new();
    File::open(weights).unwrap().read_to_end(&mut bytes).unwrap();
    let sha256 = formats::sha256(&bytes);
    let manifest = ModelManifest {
        version: MODEL_VERSION.to_owned(),
        name: "smollm2".to_owned(),
        licence: "Apache-2.0".to_owned(),
        source: "tests".to_owned(),
        files: vec![ModelFile { role: FileRole::Weights, sha256, size }],
        template: None,
        converted_from: None,
        lineage: Vec::new(),
        context: 8192,
        embedding: None,
        upstream: None,
    };
    let digest = manifest.digest().unwrap();
    OpenModel { manifest, digest, files: vec![CheckedFile::read(weights, sha256, size).unwrap()] }
}

/// SmolLM2 on one thread.
pub fn load(settings: &EngineSettings) -> Option<LlamaCpp> {
    Some(LlamaCpp::load(&open(&smollm()?), 1, settings).unwrap())
}

pub fn small() -> EngineSettings {
    EngineSettings { threads: 1, context: 512, slots: 4, cells: 2048, queue: 8, constant_shape: false }
}

pub fn user(text: &str) -> Message {
    Message { role: Role::User, content: text.to_owned(), tool_calls: Vec::new(), tool_call_id: None }
}

/// The likeliest answer of at most this many tokens.
pub fn greedy(tokens: u32) -> Sampling {
    Sampling { max_tokens: Some(tokens), temperature: 0.0, ..Sampling::default() }
}

pub fn chat(text: &str, sampling: Sampling) -> ChatRequest {
    ChatRequest { messages: vec![user(text)], sampling, ..ChatRequest::default() }
}

pub fn completion(text: &str, sampling: Sampling) -> CompletionRequest {
    CompletionRequest {
        prompt: Prompt::Text(text.to_owned()),
        format: OutputFormat::Text,
        sampling,
        echo: false,
        reuse_group: None,
    }
}

/// All of a generation.
#[derive(Debug, Default)]
pub struct Whole {
    pub texts: Vec<String>,
    pub reasons: Vec<Option<FinishReason>>,
    pub calls: Vec<(u32, String, String)>,
    pub logprobs: Vec<tacit_inference::TokenLogprob>,
    pub usage: Usage,
}

/// Reads a generation to its end and checks the order of its events.
pub async fn whole(mut generation: Generation, choices: usize) -> Whole {
    let mut whole = Whole { texts: vec![String::new(); choices], reasons: vec![None; choices], ..Whole::default() };
    let (mut is_done, mut used) = (false, None);
    while let Some(event) = generation.next().await {
        assert!(!is_done, "{event:?} after the end");
        match event {
            Event::Text { choice, text, logprobs } => {
                assert_eq!(whole.reasons[choice as usize], None);
                whole.texts[choice as usize].push_str(&text);
                whole.logprobs.extend(logprobs);
            }
            Event::ToolCall { choice, delta } => {
                assert_eq!(whole.reasons[choice as usize], None);
                assert!(delta.id.is_some_and(|id| id.starts_with("call_")));
                whole.calls.push((choice, delta.name.unwrap(), delta.arguments));
            }
            Event::Finished { choice, reason } => {
                assert_eq!(whole.reasons[choice as usize].replace(reason), None);
            }
            Event::Used(usage) => {
                // At its beginning it has written nothing, and then more each time.
                let before: Option<Usage> = used.replace(usage);
                assert!(before.map_or(usage.completion_tokens == 0, |before| {
                    before.completion_tokens < usage.completion_tokens
                        && Usage { completion_tokens: usage.completion_tokens, ..before } == usage
                }));
            }
            Event::Done(usage) => {
                // Servers elsewhere count only at the end.
                assert!(used.is_none_or(|used| used == usage));
                assert!(whole.reasons.iter().all(Option::is_some));
                whole.usage = usage;
                is_done = true;
            }
            Event::Failed(error) => panic!("{error}"),
        }
    }
    assert!(is_done, "the generation was cut off");
    whole
}

/// Waits until a generation has written something.
pub async fn first_text(generation: &mut Generation) -> String {
    loop {
        match generation.next().await {
            Some(Event::Text { text, .. }) => return text,
            Some(Event::Used(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}
