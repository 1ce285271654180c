//! Counters in Prometheus' text format.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

macro_rules! counters {
    ($($name:ident $kind:literal $help:literal;)*) => {
        /// What a worker counts.
        #[derive(Default)]
        pub(crate) struct Metrics {
            $(pub $name: Counter,)*
        }

        impl Metrics {
            /// The text that `/metrics` answers.
            pub fn render(&self) -> String {
                let mut out = String::new();
                $(
                    let name = concat!("tacit_worker_", stringify!($name));
                    let value = self.$name.0.load(Ordering::Relaxed);
                    let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {}\n{name} {value}", $help, $kind);
                )*
                out
            }
        }
    };
}

/// A number that only its owner resets.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Adds the time since `start`, in microseconds.
    pub fn since(&self, start: Instant) {
        self.add(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

counters! {
    calls_total "counter" "Calls that ended with a receipt.";
    calls_failed_total "counter" "Calls with a receipt whose outcome is not ok.";
    calls_repeated_total "counter" "Calls answered with a stored outcome.";
    calls_refused_total "counter" "Calls that ended with a problem and without a receipt.";
    commits_total "counter" "Commits appended to state logs.";
    acknowledgement_rounds_total "counter" "Rounds of acknowledgement.";
    confirmation_rounds_total "counter" "Rounds of confirmation.";
    quorum_failures_total "counter" "Rounds in which no quorum answered.";
    leases_taken_total "counter" "Leases taken over.";
    leases_lost_total "counter" "Leases lost to revocation, another worker or another version.";
    functions_held "gauge" "Functions held now.";
    publications_total "counter" "Receipts of publications that were released.";
    publications_delivered_total "counter" "Publications that this worker delivered to their contract.";
    publications_dropped_total "counter" "Publications whose contract refused them until they were given up.";
    chain_requests_total "counter" "Requests of contracts that were answered.";
    log_size "gauge" "Entries of the transparency log.";
    admissions_total "counter" "Certificates received.";
    open_microseconds_total "counter" "Time spent on opening and sealing.";
    run_microseconds_total "counter" "Time spent in sandboxes.";
    store_microseconds_total "counter" "Time spent on storing commits.";
    acknowledge_microseconds_total "counter" "Time spent waiting for acknowledgements, once per commit.";
    confirm_microseconds_total "counter" "Time spent waiting for confirmations, once per query.";
    log_microseconds_total "counter" "Time spent waiting for places in the log.";
    inferences_total "counter" "Requests that a model worked on.";
    inferences_cancelled_total "counter" "Of those, requests whose client went away.";
    prompt_tokens_total "counter" "Tokens of prompts.";
    completion_tokens_total "counter" "Tokens of answers.";
    release_microseconds_total "counter" "Time spent on signatures and bundles.";
}
