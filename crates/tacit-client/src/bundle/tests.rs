use super::*;

fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn code(files: &[(&str, &str)]) -> String {
    let folder = project(files);
    bundle(folder.path(), "src/index.ts").unwrap().code
}

fn error(files: &[(&str, &str)]) -> PackageError {
    let folder = project(files);
    bundle(folder.path(), "src/index.ts").unwrap_err()
}

#[test]
fn one_file_is_transformed_and_stays() {
    let code = code(&[(
        "src/index.ts",
        "import { state } from 'tacit';\nexport async function f(x: number): Promise<number> { await state.get('a'); return x; }",
    )]);
    assert!(code.contains("from \"tacit\""), "{code}");
    assert!(!code.contains(": number"), "{code}");
}

#[test]
fn imports_become_reads_of_live_bindings() {
    let code = code(&[
        (
            "src/index.ts",
            "import { add, count as total } from './math';\nexport function f() { return { total, sum: add(1, 2) }; }",
        ),
        (
            "src/math.ts",
            "export let count = 0;\nexport const add = (a: number, b: number) => { count++; return a + b; };",
        ),
    ]);
    assert!(!code.contains("./math"), "{code}");
    assert!(code.contains("total: $tacit_0[\"count\"]"), "{code}");
    assert!(code.contains("(0, $tacit_0[\"add\"])(1, 2)"), "{code}");
}

#[test]
fn the_same_file_is_bundled_once_and_first() {
    let code = code(&[
        ("src/index.ts", "import a from './a'; import b from './b.js'; export const f = () => a + b;"),
        ("src/a.ts", "import { one } from './lib/one'; export default one;"),
        ("src/b.ts", "import { one } from './lib/one'; export default one + 1;"),
        ("src/lib/one.ts", "export const one: number = 1;"),
    ]);
    assert_eq!(code.matches("const one = 1").count(), 1, "{code}");
    assert!(code.find("const one = 1").unwrap() < code.find("$tacit_default").unwrap(), "{code}");
}

#[test]
fn the_entry_passes_exports_on() {
    let code = code(&[
        (
            "src/index.ts",
            "import { b } from './x'; const own = 1; export { own, b as c }; export { a } from './x'; export * from './y';",
        ),
        ("src/x.ts", "export const a = 1, b = 2;"),
        ("src/y.ts", "export function d() {}\nexport default class Hidden {}"),
    ]);
    for name in ["\"a\"", "\"c\"", "\"d\"", "\"own\""] {
        assert!(code.contains(&format!(" as {name} }}")), "{name}: {code}");
    }
    assert!(!code.contains("as \"default\""), "{code}");
}

#[test]
fn imports_that_a_module_exports_again_lead_to_their_source() {
    let code = code(&[
        (
            "src/index.ts",
            "import { one, two, whole, again } from './mid'; export const f = () => [one, two, whole, again];",
        ),
        (
            "src/mid.ts",
            "import first, { b as two } from './x';\nimport * as whole from './x';\nexport { first as one, two, whole };\nexport * as again from './x';",
        ),
        ("src/x.ts", "export default 1;\nexport const b = 2;"),
    ]);
    for getter in [
        "get \"one\"() { return $tacit_0[\"default\"]; }",
        "get \"two\"() { return $tacit_0[\"b\"]; }",
        "get \"whole\"() { return $tacit_0; }",
        "get \"again\"() { return $tacit_0; }",
    ] {
        assert!(code.contains(getter), "{getter}: {code}");
    }
    assert_eq!(code.matches("export").count(), 1, "{code}");
}

#[test]
fn what_the_host_gives_is_not_exported() {
    for entry in
        ["export { state } from 'tacit';", "export * from 'tacit';", "import { state } from 'tacit'; export { state };"]
    {
        assert!(
            matches!(error(&[("src/index.ts", entry)]), PackageError::Source(text) if text.contains("cannot be exported")),
            "{entry}"
        );
    }
}

#[test]
fn a_default_export_is_a_declaration_only_if_it_is_one() {
    let check = |text: &str, expected| assert_eq!(declares_name(text), expected, "{text}");
    check("function f() {}", true);
    check("async function* f() {}", true);
    check("class A extends B {}", true);
    check("function() {}", false);
    check("function*() {}", false);
    check("class extends B {}", false);
    check("class {}", false);
    check("classify(x);", false);
    check("functionality;", false);
    check("async () => 1;", false);
}

#[test]
fn json_is_a_module() {
    let code = code(&[
        ("src/index.ts", "import m from './m.json'; export const f = () => m.x;"),
        ("src/m.json", "{\"x\": [1, 2]}\n"),
    ]);
    assert!(code.contains("const $tacit_default = {\"x\": [1, 2]}"), "{code}");
}

#[test]
fn refusals_name_the_file() {
    assert!(matches!(
        error(&[("src/index.ts", "import x from 'left-pad'; export const f = x;")]),
        PackageError::Npm { file, specifier } if file == "src/index.ts" && specifier == "left-pad"
    ));
    assert!(
        matches!(error(&[("src/index.ts", "import './gone';")]), PackageError::NotFound { specifier, .. } if specifier == "./gone")
    );
    assert!(matches!(
        error(&[("src/index.ts", "import { nope } from './a'; export const f = nope;"), ("src/a.ts", "export const a = 1;")]),
        PackageError::NoExport { name, .. } if name == "nope"
    ));
    assert!(matches!(
        error(&[("src/index.ts", "import './a';"), ("src/a.ts", "import './b';"), ("src/b.ts", "import './a';")]),
        PackageError::Cycle(_)
    ));
    assert!(matches!(
        error(&[("src/index.ts", "export const f = () => import('./a');"), ("src/a.ts", "")]),
        PackageError::Dynamic(_)
    ));
    assert!(
        matches!(error(&[("src/index.ts", "export const = 1;")]), PackageError::Source(text) if text.starts_with("src/index.ts:1:"))
    );
    assert!(matches!(error(&[("other.ts", "")]), PackageError::NotFound { .. }));
}

#[test]
fn nothing_outside_the_project_is_read() {
    let folder = project(&[("in/src/index.ts", "import '../../secret';"), ("secret.ts", "export {};")]);
    let error = bundle(&folder.path().join("in"), "src/index.ts").unwrap_err();
    assert!(matches!(error, PackageError::Outside { .. }), "{error}");
}

#[test]
fn lines_of_every_file_are_mapped() {
    let folder = project(&[
        ("src/index.ts", "import { g } from './g';\n\n\nexport function f() {\n  return g();\n}\n"),
        ("src/g.ts", "\n\nexport function g(): never {\n  throw new Error('x');\n}\n"),
    ]);
    let bundled = bundle(folder.path(), "src/index.ts").unwrap();
    assert!(
        bundled.source_map.contains("src/g.ts") && bundled.source_map.contains("src/index.ts"),
        "{}",
        bundled.source_map
    );
}
