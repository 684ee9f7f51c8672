//! The sources: each talks one protocol and emits events with the time at
//! which they were taken.
//!
//! A source never retries or reconnects, that is [`crate::supervise`]'s, and
//! never touches the buffer: what it reads goes through its
//! [`Intake`], and what it must tell its peer (an acknowledgement, a saved
//! cursor) waits for the commit.

pub mod modbus;
pub mod mqtt;
mod port;
pub mod serial;
pub mod sparkplug;
pub mod sql;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::collect::Intake;
use crate::flow::Flows;
use crate::supervise::Link;

/// `[[source]]`: one connection to one bus, line, broker or database, by `type`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Config {
    Modbus(modbus::Config),
    Mqtt(Box<mqtt::Config>),
    Serial(Box<serial::Config>),
    Sparkplug(Box<sparkplug::Config>),
    Sqlite(sql::sqlite::Config),
}

impl Config {
    pub fn name(&self) -> &str {
        match self {
            Self::Modbus(c) => &c.name,
            Self::Mqtt(c) => &c.name,
            Self::Serial(c) => &c.name,
            Self::Sparkplug(c) => &c.name,
            Self::Sqlite(c) => &c.name,
        }
    }

    /// Static fields that every record of this source carries.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        match self {
            Self::Modbus(c) => &c.labels,
            Self::Mqtt(c) => &c.labels,
            Self::Serial(c) => &c.labels,
            Self::Sparkplug(c) => &c.labels,
            Self::Sqlite(c) => &c.labels,
        }
    }

    /// The files that it names besides what it reads: certificates, keys, secrets,
    /// models.
    pub fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Sqlite(_) => Vec::new(),
            Self::Modbus(c) => c.files(),
            Self::Serial(c) => c.files(),
            Self::Mqtt(c) => c.files(),
            Self::Sparkplug(c) => c.files(),
        }
    }

    /// The serial ports that it opens, which are nobody else's, by their keys.
    pub fn ports(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Modbus(c) => c.ports().collect(),
            Self::Serial(c) => c.port().map(|port| ("address", port)).into_iter().collect(),
            Self::Mqtt(_) | Self::Sparkplug(_) | Self::Sqlite(_) => Vec::new(),
        }
    }

    /// What no schema can say: the key path inside the source, and what is
    /// wrong there and what would be right.
    pub fn check(&self) -> Vec<(String, String)> {
        match self {
            Self::Modbus(c) => c.check(),
            Self::Mqtt(c) => c.check(),
            Self::Serial(c) => c.check(),
            Self::Sparkplug(c) => c.check(),
            Self::Sqlite(c) => c.check(),
        }
    }

    /// What works, and yet not as it was meant, in the same form; of a
    /// configuration that [`Config::check`] found nothing wrong with.
    pub fn doubts(&self) -> Vec<(String, String)> {
        match self {
            Self::Modbus(c) => modbus::doubts(c),
            Self::Sparkplug(c) => c.doubts(),
            Self::Mqtt(_) | Self::Serial(_) | Self::Sqlite(_) => Vec::new(),
        }
    }
}

/// What every source is made with.
#[derive(Debug)]
pub struct Setup<'a> {
    pub gateway: &'a str,
    pub flows: &'a mut Flows,
    pub clock: Clock,
    /// What the source's last committed [`Checkpoint`](crate::collect::Checkpoint)
    /// held, if there is one.
    pub saved: Option<Arc<[u8]>>,
    /// There is none because a damaged file lost it: who would read all again
    /// or skip some without it must stop (SAFETY 13).
    pub lost: bool,
}

/// Why a source's connection ended. `supervise` says it once and opens the
/// connection again after its back-off; nothing else depends on the kind.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Error {
    /// What failed, naming the thing: `cannot connect to 10.0.0.5:502`.
    pub what: String,
    #[source]
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), cause: None }
    }

    pub fn because(
        what: impl Into<String>,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { what: what.into(), cause: Some(cause.into()) }
    }
}

/// A source that is set up, not yet connected.
#[derive(Debug)]
pub enum Source {
    Modbus(modbus::Source),
    Serial(Box<serial::Source>),
    Sqlite(sql::sqlite::Source),
    /// Also the Sparkplug host, which is a reader of its messages.
    Mqtt(Box<mqtt::Mqtt>),
}

impl Source {
    /// Sets a source up from its checked configuration; it connects in
    /// [`Source::run`].
    pub fn new(config: &Config, setup: Setup<'_>) -> Self {
        match config {
            Config::Modbus(c) => Self::Modbus(modbus::Source::new(c, setup)),
            Config::Mqtt(c) => Self::Mqtt(Box::new(mqtt::Mqtt::new(c.as_ref().clone(), setup))),
            Config::Serial(c) => Self::Serial(Box::new(serial::Source::new(c, setup))),
            Config::Sparkplug(c) => Self::Mqtt(Box::new(mqtt::Mqtt::host(c, setup))),
            Config::Sqlite(c) => Self::Sqlite(sql::sqlite::Source::new(c, setup)),
        }
    }

    /// Makes it one that is looked at alone, also while an agent runs beside it: what it
    /// hands over says what it was made of, and nothing that the peer has for the agent
    /// is taken from there.
    pub fn tap(&mut self) {
        match self {
            Self::Modbus(source) => source.tap(),
            Self::Serial(source) => source.tap(),
            Self::Sqlite(source) => source.tap(),
            Self::Mqtt(source) => source.tap(),
        }
    }

    /// Of a source that polls in groups, the counts of each.
    pub fn cycles(&self) -> Vec<Arc<modbus::Cycles>> {
        match self {
            Self::Modbus(source) => source.cycles(),
            Self::Serial(_) | Self::Sqlite(_) | Self::Mqtt(_) => Vec::new(),
        }
    }

    /// Of a source that reads a line, the counts of its frames.
    pub fn frames(&self) -> Option<Arc<serial::Frames>> {
        match self {
            Self::Serial(source) => Some(source.frames()),
            Self::Modbus(_) | Self::Sqlite(_) | Self::Mqtt(_) => None,
        }
    }

    /// Of a Sparkplug host, the counts of what it saw.
    pub fn sparkplug(&self) -> Option<Arc<sparkplug::Counts>> {
        match self {
            Self::Mqtt(source) => source.counts(),
            Self::Modbus(_) | Self::Serial(_) | Self::Sqlite(_) => None,
        }
    }

    /// Runs one connection. `Ok` only after `stop` was cancelled and what was
    /// read has been handed over; any other end is an error. It is called
    /// again on the same value, so that what must outlive a connection stands
    /// in `self`.
    pub async fn run(
        &mut self,
        intake: &mut Intake,
        link: &mut Link,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        match self {
            Self::Modbus(s) => s.run(intake, link, stop).await,
            Self::Serial(source) => source.run(intake, link, stop).await,
            Self::Sqlite(source) => source.run(intake, link, stop).await,
            Self::Mqtt(source) => source.run(intake, link, stop).await,
        }
    }
}
