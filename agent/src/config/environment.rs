//! The environment's values, laid over the file: `TIDEGATE_KAFKA__BROKERS` is
//! `kafka.brokers`.
//!
//! The environment only has text; what the schema wants in its place (a
//! number, true or false) is made of it here. Entries of a list have no
//! variable.

use serde_json::Value;

use super::check::{did_you_mean, nearest};
use super::document::{Document, Entry, Kind, Node, Origin};
use super::problem::{KeyPath, Place, Problem};
use super::schema::{Form, Others, Shape};

pub(crate) const PREFIX: &str = "TIDEGATE_";
pub(crate) const SEPARATOR: &str = "__";

/// Lays the variables over the document. Those that name no key are told and
/// taken out of the list.
pub(crate) fn overlay(
    document: &mut Document,
    schema: &Value,
    variables: &mut Vec<(String, String)>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    variables.retain(|(name, text)| {
        let keys = keys_of(name);
        let form = match descend(Shape::of(schema), &keys) {
            Ok(form) => form,
            Err((what, remedy)) => {
                let problem = Problem::new(&KeyPath::root(), what, remedy);
                problems.push(problem.placed(Place::Variable(name.clone())));
                return false;
            }
        };
        let node = Node { origin: Origin::Variable(name.clone()), kind: coerce(&form, text) };
        insert(&mut document.root, &keys, node);
        true
    });
    problems
}

/// `TIDEGATE_KAFKA__BROKERS` → `kafka`, `brokers`.
pub(crate) fn keys_of(name: &str) -> Vec<String> {
    let path = name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase();
    path.split(SEPARATOR).map(str::to_owned).collect()
}

fn variable(keys: &[String]) -> String {
    format!("{PREFIX}{}", keys.join(SEPARATOR).to_uppercase())
}

/// What may stand under these keys, or why nothing may.
fn descend<'s>(root: Shape<'s>, keys: &[String]) -> Result<Form<'s>, (String, String)> {
    let mut form = root.form();
    for (depth, key) in keys.iter().enumerate() {
        let (known, others) = match &form {
            Form::Table(table) => (table.keys(), table.others()),
            Form::Tagged { variants, .. } => {
                (variants.iter().flat_map(|(_, table)| table.keys()).collect(), Others::Refused)
            }
            Form::OneKey(keys) => (keys.clone(), Others::Refused),
            Form::List { .. } | Form::Any => return Err(no_variable()),
            _ => (Vec::new(), Others::Refused),
        };
        let found = known.iter().find(|(name, _)| name == key).map(|(_, shape)| *shape);
        form = match (found, others) {
            (Some(shape), _) | (None, Others::Each(shape)) if !key.is_empty() => shape.form(),
            _ => {
                let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
                let remedy = match nearest(key, &names) {
                    Some(near) => {
                        let mut meant = keys.to_vec();
                        if let Some(slot) = meant.get_mut(depth) {
                            near.clone_into(slot);
                        }
                        format!("did you mean `{}`?", variable(&meant))
                    }
                    None if names.is_empty() => "unset it".to_owned(),
                    None => did_you_mean(key, &names, "possible here are"),
                };
                return Err((format!("the variable names the unknown key `{key}`"), remedy));
            }
        };
    }
    match form {
        Form::Table(_) | Form::Tagged { .. } | Form::OneKey(_) => Err((
            "the variable names a table".to_owned(),
            format!("name one of its keys: `{}{SEPARATOR}…`", variable(keys)),
        )),
        Form::List { .. } => Err(no_variable()),
        form => Ok(form),
    }
}

fn no_variable() -> (String, String) {
    ("lists and their entries have no variable".to_owned(), "set them in the file".to_owned())
}

/// The text as what the schema wants; as text where it is not that, which the
/// check then tells.
fn coerce(form: &Form<'_>, text: &str) -> Kind {
    let coerced = match form {
        Form::Integer { .. } => text.trim().parse().ok().map(Kind::Integer),
        Form::Number { .. } => text.trim().parse().ok().map(Kind::Float),
        Form::Bool => text.trim().parse().ok().map(Kind::Bool),
        Form::OneOf(choices) => {
            let forms = choices.iter().map(|choice| choice.form());
            forms.map(|form| coerce(&form, text)).find(|kind| !matches!(kind, Kind::Text(_)))
        }
        _ => None,
    };
    coerced.unwrap_or_else(|| Kind::Text(text.to_owned()))
}

/// Puts a node under its keys. Where the file has no table on the way, the
/// check has told so already.
fn insert(parent: &mut Node, keys: &[String], node: Node) {
    let Some((key, rest)) = keys.split_first() else {
        *parent = node;
        return;
    };
    let Kind::Table(entries) = &mut parent.kind else { return };
    if let Some(entry) = entries.iter_mut().find(|entry| entry.key == *key) {
        if rest.is_empty() {
            entry.key_origin = node.origin.clone();
        }
        return insert(&mut entry.node, rest, node);
    }
    let origin = node.origin.clone();
    let mut made = Node { origin: origin.clone(), kind: Kind::Table(Vec::new()) };
    insert(&mut made, rest, node);
    entries.push(Entry { key: key.clone(), key_origin: origin, node: made });
}
