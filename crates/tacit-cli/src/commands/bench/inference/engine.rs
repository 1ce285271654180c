//! The bare engine: generations as the service asks for them, with nothing around.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use futures::future::try_join_all;
use tacit_inference::{
    Backend, ChatRequest, EngineSettings, Event, Generation, InferenceError, Message, Role, Sampling,
};
use tacit_runtime::bench::Row;
use tacit_types::Digest;

use super::{Figures, common};
use crate::commands::bench::row;

/// Chats at the same time, pairs of one and of all of them, and tokens of each answer.
const AT_ONCE: usize = 8;
const PAIRS: usize = 6;
const ANSWER: u32 = 128;

/// What the chats are about. A small model has much to say about each.
const TOPICS: [&str; AT_ONCE] = [
    "the history of paper",
    "how bridges are built",
    "the life of bees",
    "why the sea is salty",
    "the planets of our solar system",
    "how bread is baked",
    "the invention of the steam engine",
    "what trees do in winter",
];

/// A generation that ran to its end.
pub struct Timed {
    /// From the question to the first text.
    pub first: Duration,
    /// From the question to the last text.
    pub last: Duration,
    /// From the question to the end.
    pub end: Duration,
    pub tokens: u32,
    pub text: String,
}

impl Timed {
    /// Tokens per second after the first.
    pub fn rate(&self) -> f64 {
        f64::from(self.tokens.saturating_sub(1)) / (self.last - self.first).as_secs_f64()
    }
}

/// Asks and listens to the end.
pub async fn timed(asked: impl Future<Output = Result<Generation, InferenceError>>) -> Result<Timed> {
    let began = Instant::now();
    let mut generation = asked.await?;
    let (mut first, mut last, mut text) = (None, Duration::ZERO, String::new());
    while let Some(event) = generation.next().await {
        match event {
            Event::Text { text: new, .. } if !new.is_empty() => {
                last = began.elapsed();
                first.get_or_insert(last);
                text.push_str(&new);
            }
            Event::Done(usage) => {
                let first = first.context("a model answered nothing")?;
                return Ok(Timed { first, last, end: began.elapsed(), tokens: usage.completion_tokens, text });
            }
            Event::Failed(error) => return Err(error.into()),
            _ => {}
        }
    }
    Err(anyhow!("a generation has no end"))
}

/// A chat of two messages, answered by the likeliest tokens.
pub fn chat(system: &str, question: &str, tokens: u32, group: Option<Digest>) -> ChatRequest {
    let message =
        |role, content: &str| Message { role, content: content.to_owned(), tool_calls: Vec::new(), tool_call_id: None };
    ChatRequest {
        messages: vec![message(Role::System, system), message(Role::User, question)],
        sampling: likeliest(tokens),
        reuse_group: group,
        ..ChatRequest::default()
    }
}

/// The likeliest tokens, so many.
pub fn likeliest(tokens: u32) -> Sampling {
    Sampling { max_tokens: Some(tokens), temperature: 0.0, ..Sampling::default() }
}

/// Tokens per second of several chats at the same time, beside one alone.
pub async fn parallel(model: &dyn Backend, settings: &EngineSettings) -> Result<Row> {
    rate(model, &TOPICS).await?;
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        let topic = &TOPICS[pair % TOPICS.len()..][..1];
        // Each first every other time.
        if pair % 2 == 0 {
            alone.push(rate(model, topic).await?);
            together.push(rate(model, &TOPICS).await?);
        } else {
            together.push(rate(model, &TOPICS).await?);
            alone.push(rate(model, topic).await?);
        }
    }
    let gain = Figures::of(together.iter().zip(&alone).map(|(together, alone)| together / alone))?;
    let (alone, together) = (Figures::of(alone)?.median(), Figures::of(together)?.median());
    let note = format!(
        "{together:.1} tokens/s in {AT_ONCE} chats asked at once, {alone:.1} in one, prompts included, {ANSWER} tokens each; medians of pairs in turn, middle half of the ratios {}; the bare engine in a process of its own; {}",
        gain.spread(2),
        common(settings),
    );
    Ok(row("inference.parallel8_gain", gain.median(), "ratio", "≥ 1.8", PAIRS, note))
}

/// Tokens per second of one chat about each topic, asked at the same time.
async fn rate(model: &dyn Backend, topics: &[&str]) -> Result<f64> {
    let began = Instant::now();
    let chats = topics.iter().map(|topic| {
        let question = format!("Tell me in many sentences all about {topic}.");
        timed(model.chat(chat("You explain things at length.", &question, ANSWER, None)))
    });
    let answers = try_join_all(chats).await?;
    let elapsed = began.elapsed();
    let tokens: u32 = answers.iter().map(|answer| answer.tokens).sum();
    // A few may end by themselves, since what is computed together differs a little from what is computed alone.
    let wanted = f64::from(ANSWER) * topics.len() as f64;
    ensure!(
        f64::from(tokens) > wanted / 2.0,
        "answers ended after {tokens} of {wanted} tokens: too early to be measured"
    );
    Ok(f64::from(tokens) / elapsed.as_secs_f64())
}
