//! Several generations as one: the prompts of one request.

use futures::{
    StreamExt as _,
    stream::{BoxStream, SelectAll},
};
use tacit_inference::{Event, Generation, Usage};

/// The events of one or more generations, whose choices are numbered through.
pub(crate) struct Merged {
    streams: SelectAll<BoxStream<'static, Event>>,
    running: usize,
    usage: Usage,
}

impl Merged {
    pub fn one(generation: Generation) -> Self {
        Self::several(vec![generation], 0)
    }

    /// Each has this many choices.
    pub fn several(generations: Vec<Generation>, each: u32) -> Self {
        let running = generations.len();
        let mut streams = SelectAll::new();
        for (number, generation) in (0u32..).zip(generations) {
            let first = number.saturating_mul(each);
            let events = futures::stream::unfold(generation, |mut generation| async move {
                let event = generation.next().await?;
                Some((event, generation))
            });
            streams.push(events.map(move |event| shifted(event, first)).boxed());
        }
        Self { streams, running, usage: Usage::default() }
    }

    /// The next event: one [`Event::Done`] after that of every generation, with the sum of what they used.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.streams.next().await? {
                Event::Done(usage) => {
                    self.usage.prompt_tokens = self.usage.prompt_tokens.saturating_add(usage.prompt_tokens);
                    self.usage.cached_tokens = self.usage.cached_tokens.saturating_add(usage.cached_tokens);
                    self.usage.completion_tokens = self.usage.completion_tokens.saturating_add(usage.completion_tokens);
                    self.usage.seed = usage.seed;
                    self.running = self.running.saturating_sub(1);
                    if self.running == 0 {
                        return Some(Event::Done(self.usage));
                    }
                }
                event => return Some(event),
            }
        }
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
            sender.send(Event::Done(usage)).await.unwrap();
            generations.push(generation);
        }
        let mut merged = Merged::several(generations, 2);
        let mut choices = Vec::new();
        let usage = loop {
            match merged.next().await.unwrap() {
                Event::Finished { choice, .. } => choices.push(choice),
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
