//! Requests of contracts: read where they are final, run once, delivered.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use bytes::Bytes;
use tacit_ledger::{At, ContractRequest, Cursor, LedgerError, RequestStatus};
use tacit_types::{
    Address, CallId, UnixTime,
    eip712::{Kind, Outcome},
    manifest::{Manifest, MethodKind, is_home_chain},
};

use crate::{
    answer::Answer, calls::Calls, commands::Work, execute::Admitted, outcome::Request, time::now, turns::Turns,
};

/// How often the chain is looked at.
const PERIOD: Duration = Duration::from_millis(500);
/// Blocks that are read at once.
const SPAN: u64 = 2_000;
/// Requests that wait at the same time; more stay unread on the chain.
const MOST_WAITING: usize = 4_096;
/// Seconds between two tries of one request.
const RETRY: u64 = 5;
/// Tries of one request by this worker.
const TRIES: u32 = 20;
/// Seconds after a request's deadline for which its outcome is kept.
const KEEP_AFTER: u64 = 86_400;

struct Waiting {
    request: ContractRequest,
    next: UnixTime,
    tries: u32,
}

/// Answers requests of contracts.
pub(crate) struct ChainRequests {
    calls: Calls,
    /// Where the first block is kept that may hold an unanswered request.
    file: PathBuf,
    cursor: Cursor,
    waiting: BTreeMap<CallId, Waiting>,
    turns: Turns,
    saved: u64,
}

impl ChainRequests {
    pub fn new(calls: Calls, file: PathBuf) -> Self {
        let saved = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let cursor = Cursor::from_block(saved);
        let turns = Turns::new(calls.context.keys.address);
        Self { calls, file, cursor, waiting: BTreeMap::new(), turns, saved }
    }

    /// Answers requests for ever. Nothing here is trusted: the contract checks every answer.
    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut reachable = true;
        loop {
            ticks.tick().await;
            if let Err(error) = self.step().await {
                if reachable {
                    tracing::warn!(%error, "requests of contracts cannot be read; functions that are held are still served");
                }
                reachable = false;
            } else {
                reachable = true;
            }
        }
    }

    async fn step(&mut self) -> Result<(), LedgerError> {
        if self.calls.context.certificates.newest(now()).is_none() {
            return Ok(());
        }
        self.read().await?;
        if !self.waiting.is_empty() {
            self.turns.read(&self.calls.context.ledger).await?;
            self.answer_due().await?;
        }
        self.save();
        Ok(())
    }

    async fn read(&mut self) -> Result<(), LedgerError> {
        if self.waiting.len() >= MOST_WAITING {
            return Ok(());
        }
        let ledger = &self.calls.context.ledger;
        let page = match ledger.requests(&self.cursor, SPAN).await {
            Ok(page) => page,
            Err(LedgerError::Reorganised { number }) => {
                tracing::warn!(number, "the chain replaced blocks that were final; requests are read again from there");
                self.cursor = Cursor::from_block(number.saturating_sub(1));
                self.waiting.clear();
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if let Some(block) = page.replaced_from {
            self.waiting.retain(|_, waiting| waiting.request.block < block);
        }
        self.cursor = page.cursor;
        for request in page.requests {
            if request.arguments.deadline > now() {
                self.waiting.insert(request.id, Waiting { request, next: UnixTime(0), tries: 0 });
            }
        }
        Ok(())
    }

    async fn answer_due(&mut self) -> Result<(), LedgerError> {
        let time = now();
        self.waiting.retain(|_, waiting| waiting.request.arguments.deadline > time && waiting.tries < TRIES);
        let due: Vec<CallId> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.next <= time)
            .filter(|(_, waiting)| {
                let turn = self.turns.wait(waiting.request.arguments.function_id);
                waiting.request.created_at.plus(turn) <= time
            })
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let Some(waiting) = self.waiting.get_mut(&id) else { continue };
            waiting.tries += 1;
            waiting.next = now().plus(RETRY);
            let request = waiting.request.clone();
            let status = self.calls.context.ledger.request_status(id, At::Latest).await?;
            if status != RequestStatus::Open || self.serve(&request).await {
                self.waiting.remove(&id);
            }
        }
        Ok(())
    }

    /// Runs and delivers one request. True when nothing is left to do for it.
    async fn serve(&self, request: &ContractRequest) -> bool {
        let id = request.id;
        let arguments = &request.arguments;
        let held = match self.calls.functions.obtain(arguments.function_id).await {
            Ok(held) => held,
            Err(problem) => {
                tracing::debug!(%id, %problem, "a contract's request is left to another worker");
                return false;
            }
        };
        let manifest = &held.version.code.manifest;
        if !arguments.code_hash.is_zero() && arguments.code_hash != held.version.code_hash {
            tracing::info!(%id, "a contract asked for another version");
            return true;
        }
        if !is_allowed(manifest, &self.calls.context.deployment.genesis.network, arguments.consumer, &arguments.method)
        {
            tracing::info!(%id, method = %arguments.method, "the manifest has no trigger for this method and consumer");
            return true;
        }
        if now() < request.created_at {
            return false;
        }
        let method = manifest.method(&arguments.method);
        let admitted = Admitted {
            request: Request {
                function: arguments.function_id,
                method: arguments.method.clone(),
                body: Bytes::from(arguments.input.clone()),
                caller: Some(arguments.consumer),
                call_id: id,
            },
            method: tacit_types::manifest::Method { kind: MethodKind::Command, ..method },
            kind: Kind::ChainRequest,
            deadline: arguments.deadline,
            trigger: Some("chain:local".to_owned()),
            version: held.number,
        };
        let keep_until = arguments.deadline.plus(KEEP_AFTER);
        match self.calls.command(&held, admitted, Work::Run, 0, keep_until).await {
            Ok(answer) if answer.outcome == Outcome::Ok => self.deliver(id, &answer).await,
            Ok(answer) => {
                tracing::info!(%id, outcome = ?answer.outcome, "a contract's request failed and stays open");
                false
            }
            Err(problem) => {
                tracing::info!(%id, %problem, "a contract's request was not answered");
                false
            }
        }
    }

    /// Delivers an answer, with the acknowledgement where the consumer asks for it.
    async fn deliver(&self, id: CallId, answer: &Answer) -> bool {
        let writer = &self.calls.context.writer;
        let plain = writer.fulfil(id, &answer.response, &answer.receipt, &answer.signature, None).await;
        let delivered = match (plain, &answer.acknowledgement) {
            (Err(error), Some(ack))
                if error.refusal().is_some_and(|refusal| refusal.name == "AcknowledgementNeeded") =>
            {
                writer.fulfil(id, &answer.response, &answer.receipt, &answer.signature, Some(ack)).await
            }
            (result, _) => result,
        };
        match delivered {
            Ok(delivery) => {
                self.calls.context.metrics.chain_requests_total.add(1);
                tracing::info!(%id, gas = delivery.outcome.gas, called_back = ?delivery.called_back, "a contract's request is answered");
                true
            }
            Err(error) => {
                tracing::warn!(%id, %error, "an answer could not be delivered");
                // Somebody else delivered it, or the deadline passed.
                error.refusal().is_some_and(|refusal| matches!(refusal.name.as_str(), "WrongStatus" | "DeadlinePassed"))
            }
        }
    }

    /// Keeps the first block that may hold an unanswered request.
    fn save(&mut self) {
        let oldest = self.waiting.values().map(|waiting| waiting.request.block).min();
        let first = oldest.map_or(self.cursor.next, |oldest| oldest.min(self.cursor.next));
        if first != self.saved {
            let staged = self.file.with_extension("new");
            let written =
                std::fs::write(&staged, first.to_string()).and_then(|()| std::fs::rename(&staged, &self.file));
            match written {
                Ok(()) => self.saved = first,
                Err(error) => tracing::warn!(%error, "the place in the chain cannot be kept"),
            }
        }
    }
}

/// Whether a manifest has a trigger for this consumer and method on the home chain.
fn is_allowed(manifest: &Manifest, network: &str, consumer: Address, method: &str) -> bool {
    manifest.trigger.iter().any(|trigger| {
        is_home_chain(&trigger.chain, network) && trigger.consumer.includes(consumer) && trigger.method == method
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_manifest_names_is_answered() {
        let text = |consumer: &str| {
            format!(
                "[function]\nname = \"a\"\n[[trigger]]\nchain = \"local\"\nconsumer = {consumer}\nmethod = \"answer\"\n"
            )
        };
        let one = Address::from([1; 20]);
        let check = |consumer: &str, from, method, expected| {
            let manifest = Manifest::from_toml(&text(consumer)).unwrap();
            assert_eq!(is_allowed(&manifest, "net-sim", from, method), expected, "{consumer} {method}");
        };
        check("\"any\"", one, "answer", true);
        check("\"any\"", one, "other", false);
        check("\"0x0101010101010101010101010101010101010101\"", one, "answer", true);
        check("\"0x0202020202020202020202020202020202020202\"", one, "answer", false);
        let elsewhere = Manifest::from_toml(&text("\"any\"").replace("local", "other-chain")).unwrap();
        assert!(!is_allowed(&elsewhere, "net-sim", one, "answer"));
    }
}
