//! The thin shell on librdkafka: one producer and what it can be asked.
//!
//! Every call is bounded in time, so that a stop is never held up by a broker
//! that does not answer.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::config::{Config, Delivery};
use super::context::{Context, Failure};
use super::line::{Kept, Line, Presence, Tail};
use super::load::{Load, Record};
use super::native;
use super::tail::TailReader;
use super::tails::Wanted;
use super::trouble::{Class, Trouble};
use crate::buffer::Position;
use crate::clock::Clock;
use crate::encode::record;
use crate::event::Timestamp;
use crate::flow::Create;

/// Longest a single call blocks: a stop waits no longer for it.
pub(super) const CALL: Duration = Duration::from_secs(2);

/// First slice of a call that must be polled between its slices; they double.
const FIRST_SLICE: Duration = Duration::from_millis(5);

/// Making a topic takes a controller's round of all brokers.
const CREATE: Duration = Duration::from_secs(10);

/// Events of the client's served at a time; more wait for the next turn.
const MOST_POLLS: usize = 64;

pub(super) struct Link {
    producer: BaseProducer<Context>,
    context: Context,
    group: Option<ConsumerGroupMetadata>,
    /// Reads the end of a topic, after the position was lost.
    tail: Option<TailReader>,
    transactional: bool,
    /// `init_transactions` is done once for each producer.
    initialised: bool,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("transactional", &self.transactional).finish_non_exhaustive()
    }
}

impl Link {
    /// Makes the producer; nothing is sent yet.
    pub(super) fn open(config: &Config, gateway: &str, clock: &Clock) -> Result<Self, Trouble> {
        let context = Context::new(config.login.clone(), clock.clone());
        let settings = config
            .producer(gateway)
            .map_err(|error| Trouble::new(Class::Rebuild, error.to_string()))?;
        let producer = settings.create_with_context(context.clone()).map_err(|error| {
            Trouble::new(Class::Rebuild, format!("cannot make a Kafka client: {error}"))
        })?;
        let transactional = config.delivery == Delivery::ExactlyOnce;
        Ok(Self { producer, context, group: None, tail: None, transactional, initialised: false })
    }

    /// Without transactions nothing can be taken back: waits until every record
    /// has its answer, so that it is known which ones arrived.
    fn drain(&self) -> Result<(), Trouble> {
        let done = self.answered(CALL);
        if let Some((code, text)) = self.producer.client().fatal_error() {
            return Err(Trouble { class: Class::Rebuild, code: Some(code), text });
        }
        if done {
            return Ok(());
        }
        Err(Trouble::new(Class::Repeat, "records wait for their answers"))
    }
}

impl Line for Link {
    /// Serves the client's events: errors, its log, a token to be fetched.
    fn poll(&self) {
        for _ in 0..MOST_POLLS {
            self.producer.poll(Duration::ZERO);
            if self.producer.in_flight_count() == 0 {
                break;
            }
        }
    }

    /// Fences what an earlier producer left open. May be called again until
    /// it is done.
    fn init(&mut self) -> Result<(), Trouble> {
        self.poll();
        if !self.transactional || self.initialised {
            return Ok(());
        }
        let done = self.producer.init_transactions(CALL);
        self.poll();
        done.map_err(|e| Trouble::of_transaction("cannot begin with transactions", &e))?;
        self.initialised = true;
        Ok(())
    }

    fn cluster(&self) -> Result<String, Trouble> {
        let cluster = self.producer.client().fetch_cluster_id(CALL);
        self.poll();
        cluster.ok_or_else(|| Trouble::new(Class::Repeat, "no broker names its cluster"))
    }

    fn presence(&self, topic: &str) -> Result<Presence, Trouble> {
        let metadata = self.producer.client().fetch_metadata(Some(topic), CALL);
        self.poll();
        let metadata = metadata
            .map_err(|e| Trouble::of_call(&format!("cannot look for the topic {topic}"), &e))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(Presence::Missing);
        };
        Ok(match found.error().map(Code::from) {
            Some(Code::TopicAuthorizationFailed) => Presence::Forbidden,
            Some(_) => Presence::Missing,
            None if found.partitions().is_empty() => Presence::Missing,
            None => Presence::There,
        })
    }

    /// Makes a topic; a client of its own does it, for that moment. False when
    /// it is there already.
    fn create(
        &self,
        config: &Config,
        gateway: &str,
        topic: &str,
        create: &Create,
    ) -> Result<bool, String> {
        let settings = config.client(gateway).map_err(|error| error.to_string())?;
        let admin: AdminClient<Context> = settings
            .create_with_context(self.context.clone())
            .map_err(|error| error.to_string())?;
        // Nobody serves this client's events, so it gets its token up front.
        if let Some(token) = self.context.token() {
            native::set_token(admin.inner(), &token?)?;
        }
        let mut new =
            NewTopic::new(topic, create.partitions, TopicReplication::Fixed(create.replication));
        for (name, value) in &create.config {
            new = new.set(name, value);
        }
        let options =
            AdminOptions::new().request_timeout(Some(CREATE)).operation_timeout(Some(CREATE));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|error| error.to_string())?;
        let results = runtime
            .block_on(admin.create_topics([&new], &options))
            .map_err(|error| error.to_string())?;
        match results.into_iter().next() {
            Some(Err((_, Code::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, code))) => Err(code.to_string()),
            _ => Ok(true),
        }
    }

    /// Reads what is kept under the gateway's group. A consumer is made for
    /// it and dropped again: its threads and memory are not needed later.
    fn read_position(&mut self, config: &Config, gateway: &str) -> Result<Option<Kept>, Trouble> {
        let group = format!("tidegate-{gateway}");
        let mut settings = config
            .client(gateway)
            .map_err(|error| Trouble::new(Class::Repeat, error.to_string()))?;
        settings
            .set("group.id", &group)
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false");
        let what = "cannot read the position";
        let consumer: BaseConsumer<Context> = settings
            .create_with_context(self.context.clone())
            .map_err(|error| Trouble::of_call(what, &error))?;
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition(&config.positions_topic, 0);
        // Serves the token of a login.
        drop(consumer.poll(Duration::ZERO));
        let read = consumer.committed_offsets(wanted, CALL * 2);
        drop(consumer.poll(Duration::ZERO));
        let read = read.map_err(|error| Trouble::of_call(what, &error))?;
        self.group = consumer.group_metadata();
        let Some(element) = read.find_partition(&config.positions_topic, 0) else {
            return Err(Trouble::new(Class::Repeat, format!("{what}: the answer lacks it")));
        };
        element.error().map_err(|error| Trouble::of_call(what, &error))?;
        match element.offset() {
            Offset::Offset(offset) => {
                let bytes = native::first_metadata(&read).unwrap_or_default();
                let position = std::str::from_utf8(&bytes)
                    .map_err(|_| "what is committed for the group is no text".to_owned())
                    .and_then(|text| Position::parse(text).map_err(|error| error.to_string()))
                    .map_err(|cause| Trouble::new(Class::Repeat, format!("{what}: {cause}")))?;
                Ok(Some(Kept { offset, position }))
            }
            _ => Ok(None),
        }
    }

    fn read_tail(
        &mut self,
        config: &Config,
        gateway: &str,
        wanted: &Wanted,
        each: &mut dyn FnMut(Option<&str>, usize),
    ) -> Result<Tail, Trouble> {
        let known = self.tail.take().filter(|tail| tail.is_of(&wanted.topic));
        let opened =
            known.map_or_else(|| TailReader::open(config, gateway, &self.context, wanted), Ok);
        let read = opened.and_then(|tail| {
            let tail = self.tail.insert(tail);
            tail.read(each)
        });
        read.or_else(|trouble| match trouble.code {
            Some(Code::TopicAuthorizationFailed) => Ok(Tail::Closed(Presence::Forbidden)),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                Ok(Tail::Closed(Presence::Missing))
            }
            _ => Err(trouble),
        })
    }

    fn leave_tail(&mut self) {
        self.tail = None;
    }

    fn begin(&self) -> Result<(), Trouble> {
        if !self.transactional {
            return Ok(());
        }
        self.context.take_failures();
        self.producer
            .begin_transaction()
            .map_err(|error| Trouble::of_transaction("cannot begin a transaction", &error))
    }

    /// Hands a record over to the client. `false`: its queue is full, try
    /// again after [`Link::flush`]. A record that it refuses at once is
    /// gathered among the failures.
    fn produce(
        &self,
        load: &Load,
        index: usize,
        given: &Record,
        now: Timestamp,
        id: &mut String,
    ) -> bool {
        record::id(&given.gateway, given.epoch, given.seq, id);
        let mut headers = OwnedHeaders::new_with_capacity(3)
            .insert(Header { key: "id", value: Some(id.as_str()) })
            .insert(Header { key: "schema", value: Some(record::SCHEMA) });
        if record::is_backfill(given.time, given.read_at, now) {
            headers = headers.insert(Header { key: "backfill", value: Some("1") });
        }
        let stamp = if given.stamped { now } else { given.time };
        let sent = self.producer.send(
            BaseRecord::with_opaque_to(&load.stream(given).topic, index)
                .key(load.key(given))
                .payload(load.value(given))
                .timestamp(record::timestamp(stamp, now))
                .headers(headers),
        );
        match sent {
            Ok(()) => true,
            Err((KafkaError::MessageProduction(Code::QueueFull), _)) => {
                // A record that an empty queue cannot take never goes.
                let too_large = self.producer.in_flight_count() == 0;
                if too_large {
                    self.context.failed(index, Code::MessageSizeTooLarge);
                }
                too_large
            }
            Err((error, _)) => {
                self.context
                    .failed(index, error.rdkafka_error_code().unwrap_or(Code::InvalidMessage));
                true
            }
        }
    }

    /// Waits for all answers, also behind one that was refused.
    fn answered(&self, at_most: Duration) -> bool {
        let end = Instant::now() + at_most;
        let mut slice = FIRST_SLICE;
        loop {
            let done = native::flush(&self.producer, slice);
            self.poll();
            if done || end <= Instant::now() {
                return done;
            }
            slice = (slice * 2).min(at_most / 8);
        }
    }

    /// Waits for all answers; true when none is missing, or when a record was
    /// refused: then the transaction is lost and the rest does not matter. The
    /// records that the client purges for it may be told first, and are no
    /// reason to stop waiting for the one that is to blame.
    fn flush(&self, at_most: Duration) -> bool {
        let end = Instant::now() + at_most;
        let mut slice = FIRST_SLICE;
        loop {
            // Wakes at once with the last success, but not with a failure,
            // whose report must be polled for first.
            let done = native::flush(&self.producer, slice.min(at_most));
            self.poll();
            let answered = done || self.context.is_blamed();
            if answered || end <= Instant::now() {
                return answered;
            }
            slice = (slice * 2).min(at_most);
        }
    }

    fn take_failures(&self) -> Vec<Failure> {
        self.context.take_failures()
    }

    /// Puts the position into the transaction.
    fn send_position(&self, topic: &str, kept: &Kept) -> Result<(), Trouble> {
        let what = "cannot add the position to the transaction";
        let Some(group) = &self.group else {
            // A commit without it would be sent again by the next start; only
            // that start reads the group.
            return Err(Trouble::new(Class::Rebuild, format!("{what}: its group is not known")));
        };
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(topic, 0, Offset::Offset(kept.offset))
            .map_err(|error| Trouble::of_call(what, &error))?;
        if let Some(mut element) = offsets.find_partition(topic, 0) {
            element.set_metadata(kept.position.encode());
        }
        self.producer
            .send_offsets_to_transaction(&offsets, group, CALL)
            .map_err(|error| Trouble::of_transaction(what, &error))
    }

    /// Asks for the commit, or asks again for its answer.
    fn commit(&self, at_most: Duration) -> Result<(), Trouble> {
        if !self.transactional {
            return Ok(());
        }
        let done = self.producer.commit_transaction(at_most);
        self.poll();
        done.map_err(|error| match error {
            // The crate's own flush before the commit: nothing was asked yet.
            KafkaError::Flush(_) => Trouble::of_call("cannot commit", &error),
            error => Trouble::of_transaction("cannot commit", &error),
        })
    }

    fn abort(&self) -> Result<(), Trouble> {
        if !self.transactional {
            return self.drain();
        }
        // The abort purges what was not sent and then waits until somebody has
        // taken the reports of it, which is done here, between short calls.
        let end = Instant::now() + CALL;
        let mut slice = FIRST_SLICE;
        loop {
            let done = self.producer.abort_transaction(slice);
            self.poll();
            let done = done.map_err(|error| Trouble::of_transaction("cannot abort", &error));
            let again = done.as_ref().is_err_and(|trouble| trouble.class == Class::Repeat);
            if !again || end <= Instant::now() {
                // Reports of this transaction say nothing about the next one.
                self.context.take_failures();
                return done;
            }
            slice = (slice * 2).min(CALL / 4);
        }
    }

    fn is_transactional(&self) -> bool {
        self.transactional
    }

    fn is_blamed(&self) -> bool {
        self.context.is_blamed()
    }

    fn told(&self) -> Option<String> {
        self.context.told()
    }

    fn well(&self) {
        self.context.well();
    }
}
