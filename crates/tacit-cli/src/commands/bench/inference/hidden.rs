//! The same engine with look-ups that tell nothing, beside itself without.

use anyhow::{Result, ensure};
use tacit_inference::{Backend, EngineSettings};
use tacit_runtime::bench::Row;

use super::{
    Figures, common,
    engine::{self, Timed, timed},
    library::TEXT,
};
use crate::commands::bench::row;

/// Pairs of chats, and tokens of each answer.
const PAIRS: usize = 12;
const ANSWER: u32 = 64;

/// What constant-shape look-ups add to the first text and take of the tokens per second.
pub async fn rows(plain: &dyn Backend, hidden: &dyn Backend, settings: &EngineSettings) -> Result<[Row; 2]> {
    // Without a group, so that no prefix is reused.
    let ask = async |model: &dyn Backend| {
        timed(model.chat(engine::chat("Continue what is told to you.", TEXT, ANSWER, None))).await
    };
    let (mut without, mut with): (Vec<Timed>, Vec<Timed>) = (Vec::new(), Vec::new());
    ask(plain).await?;
    ask(hidden).await?;
    for pair in 0..PAIRS {
        // Each first every other time.
        if pair % 2 == 0 {
            without.push(ask(plain).await?);
            with.push(ask(hidden).await?);
        } else {
            with.push(ask(hidden).await?);
            without.push(ask(plain).await?);
        }
    }
    let same = without.iter().zip(&with).all(|(without, with)| without.text == with.text);
    ensure!(same, "constant-shape look-ups change an answer");
    let beside = |name: &str, what: &str, unit: &str, of: fn(&Timed) -> f64, add: fn(f64, f64) -> f64| {
        let added = Figures::of(without.iter().zip(&with).map(|(without, with)| add(of(with), of(without))))?;
        let (with, without) = (Figures::of(with.iter().map(of))?, Figures::of(without.iter().map(of))?);
        let note = format!(
            "{what} {:.1} ({}), without {:.1} ({}); medians of {PAIRS} pairs in turn with their middle halves, that of the rows {}; the answers are the same; {}",
            with.median(),
            with.spread(1),
            without.median(),
            without.spread(1),
            added.spread(3),
            common(settings),
        );
        anyhow::Ok(row(name, added.median(), unit, "report", PAIRS, note))
    };
    let characters = TEXT.chars().count();
    Ok([
        beside(
            "inference.constant_shape_ttft",
            &format!("ms to the first text after a prompt of {characters} characters"),
            "ratio",
            |timed| timed.first.as_secs_f64() * 1_000.0,
            |with, without| with / without,
        )?,
        beside("inference.constant_shape_loss", "tokens/s", "fraction", Timed::rate, |with, without| {
            1.0 - with / without
        })?,
    ])
}
