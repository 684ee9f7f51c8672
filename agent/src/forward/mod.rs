//! Sends batches in order of priority, one Kafka transaction at a time.

use serde::{Deserialize, Serialize};

/// `[kafka]`: the brokers, the login, and how events are handed over.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Host and port of one or more brokers: `"a:9092,b:9092"`.
    pub brokers: String,
}
