//! The same inputs give the same output and the same fuel; other seeds give other randomness.

use std::collections::BTreeSet;

use tacit_runtime::{Call, Clock};

use crate::support::{block_on, call, command, engine, program, text};

const PROGRAM: &str = r#"
    export async function work(input) {
        const words = {};
        for (let i = 0; i < 200; i++) words["w" + Math.floor(Math.random() * 50)] = crypto.randomUUID();
        await new Promise((resolve) => setTimeout(resolve, 5000));
        const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(JSON.stringify(words)));
        return { input, digest: new Uint8Array(digest).toHex(), now: Date.now(), words, elapsed: performance.now() };
    }
    export async function random() {
        return [Math.random(), crypto.randomUUID(), [...crypto.getRandomValues(new Uint8Array(16))]];
    }
    const early = Math.random.name === "never" ? 0 : (() => { try { return Math.random(); } catch { return -1; } })();
    export async function top() { return early; }
"#;

fn fixed(seed: u8) -> Call {
    Call { seed: [seed; 32], clock: Clock::Fixed(1_700_000_000_000_000), ..command("work", "[1,2,3]") }
}

#[test]
fn the_same_call_gives_the_same_bytes_and_fuel() {
    let first = call(&program(PROGRAM), fixed(1));
    assert!(text(&first).contains("\"now\":1700000005000"), "{}", text(&first));
    assert!(text(&first).contains("\"elapsed\":5000"));
    assert!(first.fuel_used > 10_000);
    for _ in 0..5 {
        // Compiled anew, after other calls, side by side with others.
        let program = program(PROGRAM);
        let outcomes = block_on(async {
            let engine = engine();
            let host = || std::sync::Arc::new(crate::support::MemoryHost::default());
            tokio::join!(
                engine.call(&program, fixed(1), host()),
                engine.call(&program, fixed(2), host()),
                engine.call(&program, fixed(1), host())
            )
        });
        for outcome in [&outcomes.0, &outcomes.2] {
            assert_eq!(outcome.result, first.result);
            assert_eq!(outcome.fuel_used, first.fuel_used);
        }
        assert_ne!(outcomes.1.result, first.result);
    }
}

#[test]
fn randomness_never_repeats_between_calls() {
    let program = program(PROGRAM);
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        assert!(seen.insert(text(&call(&program, command("random", "null")))));
        assert!(seen.insert(text(&call(&program, command("top", "null")))), "randomness of the top level repeats");
    }
}

#[test]
fn a_deterministic_call_has_no_network() {
    let program = program(
        "export async function work() { try { await fetch('https://a.example/'); } catch (error) { return [error.name, error.code]; } }",
    );
    assert_eq!(text(&call(&program, fixed(1))), r#"["TacitError","denied"]"#);
}

#[test]
fn fuel_does_not_count_loading() {
    let light = program("export async function main() { return 1; }");
    let heavy =
        program("let x = 0; for (let i = 0; i < 100000; i++) x += i; export async function main() { return 1; }");
    let fuel = |program| call(program, Call { clock: Clock::Fixed(0), ..command("main", "null") }).fuel_used;
    let (light, heavy) = (fuel(&light), fuel(&heavy));
    assert!(light > 0 && heavy < light + light / 2 + 10_000, "{light} {heavy}");
}
