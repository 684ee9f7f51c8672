//! From a file and the environment to a checked [`Config`], or to everything
//! that is wrong with them.
//!
//! The `config` crate merges both and serde makes the types. In front of it
//! goes the check against the schema, which knows the places; behind it go the
//! rules that no schema can say. Each section is made on its own, so that one
//! that is wrong does not hide what is wrong in the next.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;

use ::config::{ConfigError, Environment, File, FileFormat, Value as Merged};
use serde::de::DeserializeOwned;

use super::check::check_against;
use super::document::{Document, Kind, Node};
use super::problem::{KeyPath, Place, Problem, Problems};
use super::rules::{self, Parts};
use super::{Config, Gateway, Log, Stream, environment, schema};
use crate::{buffer, control, status, system};

/// A configuration that can be run.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    /// What an operator should know, in the order of the file.
    pub warnings: Vec<Problem>,
}

/// Far above any gateway's configuration, far below what would trouble one:
/// a device or a buffer file given by mistake is not read into memory.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;

/// Loads the file and the `TIDEGATE_…` variables of this process.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let file = path.display().to_string();
    let text = read(path).map_err(|problem| {
        let place = Place::File { file: file.clone(), line: 1, column: 1 };
        Problems(vec![problem.placed(place)])
    })?;
    let mut variables = Vec::new();
    let mut strange = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with(environment::PREFIX)) else {
            continue;
        };
        match OsString::into_string(value) {
            Ok(value) => variables.push((name.to_owned(), value)),
            Err(_) => strange.push(
                Problem::new(&KeyPath::root(), "the value is not UTF-8", "")
                    .placed(Place::Variable(name.to_owned())),
            ),
        }
    }
    match load_str(&text, &file, variables.into_iter()) {
        Ok(loaded) if strange.is_empty() => Ok(loaded),
        Ok(_) => Err(Problems::new(strange)),
        Err(Problems(mut problems)) => {
            problems.extend(strange);
            Err(Problems::new(problems))
        }
    }
}

fn read(path: &Path) -> Result<String, Problem> {
    let size = std::fs::metadata(path).map_err(|cause| unread(&cause))?.len();
    if size > LARGEST_FILE {
        let what = format!("has {size} bytes, a configuration has at most {LARGEST_FILE}");
        return Err(Problem::new(&KeyPath::root(), what, ""));
    }
    std::fs::read_to_string(path).map_err(|cause| unread(&cause))
}

/// Only of what is not there, or is no text, it is known that another try finds the same:
/// a gateway that nobody drives to must not stand still for a medium that erred once.
fn unread(cause: &std::io::Error) -> Problem {
    let passes = !matches!(
        cause.kind(),
        ErrorKind::NotFound
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::InvalidData
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidFilename
    );
    let problem = Problem::new(&KeyPath::root(), format!("cannot be read: {cause}"), "");
    Problem { passes, ..problem }
}

/// Loads a text as if it were the file of this name. Variables of other
/// programs are left alone.
pub fn load_str(
    text: &str,
    file_name: &str,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Loaded, Problems> {
    let mut variables: Vec<_> =
        env.filter(|(name, _)| name.starts_with(environment::PREFIX)).collect();
    variables.sort();

    let schema = schema();
    let mut document = Document::parse(text, file_name);
    let mut problems = environment::overlay(&mut document, &schema, &mut variables);
    problems.extend(against_schema(&schema, &document));
    problems.extend(document.syntax.iter().cloned());

    let mut config = None;
    if document.syntax.is_empty() {
        match merge(text, variables) {
            Ok(merged) => {
                let parts = parts(&merged, &document, &mut problems);
                rules::check(&parts, &document, &mut problems);
                drop(parts);
                if !problems.iter().any(Problem::is_error) {
                    match merged.try_deserialize::<Config>() {
                        Ok(whole) => config = Some(whole),
                        Err(error) => problems.push(refused(&error, &KeyPath::root())),
                    }
                }
            }
            Err(error) => problems.push(refused(&error, &KeyPath::root())),
        }
    }

    let placed = problems.into_iter().map(|problem| match problem.place {
        Place::Unknown => {
            let place = document.place(&problem.at);
            problem.placed(place)
        }
        _ => problem,
    });
    let problems = Problems::new(placed.collect());
    match config {
        Some(config) => Ok(Loaded { config, warnings: problems.0 }),
        None => Err(problems),
    }
}

/// What the schema refuses. Of a file whose syntax is broken, only what stands
/// on other lines and is really there: the parser has guessed at the rest.
fn against_schema(schema: &serde_json::Value, document: &Document) -> Vec<Problem> {
    let mut problems = check_against(schema, document);
    if !document.syntax.is_empty() {
        let line = |problem: &Problem| match &problem.place {
            Place::File { line, .. } => Some(*line),
            _ => None,
        };
        problems.retain(|problem| {
            let broken = document.syntax.iter().any(|fault| line(fault) == line(problem));
            !broken && !problem.what.starts_with("missing key")
        });
    }
    problems
}

fn merge(text: &str, variables: Vec<(String, String)>) -> Result<::config::Config, ConfigError> {
    let environment = Environment::with_prefix(environment::PREFIX.trim_end_matches('_'))
        .prefix_separator("_")
        .separator(environment::SEPARATOR)
        .source(Some(variables.into_iter().collect()));
    ::config::Config::builder()
        .add_source(File::from_str(text, FileFormat::Toml))
        .add_source(environment)
        .build()
}

/// Makes each section on its own. What serde refuses and the schema did not
/// is told here with the section's place: no error ever goes without one.
fn parts(merged: &::config::Config, document: &Document, problems: &mut Vec<Problem>) -> Parts {
    let root = KeyPath::root();
    let mut make = Make { merged, problems };
    let root_node = &document.root;
    make.section::<Gateway>(&root.key("gateway"), "gateway", root_node);
    make.section::<buffer::Config>(&root.key("buffer"), "buffer", root_node);
    make.section::<system::Config>(&root.key("system"), "system", root_node);
    make.section::<Log>(&root.key("log"), "log", root_node);
    make.section::<control::Config>(&root.key("control"), "control", root_node);
    make.section::<status::Config>(&root.key("status"), "status", root_node);
    make.list::<Stream>(&root.key("stream"), "stream", root_node);
    Parts {
        kafka: make.section(&root.key("kafka"), "kafka", root_node),
        sources: make.list(&root.key("source"), "source", root_node),
    }
}

struct Make<'a> {
    merged: &'a ::config::Config,
    problems: &'a mut Vec<Problem>,
}

impl Make<'_> {
    fn section<T: DeserializeOwned>(&mut self, at: &KeyPath, key: &str, root: &Node) -> Option<T> {
        root.get(key)?;
        let made = self.merged.get::<T>(key);
        self.made(made, at)
    }

    fn list<T: DeserializeOwned>(
        &mut self,
        at: &KeyPath,
        key: &str,
        root: &Node,
    ) -> Vec<(KeyPath, T)> {
        if !root.get(key).is_some_and(|node| matches!(node.kind, Kind::Array(_))) {
            return Vec::new();
        }
        let items: Vec<Merged> = self.merged.get_array(key).unwrap_or_default();
        let items = items.into_iter().enumerate().filter_map(|(index, item)| {
            let at = at.index(index);
            let made = self.made(item.try_deserialize::<T>(), &at)?;
            Some((at, made))
        });
        items.collect()
    }

    fn made<T>(&mut self, made: Result<T, ConfigError>, at: &KeyPath) -> Option<T> {
        match made {
            Ok(part) => Some(part),
            Err(error) => {
                let told = self.problems.iter().any(|known| {
                    known.is_error()
                        && (known.at.is_within(at) || at.is_within(&known.at))
                        && !known.at.steps().is_empty()
                });
                if !told {
                    self.problems.push(refused(&error, at));
                }
                None
            }
        }
    }
}

/// An error of serde's as a problem, at the key that it names below `at`.
fn refused(error: &ConfigError, at: &KeyPath) -> Problem {
    let (key, message) = match error {
        ConfigError::At { error, key, .. } => (key.as_deref(), error.to_string()),
        ConfigError::Type { key, unexpected, expected, .. } => {
            (key.as_deref(), format!("expected {expected}, found {unexpected}"))
        }
        other => (None, other.to_string()),
    };
    let mut path = at.clone();
    // The crate sometimes names the key from the top, sometimes from the
    // section; what does not exist is placed at its nearest table anyway.
    let below = key.map(|key| key.strip_prefix(&format!("{at}.")).unwrap_or(key));
    if let Some(below) = below.filter(|below| **below != *at.to_string()) {
        for step in below.split('.') {
            path = path.key(step);
        }
    }
    Problem::new(&path, message, "")
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
