//! Upstream's own libllama, driven bare through its C API by `../peer/llamacpp.c`, and the engine beside it on the same tokens.

use std::{path::Path, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, de::DeserializeOwned};
use tacit_inference::{Backend, CompletionRequest, EngineSettings, OutputFormat, Prompt};
use tacit_runtime::bench::Row;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::{Figures, common, engine};
use crate::{commands::bench::row, output};

/// Pairs of answers, and tokens of the prompt and of each answer after its first.
const PAIRS: usize = 12;
const PROMPT: usize = 256;
const ANSWER: u32 = 128;

/// The text whose beginning is the prompt.
pub const TEXT: &str = "Before there were railways, a letter from one end of the country to the other was on its way for most of a \
week. It left the city in the evening, in a locked bag under the seat of a guard, and was carried from inn to inn by horses that \
were changed every two hours. The guard had a horn, to wake the keepers of the gates, and a clock in a leather case, which had \
been set by the postmaster before they left and was compared with the church towers on the way. Whoever received the letter paid \
for it, by the sheet and by the mile, so people wrote small, turned the page and wrote across their own lines. Those who had no \
money agreed on signs beforehand: a name that was written in a certain way said that all were well, and the letter was given back \
unopened. When the price became the same for every distance and the sender had to pay it, the number of letters doubled within a \
year. The bags became too heavy for the coaches, and it was by good fortune that the first railways had just been opened. A \
carriage was fitted with shelves and lamps, and clerks sorted the post while the train was running. At stations where it did not \
stop, the bags hung from an iron arm beside the track, and a net on the carriage took them down. The clerks were told to stand \
back from the open door when they heard the bell, and most of them did. In the mornings";

/// What the peer says of itself.
#[derive(Deserialize)]
struct Ready {
    library: String,
    /// Instructions that its kernels use, as it prints them.
    system: String,
    context: u32,
    batch: u32,
    threads: u32,
    tokens: Vec<u32>,
}

impl Ready {
    /// The names of the instructions in use.
    fn instructions(&self) -> String {
        let named = self.system.split(['|', ':']).filter_map(|part| part.trim().strip_suffix(" = 1"));
        named.collect::<Vec<_>>().join(", ")
    }
}

/// Seconds of prompt and answer, and the answer.
#[derive(Deserialize)]
struct Answered {
    prompt: f64,
    decode: f64,
    answer: String,
}

/// The peer's process, with the model loaded.
struct Peer {
    ready: Ready,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Peer {
    async fn start(weights: &Path, settings: &EngineSettings) -> Result<Self> {
        let program = std::env::home_dir().unwrap_or_default().join(".cache/tacit/peers/llamacpp");
        let mut child = Command::new(&program)
            .arg(weights)
            .args([&settings.cells.to_string(), TEXT, &PROMPT.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| program.display().to_string())?;
        let input = child.stdin.take().context("no pipe")?;
        let mut output = BufReader::new(child.stdout.take().context("no pipe")?).lines();
        let ready: Ready = read(&mut output).await?;
        ensure!(ready.context == settings.cells && ready.threads == settings.threads, "it runs with other settings");
        ensure!(ready.tokens.len() == PROMPT, "it reads another prompt");
        Ok(Self { ready, input, output, _child: child })
    }

    async fn answer(&mut self) -> Result<Answered> {
        self.input.write_all(format!("{ANSWER}\n").as_bytes()).await?;
        read(&mut self.output).await
    }
}

async fn read<T: DeserializeOwned>(output: &mut Lines<BufReader<ChildStdout>>) -> Result<T> {
    let line = output.next_line().await?.context("it ended")?;
    serde_json::from_str(&line).context("it says something else")
}

/// The rows beside the library; none, with a word about it, where it does not run.
pub async fn rows(model: &dyn Backend, weights: &Path, settings: &EngineSettings) -> Result<Vec<Row>> {
    let mut peer = match Peer::start(weights, settings).await {
        Ok(peer) => peer,
        Err(error) => {
            output::note(format!(
                "inference.*_vs_llamacpp: left out, upstream's library does not run (`make peers`): {error:#}"
            ));
            return Ok(Vec::new());
        }
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    own(model, &peer.ready.tokens).await?;
    peer.answer().await?;
    for pair in 0..PAIRS {
        // Each first every other time.
        if pair % 2 == 0 {
            ours.push(own(model, &peer.ready.tokens).await?);
            theirs.push(peer.answer().await?);
        } else {
            theirs.push(peer.answer().await?);
            ours.push(own(model, &peer.ready.tokens).await?);
        }
    }
    let (own, other) = (&ours[0].answer, &theirs[0].answer);
    let same = own.chars().zip(other.chars()).take_while(|(own, other)| own == other).count();
    ensure!(same > 0, "upstream's library answers something else");
    let all = own.chars().count();
    let ready = &peer.ready;
    let beside = |name: &str, what: &str, tokens: f64, of: fn(&Answered) -> f64| {
        let ratios = Figures::of(ours.iter().zip(&theirs).map(|(ours, theirs)| of(theirs) / of(ours)))?;
        let rate = |answers: &[Answered]| Figures::of(answers.iter().map(|answered| tokens / of(answered)));
        let (ours, theirs) = (rate(&ours)?, rate(&theirs)?);
        let note = format!(
            "{what}: {:.1} tokens/s ({}), the library {:.1} ({}); medians of {PAIRS} pairs in turn with their middle halves, that of the ratios {}; {}; the library's kernels use {}; the first {same} of {all} characters of the answers are the same",
            ours.median(),
            ours.spread(1),
            theirs.median(),
            theirs.spread(1),
            ratios.spread(3),
            common(settings),
            ready.instructions(),
        );
        let mut row = row(name, ratios.median(), "ratio", "≥ 0.95", PAIRS, note);
        row.peer = Some(format!("{} through its C API, batch {}: 1.0", ready.library, ready.batch));
        anyhow::Ok(row)
    };
    let answer = f64::from(ANSWER);
    Ok(vec![
        beside(
            "inference.decode_vs_llamacpp",
            &format!("{ANSWER} likeliest tokens after a prompt of {PROMPT}"),
            answer,
            |answered| answered.decode,
        )?,
        beside("inference.prompt_vs_llamacpp", &format!("{PROMPT} tokens in one step"), PROMPT as f64, |answered| {
            answered.prompt
        })?,
    ])
}

/// The engine's answer to the same tokens, as the service gets it: events out of the model's process.
async fn own(model: &dyn Backend, tokens: &[u32]) -> Result<Answered> {
    let request = CompletionRequest {
        prompt: Prompt::Tokens(tokens.to_vec()),
        format: OutputFormat::Text,
        sampling: engine::likeliest(ANSWER + 1),
        echo: false,
        reuse_group: None,
    };
    let timed = engine::timed(model.complete(request)).await?;
    ensure!(timed.tokens == ANSWER + 1, "the answer ended after {} tokens", timed.tokens);
    let decode = (timed.last - timed.first).as_secs_f64();
    Ok(Answered { prompt: timed.first.as_secs_f64(), decode, answer: timed.text })
}
