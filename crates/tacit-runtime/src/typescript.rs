//! TypeScript to JavaScript, with a source map: what a developer's machine does before it deploys.
//!
//! The transform reads trusted source, the author's own, and never runs in a worker: workers compile JavaScript only,
//! inside a sandbox.

use std::path::Path;

use oxc_allocator::Allocator;
use oxc_codegen::{Codegen, CodegenOptions};
use oxc_diagnostics::{Diagnostics, OxcDiagnostic};
use oxc_parser::Parser;
use oxc_semantic::SemanticBuilder;
use oxc_span::SourceType;
use oxc_transformer::{TransformOptions, Transformer};

/// Stack of the thread that transforms: the parser recurses with the nesting of the source.
const STACK: usize = 64 << 20;

/// JavaScript and where each piece of it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transformed {
    /// One ES module.
    pub code: String,
    /// Source map of version 3 as JSON.
    pub source_map: String,
}

/// What is wrong with a source, one message for each error, with file, line and column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct SourceErrors(pub Vec<String>);

/// Turns one TypeScript or JavaScript file (by its extension) into one ES module and its source map.
///
/// # Errors
/// Fails with the errors of the source.
pub fn transform(file: &str, source: &str) -> Result<Transformed, SourceErrors> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, || transform_here(file, source))
            .map_err(|error| SourceErrors(vec![format!("{file}: no thread to transform it: {error}")]))?
            .join()
            .map_err(|_| SourceErrors(vec![format!("{file}: the transform does not understand this source")]))?
    })
}

fn transform_here(file: &str, source: &str) -> Result<Transformed, SourceErrors> {
    let path = Path::new(file);
    let kind = SourceType::from_path(path)
        .map_err(|_| SourceErrors(vec![format!("{file}: expected a .ts, .mts, .js or .mjs file")]))?
        .with_module(true);
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, source, kind).parse();
    refuse(file, source, &parsed.diagnostics)?;
    let mut program = parsed.program;
    let semantic = SemanticBuilder::new().with_check_syntax_error(true).with_enum_eval(true).build(&program);
    refuse(file, source, &semantic.diagnostics)?;
    let transformed = Transformer::new(&allocator, path, &TransformOptions::default())
        .build_with_scoping(semantic.semantic.into_scoping(), &mut program);
    refuse(file, source, &transformed.diagnostics)?;
    let options = CodegenOptions { source_map_path: Some(path.to_path_buf()), ..CodegenOptions::default() };
    let generated = Codegen::new().with_options(options).build(&program);
    let source_map = generated.map.map(|map| map.to_json_string()).unwrap_or_default();
    Ok(Transformed { code: generated.code, source_map })
}

fn refuse(file: &str, source: &str, found: &Diagnostics) -> Result<(), SourceErrors> {
    if !found.has_errors() {
        return Ok(());
    }
    let say = |error: &OxcDiagnostic| {
        let offset = error.labels.first().map(|label| (label.offset() as usize).min(source.len()));
        match offset {
            Some(offset) => {
                let before = &source.as_bytes()[..offset];
                let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
                let column = before.iter().rev().take_while(|&&byte| byte != b'\n').count() + 1;
                format!("{file}:{line}:{column}: {}", error.message)
            }
            None => format!("{file}: {}", error.message),
        }
    };
    Err(SourceErrors(found.errors().map(say).collect()))
}
