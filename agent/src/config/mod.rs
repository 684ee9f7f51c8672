//! The configuration: loaded, checked whole, told in full when it is wrong.

mod check;
mod document;
mod environment;
#[cfg(test)]
mod fuzz;
mod load;
mod problem;
mod rules;
mod schema;
mod secret;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) use check::nearest;
pub use load::{Loaded, load, load_str};
pub use problem::{KeyPath, Place, Problem, Problems, Severity, Step};
pub use rules::{check_label, name as check_name, name_of_topic as check_topic};
pub use schema::{key_paths, schema};
pub use secret::{Error as SecretError, Secret};

use crate::flow::{Create, Lane, Rules, WhenFull};
use crate::source;
use crate::units::{Percent, Period};

/// The whole file.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who this machine is.
    pub gateway: Gateway,
    /// The file that keeps events until Kafka has them.
    #[serde(default)]
    pub buffer: crate::buffer::Config,
    /// The uplink.
    pub kafka: crate::forward::Config,
    /// The connections that are read, told apart by `type`.
    #[serde(default, rename = "source")]
    pub sources: Vec<source::Config>,
    /// The streams that sources feed; one that is not listed goes to the topic
    /// of its own name, which must exist.
    #[serde(default, rename = "stream")]
    pub streams: Vec<Stream>,
    /// What the agent tells of itself in Kafka.
    #[serde(default)]
    pub system: crate::system::Config,
    /// What the agent says about itself, and how.
    #[serde(default)]
    pub log: Log,
    /// How commands reach the running agent.
    #[serde(default)]
    pub control: crate::control::Config,
    /// Figures and health for machines, over HTTP.
    #[serde(default)]
    pub status: crate::status::Config,
}

/// `[gateway]`: who this machine is.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Name of the machine: part of every event's id. Letters, digits, `-`,
    /// `_`, `.`; 1 to 64 characters.
    pub id: String,
    /// Static fields that every record of this gateway carries: any names but
    /// those of the record itself.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How long a stop may take to send what is collected; the rest stays in
    /// the buffer. Default: `10 s`.
    #[serde(default = "default_grace")]
    pub shutdown_grace: Period,
}

const fn default_grace() -> Period {
    Period::from_secs(10)
}

/// `[[stream]]`: a named flow of events, its topic and how the topic is made.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// The name that sources use.
    pub name: String,
    /// The Kafka topic; the stream's name by default.
    #[serde(default)]
    pub topic: Option<String>,
    /// How to make the topic where it is missing.
    #[serde(default)]
    pub create: Option<Create>,
    /// What happens when the file, or the stream's share of it, is full: the
    /// sources wait (`block`), the oldest stored events go, alarms too
    /// (`drop_oldest`), or what comes is not stored (`drop_newest`). Default:
    /// sources that can wait do (databases, MQTT with QoS 1 and 2), what is
    /// polled drops its oldest, but no alarms.
    #[serde(default)]
    pub when_full: Option<WhenFull>,
    /// Part of the buffer's `max_size` that its events may take. Default:
    /// `100 %`.
    #[serde(default = "all")]
    pub share: Percent,
    /// Lane of the sources that name none: `alarm`, `live` (default), `bulk`.
    #[serde(default)]
    pub lane: Lane,
}

const fn all() -> Percent {
    Percent::ALL
}

impl Stream {
    /// The stream as all stages know it.
    pub fn rules(&self) -> Rules {
        let stream = crate::flow::Stream {
            name: self.name.clone(),
            topic: self.topic.clone().unwrap_or_else(|| self.name.clone()),
            create: self.create.clone(),
        };
        Rules { stream, lane: self.lane, when_full: self.when_full, share: self.share }
    }
}

/// `[log]`: what the agent says and how.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// For people (`text`) or for programs (`json`). Default: `text`.
    #[serde(default)]
    pub format: LogFormat,
    /// The least important line that is written: `error`, `warn`, `info` or
    /// `debug`. Default: `info`.
    #[serde(default)]
    pub level: LogLevel,
}

#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
}
