//! Secrets, by reference only: never in the file, a log, or an error.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where a secret stands. Read again at each connection, so that a rotated
/// one is picked up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Secret {
    /// Name of an environment variable.
    Env(String),
    /// Path of a file; one trailing line break is not part of the secret.
    File(PathBuf),
    /// Name of a systemd credential (`LoadCredential=`), read from
    /// `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

/// The secret is not there; the message names the reference, never a content.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the secret {place}")]
pub struct Error {
    place: String,
    #[source]
    cause: std::io::Error,
}

impl Secret {
    /// The file that it stands in, if it does.
    pub fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Env(_) => None,
            Self::File(path) => Some(path.clone()),
            Self::Credential(name) => {
                Some(PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(name))
            }
        }
    }

    /// The secret itself.
    pub fn read(&self) -> Result<String, Error> {
        match self {
            Self::Env(name) => std::env::var(name).map_err(|cause| Error {
                place: format!("from the environment variable {name}"),
                cause: std::io::Error::other(cause.to_string()),
            }),
            Self::File(path) => read(path),
            Self::Credential(name) => {
                let folder = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| Error {
                    place: format!("from the credential {name}"),
                    cause: std::io::Error::other(
                        "CREDENTIALS_DIRECTORY is not set: add `LoadCredential=` to the unit",
                    ),
                })?;
                read(&PathBuf::from(folder).join(name))
            }
        }
    }
}

fn read(path: &Path) -> Result<String, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|cause| Error { place: format!("from {}", path.display()), cause })?;
    Ok(text
        .strip_suffix('\n')
        .map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t))
        .to_owned())
}
