//! What a client remembers of its ways into the network: which were silent, and how long an answer takes.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream::FuturesUnordered};

use crate::{ClientError, Entry};

/// Ways that are asked at the same time: one, and one more when it is overdue.
pub(crate) const AT_ONCE: usize = 2;
/// How long a way that was silent is tried last.
const SUSPICION: Duration = Duration::from_secs(60);
/// A way is silent if it takes longer than twice what the answer took another way, and this.
const MARGIN: Duration = Duration::from_millis(200);
/// When the answer to a call is overdue as long as nothing is known.
const CALLS: Duration = Duration::from_secs(1);
/// The same of a look-up, which runs no function.
const LOOKUPS: Duration = Duration::from_millis(500);

/// The ways into the network, and what is remembered of them.
pub(crate) struct Ways {
    entries: Vec<Entry>,
    suspected: Mutex<Vec<Option<Instant>>>,
    /// How long calls take.
    pub(crate) calls: Pace,
    /// How long look-ups take.
    pub(crate) lookups: Pace,
}

/// Something that was sent one way and has no answer yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Index of the way.
    pub(crate) way: usize,
    /// Place in the rendezvous order of the worker that it goes to.
    pub(crate) rank: usize,
    pub(crate) at: Instant,
}

impl Ways {
    pub(crate) fn new(entries: Vec<Entry>) -> Self {
        let suspected = Mutex::new(vec![None; entries.len()]);
        Self { entries, suspected, calls: Pace::new(CALLS), lookups: Pace::new(LOOKUPS) }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Indices of all ways in the order in which to try them: as given, those that were silent last.
    pub(crate) fn order(&self) -> Vec<usize> {
        let (suspected, now) = (self.suspected(), Instant::now());
        let mut order: Vec<usize> = (0..self.entries.len()).collect();
        order.sort_by_key(|way| suspected[*way].filter(|until| *until > now));
        order
    }

    /// Takes note of an answer, and of the ways that were asked for the same and are silent.
    pub(crate) fn answered(&self, pace: &Pace, answered: Sent, others: &[Sent]) {
        let took = answered.at.elapsed();
        pace.record(took);
        let silent = |other: &&Sent| other.rank == answered.rank && other.at.elapsed() > took * 2 + MARGIN;
        let mut suspected = self.suspected();
        suspected[answered.way] = None;
        for other in others.iter().filter(silent) {
            suspected[other.way] = Some(Instant::now() + SUSPICION);
        }
    }

    /// Takes note of a failure: who cannot be reached, or passes on what is not an answer, is tried last for a while.
    pub(crate) fn failed(&self, way: usize, error: &ClientError) {
        let blamed =
            matches!(error, ClientError::Unreachable { .. } | ClientError::BadAnswer { .. } | ClientError::Tampered(_));
        if blamed {
            self.suspected()[way] = Some(Instant::now() + SUSPICION);
        }
    }

    /// Looks something up: one way after the other is asked, the next one as soon as one fails or is overdue, and the first good
    /// answer counts. `which` chooses the ways, `longest` is how long one may take.
    ///
    /// # Errors
    /// The last failure; [`ClientError::NoEntry`] if there is nobody to ask.
    pub(crate) async fn look_up<'a, T, F>(
        &'a self,
        longest: Duration,
        which: impl Fn(&Entry) -> bool,
        ask: impl Fn(&'a Entry) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let order = self.order();
        let mut waiting = order.into_iter().filter(|way| which(&self.entries[*way])).peekable();
        let mut asked = FuturesUnordered::new();
        let mut out: Vec<Sent> = Vec::with_capacity(AT_ONCE);
        let mut next = Instant::now();
        let mut last = ClientError::NoEntry;
        loop {
            tokio::select! {
                biased;
                Some((sent, answer)) = asked.next() => {
                    out.retain(|other| *other != sent);
                    match answer {
                        Ok(answer) => {
                            self.answered(&self.lookups, sent, &out);
                            return Ok(answer);
                        }
                        Err(error) => {
                            self.failed(sent.way, &error);
                            last = error;
                            next = Instant::now();
                        }
                    }
                }
                () = tokio::time::sleep_until(next.into()), if out.len() < AT_ONCE && waiting.peek().is_some() => {
                    let Some(way) = waiting.next() else { continue };
                    let sent = Sent { way, rank: 0, at: Instant::now() };
                    out.push(sent);
                    let answer = ask(&self.entries[way]);
                    asked.push(async move { (sent, answer.await) });
                    next = sent.at + self.lookups.overdue(longest / 3);
                }
                else => return Err(last),
            }
        }
    }

    fn suspected(&self) -> std::sync::MutexGuard<'_, Vec<Option<Instant>>> {
        self.suspected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long recent answers took, and so when one is overdue.
pub(crate) struct Pace {
    /// When an answer is overdue as long as nothing is known.
    unknown: Duration,
    recent: Mutex<VecDeque<Duration>>,
}

impl Pace {
    /// Answers that are remembered.
    const KEPT: usize = 64;
    /// Answers without which nothing is known yet.
    const ENOUGH: usize = 8;
    /// No answer is overdue before that.
    const SHORTEST: Duration = Duration::from_millis(500);

    fn new(unknown: Duration) -> Self {
        Self { unknown, recent: Mutex::default() }
    }

    fn record(&self, took: Duration) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == Self::KEPT {
            recent.pop_front();
        }
        recent.push_back(took);
    }

    /// How long an answer may take before it is overdue: twice what 95 of 100 recent ones needed, and never over `longest`.
    pub(crate) fn overdue(&self, longest: Duration) -> Duration {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<Duration> = recent.iter().copied().collect();
        drop(recent);
        sorted.sort_unstable();
        let usual = if sorted.len() < Self::ENOUGH {
            self.unknown
        } else {
            (sorted[(sorted.len() * 95).div_ceil(100) - 1] * 2).max(Self::SHORTEST)
        };
        usual.min(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways(count: usize) -> Ways {
        Ways::new((0..count).map(|index| Entry::gateway(&format!("http://{index}"))).collect())
    }

    fn ago(way: usize, milliseconds: u64) -> Sent {
        Sent { way, rank: 0, at: Instant::now() - Duration::from_millis(milliseconds) }
    }

    #[test]
    fn an_answer_is_overdue_after_twice_what_is_usual_within_bounds() {
        let check = |answers: &[u64], longest: u64, expected: u64| {
            let pace = Pace::new(CALLS);
            answers.iter().for_each(|took| pace.record(Duration::from_millis(*took)));
            let overdue = pace.overdue(Duration::from_millis(longest));
            assert_eq!(overdue, Duration::from_millis(expected), "{answers:?} {longest}");
        };
        check(&[], 20_000, 1_000);
        check(&[], 300, 300);
        check(&[5; 7], 20_000, 1_000);
        check(&[5; 8], 20_000, 500);
        check(&[5; 8], 400, 400);
        check(&[900; 20], 20_000, 1_800);
        check(&[9_000; 20], 10_000, 10_000);
        // One answer of a hundred that takes long does not count, one of ten does.
        let slow = |every: usize| (0..60).map(|index| if index % every == 0 { 3_000 } else { 5 }).collect::<Vec<_>>();
        check(&slow(60), 20_000, 500);
        check(&slow(10), 20_000, 6_000);
        // Only the newest count.
        let mut changed = vec![3_000; 64];
        changed.extend([5; 64]);
        check(&changed, 20_000, 500);
    }

    #[test]
    fn a_way_that_was_silent_is_tried_last_until_it_answers() {
        let ways = ways(3);
        assert_eq!(ways.order(), [0, 1, 2]);
        ways.answered(&ways.calls, ago(1, 10), &[ago(0, 1_010)]);
        assert_eq!(ways.order(), [1, 2, 0]);
        ways.failed(1, &ClientError::BadAnswer { url: String::new(), reason: String::new() });
        assert_eq!(ways.order(), [2, 0, 1]);
        ways.answered(&ways.calls, ago(0, 10), &[]);
        assert_eq!(ways.order(), [0, 2, 1]);
        ways.failed(0, &ClientError::NoKey);
        assert_eq!(ways.order(), [0, 2, 1]);
    }

    #[test]
    fn a_slow_function_makes_nobody_suspect() {
        let ways = ways(2);
        ways.answered(&ways.calls, ago(1, 9_000), &[ago(0, 10_000)]);
        assert_eq!(ways.order(), [0, 1]);
        // Nor does a worker that another way did not lead to.
        ways.answered(&ways.calls, ago(1, 10), &[Sent { rank: 1, ..ago(0, 10_000) }]);
        assert_eq!(ways.order(), [0, 1]);
    }
}
