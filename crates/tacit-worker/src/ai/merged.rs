//! Several generations as one: the prompts of one request.

use futures::{
    StreamExt as _,
    stream::{BoxStream, SelectAll},
};
use tacit_inference::{Event, Generation, Usage};

/// The events of one or more generations, whose choices are numbered through.
pub(crate) struct Merged {
    streams: SelectAll<BoxStream<'static, (usize, Event)>>,
    running: usize,
    /// What each has used so far.
    usages: Vec<Usage>,
}

impl Merged {
    pub fn one(generation: Generation) -> Self {
        Self::several(vec![generation], 0)
    }

    /// Each has this many choices.
    pub fn several(generations: Vec<Generation>, each: u32) -> Self {
        let running = generations.len();
        let usages = vec![Usage::default(); running];
        let mut streams = SelectAll::new();
        for (number, generation) in generations.into_iter().enumerate() {
            let first = u32::try_from(number).unwrap_or(u32::MAX).saturating_mul(each);
            let events = futures::stream::unfold(generation, |mut generation| async move {
                let event = generation.next().await?;
                Some((event, generation))
            });
            streams.push(events.map(move |event| (number, shifted(event, first))).boxed());
        }
        Self { streams, running, usages }
    }

    /// The next event, with the sum of what all used where it tells that: one [`Event::Done`], after that of every generation.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let (number, event) = self.streams.next().await?;
            match event {
                Event::Used(usage) => {
                    self.usages[number] = usage;
                    return Some(Event::Used(self.sum()));
                }
                Event::Done(usage) => {
                    self.usages[number] = usage;
                    self.running = self.running.saturating_sub(1);
                    if self.running == 0 {
                        return Some(Event::Done(self.sum()));
                    }
                }
                event => return Some(event),
            }
        }
    }

    fn sum(&self) -> Usage {
        self.usages.iter().fold(Usage::default(), |sum, usage| Usage {
            prompt_tokens: sum.prompt_tokens.saturating_add(usage.prompt_tokens),
            cached_tokens: sum.cached_tokens.saturating_add(usage.cached_tokens),
            completion_tokens: sum.completion_tokens.saturating_add(usage.completion_tokens),
            // All have the request's seed, and those that have not begun none.
            seed: sum.seed.max(usage.seed),
        })
    }
}

fn shifted(event: Event, first: u32) -> Event {
    match event {
        Event::Text { choice, text, logprobs } => Event::Text { choice: choice.saturating_add(first), text, logprobs },
        Event::ToolCall { choice, delta } => Event::ToolCall { choice: choice.saturating_add(first), delta },
        Event::Finished { choice, reason } => Event::Finished { choice: choice.saturating_add(first), reason },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use tacit_inference::FinishReason;

    use super::*;

    #[tokio::test]
    async fn choices_are_numbered_through_and_usage_is_summed() {
        let mut generations = Vec::new();
        for prompt in [2, 3] {
            let (sender, generation) = Generation::new(8);
            sender.send(Event::Finished { choice: 1, reason: FinishReason::Stop }).await.unwrap();
            let usage = Usage { prompt_tokens: prompt, cached_tokens: 1, completion_tokens: 5, seed: 4 };
            sender.send(Event::Used(Usage { completion_tokens: 1, ..usage })).await.unwrap();
            sender.send(Event::Done(usage)).await.unwrap();
            generations.push(generation);
        }
        let mut merged = Merged::several(generations, 2);
        let (mut choices, mut produced) = (Vec::new(), 0);
        let usage = loop {
            match merged.next().await.unwrap() {
                Event::Finished { choice, .. } => choices.push(choice),
                Event::Used(usage) => {
                    assert!(usage.completion_tokens > produced, "{usage:?}");
                    produced = usage.completion_tokens;
                }
                Event::Done(usage) => break usage,
                other => panic!("{other:?}"),
            }
        };
        choices.sort_unstable();
        assert_eq!(choices, [1, 3]);
        assert_eq!(usage, Usage { prompt_tokens: 5, cached_tokens: 2, completion_tokens: 10, seed: 4 });
        assert_eq!(merged.next().await, None);
    }
}
