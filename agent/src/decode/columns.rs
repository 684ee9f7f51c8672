//! Text → fields by columns: between separators, or of fixed widths.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::escaped::Escaped;
use super::text;
use crate::event::Field;

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
    /// The columns in their order. One named `-` is left out, and so are those behind
    /// the last.
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
        if self.fields.iter().all(|field| field.name == LEFT_OUT) {
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
}

/// A checked [`Config`].
#[derive(Debug)]
pub struct Decoder {
    cut: Cut,
    /// None for a column that is left out.
    pieces: Vec<Option<text::Piece>>,
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
        let piece =
            |field: &text::Config| (field.name != LEFT_OUT).then(|| text::Piece::new(field));
        Self { cut, pieces: config.fields.iter().map(piece).collect() }
    }

    /// Appends the fields.
    pub fn decode(&self, frame: &[u8], fields: &mut Vec<Field>) -> Result<(), TooFew> {
        let text = text::of_bytes(frame);
        let columns: Vec<Cow<'_, str>> = match &self.cut {
            Cut::Separator(separator) => separated(&text, separator),
            Cut::Blanks => text.split_whitespace().map(Cow::Borrowed).collect(),
            Cut::Widths(widths) => return self.decode_widths(frame, widths, fields),
        };
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
        self.pieces.iter().flatten().map(text::Piece::absent).collect()
    }
}

/// The columns between separators; a quoted one may hold them, and `""` in it is a
/// quote (RFC 4180, section 2).
fn separated<'t>(text: &'t str, separator: &str) -> Vec<Cow<'t, str>> {
    let mut columns = Vec::new();
    let mut rest = text;
    loop {
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
    use crate::event::Value;

    fn config(separator: Option<&str>, widths: &[u16], names: &[&str]) -> Config {
        let kind = text::Kind::Text;
        let field = |name: &&str| text::Config { kind, ..text::Config::plain(name) };
        Config {
            separator: separator.map(Escaped::from),
            widths: widths.to_vec(),
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
