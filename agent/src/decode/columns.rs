//! Text → fields by columns: between separators, or of fixed widths.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::escaped::Escaped;
use super::json::MOST_FIELDS;
use super::payload::MOST_RECORDS;
use super::{scalar, text};
use crate::event::{Field, Value};

/// A column of this name is left out.
const LEFT_OUT: &str = "-";

/// Where the columns are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What stands between two columns; `" "` is any run of blanks. A column in
    /// double quotes may hold it. Default: `,`, and none with `widths`.
    #[serde(default)]
    pub separator: Option<Escaped>,
    /// Widths of columns that nothing separates, in bytes, instead of `separator`.
    #[serde(default)]
    pub widths: Vec<u16>,
    /// Each line is a row, and each row an event. Default: false, all is one row.
    #[serde(default)]
    pub rows: bool,
    /// The first line has the names of the columns, and each other one is a row. `fields`
    /// then says what they are, in any order. Default: false.
    #[serde(default)]
    pub header: bool,
    /// The columns in their order. One named `-` is left out, and so are those behind
    /// the last. Empty, with `header`: all, as numbers where they read as some.
    #[serde(default)]
    pub fields: Vec<text::Config>,
}

impl Config {
    /// What is wrong: the key's path, and what would be right.
    pub fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        let mut say = |key: String, what: &str| wrong.push((key, what.to_owned()));
        if self.separator.is_some() && !self.widths.is_empty() {
            say("widths".into(), "excludes `separator`: leave one of them out");
        }
        if self.separator.as_ref().is_some_and(|separator| separator.get().is_empty()) {
            say("separator".into(), "is empty: write what stands between two columns");
        }
        if let Some(index) = self.widths.iter().position(|width| *width == 0) {
            say(format!("widths[{index}]"), "is 0: at least 1");
        }
        if !self.widths.is_empty() && self.widths.len() < self.fields.len() {
            say("widths".into(), "are fewer than `fields`: write one for each");
        }
        if self.header && !self.widths.is_empty() {
            say("header".into(), "needs a `separator`: columns of fixed widths have no names");
        }
        if !self.header && self.fields.iter().all(|field| field.name == LEFT_OUT) {
            say("fields".into(), "names no column: write at least one");
        }
        for (index, field) in self.fields.iter().enumerate() {
            for (key, what) in field.check() {
                say(format!("fields[{index}].{key}"), &what);
            }
            let mut earlier = self.fields.iter().take(index);
            if field.name != LEFT_OUT && earlier.any(|other| other.name == field.name) {
                say(format!("fields[{index}].name"), "is the name of an earlier column already");
            }
        }
        wrong
    }

    /// The key by which there are several rows, if there are.
    pub const fn rows(&self) -> Option<&'static str> {
        match self {
            Self { header: true, .. } => Some("header"),
            Self { rows: true, .. } => Some("rows"),
            _ => None,
        }
    }
}

/// A checked [`Config`].
#[derive(Debug)]
pub struct Decoder {
    cut: Cut,
    /// None for a column that is left out.
    pieces: Vec<Option<Piece>>,
    /// The first line names the columns.
    head: Option<Head>,
}

/// What a column becomes.
#[derive(Debug, Clone)]
enum Piece {
    Said(text::Piece),
    /// A number where it reads as one: nothing was said of it.
    Guessed(Arc<str>),
}

impl Piece {
    fn field(&self, column: &str) -> Field {
        match self {
            Self::Said(piece) => piece.field(column),
            Self::Guessed(name) => {
                let value = scalar::decode(column.as_bytes()).unwrap_or(Value::Null);
                Field { name: Arc::clone(name), unit: None, value, quality: None }
            }
        }
    }
}

/// The line that names the columns.
#[derive(Debug)]
struct Head {
    /// As it came the last time: nearly always it comes again.
    line: String,
    fields: Vec<(String, text::Piece)>,
}

#[derive(Debug)]
enum Cut {
    Separator(String),
    Blanks,
    Widths(Vec<u16>),
}

/// There are fewer columns than are named: it is another kind of line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{got} columns where {expected} are named")]
pub struct TooFew {
    got: usize,
    expected: usize,
}

impl Decoder {
    pub fn new(config: &Config) -> Self {
        let separator = config.separator.as_ref().map_or(&b","[..], Escaped::get);
        let cut = match separator {
            _ if !config.widths.is_empty() => Cut::Widths(config.widths.clone()),
            b" " => Cut::Blanks,
            other => Cut::Separator(text::of_bytes(other).into_owned()),
        };
        let said = config.fields.iter().map(|field| {
            (field.name != LEFT_OUT).then(|| (field.name.clone(), text::Piece::new(field)))
        });
        if config.header {
            let head = Head { line: String::new(), fields: said.flatten().collect() };
            return Self { cut, pieces: Vec::new(), head: Some(head) };
        }
        let pieces = said.map(|said| said.map(|(_, piece)| Piece::Said(piece))).collect();
        Self { cut, pieces, head: None }
    }

    /// The rows of a payload, which [`Decoder::row`] reads; those that are blank are none.
    pub fn rows<'t>(&mut self, text: Cow<'t, str>) -> Result<Vec<Cow<'t, str>>, String> {
        let is_row = |line: &&str| !line.trim().is_empty();
        // With the header and one more, so that it is seen that there are too many.
        let most = MOST_RECORDS + 2;
        let mut lines: Vec<Cow<'t, str>> = match text {
            Cow::Borrowed(text) => {
                text.lines().filter(is_row).take(most).map(Cow::Borrowed).collect()
            }
            Cow::Owned(text) => {
                let lines = text.lines().filter(is_row).take(most);
                lines.map(|line| Cow::Owned(line.to_owned())).collect()
            }
        };
        if self.head.is_some() && !lines.is_empty() {
            self.name_columns(&lines.remove(0))?;
        }
        Ok(lines)
    }

    fn name_columns(&mut self, line: &str) -> Result<(), String> {
        let Some(head) = self.head.as_mut().filter(|head| head.line != line) else {
            return Ok(());
        };
        // Where a spreadsheet has written it.
        let names = self.cut.columns(line.trim_start_matches('\u{feff}'), MOST_FIELDS + 1);
        let names: Vec<&str> = names.iter().map(|name| name.trim()).collect();
        if names.len() > MOST_FIELDS {
            return Err(format!("more than {MOST_FIELDS} columns"));
        }
        if let Some((name, _)) = head.fields.iter().find(|(name, _)| !names.contains(&&**name)) {
            return Err(format!("the header has no column `{name}`"));
        }
        let piece = |name: &&str| {
            let said = head.fields.iter().find(|(known, _)| known == name);
            match said {
                Some((_, piece)) => Some(Piece::Said(piece.clone())),
                None if head.fields.is_empty() && !["", LEFT_OUT].contains(name) => {
                    Some(Piece::Guessed((*name).into()))
                }
                None => None,
            }
        };
        self.pieces = names.iter().map(piece).collect();
        line.clone_into(&mut head.line);
        Ok(())
    }

    /// Appends the fields.
    pub fn decode(&self, frame: &[u8], fields: &mut Vec<Field>) -> Result<(), TooFew> {
        match &self.cut {
            Cut::Widths(widths) => self.decode_widths(frame, widths, fields),
            _ => self.row(&text::of_bytes(frame), fields),
        }
    }

    /// Appends the fields of one row.
    pub fn row(&self, text: &str, fields: &mut Vec<Field>) -> Result<(), TooFew> {
        if let Cut::Widths(widths) = &self.cut {
            return self.decode_widths(text.as_bytes(), widths, fields);
        }
        let columns = self.cut.columns(text, self.pieces.len());
        let (got, expected) = (columns.len(), self.pieces.len());
        if got < expected {
            return Err(TooFew { got, expected });
        }
        let named = self.pieces.iter().zip(columns);
        fields.extend(named.filter_map(|(piece, column)| Some(piece.as_ref()?.field(&column))));
        Ok(())
    }

    /// Widths are bytes, whatever the characters are.
    fn decode_widths(
        &self,
        frame: &[u8],
        widths: &[u16],
        fields: &mut Vec<Field>,
    ) -> Result<(), TooFew> {
        let mut rest = frame;
        let before = fields.len();
        for (got, (piece, width)) in self.pieces.iter().zip(widths).enumerate() {
            if rest.is_empty() {
                fields.truncate(before);
                return Err(TooFew { got, expected: self.pieces.len() });
            }
            // The last one may be shorter, its blanks left out.
            let (column, behind) = rest.split_at(usize::from(*width).min(rest.len()));
            rest = behind;
            fields.extend(piece.as_ref().map(|piece| piece.field(&text::of_bytes(column))));
        }
        Ok(())
    }

    /// The fields without values.
    pub fn absent(&self) -> Vec<Field> {
        let said = self.pieces.iter().flatten().filter_map(|piece| match piece {
            Piece::Said(piece) => Some(piece.absent()),
            Piece::Guessed(_) => None,
        });
        said.collect()
    }
}

impl Cut {
    /// The first so many columns of a text that widths do not cut.
    fn columns<'t>(&self, text: &'t str, most: usize) -> Vec<Cow<'t, str>> {
        match self {
            Self::Separator(separator) => separated(text, separator, most),
            Self::Blanks => text.split_whitespace().take(most).map(Cow::Borrowed).collect(),
            Self::Widths(_) => vec![Cow::Borrowed(text)],
        }
    }
}

/// The first so many columns between separators; a quoted one may hold them, and `""` in it is a
/// quote (RFC 4180, section 2).
fn separated<'t>(text: &'t str, separator: &str, most: usize) -> Vec<Cow<'t, str>> {
    let mut columns = Vec::new();
    let mut rest = text;
    while columns.len() < most {
        if let Some((column, behind)) = quoted(rest, separator) {
            columns.push(Cow::Owned(column));
            match behind {
                Some(behind) => rest = behind,
                None => return columns,
            }
            continue;
        }
        let Some((column, behind)) = rest.split_once(separator) else {
            columns.push(Cow::Borrowed(rest));
            return columns;
        };
        columns.push(Cow::Borrowed(column));
        rest = behind;
    }
    columns
}

/// A column in quotes, and what stands behind its separator. What is not closed, or is
/// closed and goes on, is no such column.
fn quoted<'t>(text: &'t str, separator: &str) -> Option<(String, Option<&'t str>)> {
    let mut rest = text.trim_start_matches(' ').strip_prefix('"')?;
    let mut column = String::new();
    loop {
        let (part, behind) = rest.split_once('"')?;
        column.push_str(part);
        match behind.strip_prefix('"') {
            Some(more) => {
                column.push('"');
                rest = more;
            }
            None if behind.trim().is_empty() => return Some((column, None)),
            None => {
                let behind = behind.trim_start_matches(' ').strip_prefix(separator)?;
                return Some((column, Some(behind)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config(separator: Option<&str>, widths: &[u16], names: &[&str]) -> Config {
        let kind = text::Kind::Text;
        let field = |name: &&str| text::Config { kind, ..text::Config::plain(name) };
        Config {
            separator: separator.map(Escaped::from),
            widths: widths.to_vec(),
            rows: false,
            header: false,
            fields: names.iter().map(field).collect(),
        }
    }

    fn check(config: &Config, frame: &[u8], expected: &[(&str, &str)]) {
        assert_eq!(config.check(), []);
        let mut fields = Vec::new();
        Decoder::new(config).decode(frame, &mut fields).unwrap();
        let expected: Vec<(&str, Value)> =
            expected.iter().map(|(name, text)| (*name, Value::Text((*text).into()))).collect();
        let fields: Vec<(&str, Value)> =
            fields.iter().map(|field| (&*field.name, field.value.clone())).collect();
        assert_eq!(fields, expected);
    }

    #[test]
    fn columns_are_cut_by_separator_blanks_and_width() {
        let both = [("a", "1"), ("b", "3")];
        check(&config(None, &[], &["a", "-", "b"]), b"1, 2 ,3,4", &both);
        check(&config(Some("; "), &[], &["a", "-", "b"]), b"1; 2; 3", &both);
        check(&config(Some(" "), &[], &["a", "-", "b"]), b"  1  2\t3  4", &both);
        check(&config(None, &[3, 2, 4], &["a", "-", "b"]), b"  1 23", &both);
    }

    #[test]
    fn a_quoted_column_holds_the_separator() {
        let expected = [("a", "x,\"y\""), ("b", "2")];
        check(&config(None, &[], &["a", "b"]), b"\"x,\"\"y\"\"\", 2", &expected);
        check(&config(None, &[], &["a", "b"]), b"\"open,2", &[("a", "\"open"), ("b", "2")]);
    }

    #[test]
    fn a_line_with_fewer_columns_is_another_kind_of_line() {
        let mut fields = Vec::new();
        let decoder = Decoder::new(&config(None, &[], &["a", "b"]));
        let error = decoder.decode(b"ERROR", &mut fields).unwrap_err();
        assert_eq!(error.to_string(), "1 columns where 2 are named");
        let decoder = Decoder::new(&config(None, &[2, 2], &["a", "b"]));
        assert!(decoder.decode(b"E", &mut fields).is_err());
        assert_eq!(fields, []);
    }

    proptest! {
        #[test]
        fn any_bytes_give_fields_or_an_error(frame: Vec<u8>, text in "[a,\" \\PC]{0,40}") {
            for config in [
                config(None, &[], &["a", "b"]),
                config(Some(" "), &[], &["a", "-"]),
                config(None, &[1, 3], &["a", "b"]),
            ] {
                let decoder = Decoder::new(&config);
                for bytes in [&frame[..], text.as_bytes()] {
                    let _either = decoder.decode(bytes, &mut Vec::new());
                }
            }
        }
    }
}
