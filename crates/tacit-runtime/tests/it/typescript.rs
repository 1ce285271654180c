//! TypeScript through the transform, and traces in the author's lines.

use tacit_runtime::typescript::transform;
use tacit_runtime::{Failure, Program};

use crate::support::{block_on, call, command, engine, text};

const SOURCE: &str = r#"import { state } from "tacit";

enum Color { Red = 1, Green = Red << 1, Blue = "blue".length }
namespace Shapes {
  export abstract class Shape {
    constructor(protected readonly name: string, private sides?: number) {}
    abstract area(): number;
    describe(): string { return `${this.name}/${this.sides ?? 0}: ${this.area()}`; }
  }
}
class Square extends Shapes.Shape {
  constructor(private size: number) { super("square", 4); }
  override area(): number { return this.size ** 2; }
}
interface Input { size: number; mode?: "ok" | "fail" }
type Result<T> = { value: T };

function explode(reason: string): never {
  throw new TypeError(reason satisfies string);
}

export async function main(input: Input): Promise<Result<unknown>> {
  await state.set("last", input.size as number);
  if (input.mode === "fail") {
    explode("asked to");
  }
  const shape: Shapes.Shape = new Square(input.size!);
  return { value: [Color.Green, Color[1], Color.Blue, shape.describe()] };
}
"#;

fn build(source: &str) -> Program {
    let made = transform("src/index.ts", source).unwrap();
    block_on(engine().compile_js(&made.code, Some(&made.source_map))).unwrap()
}

#[test]
fn enums_namespaces_and_parameter_properties_work() {
    let outcome = call(&build(SOURCE), command("main", r#"{"size":3}"#));
    assert_eq!(text(&outcome), r#"{"value":[2,"Red",4,"square/4: 9"]}"#);
    assert_eq!(outcome.writes[0].key, "last");
}

#[test]
fn a_trace_names_the_authors_file_line_and_column() {
    match call(&build(SOURCE), command("main", r#"{"size":3,"mode":"fail"}"#)).result {
        Err(Failure::Thrown { name, message, stack }) => {
            assert_eq!((name.as_str(), message.as_str()), ("TypeError", "asked to"));
            let frames: Vec<&str> = stack.lines().map(str::trim).collect();
            // Line 19 is `throw new TypeError(…)`, line 25 the call of `explode`.
            assert!(frames[0].starts_with("at explode (src/index.ts:19:"), "{stack}");
            assert!(frames[1].starts_with("at main (src/index.ts:25:"), "{stack}");
            let column: u32 = frames[0].trim_end_matches(')').rsplit(':').next().unwrap().parse().unwrap();
            assert!((3..=23).contains(&column), "{stack}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn errors_of_the_source_name_their_place() {
    let check = |source: &str, expected: &str| {
        let error = transform("src/index.ts", source).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    check("const a = 1;\nexport const b = ;", "src/index.ts:2:");
    check("const a = 1;\nconst a = 2;", "src/index.ts:");
    assert!(transform("readme.md", "x").is_err());
}

#[test]
fn nesting_does_not_break_the_developers_machine() {
    // The parser may refuse this; it must not end the process.
    let _ = transform("a.ts", &format!("export const x = {}1{};", "[".repeat(5_000), "]".repeat(5_000)));
}

#[test]
fn plain_javascript_passes_through() {
    let made = transform("main.js", "export const f = (x) => x ** 2;").unwrap();
    assert!(made.code.contains("export const f"));
}
