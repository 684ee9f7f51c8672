//! The second pass: a file against the schema, which finds everything that is
//! wrong at once, while serde stops at its first error.
//!
//! Pure. A value is only shown where it cannot be a secret: somebody who
//! writes a password where a reference belongs must not find it in a log.

use serde_json::Value;

use super::document::{Document, Entry, Kind, Node};
use super::problem::{KeyPath, Problem};
use super::schema::{Form, Others, Shape, Table};
use crate::units::{ByteSize, Percent, Period, Room};

/// Everything in `document` that `schema` refuses, each with its place.
pub(crate) fn check_against(schema: &Value, document: &Document) -> Vec<Problem> {
    let mut pass = Pass { document, problems: Vec::new() };
    pass.value(Shape::of(schema), &document.root, &KeyPath::root());
    pass.problems
}

/// The one of `known` that was probably meant by `word`.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', ' '], "_");
    let word = plain(word);
    // A third of the letters may be wrong: enough for a slip or a plural, too
    // little to make one short key out of another.
    let most = (word.chars().count() / 3).max(1);
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &plain(candidate)), *candidate))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, candidate)| candidate)
}

/// "did you mean `a`?", or what could stand there.
pub(crate) fn did_you_mean(word: &str, known: &[&str], otherwise: &str) -> String {
    match nearest(word, known) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => format!("{otherwise} {}", list(known)),
    }
}

/// `a`, `b`, `c`
fn list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    if quoted.is_empty() { "none".to_owned() } else { quoted.join(", ") }
}

struct Pass<'d> {
    document: &'d Document,
    problems: Vec<Problem>,
}

impl Pass<'_> {
    fn say(&mut self, node: &Node, at: &KeyPath, what: String, remedy: String) {
        let place = self.document.place_of(&node.origin);
        self.problems.push(Problem::new(at, what, remedy).placed(place));
    }

    fn value(&mut self, shape: Shape<'_>, node: &Node, at: &KeyPath) {
        match (shape.form(), &node.kind) {
            (Form::Any, _) | (Form::Bool, Kind::Bool(_)) | (Form::Text, Kind::Text(_)) => {}
            #[expect(clippy::cast_precision_loss, reason = "a bound needs no more")]
            (Form::Number { min, max }, Kind::Integer(number)) => {
                self.range(*number as f64, min, max, node, at);
            }
            (Form::Number { min, max }, Kind::Float(number)) => {
                self.range(*number, min, max, node, at);
            }
            (Form::Period, Kind::Text(text)) => self.parsed(text.parse::<Period>(), node, at),
            (Form::ByteSize, Kind::Text(text)) => self.parsed(text.parse::<ByteSize>(), node, at),
            (Form::Percent, Kind::Text(text)) => self.parsed(text.parse::<Percent>(), node, at),
            (Form::Room, Kind::Text(text)) => self.parsed(text.parse::<Room>(), node, at),
            (Form::Words(words), Kind::Text(text)) => self.word(&words, text, node, at),
            (Form::Integer { min, max }, Kind::Integer(number)) => {
                if !(min..=max).contains(number) {
                    let what = format!("{number} is out of range");
                    self.say(node, at, what, format!("it must be from {min} to {max}"));
                }
            }
            (Form::List { first, items, min, max }, Kind::Array(nodes)) => {
                if !(min..=max).contains(&nodes.len()) {
                    let what = format!("the list has {} entries", nodes.len());
                    let remedy = match (min, max) {
                        (min, usize::MAX) => format!("it must have at least {min}"),
                        (min, max) if min == max => format!("it must have {min}"),
                        (min, max) => format!("it must have {min} to {max}"),
                    };
                    self.say(node, at, what, remedy);
                }
                for (index, item) in nodes.iter().enumerate() {
                    if let Some(shape) = first.get(index).copied().or(items) {
                        self.value(shape, item, &at.index(index));
                    }
                }
            }
            (Form::Table(table), Kind::Table(entries)) => self.table(table, entries, node, at),
            (Form::Tagged { tag, variants }, Kind::Table(entries)) => {
                self.tagged(tag, &variants, entries, node, at);
            }
            (Form::OneKey(keys), Kind::Table(entries)) => self.one_key(&keys, entries, node, at),
            (Form::OneOf(choices), _) => self.one_of(&choices, node, at),
            (form, _) => {
                let what = format!("expected {}, found {}", expected(&form), found(&form, node));
                self.say(node, at, what, instead(&form, node));
            }
        }
    }

    fn range(&mut self, number: f64, min: f64, max: f64, node: &Node, at: &KeyPath) {
        if number < min || number > max {
            let remedy = match (min.is_finite(), max.is_finite()) {
                (true, true) => format!("it must be from {min} to {max}"),
                (true, false) => format!("it must be at least {min}"),
                _ => format!("it must be at most {max}"),
            };
            self.say(node, at, format!("{number} is out of range"), remedy);
        }
    }

    fn parsed<T>(&mut self, parsed: Result<T, String>, node: &Node, at: &KeyPath) {
        if let Err(what) = parsed {
            self.say(node, at, what, String::new());
        }
    }

    fn word(&mut self, words: &[&str], text: &str, node: &Node, at: &KeyPath) {
        if words.contains(&text) {
            return;
        }
        let remedy = match nearest(text, words) {
            Some(near) => format!("did you mean `{near}`? possible are {}", list(words)),
            None => format!("possible are {}", list(words)),
        };
        self.say(node, at, format!("unknown word `{text}`"), remedy);
    }

    fn table(&mut self, table: Table<'_>, entries: &[Entry], node: &Node, at: &KeyPath) {
        let keys = table.keys();
        // A required key that is only misspelt is one mistake, not two.
        let mut meant = Vec::new();
        for Entry { key, key_origin, node } in entries {
            let at = at.key(key);
            if let Some((_, shape)) = keys.iter().find(|(name, _)| name == key) {
                self.value(*shape, node, &at);
                continue;
            }
            match table.others() {
                Others::Taken => {}
                Others::Each(shape) => self.value(shape, node, &at),
                Others::Refused => {
                    let names: Vec<&str> = keys
                        .iter()
                        .map(|(name, _)| *name)
                        .filter(|name| entries.iter().all(|entry| entry.key != *name))
                        .collect();
                    meant.extend(nearest(key, &names));
                    let all: Vec<&str> = keys.iter().map(|(name, _)| *name).collect();
                    let what = format!("unknown key `{key}`");
                    let remedy = match (nearest(key, &names), names.as_slice()) {
                        (None, []) => "remove it".to_owned(),
                        (None, _) if nearest(key, &all).is_some() => did_you_mean(key, &all, ""),
                        _ => did_you_mean(key, &names, "also possible here are"),
                    };
                    let place = self.document.place_of(key_origin);
                    self.problems.push(Problem::new(&at, what, remedy).placed(place));
                }
            }
        }
        for key in table.required() {
            if !meant.contains(&key) && entries.iter().all(|entry| entry.key != key) {
                let at = at.key(key);
                let remedy = match table.get(key) {
                    Some(shape) => written(&shape.form(), &at),
                    None => String::new(),
                };
                self.say(node, &at, format!("missing key `{key}`"), remedy);
            }
        }
    }

    fn tagged(
        &mut self,
        tag: &str,
        variants: &[(&str, Table<'_>)],
        entries: &[Entry],
        node: &Node,
        at: &KeyPath,
    ) {
        let words: Vec<&str> = variants.iter().map(|(word, _)| *word).collect();
        let Some(chosen) = entries.iter().find(|entry| entry.key == tag) else {
            let remedy = format!("possible are {}", list(&words));
            return self.say(node, &at.key(tag), format!("missing key `{tag}`"), remedy);
        };
        let Some(word) = chosen.node.text() else {
            let what = format!("expected a text, found {}", kind(&chosen.node));
            let remedy = format!("possible are {}", list(&words));
            return self.say(&chosen.node, &at.key(tag), what, remedy);
        };
        match variants.iter().find(|(name, _)| *name == word) {
            Some((_, table)) => self.table(*table, entries, node, at),
            None => self.word(&words, word, &chosen.node, &at.key(tag)),
        }
    }

    fn one_key(
        &mut self,
        keys: &[(&str, Shape<'_>)],
        entries: &[Entry],
        node: &Node,
        at: &KeyPath,
    ) {
        let names: Vec<&str> = keys.iter().map(|(name, _)| *name).collect();
        for Entry { key, key_origin, node } in entries {
            if let Some((_, shape)) = keys.iter().find(|(name, _)| name == key) {
                self.value(*shape, node, &at.key(key));
            } else {
                let remedy = did_you_mean(key, &names, "possible are");
                let place = self.document.place_of(key_origin);
                let what = format!("unknown key `{key}`");
                self.problems.push(Problem::new(&at.key(key), what, remedy).placed(place));
            }
        }
        if entries.len() != 1 {
            let what = format!("needs exactly one key, has {}", entries.len());
            self.say(node, at, what, format!("possible are {}", list(&names)));
        }
    }

    /// Right where one choice takes it; else what the nearest one misses.
    fn one_of(&mut self, choices: &[Shape<'_>], node: &Node, at: &KeyPath) {
        let tried = choices.iter().map(|choice| {
            let mut pass = Pass { document: self.document, problems: Vec::new() };
            pass.value(*choice, node, at);
            pass.problems
        });
        // One that sees a wrong type here is further off than one that only
        // finds something inside.
        let misses = |problems: &Vec<Problem>| {
            (problems.iter().filter(|problem| problem.at == *at).count(), problems.len())
        };
        let nearest = tried.min_by_key(misses);
        match nearest {
            Some(problems) => self.problems.extend(problems),
            None => self.say(node, at, "nothing can stand here".to_owned(), "remove it".to_owned()),
        }
    }
}

/// What a form is, for a person.
fn expected(form: &Form<'_>) -> String {
    match form {
        Form::Any => "a value".to_owned(),
        Form::Bool => "true or false".to_owned(),
        Form::Text => "a text".to_owned(),
        Form::Period => "a duration as text".to_owned(),
        Form::ByteSize => "a size as text".to_owned(),
        Form::Percent => "a share as text".to_owned(),
        Form::Room => "a share or a size as text".to_owned(),
        Form::Words(words) => format!("one of {}", list(words)),
        Form::Integer { .. } => "a whole number".to_owned(),
        Form::Number { .. } => "a number".to_owned(),
        Form::List { .. } => "a list".to_owned(),
        Form::Table(_) | Form::Tagged { .. } => "a table".to_owned(),
        Form::OneKey(keys) => {
            let names: Vec<&str> = keys.iter().map(|(name, _)| *name).collect();
            format!("a table with one of {}", list(&names))
        }
        Form::OneOf(choices) => {
            let all: Vec<String> = choices.iter().map(|choice| expected(&choice.form())).collect();
            all.join(" or ")
        }
    }
}

/// How somebody adds what is missing.
fn written(form: &Form<'_>, at: &KeyPath) -> String {
    let is_table = |form: &Form<'_>| matches!(form, Form::Table(_) | Form::Tagged { .. });
    match form {
        Form::List { items: Some(items), .. } if is_table(&items.form()) => {
            format!("add a section {}", at.header(true))
        }
        form if is_table(form) => format!("add a section {}", at.header(false)),
        form => format!("it must be {}", expected(form)),
    }
}

fn kind(node: &Node) -> &'static str {
    match &node.kind {
        Kind::Table(_) => "a table",
        Kind::Array(_) => "a list",
        Kind::Text(_) => "a text",
        Kind::Integer(_) => "a whole number",
        Kind::Float(_) => "a number",
        Kind::Bool(_) => "true or false",
        Kind::Datetime => "a date or time",
    }
}

/// What stands there: shown for numbers and words, never where it could be a
/// secret written in the wrong place.
fn found(form: &Form<'_>, node: &Node) -> String {
    let shown = matches!(
        form,
        Form::Bool
            | Form::Integer { .. }
            | Form::Number { .. }
            | Form::Period
            | Form::ByteSize
            | Form::Percent
            | Form::Room
    );
    match &node.kind {
        Kind::Text(text) if shown => format!("the text {text:?}"),
        Kind::Integer(number) if shown => format!("the number {number}"),
        Kind::Float(number) if shown => format!("the number {number}"),
        Kind::Bool(value) if shown => value.to_string(),
        _ => kind(node).to_owned(),
    }
}

/// How what stands there would be written right.
fn instead(form: &Form<'_>, node: &Node) -> String {
    match (form, &node.kind) {
        (Form::Period, Kind::Integer(number)) => {
            format!("write a number and a unit, as in \"{number} s\" or \"{number} ms\"")
        }
        (Form::Period, _) => "as in \"200 ms\"".to_owned(),
        (Form::ByteSize, Kind::Integer(number)) => {
            format!("write a number and a unit, as in \"{number} B\" or \"{number} MiB\"")
        }
        (Form::ByteSize, _) => "as in \"512 MiB\"".to_owned(),
        (Form::Percent, Kind::Integer(number)) => format!("write \"{number} %\""),
        (Form::Percent, _) => "as in \"40 %\"".to_owned(),
        (Form::Room, _) => "as in \"10 %\" or \"512 MiB\"".to_owned(),
        (Form::Text | Form::Words(_), Kind::Integer(_) | Kind::Float(_) | Kind::Datetime) => {
            "write it in quotes".to_owned()
        }
        (Form::Integer { .. } | Form::Number { .. }, Kind::Text(text))
            if text.trim().parse::<f64>().is_ok_and(f64::is_finite) =>
        {
            format!("write {} without quotes", text.trim())
        }
        (Form::Bool, Kind::Text(text)) if matches!(text.as_str(), "true" | "false") => {
            format!("write {text} without quotes")
        }
        (Form::List { .. }, Kind::Table(_)) => "write its header as [[…]]".to_owned(),
        (Form::List { .. }, Kind::Text(_) | Kind::Integer(_) | Kind::Float(_)) => {
            "write it in brackets: [ … ]".to_owned()
        }
        (Form::OneKey(keys), _) => match keys.first() {
            Some((name, _)) => format!("as in {{ {name} = \"…\" }}"),
            None => String::new(),
        },
        _ => String::new(),
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
