//! One life of the agent's process: the real stages, between the models.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Instant;

use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::Mutant;
use super::mqtt::{DEVICES, WINDOW};
use crate::buffer::{self, BatchId, EventRef, Reader, ValueRef, locked};
use crate::clock::{Clock, Steady};
use crate::collect::{Buffer, Checkpoint, Delivery, Intake, SourceInfo, Stepped, Ticket};
use crate::event::{Event, Field, Quality, Timestamp, Value};
use crate::flow::{self, Flows, Lane};
use crate::forward::pace::Pace;
use crate::forward::simulator::broker::Broker as Kafka;
use crate::forward::simulator::sender::Sender;
use crate::source::{Setup, Source};
use crate::supervise::Link;

pub(super) const GATEWAY: &str = "gw1";

/// Streams of the messages, the table and the polled device, with a topic each.
pub(super) const STREAMS: [&str; 4] = [DEVICES[0], DEVICES[1], "rows", "polled"];

/// What a seed says of the agent's configuration.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub(super) struct Shape {
    pub(super) version_5: bool,
    pub(super) max_size: u64,
    pub(super) max_age: bool,
    /// Messages that the agent takes without a commit.
    pub(super) bounded: bool,
    /// The file is only written where Kafka does not take it soon.
    pub(super) when_needed: bool,
}

/// An event as it was found in the file.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) stream: &'static str,
    pub(super) number: u64,
    pub(super) epoch: u64,
    pub(super) seq: u64,
    /// It was seen in the file, and not only in memory.
    pub(super) written: bool,
}

impl Stored {
    pub(super) fn id(&self) -> String {
        format!("{GATEWAY}/{:016x}/{}", self.epoch, self.seq)
    }
}

pub(super) struct Life {
    pub(super) stepped: Stepped,
    sender: Sender,
    client: Pin<Box<dyn Future<Output = ()>>>,
    rows: Intake,
    row_flow: flow::Id,
    /// The last row that was handed over, and its commit.
    row: u64,
    row_ticket: Ticket,
    /// Whose cursor is still to be handed over.
    apart: bool,
    polled: Intake,
    poll_flow: flow::Id,
    flows: Vec<(flow::Hash, &'static str)>,
    reader: Reader,
    seen: BTreeMap<flow::Hash, BatchId>,
    newest: BatchId,
    pub(super) side: rusqlite::Connection,
    /// The last dead letter that was looked at.
    letters: i64,
    pub(super) ready: Instant,
    /// Whether the file says that the last login was answered.
    pub(super) answered: bool,
}

/// What outlives a process.
pub(super) struct Ground<'a> {
    pub(super) path: &'a Path,
    pub(super) shape: &'a Shape,
    pub(super) clock: &'a Clock,
    pub(super) time: &'a Steady,
    pub(super) kafka: &'a Arc<Mutex<Kafka>>,
    pub(super) now: Timestamp,
    pub(super) mutant: Option<Mutant>,
}

fn event(flow: flow::Id, device: &str, time: Timestamp, number: u64, filler: String) -> Event {
    let field = |name: &str, value| Field { name: name.into(), unit: None, value, quality: None };
    Event {
        flow,
        device: device.into(),
        time,
        read_at: None,
        quality: Quality::Good,
        fields: vec![field("n", Value::U64(number)), field("filler", Value::Text(filler.into()))],
    }
}

/// The client, as it goes on from these saved bytes.
fn client(
    config: &crate::source::Config,
    flows: &mut Flows,
    clock: &Clock,
    saved: Option<Arc<[u8]>>,
) -> Source {
    Source::new(config, Setup { gateway: GATEWAY, flows, clock: clock.clone(), saved, lost: false })
}

/// The client's session as the file has it now.
fn committed(path: &Path) -> Option<Arc<[u8]>> {
    let file = rusqlite::Connection::open(path).unwrap();
    let query = "SELECT value FROM state WHERE key = 'session/mqtt'";
    let saved = file.query_row(query, [], |row| row.get::<_, Vec<u8>>(0));
    saved.ok().map(Arc::from)
}

impl Life {
    pub(super) fn begin(ground: &Ground<'_>) -> Self {
        let shape = ground.shape;
        let mut config: serde_json::Value = serde_json::json!({
            "path": ground.path, "max_size": format!("{} KiB", shape.max_size / 1024),
            "min_free_disk": "1 B",
        });
        if shape.max_age {
            config["max_age"] = "1 h".into();
        }
        if shape.when_needed {
            config["write"] = "when_needed".into();
        }
        let config: buffer::Config = serde_json::from_value(config).unwrap();
        let buffer = Buffer::open(&config, GATEWAY, ground.clock.clone()).unwrap();
        let mut flows = Flows::default();
        let saved = |name| match buffer.saved(name) {
            Some(Checkpoint::Session(bytes) | Checkpoint::Cursor(bytes)) => Some(bytes),
            None => None,
        };
        let subscription = |index: usize| {
            let device = DEVICES[index];
            serde_json::json!({ "topic": format!("m/{device}"), "device": device,
                "qos": index + 1, "stream": device })
        };
        let mqtt: crate::source::Config = serde_json::from_value(serde_json::json!({
            "type": "mqtt", "name": "mqtt", "address": "model:1883",
            "protocol": if shape.version_5 { "5" } else { "3.1.1" },
            "max_unacknowledged": if shape.bounded { WINDOW } else { 10_000 },
            "subscription": [subscription(0), subscription(1)],
        }))
        .unwrap();
        assert_eq!(mqtt.check(), []);
        let session = saved("mqtt");
        let answered = session.as_deref().is_some_and(crate::source::mqtt::is_answered);
        let mut source = client(&mqtt, &mut flows, ground.clock, session);
        let row = saved("rows").map_or(0, |bytes| u64::from_be_bytes((*bytes).try_into().unwrap()));
        let row_flow = flows.id("rows", Lane::Bulk);
        let poll_flow = flows.polled("polled", Lane::Live);
        let streams = flows.iter().map(|(_, flow)| {
            let stream = STREAMS.into_iter().find(|name| *name == flow.stream.name).unwrap();
            (flow.hash, stream)
        });
        let (streams, mut known) = (streams.collect(), flows.clone());
        let info = |name: &str| SourceInfo { name: name.into(), labels: Vec::new() };
        let sources = ["mqtt", "rows", "polled"].map(info).into();
        let broker = Arc::clone(ground.kafka);
        let alive = move || !broker.lock().unwrap().is_dead();
        let (stepped, intakes) = Stepped::start(buffer, sources, flows, ground.time.clone(), alive);
        let Ok([mut intake, rows, polled]) = <[Intake; 3]>::try_from(intakes) else {
            panic!("three sources have three intakes")
        };
        let hasty = ground.mutant == Some(Mutant::Hasty);
        let (path, clock) = (ground.path.to_owned(), ground.clock.clone());
        let run = Box::pin(async move {
            let mut link = Link::new("mqtt".into());
            let stop = CancellationToken::new();
            loop {
                let end = source.run(&mut intake, &mut link, &stop).await;
                tracing::debug!(?end, "the client's connection has ended");
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
                if hasty {
                    source = client(&mqtt, &mut known, &clock, committed(&path));
                }
            }
        });
        let shared = stepped.shared();
        let time = (ground.clock.clone(), Pace::of(ground.time.clone()), ground.now);
        let sender = Sender::new(ground.kafka, shared, 0, GATEWAY, time);
        let reader = stepped.store().reader().unwrap();
        let side = rusqlite::Connection::open(ground.path).unwrap();
        let newest = stepped.store().newest();
        Self {
            stepped,
            sender,
            client: run,
            rows,
            row_flow,
            row,
            row_ticket: Ticket::default(),
            apart: false,
            polled,
            poll_flow,
            flows: streams,
            reader,
            seen: BTreeMap::new(),
            newest,
            side,
            letters: 0,
            ready: ground.time.now(),
            answered,
        }
    }

    /// The client does what it can do now.
    pub(super) fn client(&mut self, runtime: &Runtime) {
        runtime.block_on(std::future::poll_fn(|context| {
            // It never ends.
            assert!(self.client.as_mut().poll(context).is_pending());
            Poll::Ready(())
        }));
    }

    /// The table's next page, up to this row, if there is one and room for it.
    pub(super) fn read_rows(&mut self, runtime: &Runtime, last: u64, ground: &Ground<'_>) {
        let cursor = |row: u64| Some(Checkpoint::Cursor(row.to_be_bytes().as_slice().into()));
        let apart = ground.mutant == Some(Mutant::CursorApart);
        if std::mem::take(&mut self.apart) {
            let delivery = Delivery { checkpoint: cursor(self.row), ..Delivery::default() };
            self.row_ticket = hand_over(&mut self.rows, runtime, delivery).unwrap_or_default();
            return;
        }
        let now = ground.clock.now();
        let page = self.row + 1..=last.min(self.row + 4);
        let events = page.clone().map(|row| event(self.row_flow, "row", now, row, String::new()));
        let events: Vec<Event> = events.collect();
        if events.is_empty() {
            return;
        }
        let checkpoint = if apart { None } else { cursor(*page.end()) };
        let bytes = events.iter().map(Event::memory).sum();
        let delivery = Delivery { events, checkpoint, bytes, ..Delivery::default() };
        if let Some(ticket) = hand_over(&mut self.rows, runtime, delivery) {
            (self.row, self.row_ticket, self.apart) = (*page.end(), ticket, apart);
        }
    }

    /// The device is read once more; what has no room is lost, and nobody was told.
    pub(super) fn poll(&mut self, runtime: &Runtime, number: u64, filler: String, now: Timestamp) {
        let event = event(self.poll_flow, "polled", now, number, filler);
        let bytes = event.memory();
        let delivery = Delivery { events: vec![event], bytes, ..Delivery::default() };
        hand_over(&mut self.polled, runtime, delivery);
    }

    /// All rows up to this one are committed.
    pub(super) fn has_rows(&self, last: u64) -> bool {
        self.row == last && !self.apart && self.rows.committed() >= self.row_ticket
    }

    /// A step of the forwarder.
    pub(super) fn send(&mut self, time: &Steady) {
        let pause = self.sender.step();
        self.ready = time.now() + pause;
    }

    pub(super) fn state(&self) -> String {
        format!("{} {:?}", self.sender.state(), self.sender.trouble())
    }

    /// The writer forgets what the forwarder has loaded.
    pub(super) fn unpin(&self) {
        locked(&self.stepped.shared().pins).loaded.clear();
    }

    /// Pieces in which the file tells what was dropped.
    pub(super) fn gaps(&self) -> u64 {
        let count = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0).map(i64::cast_unsigned);
        self.side.query_row("SELECT count(*) FROM gap", [], count).unwrap()
    }

    /// What the file, or the memory before it, has got since the last look.
    pub(super) fn look(&mut self) -> Vec<Stored> {
        let newest = self.stepped.store().newest();
        let before = std::mem::replace(&mut self.newest, newest);
        let mut found = Vec::new();
        if newest == before {
            return found;
        }
        for (flow, stream) in &self.flows {
            let mut after = self.seen.get(flow).copied().unwrap_or(before);
            let store = self.stepped.store();
            let mut next = |after| {
                let mut batches =
                    store.batches(&mut self.reader, *flow, after, u32::MAX, usize::MAX).unwrap();
                batches.reverse();
                batches
            };
            let mut batches = next(after);
            while let Some(batch) = batches.pop() {
                after = batch.id;
                if batches.is_empty() {
                    batches = next(after);
                }
                self.seen.insert(*flow, batch.id);
                let written = !is_held(&self.stepped, batch.id);
                let each = |event: EventRef<'_>| {
                    let number = event.fields.iter().find_map(|field| match field.value {
                        ValueRef::U64(number) if field.name == "n" => Some(number),
                        ValueRef::I64(number) if field.name == "n" => Some(number.cast_unsigned()),
                        _ => None,
                    });
                    let (epoch, seq) = (batch.epoch.0, event.seq);
                    found.push(Stored { stream, number: number.unwrap(), epoch, seq, written });
                    Ok(())
                };
                batch.events(each).unwrap();
            }
        }
        found
    }

    /// The dead letters since the last look.
    pub(super) fn letters(&mut self) -> Vec<String> {
        let mut statement =
            self.side.prepare_cached("SELECT id, payload FROM dead_letter WHERE id > ?1").unwrap();
        let rows = statement.query_map([self.letters], |row| Ok((row.get(0)?, row.get(1)?)));
        let rows: Vec<(i64, Vec<u8>)> = rows.unwrap().map(Result::unwrap).collect();
        self.letters = rows.last().map_or(self.letters, |(id, _)| *id);
        rows.into_iter().map(|(_, payload)| String::from_utf8(payload).unwrap()).collect()
    }

    pub(super) fn waiting(&self) -> u64 {
        let stats = self.stepped.shared().stats.borrow();
        stats.batches + stats.in_memory.batches
    }

    /// Ids of the events that are in memory and not in the file.
    pub(super) fn held(&self) -> Vec<(u64, u64)> {
        let held = locked(&self.stepped.shared().held);
        let all = held.rows().flat_map(|row| {
            let batch = &row.batch;
            let seqs = batch.first_seq..batch.first_seq + u64::from(batch.count);
            seqs.map(|seq| (batch.epoch.0, seq))
        });
        all.collect()
    }

    /// Whether the event stands in the file now.
    pub(super) fn is_in_file(&self, epoch: u64, seq: u64) -> bool {
        let query = "SELECT 1 FROM batch JOIN epoch ON ordinal = batch.id >> 40
                     WHERE epoch = ?1 AND ?2 BETWEEN first_seq AND first_seq + count - 1";
        let mut there = self.side.prepare_cached(query).unwrap();
        there.exists((epoch.cast_signed(), seq.cast_signed())).unwrap()
    }

    /// A call of the forwarder was left without an answer.
    pub(super) fn hangs(&self) -> bool {
        self.stepped.hung.load(Ordering::Relaxed)
    }
}

fn is_held(stepped: &Stepped, batch: BatchId) -> bool {
    locked(&stepped.shared().held).rows().any(|row| row.batch.id == batch)
}

/// `None`: there is no room, and nothing was handed over.
fn hand_over(intake: &mut Intake, runtime: &Runtime, delivery: Delivery) -> Option<Ticket> {
    runtime.block_on(async {
        let mut delivering = pin!(intake.deliver(delivery));
        std::future::poll_fn(|context| {
            Poll::Ready(match delivering.as_mut().poll(context) {
                Poll::Ready(ticket) => ticket.ok(),
                Poll::Pending => None,
            })
        })
        .await
    })
}
