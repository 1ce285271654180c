//! Counters in Prometheus' text format. Their number is fixed; nothing that a client sends becomes a label.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

use http::StatusCode;
use tacit_api::{Node, Operation};

const CLASSES: [&str; 4] = ["2xx", "4xx", "5xx", "other"];

/// Counters of one gateway.
pub(crate) struct Metrics {
    answers: Vec<(Operation, [AtomicU64; 4])>,
    pub(crate) forwarded_bytes: AtomicU64,
    pub(crate) unreachable: AtomicU64,
    pub(crate) limited: AtomicU64,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            answers: Operation::of(Node::Gateway).map(|operation| (operation, Default::default())).collect(),
            forwarded_bytes: AtomicU64::new(0),
            unreachable: AtomicU64::new(0),
            limited: AtomicU64::new(0),
        }
    }

    pub(crate) fn answered(&self, operation: Operation, status: StatusCode) {
        let class = match status.as_u16() / 100 {
            2 => 0,
            4 => 1,
            5 => 2,
            _ => 3,
        };
        if let Some((_, counters)) = self.answers.iter().find(|(own, _)| *own == operation) {
            counters[class].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The text; workers and blob bytes are what is true now.
    pub(crate) fn render(&self, workers: usize, blob_bytes: u64) -> String {
        let mut text = String::from(
            "# HELP tacit_gateway_answers_total Answers by operation and class of status.\n# TYPE tacit_gateway_answers_total counter\n",
        );
        for (operation, counters) in &self.answers {
            for (class, counter) in CLASSES.iter().zip(counters) {
                let count = counter.load(Ordering::Relaxed);
                if count > 0 {
                    let name = operation.name();
                    let _ = writeln!(
                        text,
                        "tacit_gateway_answers_total{{operation=\"{name}\",status=\"{class}\"}} {count}"
                    );
                }
            }
        }
        let mut single = |name: &str, kind: &str, help: &str, value: u64| {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        };
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        single(
            "tacit_gateway_forwarded_bytes_total",
            "counter",
            "Sealed bytes sent to workers.",
            load(&self.forwarded_bytes),
        );
        single(
            "tacit_gateway_unreachable_total",
            "counter",
            "Workers that could not be reached.",
            load(&self.unreachable),
        );
        single("tacit_gateway_limited_total", "counter", "Requests above a client's share.", load(&self.limited));
        single("tacit_gateway_workers", "gauge", "Live certified workers.", workers as u64);
        single("tacit_gateway_blob_bytes", "gauge", "Bytes of all blobs.", blob_bytes);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_class() {
        let metrics = Metrics::new();
        metrics.answered(Operation::Workers, StatusCode::OK);
        metrics.answered(Operation::Workers, StatusCode::NOT_FOUND);
        metrics.answered(Operation::Workers, StatusCode::NOT_FOUND);
        let text = metrics.render(2, 5);
        assert!(text.contains("{operation=\"readWorkers\",status=\"4xx\"} 2\n"), "{text}");
        assert!(text.contains("\ntacit_gateway_workers 2\n"), "{text}");
    }
}
