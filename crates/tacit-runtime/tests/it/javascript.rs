//! Methods, inputs, outputs, errors.

use std::sync::Arc;

use bytes::Bytes;
use tacit_runtime::{Call, Failure, LogLevel, RequestInfo};
use tacit_types::manifest::Body;

use crate::support::{MemoryHost, call, call_on, check, command, program, text};

#[test]
fn exported_functions_are_the_methods() {
    let program = program(
        "export async function a() {} export function b() {} export const c = () => 1; export const d = 1; export default async () => {};",
    );
    let mut methods = program.methods().to_vec();
    methods.sort();
    assert_eq!(methods, ["a", "b", "c", "default"]);
    assert!(program.bytecode_size() > 0);
}

#[test]
fn json_and_bytes_go_in_and_out() {
    let program = program(
        "export const echo = async (input) => input; export const size = (input) => input.length;
         export const bytes = async () => new Uint8Array([1, 2, 255]); export const buffer = () => new Uint8Array([9]).buffer;",
    );
    let check = |method: &str, format: Body, input: &[u8], expected: (Body, &[u8])| {
        let call = Call { format, input: Bytes::copy_from_slice(input), ..command(method, "") };
        let output = crate::support::call(&program, call).result.unwrap();
        assert_eq!((output.format, &output.body[..]), expected);
    };
    check("echo", Body::Json, br#"{"a":[1,"\u00e9",null]}"#, (Body::Json, "{\"a\":[1,\"é\",null]}".as_bytes()));
    check("echo", Body::Bytes, &[0, 255], (Body::Bytes, &[0, 255]));
    check("size", Body::Bytes, &[0; 1000], (Body::Json, b"1000"));
    check("bytes", Body::Json, b"null", (Body::Bytes, &[1, 2, 255]));
    check("buffer", Body::Json, b"null", (Body::Bytes, &[9]));
}

#[test]
fn thrown_errors_carry_name_message_and_frames() {
    let program = program(
        "class Refused extends Error { name = 'Refused' }\nfunction deep() { throw new Refused('no'); }\nexport async function main() {\n  deep();\n}\nexport async function odd() { throw 'text'; }\nexport async function odder() { throw { a: 1 }; }\nexport async function late() { await null; null.x; }",
    );
    match call(&program, command("main", "null")).result {
        Err(Failure::Thrown { name, message, stack }) => {
            assert_eq!((name.as_str(), message.as_str()), ("Refused", "no"));
            assert!(stack.contains("at deep (main.js:2:") && stack.contains("at main (main.js:4:"), "{stack}");
        }
        other => panic!("{other:?}"),
    }
    let thrown = |method: &str| match call(&program, command(method, "null")).result {
        Err(Failure::Thrown { name, message, .. }) => (name, message),
        other => panic!("{other:?}"),
    };
    assert_eq!(thrown("odd"), ("Thrown".into(), "text".into()));
    assert_eq!(thrown("odder"), ("Thrown".into(), "{\"a\":1}".into()));
    assert_eq!(thrown("late").0, "TypeError");
}

#[test]
fn console_lines_are_kept_in_order() {
    let program = program(
        "export async function main() { console.log('a', 1, { b: [true, null] }); console.error(new Map([['k', 'v']])); console.warn('%s is %d', 'x', 3); console.debug(); }",
    );
    let outcome = call(&program, command("main", "null"));
    let lines: Vec<(LogLevel, &str)> = outcome.logs.iter().map(|entry| (entry.level, entry.message.as_str())).collect();
    assert_eq!(
        lines,
        [
            (LogLevel::Info, "a 1 { b: [ true, null ] }"),
            (LogLevel::Error, "Map(1) { 'k' => 'v' }"),
            (LogLevel::Warn, "x is 3"),
            (LogLevel::Debug, ""),
        ]
    );
}

#[test]
fn logs_of_a_failed_call_are_kept() {
    let program = program("export async function main() { console.log('before'); throw new Error('after'); }");
    assert_eq!(call(&program, command("main", "null")).logs[0].message, "before");
}

#[test]
fn a_method_sees_its_secrets_and_its_request() {
    let program = program(
        "import { secrets, request } from 'tacit'; export async function main() { return [secrets.get('KEY'), secrets.get('NONE'), { ...request }]; }",
    );
    let host = MemoryHost { secrets: [("KEY".to_owned(), "s3cret".to_owned())].into(), ..MemoryHost::default() };
    let request = RequestInfo {
        caller: Some("0xabc".into()),
        call_id: "0x01".into(),
        method: "main".into(),
        deadline: 5_000_000,
        trigger: None,
        version: 3,
    };
    let outcome = call_on(&program, Call { request, ..command("main", "null") }, Arc::new(host));
    assert_eq!(
        text(&outcome),
        r#"["s3cret",null,{"caller":"0xabc","callId":"0x01","method":"main","deadline":5000,"trigger":null,"version":3}]"#
    );
}

#[test]
fn timers_run_in_order_and_can_be_cleared() {
    check(
        "const seen = []; const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
         setTimeout(() => seen.push('b'), 20); setTimeout(() => seen.push('a'), 5); const never = setTimeout(() => seen.push('never'), 1); clearTimeout(never);
         let n = 0; const every = setInterval(() => { seen.push('i'); if (++n === 2) clearInterval(every); }, 30);
         queueMicrotask(() => seen.push('micro')); await wait(100); return seen;",
        r#"["micro","a","b","i","i"]"#,
    );
}

#[test]
fn nothing_is_left_between_calls() {
    let program = program(
        "let count = 0; export async function main() { globalThis.seen = (globalThis.seen ?? 0) + 1; return [++count, globalThis.seen]; }",
    );
    for _ in 0..3 {
        assert_eq!(text(&call(&program, command("main", "null"))), "[1,1]");
    }
}

#[test]
fn the_engines_inside_is_out_of_reach() {
    check(
        "return ['native', 'web', '__tacit'].map((name) => typeof globalThis[name]);",
        r#"["undefined","undefined","undefined"]"#,
    );
    check("return Object.keys(globalThis);", "[]");
    check("try { state.get = 1 } catch (error) { return error.name }", "\"TypeError\"");
}

#[test]
fn what_is_debugged_shows_no_secret() {
    let program = program(
        "import { state } from 'tacit'; export async function main(input) { console.log(input); await state.set(input, input); return input; }",
    );
    let call = Call { request: RequestInfo::default(), ..command("main", "\"s3cret\"") };
    let shown = format!("{call:?}");
    let outcome = crate::support::call(&program, call);
    assert!(outcome.result.is_ok() && outcome.logs.len() == 1 && outcome.writes.len() == 1);
    assert!(!format!("{shown} {outcome:?}").contains("s3cret"), "{shown} {outcome:?}");
}
