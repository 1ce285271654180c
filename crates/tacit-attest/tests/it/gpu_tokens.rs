//! Tokens of an attestation service of our own: one named refusal per claim.

use serde_json::{Value, json};
use tacit_attest::nvidia::*;
use tacit_attest::*;

use crate::gpu_bench::*;

const TOKEN: &str = "attestation token";

/// Judges one GPU under a policy that accepts tokens.
fn judge(gpu: &Gpu<'_>, token: String, policy: &Policy) -> Result<VerifiedGpus, AttestError> {
    verify_gpus(&gpu.evidence(), &GpuCollateral::new(vec![], Some(token)), policy, &NONCE, NOW)
}

/// Good tokens after a change of the claims of the GPU, and of all.
fn with(one: impl FnOnce(&mut Value), all: impl FnOnce(&mut Value)) -> Result<VerifiedGpus, AttestError> {
    let gpu = Gpu::hopper(5);
    let mut claims = gpu_claims(&gpu, "5");
    one(&mut claims);
    let tokens = [HOPPER.token(&header(), &claims)];
    let mut overall = overall_claims(&tokens);
    all(&mut overall);
    judge(&gpu, detached(&HOPPER.token(&header(), &overall), &tokens), &HOPPER.token_policy())
}

#[track_caller]
fn claim(result: Result<VerifiedGpus, AttestError>, name: &str) {
    match result {
        Err(AttestError::Gpu(GpuError::Claim { name: found, .. })) if found == name => {}
        other => panic!("{other:?}, expected claim `{name}` refused"),
    }
}

#[test]
fn a_good_token_vouches() {
    let verified = with(|_| (), |_| ()).unwrap();
    assert_eq!(verified.voucher(), Some(Voucher::Token));
    // Several GPUs, in whatever order the service names them.
    let gpus = [Gpu::hopper(5), Gpu::hopper(6)];
    let tokens = [(1, "6"), (0, "5")].map(|(index, ueid)| HOPPER.token(&header(), &gpu_claims(&gpus[index], ueid)));
    let token = detached(&HOPPER.token(&header(), &overall_claims(&tokens)), &tokens);
    let both = GpuEvidence::new(gpus.iter().map(Gpu::item).collect()).unwrap();
    let policy = HOPPER.token_policy();
    let judged = |evidence: &GpuEvidence, token: &str| {
        verify_gpus(evidence, &GpuCollateral::new(vec![], Some(token.to_owned())), &policy, &NONCE, NOW)
    };
    assert_eq!(judged(&both, &token).unwrap().gpus().len(), 2);
    claim(judged(&gpus[0].evidence(), &token), "submods");
    // A manifest that is refused does not stop a token that holds, nor the other way round.
    let bad = GpuCollateral::new(vec![b"<a/>".to_vec()], Some(token.clone()));
    assert_eq!(verify_gpus(&both, &bad, &policy, &NONCE, NOW).unwrap().voucher(), Some(Voucher::Token));
    // One GPU twice.
    let tokens = [tokens[1].clone(), tokens[1].clone()];
    let twice = detached(&HOPPER.token(&header(), &overall_claims(&tokens)), &tokens);
    claim(judged(&both, &twice), "ueid");
}

#[test]
fn every_claim_counts() {
    let gpu = Gpu::hopper(5);
    let optional = ["jti", "x-nvidia-device-type", "x-nvidia-attestation-warning"];
    for (name, value) in gpu_claims(&gpu, "5").as_object().unwrap() {
        let missing = with(|claims| drop(claims.as_object_mut().unwrap().remove(name)), |_| ());
        if optional.contains(&name.as_str()) {
            assert!(missing.is_ok(), "{name}");
        } else {
            claim(missing, name);
        }
        // Another value of the same type, and one of another type.
        let other = match value {
            Value::Bool(value) => json!(!value),
            Value::String(text) => json!(format!("{text}x")),
            Value::Number(_) => json!("soon"),
            Value::Object(_) => json!({}),
            _ => json!("there is a fault"),
        };
        if name != "jti" {
            claim(with(|claims| claims[name] = other, |_| ()), name);
        }
        claim(with(|claims| claims[name] = json!([1]), |_| ()), name);
    }
    for (name, value) in overall_claims(&[]).as_object().unwrap() {
        let missing = with(|_| (), |claims| drop(claims.as_object_mut().unwrap().remove(name)));
        if name == "jti" {
            assert!(missing.is_ok())
        } else {
            claim(missing, name)
        }
        let other = if value.is_boolean() { json!(false) } else { json!([1]) };
        claim(with(|_| (), |claims| claims[name] = other), name);
    }
    claim(with(|claims| claims["x-nvidia-new"] = json!(true), |_| ()), "x-nvidia-new");
    claim(with(|_| (), |claims| claims["x-nvidia-new"] = json!(true)), "x-nvidia-new");
    claim(with(|claims| claims["dbgstat"] = json!("enabled"), |_| ()), "dbgstat");
    claim(with(|claims| claims["measres"] = json!("fail"), |_| ()), "measres");
    claim(with(|_| (), |claims| claims["x-nvidia-ver"] = json!("2.0")), "x-nvidia-ver");
    claim(with(|claims| claims["exp"] = json!(NOW.0 + 90_000), |_| ()), "exp");
    for name in ["x-nvidia-error-details", "x-nvidia-mismatch-measurement-records"] {
        assert!(with(|claims| claims[name] = Value::Null, |_| ()).is_ok());
        claim(with(|claims| claims[name] = json!([]), |_| ()), name);
    }
    let chain = "x-nvidia-gpu-driver-rim-cert-chain";
    for (member, value) in [
        ("x-nvidia-cert-status", json!("expired")),
        ("x-nvidia-cert-ocsp-status", json!("revoked")),
        ("x-nvidia-cert-revocation-reason", json!("certificate_hold")),
        ("more", json!(null)),
    ] {
        claim(with(|claims| claims[chain][member] = value, |_| ()), chain);
    }
}

#[test]
fn tokens_have_their_time() {
    let both = |name: &str, value: u64| {
        let one = with(|claims| claims[name] = json!(value), |_| ()).map(|_| ());
        assert_eq!(one, with(|_| (), |claims| claims[name] = json!(value)).map(|_| ()));
        one
    };
    assert_eq!(both("exp", NOW.0), Err(AttestError::Expired { what: TOKEN }));
    assert_eq!(both("exp", NOW.0 + 1), Ok(()));
    assert_eq!(both("nbf", NOW.0 + 60), Ok(()));
    assert_eq!(both("nbf", NOW.0 + 61), Err(AttestError::NotYetValid { what: TOKEN }));
    assert_eq!(both("iat", NOW.0 + 61), Err(AttestError::NotYetValid { what: TOKEN }));
}

#[test]
fn signatures_keys_and_headers() {
    let gpu = Gpu::hopper(5);
    let policy = HOPPER.token_policy();
    let tokens = [HOPPER.token(&header(), &gpu_claims(&gpu, "5"))];
    let overall = HOPPER.token(&header(), &overall_claims(&tokens));
    let good = detached(&overall, &tokens);
    assert!(judge(&gpu, good.clone(), &policy).is_ok());
    let with_header = |header: Value| {
        let tokens = [HOPPER.token(&header, &gpu_claims(&gpu, "5"))];
        judge(&gpu, detached(&HOPPER.token(&header, &overall_claims(&tokens)), &tokens), &policy)
    };
    let malformed = |result: Result<VerifiedGpus, AttestError>| {
        assert!(matches!(result, Err(AttestError::Malformed { what: TOKEN, .. })), "{result:?}");
    };
    malformed(with_header(json!({ "alg": "none", "kid": KID })));
    malformed(with_header(json!({ "alg": "HS256", "kid": KID })));
    malformed(with_header(json!({ "alg": "ES384" })));
    malformed(with_header(json!({ "alg": "ES384", "kid": KID, "typ": "JOSE" })));
    malformed(with_header(json!({ "alg": "ES384", "kid": KID, "jku": "https://example.org" })));
    assert_eq!(
        with_header(json!({ "alg": "ES384", "kid": "other" })),
        Err(GpuError::UnknownKey { kid: "other".into() }.into())
    );
    let mut other_issuer = policy.clone();
    other_issuer.gpu.as_mut().unwrap().token_keys[0].issuer = "https://example.org".into();
    claim(judge(&gpu, good.clone(), &other_issuer), "iss");
    let mut other_key = policy.clone();
    let key = &mut other_key.gpu.as_mut().unwrap().token_keys[0];
    let strange = p384::ecdsa::SigningKey::from_slice(&[8; 48]).unwrap();
    let point = strange.verifying_key().to_encoded_point(false);
    use base64::Engine as _;
    let encode =
        |bytes: Option<&p384::FieldBytes>| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes.unwrap());
    (key.x, key.y) = (encode(point.x()), encode(point.y()));
    assert_eq!(judge(&gpu, good.clone(), &other_key), Err(AttestError::BadSignature { what: TOKEN }));
    // A policy that pins no key accepts no token.
    assert_eq!(judge(&gpu, good.clone(), &HOPPER.policy(Preset::Standard)), Err(GpuError::NotVouchedFor.into()));

    malformed(judge(&gpu, detached("a.b", &tokens), &policy));
    malformed(judge(&gpu, detached("a.b.c.d", &tokens), &policy));
    malformed(judge(&gpu, detached("*.b.c", &tokens), &policy));
    malformed(judge(&gpu, good.replace("\"JWT\",", "\"CWT\","), &policy));
    malformed(judge(&gpu, good.replacen("{\"GPU-0\"", "{\"GPU-0\":\"x\",\"GPU-0\"", 1), &policy));
    // A token that came with another overall token.
    let mut claims = gpu_claims(&gpu, "5");
    claims["jti"] = json!("2");
    claim(judge(&gpu, detached(&overall, &[HOPPER.token(&header(), &claims)]), &policy), "submods");
    let named = good.replacen("{\"GPU-0\"", "{\"GPU-1\"", 1);
    claim(judge(&gpu, named, &policy), "submods");
    assert!(matches!(judge(&gpu, " ".repeat(MAX_TOKEN + 1), &policy), Err(AttestError::Oversized { what: TOKEN, .. })));
}

#[test]
fn no_byte_of_a_token_is_free() {
    let gpu = Gpu::hopper(5);
    let tokens = [HOPPER.token(&header(), &gpu_claims(&gpu, "5"))];
    let overall = HOPPER.token(&header(), &overall_claims(&tokens));
    let policy = HOPPER.token_policy();
    let sweep = sweep::flip_each("overall token", overall.as_bytes(), |changed| {
        String::from_utf8(changed).is_ok_and(|changed| judge(&gpu, detached(&changed, &tokens), &policy).is_err())
    });
    println!("overall token: {} bytes changed one at a time, {} refused", sweep.tried, sweep.refused);
    assert_eq!((sweep.tried, sweep.accepted), (overall.len(), vec![]));
}
