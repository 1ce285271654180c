//! The thread that owns a model's context: many requests in each step of the model.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::Duration,
};

use llama_cpp_2::{context::LlamaContext, llama_batch::LlamaBatch, token::LlamaToken};
use tacit_types::Digest;
use tokio::sync::mpsc::Sender;

use super::{
    choice::{Choice, Step},
    slots::Slots,
    vocabulary::Vocabulary,
};
use crate::{Event, InferenceError, Usage, oblivious::Rows};

/// Most tokens of one step.
pub(super) const BATCH: usize = 512;
/// Most tokens of prompts in one step while answers are being written, so that those flow on.
const PROMPT_SHARE: usize = 128;
/// How often a request that waits for a slot is looked at when nothing runs: never needed, since then every slot is free.
const IDLE: Duration = Duration::from_secs(1);

/// A request as the engine takes it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) prompt: Vec<LlamaToken>,
    pub(super) group: Option<Digest>,
    /// Most tokens of one choice.
    pub(super) answer: u32,
    pub(super) choices: Vec<Choice>,
    pub(super) seed: u64,
    /// Told before the answer.
    pub(super) echo: Option<String>,
    /// Has room for every event of the whole generation.
    pub(super) events: Sender<Event>,
}

/// A request that has its slots.
struct Running {
    job: Job,
    slots: Vec<usize>,
    /// Tokens of the prompt that were worked through.
    done: usize,
    /// For each choice the token to work through next; nothing once it is complete.
    next: Vec<Option<LlamaToken>>,
    usage: Usage,
}

impl Running {
    fn is_writing(&self) -> bool {
        self.done == self.job.prompt.len()
    }
}

/// What a row of a step is for.
enum Row {
    /// The end of a prompt.
    Prompt(usize),
    /// A choice of a request.
    Choice(usize, usize),
}

/// One step of the model.
#[derive(Default)]
struct Plan {
    /// Rows whose outcome is read, with their places in the step.
    rows: Vec<(Row, i32)>,
    /// Requests of whose prompt a piece is worked through, and the piece's length.
    pieces: Vec<(usize, usize)>,
    /// The step's tokens, where llama.cpp is only told their places.
    hidden: Vec<u32>,
}

/// The engine's state. It lives on one thread.
pub(super) struct Engine<'model> {
    vocabulary: Vocabulary,
    rows: Option<Rows>,
    context: LlamaContext<'model>,
    slots: Slots,
    waiting: VecDeque<Job>,
    running: Vec<Running>,
    /// Requests that were sent here and have no slot yet.
    queued: Arc<AtomicUsize>,
}

impl<'model> Engine<'model> {
    pub(super) fn new(
        vocabulary: Vocabulary,
        rows: Option<Rows>,
        context: LlamaContext<'model>,
        slots: usize,
        cells: u32,
        queued: Arc<AtomicUsize>,
    ) -> Self {
        let slots = Slots::new(slots, cells);
        Self { vocabulary, rows, context, slots, waiting: VecDeque::new(), running: Vec::new(), queued }
    }

    /// Works until nobody can send any more and everything is answered.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        let mut batch = LlamaBatch::new(BATCH, 1);
        let mut is_open = true;
        while is_open || !self.running.is_empty() || !self.waiting.is_empty() {
            is_open = is_open && self.receive(jobs);
            self.drop_cancelled();
            self.admit();
            if self.running.is_empty() {
                continue;
            }
            let plan = self.fill(&mut batch);
            if let Some(rows) = &mut self.rows
                && let Err(error) = rows.write(&plan.hidden)
            {
                self.fail(&error.to_string());
                continue;
            }
            if let Err(error) = self.context.decode(&mut batch) {
                self.fail(&error.to_string());
                continue;
            }
            self.read(&plan);
        }
    }

    /// Takes what was sent; waits only if there is nothing else to do. Says whether more can come.
    fn receive(&mut self, jobs: &Receiver<Job>) -> bool {
        if self.running.is_empty() && self.waiting.is_empty() {
            match jobs.recv() {
                Ok(job) => self.waiting.push_back(job),
                Err(_) => return false,
            }
        } else if self.running.is_empty() {
            match jobs.recv_timeout(IDLE) {
                Ok(job) => self.waiting.push_back(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        loop {
            match jobs.try_recv() {
                Ok(job) => self.waiting.push_back(job),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn drop_cancelled(&mut self) {
        let before = self.waiting.len();
        self.waiting.retain(|job| !job.events.is_closed());
        self.queued.fetch_sub(before - self.waiting.len(), Ordering::Relaxed);
        for index in (0..self.running.len()).rev() {
            if self.running[index].job.events.is_closed() {
                self.end(index);
            }
        }
    }

    /// Gives slots to those that wait, in their order.
    fn admit(&mut self) {
        while let Some(job) = self.waiting.front() {
            let prompt: Vec<i32> = job.prompt.iter().map(|token| token.0).collect();
            let Some(placement) = self.slots.place(&prompt, job.group, job.answer, job.choices.len()) else { return };
            let job = self.waiting.pop_front().expect("it was looked at just now");
            self.queued.fetch_sub(1, Ordering::Relaxed);
            let lead = placement.slots[0];
            let cached = match placement.reused {
                Some((source, length)) if source == lead => {
                    self.clear(lead, length);
                    length
                }
                Some((source, length)) => {
                    self.clear(lead, 0);
                    self.copy(source, lead, length);
                    length
                }
                None => {
                    self.clear(lead, 0);
                    0
                }
            };
            for &slot in placement.slots[1..].iter().chain(&placement.evicted) {
                self.clear(slot, 0);
            }
            let usage = Usage {
                prompt_tokens: size(job.prompt.len()),
                cached_tokens: size(cached),
                completion_tokens: 0,
                seed: job.seed,
            };
            let next = vec![None; job.choices.len()];
            // There is room for it, as for everything that follows.
            let _ = job.events.try_send(Event::Used(usage));
            self.running.push(Running { job, slots: placement.slots, done: cached, next, usage });
        }
    }

    /// Writes the next step's tokens: one for each choice under way, then pieces of prompts in the order in which they came.
    fn fill(&self, batch: &mut LlamaBatch<'_>) -> Plan {
        batch.clear();
        let mut plan = Plan::default();
        for (index, running) in self.running.iter().enumerate() {
            for (choice, next) in running.next.iter().enumerate() {
                let Some(token) = next else { continue };
                let slot = running.slots[choice];
                plan.rows.push((Row::Choice(index, choice), batch.n_tokens()));
                let token = self.shown(&mut plan, *token);
                add(batch, token, self.slots.length(slot), slot, true);
            }
        }
        let share = if plan.rows.is_empty() { BATCH } else { PROMPT_SHARE };
        let mut room = share.min(BATCH.saturating_sub(plan.rows.len()));
        for (index, running) in self.running.iter().enumerate().filter(|(_, running)| !running.is_writing()) {
            let rest = &running.job.prompt[running.done..];
            let taken = rest.len().min(room);
            for (offset, token) in rest[..taken].iter().enumerate() {
                let is_last = offset + 1 == rest.len();
                if is_last {
                    plan.rows.push((Row::Prompt(index), batch.n_tokens()));
                }
                let token = self.shown(&mut plan, *token);
                add(batch, token, running.done + offset, running.slots[0], is_last);
            }
            if taken > 0 {
                plan.pieces.push((index, taken));
            }
            room -= taken;
        }
        plan
    }

    /// What llama.cpp is told that a token is: the row of the sheet that holds the token's own, if there is a sheet.
    fn shown(&self, plan: &mut Plan, token: LlamaToken) -> LlamaToken {
        if self.rows.is_none() {
            return token;
        }
        plan.hidden.push(token.0.cast_unsigned());
        LlamaToken(size(plan.hidden.len() - 1).cast_signed())
    }

    /// Reads the step's outcome.
    fn read(&mut self, plan: &Plan) {
        for &(index, taken) in &plan.pieces {
            let running = &mut self.running[index];
            let piece = &running.job.prompt[running.done..running.done + taken];
            let worked: Vec<i32> = piece.iter().map(|token| token.0).collect();
            self.slots.extend(running.slots[0], &worked);
            running.done += taken;
        }
        let mut complete = Vec::new();
        for (row, position) in &plan.rows {
            let (index, first, last) = match *row {
                Row::Choice(index, choice) => {
                    let running = &self.running[index];
                    let token = running.next[choice].expect("its token was worked through");
                    self.slots.extend(running.slots[choice], &[token.0]);
                    (index, choice, choice + 1)
                }
                Row::Prompt(index) => {
                    self.share_prompt(index);
                    (index, 0, self.running[index].job.choices.len())
                }
            };
            let running = &mut self.running[index];
            let produced = running.usage.completion_tokens;
            let mut events = Vec::new();
            if matches!(row, Row::Prompt(_))
                && let Some(text) = running.job.echo.take()
            {
                let echoes = 0..size(running.job.choices.len());
                events.extend(echoes.map(|choice| Event::Text { choice, text: text.clone(), logprobs: Vec::new() }));
            }
            let logits = self.context.get_logits_ith(*position);
            for choice in first..last {
                running.next[choice] = match running.job.choices[choice].step(&self.vocabulary, logits, &mut events) {
                    Step::Next(token) => Some(token),
                    Step::Finished => None,
                };
                running.usage.completion_tokens = running.job.choices.iter().map(|choice| choice.produced).sum();
            }
            let used = (running.usage.completion_tokens > produced).then_some(Event::Used(running.usage));
            if running.next.iter().all(Option::is_none) {
                events.push(Event::Done(running.usage));
                complete.push(index);
            }
            for event in used.into_iter().chain(events) {
                // There is room for all of them; whoever has gone away is found before the next step.
                let _ = running.job.events.try_send(event);
            }
        }
        complete.sort_unstable();
        for index in complete.into_iter().rev() {
            self.end(index);
        }
    }

    /// Gives the keys and values of a prompt to all choices.
    fn share_prompt(&mut self, index: usize) {
        let running = &self.running[index];
        let (lead, others) = (running.slots[0], running.slots[1..].to_vec());
        let prompt: Vec<i32> = running.job.prompt.iter().map(|token| token.0).collect();
        for slot in others {
            self.copy(lead, slot, prompt.len());
            self.slots.extend(slot, &prompt);
        }
    }

    /// A request is over: its slots are free.
    fn end(&mut self, index: usize) {
        let running = self.running.remove(index);
        for slot in running.slots {
            if !self.slots.release(slot) {
                self.clear(slot, 0);
            }
        }
    }

    /// The step failed: every request that runs fails, and nothing of the cache is kept.
    fn fail(&mut self, reason: &str) {
        for running in self.running.drain(..) {
            let error = InferenceError::Engine(reason.to_owned());
            let _ = running.job.events.try_send(Event::Failed(error));
        }
        self.slots.forget();
        self.context.clear_kv_cache();
    }

    fn clear(&mut self, slot: usize, from: usize) {
        let cleared = self.context.clear_kv_cache_seq(Some(size(slot)), Some(size(from)), None);
        if !matches!(cleared, Ok(true)) {
            tracing::error!("a slot could not be cleared from {from}");
        }
    }

    fn copy(&mut self, from: usize, to: usize, length: usize) {
        let (from, to) = (size(from).cast_signed(), size(to).cast_signed());
        if self.context.copy_kv_cache_seq(from, to, Some(0), Some(size(length))).is_err() {
            tracing::error!("a slot could not be copied");
        }
    }
}

fn add(batch: &mut LlamaBatch<'_>, token: LlamaToken, position: usize, slot: usize, is_read: bool) {
    let (position, slot) = (size(position).cast_signed(), size(slot).cast_signed());
    batch.add(token, position, &[slot], is_read).expect("a step is filled up to its bound");
}

/// Counts here are bounded by the context.
fn size(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
