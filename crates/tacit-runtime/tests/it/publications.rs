//! Publications: rising sequences, what a query and a failed call may not do, and bounds.

use std::sync::Arc;

use tacit_runtime::{Call, CallOutcome, Failure, Program};
use tacit_types::{Address, chain::Publication, manifest::MethodKind};

use crate::{
    component,
    support::{MemoryHost, call_on, command, program, text},
};

const CONTRACT: &str = "0x0101010101010101010101010101010101010101";

fn prepare(body: &str) -> Program {
    program(&format!(
        "import {{ chain, state }} from 'tacit';
         const to = {{ chain: 'local', contract: '{CONTRACT}' }};
         export async function main() {{ {body} }}"
    ))
}

fn run(body: &str, host: &Arc<MemoryHost>) -> CallOutcome {
    call_on(&prepare(body), command("main", "null"), host.clone())
}

fn publication(topic: &str, sequence: u64, data: &[u8]) -> Publication {
    let consumer = Address::from([1; 20]);
    Publication { chain_id: 31_337, consumer, topic: topic.into(), sequence, data: data.to_vec() }
}

fn refused(outcome: &CallOutcome, expected: &str) {
    match &outcome.result {
        Err(Failure::Thrown { message, .. }) => assert!(message.contains(expected), "{message}"),
        other => panic!("{expected}: {other:?}"),
    }
    assert!(outcome.publications.is_empty(), "{expected}");
}

#[test]
fn sequences_rise_by_topic_within_a_call_and_across_calls() {
    let host = Arc::new(MemoryHost::default());
    let body = "return [
        await chain.publish({ ...to, topic: 'a', data: new Uint8Array([1, 2]) }),
        await chain.publish({ ...to, topic: 'b', data: '0x' }),
        await chain.publish({ ...to, topic: 'a', data: '0xfFee' }),
    ];";
    let first = run(body, &host);
    assert_eq!(text(&first), "[1,1,2]");
    let expected = [publication("a", 1, &[1, 2]), publication("b", 1, &[]), publication("a", 2, &[0xff, 0xee])];
    assert_eq!(first.publications, expected);
    assert!(first.writes.is_empty());
    // A call whose commit was dropped leaves no trace; one that was committed moves the sequence on.
    assert_eq!(text(&run(body, &host)), "[1,1,2]");
    host.apply(&first);
    assert_eq!(text(&run(body, &host)), "[3,2,4]");
}

#[test]
fn a_query_may_not_publish() {
    let program = prepare("return chain.publish({ ...to, topic: 'a', data: '0x00' });");
    let host = Arc::new(MemoryHost::default());
    let query = Call { kind: MethodKind::Query, ..command("main", "null") };
    refused(&call_on(&program, query, host.clone()), "state-read-only");
    let query = Call { kind: MethodKind::Query, ..command("publish", "x") };
    refused(&call_on(&component::probe(), query, host), "ReadOnly");
}

#[test]
fn a_failed_call_publishes_nothing() {
    let host = Arc::new(MemoryHost::default());
    refused(
        &run("await chain.publish({ ...to, topic: 'a', data: '0x00' }); throw new Error('as asked');", &host),
        "as asked",
    );
    // What the code catches does not fail the call; what was published before stands, a rolled back transaction or not.
    let kept = run(
        "await chain.publish({ ...to, topic: 'a', data: '0x01' });
         try { await chain.publish({ ...to, chain: 'elsewhere', topic: 'a', data: '0x02' }); } catch (error) { return error.code; }",
        &host,
    );
    assert_eq!((text(&kept).as_str(), kept.publications), ("\"denied\"", vec![publication("a", 1, &[1])]));
    let kept = run(
        "try { await state.transaction(async (tx) => {
            await tx.set('k', 1);
            await chain.publish({ ...to, topic: 'a', data: '0x01' });
            throw new Error('no');
         }); } catch {}",
        &host,
    );
    assert_eq!((kept.writes.len(), kept.publications), (0, vec![publication("a", 1, &[1])]));
}

#[test]
fn publications_have_bounds() {
    let host = Arc::new(MemoryHost::default());
    let check = |body: &str, expected: &str| refused(&run(body, &host), expected);
    check("await chain.publish({ ...to, topic: '', data: '0x' });", "a topic has 1 to 64 bytes");
    check("await chain.publish({ ...to, topic: 'é'.repeat(33), data: '0x' });", "this one has 66");
    check("await chain.publish({ ...to, topic: 'a', data: new Uint8Array(8193) });", "at most 8192 bytes");
    check("await chain.publish({ ...to, topic: 'a', data: '0x0' });", "bytes or 0x-hex");
    check("await chain.publish({ ...to, topic: 'a', data: { a: 1 } });", "bytes or 0x-hex");
    check("await chain.publish({ ...to, topic: 7, data: '0x' });", "topic must be a string");
    check("await chain.publish({ ...to, contract: 'me', topic: 'a', data: '0x' });", "not a contract");
    check(
        "for (let n = 0; n < 17; n++) await chain.publish({ ...to, topic: 'a', data: '0x' });",
        "a call publishes at most 16 times",
    );
    let full = run(
        "let last; for (let n = 0; n < 16; n++) last = await chain.publish({ ...to, topic: 't'.repeat(64), data: new Uint8Array(8192) }); return last;",
        &host,
    );
    assert_eq!((text(&full).as_str(), full.publications.len()), ("16", 16));
}

#[test]
fn a_function_in_rust_publishes_too() {
    let host = Arc::new(MemoryHost::default());
    let outcome = call_on(&component::probe(), command("publish", "x"), host.clone());
    assert_eq!(text(&outcome), "1 2 1");
    assert_eq!(
        outcome.publications,
        [publication("one", 1, b"x"), publication("one", 2, b"x"), publication("two", 1, b"x")]
    );
    host.apply(&outcome);
    assert_eq!(text(&call_on(&component::probe(), command("publish", "x"), host.clone())), "3 4 2");
    refused(&call_on(&component::probe(), command("publish-many", "x"), host), "at most 16 times");
}

#[test]
fn nothing_is_published_while_a_module_loads() {
    let early = program(&format!(
        "import {{ chain }} from 'tacit';
         let seen; try {{ await chain.publish({{ chain: 'local', contract: '{CONTRACT}', topic: 'a', data: '0x' }}); }} catch (error) {{ seen = error.message; }}
         export async function main() {{ return seen; }}"
    ));
    let outcome = call_on(&early, command("main", "null"), Arc::default());
    assert!(text(&outcome).contains("cannot be used while the module loads"), "{}", text(&outcome));
    assert!(outcome.publications.is_empty());
}
