//! A small bounded reader of XML, and Canonical XML 1.1 of what it read.
//!
//! It reads the part of XML in which reference manifests are written: elements, attributes, namespaces, text and the five named
//! entities. Document types, processing instructions, comments, CDATA sections, character references, attributes of the `xml`
//! namespace and carriage returns are refused: none of them occurs there, and each has been a way around a signature. What is
//! left has one canonical form (W3C, Canonical XML 1.1) that needs no schema and no network.

use std::borrow::Cow;

use crate::AttestError;

const WHAT: &str = "manifest XML";
const MAX_DEPTH: usize = 16;
const MAX_NODES: usize = 4096;
const MAX_ATTRIBUTES: usize = 128;
const MAX_NAMESPACES: usize = 16;

/// An element with all that is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    prefix: &'a str,
    pub(crate) local: &'a str,
    /// The namespace, empty for none.
    pub(crate) namespace: Cow<'a, str>,
    /// Prefixes that are declared on this very element.
    declared: Vec<(&'a str, Cow<'a, str>)>,
    attributes: Vec<Attribute<'a>>,
    pub(crate) children: Vec<Node<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node<'a> {
    Element(Element<'a>),
    Text(Cow<'a, str>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Attribute<'a> {
    prefix: &'a str,
    local: &'a str,
    namespace: Cow<'a, str>,
    value: Cow<'a, str>,
}

/// The prefixes in scope, innermost last.
type Scope<'a> = Vec<(&'a str, Cow<'a, str>)>;

impl<'a> Element<'a> {
    /// Reads a whole document.
    pub(crate) fn parse(text: &'a str) -> Result<Self, AttestError> {
        let mut parser = Parser { rest: text, nodes: 0 };
        if let Some(rest) = parser.rest.strip_prefix("<?xml ") {
            let (declaration, rest) = rest.split_once("?>").ok_or_else(truncated)?;
            if declaration.len() > 64 || declaration.contains(['<', '&', '\r']) {
                return Err(malformed("a strange XML declaration"));
            }
            parser.rest = rest;
        }
        parser.skip_space();
        let root = parser.element(&mut Scope::new(), 0)?;
        parser.skip_space();
        if parser.rest.is_empty() { Ok(root) } else { Err(AttestError::TrailingBytes { what: WHAT }) }
    }

    /// True if this is the element of that name in that namespace.
    pub(crate) fn is(&self, namespace: &str, local: &str) -> bool {
        self.local == local && self.namespace == namespace
    }

    /// The elements inside, in order.
    pub(crate) fn elements(&self) -> impl Iterator<Item = &Element<'a>> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// The text inside, if there is nothing else.
    pub(crate) fn text(&self) -> Option<&str> {
        match self.children.as_slice() {
            [Node::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The value of an attribute; `namespace` is empty for one without prefix.
    pub(crate) fn attribute(&self, namespace: &str, local: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|attribute| attribute.local == local && attribute.namespace == namespace)
            .map(|attribute| attribute.value.as_ref())
    }

    /// The local names of the attributes in a namespace.
    pub(crate) fn attributes_in(&self, namespace: &str) -> impl Iterator<Item = &str> {
        self.attributes
            .iter()
            .filter(move |attribute| attribute.namespace == namespace)
            .map(|attribute| attribute.local)
    }

    /// How many attributes there are, namespace declarations aside.
    pub(crate) fn attribute_count(&self) -> usize {
        self.attributes.len()
    }

    /// True if this element or one inside it is of that name.
    pub(crate) fn count(&self, namespace: &str, local: &str) -> usize {
        usize::from(self.is(namespace, local))
            + self.elements().map(|element| element.count(namespace, local)).sum::<usize>()
    }

    /// The canonical form of this root element without its child at `omitted`.
    pub(crate) fn canonical_without(&self, omitted: usize) -> String {
        let mut out = String::new();
        self.write(&mut out, &mut Scope::new(), &[], Some(omitted));
        out
    }

    /// The canonical form of the element that `way` leads to from this root, as a document subset: its apex element declares
    /// every namespace in scope.
    pub(crate) fn canonical_subset(&self, way: &[usize]) -> Option<String> {
        let (mut element, mut inherited) = (self, Scope::new());
        for &step in way {
            declare(&mut inherited, &element.declared);
            let Some(Node::Element(child)) = element.children.get(step) else { return None };
            element = child;
        }
        let mut out = String::new();
        element.write(&mut out, &mut Scope::new(), &inherited, None);
        Some(out)
    }

    /// Writes this element; `written` holds what the elements written around it declare, `inherited` what is in scope besides.
    fn write(
        &self,
        out: &mut String,
        written: &mut Scope<'a>,
        inherited: &[(&'a str, Cow<'a, str>)],
        omitted: Option<usize>,
    ) {
        let outer = written.len();
        let mut declarations: Scope<'a> = inherited.to_vec();
        declare(&mut declarations, &self.declared);
        declarations.retain(|(prefix, uri)| lookup(written, prefix).unwrap_or_default() != uri);
        declarations.sort_by(|one, other| one.0.cmp(other.0));
        let mut attributes: Vec<&Attribute<'a>> = self.attributes.iter().collect();
        attributes.sort_by(|one, other| (&one.namespace, one.local).cmp(&(&other.namespace, other.local)));

        out.push('<');
        push_name(out, self.prefix, self.local);
        for (prefix, uri) in &declarations {
            out.push_str(if prefix.is_empty() { " xmlns" } else { " xmlns:" });
            out.push_str(prefix);
            push_value(out, uri);
        }
        for attribute in attributes {
            out.push(' ');
            push_name(out, attribute.prefix, attribute.local);
            push_value(out, &attribute.value);
        }
        out.push('>');
        written.append(&mut declarations);
        for (index, node) in self.children.iter().enumerate() {
            match node {
                _ if omitted == Some(index) => {}
                Node::Element(element) => element.write(out, written, &[], None),
                Node::Text(text) => push_escaped(out, text, |character| match character {
                    '&' => Some("&amp;"),
                    '<' => Some("&lt;"),
                    '>' => Some("&gt;"),
                    _ => None,
                }),
            }
        }
        written.truncate(outer);
        out.push_str("</");
        push_name(out, self.prefix, self.local);
        out.push('>');
    }
}

/// Puts declarations into a scope in which each prefix stands once.
fn declare<'a>(scope: &mut Scope<'a>, declared: &[(&'a str, Cow<'a, str>)]) {
    for (prefix, uri) in declared {
        scope.retain(|(other, _)| other != prefix);
        scope.push((prefix, uri.clone()));
    }
}

fn lookup<'s>(scope: &'s [(&str, Cow<'_, str>)], prefix: &str) -> Option<&'s str> {
    scope.iter().rev().find(|(other, _)| *other == prefix).map(|(_, uri)| uri.as_ref())
}

fn push_name(out: &mut String, prefix: &str, local: &str) {
    if !prefix.is_empty() {
        out.push_str(prefix);
        out.push(':');
    }
    out.push_str(local);
}

/// Control characters cannot occur in a value that was read here, so that three escapes are enough.
fn push_value(out: &mut String, value: &str) {
    out.push_str("=\"");
    push_escaped(out, value, |character| match character {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '"' => Some("&quot;"),
        _ => None,
    });
    out.push('"');
}

fn push_escaped(out: &mut String, text: &str, escape: impl Fn(char) -> Option<&'static str>) {
    for character in text.chars() {
        match escape(character) {
            Some(escaped) => out.push_str(escaped),
            None => out.push(character),
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
    nodes: usize,
}

impl<'a> Parser<'a> {
    /// An element, from its `<` to its end.
    fn element(&mut self, scope: &mut Scope<'a>, depth: usize) -> Result<Element<'a>, AttestError> {
        if depth == MAX_DEPTH {
            return Err(malformed("elements are nested too deeply"));
        }
        self.count()?;
        self.expect("<")?;
        let (prefix, local) = self.name()?;
        let mut declared = Scope::new();
        let mut plain: Vec<(&str, &str, Cow<'a, str>)> = Vec::new();
        let empty = loop {
            let spaced = self.skip_space();
            if self.take("/>") {
                break true;
            }
            if self.take(">") {
                break false;
            }
            if !spaced {
                return Err(malformed("attributes without space between them"));
            }
            let (prefix, local) = self.name()?;
            self.skip_space();
            self.expect("=")?;
            self.skip_space();
            let value = self.value()?;
            match (prefix, local) {
                ("", "xmlns") => declared.push(("", value)),
                ("xmlns", "xml" | "xmlns") => return Err(malformed("a reserved prefix is declared")),
                ("xmlns", _) if value.is_empty() => return Err(malformed("a prefix is declared as nothing")),
                ("xmlns", prefix) => declared.push((prefix, value)),
                ("xml", _) => return Err(malformed("an attribute of the xml namespace")),
                _ => plain.push((prefix, local, value)),
            }
            if plain.len() > MAX_ATTRIBUTES || declared.len() > MAX_NAMESPACES {
                return Err(malformed("too many attributes"));
            }
        };
        if declared.iter().enumerate().any(|(index, (prefix, _))| lookup(&declared[..index], prefix).is_some()) {
            return Err(malformed("a prefix is declared twice"));
        }
        let outer = scope.len();
        scope.extend(declared.iter().cloned());
        let resolve = |prefix: &str| -> Result<Cow<'a, str>, AttestError> {
            let found = scope.iter().rev().find(|(other, _)| *other == prefix).map(|(_, uri)| uri.clone());
            match found {
                Some(uri) => Ok(uri),
                None if prefix.is_empty() => Ok(Cow::Borrowed("")),
                None => Err(malformed("a prefix that is not declared")),
            }
        };
        let namespace = resolve(prefix)?;
        let mut attributes: Vec<Attribute<'a>> = Vec::with_capacity(plain.len());
        for (prefix, local, value) in plain {
            // An attribute without prefix is in no namespace, whatever the default is.
            let namespace = if prefix.is_empty() { Cow::Borrowed("") } else { resolve(prefix)? };
            if attributes.iter().any(|other| other.local == local && other.namespace == namespace) {
                return Err(malformed("an attribute stands twice"));
            }
            attributes.push(Attribute { prefix, local, namespace, value });
        }
        let children = if empty { vec![] } else { self.content(scope, depth)? };
        scope.truncate(outer);
        if !empty {
            // Behind `</`, which ended the content.
            if self.name()? != (prefix, local) {
                return Err(malformed("an end tag of another element"));
            }
            self.skip_space();
            self.expect(">")?;
        }
        Ok(Element { prefix, local, namespace, declared, attributes, children })
    }

    /// Text and elements up to `</`, which is consumed.
    fn content(&mut self, scope: &mut Scope<'a>, depth: usize) -> Result<Vec<Node<'a>>, AttestError> {
        let mut children = Vec::new();
        loop {
            let end = self.rest.find('<').ok_or_else(truncated)?;
            let (text, rest) = self.rest.split_at(end);
            if !text.is_empty() {
                self.count()?;
                if text.contains("]]>") || text.contains(|c: char| c.is_control() && c != '\n' && c != '\t') {
                    return Err(malformed("text with characters that are refused"));
                }
                children.push(Node::Text(unescape(text)?));
            }
            self.rest = rest;
            if self.take("</") {
                return Ok(children);
            }
            if rest.starts_with("<!") || rest.starts_with("<?") {
                return Err(malformed("a comment, section, instruction or document type"));
            }
            children.push(Node::Element(self.element(scope, depth + 1)?));
        }
    }

    /// A name, as prefix and local part, of ASCII characters.
    fn name(&mut self) -> Result<(&'a str, &'a str), AttestError> {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':')))
            .unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        let (prefix, local) = name.split_once(':').map_or(("", name), |(prefix, local)| (prefix, local));
        let good = |part: &str| {
            part.len() <= 64 && part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && !part.contains(':')
        };
        if !good(local) || !(good(prefix) || prefix.is_empty() && !name.contains(':')) {
            return Err(malformed("a strange name"));
        }
        self.rest = rest;
        Ok((prefix, local))
    }

    /// A quoted value.
    fn value(&mut self) -> Result<Cow<'a, str>, AttestError> {
        let quote = if self.take("\"") {
            '"'
        } else {
            self.expect("'")?;
            '\''
        };
        let (value, rest) = self.rest.split_once(quote).ok_or_else(truncated)?;
        if value.contains(|c: char| c == '<' || c.is_control()) {
            return Err(malformed("a value with characters that are refused"));
        }
        self.rest = rest;
        unescape(value)
    }

    fn skip_space(&mut self) -> bool {
        let trimmed = self.rest.trim_start_matches([' ', '\n', '\t']);
        let skipped = trimmed.len() < self.rest.len();
        self.rest = trimmed;
        skipped
    }

    fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), AttestError> {
        if self.take(token) {
            Ok(())
        } else if self.rest.is_empty() {
            Err(truncated())
        } else {
            Err(malformed("another character than the grammar has there"))
        }
    }

    fn count(&mut self) -> Result<(), AttestError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES { Err(malformed("too many elements")) } else { Ok(()) }
    }
}

/// Replaces the five named entities; any other reference is refused.
fn unescape(text: &str) -> Result<Cow<'_, str>, AttestError> {
    if !text.contains('&') {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut parts = text.split('&');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (name, rest) = part.split_once(';').ok_or_else(|| malformed("a reference without an end"))?;
        out.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => return Err(malformed("a reference that is refused")),
        });
        out.push_str(rest);
    }
    Ok(Cow::Owned(out))
}

fn malformed(detail: &str) -> AttestError {
    AttestError::Malformed { what: WHAT, detail: detail.to_owned() }
}

fn truncated() -> AttestError {
    AttestError::Truncated { what: WHAT }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The canonical form of a whole document: a child that does not exist is left out.
    fn canonical(text: &str) -> String {
        Element::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).canonical_without(usize::MAX)
    }

    #[test]
    fn canonical_forms_are_those_of_the_standard() {
        let check = |text: &str, expected: &str| assert_eq!(canonical(text), expected);
        // Start and end tags, order of attributes and namespaces: after the examples of Canonical XML 1.1, section 3.3.
        check("<doc>\n   <e1   />\n   <e2   ></e2>\n</doc>", "<doc>\n   <e1></e1>\n   <e2></e2>\n</doc>");
        check(
            "<e5 a:attr=\"out\" b:attr=\"sorted\" attr2=\"all\" attr=\"I'm\" xmlns:b=\"http://www.ietf.org\" \
             xmlns:a=\"http://www.w3.org\" xmlns=\"http://example.org\"/>",
            "<e5 xmlns=\"http://example.org\" xmlns:a=\"http://www.w3.org\" xmlns:b=\"http://www.ietf.org\" \
             attr=\"I'm\" attr2=\"all\" b:attr=\"sorted\" a:attr=\"out\"></e5>",
        );
        check(
            "<e6 xmlns:a=\"http://www.w3.org\"><e7 xmlns=\"http://www.ietf.org\"><e8 xmlns=\"\" a:foo=\"bar\">\
             <e9 xmlns=\"\" xmlns:a=\"http://www.ietf.org\"/></e8></e7></e6>",
            "<e6 xmlns:a=\"http://www.w3.org\"><e7 xmlns=\"http://www.ietf.org\"><e8 xmlns=\"\" a:foo=\"bar\">\
             <e9 xmlns:a=\"http://www.ietf.org\"></e9></e8></e7></e6>",
        );
        check(
            "<d a='x &quot; y &gt; &amp;'>&lt;&gt;&amp;&quot;</d>",
            "<d a=\"x &quot; y > &amp;\">&lt;&gt;&amp;\"</d>",
        );
        check("<?xml version=\"1.0\"?>\n<d xmlns:unused=\"u\"/>\n", "<d xmlns:unused=\"u\"></d>");
        check(
            "<p:d xmlns:p=\"u\"><p:e xmlns:p=\"u\"/><p:e xmlns:p=\"v\"/></p:d>",
            "<p:d xmlns:p=\"u\"><p:e></p:e><p:e xmlns:p=\"v\"></p:e></p:d>",
        );
    }

    #[test]
    fn a_subset_declares_what_is_in_scope() {
        let root =
            Element::parse("<a xmlns=\"d\" xmlns:p=\"u\"><b xmlns:q=\"w\" xmlns:p=\"v\"><c><e/></c></b></a>").unwrap();
        assert_eq!(root.canonical_subset(&[0, 0]).unwrap(), "<c xmlns=\"d\" xmlns:p=\"v\" xmlns:q=\"w\"><e></e></c>");
        assert_eq!(root.canonical_subset(&[1]), None);
    }

    #[test]
    fn what_is_not_needed_is_refused() {
        let refused = |text: &str| {
            let result = Element::parse(text);
            assert!(result.is_err(), "{text}: {result:?}");
        };
        for text in [
            "",
            "text",
            "<a",
            "<a>",
            "<a></b>",
            "<a></a><b/>",
            "<a></a>text",
            "<!DOCTYPE a [<!ENTITY e \"x\">]><a>&e;</a>",
            "<a><!-- comment --></a>",
            "<a><![CDATA[x]]></a>",
            "<a><?php x?></a>",
            "<a>&#65;</a>",
            "<a>&unknown;</a>",
            "<a>&amp</a>",
            "<a>]]></a>",
            "<a>\r\n</a>",
            "<a b=\"x\ny\"/>",
            "<a b=\"<\"/>",
            "<a b=\"1\"c=\"2\"/>",
            "<a b=\"1\" b=\"2\"/>",
            "<a xmlns:p=\"u\" xmlns:q=\"u\" p:b=\"1\" q:b=\"2\"/>",
            "<a xmlns:p=\"u\" xmlns:p=\"v\"/>",
            "<a xmlns:p=\"\"/>",
            "<a xmlns:xml=\"u\"/>",
            "<a xml:space=\"preserve\"/>",
            "<p:a/>",
            "<a p:b=\"1\"/>",
            "<a:b:c xmlns:a=\"u\"/>",
            "<:a/>",
            "<1a/>",
            "<ä/>",
        ] {
            refused(text);
        }
        refused(&format!("{}{}", "<a>".repeat(17), "</a>".repeat(17)));
        refused(&format!("<a>{}</a>", "<b/>".repeat(MAX_NODES)));
        refused(&format!("<a {}/>", (0..200).map(|index| format!("b{index}=\"\" ")).collect::<String>()));
    }
}
