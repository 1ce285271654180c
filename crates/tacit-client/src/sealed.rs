//! The seal around a call: made for one worker, opened when it comes back, and the receipt inside verified.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use rand::Rng as _;
use tacit_api::{Problem, calls, headers};
use tacit_envelope::{KeyConfig, Limits, Request, Response, ResponseOpener, seal_request};
use tacit_types::{
    CallId, Digest, FunctionId, UnixTime,
    eip712::{CallAuthorization, Outcome, Receipt, keccak},
    formats,
};
use tacit_verify::VerifiedReceipt;

use crate::{CallRequest, Candidate, Client, ClientError, Entry, http::refused, now};

pub(crate) fn random_digest() -> Digest {
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

#[cfg(test)]
mod tests {
    use super::*;
    use tacit_api::ProblemKind;
    use tacit_envelope::{Kem, KeyPair};

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
}
