//! The agent's own stream: its start and stop, a heartbeat with the buffer's
//! depth and drops, what was dropped or damaged, and how devices stand.
//!
//! Its events go the way of all others, through an [`Intake`] of an internal
//! source, so that they have ids, are kept while the line is down, and arrive
//! once. A gap, and what a salvage lost, is named as told in the commit that holds
//! its event: a kill before it tells it again, under another id that never was
//! before.

mod devices;
#[cfg(test)]
mod devices_tests;

use std::sync::Arc;
use std::time::Duration;

use devices::{Devices, Links};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::buffer::{self, Gap, Loss, Store};
use crate::clock::Clock;
use crate::collect::{Checkpoint, Delivery, Intake, Stopping};
use crate::event::{Event, Field, Quality, Timestamp, Value};
use crate::flow::{self, Create, Flows, Rules};
use crate::forward;
use crate::units::{Percent, Period};

/// The internal source: no other has this name.
pub const SOURCE: &str = "tidegate";

/// The stream, whatever its topic is called.
pub const STREAM: &str = "tidegate.system";

/// Part of the file that its events may take: with a buffer of 16 MiB hundreds
/// of heartbeats, and where its topic is refused it takes no room from others.
const SHARE: Percent = Percent::new(1);

/// `[system]`: what the agent tells of itself in Kafka.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Whether it tells anything. Default: true.
    #[serde(default = "default_enabled")]
    pub enabled: bool,
    /// The Kafka topic. Default: `tidegate.system`.
    #[serde(default = "default_topic")]
    pub topic: String,
    /// Time between two signs of life, at least 1 s. Default: `1 min`.
    #[serde(default = "default_heartbeat")]
    pub heartbeat: Period,
    /// How the topic is made where it is missing.
    #[serde(default = "default_create")]
    pub create: Create,
}

const fn default_enabled() -> bool {
    true
}
fn default_topic() -> String {
    STREAM.to_owned()
}
const fn default_heartbeat() -> Period {
    Period::from_secs(60)
}
fn default_create() -> Create {
    Create::default()
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: default_enabled(),
            topic: default_topic(),
            heartbeat: default_heartbeat(),
            create: default_create(),
        }
    }
}

impl Config {
    /// Each event is a row in the file: more of them would wear the flash for
    /// nothing.
    pub const LEAST_HEARTBEAT: Period = Period::from_secs(1);

    /// The stream, if there is to be one.
    pub fn rules(&self) -> Option<Rules> {
        let create = Some(self.create.clone());
        let stream = flow::Stream { name: STREAM.to_owned(), topic: self.topic.clone(), create };
        self.enabled.then(|| Rules { share: SHARE, ..stream.into() })
    }
}

/// What stands in an event beside its id.
#[derive(Debug)]
struct Notice {
    fields: Vec<Field>,
    /// The device and the time that it is of; without them the gateway's own, now.
    of: Option<(Arc<str>, Timestamp)>,
}

impl Notice {
    fn new(kind: &str) -> Self {
        Self { fields: Vec::new(), of: None }.with("kind", text(kind))
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.fields.push(Field { name: name.into(), unit: None, value, quality: None });
        self
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// The file was salvaged, and what that cost.
fn salvaged(loss: &Loss) -> Notice {
    let number = |number: Option<u64>| number.map_or(Value::Null, Value::U64);
    Notice::new("damage")
        .with("what", text("the buffer was damaged, what could be read goes on in a new file"))
        .with("cause", text(&loss.cause))
        .with("set_aside", text(&place(loss)))
        .with("batches", Value::U64(loss.batches))
        .with("events", Value::U64(loss.events))
        .with("lost_batches", number(loss.lost_batches))
        .with("lost_events", number(loss.lost_events))
        .with("lost_ids", text(&loss.ranges.join(", ")))
        .with("unreadable_batches", Value::U64(loss.unreadable))
        .with("renamed_epochs", Value::U64(loss.renamed_epochs))
        .with("cursors_lost", Value::Bool(loss.cursors_lost))
        .with("no_room", Value::Bool(loss.no_room))
}

/// Where the damaged file is: no other salvage has the same.
fn place(loss: &Loss) -> String {
    loss.set_aside.display().to_string()
}

fn gap(gap: &Gap) -> Notice {
    let what = &gap.what;
    let id = |seq: fn(&buffer::Ids) -> u64| match &gap.ids {
        Some(ids) => text(&format!("{}/{}/{}", ids.gateway, ids.epoch, seq(ids))),
        None => Value::Null,
    };
    Notice::new("gap")
        .with("stream", text(&what.stream))
        .with("reason", text(what.reason.as_str()))
        .with("events", Value::U64(what.events))
        .with("bytes", Value::U64(what.bytes))
        .with("first_id", id(|ids| ids.first))
        .with("last_id", id(|ids| ids.last))
        .with("perhaps_sent", Value::Bool(gap.perhaps_sent))
}

/// What tells of the agent; [`System::run`] is its task.
#[derive(Debug)]
pub struct System {
    flow: flow::Id,
    device: Arc<str>,
    heartbeat: Duration,
    clock: Clock,
    store: Store,
    buffer: watch::Receiver<buffer::Stats>,
    forward: watch::Receiver<forward::Status>,
    devices: Devices,
    /// What was told, and what of it is saved.
    told: Told,
    saved: Told,
    /// Told with the start.
    loss: Option<Notice>,
}

/// The checkpoint of the internal source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    /// The last gap.
    gap: i64,
    /// The last salvage, by its [`place`]; empty: none.
    loss: String,
}

impl Told {
    /// What is damaged is told again.
    fn load(saved: Option<Checkpoint>) -> Self {
        let Some(Checkpoint::Session(bytes)) = saved else { return Self::default() };
        let Some((gap, loss)) = bytes.split_first_chunk() else { return Self::default() };
        Self { gap: i64::from_be_bytes(*gap), loss: String::from_utf8_lossy(loss).into_owned() }
    }

    fn save(&self) -> Checkpoint {
        Checkpoint::Session([&self.gap.to_be_bytes(), self.loss.as_bytes()].concat().into())
    }
}

/// The part of a [`System`] that is known before the stages run.
#[derive(Debug)]
pub struct Plan {
    flow: flow::Id,
    heartbeat: Duration,
    told: Told,
    saved: Told,
    /// What a salvage cost, where it was not told yet.
    loss: Option<Notice>,
}

impl Plan {
    /// `saved` is the internal source's last checkpoint, `loss` what the file's
    /// last salvage cost. `None` where nothing is to be told.
    pub fn new(
        config: &Config,
        flows: &mut Flows,
        saved: Option<Checkpoint>,
        loss: Option<&Loss>,
    ) -> Option<Self> {
        if !config.enabled {
            return None;
        }
        let saved = Told::load(saved);
        let mut told = saved.clone();
        let loss = loss.filter(|loss| told.loss != place(loss));
        // Saved with the first events, among which it is.
        told.loss = loss.map_or(told.loss, place);
        let (flow, heartbeat) = (flows.polled(STREAM, None), config.heartbeat.get());
        Some(Self { flow, heartbeat, told, saved, loss: loss.map(salvaged) })
    }

    pub fn start(
        self,
        gateway: &str,
        clock: Clock,
        store: Store,
        forward: watch::Receiver<forward::Status>,
        links: watch::Receiver<Links>,
    ) -> System {
        System {
            flow: self.flow,
            device: gateway.into(),
            heartbeat: self.heartbeat,
            clock,
            buffer: store.stats(),
            store,
            forward,
            devices: Devices::new(links),
            told: self.told,
            saved: self.saved,
            loss: self.loss,
        }
    }
}

impl System {
    /// Tells until `stop`, and that too.
    pub async fn run(mut self, mut intake: Intake, stop: CancellationToken) {
        let told = tokio::select! {
            () = stop.cancelled() => Ok(()),
            told = self.tell(&mut intake) => told,
        };
        if told.is_ok() {
            let notice = self.with_depth(Notice::new("stop"));
            let mut last = self.delivery(vec![notice]);
            last.urgent = true;
            // The writer that has gone before has nobody to tell it to either.
            drop(intake.deliver(last).await);
        }
    }

    async fn tell(&mut self, intake: &mut Intake) -> Result<(), Stopping> {
        let version = text(env!("CARGO_PKG_VERSION"));
        let start = self.with_depth(Notice::new("start").with("version", version));
        let mut first = Some([Some(start), self.loss.take()].into_iter().flatten().collect());
        let mut ticks = tokio::time::interval(self.heartbeat);
        // A heartbeat that was missed says nothing later.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_beat = tokio::select! {
                biased;
                _ = ticks.tick() => true,
                () = self.devices.changed() => false,
            };
            let mut notices = Vec::new();
            let mut told = self.told.clone();
            if is_beat {
                let beat = || vec![self.with_depth(Notice::new("heartbeat"))];
                notices = first.take().unwrap_or_else(beat);
                let gaps = self.gaps().await;
                notices.extend(gaps.iter().map(gap));
                told.gap = gaps.last().map_or(told.gap, |gap| gap.id);
            }
            notices.extend(self.devices.look(self.clock.now()));
            if notices.is_empty() {
                continue;
            }
            let mut delivery = self.delivery(notices);
            // Else a sign of life would be a write.
            delivery.checkpoint = (told != self.saved).then(|| told.save());
            let ticket = intake.deliver(delivery).await?;
            (self.saved, self.told) = (told.clone(), told);
            // While the file is full they do not pile up.
            intake.wait_committed(ticket).await?;
        }
    }

    /// What was dropped since it was told last; the file is read on a thread that
    /// may block.
    async fn gaps(&mut self) -> Vec<Gap> {
        if self.buffer.borrow().dropped.is_empty() {
            return Vec::new();
        }
        let (store, told) = (self.store.clone(), self.told.gap);
        match tokio::task::spawn_blocking(move || store.gaps(told)).await {
            Ok(Ok(gaps)) => gaps,
            Ok(Err(error)) => {
                warn!(%error, "cannot read what was dropped, it is told later");
                Vec::new()
            }
            // The runtime goes down.
            Err(_) => Vec::new(),
        }
    }

    fn with_depth(&self, notice: Notice) -> Notice {
        let buffer = self.buffer.borrow();
        let dropped = buffer.dropped.iter().map(|one| one.events).sum();
        notice
            .with("depth", Value::U64(buffer.events))
            .with("buffer_bytes", Value::U64(buffer.bytes))
            .with("dropped", Value::U64(dropped))
            .with("dead_letters", Value::U64(buffer.dead_letters))
            .with("delivered", Value::U64(self.forward.borrow().delivered_events))
    }

    fn delivery(&self, notices: Vec<Notice>) -> Delivery {
        let now = self.clock.now();
        let event = |Notice { fields, of }| {
            let (device, time) = of.unwrap_or_else(|| (Arc::clone(&self.device), now));
            let (flow, quality) = (self.flow, Quality::Good);
            Event { flow, device, time, read_at: None, quality, fields }
        };
        let events: Vec<Event> = notices.into_iter().map(event).collect();
        // Some dozens of bytes a field.
        let bytes = events.iter().map(|event| event.fields.len() * 64).sum();
        Delivery { events, bytes, ..Delivery::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{BatchId, Demand, Reason, ValueRef};
    use crate::collect::{self, Buffer, Collector, SourceInfo};
    use crate::flow::Lane;

    /// Kinds of what stands in the stream, with the ids that gaps name.
    fn told(store: &Store) -> Vec<(String, String)> {
        let hash = flow::Hash::of(STREAM, Lane::Live);
        let mut reader = store.reader().unwrap();
        let mut told = Vec::new();
        for batch in reader.batches(hash, BatchId(0), u32::MAX, usize::MAX).unwrap() {
            batch
                .events(|event| {
                    let field = |name| {
                        let value = event.fields.iter().find(|field| field.name == name);
                        match value.map(|field| field.value) {
                            Some(ValueRef::Text(text)) => text.to_owned(),
                            _ => String::new(),
                        }
                    };
                    told.push((field("kind"), field("last_id")));
                    Ok(())
                })
                .unwrap();
        }
        told
    }

    struct Run {
        collector: Collector,
        intakes: Vec<Intake>,
        system: System,
        flow: flow::Id,
        _forward: watch::Sender<forward::Status>,
    }

    /// An agent's start, without a forwarder.
    fn begin(folder: &std::path::Path) -> Run {
        let config = buffer::Config {
            path: folder.join("buffer.db"),
            commit_interval: Period::from_millis(1),
            ..buffer::Config::default()
        };
        let buffer = Buffer::open(&config, "gw1", Clock::fixed(Timestamp(7))).unwrap();
        let config = Config::default();
        let mut flows = Flows::new(config.rules());
        let flow = flows.polled("plant", None);
        let plan =
            Plan::new(&config, &mut flows, buffer.saved(SOURCE), buffer.last_loss()).unwrap();
        let source = |name: &str| SourceInfo { name: name.into(), labels: Vec::new() };
        let sources = vec![source("plc"), source(SOURCE)];
        let (collector, intakes) = collect::start(buffer, sources, flows).unwrap();
        let (sender, forward) =
            watch::channel(forward::Status { state: "sending", ..forward::Status::begin() });
        let store = collector.store();
        let links = watch::Sender::new(Vec::new()).subscribe();
        let system = plan.start("gw1", Clock::fixed(Timestamp(7)), store, forward, links);
        Run { collector, intakes, system, flow, _forward: sender }
    }

    /// Tells until its first events are stored, and stops.
    async fn tell(run: Run) -> Vec<(String, String)> {
        let Run { collector, mut intakes, system, _forward, .. } = run;
        let store = collector.store();
        let mut stats = store.stats();
        let before = told(&store).len();
        let stop = CancellationToken::new();
        let intake = intakes.pop().unwrap();
        let watching = async {
            while told(&store).len() == before {
                stats.changed().await.unwrap();
            }
            stop.cancel();
        };
        tokio::join!(system.run(intake, stop.clone()), watching);
        assert!(collector.settle());
        collector.close();
        told(&store)
    }

    fn kinds(told: &[(String, String)]) -> Vec<&str> {
        told.iter().map(|(kind, _)| kind.as_str()).collect()
    }

    #[tokio::test]
    async fn a_gap_is_told_once_and_also_by_the_process_after_the_one_that_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = begin(folder.path());
        let epoch = run.collector.store().epochs().last().unwrap().epoch;
        let event = Event {
            flow: run.flow,
            device: "d".into(),
            time: Timestamp(1),
            read_at: None,
            quality: Quality::Good,
            fields: Vec::new(),
        };
        let events = vec![event.clone(), event];
        let delivery = Delivery { events, bytes: 1, ..Delivery::default() };
        let ticket = run.intakes[0].deliver(delivery).await.unwrap();
        run.intakes[0].wait_committed(ticket).await.unwrap();
        run.collector.close();
        // Dropped by a process that ends before it tells.
        let mut file = buffer::File::open(&folder.path().join("buffer.db"), "gw1").unwrap();
        let of = vec![vec![(flow::Hash::of("plant", Lane::Live), "plant".to_owned())]];
        let demand = Demand { reason: Reason::Size, bytes: 1, of };
        assert_eq!(file.evict(&demand, &buffer::Pins::default()), Ok(1));
        drop(file);

        let told = tell(begin(folder.path())).await;
        assert_eq!(kinds(&told), ["start", "gap", "stop"]);
        assert_eq!(told[1].1, format!("gw1/{epoch}/2"));
        let told = tell(begin(folder.path())).await;
        assert_eq!(kinds(&told)[3..], ["start", "stop"], "not again");
    }

    #[tokio::test]
    async fn what_a_salvage_lost_is_told_once_also_by_the_process_after_the_one_that_salvaged() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(kinds(&tell(begin(folder.path())).await), ["start", "stop"]);
        let file = buffer::File::open(&folder.path().join("buffer.db"), "gw1").unwrap();
        file.ask_for_salvage("a page is gone");
        drop(file);
        // This one ends before it has told anything.
        begin(folder.path()).collector.close();
        let told = tell(begin(folder.path())).await;
        assert_eq!(kinds(&told)[2..], ["start", "damage", "stop"]);
        let told = tell(begin(folder.path())).await;
        assert_eq!(kinds(&told)[5..], ["start", "stop"], "not again");
    }

    #[test]
    fn a_stream_that_is_turned_off_is_none() {
        let config = Config { enabled: false, ..Config::default() };
        assert!(config.rules().is_none());
        assert!(Plan::new(&config, &mut Flows::default(), None, None).is_none());
    }
}
