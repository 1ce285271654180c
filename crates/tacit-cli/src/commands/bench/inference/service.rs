//! Chats through the whole protocol: a verified node, requests sealed inside TLS, a receipt in a log that is fetched and checked.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::json;
use tacit_client::ai::{AiClient, AiRequest, AiSettings, Keep, TranscriptStore};
use tacit_inference::Backend;
use tacit_receipt::aci::InferenceOutcome;
use tacit_runtime::bench::Row;
use tacit_types::Digest;
use tacit_verify::Judge;

use super::{
    Figures, NAME, common,
    engine::{self, Timed},
};
use crate::{
    arguments::ServeArguments,
    commands::{
        bench::row,
        chat::Deltas,
        serve::{self, Ground},
    },
};

/// A kind of chat, and how many pairs of it are measured.
struct Kind {
    pairs: usize,
    /// What follows the number in the system's message.
    system: &'static str,
    question: &'static str,
    /// Tokens of the answer.
    tokens: u32,
}

/// Chats whose first text is waited for. Their prompts are short, so that what is added is not lost in how long a prompt takes.
const SHORT: Kind = Kind { pairs: 100, system: "", question: "Hi.", tokens: 2 };
/// Chats whose tokens per second count.
const WHOLE: Kind = Kind {
    pairs: 12,
    system: " is the number of this question. Answer at length.",
    question: "Tell me in many sentences all about the history of paper.",
    tokens: 128,
};
/// What is run before anything is counted: past it the engine's slots are all in use.
const WARM_UP: usize = 5;

/// Measures what the protocol adds to the first text, and what it takes of the tokens per second.
pub async fn rows(ground: &Ground, folder: &Path, store: PathBuf, model: &Arc<dyn Backend>) -> Result<[Row; 2]> {
    let arguments = ServeArguments {
        models: Vec::new(),
        listen: ([127, 0, 0, 1], 0).into(),
        hosts: Vec::new(),
        threads: 1,
        slots: 8,
        constant_shape: false,
    };
    let node = ground.start(folder, &arguments, store, vec![Arc::clone(model)]).await?;
    let url = serve::url(&node).parse().context("the node's URL")?;
    let settings = AiSettings::new(url, Judge::Policy(Box::new(ground.policy.clone())), ground.key.clone())
        .storing(TranscriptStore::new(folder.join("transcripts"), Keep::Full));
    let sides = Sides { model: model.as_ref(), client: AiClient::new(settings)? };
    sides.client.verify().await.context("the node does not hold")?;
    let mut number = 0;
    for _ in 0..WARM_UP {
        sides.pair(&mut number, &SHORT).await?;
    }
    let short = sides.pairs(&mut number, &SHORT).await?;
    let whole = sides.pairs(&mut number, &WHOLE).await?;
    let path = format!(
        "through the protocol: TLS, sealed request and answer, receipt and log entry fetched and checked, transcript kept; one at a time, node verified and connected before, node and client in one process, the engine the same on both sides; {}",
        common(&arguments.engine()),
    );
    Ok([first_text(&short, &path)?, throughput(&whole, &path)?])
}

/// The same chat on both sides: the bare engine's, then the service's.
type Pair = (Timed, Timed);

fn first_text(pairs: &[Pair], path: &str) -> Result<Row> {
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    let added = Figures::of(pairs.iter().map(|(bare, served)| ms(served.first) - ms(bare.first)))?;
    let bare = Figures::of(pairs.iter().map(|(bare, _)| ms(bare.first)))?;
    let served = Figures::of(pairs.iter().map(|(_, served)| ms(served.first)))?;
    let proven = Figures::of(pairs.iter().map(|(_, served)| ms(served.end - served.last)))?;
    let note = format!(
        "to the first text of an answer {:.1} ms ({}), bare {:.1} ({}); medians of {} pairs in turn with their middle halves, that of the differences {}; from the last text to the checked receipt {:.1} ms; {path}",
        served.median(),
        served.spread(1),
        bare.median(),
        bare.spread(1),
        pairs.len(),
        added.spread(2),
        proven.median(),
    );
    Ok(row("inference.added_ttft", added.median(), "ms", "≤ 3", pairs.len(), note))
}

fn throughput(pairs: &[Pair], path: &str) -> Result<Row> {
    let shortest = pairs.iter().flat_map(|(bare, served)| [bare.tokens, served.tokens]).min().unwrap_or(0);
    ensure!(shortest > WHOLE.tokens / 4, "an answer ended after {shortest} tokens: too early to be measured");
    let whole = |timed: &Timed| f64::from(timed.tokens) / timed.end.as_secs_f64();
    let loss = Figures::of(pairs.iter().map(|(bare, served)| 1.0 - whole(served) / whole(bare)))?;
    let flow = Figures::of(pairs.iter().map(|(bare, served)| 1.0 - served.rate() / bare.rate()))?;
    let bare = Figures::of(pairs.iter().map(|(bare, _)| whole(bare)))?;
    let served = Figures::of(pairs.iter().map(|(_, served)| whole(served)))?;
    let note = format!(
        "{:.2} tokens/s of a whole chat with {} tokens, from the question to the checked receipt ({}), bare {:.2} to its end ({}); medians of {} pairs in turn with their middle halves, that of the losses {}; after the first text alone the loss is {:.4}; {path}",
        served.median(),
        WHOLE.tokens,
        served.spread(2),
        bare.median(),
        bare.spread(2),
        pairs.len(),
        loss.spread(4),
        flow.median(),
    );
    Ok(row("inference.throughput_loss", loss.median(), "fraction", "≤ 0.02", pairs.len(), note))
}

/// The bare engine, and the service that stands on it.
struct Sides<'a> {
    model: &'a dyn Backend,
    client: AiClient,
}

impl Sides<'_> {
    async fn pairs(&self, number: &mut u32, kind: &Kind) -> Result<Vec<Pair>> {
        let mut pairs = Vec::with_capacity(kind.pairs);
        for _ in 0..kind.pairs {
            pairs.push(self.pair(number, kind).await?);
        }
        Ok(pairs)
    }

    /// Asks both the same, each first every other time. No two questions begin alike, so next to nothing is reused.
    async fn pair(&self, number: &mut u32, kind: &Kind) -> Result<Pair> {
        *number += 1;
        let system = format!("{:06}{}", *number * 76_913 % 1_000_000, kind.system);
        if number.is_multiple_of(2) {
            let bare = self.bare(&system, kind).await?;
            Ok((bare, self.served(&system, kind).await?))
        } else {
            let served = self.served(&system, kind).await?;
            Ok((self.bare(&system, kind).await?, served))
        }
    }

    async fn bare(&self, system: &str, kind: &Kind) -> Result<Timed> {
        // The service reuses earlier work of the same key, so the bare engine has a group as well.
        let group = Some(Digest::from([0xbe; 32]));
        engine::timed(self.model.chat(engine::chat(system, kind.question, kind.tokens, group))).await
    }

    /// A stream, read to its end; then the receipt is fetched and checked.
    async fn served(&self, system: &str, kind: &Kind) -> Result<Timed> {
        let message = |role: &str, content: &str| json!({ "role": role, "content": content });
        let body = json!({
            "model": NAME,
            "messages": [message("system", system), message("user", kind.question)],
            "stream": true,
            "stream_options": { "include_usage": true },
            "temperature": 0,
            "max_completion_tokens": kind.tokens,
        });
        let body = serde_json::to_vec(&body)?;
        let began = Instant::now();
        let request = AiRequest::post("/v1/chat/completions", body).header("accept", "text/event-stream");
        let mut answer = self.client.send(request).await?;
        ensure!(answer.is_stream(), "the node answered {}", answer.status());
        let (mut deltas, mut text) = (Deltas::default(), String::new());
        let (mut first, mut last) = (None, Duration::ZERO);
        while let Some(piece) = answer.next().await? {
            let new = deltas.push(&piece)?;
            if !new.is_empty() {
                last = began.elapsed();
                first.get_or_insert(last);
                text.push_str(&new);
            }
        }
        let proof = answer.finish().await?.context("an answer has no receipt")?;
        let end = began.elapsed();
        let inference = proof.receipt.inference().ok_or_else(|| anyhow!("a receipt says nothing of the answer"))?;
        ensure!(inference.outcome == InferenceOutcome::Ok, "an answer was cut");
        let tokens = u32::try_from(inference.usage.completion_tokens)?;
        Ok(Timed { first: first.context("a node answered nothing")?, last, end, tokens, text })
    }
}
