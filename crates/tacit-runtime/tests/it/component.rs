//! Functions in Rust: the example, the component that misbehaves, and components that are no functions.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tacit_runtime::{Call, Clock, Failure, Limit, Limits, Program, RuntimeError};
use tacit_types::manifest::MethodKind;

use crate::support::{MemoryHost, block_on, call, call_on, command, engine, expect_limit, limited, text};

fn load(bytes: &'static [u8]) -> Program {
    block_on(engine().load_component(Bytes::from_static(bytes))).unwrap()
}

fn hello() -> Program {
    load(include_bytes!(env!("TACIT_HELLO_PATH")))
}

pub fn probe() -> Program {
    load(include_bytes!(env!("TACIT_PROBE_PATH")))
}

#[test]
fn the_example_greets_and_counts() {
    let program = hello();
    assert_eq!(program.methods(), ["greet", "visit", "total"]);
    assert_eq!(text(&call(&program, command("greet", r#"{"name":"Ada"}"#))), r#"{"greeting":"Hello, Ada!"}"#);
    let host = Arc::new(MemoryHost::default());
    for (name, visits) in [("Ada", 1), ("Bo", 1), ("Ada", 2)] {
        let outcome = call_on(&program, command("visit", &format!("{{\"name\":\"{name}\"}}")), host.clone());
        assert_eq!(text(&outcome), format!("{{\"name\":\"{name}\",\"visits\":{visits}}}"));
        assert_eq!(outcome.logs.len(), 1);
        host.apply(&outcome);
    }
    assert_eq!(text(&call_on(&program, Call { kind: MethodKind::Query, ..command("total", "null") }, host)), "3");
    assert_eq!(call(&program, command("other", "null")).result, Err(Failure::NoSuchMethod("other".into())));
    assert!(matches!(call(&program, command("greet", "{")).result, Err(Failure::InvalidInput(_))));
}

#[test]
fn the_example_costs_the_same_fuel_each_time() {
    let fuel = || {
        let outcome = call(&hello(), Call { clock: Clock::Fixed(0), ..command("greet", r#"{"name":"Ada"}"#) });
        (text(&outcome), outcome.fuel_used)
    };
    let first = fuel();
    assert!(first.1 > 0);
    assert_eq!(fuel(), first);
}

#[test]
fn every_attack_meets_its_own_limit() {
    let program = probe();
    let small = Limits { fuel: 100_000_000, ..Limits::default() };
    let check = |method: &str, limits: Limits, limit: Limit| expect_limit(&limited(&program, method, limits), limit);
    check("loop", small.clone(), Limit::Fuel);
    check("loop", Limits { fuel: u64::MAX / 4, timeout: 100, ..Limits::default() }, Limit::Timeout);
    check("allocate", Limits { memory: 16 << 20, ..Limits::default() }, Limit::Memory);
    check("large", small.clone(), Limit::Response);
    check("flood", small.clone(), Limit::LogBytes);
    check("ask", small.clone(), Limit::HostCalls);
    check("fetches", small, Limit::OpenFetches);
    // A Rust function's own stack lies in its memory: running over its end is a trap there.
    assert!(matches!(
        limited(&program, "recurse", Limits::default()).result,
        Err(Failure::Trapped(_) | Failure::Limit(Limit::Stack))
    ));
}

#[test]
fn a_query_may_not_write() {
    let query = Call { kind: MethodKind::Query, ..command("write", "1") };
    match call(&probe(), query).result {
        Err(Failure::Thrown { message, .. }) => assert!(message.contains("ReadOnly"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_panic_says_what_it_said_and_a_file_is_not_there() {
    let outcome = call(&probe(), command("panic", "null"));
    assert!(matches!(outcome.result, Err(Failure::Trapped(_))), "{:?}", outcome.result);
    assert!(
        outcome.logs.iter().any(|entry| entry.message.contains("as asked")),
        "{:?} {:?}",
        outcome.logs,
        outcome.result
    );
    let outcome = call(&probe(), command("file", "null"));
    assert!(matches!(outcome.result, Err(Failure::Thrown { .. } | Failure::Trapped(_))), "{:?}", outcome.result);
}

#[test]
fn randomness_comes_from_the_seed() {
    let program = probe();
    let bytes = |method: &str, seed: u8| {
        call(&program, Call { seed: [seed; 32], ..command(method, "null") }).result.unwrap().body
    };
    for method in ["random", "hash"] {
        assert_eq!(bytes(method, 1), bytes(method, 1));
        assert_ne!(bytes(method, 1), bytes(method, 2));
    }
}

#[test]
fn exchanges_run_side_by_side() {
    let host = Arc::new(MemoryHost { delay: Duration::from_millis(50), ..MemoryHost::default() });
    let outcome = call_on(&probe(), command("parallel", "null"), host.clone());
    assert!(text(&outcome).contains("slow.example/a") && text(&outcome).contains("slow.example/b"));
    assert_eq!(host.most_open.load(Ordering::SeqCst), 2);
    assert_eq!(outcome.effects.len(), 2);
}

/// A component of this WIT, whose functions all trap.
fn dummy(wit: &str, world: &str) -> Vec<u8> {
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_str("test.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let mut module = wit_component::dummy_module(&resolve, world, wit_parser::ManglingAndAbi::Standard32);
    wit_component::embed_component_metadata(&mut module, &resolve, world, wit_component::StringEncoding::UTF8).unwrap();
    wit_component::ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

fn refused(bytes: Vec<u8>) -> RuntimeError {
    match block_on(engine().load_component(bytes.into())) {
        Ok(_) => panic!("it was taken"),
        Err(error) => error,
    }
}

#[test]
fn components_that_are_no_functions_are_refused() {
    let shell =
        dummy("package evil:host; interface shell { run: func(command: string); } world w { import shell; }", "w");
    match refused(shell) {
        RuntimeError::UnknownImport { name } => assert_eq!(name, "evil:host/shell"),
        other => panic!("{other}"),
    }
    let nothing = dummy("package a:b; world w { export methods: func() -> list<string>; }", "w");
    assert!(matches!(refused(nothing), RuntimeError::NotAFunction(_)));
    let other_types = dummy("package a:b; world w { export methods: func() -> u32; export call: func(); }", "w");
    assert!(matches!(refused(other_types), RuntimeError::NotAFunction(_)));
    let other_interface = dummy(
        "package tacit:function@1.0.0; interface state { get: func(key: string) -> u32; } world w { import state; }",
        "w",
    );
    assert!(matches!(refused(other_interface), RuntimeError::NotAFunction(_)));
    let engine_only = dummy(
        "package tacit:function@1.0.0; interface lifecycle { entered: func(); } world w { import lifecycle; }",
        "w",
    );
    assert!(matches!(refused(engine_only), RuntimeError::UnknownImport { .. }));
    assert!(matches!(refused(b"\0asm\x01\0\0\0".to_vec()), RuntimeError::Component(_)));
    assert!(matches!(refused(b"nonsense".to_vec()), RuntimeError::Component(_)));
    assert!(matches!(refused(vec![0; (16 << 20) + 1]), RuntimeError::TooLarge { .. }));
}
