//! Models from the author's side.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tacit_runtime::{Call, CallOutcome, Clock, Effect, Element, Limit, Tensor, run_digest};

use crate::support::{MemoryHost, RECEIPT, call_on, command, expect_limit, program, text};

fn run_as(call: Call, body: &str, host: &Arc<MemoryHost>) -> CallOutcome {
    let program = program(&format!("import {{ model }} from 'tacit'; export async function main() {{ {body} }}"));
    call_on(&program, call, host.clone())
}

fn run(body: &str, host: &Arc<MemoryHost>) -> CallOutcome {
    run_as(command("main", "null"), body, host)
}

/// Runs what must throw, and gives what was thrown.
fn thrown(call: Call, body: &str) -> String {
    let body =
        format!("try {{ {body} }} catch (error) {{ return [error.name, error.code, error.message].join('|'); }}");
    text(&run_as(call, &body, &Arc::default()))
}

fn deterministic() -> Call {
    Call { clock: Clock::Fixed(0), ..command("main", "null") }
}

#[test]
fn each_task_answers_with_its_receipt_and_is_an_effect() {
    let outcome = run(
        "const chat = await model.chat({ model: 'small', say: 'a' });
         const complete = await model.complete({ model: 'small', say: 'b' });
         const embed = await model.embed({ model: 'small', say: 'c' });
         return [chat.task, complete.task, embed.task, embed.said, chat.receipt.receipt_id];",
        &Arc::default(),
    );
    assert_eq!(text(&outcome), r#"["Chat","Complete","Embed","c","rcpt_1"]"#);
    let effect = Effect::Inference { receipt: Sha256::digest(RECEIPT).into(), model: [3; 32] };
    assert_eq!(outcome.effects, [effect.clone(), effect.clone(), effect]);
}

#[test]
fn answers_are_awaited_side_by_side_and_can_be_given_up() {
    let host = Arc::new(MemoryHost { delay: Duration::from_millis(200), ..MemoryHost::default() });
    let started = Instant::now();
    let outcome = run(
        "const all = await Promise.all(['a', 'b', 'c', 'd'].map((say) => model.chat({ model: 'small', say })));
         return all.map((answer) => answer.said).join('');",
        &host,
    );
    assert_eq!(text(&outcome), "\"abcd\"");
    assert_eq!(host.most_open.load(Ordering::SeqCst), 4);
    assert!(started.elapsed() < Duration::from_millis(700), "four times 200 ms one after the other would be 800");
    let given_up = run(
        "const ask = model.chat({ model: 'small' }, { signal: AbortSignal.timeout(10) });
         try { await ask; } catch (error) { return error.name; }",
        &host,
    );
    assert_eq!(text(&given_up), "\"TimeoutError\"");
    assert!(given_up.effects.is_empty());
}

#[test]
fn refusals_have_names() {
    let call = || command("main", "null");
    assert_eq!(
        thrown(call(), "await model.chat({ model: 'full' });"),
        "\"ModelError|context_length_exceeded|too long\""
    );
    assert_eq!(
        thrown(call(), "await model.chat({ model: 'other' });"),
        "\"TacitError|denied|denied: the manifest does not allow it\""
    );
    assert_eq!(
        thrown(call(), "await model.run('other', {});"),
        "\"TacitError|denied|denied: the manifest does not allow it\""
    );
    assert!(thrown(call(), "await model.chat(undefined);").starts_with("\"TypeError|"));
    assert!(thrown(call(), "await model.chat({ say: 'x'.repeat(5 << 20) });").contains("at most 4194304 bytes"));
    assert!(
        thrown(deterministic(), "await model.chat({ model: 'small' });").contains("denied: a deterministic method")
    );
    let loading = "import { model } from 'tacit'; await model.run('mirror', {}); export function main() {}";
    let error = crate::support::block_on(crate::support::engine().compile_js(loading, None)).err().unwrap().to_string();
    assert!(error.contains("cannot be used while the module loads"), "{error}");
    let many = "return Promise.all(Array.from({ length: 1000 }, () => model.chat({ model: 'small' })));";
    expect_limit(&run(many, &Arc::default()), Limit::OpenFetches);
}

#[test]
fn tensors_go_and_come_unchanged_in_a_deterministic_call_too() {
    let body = "const given = {
            x1: { data: new Float32Array([1.5, -2]), shape: [2, 1] }, cd: { data: new Float64Array([3]) },
            ef: { data: new Int8Array([-4]) }, gh: { data: new Int16Array([-500]) }, ij: { data: new Int32Array([-70000]) },
            kl: { data: new BigInt64Array([-(2n ** 40n)]) }, mn: { data: new Uint8Array([9]), shape: [] },
            op: { data: new Uint16Array([65535]) }, qr: { data: new Uint32Array([2 ** 32 - 1]) },
            st: { data: new BigUint64Array([2n ** 63n]) }, uv: { data: new Uint8Array([1, 0]), type: 'boolean' },
        };
        const taken = await model.run('mirror', given);
        return Object.entries(taken).map(([name, { type, shape, data }]) => `${name} ${type} [${shape}] ${[...data]}`);";
    let (plain, fixed) = (run(body, &Arc::default()), run_as(deterministic(), body, &Arc::default()));
    let expected = [
        "vu boolean [2] 1,0",
        "ts uint64 [1] 9223372036854775808",
        "rq uint32 [1] 4294967295",
        "po uint16 [1] 65535",
        "nm uint8 [] 9",
        "lk int64 [1] -1099511627776",
        "ji int32 [1] -70000",
        "hg int16 [1] -500",
        "fe int8 [1] -4",
        "dc float64 [1] 3",
        "1x float32 [2,1] 1.5,-2",
    ];
    let said: Vec<String> = serde_json::from_str(&text(&plain)).unwrap();
    assert_eq!(said, expected);
    assert_eq!(text(&fixed), text(&plain));
    assert_eq!(fixed.effects, plain.effects);

    let one = run("return model.run('mirror', { x1: { data: new Uint8Array([7]) } }).then(() => 1);", &Arc::default());
    let tensor = |name: &str| Tensor {
        name: name.into(),
        element: Element::Uint8,
        shape: vec![1],
        data: bytes::Bytes::from_static(&[7]),
    };
    let receipt = run_digest(&[tensor("x1")], &[tensor("1x")]);
    assert_eq!(one.effects, [Effect::Inference { receipt, model: [4; 32] }]);
    // What the digest is of, written out.
    let part = |name: &[u8]| Sha256::digest([name, b"\0uint8\0\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0\x01\x07"].concat());
    let whole = [&b"tacit/run/1"[..], &part(b"x1"), &part(b"1x")].concat();
    assert_eq!(receipt, <[u8; 32]>::from(Sha256::digest(whole)));
}

#[test]
fn what_is_no_tensor_is_refused_before_the_model() {
    let refused = |body: &str, expected: &str| {
        let found = thrown(command("main", "null"), body);
        assert!(found.contains(expected), "{body}: {found}");
    };
    refused("await model.run('mirror', { a: { data: [1] } });", "TypeError|");
    refused("await model.run('mirror', { a: { data: new Float32Array(1), type: 'int32' } });", "TypeError|");
    refused("await model.run('mirror', { a: { data: new Uint8Array(1), type: 'constructor' } });", "TypeError|");
    refused("await model.run('mirror', { a: { data: new Uint8Array(1), shape: [-1] } });", "whole numbers");
    refused("await model.run('mirror', { a: { data: new Uint8Array(1), shape: [1.5] } });", "whole numbers");
    refused(
        "await model.run('mirror', { a: { data: new Uint8Array(1), shape: Array(9).fill(1) } });",
        "at most 64 tensors",
    );
    refused(
        "await model.run('mirror', { a: { data: new Uint8Array(9 << 20) }, b: { data: new Uint8Array(9 << 20) } });",
        "at most 16777216 bytes",
    );
}
