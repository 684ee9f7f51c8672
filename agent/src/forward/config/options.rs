//! `[kafka.options]`: settings of librdkafka's own, by its names.
//!
//! They are tried on librdkafka before anything runs by them: one that it does not know
//! would otherwise end an uplink that works, at a reload.

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

/// Settings that carry the promise, or that have a key of their own.
const REFUSED_OPTIONS: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "bootstrap.servers",
    "client.id",
    "compression.codec",
    "compression.type",
    "delivery.report.only.error",
    "delivery.timeout.ms",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "group.id",
    "isolation.level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.send.max.retries",
    "message.timeout.ms",
    "metadata.broker.list",
    "partitioner",
    "queuing.strategy",
    "request.required.acks",
    "retries",
    "sasl.password",
    "sasl.username",
    "sasl.mechanism",
    "sasl.mechanisms",
    "security.protocol",
    "ssl.key.password",
    "ssl.key.pem",
    "transaction.timeout.ms",
    "transactional.id",
];

/// Ends of the names of options whose value is the path of a file.
const FILES: [&str; 3] = [".location", ".file", ".keytab"];

/// What is wrong with this option, if anything is, and what would be right.
pub(super) fn wrong_with(name: &str, value: &str) -> Option<String> {
    if REFUSED_OPTIONS.contains(&name) {
        return Some("would break what the agent promises, or has a key of its own".to_owned());
    }
    // Alone, so that it is known which one is meant. Nothing is connected to.
    let tried = ClientConfig::new().set(name, value).create_native_config();
    tried.err().map(|cause| {
        let words = words(&cause);
        format!("librdkafka refuses it ({words}), see its CONFIGURATION.md for names and values")
    })
}

/// Whether the option's value is the path of a file that is read again with each client.
pub(super) fn names_a_file(name: &str) -> bool {
    FILES.iter().any(|end| name.ends_with(end))
}

/// What librdkafka says itself.
fn words(cause: &KafkaError) -> String {
    match cause {
        KafkaError::ClientConfig(_, words, ..) => words.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, findings};

    #[test]
    fn options_that_would_break_the_promise_are_refused() {
        assert_eq!(
            findings(serde_json::json!({"options": {"acks": "1", "linger.ms": "5"}})),
            ["options.acks: would break what the agent promises, or has a key of its own"]
        );
    }

    #[test]
    fn an_option_that_librdkafka_does_not_take_is_refused_in_its_own_words() {
        let options = serde_json::json!({"options": {
            "linger.ms": "5", "linger.msec": "5", "socket.timeout.ms": "soon",
        }});
        let found = findings(options);
        let [unknown, wrong] = found.as_slice() else { panic!("{found:?}") };
        assert!(
            unknown.starts_with(
                "options.linger.msec: librdkafka refuses it (No such configuration property"
            ),
            "{unknown}"
        );
        assert!(wrong.starts_with("options.socket.timeout.ms: "), "{wrong}");
        assert!(wrong.contains("Invalid value"), "{wrong}");
    }

    #[test]
    fn files_that_options_name_are_among_those_that_it_names() {
        let options = serde_json::json!({"options": {
            "linger.ms": "5",
            "ssl.crl.location": "/etc/tidegate/crl.pem",
            "ssl.keystore.location": "/etc/tidegate/gw1.p12",
            "sasl.kerberos.keytab": "/etc/tidegate/gw1.keytab",
        }});
        let files: Vec<String> =
            config(options).files().iter().map(|path| path.display().to_string()).collect();
        assert_eq!(
            files,
            ["/etc/tidegate/gw1.keytab", "/etc/tidegate/crl.pem", "/etc/tidegate/gw1.p12",]
        );
    }
}
