//! `[kafka]`: the brokers, the login, and how events are handed over.

mod client;
mod options;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::Secret;
use crate::flow::Create;
use crate::units::{ByteSize, Period};

/// `[kafka]`: the brokers, the login, and how events are handed over.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Host and port of one or more brokers: `"a:9092,b:9092"`.
    pub brokers: String,
    /// `exactly_once` (default): Kafka transactions, nothing twice and nothing
    /// lost. `at_least_once`: cheaper, after a crash some events come twice
    /// under the same id.
    #[serde(default)]
    pub delivery: Delivery,
    /// Encrypts the connection. Without it everything travels in the open.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// Logs in with a name and a secret (SASL).
    #[serde(default)]
    pub login: Option<Login>,
    /// How batches are compressed: `zstd` (default), `lz4`, `gzip`, `snappy`
    /// or `none`.
    #[serde(default)]
    pub compression: Compression,
    /// Topic under which the position stands as a committed offset; it stays
    /// empty. Default `tidegate.positions`.
    #[serde(default = "default_positions_topic")]
    pub positions_topic: String,
    /// How to make the topic of positions where it is missing; by default with
    /// one partition and the broker's replication.
    #[serde(default = "default_positions_create")]
    pub positions_create: Create,
    /// How long the broker lets a transaction stand open, from "10 s" to the
    /// broker's `transaction.max.timeout.ms` (15 min). Default "60 s".
    #[serde(default = "default_transaction_timeout")]
    pub transaction_timeout: Period,
    /// Bytes a second, at least 1 KiB, at which a backlog is sent: what was read
    /// more than a minute ago. Before compression, which makes it four to ten
    /// times smaller. Alarms, and what is read now, are not slowed; but a stream
    /// keeps its order. Default: as fast as it goes.
    #[serde(default)]
    pub backfill_limit: Option<ByteSize>,
    /// Name that the brokers' logs and quotas see; default
    /// `tidegate-<gateway>`.
    #[serde(default)]
    pub client_id: Option<String>,
    /// Further settings of librdkafka by their names, for experts. Those that
    /// would break the promise are refused, and what librdkafka does not take.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// What is promised about each event.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    #[default]
    ExactlyOnce,
    AtLeastOnce,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    #[default]
    Zstd,
    Lz4,
    Gzip,
    Snappy,
    None,
}

/// `[kafka.tls]`
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file with the certificates that sign the brokers'; by default those
    /// of the system.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// PEM file with this gateway's own certificate (mutual TLS).
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// PEM file with the key of `certificate`.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// Password of `key`, where it has one.
    #[serde(default)]
    pub key_password: Option<Secret>,
    /// Whether the broker's certificate and name are checked. Default true;
    /// false gives the connection to whoever answers.
    #[serde(default = "yes")]
    pub verify: bool,
}

/// `[kafka.login]`
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// `plain`, `scram-sha-256`, `scram-sha-512` or `oauthbearer`.
    pub mechanism: Mechanism,
    /// Name, for all but `oauthbearer`.
    #[serde(default)]
    pub username: Option<String>,
    /// Password, for all but `oauthbearer`; read again at each new producer.
    #[serde(default)]
    pub password: Option<Secret>,
    /// For `oauthbearer`: a JWT that something else keeps fresh; read again at
    /// each refresh.
    #[serde(default)]
    pub token: Option<Secret>,
    /// For `oauthbearer` without `token`: URL that gives one for
    /// `client_id` and `client_secret`.
    #[serde(default)]
    pub token_endpoint: Option<String>,
    /// Client name at `token_endpoint`.
    #[serde(default)]
    pub client_id: Option<String>,
    /// Client secret at `token_endpoint`.
    #[serde(default)]
    pub client_secret: Option<Secret>,
    /// Scope to ask for at `token_endpoint`.
    #[serde(default)]
    pub scope: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    Plain,
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
    Oauthbearer,
}

impl Mechanism {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::Oauthbearer => "OAUTHBEARER",
        }
    }
}

fn default_positions_topic() -> String {
    "tidegate.positions".to_owned()
}
const fn default_positions_create() -> Create {
    Create { partitions: 1, replication: -1, config: BTreeMap::new() }
}
const fn default_transaction_timeout() -> Period {
    Period::from_secs(60)
}
const fn yes() -> bool {
    true
}

/// A mistake that no single key shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Key below `kafka`, with dots: `login.password`.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
    /// Whether the agent may start all the same.
    pub warning: bool,
}

impl Config {
    /// With less, an event of the largest size would wait for hours.
    pub const LEAST_BACKFILL: ByteSize = ByteSize(1024);

    /// The files that it names: certificates, keys, secrets, also those that only
    /// librdkafka knows by an option.
    pub fn files(&self) -> Vec<PathBuf> {
        let (tls, login) = (self.tls.as_ref(), self.login.as_ref());
        let of_tls = tls.map(|tls| [tls.ca.clone(), tls.certificate.clone(), tls.key.clone()]);
        let secrets = [
            tls.and_then(|tls| tls.key_password.as_ref()),
            login.and_then(|login| login.password.as_ref()),
            login.and_then(|login| login.token.as_ref()),
            login.and_then(|login| login.client_secret.as_ref()),
        ];
        let secrets = secrets.into_iter().flatten().filter_map(Secret::file);
        let named = self.options.iter().filter(|(name, _)| options::names_a_file(name));
        let named = named.map(|(_, path)| PathBuf::from(path));
        of_tls.into_iter().flatten().flatten().chain(secrets).chain(named).collect()
    }

    /// What only shows between keys.
    pub fn check(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut say = |key: &str, message: String, warning| {
            found.push(Finding { key: key.to_owned(), message, warning });
        };
        if self.brokers.trim().is_empty() {
            say("brokers", "is empty, name them as \"host:port,host:port\"".to_owned(), false);
        }
        for broker in self.brokers.split(',').filter(|_| !self.brokers.trim().is_empty()) {
            let port = broker
                .trim()
                .rsplit_once(':')
                .and_then(|(h, p)| (!h.is_empty()).then(|| p.parse::<u16>().ok()).flatten());
            if port.is_none() {
                say("brokers", format!("`{broker}` is not HOST:PORT"), false);
            }
        }
        if self.transaction_timeout < Period::from_secs(10) {
            say("transaction_timeout", "is below 10 s".to_owned(), false);
        }
        for (name, value) in &self.options {
            if let Some(message) = options::wrong_with(name, value) {
                say(&format!("options.{name}"), message, false);
            }
        }
        if let Some(tls) = &self.tls {
            if tls.certificate.is_some() != tls.key.is_some() {
                say("tls", "`certificate` and `key` belong together".to_owned(), false);
            }
            if !tls.verify {
                let message = "the broker's certificate is not checked: anybody can pose as it";
                say("tls.verify", message.to_owned(), true);
            }
        }
        let Some(login) = &self.login else { return found };
        if self.tls.is_none() {
            let message = "a login without `[kafka.tls]` can be read or hijacked on its way";
            say("login", message.to_owned(), true);
        }
        if login.mechanism == Mechanism::Oauthbearer {
            let endpoint = login.token_endpoint.is_some()
                && login.client_id.is_some()
                && login.client_secret.is_some();
            if login.token.is_some() == endpoint {
                let message = "oauthbearer needs `token`, or `token_endpoint`, `client_id` and `client_secret`";
                say("login", message.to_owned(), false);
            }
        } else if login.username.is_none() || login.password.is_none() {
            let message = "this mechanism needs `username` and `password`";
            say("login", message.to_owned(), false);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn config(more: serde_json::Value) -> Config {
        let mut all = serde_json::json!({"brokers": "a:9092"});
        if let serde_json::Value::Object(more) = more {
            all.as_object_mut().unwrap().extend(more);
        }
        serde_json::from_value(all).unwrap()
    }

    pub(super) fn findings(more: serde_json::Value) -> Vec<String> {
        let warn = |f: &Finding| if f.warning { "warning: " } else { "" };
        config(more)
            .check()
            .iter()
            .map(|f| format!("{}{}: {}", warn(f), f.key, f.message))
            .collect()
    }

    #[test]
    fn defaults_have_no_findings() {
        assert_eq!(findings(serde_json::json!({})), Vec::<String>::new());
    }

    #[test]
    fn a_login_in_the_open_is_a_warning() {
        assert_eq!(
            findings(
                serde_json::json!({"login": {"mechanism": "scram-sha-512", "username": "u", "password": {"env": "P"}}})
            ),
            ["warning: login: a login without `[kafka.tls]` can be read or hijacked on its way"]
        );
    }

    #[test]
    fn a_login_without_its_parts_is_refused() {
        for login in [
            serde_json::json!({"mechanism": "plain", "username": "u"}),
            serde_json::json!({"mechanism": "oauthbearer"}),
            serde_json::json!({"mechanism": "oauthbearer", "token_endpoint": "http://x"}),
        ] {
            let found = findings(serde_json::json!({"tls": {}, "login": login}));
            assert_eq!(found.len(), 1, "{found:?}");
        }
    }
}
