//! Sealed calls: seal to a verified worker, send, open, verify; and again elsewhere where that cannot run anything twice.

use std::time::{Duration, Instant};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use rand::Rng as _;
use tacit_api::{CallKind, Problem, ProblemKind, calls, headers, limits};
use tacit_envelope::{KeyConfig, Limits, Request, Response, ResponseOpener, seal_request};
use tacit_types::{
    CallId, CodeHash, Digest, FunctionId, UnixTime,
    eip712::{CallAuthorization, Outcome, Receipt, keccak},
    formats,
};
use tacit_verify::VerifiedReceipt;

use crate::{Candidate, Client, ClientError, Entry, http::refused, now};

/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(800);
const FIRST_PAUSE: Duration = Duration::from_millis(25);
/// Shortest time after which a silent node is given up for another.
const SHORTEST_TRY: Duration = Duration::from_secs(2);
/// A node may be silent for this part of a call's patience. The same call then goes another way; its idempotency key keeps it
/// from running twice.
const TRIES: u32 = 3;

/// What to call.
#[derive(Debug, Clone)]
pub struct CallRequest {
    /// The function.
    pub function: FunctionId,
    /// The method.
    pub method: String,
    /// The body: JSON text, or bytes where the manifest says so.
    pub body: Bytes,
    /// How to run it if not as the manifest says.
    pub kind: Option<CallKind>,
    /// The same key runs once at most; a random one without.
    pub idempotency_key: String,
    /// How long the call may take, all tries together.
    pub patience: Duration,
    /// Least sequence of the state to answer from.
    pub min_sequence: Option<u64>,
    /// The code that must have run; any version of the function without.
    pub code: Option<CodeHash>,
}

impl CallRequest {
    /// A call as the manifest says, with a random idempotency key and the usual patience.
    pub fn new(function: FunctionId, method: &str, body: impl Into<Bytes>) -> Self {
        Self {
            function,
            method: method.to_owned(),
            body: body.into(),
            kind: None,
            idempotency_key: random_digest().to_string(),
            patience: limits::DEFAULT_DEADLINE,
            min_sequence: None,
            code: None,
        }
    }

    fn check(&self) -> Result<(), ClientError> {
        if !calls::is_method_name(&self.method) && self.method != calls::SECRETS_SET {
            return Err(ClientError::Request(
                "a method's name is a letter or underscore, then letters, digits and underscores",
            ));
        }
        if !calls::is_idempotency_key(&self.idempotency_key) {
            return Err(ClientError::Request("an idempotency key is 1 to 128 visible ASCII characters"));
        }
        if self.body.len() > Limits::default().body {
            return Err(ClientError::Request("the body is larger than 16 MiB"));
        }
        if self.patience > limits::MAX_DEADLINE {
            return Err(ClientError::Request("the deadline is more than 15 minutes away"));
        }
        Ok(())
    }
}

fn random_digest() -> Digest {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    bytes.into()
}

/// A call sealed to one worker, to be sent once.
pub struct PreparedCall {
    candidate: Candidate,
    sealed: Bytes,
    opener: ResponseOpener,
}

impl PreparedCall {
    /// The sealed bytes.
    pub fn sealed(&self) -> &Bytes {
        &self.sealed
    }

    /// The worker that they are sealed to.
    pub fn candidate(&self) -> &Candidate {
        &self.candidate
    }

    /// Opens what came back. The receipt in it is not verified yet: that is [`Client::verify_answer`]'s.
    ///
    /// # Errors
    /// [`ClientError::Tampered`] for bytes that the worker did not seal for this call, [`ClientError::Sealed`] for its
    /// refusal, [`ClientError::Malformed`] for what no worker answers.
    pub fn open(&self, sealed: &[u8]) -> Result<OpenedAnswer, ClientError> {
        open_answer(&self.opener, sealed)
    }
}

fn open_answer(opener: &ResponseOpener, sealed: &[u8]) -> Result<OpenedAnswer, ClientError> {
    let plain = opener.open(sealed).map_err(ClientError::Tampered)?;
    let response =
        Response::decode(&plain, &Limits::default()).map_err(|_| ClientError::Malformed("not binary HTTP"))?;
    if response.headers.value("content-type") == Some(headers::PROBLEM_MEDIA_TYPE) {
        return Err(match Problem::from_json(&response.body) {
            Ok(problem) => ClientError::Sealed(problem),
            Err(_) => ClientError::Malformed("a refusal without a reason"),
        });
    }
    let bundle =
        response.trailers.value(headers::BUNDLE).ok_or(ClientError::Malformed("an answer without a receipt"))?;
    let bundle =
        BASE64_URL_SAFE_NO_PAD.decode(bundle).map_err(|_| ClientError::Malformed("a receipt that is not base64url"))?;
    Ok(OpenedAnswer { response: response.body, bundle })
}

/// What a worker sealed for this call, not verified yet.
pub struct OpenedAnswer {
    response: Vec<u8>,
    bundle: Vec<u8>,
}

/// An answer with a receipt that holds under the client's policy and is about this call; nothing else makes one.
pub struct Answer {
    receipt: VerifiedReceipt,
    response: Vec<u8>,
    bundle: Vec<u8>,
}

impl Answer {
    /// The receipt.
    pub fn receipt(&self) -> &Receipt {
        self.receipt.receipt()
    }

    /// The verified receipt with how its time is known.
    pub fn verified(&self) -> &VerifiedReceipt {
        &self.receipt
    }

    /// How the call ended.
    pub fn outcome(&self) -> Outcome {
        self.receipt().outcome
    }

    /// The response body: what the method returned, or a [`tacit_api::CallFailure`] in JSON.
    pub fn response(&self) -> &[u8] {
        &self.response
    }

    /// The receipt bundle's bytes, to be kept.
    pub fn bundle(&self) -> &[u8] {
        &self.bundle
    }
}

impl Client {
    /// The id that a call will have.
    pub fn call_id(&self, request: &CallRequest) -> CallId {
        formats::call_id(request.function, self.caller(), &request.idempotency_key)
    }

    /// Calls: verifies the workers, seals, sends, opens and verifies, until there is an answer or the deadline passes.
    ///
    /// # Errors
    /// [`ClientError`]; unless it says that a worker refused inside the seal, the outcome is unknown, and calling again
    /// with the same idempotency key runs nothing twice.
    pub async fn call(&self, request: &CallRequest) -> Result<Answer, ClientError> {
        request.check()?;
        let entries = self.entries()?.to_vec();
        let end = Instant::now() + request.patience;
        let deadline = now().plus(request.patience.as_secs().max(1));
        let (mut pause, mut entry, mut rank, mut hints) = (FIRST_PAUSE, 0usize, 0usize, 0usize);
        loop {
            let tried = match self.workers(request.function).await {
                Ok(workers) => {
                    let candidate = workers[rank % workers.len()].clone();
                    let route = route(&entries, entry, &candidate);
                    self.try_once(request, candidate, &route, deadline, end).await
                }
                Err(error) => Err(error),
            };
            let error = match tried {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let remaining = end.saturating_duration_since(Instant::now());
            let mut wait = pause;
            match &error {
                // The word of a node that nobody vouches for ends the call only when every way in says so.
                ClientError::Lookup { problem, .. } | ClientError::Unsealed { problem, .. } if !error.is_passing() => {
                    hints += 1;
                    if hints >= entries.len() || problem.kind == ProblemKind::TooLarge {
                        return Err(error);
                    }
                    entry += 1;
                }
                _ if !error.is_passing() => return Err(error),
                ClientError::Lookup { problem, .. }
                | ClientError::Unsealed { problem, .. }
                | ClientError::Sealed(problem) => {
                    self.forget_workers(request.function);
                    match problem.kind {
                        ProblemKind::NotHolder | ProblemKind::NotCertified | ProblemKind::WorkerUnreachable => {
                            rank += 1;
                            // A way that leads to one worker only leads to no other of its kind.
                            if matches!(entries[entry % entries.len()], Entry::Worker(_)) {
                                entry += 1;
                            }
                        }
                        ProblemKind::WrongKey | ProblemKind::UnreadableSeal | ProblemKind::UnknownWorker => rank = 0,
                        _ => entry += 1,
                    }
                    if let Some(seconds) = problem.retry_after.filter(|_| problem.kind.status() == 429) {
                        wait = wait.max(Duration::from_secs(u64::from(seconds)).min(Duration::from_secs(5)));
                    }
                }
                _ => {
                    self.forget_workers(request.function);
                    entry += 1;
                }
            }
            if remaining <= wait {
                return Err(ClientError::Deadline(Some(Box::new(error))));
            }
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn try_once(
        &self,
        request: &CallRequest,
        candidate: Candidate,
        route: &Entry,
        deadline: UnixTime,
        end: Instant,
    ) -> Result<Answer, ClientError> {
        let prepared = self.prepare(request, candidate, deadline)?;
        let remaining = end.saturating_duration_since(Instant::now());
        let timeout = remaining.min((request.patience / TRIES).max(SHORTEST_TRY));
        let sealed = self.send(request.function, &prepared, route, timeout).await?;
        self.verify_answer(request, prepared.open(&sealed)?)
    }

    /// Seals a call to one worker with a fresh nonce, signed by the caller's key if there is one.
    ///
    /// # Errors
    /// [`ClientError::Seal`].
    pub fn prepare(
        &self,
        request: &CallRequest,
        candidate: Candidate,
        deadline: UnixTime,
    ) -> Result<PreparedCall, ClientError> {
        let nonce = random_digest();
        let certificate = candidate.worker.id();
        let mut inner = Request::post(headers::AUTHORITY, calls::inner_path(request.function, &request.method))
            .header(headers::NONCE, nonce.to_string())
            .header(headers::DEADLINE, deadline.0.to_string())
            .header(headers::WORKER, certificate.to_string())
            .header(headers::IDEMPOTENCY_KEY, request.idempotency_key.clone());
        if let Some(kind) = request.kind {
            inner = inner.header(headers::KIND, kind.name());
        }
        if let Some(sequence) = request.min_sequence {
            inner = inner.header(headers::MIN_SEQUENCE, sequence.to_string());
        }
        if let Some(key) = &self.caller {
            let authorization = CallAuthorization {
                function_id: request.function,
                method: keccak(request.method.as_bytes()),
                body: keccak(&request.body),
                certificate,
                nonce,
                deadline,
            };
            let signature = key.sign(authorization.digest(self.verifier.anchor().cluster()));
            inner = inner
                .header(headers::CALLER, key.address().to_string())
                .header(headers::SIGNATURE, signature.to_string());
        }
        let plain = inner.body(request.body.to_vec()).encode().map_err(ClientError::Seal)?;
        let config = KeyConfig::parse(candidate.worker.ohttp_config()).map_err(ClientError::Seal)?;
        let (sealed, opener) = seal_request(&mut rand::rng(), &config, &plain).map_err(ClientError::Seal)?;
        Ok(PreparedCall { candidate, sealed: sealed.into(), opener })
    }

    /// Sends sealed bytes and gives back sealed bytes.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`], [`ClientError::Unsealed`] or [`ClientError::BadAnswer`].
    pub async fn send(
        &self,
        function: FunctionId,
        prepared: &PreparedCall,
        route: &Entry,
        timeout: Duration,
    ) -> Result<Bytes, ClientError> {
        let url = format!("{}/f/{function}", route.url());
        let worker = prepared.candidate.address().to_string();
        let reply = self.http.post_sealed(&url, &worker, prepared.sealed.clone(), timeout).await?;
        if !reply.success {
            return Err(refused(&reply, &url));
        }
        if reply.media_type != headers::SEALED_RESPONSE {
            return Err(ClientError::BadAnswer { url, reason: "an unsealed answer".into() });
        }
        Ok(reply.bytes)
    }

    /// Verifies an opened answer: the receipt under the client's policy, and that it is about this call.
    ///
    /// # Errors
    /// [`ClientError::Receipt`] or [`ClientError::OtherCall`].
    pub fn verify_answer(&self, request: &CallRequest, opened: OpenedAnswer) -> Result<Answer, ClientError> {
        let OpenedAnswer { response, bundle } = opened;
        let receipt = self.verifier.verify_receipt(&bundle, now()).map_err(ClientError::Receipt)?;
        let found = receipt.receipt();
        if found.function_id != request.function {
            return Err(ClientError::OtherCall("another function"));
        }
        if found.call_id != self.call_id(request) {
            return Err(ClientError::OtherCall("another call"));
        }
        if request.code.is_some_and(|code| code != found.code_hash) {
            return Err(ClientError::OtherCall("another version of the code"));
        }
        let caller = self.caller().map(|address| address.into_bytes().to_vec()).unwrap_or_default();
        let openings = &receipt.bundle().openings;
        let expected = [
            (&openings.method, request.method.as_bytes(), "another method"),
            (&openings.caller, caller.as_slice(), "another caller"),
            (&openings.request, &request.body, "another request with the same idempotency key"),
            (&openings.response, &response, "another response"),
        ];
        for (opening, bytes, what) in expected {
            match opening {
                // Openings hold hex: past some size a bundle has no room for them, and nothing could be compared.
                None => return Err(ClientError::OtherCall("it does not open what was asked and answered")),
                Some(opening) if opening.bytes != bytes => return Err(ClientError::OtherCall(what)),
                Some(_) => {}
            }
        }
        Ok(Answer { receipt, response, bundle })
    }
}

/// The way for one try: gateways take sealed bytes for any worker, a worker's own entry only its own.
fn route(entries: &[Entry], turn: usize, candidate: &Candidate) -> Entry {
    match &entries[turn % entries.len()] {
        Entry::Gateway(url) => Entry::Gateway(url.clone()),
        Entry::Worker(_) => Entry::worker(&candidate.endpoint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tacit_envelope::{Kem, KeyPair};

    #[test]
    fn impossible_requests_are_refused_before_anything_is_sent() {
        let good = CallRequest::new(FunctionId::ZERO, "price", "{}");
        assert!(good.check().is_ok());
        let check = |request: CallRequest| assert!(matches!(request.check(), Err(ClientError::Request(_))));
        check(CallRequest { method: "a/b".into(), ..good.clone() });
        check(CallRequest { idempotency_key: String::new(), ..good.clone() });
        check(CallRequest { idempotency_key: "a b".into(), ..good.clone() });
        check(CallRequest { body: vec![0; (16 << 20) + 1].into(), ..good.clone() });
        check(CallRequest { patience: Duration::from_secs(901), ..good });
    }

    /// What a worker seals, as the client opens it.
    fn opened(response: Response, meddle: impl Fn(&mut Vec<u8>)) -> Result<OpenedAnswer, ClientError> {
        let worker = KeyPair::generate(&mut rand::rng(), 1, Kem::XWing);
        let (sealed, opener) = seal_request(&mut rand::rng(), &worker.config(), b"request").unwrap();
        let (_, sealer) = worker.open_request(&sealed).unwrap();
        let mut answer = sealer.seal(&mut rand::rng(), &response.encode().unwrap()).unwrap();
        meddle(&mut answer);
        open_answer(&opener, &answer)
    }

    #[test]
    fn an_answer_opens_only_as_it_was_sealed() {
        let answer = || {
            Response::new(200)
                .header("content-type", "application/json")
                .body(b"{}".to_vec())
                .trailer(headers::BUNDLE, "e30")
        };
        let whole = opened(answer(), |_| {}).unwrap();
        assert_eq!((whole.response.as_slice(), whole.bundle.as_slice()), (b"{}".as_slice(), b"{}".as_slice()));
        let check =
            |meddle: &dyn Fn(&mut Vec<u8>)| assert!(matches!(opened(answer(), meddle), Err(ClientError::Tampered(_))));
        check(&|bytes| bytes[0] ^= 1);
        check(&|bytes| bytes[20] ^= 1);
        check(&|bytes| *bytes.last_mut().unwrap() ^= 1);
        check(&|bytes| bytes.truncate(bytes.len() - 1));
        check(&|bytes| bytes.truncate(16));
        check(&|bytes| bytes.push(0));
        check(&Vec::clear);
    }

    #[test]
    fn an_answer_without_a_receipt_is_no_answer() {
        let check = |response: Response| assert!(matches!(opened(response, |_| {}), Err(ClientError::Malformed(_))));
        check(Response::new(200).body(b"{}".to_vec()));
        check(Response::new(200).trailer(headers::BUNDLE, "not base64!"));
        check(Response::new(500).header("content-type", headers::PROBLEM_MEDIA_TYPE).body(b"{}".to_vec()));
    }

    #[test]
    fn a_refusal_inside_the_seal_is_the_workers_word() {
        let problem = Problem::new(ProblemKind::Denied, "the owner only");
        let response = Response::new(403).header("content-type", headers::PROBLEM_MEDIA_TYPE).body(problem.to_json());
        match opened(response, |_| {}) {
            Err(ClientError::Sealed(found)) => assert_eq!(found, problem),
            _ => panic!("not taken as a refusal"),
        }
    }

    #[test]
    fn every_call_has_its_own_key_unless_told_otherwise() {
        let one = CallRequest::new(FunctionId::ZERO, "a", "");
        let two = CallRequest::new(FunctionId::ZERO, "a", "");
        assert_ne!(one.idempotency_key, two.idempotency_key);
        assert!(calls::is_idempotency_key(&one.idempotency_key));
    }
}
