//! Tokens of an attestation service: a detached EAT, one token over all GPUs and one for each.
//!
//! `[["JWT", <overall>], {"GPU-0": <token>, …}]`, each signed by ES384; the overall token holds SHA-256 of each other's text. The
//! claims are those of NVIDIA's version 3. A claim that is not known here is refused: it might say something bad.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tacit_types::UnixTime;

use super::device::Device;
use super::{GpuError, GpuPolicy, MAX_GPUS};
use crate::evidence::{bounded, from_json};
use crate::{AttestError, path};

/// Most bytes of a detached EAT.
pub const MAX_TOKEN: usize = 256 * 1024;

const WHAT: &str = "attestation token";
const OVERALL: &str = "the overall token";
const CLAIMS_VERSION: &str = "3.0";
/// Most seconds that a service's clock may run before the verifier's, and that a token may live.
const CLOCK_SLACK: u64 = 60;
const MAX_LIFE: u64 = 86_400;

/// Claims that must be true.
const TRUE: [&str; 17] = [
    "secboot",
    "x-nvidia-gpu-arch-check",
    "x-nvidia-gpu-attestation-report-cert-chain-fwid-match",
    "x-nvidia-gpu-attestation-report-parsed",
    "x-nvidia-gpu-attestation-report-nonce-match",
    "x-nvidia-gpu-attestation-report-signature-verified",
    "x-nvidia-gpu-driver-rim-fetched",
    "x-nvidia-gpu-driver-rim-schema-validated",
    "x-nvidia-gpu-driver-rim-signature-verified",
    "x-nvidia-gpu-driver-rim-version-match",
    "x-nvidia-gpu-driver-rim-measurements-available",
    "x-nvidia-gpu-vbios-rim-fetched",
    "x-nvidia-gpu-vbios-rim-schema-validated",
    "x-nvidia-gpu-vbios-rim-signature-verified",
    "x-nvidia-gpu-vbios-rim-version-match",
    "x-nvidia-gpu-vbios-rim-measurements-available",
    "x-nvidia-gpu-vbios-index-no-conflict",
];
/// Claims about certificate chains.
const CHAINS: [&str; 3] = [
    "x-nvidia-gpu-attestation-report-cert-chain",
    "x-nvidia-gpu-driver-rim-cert-chain",
    "x-nvidia-gpu-vbios-rim-cert-chain",
];
/// Claims that must be absent or null: they report what went wrong.
const NULL: [&str; 3] =
    ["x-nvidia-attestation-warning", "x-nvidia-error-details", "x-nvidia-mismatch-measurement-records"];
/// NVIDIA's PEN.
const OEM: &str = "5703";

/// Verifies the tokens for exactly these GPUs, which answered `nonce`.
pub(crate) fn verify(
    text: &str,
    policy: &GpuPolicy,
    devices: &[Device],
    nonce: &[u8; 32],
    now: UnixTime,
) -> Result<(), AttestError> {
    bounded(WHAT, text.len(), MAX_TOKEN)?;
    let Detached((kind, overall), tokens) = from_json(WHAT, text.as_bytes())?;
    if kind != "JWT" || tokens.0.len() > MAX_GPUS {
        return Err(malformed("not a detached EAT of at most 16 GPUs"));
    }
    let mut claims = Claims::open(OVERALL, &overall, policy, nonce, now)?;
    claims.text("sub", "NVIDIA-PLATFORM-ATTESTATION")?;
    claims.text("x-nvidia-ver", CLAIMS_VERSION)?;
    claims.truth("x-nvidia-overall-att-result")?;
    let digests = claims.take("submods")?;
    claims.end()?;
    let digests: Unique<(String, (String, String))> =
        serde_json::from_value(digests).map_err(|error| claim_error(OVERALL, "submods", &error.to_string()))?;
    if digests.0.keys().ne(tokens.0.keys()) || digests.0.len() != devices.len() {
        return Err(claim_error(OVERALL, "submods", "other GPUs than the tokens or the evidence"));
    }
    let mut unanswered: Vec<&Device> = devices.iter().collect();
    for (name, token) in &tokens.0 {
        let expected = hex::encode(Sha256::digest(token));
        let digest = digests.0.get(name).filter(|(kind, (hash, digest))| {
            kind == "DIGEST" && hash == "SHA-256" && digest.eq_ignore_ascii_case(&expected)
        });
        if digest.is_none() {
            return Err(claim_error(OVERALL, "submods", "no SHA-256 of a token that came with it"));
        }
        let mut claims = Claims::open("a GPU's token", token, policy, nonce, now)?;
        let ueid = claims.string("ueid")?;
        let index = unanswered.iter().position(|device| device.ueid == ueid);
        let index = index.ok_or_else(|| claims.error("ueid", "a GPU that is not in the evidence"))?;
        check_gpu(&mut claims, unanswered.swap_remove(index))?;
        claims.end()?;
    }
    Ok(())
}

/// What the token of one GPU must say.
fn check_gpu(claims: &mut Claims, device: &Device) -> Result<(), AttestError> {
    claims.text("measres", "success")?;
    let debug = claims.string("dbgstat")?;
    // Words of RFC 9711 that say that nobody can switch debugging on without a restart.
    let disabled = ["disabled", "disabled-since-boot", "disabled-permanently", "disabled-fully-and-permanently"]
        .contains(&&*debug);
    if !disabled {
        return Err(claims.error("dbgstat", "debugging is not disabled"));
    }
    TRUE.into_iter().try_for_each(|name| claims.truth(name))?;
    CHAINS.into_iter().try_for_each(|name| claims.chain(name))?;
    claims.text("hwmodel", &device.model)?;
    claims.text("oemid", OEM)?;
    claims.text("x-nvidia-gpu-driver-version", &device.report.driver.to_string())?;
    claims.text("x-nvidia-gpu-vbios-version", &device.report.vbios.to_string())?;
    claims.optional_text("x-nvidia-device-type", "gpu")?;
    NULL.into_iter().try_for_each(|name| claims.absent(name))
}

/// The claims of one token, taken out one by one; what is left at the end was not known.
struct Claims {
    token: &'static str,
    claims: BTreeMap<String, Value>,
}

impl Claims {
    /// Checks signature, key, issuer, dates and nonce.
    fn open(
        token: &'static str,
        text: &str,
        policy: &GpuPolicy,
        nonce: &[u8; 32],
        now: UnixTime,
    ) -> Result<Self, AttestError> {
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("a token has three parts"));
        };
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed("a part that is not base64url"));
        let header: Header = from_json(WHAT, &decode(header)?)?;
        if header.alg != "ES384" || header.typ.is_some_and(|typ| typ != "JWT") {
            return Err(malformed("a header other than that of an ES384 token"));
        }
        let key = policy.token_keys.iter().find(|key| key.kid == header.kid);
        let key = key.ok_or_else(|| GpuError::UnknownKey { kid: header.kid.chars().take(64).collect() })?;
        let verifying_key = key.verifying_key().ok_or_else(|| malformed("a pinned key that is none"))?;
        let signed = text.rsplit_once('.').map_or("", |(signed, _)| signed);
        path::check_signature(WHAT, &verifying_key, signed.as_bytes(), &decode(signature)?)?;

        let Unique(claims) = from_json(WHAT, &decode(payload)?)?;
        let mut claims = Self { token, claims };
        claims.text("iss", &key.issuer)?;
        claims.text("eat_nonce", &hex::encode(nonce))?;
        let (issued, begins, ends) = (claims.time("iat")?, claims.time("nbf")?, claims.time("exp")?);
        if issued > now.plus(CLOCK_SLACK) || begins > now.plus(CLOCK_SLACK) {
            return Err(AttestError::NotYetValid { what: WHAT });
        }
        if now >= ends {
            return Err(AttestError::Expired { what: WHAT });
        }
        if ends.0.saturating_sub(issued.0) > MAX_LIFE {
            return Err(claims.error("exp", "a token that lives longer than a day"));
        }
        // A number of the token's own, of no meaning here.
        if claims.claims.contains_key("jti") {
            claims.string("jti")?;
        }
        Ok(claims)
    }

    fn error(&self, name: &str, detail: &str) -> AttestError {
        claim_error(self.token, name, detail)
    }

    fn take(&mut self, name: &str) -> Result<Value, AttestError> {
        self.claims.remove(name).ok_or_else(|| self.error(name, "missing"))
    }

    fn string(&mut self, name: &str) -> Result<String, AttestError> {
        match self.take(name)? {
            Value::String(text) => Ok(text),
            _ => Err(self.error(name, "not a text")),
        }
    }

    fn text(&mut self, name: &str, expected: &str) -> Result<(), AttestError> {
        let found = self.string(name)?;
        if found == expected {
            Ok(())
        } else {
            let found: String = found.chars().take(80).collect();
            Err(self.error(name, &format!("`{}`, expected `{expected}`", found.escape_default())))
        }
    }

    fn optional_text(&mut self, name: &str, expected: &str) -> Result<(), AttestError> {
        if self.claims.contains_key(name) { self.text(name, expected) } else { Ok(()) }
    }

    fn truth(&mut self, name: &str) -> Result<(), AttestError> {
        if self.take(name)? == Value::Bool(true) { Ok(()) } else { Err(self.error(name, "not true")) }
    }

    fn absent(&mut self, name: &str) -> Result<(), AttestError> {
        match self.claims.remove(name) {
            None | Some(Value::Null) => Ok(()),
            Some(_) => Err(self.error(name, "the service reports a fault")),
        }
    }

    fn time(&mut self, name: &str) -> Result<UnixTime, AttestError> {
        let value = self.take(name)?;
        value.as_u64().map(UnixTime).ok_or_else(|| self.error(name, "not a time"))
    }

    /// `{"x-nvidia-cert-status":"valid","x-nvidia-cert-ocsp-status":"good",…}`.
    fn chain(&mut self, name: &str) -> Result<(), AttestError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        struct Chain {
            #[serde(rename = "x-nvidia-cert-status")]
            status: String,
            #[serde(rename = "x-nvidia-cert-ocsp-status")]
            ocsp: String,
            #[serde(rename = "x-nvidia-cert-revocation-reason")]
            reason: Option<Value>,
            #[serde(rename = "x-nvidia-cert-expiration-date")]
            _expires: Option<String>,
        }
        let value = self.take(name)?;
        let chain: Chain = serde_json::from_value(value).map_err(|error| self.error(name, &error.to_string()))?;
        if chain.status != "valid" || chain.ocsp != "good" || chain.reason.is_some_and(|reason| !reason.is_null()) {
            return Err(self.error(name, "the chain is not valid and good"));
        }
        Ok(())
    }

    /// Refuses what was not taken.
    fn end(self) -> Result<(), AttestError> {
        match self.claims.keys().next() {
            None => Ok(()),
            Some(name) => {
                let name: String = name.chars().take(80).collect();
                Err(claim_error(self.token, &name.escape_default().to_string(), "not known here"))
            }
        }
    }
}

fn claim_error(token: &str, name: &str, detail: &str) -> AttestError {
    GpuError::Claim { token: token.to_owned(), name: name.to_owned(), detail: detail.to_owned() }.into()
}

fn malformed(detail: &str) -> AttestError {
    AttestError::Malformed { what: WHAT, detail: detail.to_owned() }
}

#[derive(Deserialize)]
struct Detached((String, String), Unique<String>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: Option<String>,
}

/// A JSON object in which no name stands twice.
struct Unique<T>(BTreeMap<String, T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Unique<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique<T>, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, T>()? {
                    if members.insert(name, value).is_some() {
                        return Err(de::Error::custom("a name stands twice"));
                    }
                }
                Ok(Unique(members))
            }
        }
        deserializer.deserialize_map(Members(std::marker::PhantomData))
    }
}
