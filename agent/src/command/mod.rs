//! The commands besides `run` and `check`, each in a file of its own.
//!
//! One of the buffer makes a request, puts it to whoever has the file, and prints the
//! answer: a table for a person, with `--json` the answer as it came.

pub(crate) mod buffer;
pub(crate) mod dlq;
pub(crate) mod drain;
pub(crate) mod plan;
mod table;
pub(crate) mod tap;

use std::path::PathBuf;
use std::process::ExitCode;

use serde::de::DeserializeOwned;
use tidegate::control::{self, Request};

use crate::{DEFAULT_CONFIG, complain, load, say};

/// What every command takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// The configuration file: it says where the buffer is.
    #[arg(short, long, default_value = DEFAULT_CONFIG, global = true)]
    pub(crate) config: PathBuf,
    /// Print one JSON object instead of a table.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Common {
    /// The answer to a request; with `--json` it is printed already. What goes
    /// wrong is said, and only the exit code is left.
    fn put<T: DeserializeOwned>(&self, request: &Request) -> Result<T, ExitCode> {
        let config = load(&self.config)?;
        let answer = control::put(&config, request).map_err(|cause| self.failed(&cause))?;
        let words = serde_json::from_str(answer.get()).map_err(|cause| self.failed(&cause))?;
        if self.json {
            say(answer);
        }
        Ok(words)
    }

    /// Says why, with all causes.
    fn failed(&self, cause: &(dyn std::error::Error + 'static)) -> ExitCode {
        let mut text = cause.to_string();
        let mut source = cause.source();
        while let Some(inner) = source {
            text = format!("{text}: {inner}");
            source = inner.source();
        }
        if self.json {
            say(serde_json::json!({ "error": text }));
        } else {
            complain(&text);
        }
        ExitCode::FAILURE
    }
}
