//! The Kafka of the demo: librdkafka's mock cluster in this process, or a real
//! one.
//!
//! The mock keeps what producers send. It keeps neither the end of transactions nor the offsets that a transaction
//! commits (librdkafka 2.12.1), so it cannot show that aborted records stay
//! hidden, nor that a restarted agent finds its position. A real one does.

use std::time::Duration;

use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaErrorCode;

use crate::ledger::Source;

/// Enough partitions that the order of a device needs its key.
const PARTITIONS: i32 = 3;

/// Where the agent keeps its position.
const POSITIONS: &str = "tidegate.positions";

/// A healthy cluster makes a topic in far less.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the result of a run with the mock does not prove.
pub const MOCK_NOTE: &str = "librdkafka's mock cluster shows aborted records and forgets positions: \
`repeated` counts copies under the same id of events made before the outage ended, which a \
read-committed reader of a real Kafka does not see; run with --brokers to prove that";

/// What the result of a run with a real Kafka stands for.
pub const REAL_NOTE: &str = "read committed from a real Kafka: every copy counts as a duplicate";

/// The other end of the [uplink](crate::uplink).
pub struct Kafka {
    brokers: String,
    mock: Option<MockCluster<'static, DefaultProducerContext>>,
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kafka")
            .field("brokers", &self.brokers)
            .field("mock", &self.mock.is_some())
            .finish()
    }
}

impl Kafka {
    /// One broker in this process, with the plant's topics.
    pub fn simulated() -> anyhow::Result<Self> {
        let mock = MockCluster::new(1).context("cannot start the mock cluster")?;
        mock.create_topic(POSITIONS, 1, 1).context("cannot make the topic of positions")?;
        for source in Source::ALL {
            mock.create_topic(source.topic(), PARTITIONS, 1)
                .with_context(|| format!("cannot make the topic {}", source.topic()))?;
        }
        Ok(Self { brokers: mock.bootstrap_servers(), mock: Some(mock) })
    }

    /// A Kafka that is there already; makes the topics that it lacks.
    pub async fn real(brokers: &str) -> anyhow::Result<Self> {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .create()
            .context("cannot make an admin client")?;
        let topics: Vec<NewTopic<'_>> = Source::ALL
            .into_iter()
            .map(|source| NewTopic::new(source.topic(), PARTITIONS, TopicReplication::Fixed(-1)))
            .chain([NewTopic::new(POSITIONS, 1, TopicReplication::Fixed(-1))])
            .collect();
        let options =
            AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
        let made = admin
            .create_topics(&topics, &options)
            .await
            .with_context(|| format!("cannot reach the Kafka at {brokers}"))?;
        for (topic, error) in made.into_iter().filter_map(Result::err) {
            if error != RDKafkaErrorCode::TopicAlreadyExists {
                anyhow::bail!("cannot make the topic {topic}: {error}");
            }
        }
        Ok(Self { brokers: brokers.to_owned(), mock: None })
    }

    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    pub fn is_mock(&self) -> bool {
        self.mock.is_some()
    }

    /// What a reader of the result must know.
    pub fn note(&self) -> &'static str {
        if self.is_mock() { MOCK_NOTE } else { REAL_NOTE }
    }
}
