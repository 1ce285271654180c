//! One ES module out of an entry file and what it imports from its own project.
//!
//! Every imported file becomes a function that is run once, in the order of the imports, and returns an object of getters;
//! uses of an import become reads of such a getter, so that bindings stay live. Only the module `tacit` stays an import.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    path::{Path, PathBuf},
};

use oxc_allocator::Allocator;
use oxc_ast::AstKind;
use oxc_parser::Parser;
use oxc_semantic::{Semantic, SemanticBuilder};
use oxc_span::{GetSpan as _, SourceType, Span};
use oxc_syntax::module_record::{ExportEntry, ExportExportName, ExportImportName, ImportImportName, ModuleRecord};
use tacit_runtime::typescript::{Transformed, transform};

use crate::package::PackageError;

mod source_map;

use source_map::MapBuilder;

/// Most files of one function.
const FILES: usize = 512;
/// Most bytes of one source file.
const FILE_BYTES: u64 = 4 << 20;
/// Stack of the thread that parses: parsers recurse with the nesting of the source.
const STACK: usize = 64 << 20;
/// The module that the worker provides.
const HOST: &str = "tacit";

/// Bundles the entry file `entry` of the project folder `root`.
pub(crate) fn bundle(root: &Path, entry: &str) -> Result<Transformed, PackageError> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, || Bundler::new(root)?.run(entry))
            .map_err(|_| PackageError::Source("no thread to read the source".into()))?
            .join()
            .map_err(|_| PackageError::Source(format!("{entry}: the bundler does not understand this source")))?
    })
}

/// A file of the project as JavaScript, with what it exports.
struct Module {
    path: String,
    code: String,
    source_map: String,
    /// Expression for each exported name, valid inside the module's function.
    exports: BTreeMap<String, String>,
}

struct Bundler {
    root: PathBuf,
    done: Vec<Module>,
    numbers: HashMap<PathBuf, usize>,
    under_way: Vec<PathBuf>,
    uses_host: bool,
}

/// A replacement of a piece of text.
struct Edit {
    span: Span,
    text: String,
}

impl Bundler {
    fn new(root: &Path) -> Result<Self, PackageError> {
        let root = root.canonicalize().map_err(|source| PackageError::Read { path: root.to_owned(), source })?;
        Ok(Self { root, done: Vec::new(), numbers: HashMap::new(), under_way: Vec::new(), uses_host: false })
    }

    fn run(mut self, entry: &str) -> Result<Transformed, PackageError> {
        let path = self.find(&self.root.join(entry), None, entry)?;
        let main = self.read(&path)?;
        let main = self.rewrite(main, &path, true)?;
        let mut map = MapBuilder::default();
        let mut code = String::new();
        if self.uses_host {
            let _ = writeln!(code, "import * as $tacit_host from \"{HOST}\";");
        }
        for (number, module) in self.done.iter().enumerate() {
            let _ = writeln!(code, "const $tacit_{number} = (() => {{");
            map.append(lines(&code), &module.source_map);
            code.push_str(&module.code);
            code.push_str("\nreturn Object.freeze({ __proto__: null");
            for (name, expression) in &module.exports {
                let _ = write!(code, ", get {}() {{ return {expression}; }}", quoted(name));
            }
            code.push_str(" });\n})();\n");
        }
        map.append(lines(&code), &main.source_map);
        code.push_str(&main.code);
        Ok(Transformed { code, source_map: map.finish() })
    }

    /// Reads a file as JavaScript.
    fn read(&self, path: &Path) -> Result<Module, PackageError> {
        let read = |source| PackageError::Read { path: path.to_owned(), source };
        let size = std::fs::metadata(path).map_err(read)?.len();
        if size > FILE_BYTES {
            return Err(PackageError::Source(format!(
                "{} has {size} bytes, at most {FILE_BYTES} are taken",
                path.display()
            )));
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        let name = path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned();
        if path.extension().is_some_and(|extension| extension == "json") {
            serde_json::from_str::<serde_json::Value>(&text)
                .map_err(|error| PackageError::Source(format!("{name}: not JSON: {error}")))?;
            let code = format!("export default {};", text.trim());
            return Ok(Module { path: name, code, source_map: String::new(), exports: BTreeMap::new() });
        }
        let Transformed { code, source_map } =
            transform(&name, &text).map_err(|errors| PackageError::Source(errors.to_string()))?;
        Ok(Module { path: name, code, source_map, exports: BTreeMap::new() })
    }

    /// Number of the module that `specifier` in `from` names, bundled before this returns.
    fn require(&mut self, specifier: &str, from: &Path) -> Result<usize, PackageError> {
        let folder = from.parent().unwrap_or(&self.root);
        let path = self.find(&folder.join(specifier), Some(from), specifier)?;
        if let Some(number) = self.numbers.get(&path) {
            return Ok(*number);
        }
        if self.under_way.contains(&path) {
            return Err(PackageError::Cycle(self.name(&path)));
        }
        if self.done.len() + self.under_way.len() >= FILES {
            return Err(PackageError::Source(format!("more than {FILES} files")));
        }
        let module = self.read(&path)?;
        let module = self.rewrite(module, &path, false)?;
        self.done.push(module);
        self.numbers.insert(path, self.done.len() - 1);
        Ok(self.done.len() - 1)
    }

    /// The file that an import names: as it stands, with an extension, `.ts` for `.js`, or the folder's index.
    fn find(&self, wanted: &Path, from: Option<&Path>, specifier: &str) -> Result<PathBuf, PackageError> {
        let text = wanted.to_string_lossy();
        let mut candidates = vec![wanted.to_owned()];
        for (javascript, typescript) in [(".js", ".ts"), (".mjs", ".mts")] {
            if let Some(stem) = text.strip_suffix(javascript) {
                candidates.push(format!("{stem}{typescript}").into());
            }
        }
        candidates.extend([".ts", ".mts", ".js", ".mjs", ".json"].map(|extension| format!("{text}{extension}").into()));
        candidates.extend(["index.ts", "index.js"].map(|index| wanted.join(index)));
        let found = candidates.iter().find(|path| path.is_file()).and_then(|path| path.canonicalize().ok());
        let from = from.map_or_else(|| "tacit.toml".to_owned(), |from| self.name(from));
        match found {
            Some(path) if path.starts_with(&self.root) => Ok(path),
            Some(_) => Err(PackageError::Outside { file: from, specifier: specifier.to_owned() }),
            None => Err(PackageError::NotFound { file: from, specifier: specifier.to_owned() }),
        }
    }

    fn name(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned()
    }

    /// Takes imports of the project's own files and, in a file that is not the entry, exports out of a module's code.
    fn rewrite(&mut self, module: Module, path: &Path, is_entry: bool) -> Result<Module, PackageError> {
        self.under_way.push(path.to_owned());
        let allocator = Allocator::default();
        let parsed = Parser::new(&allocator, &module.code, SourceType::mjs()).parse();
        if parsed.diagnostics.has_errors() {
            return Err(PackageError::Source(format!("{}: the transformed source cannot be read", module.path)));
        }
        let semantic = SemanticBuilder::new().with_build_nodes(true).build(&parsed.program).semantic;
        let record = &parsed.module_record;
        if !record.dynamic_imports.is_empty() {
            return Err(PackageError::Dynamic(module.path));
        }
        let mut pass = Pass {
            module: &module,
            semantic: &semantic,
            statements: parsed.program.body.iter().map(|statement| statement.span()).collect(),
            edits: Vec::new(),
            exports: BTreeMap::new(),
            tail: String::new(),
        };
        let places = self.resolve(record, path, is_entry)?;
        pass.imports(record, &places, &self.done, is_entry)?;
        if is_entry {
            pass.entry_exports(record, &places, &self.done)?;
        } else {
            pass.module_exports(record, &places, &self.done)?;
        }
        let (edits, exports, tail) = (pass.edits, pass.exports, pass.tail);
        let code = apply(&module.code, edits) + &tail;
        self.under_way.pop();
        Ok(Module { code, exports, ..module })
    }

    /// The expression that stands for each imported module; none for one that stays an import.
    fn resolve(
        &mut self,
        record: &ModuleRecord<'_>,
        path: &Path,
        is_entry: bool,
    ) -> Result<BTreeMap<String, Place>, PackageError> {
        let mut requested: Vec<(u32, String)> = record
            .requested_modules
            .iter()
            .filter_map(|(name, uses)| Some((uses.iter().map(|one| one.span.start).min()?, name.to_string())))
            .collect();
        requested.sort();
        let mut places = BTreeMap::new();
        for (_, specifier) in requested {
            let place = if specifier.starts_with("./") || specifier.starts_with("../") {
                Place::Module(self.require(&specifier, path)?)
            } else if specifier == HOST {
                self.uses_host |= !is_entry;
                Place::Host
            } else {
                return Err(PackageError::Npm { file: self.name(path), specifier });
            };
            places.insert(specifier, place);
        }
        Ok(places)
    }
}

/// Where an imported module is in the bundle.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// One of the project's files, by its number.
    Module(usize),
    /// The module that the worker provides.
    Host,
}

impl Place {
    fn object(self) -> String {
        match self {
            Self::Module(number) => format!("$tacit_{number}"),
            Self::Host => "$tacit_host".to_owned(),
        }
    }

    /// The expression for one of its exports, which it must have.
    fn member(self, name: &str, specifier: &str, done: &[Module], file: &str) -> Result<String, PackageError> {
        if let Self::Module(number) = self
            && !done[number].exports.contains_key(name)
        {
            return Err(PackageError::NoExport {
                file: file.to_owned(),
                specifier: specifier.to_owned(),
                name: name.to_owned(),
            });
        }
        Ok(format!("{}[{}]", self.object(), quoted(name)))
    }
}

/// The edits of one module.
struct Pass<'m, 'a> {
    module: &'m Module,
    semantic: &'m Semantic<'a>,
    /// The module's statements.
    statements: Vec<Span>,
    edits: Vec<Edit>,
    exports: BTreeMap<String, String>,
    tail: String,
}

impl Pass<'_, '_> {
    fn imports(
        &mut self,
        record: &ModuleRecord<'_>,
        places: &BTreeMap<String, Place>,
        done: &[Module],
        is_entry: bool,
    ) -> Result<(), PackageError> {
        let stays = |place: Place| is_entry && place == Place::Host;
        for (specifier, uses) in &record.requested_modules {
            if !stays(places[specifier.as_str()]) {
                for one in uses.iter().filter(|one| one.is_import) {
                    self.edits.push(Edit { span: one.statement_span, text: String::new() });
                }
            }
        }
        for entry in &record.import_entries {
            let specifier = entry.module_request.name.as_str();
            let place = places[specifier];
            if stays(place) {
                continue;
            }
            let expression = match &entry.import_name {
                ImportImportName::NamespaceObject => place.object(),
                ImportImportName::Default(_) => place.member("default", specifier, done, &self.module.path)?,
                ImportImportName::Name(name) => place.member(name.name.as_str(), specifier, done, &self.module.path)?,
            };
            self.replace_uses(entry.local_name.span, &expression);
        }
        Ok(())
    }

    /// Replaces every use of the binding that is declared at `declared`.
    fn replace_uses(&mut self, declared: Span, expression: &str) {
        let scoping = self.semantic.scoping();
        let Some(symbol) = scoping.symbol_ids().find(|symbol| scoping.symbol_span(*symbol) == declared) else { return };
        for reference in self.semantic.symbol_references(symbol) {
            let span = self.semantic.reference_span(reference);
            let parent = self.semantic.nodes().parent_node(reference.node_id()).kind();
            let text = match parent {
                AstKind::ObjectProperty(property) if property.shorthand => {
                    format!("{}: {expression}", span.source_text(&self.module.code))
                }
                // Without this the module's object would become `this` of the call.
                AstKind::CallExpression(call) if call.callee.span() == span => format!("(0, {expression})"),
                AstKind::TaggedTemplateExpression(tagged) if tagged.tag.span() == span => format!("(0, {expression})"),
                // `export { x }` of an import: the statement is replaced as a whole.
                AstKind::ExportSpecifier(_) => continue,
                _ => expression.to_owned(),
            };
            self.edits.push(Edit { span, text });
        }
    }

    /// The statement that an export stands in.
    fn statement(&self, entry: &ExportEntry<'_>) -> Span {
        let holds = |statement: &&Span| statement.start <= entry.span.start && entry.span.end <= statement.end;
        self.statements.iter().find(holds).copied().unwrap_or(entry.statement_span)
    }

    /// The expression for an export that comes out of another module; none for one of the module's own.
    fn exported_from(
        &self,
        entry: &ExportEntry<'_>,
        record: &ModuleRecord<'_>,
        places: &BTreeMap<String, Place>,
        done: &[Module],
    ) -> Result<Option<String>, PackageError> {
        let file = &self.module.path;
        // `export … from`: the parser gives an export of an import the import's statement instead.
        if let Some(request) = entry.module_request.as_ref().filter(|_| self.statement(entry) == entry.statement_span) {
            let specifier = request.name.as_str();
            let place = places[specifier];
            return Ok(Some(match &entry.import_name {
                ExportImportName::Name(name) => place.member(name.name.as_str(), specifier, done, file)?,
                _ => place.object(),
            }));
        }
        let text = entry.span.source_text(&self.module.code);
        let local = entry
            .local_name
            .name()
            .map_or_else(|| text.split_whitespace().next().unwrap_or(text), |name| name.as_str());
        let Some(import) = record.import_entries.iter().find(|import| import.local_name.name.as_str() == local) else {
            return Ok(None);
        };
        let specifier = import.module_request.name.as_str();
        let place = places[specifier];
        Ok(Some(match &import.import_name {
            ImportImportName::NamespaceObject => place.object(),
            ImportImportName::Default(_) => place.member("default", specifier, done, file)?,
            ImportImportName::Name(name) => place.member(name.name.as_str(), specifier, done, file)?,
        }))
    }

    /// Names that a module exports with `export *`, with the expression for each.
    fn exported_stars(
        &self,
        record: &ModuleRecord<'_>,
        places: &BTreeMap<String, Place>,
        done: &[Module],
    ) -> Result<BTreeMap<String, String>, PackageError> {
        let mut passed = BTreeMap::new();
        for entry in &record.star_export_entries {
            let Some(request) = &entry.module_request else { continue };
            let Place::Module(number) = places[request.name.as_str()] else {
                return Err(self.host_is_not_exported(entry));
            };
            for name in done[number].exports.keys().filter(|name| *name != "default") {
                let expression = Place::Module(number).member(name, request.name.as_str(), done, &self.module.path)?;
                passed.entry(name.clone()).or_insert(expression);
            }
        }
        Ok(passed)
    }

    fn host_is_not_exported(&self, entry: &ExportEntry<'_>) -> PackageError {
        let text = self.statement(entry).source_text(&self.module.code);
        PackageError::Source(format!("{}: `{text}`: what \"{HOST}\" gives cannot be exported", self.module.path))
    }

    /// Exports of a file that is not the entry: the words go, the names are kept for the module's object.
    fn module_exports(
        &mut self,
        record: &ModuleRecord<'_>,
        places: &BTreeMap<String, Place>,
        done: &[Module],
    ) -> Result<(), PackageError> {
        let mut seen = BTreeSet::new();
        for entry in record.local_export_entries.iter().chain(&record.indirect_export_entries) {
            let span = self.statement(entry);
            let text = span.source_text(&self.module.code);
            if seen.insert((span.start, span.end)) {
                self.strip_export(span, text);
            }
            let expression = match self.exported_from(entry, record, places, done)? {
                Some(expression) => expression,
                None => {
                    let is_default_statement = after_export(text).starts_with("default");
                    match entry.local_name.name() {
                        Some(name) if !is_default_statement || declares_name(after_default(text)) => name.to_string(),
                        _ => "$tacit_default".to_owned(),
                    }
                }
            };
            self.exports.insert(export_name(entry), expression);
        }
        for (name, expression) in self.exported_stars(record, places, done)? {
            self.exports.entry(name).or_insert(expression);
        }
        for entry in &record.star_export_entries {
            self.edits.push(Edit { span: self.statement(entry), text: String::new() });
        }
        Ok(())
    }

    fn strip_export(&mut self, span: Span, text: &str) {
        let rest = after_export(text);
        let at = |length: usize| Span::new(span.start, span.start + length as u32);
        let edit = if rest.starts_with(['{', '*']) {
            Edit { span, text: String::new() }
        } else if rest.starts_with("default") {
            let body = after_default(text);
            let word = if declares_name(body) { "" } else { "const $tacit_default = " };
            Edit { span: at(text.len() - body.len()), text: word.to_owned() }
        } else {
            Edit { span: at(text.len() - rest.len()), text: String::new() }
        };
        self.edits.push(edit);
    }

    /// Exports of the entry stay; what it exports from other files becomes constants that it exports.
    fn entry_exports(
        &mut self,
        record: &ModuleRecord<'_>,
        places: &BTreeMap<String, Place>,
        done: &[Module],
    ) -> Result<(), PackageError> {
        let stars = self.exported_stars(record, places, done)?;
        let mut removed: BTreeSet<(u32, u32)> = record
            .star_export_entries
            .iter()
            .map(|entry| self.statement(entry))
            .map(|span| (span.start, span.end))
            .collect();
        let (mut own, mut passed) = (Vec::new(), BTreeMap::new());
        for entry in record.local_export_entries.iter().chain(&record.indirect_export_entries) {
            match self.exported_from(entry, record, places, done)? {
                None => own.push(entry),
                Some(expression) if expression.starts_with("$tacit_host") => {
                    return Err(self.host_is_not_exported(entry));
                }
                Some(expression) => {
                    let span = self.statement(entry);
                    removed.insert((span.start, span.end));
                    passed.insert(export_name(entry), expression);
                }
            }
        }
        let mut tail = String::new();
        for entry in &own {
            let span = self.statement(entry);
            // A statement `export { own, imported }` goes as a whole: its own names are exported again.
            if removed.contains(&(span.start, span.end))
                && let Some(local) = entry.local_name.name()
            {
                let _ = write!(tail, "\nexport {{ {local} as {} }};", quoted(&export_name(entry)));
            }
        }
        let named: BTreeSet<String> = own.iter().map(|entry| export_name(entry)).collect();
        for (name, expression) in stars {
            passed.entry(name).or_insert(expression);
        }
        passed.retain(|name, _| !named.contains(name));
        for (number, (name, expression)) in passed.iter().enumerate() {
            let _ = write!(
                tail,
                "\nconst $tacit_export_{number} = {expression};\nexport {{ $tacit_export_{number} as {} }};",
                quoted(name)
            );
        }
        self.edits
            .extend(removed.iter().map(|(start, end)| Edit { span: Span::new(*start, *end), text: String::new() }));
        self.tail = tail;
        Ok(())
    }
}

fn export_name(entry: &ExportEntry<'_>) -> String {
    match &entry.export_name {
        ExportExportName::Name(name) => name.name.to_string(),
        _ => "default".to_owned(),
    }
}

fn after_export(statement: &str) -> &str {
    statement.strip_prefix("export").unwrap_or(statement).trim_start()
}

fn after_default(statement: &str) -> &str {
    let rest = after_export(statement);
    rest.strip_prefix("default").unwrap_or(rest).trim_start()
}

/// Whether a default export's text declares a function or class with a name of its own.
fn declares_name(text: &str) -> bool {
    let text = text.strip_prefix("async").map_or(text, str::trim_start);
    let rest = text.strip_prefix("function").or_else(|| text.strip_prefix("class"));
    let rest = rest.filter(|rest| rest.starts_with(|next: char| next.is_whitespace() || next == '*'));
    let name = rest.map(|rest| rest.trim_start().trim_start_matches('*').trim_start());
    let first = name.and_then(|name| name.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).next());
    first.is_some_and(|first| !first.is_empty() && first != "extends")
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string always has a JSON form")
}

fn lines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// Carries the edits out. Lines keep their numbers: what is cut leaves its line breaks.
fn apply(code: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| (edit.span.start, std::cmp::Reverse(edit.span.end)));
    let (mut out, mut at) = (String::with_capacity(code.len()), 0usize);
    for Edit { span, text } in edits {
        let (start, end) = (span.start as usize, span.end as usize);
        if start < at {
            continue;
        }
        out.push_str(&code[at..start]);
        out.push_str(&text);
        out.extend(std::iter::repeat_n('\n', lines(&code[start..end])));
        at = end;
    }
    out.push_str(&code[at..]);
    out
}

#[cfg(test)]
mod tests;
