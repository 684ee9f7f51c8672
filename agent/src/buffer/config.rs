//! `[buffer]`: where the file is, how often it is written and how far it grows.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::units::{ByteSize, Percent, Period, Room};

/// When what sources hand over is written to the file.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Write {
    /// Always, before it is sent.
    #[default]
    Always,
    /// Only where Kafka has not committed it within `commit_interval`.
    WhenNeeded,
}

/// `[buffer]`: the file and how it is written.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file; its folder must exist and be writable. Beside it stand
    /// `-wal`, `-shm`, `.lock`, `.reserve` (2 MiB) and, after damage,
    /// `.damaged-<time>` of the same name.
    #[serde(default = "default_path")]
    pub path: PathBuf,
    /// Longest time from an event to its commit; default 1 s. Longer means
    /// fewer writes to the flash, and more that a power cut costs of sources
    /// that cannot send again.
    #[serde(default = "default_commit_interval")]
    pub commit_interval: Period,
    /// `always` (the default) writes every event to the file before it is sent.
    /// `when_needed` keeps it in memory first, 4 MiB at most, and writes it only
    /// where Kafka has not committed it within `commit_interval`: while Kafka is
    /// there the flash rests. A source is answered by whichever comes first. What
    /// it costs: after a crash of the agent a QoS 1 message of MQTT may be taken
    /// twice, and what a power cut costs of sources that cannot send again may be
    /// two intervals of it. Rows of a table and QoS 2 are always written first.
    #[serde(default)]
    pub write: Write,
    /// Bytes that the stored events may take, at least 16 MiB, default 1 GiB;
    /// then happens what each stream's `when_full` says. Dead letters may take
    /// an eighth of it.
    #[serde(default = "default_max_size")]
    pub max_size: ByteSize,
    /// What has waited longer than this is dropped, of every stream. Default:
    /// nothing is dropped for its age.
    #[serde(default)]
    pub max_age: Option<Period>,
    /// Free room that the disk must keep, as a share of it or a size; with
    /// less the file counts as full. Default: `10 %`.
    #[serde(default = "default_min_free_disk")]
    pub min_free_disk: Room,
}

impl Config {
    /// Below it, one commit of a loaded gateway is a good part of the file.
    pub const LEAST_SIZE: ByteSize = ByteSize::mib(16);

    /// How old what is stored may be is known to a minute.
    pub const LEAST_AGE: Period = Period::from_secs(60);
}

fn default_path() -> PathBuf {
    PathBuf::from("/var/lib/tidegate/buffer.db")
}
const fn default_commit_interval() -> Period {
    Period::from_secs(1)
}
const fn default_max_size() -> ByteSize {
    ByteSize::mib(1024)
}
const fn default_min_free_disk() -> Room {
    Room::Share(Percent::new(10))
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: default_path(),
            commit_interval: default_commit_interval(),
            write: Write::default(),
            max_size: default_max_size(),
            max_age: None,
            min_free_disk: default_min_free_disk(),
        }
    }
}
