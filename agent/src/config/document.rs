//! The text of a configuration as a tree that knows where each value was
//! written, with the environment's values laid over it.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::problem::{KeyPath, Place, Problem, Step};

/// Where a node was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// At this byte of the file.
    File(usize),
    /// In this environment variable.
    Variable(String),
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) origin: Origin,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Table(Vec<Entry>),
    Array(Vec<Node>),
    Text(String),
    /// TOML's integers have 64 bits; what does not fit is told as too large.
    Integer(i128),
    Float(f64),
    Bool(bool),
    Datetime,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Where the key stands, which is what a person looks for.
    pub(crate) key_origin: Origin,
    pub(crate) node: Node,
}

impl Node {
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Table(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    pub(crate) fn items(&self) -> &[Self] {
        match &self.kind {
            Kind::Array(items) => items,
            _ => &[],
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// A file, read as far as its syntax allows.
#[derive(Debug)]
pub(crate) struct Document {
    file: String,
    text: String,
    pub(crate) root: Node,
    /// What the TOML parser refused.
    pub(crate) syntax: Vec<Problem>,
}

impl Document {
    pub(crate) fn parse(text: &str, file: &str) -> Self {
        let (table, errors) = DeTable::parse_recoverable(text);
        let root = Node { origin: Origin::File(0), kind: from_table(table.into_inner()) };
        let mut document =
            Self { file: file.to_owned(), text: text.to_owned(), root, syntax: Vec::new() };
        for error in errors {
            let Range { start, .. } = error.span().unwrap_or_default();
            let what = error.message().replace('\n', "; ");
            let problem = Problem::new(&KeyPath::root(), what, "");
            document.syntax.push(problem.placed(document.place_of(&Origin::File(start))));
        }
        document
    }

    pub(crate) fn place_of(&self, origin: &Origin) -> Place {
        let offset = match origin {
            Origin::File(offset) => *offset,
            Origin::Variable(name) => return Place::Variable(name.clone()),
        };
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place::File {
            file: self.file.clone(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).map_or(0, |line| line.chars().count()) + 1,
        }
    }

    /// Where the value at this path was written; for one that is missing, the
    /// table in which it is missed.
    pub(crate) fn place(&self, path: &KeyPath) -> Place {
        let mut node = &self.root;
        let mut steps = path.steps();
        while let Some((step, rest)) = steps.split_first() {
            let next = match step {
                Step::Key(_) => deepest(node, steps),
                Step::Index(index) => node.items().get(*index).map(|item| (item, rest)),
            };
            let Some((found, left)) = next else { break };
            (node, steps) = (found, left);
        }
        self.place_of(&node.origin)
    }
}

/// The value under the next key, and the steps behind it. Where checks write
/// paths with dots, a quoted key is several steps: `options."ssl.key"`.
fn deepest<'n, 's>(node: &'n Node, steps: &'s [Step]) -> Option<(&'n Node, &'s [Step])> {
    let mut joined = String::new();
    let mut longest = None;
    for (index, step) in steps.iter().enumerate() {
        let Step::Key(key) = step else { break };
        if index > 0 {
            joined.push('.');
        }
        joined.push_str(key);
        if let Some(found) = node.get(&joined) {
            longest = Some((found, steps.get(index + 1..).unwrap_or_default()));
        }
    }
    longest
}

fn from_table(table: DeTable<'_>) -> Kind {
    let entries = table.into_iter().map(|(key, value)| Entry {
        key_origin: Origin::File(key.span().start),
        key: key.into_inner().into_owned(),
        node: Node {
            origin: Origin::File(value.span().start),
            kind: from_value(value.into_inner()),
        },
    });
    Kind::Table(entries.collect())
}

fn from_value(value: DeValue<'_>) -> Kind {
    match value {
        DeValue::String(text) => Kind::Text(text.into_owned()),
        DeValue::Integer(number) => Kind::Integer(
            // Digits that do not fit are beyond every range all the more.
            i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX),
        ),
        DeValue::Float(number) => Kind::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => Kind::Bool(value),
        DeValue::Datetime(_) => Kind::Datetime,
        DeValue::Array(items) => Kind::Array(
            items
                .into_iter()
                .map(|item| Node {
                    origin: Origin::File(item.span().start),
                    kind: from_value(item.into_inner()),
                })
                .collect(),
        ),
        DeValue::Table(table) => from_table(table),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_and_column(text: &str, path: &KeyPath) -> (usize, usize) {
        match Document::parse(text, "a.toml").place(path) {
            Place::File { line, column, .. } => (line, column),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_value_knows_where_it_was_written() {
        let text =
            "[a]\nä = 1\n  b = { c = 2 }\n[[s]]\nx = 1\n[[s]]\ny.z = 2\n[s.t]\nu = [1,\n 2]\n";
        let root = KeyPath::root();
        assert_eq!(line_and_column(text, &root.key("a")), (1, 1));
        assert_eq!(line_and_column(text, &root.key("a").key("ä")), (2, 5));
        assert_eq!(line_and_column(text, &root.key("a").key("b").key("c")), (3, 13));
        assert_eq!(line_and_column(text, &root.key("s").index(0)), (4, 1));
        assert_eq!(line_and_column(text, &root.key("s").index(1)), (6, 1));
        assert_eq!(line_and_column(text, &root.key("s").index(1).key("y").key("z")), (7, 7));
        let list = root.key("s").index(1).key("t").key("u");
        assert_eq!(line_and_column(text, &list.index(1)), (10, 2));
    }

    #[test]
    fn a_quoted_key_is_found_by_its_path_with_dots() {
        let text = "[a]\nb = { \"x.y.z\" = 1, x = 2 }\n";
        let b = KeyPath::root().key("a").key("b");
        assert_eq!(line_and_column(text, &b.below("x.y.z")), (2, 17));
        assert_eq!(line_and_column(text, &b.below("x")), (2, 24));
        assert_eq!(line_and_column(text, &b.below("y.z")), (2, 5));
    }

    #[test]
    fn what_is_missing_stands_where_its_table_begins() {
        let text = "\n[a]\nb = 1\n[[s]]\n";
        let root = KeyPath::root();
        assert_eq!(line_and_column(text, &root.key("a").key("missing")), (2, 1));
        assert_eq!(line_and_column(text, &root.key("s").index(0).key("missing")), (4, 1));
        assert_eq!(line_and_column(text, &root.key("missing").key("x")), (1, 1));
    }

    #[test]
    fn every_fault_of_syntax_is_told_at_once() {
        let text = "a = \nb = 1\nb = 2\n[c\nd = \"x\n";
        let document = Document::parse(text, "a.toml");
        let all: Vec<String> = document.syntax.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(all.join("\n"), @r#"
        a.toml:4:3: unclosed table, expected `]`
        a.toml:1:5: string values must be quoted, expected literal string
        a.toml:3:1: duplicate key
        "#);
    }
}
