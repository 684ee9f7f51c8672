//! What is wrong with a configuration, where it stands, and what would be
//! right.
//!
//! A check only knows the key path of what it looks at; the place in the file
//! is filled in afterwards from the path, so that checks need no spans.

use std::fmt;

use serde::{Serialize, Serializer};

/// The way from the top of the file to a value: `source[1].interval`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPath(Vec<Step>);

/// One step of a [`KeyPath`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Key(String),
    Index(usize),
}

impl Step {
    fn as_key(&self) -> Option<&str> {
        match self {
            Self::Key(key) => Some(key),
            Self::Index(_) => None,
        }
    }
}

impl KeyPath {
    /// The whole file.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// The value under `key` of the table at this path.
    #[must_use]
    pub fn key(&self, key: impl Into<String>) -> Self {
        self.with(Step::Key(key.into()))
    }

    /// The entry `index`, from 0, of the array at this path.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    /// The value at a written path below this one: `device[0].name` or
    /// `device.0.name`.
    #[must_use]
    pub fn below(&self, written: &str) -> Self {
        let mut path = self.clone();
        for part in written.split(['.', '[', ']']).filter(|part| !part.is_empty()) {
            path = match part.parse() {
                Ok(index) => path.index(index),
                Err(_) => path.key(part),
            };
        }
        path
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The header that begins the table at this path: `[kafka.tls]`, or
    /// `[[source.device]]` for one of several.
    pub(crate) fn header(&self, one_of_several: bool) -> String {
        let keys: Vec<&str> = self.0.iter().filter_map(Step::as_key).collect();
        let path = keys.join(".");
        if one_of_several { format!("[[{path}]]") } else { format!("[{path}]") }
    }

    /// Whether this is `other` or lies below it.
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    if position > 0 {
                        f.write_str(".")?;
                    }
                    if is_bare(key) { f.write_str(key)? } else { write!(f, "{key:?}")? }
                }
            }
        }
        Ok(())
    }
}

/// Whether TOML takes this key without quotes.
fn is_bare(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

impl Serialize for KeyPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where something was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// Not looked up yet.
    #[default]
    Unknown,
    File {
        file: String,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
    },
    /// An environment variable.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => Ok(()),
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}: "),
            Self::Variable(name) => write!(f, "{name}: "),
        }
    }
}

/// Whether the agent starts in spite of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    pub place: Place,
    #[serde(rename = "key")]
    pub at: KeyPath,
    pub severity: Severity,
    /// What is wrong, as a fragment: "unknown key `intervall`".
    pub what: String,
    /// What would be right: "did you mean `interval`?". Empty where `what`
    /// says it already.
    pub remedy: String,
    /// It may have gone by itself at the next try: the medium erred, a right was missing
    /// for a moment. Nothing says that the file is wrong.
    #[serde(skip)]
    pub passes: bool,
}

impl Problem {
    /// An error: the agent does not start with it.
    pub fn new(at: &KeyPath, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            place: Place::Unknown,
            at: at.clone(),
            severity: Severity::Error,
            what: what.into(),
            remedy: remedy.into(),
            passes: false,
        }
    }

    /// Something to know that does not keep the agent from starting.
    pub fn warning(at: &KeyPath, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::new(at, what, remedy) }
    }

    #[must_use]
    pub fn placed(self, place: Place) -> Self {
        Self { place, ..self }
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.at.steps().is_empty() {
            write!(f, "{}: ", self.at)?;
        }
        f.write_str(&self.what)?;
        if !self.remedy.is_empty() {
            write!(f, ", {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Why a configuration is refused: at least one error, and the warnings beside
/// it, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// `EX_CONFIG` of sysexits.h: the unit does not restart on it.
    pub const WRONG: u8 = 78;

    /// The file could not be read: the unit tries again.
    pub const UNREAD: u8 = 1;

    /// What a program ends with that cannot go on for them.
    pub fn exit_code(&self) -> u8 {
        let passes = self.0.iter().any(|problem| problem.passes);
        if passes { Self::UNREAD } else { Self::WRONG }
    }

    /// Sorted by place, each once.
    pub fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        Self(problems)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}")?;
        }
        let errors = self.0.iter().filter(|problem| problem.is_error()).count();
        let warnings = self.0.len() - errors;
        write!(f, "{}", counted(errors, "error"))?;
        if warnings > 0 {
            write!(f, ", {}", counted(warnings, "warning"))?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(line: usize, problem: Problem) -> Problem {
        problem.placed(Place::File { file: "a.toml".into(), line, column: 3 })
    }

    #[test]
    fn problems_are_told_in_the_order_of_the_file_with_their_count() {
        let source = KeyPath::root().key("source").index(1);
        let problems = Problems::new(vec![
            placed(12, Problem::new(&source.key("a.b"), "unknown key `a.b`", "did you mean `ab`?")),
            placed(3, Problem::warning(&source, "odd", "")),
        ]);
        insta::assert_snapshot!(problems, @r#"
        a.toml:3:3: warning: source[1]: odd
        a.toml:12:3: source[1]."a.b": unknown key `a.b`, did you mean `ab`?
        1 error, 1 warning
        "#);
    }

    #[test]
    fn a_written_path_is_the_path_that_is_shown() {
        let source = KeyPath::root().key("source").index(2);
        let path = source.below("device[0].group[11].name");
        assert_eq!(path.to_string(), "source[2].device[0].group[11].name");
        assert_eq!(path.steps().len(), 7);
        assert_eq!(source.below("device.0.group.11.name"), path);
        assert_eq!(source.below(""), source);
    }

    #[test]
    fn problems_are_told_to_programs_with_place_and_key() {
        let at = KeyPath::root().key("kafka").key("brokers");
        let in_file = placed(2, Problem::new(&at, "is empty", "name a broker"));
        let variable = Problem::new(&at, "is empty", "").placed(Place::Variable("T".into()));
        insta::assert_json_snapshot!(Problems(vec![in_file, variable]), @r#"
        [
          {
            "place": {
              "file": {
                "file": "a.toml",
                "line": 2,
                "column": 3
              }
            },
            "key": "kafka.brokers",
            "severity": "error",
            "what": "is empty",
            "remedy": "name a broker"
          },
          {
            "place": {
              "variable": "T"
            },
            "key": "kafka.brokers",
            "severity": "error",
            "what": "is empty",
            "remedy": ""
          }
        ]
        "#);
    }
}
