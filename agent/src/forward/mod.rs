//! Sends batches in order of priority, one Kafka transaction at a time.

use serde::{Deserialize, Serialize};

/// `[kafka]`: the brokers, the login, and how events are handed over.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Host and port of one or more brokers: `"a:9092,b:9092"`.
    pub brokers: String,
}

impl Config {
    /// What no schema can say about the uplink.
    pub fn check(&self, at: &crate::config::KeyPath, problems: &mut Vec<crate::config::Problem>) {
        if self.brokers.trim().is_empty() {
            let remedy = "name one or more as \"host:port\"";
            problems.push(crate::config::Problem::new(&at.key("brokers"), "is empty", remedy));
        }
    }
}
