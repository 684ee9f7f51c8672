//! What librdkafka's clients are told of `[kafka]`.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::{Compression, Config, Delivery, Mechanism};
use crate::config::SecretError;

/// librdkafka's queue in kibibytes, where records are of the usual size.
const QUEUE_KBYTES: u64 = 8_192;

/// What librdkafka puts into one request where no option says otherwise.
const REQUEST: u64 = 1_000_000;

/// The most that librdkafka lets it be.
const MOST_QUEUE_KBYTES: u64 = 2_147_483_647;

impl Config {
    /// What every client of ours has in common: where and as whom. Reads the
    /// secrets, so that each new client takes rotated ones.
    pub(in crate::forward) fn client(&self, gateway: &str) -> Result<ClientConfig, SecretError> {
        let mut client = ClientConfig::new();
        client.set_log_level(RDKafkaLogLevel::Info);
        for (name, value) in &self.options {
            client.set(name, value);
        }
        let id = self.client_id.clone().unwrap_or_else(|| format!("tidegate-{gateway}"));
        client
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", id)
            .set("allow.auto.create.topics", "false")
            .set(
                "security.protocol",
                match (&self.tls, &self.login) {
                    (None, None) => "plaintext",
                    (Some(_), None) => "ssl",
                    (None, Some(_)) => "sasl_plaintext",
                    (Some(_), Some(_)) => "sasl_ssl",
                },
            );
        for (name, value) in [
            ("socket.keepalive.enable", "true"),
            // A gateway that nobody drives to must find its broker soon after
            // the uplink is back.
            // The client spreads it by -25 to +50 %, so that a fleet does not
            // come in one moment.
            ("reconnect.backoff.max.ms", "2000"),
            ("log.connection.close", "false"),
        ] {
            if !self.options.contains_key(name) {
                client.set(name, value);
            }
        }
        if let Some(tls) = &self.tls {
            for (name, path) in [
                ("ssl.ca.location", &tls.ca),
                ("ssl.certificate.location", &tls.certificate),
                ("ssl.key.location", &tls.key),
            ] {
                if let Some(path) = path {
                    client.set(name, path.to_string_lossy());
                }
            }
            if let Some(password) = &tls.key_password {
                client.set("ssl.key.password", password.read()?);
            }
            if !tls.verify {
                client.set("enable.ssl.certificate.verification", "false");
                client.set("ssl.endpoint.identification.algorithm", "none");
            }
        }
        if let Some(login) = &self.login {
            client.set("sasl.mechanisms", login.mechanism.as_str());
            if login.mechanism != Mechanism::Oauthbearer {
                if let Some(name) = &login.username {
                    client.set("sasl.username", name);
                }
                if let Some(password) = &login.password {
                    client.set("sasl.password", password.read()?);
                }
            }
        }
        Ok(client)
    }

    /// The producer's settings on top of [`Config::client`].
    pub(in crate::forward) fn producer(&self, gateway: &str) -> Result<ClientConfig, SecretError> {
        let mut client = self.client(gateway)?;
        client
            .set("enable.idempotence", "true")
            .set(
                "compression.codec",
                match self.compression {
                    Compression::Zstd => "zstd",
                    Compression::Lz4 => "lz4",
                    Compression::Gzip => "gzip",
                    Compression::Snappy => "snappy",
                    Compression::None => "none",
                },
            )
            // As Java's clients have it; another one would break the order of
            // a device when it is changed later.
            .set("partitioner", "murmur2_random")
            // Success is what a flush says that leaves nothing behind; a report
            // for each record costs more than the record.
            .set("delivery.report.only.error", "true")
            .set("message.timeout.ms", self.message_timeout().as_millis().to_string());
        let queue = self.queue_kbytes().to_string();
        for (name, value) in [
            // Each load is flushed, so lingering costs no time; a load of which a part went
            // ahead would have to wait for that part's answer.
            ("linger.ms", "1000"),
            // zstd 3, the default, makes JSON no smaller than zstd 1 and takes
            // 3.7 MB for each request; the others' lowest level is good too.
            ("compression.level", "1"),
            // The queue is the file; here stands one load, or the largest record, and
            // what librdkafka counts beside the bytes.
            ("queue.buffering.max.messages", "20000"),
            ("queue.buffering.max.kbytes", queue.as_str()),
        ] {
            if !self.options.contains_key(name) {
                client.set(name, value);
            }
        }
        if self.delivery == Delivery::ExactlyOnce {
            client.set("transactional.id", format!("tidegate-{gateway}")).set(
                "transaction.timeout.ms",
                self.transaction_timeout.get().as_millis().to_string(),
            );
        }
        Ok(client)
    }

    /// Bytes that the client puts into one request at most, uncompressed. What is left
    /// waits for the answer to that.
    pub(in crate::forward) fn request_bytes(&self) -> u64 {
        let of = |name| self.options.get(name).and_then(|text| text.parse().ok());
        ["batch.size", "message.max.bytes"].into_iter().filter_map(of).fold(REQUEST, u64::min)
    }

    /// The client's queue: two records of the largest size that is allowed fit.
    fn queue_kbytes(&self) -> u64 {
        let largest = self.options.get("message.max.bytes").and_then(|text| text.parse().ok());
        largest.map_or(0, |bytes: u64| bytes / 512).clamp(QUEUE_KBYTES, MOST_QUEUE_KBYTES)
    }

    /// A record must fail before its transaction does: half of the latter's
    /// time-out leaves time to abort.
    fn message_timeout(&self) -> std::time::Duration {
        self.transaction_timeout.get() / 2
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;

    #[test]
    fn a_request_is_as_small_as_its_options() {
        let request = |more| config(more).request_bytes();
        assert_eq!(request(serde_json::json!({})), REQUEST);
        let options = serde_json::json!({"options": {
            "message.max.bytes": "500000", "batch.size": "2000000",
        }});
        assert_eq!(request(options), 500_000);
    }

    #[test]
    fn the_clients_queue_takes_the_largest_record_that_is_allowed() {
        let queue = |more| config(more).queue_kbytes();
        assert_eq!(queue(serde_json::json!({})), QUEUE_KBYTES);
        let larger = serde_json::json!({"options": {"message.max.bytes": "20000000"}});
        assert_eq!(queue(larger), 39_062);
        let odd = serde_json::json!({"options": {"message.max.bytes": "many"}});
        assert_eq!(queue(odd), QUEUE_KBYTES);
    }

    #[test]
    fn every_setting_is_one_that_the_library_knows() {
        for more in [
            serde_json::json!({}),
            serde_json::json!({"delivery": "at_least_once", "compression": "lz4"}),
            serde_json::json!({"tls": {"verify": false}}),
        ] {
            config(more).producer("gw1").unwrap().create_native_config().unwrap();
        }
    }
}
