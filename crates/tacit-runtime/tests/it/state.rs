//! Durable state: reads, writes, savepoints, and what a query may not do.

use std::sync::Arc;

use bytes::Bytes;
use tacit_runtime::{Call, CallOutcome, Failure, Program, Write};
use tacit_types::manifest::MethodKind;

use crate::support::{MemoryHost, call_on, command, program, text};

fn prepare(body: &str) -> Program {
    program(&format!("import {{ state }} from 'tacit'; export async function main(input) {{ {body} }}"))
}

fn host(entries: &[(&str, &str)]) -> Arc<MemoryHost> {
    let host = MemoryHost::default();
    host.state
        .lock()
        .unwrap()
        .extend(entries.iter().map(|(key, value)| ((*key).to_owned(), Bytes::copy_from_slice(value.as_bytes()))));
    Arc::new(host)
}

fn run(body: &str, entries: &[(&str, &str)]) -> CallOutcome {
    call_on(&prepare(body), command("main", "null"), host(entries))
}

fn writes(outcome: &CallOutcome) -> Vec<(String, Option<String>)> {
    let text = |write: &Write| write.value.as_ref().map(|value| String::from_utf8(value.to_vec()).unwrap());
    outcome.writes.iter().map(|write| (write.key.clone(), text(write))).collect()
}

fn write(key: &str, value: Option<&str>) -> (String, Option<String>) {
    (key.to_owned(), value.map(str::to_owned))
}

#[test]
fn a_call_reads_its_own_writes_and_returns_them_ordered() {
    let outcome = run(
        "await state.set('b', { x: 1 }); await state.set('a', 'first'); await state.set('a', 'second'); await state.delete('c'); return [await state.get('a'), await state.get('b'), await state.get('c'), await state.get('d')];",
        &[("c", "1"), ("d", "[4]")],
    );
    assert_eq!(text(&outcome), r#"["second",{"x":1},null,[4]]"#);
    assert_eq!(writes(&outcome), [write("a", Some("\"second\"")), write("b", Some("{\"x\":1}")), write("c", None)]);
}

#[test]
fn bytes_stay_bytes() {
    let host = host(&[]);
    let first =
        call_on(&prepare("await state.set('k', new Uint8Array([0, 1, 255]));"), command("main", "null"), host.clone());
    assert_eq!(first.writes[0].value.as_deref(), Some(&[0, 0, 1, 255][..]));
    host.apply(&first);
    assert_eq!(
        text(&call_on(
            &prepare("const v = await state.get('k'); return [v instanceof Uint8Array, ...v];"),
            command("main", "null"),
            host
        )),
        "[true,0,1,255]"
    );
}

#[test]
fn a_query_reads_and_may_not_write() {
    let body = "const seen = await state.get('k'); const refused = []; for (const write of [() => state.set('k', 1), () => state.delete('k')]) try { await write(); } catch (error) { refused.push(error.code); } return [seen, ...refused];";
    let query = Call { kind: MethodKind::Query, ..command("main", "null") };
    let outcome = call_on(&prepare(body), query.clone(), host(&[("k", "7")]));
    assert_eq!(text(&outcome), r#"[7,"state-read-only","state-read-only"]"#);
    assert!(outcome.writes.is_empty());
    match call_on(&prepare("await state.set('k', 1);"), query, host(&[])).result {
        Err(Failure::Thrown { message, .. }) => assert!(message.starts_with("state-read-only"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_failed_call_writes_nothing() {
    let outcome = run("await state.set('k', 1); throw new Error('x');", &[]);
    assert!(outcome.result.is_err() && outcome.writes.is_empty());
}

#[test]
fn a_transaction_is_kept_or_dropped_whole() {
    let outcome = run(
        "await state.set('kept', 1);
         try { await state.transaction(async (tx) => { await tx.set('kept', 2); await tx.set('dropped', 1); await tx.delete('old'); throw new Error('no'); }); } catch {}
         const after = [await state.get('kept'), await state.get('dropped'), await state.get('old')];
         const result = await state.transaction(async (tx) => {
            await tx.set('outer', 1);
            try { await tx.transaction(async (inner) => { await inner.set('outer', 2); throw 1; }); } catch {}
            return 'done';
         });
         return [...after, result, await state.get('outer')];",
        &[("old", "3")],
    );
    assert_eq!(text(&outcome), r#"[1,null,3,"done",1]"#);
    assert_eq!(writes(&outcome), [write("kept", Some("1")), write("outer", Some("1"))]);
}

#[test]
fn transactions_of_one_call_run_one_after_the_other() {
    let outcome = run(
        "const add = () => state.transaction(async (tx) => { const n = (await tx.get('n')) ?? 0; await new Promise((r) => setTimeout(r, 1)); await tx.set('n', n + 1); });
         await Promise.all([add(), add(), add()]); return state.get('n');",
        &[],
    );
    assert_eq!(text(&outcome), "3");
}

#[test]
fn lists_merge_committed_entries_with_the_calls_own() {
    let committed: Vec<(String, String)> = (0..30).map(|n| (format!("p/{n:02}"), n.to_string())).collect();
    let mut committed: Vec<(&str, &str)> =
        committed.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    committed.extend([("o", "1"), ("q", "1")]);
    let check = |body: &str, expected: &str| {
        assert_eq!(
            text(&run(
                &format!(
                    "const keys = (list) => list.map((entry) => entry.key.slice(2) + '=' + entry.value).join(); {body}"
                ),
                &committed
            )),
            format!("\"{expected}\""),
            "{body}"
        )
    };
    check("return keys(await state.list('p/', null, 3));", "00=0,01=1,02=2");
    check("return keys(await state.list('p/', 'p/27', 10));", "28=28,29=29");
    check("return keys(await state.list('p/', 'a', 2));", "00=0,01=1");
    check(
        "for (let n = 0; n < 25; n++) await state.delete('p/' + String(n).padStart(2, '0')); return keys(await state.list('p/', null, 3));",
        "25=25,26=26,27=27",
    );
    check(
        "await state.set('p/00a', 'new'); await state.set('p/01', 'changed'); await state.set('p/99', 'end'); return keys(await state.list('p/', null, 4));",
        "00=0,00a=new,01=changed,02=2",
    );
    check("await state.set('p/99', 'end'); return keys(await state.list('p/', 'p/28', 9));", "29=29,99=end");
    check("await state.set('z/1', 1); return keys(await state.list('z/'));", "1=1");
}

#[test]
fn keys_and_values_have_bounds() {
    let check = |body: &str, expected: &str| match run(body, &[]).result {
        Err(Failure::Thrown { message, .. }) => assert!(message.contains(expected), "{message}"),
        other => panic!("{other:?}"),
    };
    check("await state.set('', 1);", "1 to 256 bytes");
    check("await state.set('é'.repeat(129), 1);", "this one has 258");
    check("await state.set('k', 'x'.repeat(1 << 20));", "at most 1048576");
    check("await state.set('k', () => 1);", "must be JSON or bytes");
    check("await state.list('', null, 1001);", "1 to 1000");
    assert!(run("await state.set('k'.repeat(256), 'x'.repeat((1 << 20) - 2));", &[]).result.is_ok());
}
