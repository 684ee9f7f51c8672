//! The forward thread: asks the core what comes next and does it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{error, info, warn};

use super::Status;
use super::config::{Config, Delivery};
use super::core::{Core, Outcome, State};
use super::lineup::Lineup;
use super::link::{Kept, Link, Presence};
use super::load::Load;
use super::sieve::Sieve;
use super::size::{MOST_BYTES, Sizer};
use super::trouble::{Class, Refusal, Trouble, refusal};
use super::voice::Voice;
use crate::buffer::{BatchId, Memory, Position, Reader, Store};
use crate::clock::Clock;

/// How long the thread sleeps while nothing is stored; the client's events
/// (lost brokers, tokens) and a stop wait no longer.
const IDLE: Duration = Duration::from_millis(250);

/// First wait for a commit; the next load is encoded while it goes on.
const COMMIT_FIRST: Duration = Duration::from_millis(4);

/// Further waits for a commit, and slices of a flush.
const SLICE: Duration = Duration::from_millis(250);

/// Brokers forget offsets after seven days without a commit (SAFETY 3).
const RENEW: Duration = Duration::from_hours(24);

/// How often in a row a transaction that names no culprit is tried as it is.
const MOST_AGAIN: u32 = 3;

/// Longer than any transaction of a healthy cluster holds the position back
/// after `init_transactions` has ended ours.
const UNREADABLE: Duration = Duration::from_secs(30);

/// When the thread must end, once that is known.
pub(super) type StopAt = Arc<Mutex<Option<Instant>>>;

/// What the thread runs on.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a note of its own, no state of a machine"
)]
pub(super) struct Forward {
    config: Config,
    gateway: String,
    store: Store,
    reader: Option<Reader>,
    clock: Clock,
    stop: StopAt,
    status: watch::Sender<Status>,
    core: Core,
    link: Option<Link>,
    lineup: Lineup,
    sizer: Sizer,
    voice: Voice,
    /// What is in the transaction, or goes into the next one.
    load: Load,
    /// What is encoded while the broker commits.
    next: Load,
    /// Records of `load` that were refused, perhaps for their content.
    suspects: Vec<usize>,
    /// The load is sent again as it is after the abort, for the so-manieth time.
    keep: bool,
    again: u32,
    cluster: String,
    /// What Kafka has.
    kept: Kept,
    /// What it has once the open transaction is committed, and not before: an
    /// aborted transaction must leave no trace in the next position.
    pending: Option<Kept>,
    seen: BatchId,
    last_was_trial: bool,
    began: Instant,
    last_commit: Instant,
    first_start: bool,
    /// Since when the position could not be read, and whether it was said.
    unreadable_since: Option<Instant>,
    unreadable_told: bool,
    /// A stop was asked for before it was seen that nothing is left.
    drained: bool,
}

impl Forward {
    pub(super) fn new(
        config: Config,
        gateway: String,
        store: Store,
        clock: Clock,
        stop: StopAt,
        status: watch::Sender<Status>,
    ) -> Self {
        let now = Instant::now();
        Self {
            config,
            gateway,
            store,
            reader: None,
            clock,
            stop,
            status,
            core: Core::new(),
            link: None,
            lineup: Lineup::default(),
            sizer: Sizer::new(),
            voice: Voice::default(),
            load: Load::default(),
            next: Load::default(),
            suspects: Vec::new(),
            keep: false,
            again: 0,
            cluster: String::new(),
            kept: Kept { offset: 0, position: Position::default() },
            pending: None,
            seen: BatchId(0),
            last_was_trial: false,
            began: now,
            last_commit: now,
            first_start: true,
            unreadable_since: None,
            unreadable_told: false,
            drained: false,
        }
    }

    /// Until it is stopped.
    pub(super) fn run(mut self) {
        loop {
            if self.core.take_rebuild() {
                self.link = None;
            }
            let state = self.core.state();
            let result = match state {
                State::Connecting => self.connect(),
                State::ReadingPosition => self.read_position(),
                State::Sending => self.send(),
                State::Committing => self.commit(),
                State::Aborting => self.abort(),
                State::Sifting => self.sift(),
            };
            let outcome = match &result {
                Ok(outcome) => *outcome,
                Err(trouble) => {
                    let told = self.link.as_ref().and_then(|link| link.context.told());
                    self.voice.trouble(trouble, told.as_deref(), &self.config.brokers);
                    Outcome::Failed(trouble.class)
                }
            };
            let pause = self.core.settle(outcome);
            self.report();
            if self.stopping().is_some_and(|end| self.drained || end <= Instant::now()) {
                return;
            }
            self.rest(pause);
        }
    }

    fn stopping(&self) -> Option<Instant> {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn out_of_time(&self) -> bool {
        self.stopping().is_some_and(|end| end <= Instant::now())
    }

    fn rest(&self, pause: Duration) {
        let end = Instant::now() + pause;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.out_of_time() {
                return;
            }
            if let Some(link) = &self.link {
                link.poll();
            }
            // `stop` unparks, so that a short grace is not slept away.
            std::thread::park_timeout(left.min(IDLE));
        }
    }

    fn report(&self) {
        let state = self.core.state().as_str();
        self.status.send_if_modified(|status| {
            let changed = status.state != state || status.last_error != self.voice.text;
            if changed {
                status.state = state;
                status.last_error.clone_from(&self.voice.text);
            }
            changed
        });
    }

    fn connect(&mut self) -> Result<Outcome, Trouble> {
        if self.link.is_none() {
            self.link = Some(Link::open(&self.config, &self.gateway, &self.clock)?);
        }
        let link = self.link.as_mut().ok_or_else(no_link)?;
        link.init()?;
        self.cluster = link.cluster()?;
        if link.is_transactional() {
            self.ensure_positions_topic()?;
        }
        Ok(Outcome::Done)
    }

    fn ensure_positions_topic(&self) -> Result<(), Trouble> {
        let link = linked(self.link.as_ref())?;
        let topic = &self.config.positions_topic;
        let create = &self.config.positions_create;
        if link.presence(topic)? == Presence::There {
            return Ok(());
        }
        match link.create(&self.config, &self.gateway, topic, create) {
            Ok(made) => {
                if made {
                    info!(topic, "topic of positions was made");
                }
                // Not there at once: the pause of a repeated step is right.
                Err(Trouble::new(Class::Repeat, format!("waiting for the topic {topic}")))
            }
            Err(cause) => {
                let command = self.command(topic, create);
                let text = format!(
                    "the topic {topic} is missing and cannot be made ({cause}); make it: {command}"
                );
                Err(Trouble::new(Class::Repeat, text))
            }
        }
    }

    fn command(&self, topic: &str, create: &crate::flow::Create) -> String {
        use std::fmt::Write as _;
        let mut command = format!(
            "kafka-topics.sh --bootstrap-server {} --create --topic {topic} --partitions {}",
            self.config.brokers, create.partitions
        );
        if create.replication > 0 {
            write!(command, " --replication-factor {}", create.replication)
                .expect("writing to a string does not fail");
        }
        for (name, value) in &create.config {
            write!(command, " --config {name}={value}").expect("writing to a string does not fail");
        }
        command
    }

    fn read_position(&mut self) -> Result<Outcome, Trouble> {
        let memory = self.store.memory();
        if self.config.delivery == Delivery::ExactlyOnce {
            let link = self.link.as_mut().ok_or_else(no_link)?;
            let kept = link.read_position(&self.config, &self.gateway);
            let kept = kept.inspect_err(|_| self.explain_unreadable())?;
            self.unreadable_since = None;
            self.adopt(kept, &memory)?;
        } else if !self.first_start {
            // What was delivered is forgotten in the file before it is read
            // again: adopting waits for the writer.
            let kept = self.kept.position.clone();
            self.store.adopt(&kept, &self.cluster).map_err(|_| gone())?;
        } else {
            self.kept.position = self.store.next_position(None, &self.cluster);
        }
        self.load.clear();
        self.next.clear();
        self.suspects.clear();
        self.keep = false;
        self.pending = None;
        self.lineup.restart();
        if self.first_start {
            info!(brokers = %self.config.brokers, cluster = %self.cluster, "connected to Kafka");
        }
        self.first_start = false;
        Ok(Outcome::Done)
    }

    /// Says once why the position may stay unreadable for ever, though the
    /// broker answers.
    ///
    /// A broker that died right after a commit may have lost the commit's
    /// marker on the group's log. `init_transactions` does not write it again,
    /// because the transaction counts as complete, and a read-committed reader
    /// of the offset waits for ever. Committing another offset of the group
    /// would write a marker, but Kafka completes with it all offsets that the
    /// producer id has pending, whatever their epoch: an offset whose
    /// transaction was aborted would become the position, and events that never
    /// arrived would be deleted. From here the two cannot be told apart, so a
    /// person has to, with the tool that Kafka has for it.
    fn explain_unreadable(&mut self) {
        let since = *self.unreadable_since.get_or_insert_with(Instant::now);
        if self.unreadable_told || since.elapsed() < UNREADABLE {
            return;
        }
        let topic = &self.config.positions_topic;
        let answers = self.link.as_ref().is_some_and(|link| {
            link.presence(topic).is_ok_and(|presence| presence == Presence::There)
        });
        if answers {
            self.unreadable_told = true;
            warn!(topic, group = %format!("tidegate-{}", self.gateway),
                "the position cannot be read though Kafka answers: a transaction hangs there, everything is kept until it is ended (kafka-transactions.sh find-hanging, then abort or wait)");
        }
    }

    fn adopt(&mut self, kept: Option<Kept>, memory: &Memory) -> Result<(), Trouble> {
        if let Some(known) = &memory.cluster
            && *known != self.cluster
        {
            warn!(cluster = %self.cluster, before = %known,
                "another Kafka cluster than before: everything that is stored goes there");
        }
        if let Some(kept) = kept {
            let adopted = self.store.adopt(&kept.position, &self.cluster).map_err(|_| gone())?;
            for range in &adopted.in_doubt {
                warn!(range, "may reach Kafka twice under the same id");
            }
            if adopted.deleted_events > 0 {
                info!(events = adopted.deleted_events, "already in Kafka, deleted here");
            }
            self.kept.position = self.store.next_position(Some(&kept.position), &self.cluster);
            self.kept.offset = kept.offset;
        } else {
            if memory.cluster.as_ref() == Some(&self.cluster) && memory.position.is_some() {
                warn!(topic = %self.config.positions_topic, group = %format!("tidegate-{}", self.gateway),
                        position = %memory.position.as_ref().map(Position::encode).unwrap_or_default(),
                        "the position in Kafka is lost: everything that is stored is sent, some of it may come twice under the same id");
            }
            self.kept.position = self.store.next_position(None, &self.cluster);
        }
        Ok(())
    }

    fn send(&mut self) -> Result<Outcome, Trouble> {
        let stopping = self.stopping().is_some();
        self.seen = self.store.wait_newer(self.seen, Duration::ZERO);
        if self.load.is_empty() {
            std::mem::swap(&mut self.load, &mut self.next);
        }
        if self.load.is_empty() {
            self.look_for_topics()?;
            self.compose()?;
            std::mem::swap(&mut self.load, &mut self.next);
        }
        let renew = self.kept.offset > 0 && self.last_commit.elapsed() >= RENEW;
        if self.load.is_empty() && !renew {
            linked(self.link.as_ref())?.poll();
            self.drained = stopping;
            if !stopping {
                let since = Instant::now();
                let newest = self.store.wait_newer(self.seen, IDLE);
                // A store that goes down answers at once; its forwarder is
                // stopped a moment later and must not spin until then.
                if newest <= self.seen {
                    self.rest(IDLE.saturating_sub(since.elapsed()));
                }
            }
            return Ok(Outcome::Idle);
        }
        self.transmit()
    }

    /// Sees which topics are there, makes those that may be made, and says
    /// once which flows stand aside.
    fn look_for_topics(&mut self) -> Result<(), Trouble> {
        let flows = self.reader()?.flows().map_err(|e| unreadable(&e))?;
        self.lineup.refresh(flows);
        for stream in self.lineup.to_look_for(Instant::now()) {
            let link = linked(self.link.as_ref())?;
            let cause = match link.presence(&stream.topic)? {
                Presence::There => {
                    self.lineup.found(&stream.topic);
                    continue;
                }
                Presence::Forbidden => format!(
                    "the broker does not let this gateway write to it (kafka-acls.sh --add --allow-principal … --operation Write --topic {})",
                    stream.topic
                ),
                Presence::Missing => match &stream.create {
                    Some(create) => {
                        match link.create(&self.config, &self.gateway, &stream.topic, create) {
                            Ok(made) => {
                                if made {
                                    info!(stream = %stream.name, topic = %stream.topic, "topic was made");
                                }
                                if self.lineup.made(&stream.topic, Instant::now()) {
                                    continue;
                                }
                                "it exists, but no broker shows it to this gateway (kafka-acls.sh --add … --operation Describe)".to_owned()
                            }
                            Err(cause) => format!(
                                "it is missing and cannot be made ({cause}): {}",
                                self.command(&stream.topic, create)
                            ),
                        }
                    }
                    None => format!(
                        "it is missing: {}",
                        self.command(
                            &stream.topic,
                            &crate::flow::Create {
                                partitions: 1,
                                replication: -1,
                                config: std::collections::BTreeMap::new()
                            }
                        )
                    ),
                },
            };
            if self.lineup.aside(&stream.topic, Instant::now()) {
                warn!(stream = %stream.name, topic = %stream.topic, error = %cause,
                    "stream stands aside, its events are kept");
            }
        }
        Ok(())
    }

    fn reader(&mut self) -> Result<&mut Reader, Trouble> {
        if self.reader.is_none() {
            self.reader = Some(self.store.reader().map_err(|e| unreadable(&e))?);
        }
        self.reader.as_mut().ok_or_else(no_link)
    }

    /// Encodes what goes into the next transaction.
    fn compose(&mut self) -> Result<(), Trouble> {
        self.next.clear();
        self.reader()?;
        let Some(reader) = self.reader.as_mut() else { return Ok(()) };
        // A flow on trial and all the others alternate, so that neither can
        // keep the other waiting.
        if !self.last_was_trial {
            for entry in self.lineup.trials() {
                let first =
                    reader.batches(entry.hash, entry.loaded, 1, 1).map_err(|e| unreadable(&e))?;
                if let Some(batch) = first.first() {
                    self.next.add(&entry.stream, batch);
                    self.lineup.loaded(entry.hash, batch.id);
                    self.last_was_trial = true;
                    return Ok(());
                }
            }
        }
        self.last_was_trial = false;
        let most = self.sizer.events();
        for entry in self.lineup.order() {
            let room = most.saturating_sub(u32::try_from(self.next.records.len()).unwrap_or(most));
            let bytes = MOST_BYTES.saturating_sub(self.next.bytes());
            // The first batch of all goes in whatever its size.
            if !self.next.is_empty() && (room == 0 || bytes == 0) {
                break;
            }
            let mut after = entry.loaded;
            // In small portions: what is read stands in memory beside what it
            // becomes.
            let portion = bytes.clamp(1, MOST_BYTES / 4);
            loop {
                let room =
                    most.saturating_sub(u32::try_from(self.next.records.len()).unwrap_or(most));
                if !self.next.is_empty() && (room == 0 || self.next.bytes() >= MOST_BYTES) {
                    break;
                }
                let batches = reader
                    .batches(entry.hash, after, room.max(1), portion)
                    .map_err(|e| unreadable(&e))?;
                let Some(last) = batches.last() else { break };
                after = last.id;
                for batch in &batches {
                    self.next.add(&entry.stream, batch);
                    self.lineup.loaded(entry.hash, batch.id);
                }
            }
        }
        Ok(())
    }

    /// Fills one transaction with the load and puts the position into it.
    fn transmit(&mut self) -> Result<Outcome, Trouble> {
        self.began = Instant::now();
        let dead = std::mem::take(&mut self.load.dead);
        if !dead.is_empty() {
            // A power cut behind this line leaves a dead letter whose batch is
            // met again: it is buried twice, never lost (SAFETY 9).
            for letter in &dead {
                error!(origin = %letter.origin, reason = %letter.reason, "batch became a dead letter");
            }
            self.store.bury(dead).map_err(|_| gone())?;
        }
        let link = linked(self.link.as_ref())?;
        link.take_failures();
        link.begin()?;
        let all: Vec<usize> = (0..self.load.records.len()).collect();
        self.produce(&all, true)?;
        let failures = linked(self.link.as_ref())?.take_failures();
        if !failures.is_empty() {
            return self.failed(&failures);
        }
        let mut position = self.kept.position.clone();
        for (flow, _, epoch, number) in &self.load.ends {
            position.advance(*flow, *epoch, *number);
        }
        let kept = Kept { offset: self.kept.offset + 1, position };
        let link = linked(self.link.as_ref())?;
        if link.is_transactional() {
            let mut sent = link.send_position(&self.config.positions_topic, &kept);
            // Repeating it is allowed, and each try is short because of stops.
            while sent.as_ref().is_err_and(|t| t.class == Class::Repeat)
                && self.began.elapsed() < self.config.transaction_timeout.get()
                && !self.out_of_time()
            {
                link.poll();
                sent = link.send_position(&self.config.positions_topic, &kept);
            }
            sent?;
        }
        self.pending = Some(kept);
        Ok(Outcome::Done)
    }

    /// Hands these records of the load over and waits for their answers.
    /// `chunked`: in requests no larger than what each topic is known to take.
    fn produce(&self, indices: &[usize], chunked: bool) -> Result<(), Trouble> {
        let link = linked(self.link.as_ref())?;
        let now = self.clock.now();
        let mut id = String::new();
        let mut open = 0_usize;
        for index in indices {
            let Some(given) = self.load.records.get(*index) else { continue };
            if given.buried {
                continue;
            }
            while !link.produce(&self.load, *index, given, now, &mut id) {
                link.flush(SLICE / 10);
                self.check_time()?;
            }
            open += 1;
            let topic = &self.load.stream(given).topic;
            if chunked && self.lineup.chunk(topic).is_some_and(|chunk| open >= chunk) {
                open = 0;
                self.flush()?;
                if link.context.is_blamed() {
                    return Ok(());
                }
            }
        }
        self.flush()
    }

    fn flush(&self) -> Result<(), Trouble> {
        let link = linked(self.link.as_ref())?;
        while !link.flush(SLICE) {
            self.check_time()?;
        }
        Ok(())
    }

    fn check_time(&self) -> Result<(), Trouble> {
        if self.out_of_time() || self.began.elapsed() >= self.config.transaction_timeout.get() {
            return Err(Trouble::new(Class::Abort, "the broker takes the records too slowly"));
        }
        Ok(())
    }

    /// Records of the transaction failed: who is to blame?
    fn failed(&mut self, failures: &[super::context::Failure]) -> Result<Outcome, Trouble> {
        let mut blamed: Vec<usize> = Vec::new();
        let mut line = None;
        let mut topics: Vec<(String, String)> = Vec::new();
        for failure in failures {
            let Some(record) = self.load.records.get(failure.record) else { continue };
            match refusal(failure.code) {
                Refusal::Content | Refusal::Timestamp => {
                    if !blamed.contains(&record.stream) {
                        blamed.push(record.stream);
                    }
                }
                Refusal::Topic => {
                    let topic = &self.load.stream(record).topic;
                    if !topics.iter().any(|(known, _)| known == topic) {
                        topics.push((topic.clone(), failure.code.to_string()));
                    }
                }
                Refusal::Line => line = line.or(Some(failure.code)),
                Refusal::Consequence => {}
            }
        }
        for (topic, cause) in &topics {
            if self.lineup.aside(topic, Instant::now()) {
                warn!(topic, error = %cause, "stream stands aside, its events are kept");
            }
        }
        if !blamed.is_empty() {
            self.suspects = (0..self.load.records.len())
                .filter(|index| {
                    self.load
                        .records
                        .get(*index)
                        .is_some_and(|r| !r.buried && blamed.contains(&r.stream))
                })
                .collect();
            return Ok(Outcome::Refused);
        }
        if !topics.is_empty() {
            // Said above, and nobody else is held up by it.
            return Ok(Outcome::Failed(Class::Abort));
        }
        if let Some(code) = line {
            self.sizer.timed_out();
            return Err(Trouble {
                class: Class::Abort,
                code: Some(code),
                text: format!("records were not delivered: {code}"),
            });
        }
        // All were purged because the transaction as such failed; whoever asks
        // next for something in it is told why.
        if self.again < MOST_AGAIN && self.load.records.iter().any(|r| r.buried || r.stamped) {
            // As in `sift`; to read the load again would bury twice.
            self.again += 1;
            self.keep = true;
            return Ok(Outcome::Failed(Class::Abort));
        }
        let refused = linked(self.link.as_ref())?
            .send_position(&self.config.positions_topic, &self.kept)
            .err()
            .filter(|trouble| trouble.class != Class::Repeat);
        if let Some(code) = refused.as_ref().and_then(|t| t.code)
            && refusal(code) == Refusal::Topic
            && self.stand_aside_alone(code)
        {
            return Ok(Outcome::Failed(Class::Abort));
        }
        Err(refused.unwrap_or_else(|| Trouble::new(Class::Abort, "records were not delivered")))
    }

    /// Some topic of the load may not be written to, and Kafka did not say
    /// which. A load of one topic has found it; else each goes alone.
    fn stand_aside_alone(&mut self, code: rdkafka::error::RDKafkaErrorCode) -> bool {
        let mut topics: Vec<String> =
            self.load.streams.iter().map(|stream| stream.topic.clone()).collect();
        topics.sort_unstable();
        topics.dedup();
        if let [topic] = topics.as_slice() {
            if self.lineup.aside(topic, Instant::now()) {
                warn!(topic, error = %code, "stream stands aside, its events are kept");
            }
        } else {
            for topic in &topics {
                self.lineup.try_alone(topic);
            }
        }
        !topics.is_empty()
    }

    fn commit(&mut self) -> Result<Outcome, Trouble> {
        let link = linked(self.link.as_ref())?;
        let mut done = link.commit(COMMIT_FIRST);
        if done.as_ref().is_err_and(|trouble| trouble.class == Class::Repeat) {
            if self.next.is_empty() {
                // The broker works on the commit meanwhile.
                self.compose()?;
            }
            done = linked(self.link.as_ref())?.commit(SLICE * 4);
        }
        done?;
        self.committed();
        Ok(Outcome::Done)
    }

    /// Kafka has it. A power cut from here on costs nothing: the position says
    /// so at the next start.
    fn committed(&mut self) {
        let events = self.load.records.iter().filter(|record| !record.buried).count();
        let bytes = self.load.bytes();
        if events > 0 {
            self.sizer.committed(events, self.began.elapsed());
        }
        self.again = 0;
        if let Some(kept) = self.pending.take() {
            self.kept = kept;
        }
        for stream in self.lineup.committed(&self.load.ends) {
            info!(stream = %stream.name, topic = %stream.topic, "stream delivers again");
        }
        self.last_commit = Instant::now();
        // The writer is gone only when the agent goes down; the position in
        // Kafka then tells the next start what to delete.
        drop(self.store.forget(self.kept.position.clone(), &self.cluster));
        self.load.clear();
        if let Some(link) = &self.link {
            link.context.well();
        }
        self.voice.well(&self.config.brokers);
        self.status.send_modify(|status| {
            status.delivered_events += events as u64;
            status.delivered_bytes += bytes as u64;
            status.last_error = None;
        });
    }

    fn abort(&mut self) -> Result<Outcome, Trouble> {
        linked(self.link.as_ref())?.abort()?;
        self.pending = None;
        if self.suspects.is_empty() && !std::mem::take(&mut self.keep) {
            self.load.clear();
            self.next.clear();
            self.lineup.rewind();
        }
        Ok(Outcome::Done)
    }

    /// Finds out which of the suspects are refused alone, in transactions that
    /// are never committed, and buries those.
    fn sift(&mut self) -> Result<Outcome, Trouble> {
        let suspects = std::mem::take(&mut self.suspects);
        let mut sieve = Sieve::new(suspects.len());
        let mut reasons = Vec::new();
        let mut again = 0;
        self.began = Instant::now();
        linked(self.link.as_ref())?.begin()?;
        while let Some(range) = sieve.next() {
            let tried = suspects.get(range.clone()).unwrap_or_default();
            self.produce(tried, false)?;
            let failures = linked(self.link.as_ref())?.take_failures();
            let Some(first) = failures
                .iter()
                .find(|f| refusal(f.code) != Refusal::Consequence)
                .or_else(|| failures.first())
            else {
                again = 0;
                continue;
            };
            let (blame, code) = (refusal(first.code), first.code);
            self.abort_fully()?;
            match blame {
                Refusal::Timestamp if self.stamp(tried) => sieve.again(range),
                Refusal::Content | Refusal::Timestamp => {
                    again = 0;
                    if sieve.refuse(range) {
                        reasons.push(format!("the broker refuses it: {code}"));
                    }
                }
                // A broker that refused a batch before this one has not seen its
                // sequence numbers and calls the next ones out of order. The
                // abort has mended that: the client begins anew with them.
                Refusal::Consequence if again < MOST_AGAIN => {
                    again += 1;
                    sieve.again(range);
                }
                Refusal::Topic | Refusal::Line | Refusal::Consequence => {
                    linked(self.link.as_ref())?.begin()?;
                    return Err(Trouble {
                        class: Class::Abort,
                        code: Some(code),
                        text: format!("records were not delivered: {code}"),
                    });
                }
            }
            self.began = Instant::now();
            linked(self.link.as_ref())?.begin()?;
        }
        self.abort_fully()?;
        self.bury(&suspects, &sieve, &reasons)?;
        let topic = suspects
            .first()
            .and_then(|index| self.load.records.get(*index))
            .map(|record| self.load.stream(record).topic.clone());
        if let Some(topic) = topic {
            self.lineup.set_chunk(&topic, sieve.largest());
        }
        Ok(Outcome::Done)
    }

    /// Aborts within a step: a slow line takes longer than one call.
    fn abort_fully(&self) -> Result<(), Trouble> {
        loop {
            let done = linked(self.link.as_ref())?.abort();
            if !done.as_ref().is_err_and(|trouble| trouble.class == Class::Repeat) {
                return done;
            }
            self.check_time()?;
        }
    }

    /// Stamps these records with the time of sending; false when they were.
    fn stamp(&mut self, indices: &[usize]) -> bool {
        let mut news = false;
        for index in indices {
            if let Some(record) = self.load.records.get_mut(*index) {
                news |= !record.stamped;
                record.stamped = true;
            }
        }
        news
    }

    fn bury(
        &mut self,
        suspects: &[usize],
        sieve: &Sieve,
        reasons: &[String],
    ) -> Result<(), Trouble> {
        let mut letters = Vec::new();
        for (place, reason) in sieve.refused().iter().zip(reasons) {
            let index = suspects.get(*place).copied().unwrap_or(usize::MAX);
            if let Some(record) = self.load.records.get(index) {
                let letter = self.load.letter(record, reason);
                warn!(origin = %letter.origin, reason, "record became a dead letter");
                letters.push(letter);
            }
        }
        if !letters.is_empty() {
            self.store.bury(letters).map_err(|_| gone())?;
        }
        for place in sieve.refused() {
            let index = suspects.get(*place).copied().unwrap_or(usize::MAX);
            if let Some(record) = self.load.records.get_mut(index) {
                record.buried = true;
            }
        }
        Ok(())
    }
}

fn linked(link: Option<&Link>) -> Result<&Link, Trouble> {
    link.ok_or_else(no_link)
}

fn no_link() -> Trouble {
    Trouble::new(Class::Rebuild, "the Kafka client is gone")
}

fn gone() -> Trouble {
    Trouble::new(Class::Rebuild, "the buffer is closed")
}

fn unreadable(error: &crate::buffer::ReadError) -> Trouble {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    Trouble::new(Class::Repeat, format!("{error}: {cause}"))
}
