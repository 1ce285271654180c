//! Calls that are under way: the same call that arrives again meanwhile waits for the same outcome, and nothing runs twice.
//!
//! A client whose call is silent for long sends it another way as well, with the same idempotency key. Commands would run once
//! anyway, by the record of the first; a query has no record.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use tacit_api::Problem;
use tacit_types::{CallId, Digest, UnixTime, eip712::Kind};

/// What makes two arrivals the same call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Same {
    pub call_id: CallId,
    /// Digest of function, method, caller and body.
    pub request: Digest,
    pub kind: Kind,
    pub deadline: UnixTime,
    /// Least sequence of the state that is asked for.
    pub least: u64,
}

type Outcome<T> = Result<Arc<T>, Problem>;
type Run<T> = Shared<BoxFuture<'static, Outcome<T>>>;
type Runs<T> = Mutex<HashMap<Same, (u64, WeakShared<BoxFuture<'static, Outcome<T>>>)>>;

/// Calls that are under way, with what they end in. As many as the worker serves at a time.
pub(crate) struct UnderWay<T> {
    runs: Arc<Runs<T>>,
    next: AtomicU64,
}

impl<T: Send + Sync + 'static> UnderWay<T> {
    pub fn new() -> Self {
        Self { runs: Arc::default(), next: AtomicU64::new(0) }
    }

    /// Runs the call, or waits with those who run it already. It goes on as long as anybody waits for it.
    pub async fn join(&self, same: Same, run: impl Future<Output = Result<T, Problem>> + Send + 'static) -> Outcome<T> {
        self.run(same, run).await
    }

    fn run(&self, same: Same, run: impl Future<Output = Result<T, Problem>> + Send + 'static) -> Run<T> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(joined) = runs.get(&same).and_then(|(_, run)| run.upgrade()) {
            return joined;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let entry = Entry { runs: Arc::clone(&self.runs), same: same.clone(), number };
        let run = async move {
            let _entry = entry;
            run.await.map(Arc::new)
        };
        let run = run.boxed().shared();
        if let Some(weak) = run.downgrade() {
            runs.insert(same, (number, weak));
        }
        run
    }
}

/// The place of one run; taken away when it ends or nobody waits any more.
struct Entry<T> {
    runs: Arc<Runs<T>>,
    same: Same,
    number: u64,
}

impl<T> Drop for Entry<T> {
    fn drop(&mut self) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if runs.get(&self.same).is_some_and(|(number, _)| *number == self.number) {
            runs.remove(&self.same);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use tacit_api::ProblemKind;
    use tokio::sync::Notify;

    fn same(key: u8) -> Same {
        Same {
            call_id: CallId::from([key; 32]),
            request: Digest::ZERO,
            kind: Kind::Query,
            deadline: UnixTime(9),
            least: 0,
        }
    }

    #[tokio::test]
    async fn the_same_call_runs_once_while_it_is_under_way() {
        let (calls, ran, go) = (UnderWay::<usize>::new(), Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let run = || {
            let (ran, go) = (Arc::clone(&ran), Arc::clone(&go));
            async move {
                let number = ran.fetch_add(1, Ordering::SeqCst);
                go.notified().await;
                Ok(number)
            }
        };
        let mut first = calls.run(same(1), run());
        let second = calls.run(same(1), run());
        assert!((&mut first).now_or_never().is_none());
        // The one who came first goes away; the run goes on.
        drop(first);
        go.notify_one();
        assert_eq!(*second.await.unwrap(), 0);
        assert_eq!(ran.load(Ordering::SeqCst), 1);
        // It is over: the same again is another run.
        go.notify_one();
        assert_eq!(*calls.join(same(1), run()).await.unwrap(), 1);
        assert!(calls.runs.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn other_calls_run_on_their_own() {
        let calls = UnderWay::<u8>::new();
        let waiting = calls.run(same(1), std::future::pending());
        let others = [
            same(2),
            Same { request: Digest::from([1; 32]), ..same(1) },
            Same { kind: Kind::StaleQuery, ..same(1) },
            Same { deadline: UnixTime(10), ..same(1) },
            Same { least: 1, ..same(1) },
        ];
        for other in others {
            assert_eq!(*calls.join(other, async { Ok(7) }).await.unwrap(), 7);
        }
        assert!(waiting.clone().now_or_never().is_none());
        assert_eq!(calls.runs.lock().unwrap().len(), 1);
        drop(waiting);
        assert!(calls.runs.lock().unwrap().is_empty(), "nobody waits for it any more");
    }

    #[tokio::test]
    async fn a_problem_is_everybodys() {
        let calls = UnderWay::<u8>::new();
        let go = Arc::new(Notify::new());
        let told = Arc::clone(&go);
        let run = async move {
            told.notified().await;
            Err(Problem::new(ProblemKind::Overloaded, ""))
        };
        let (one, two) = (calls.run(same(1), run), calls.run(same(1), std::future::pending()));
        go.notify_one();
        let (one, two) = tokio::join!(one, two);
        assert_eq!([one.unwrap_err().kind, two.unwrap_err().kind], [ProblemKind::Overloaded; 2]);
    }
}
