//! Each limit by a real attack, in JavaScript and in Rust; and after each the engine is as good as new.

use std::time::{Duration, Instant};

use tacit_runtime::{Call, Failure, Limit, Limits};

use crate::support::{block_on, call, check, command, engine, expect_limit, limited, program, run, text};

const ATTACKS: &str = r#"
    import { state } from "tacit";
    export async function loop() { for (;;) {} }
    export async function microtasks() { for (;;) await null; }
    export async function allocate() { const kept = []; for (;;) kept.push(new Uint8Array(1 << 20)); }
    export async function strings() { const kept = []; for (;;) kept.push("x".repeat(1 << 16) + kept.length); }
    export async function recurse() { const down = (n) => 1 + down(n + 1); return down(0); }
    export async function caught() { const down = () => down(); try { down(); } catch (error) { return error.name; } }
    export async function large() { return "x".repeat(2 << 20); }
    export async function flood() { for (;;) console.log("flood flood flood flood flood flood flood"); }
    export async function ask() { for (;;) Date.now(); }
    export async function fetches() { for (let i = 0; i < 1000; i++) fetch("https://slow.example/" + i); await new Promise(() => {}); }
    export async function write() { for (let i = 0; ; i++) await state.set("key" + i, "x".repeat(100000)); }
    export async function sleep() { await new Promise((resolve) => setTimeout(resolve, 60_000)); }
    export async function never() { await new Promise(() => {}); }
    export async function regex() { return /^(a+)+$/.test("a".repeat(40) + "!"); }
    export async function good() { return "good"; }
"#;

fn small() -> Limits {
    Limits { fuel: 200_000_000, ..Limits::default() }
}

#[test]
fn every_attack_meets_its_own_limit() {
    let program = program(ATTACKS);
    let check = |method: &str, limits: Limits, limit: Limit| {
        expect_limit(&limited(&program, method, limits), limit);
        assert_eq!(text(&call(&program, command("good", "null"))), "\"good\"", "after {method}");
    };
    check("loop", small(), Limit::Fuel);
    check("microtasks", small(), Limit::Fuel);
    check("regex", small(), Limit::Fuel);
    check("allocate", Limits { memory: 32 << 20, ..Limits::default() }, Limit::Memory);
    check("strings", Limits { memory: 32 << 20, ..Limits::default() }, Limit::Memory);
    check("recurse", small(), Limit::Stack);
    check("large", Limits::default(), Limit::Response);
    check("flood", small(), Limit::LogBytes);
    check("ask", Limits { host_calls: 1000, ..small() }, Limit::HostCalls);
    check("fetches", small(), Limit::OpenFetches);
    check("write", Limits { state_bytes: 1 << 20, ..Limits::default() }, Limit::StateBytes);
    check("sleep", Limits { timeout: 50, ..small() }, Limit::Timeout);
    // Loops are cut by the clock too, long before their fuel ends.
    let started = Instant::now();
    check("loop", Limits { fuel: u64::MAX / 4, timeout: 100, ..Limits::default() }, Limit::Timeout);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn fuel_used_is_the_limit_when_it_ends_the_call() {
    let outcome = limited(&program(ATTACKS), "loop", small());
    assert_eq!(outcome.fuel_used, 200_000_000);
}

#[test]
fn deep_recursion_can_be_caught_by_the_author() {
    assert_eq!(text(&limited(&program(ATTACKS), "caught", small())), "\"RangeError\"");
}

#[test]
fn a_promise_that_nothing_settles_is_named() {
    match limited(&program(ATTACKS), "never", small()).result {
        Err(Failure::Thrown { name, .. }) => assert_eq!(name, "NeverSettled"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_mebibyte_of_nested_json_is_an_error_and_no_crash() {
    let program = program("export async function main(input) { return JSON.stringify(input).length; }");
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let depth = (1 << 20) / (open.len() + close.len());
        let input = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        let outcome = call(&program, command("main", &input));
        assert!(
            matches!(outcome.result, Err(Failure::Limit(Limit::Stack) | Failure::InvalidInput(_))),
            "{:?}",
            outcome.result
        );
    }
    assert_eq!(text(&call(&program, command("main", "[[1]]"))), "5");
}

#[test]
fn hostile_sources_end_in_errors_of_compiling() {
    let check = |source: String, expected: &str| {
        let error = block_on(engine().compile_js(&source, None)).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("for (;;) {}".into(), "load-fuel");
    check("const kept = []; for (;;) kept.push(new Uint8Array(1 << 20));".into(), "memory");
    check(format!("export const x = {}1{};", "(".repeat(300_000), ")".repeat(300_000)), "stack");
    check("export const x = ;".into(), "SyntaxError");
    check("await new Promise(() => {});".into(), "LoadError");
    check("throw new Error('at the top');".into(), "at the top");
    check("import { readFile } from 'node:fs'; readFile();".into(), "node:fs");
    check("import { state } from 'tacit'; await state.set('a', 1);".into(), "while the module loads");
    check("import { secrets } from 'tacit'; secrets.get('a');".into(), "while the module loads");
    check("await fetch('https://a.example');".into(), "while the module loads");
    check(" ".repeat((16 << 20) + 1), "at most");
}

#[test]
fn loading_has_its_own_limit_in_calls_too() {
    // Cheap when it is compiled, endless when it is called.
    let program = program(
        "if (Math.random === undefined || crypto.getRandomValues === undefined) throw 1; let calls = 0; try { calls = Math.random() } catch {} if (calls > 0) for (;;) {} export async function main() {}",
    );
    let outcome = call(&program, command("main", "null"));
    expect_limit(&outcome, Limit::LoadFuel);
    assert_eq!(outcome.fuel_used, 0);
}

#[test]
fn broken_bytecode_hurts_only_its_own_call() {
    // The engine takes no bytecode from outside; programs that were compiled stay apart from each other.
    check("globalThis.left = 1; Array.prototype.map = null; return 1;", "1");
    check("return [typeof globalThis.left, [1].map((x) => x + 1)];", "[\"undefined\",[2]]");
}

#[test]
fn unknown_methods_and_broken_input_are_named() {
    let program = program("export async function main(input) { return input; } export const value = 1;");
    let result = |method: &str, input: &str| call(&program, command(method, input)).result;
    assert_eq!(result("other", "null"), Err(Failure::NoSuchMethod("other".into())));
    assert_eq!(result("value", "null"), Err(Failure::NoSuchMethod("value".into())));
    assert!(matches!(result("main", "{"), Err(Failure::InvalidInput(_))));
    let bytes = Call { input: vec![0xff, 0xfe].into(), ..command("main", "") };
    assert!(matches!(call(&program, bytes).result, Err(Failure::InvalidInput(_))));
    assert_eq!(run("return undefined;"), "null");
}
