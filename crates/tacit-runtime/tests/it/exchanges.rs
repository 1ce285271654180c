//! `fetch` from the author's side.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tacit_runtime::{CallOutcome, Effect};

use crate::support::{MemoryHost, call_on, command, program, text};

fn run(body: &str, host: &Arc<MemoryHost>) -> CallOutcome {
    call_on(&program(&format!("export async function main() {{ {body} }}")), command("main", "null"), host.clone())
}

#[test]
fn exchanges_run_side_by_side() {
    let host = Arc::new(MemoryHost { delay: Duration::from_millis(200), ..MemoryHost::default() });
    let started = Instant::now();
    let outcome = run(
        "const all = await Promise.all([1, 2, 3, 4, 5].map((n) => fetch('https://slow.example/' + n).then((r) => r.json()))); return all.map((a) => a.url.at(-1)).join('');",
        &host,
    );
    assert_eq!(text(&outcome), "\"12345\"");
    assert_eq!(host.most_open.load(Ordering::SeqCst), 5);
    assert!(started.elapsed() < Duration::from_millis(900), "five times 200 ms one after the other would be 1000");
}

#[test]
fn each_exchange_is_an_effect_in_order_of_its_start() {
    let host = Arc::new(MemoryHost::default());
    let outcome = run(
        "await fetch('https://a.example/', { method: 'POST', body: 'one' }); try { await fetch('https://broken.example/'); } catch {} return 1;",
        &host,
    );
    let hash = |bytes: &[u8]| -> [u8; 32] { Sha256::digest(bytes).into() };
    let effects: Vec<_> = outcome
        .effects
        .iter()
        .map(|effect| match effect {
            Effect::Fetch { method, url, status, response, server_key } => {
                (method.as_str(), *url, *status, *response, *server_key)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        effects,
        [
            ("POST", hash(b"https://a.example/"), 200, hash(b"one"), [7; 32]),
            ("GET", hash(b"https://broken.example/"), 0, hash(b""), [0; 32])
        ]
    );
}

#[test]
fn requests_and_responses_have_the_webs_shape() {
    let host = Arc::new(MemoryHost::default());
    let check = |body: &str, expected: &str| assert_eq!(text(&run(body, &host)), expected, "{body}");
    check(
        "const r = await fetch(new Request('https://a.example/x?y=1#z')); return [r.status, r.ok, r.url, r.headers.get('Content-Type'), r.redirected, (await r.json()).url];",
        r#"[200,true,"https://a.example/x?y=1#z","application/json",false,"https://a.example/x?y=1#z"]"#,
    );
    check(
        "const r = await fetch('https://a.example/', { method: 'post', body: new URLSearchParams({ q: 'a b' }) }); return r.text();",
        "\"q=a+b\"",
    );
    check(
        "const r = await fetch('https://a.example/', { method: 'PUT', body: new Uint8Array([1, 2]) }); return [...await r.bytes()];",
        "[1,2]",
    );
    check(
        "const r = await fetch('https://a.example/'); const c = r.clone(); await r.text(); try { await r.text(); } catch (error) { return [error.name, (await c.json()).method]; }",
        r#"["TypeError","GET"]"#,
    );
    check(
        "try { await fetch('https://broken.example/'); } catch (error) { return [error.name, error.code, error.message]; }",
        r#"["TacitError","unavailable","unavailable: broken.example cannot be reached"]"#,
    );
    check("try { await fetch('/relative'); } catch (error) { return error.name; }", "\"TypeError\"");
}

#[test]
fn an_exchange_can_be_aborted_and_timed_out() {
    let host = Arc::new(MemoryHost { delay: Duration::from_secs(20), ..MemoryHost::default() });
    let started = Instant::now();
    let check = |body: &str, expected: &str| assert_eq!(text(&run(body, &host)), expected, "{body}");
    check(
        "const c = new AbortController(); const f = fetch('https://slow.example/', { signal: c.signal }); setTimeout(() => c.abort(), 10); try { await f; } catch (error) { return error.name; }",
        "\"AbortError\"",
    );
    check(
        "try { await fetch('https://slow.example/', { signal: AbortSignal.timeout(10) }); } catch (error) { return error.name; }",
        "\"TimeoutError\"",
    );
    check(
        "return Promise.race([fetch('https://slow.example/').then(() => 'answer'), new Promise((resolve) => setTimeout(resolve, 10, 'timer'))]);",
        "\"timer\"",
    );
    assert!(started.elapsed() < Duration::from_secs(10));
}
