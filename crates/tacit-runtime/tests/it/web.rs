//! The web platform's part of the prelude.

use crate::support::check;

#[test]
fn urls() {
    check(
        "const u = new URL('../b?x=1&y=%20z#h', 'https://User:p@EXAMPLE.com:8443/a/c/'); return [u.href, u.origin, u.host, u.pathname, u.search, u.hash, u.username];",
        r##"["https://User:p@example.com:8443/a/b?x=1&y=%20z#h","https://example.com:8443","example.com:8443","/a/b","?x=1&y=%20z","#h","User"]"##,
    );
    check(
        "const u = new URL('https://a.b/?q=1'); u.searchParams.append('r', 'ä b'); u.pathname = '/ö'; u.port = '8080'; u.hash = ''; return u.href;",
        "\"https://a.b:8080/%C3%B6?q=1&r=%C3%A4+b\"",
    );
    check(
        "const u = new URL('https://a.b/?q=1'); const p = u.searchParams; u.search = '?z=2'; return [p.get('q'), p.get('z'), p.size];",
        r#"[null,"2",1]"#,
    );
    check(
        "try { new URL('nope'); } catch (error) { return [error.name, error.code, URL.canParse('nope'), URL.parse('nope')]; }",
        r#"["TypeError","ERR_INVALID_URL",false,null]"#,
    );
    check(
        "const p = new URLSearchParams('b=1&a=2&b=3'); p.sort(); p.set('a', 9); p.delete('b', '3'); return [p.toString(), p.getAll('b'), [...p.keys()]];",
        r#"["a=9&b=1",["1"],["a","b"]]"#,
    );
    check("return new URL('https://münchen.example/').hostname;", "\"xn--mnchen-3ya.example\"");
}

#[test]
fn text() {
    check("return [...new TextEncoder().encode('aé€😀')];", "[97,195,169,226,130,172,240,159,152,128]");
    check("return [...new TextEncoder().encode('\\ud800')];", "[239,191,189]");
    check("return new TextDecoder().decode(new Uint8Array([0xef, 0xbb, 0xbf, 0x61, 0xff]));", "\"a\u{fffd}\"");
    check(
        "const d = new TextDecoder(); return d.decode(new Uint8Array([0xf0, 0x9f]), { stream: true }) + d.decode(new Uint8Array([0x98, 0x80]), { stream: true }) + d.decode();",
        "\"😀\"",
    );
    check(
        "try { new TextDecoder('utf-8', { fatal: true }).decode(new Uint8Array([255])); } catch (error) { return error.name; }",
        "\"TypeError\"",
    );
    check("return new TextDecoder('utf-16le').decode(new Uint8Array([0x61, 0, 0x3d, 0xd8, 0, 0xde]));", "\"a😀\"");
    check("return [btoa('hello'), atob('aGVsbG8=')];", r#"["aGVsbG8=","hello"]"#);
}

#[test]
fn cryptography() {
    let digest = |algorithm: &str| {
        format!(
            "return new Uint8Array(await crypto.subtle.digest('{algorithm}', new TextEncoder().encode('abc'))).toHex();"
        )
    };
    // FIPS 180-4 examples.
    check(&digest("SHA-1"), "\"a9993e364706816aba3e25717850c26c9cd0d89d\"");
    check(&digest("SHA-256"), "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"");
    check(
        &digest("SHA-384"),
        "\"cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7\"",
    );
    check(
        &digest("SHA-512"),
        "\"ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f\"",
    );
    check(
        "try { await crypto.subtle.digest('MD5', new Uint8Array()); } catch (error) { return error.name; }",
        "\"NotSupportedError\"",
    );
    check(
        "return /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(crypto.randomUUID());",
        "true",
    );
    check("const a = crypto.getRandomValues(new Uint32Array(4)); return a.some((n) => n !== 0);", "true");
    check(
        "try { crypto.getRandomValues(new Float32Array(1)); } catch (error) { return error.name; }",
        "\"TypeMismatchError\"",
    );
    check(
        "let sum = 0; for (let i = 0; i < 2000; i++) { const x = Math.random(); if (x < 0 || x >= 1) return 'out of range'; sum += x; } return Math.abs(sum / 2000 - 0.5) < 0.05;",
        "true",
    );
}

#[test]
fn clones() {
    check(
        "const a = { d: new Date(0), m: new Map([[1, new Set([2])]]), b: new Uint8Array([1, 2]), n: null }; a.self = a; const c = structuredClone(a); return [c !== a, c.self === c, c.d.getTime(), [...c.m.get(1)], [...c.b], c.b.buffer !== a.b.buffer];",
        "[true,true,0,[2],[1,2],true]",
    );
    check("try { structuredClone({ f() {} }); } catch (error) { return error.name; }", "\"DataCloneError\"");
    check(
        "const e = structuredClone(new RangeError('x')); return [e instanceof RangeError, e.message];",
        "[true,\"x\"]",
    );
}

#[test]
fn events_and_headers() {
    check(
        "const t = new EventTarget(); const seen = []; t.addEventListener('x', (e) => seen.push(e.type), { once: true }); t.dispatchEvent(new Event('x')); t.dispatchEvent(new Event('x')); return seen;",
        r#"["x"]"#,
    );
    check(
        "const h = new Headers({ B: '2', a: ' 1 ' }); h.append('a', '3'); h.append('Set-Cookie', 'x'); h.append('set-cookie', 'y'); return [...h];",
        r#"[["a","1, 3"],["b","2"],["set-cookie","x"],["set-cookie","y"]]"#,
    );
    check(
        "const bad = []; for (const [n, v] of [['a b', '1'], ['a', 'x\\ny'], ['', '1']]) try { new Headers([[n, v]]); } catch { bad.push(n); } return bad;",
        r#"["a b","a",""]"#,
    );
    check(
        "const r = Response.json({ a: 1 }, { status: 201 }); return [r.status, r.headers.get('content-type'), await r.json()];",
        r#"[201,"application/json",{"a":1}]"#,
    );
    check("return [AbortSignal.abort().aborted, AbortSignal.abort('why').reason];", "[true,\"why\"]");
}
