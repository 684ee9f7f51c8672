//! Requests → answers. Blocking: it reads the file and waits for commits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::words::{self, Answer};
use super::{Live, Request};
use crate::buffer::{
    Batch, BatchId, Damaged, Done, ERRAND_LETTERS, Errand, EventRef, Foreign, Letter, Peeked, Skip,
    Store, Survey, View, Which,
};
use crate::encode::json::Encoder;
use crate::event::Timestamp;
use crate::{forward, supervise};

/// Dead letters of one answer; who wants more asks for those before the last.
const MOST_LETTERS: u32 = 1_000;

/// Events of one answer: for a look, not to carry a buffer away.
const MOST_EVENTS: u32 = 1_000;

/// Bytes of the events of one answer: with events of 8 MiB, one or two.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Where requests are answered.
#[derive(Debug)]
pub struct Desk {
    pub buffer: PathBuf,
    /// The way to the writer; none where the file is only looked at.
    pub store: Option<Store>,
    pub live: Option<Live>,
}

impl Desk {
    /// Answers a request. Never fails: what is wrong stands in the answer.
    pub fn answer(&self, request: &Request) -> Answer {
        match self.try_answer(request) {
            Ok(ok) => Answer { ok: Some(ok), error: None },
            Err(error) => Answer { ok: None, error: Some(error) },
        }
    }

    fn try_answer(&self, request: &Request) -> Result<Box<RawValue>, String> {
        match request {
            Request::Letters { before, limit } => {
                let view = self.view()?;
                let letters =
                    view.letters(*before, (*limit).min(MOST_LETTERS)).map_err(|e| in_full(&e))?;
                let letters = letters.into_iter().map(letter).collect();
                let total = view.count_letters().map_err(|e| in_full(&e))?;
                raw(&words::Letters { letters, total })
            }
            Request::Letter { id } => self.whole(*id),
            Request::Requeue { which } => self.carry_out(which, true, Errand::Requeue),
            Request::Drop { which } => self.carry_out(which, false, Errand::Drop),
            Request::Stats => self.stats(),
            Request::Peek { stream, events, newest } => {
                self.peek(stream.as_deref(), (*events).min(MOST_EVENTS), *newest)
            }
            Request::Write => {
                if let Some(store) = &self.store {
                    store.write_held().map_err(|e| in_full(&e))?;
                }
                raw(&())
            }
            Request::Import { file } => self.import(file),
            Request::Drain { within_ms } => {
                let Some(live) = &self.live else {
                    return Err("no agent runs that could drain".to_owned());
                };
                live.drain.send_replace(Some(Duration::from_millis(*within_ms)));
                raw(&words::Draining { events: live.buffer.borrow().events })
            }
        }
    }

    fn view(&self) -> Result<View, String> {
        View::open(&self.buffer).map_err(|e| in_full(&e))
    }

    fn whole(&self, id: i64) -> Result<Box<RawValue>, String> {
        let found = self.view()?.letter(id).map_err(|e| in_full(&e))?;
        let Some(whole) = found else { return Err(format!("there is no dead letter {id}")) };
        let mut event = None;
        if let Some(batch) = &whole.event {
            each(batch, |record| {
                event = Some(record);
                true
            })?;
        }
        let text = String::from_utf8(whole.payload);
        let base64 = text
            .as_ref()
            .err()
            .map(|bytes| base64::engine::general_purpose::STANDARD.encode(bytes.as_bytes()));
        raw(&words::WholeLetter { letter: letter(whole.letter), text: text.ok(), base64, event })
    }

    /// In portions, so that no source waits long for its commit. What comes in
    /// behind the first look is left for the next time: an event that is
    /// refused again must not go round for ever.
    fn carry_out(
        &self,
        which: &Which,
        whole: bool,
        errand: impl Fn(Vec<i64>) -> Errand,
    ) -> Result<Box<RawValue>, String> {
        let store = self.store.as_ref().ok_or("the buffer is only open to look at")?;
        let view = self.view()?;
        let ids = view.ids(which, whole).map_err(|e| in_full(&e))?;
        let mut moved = words::Moved::default();
        for portion in ids.chunks(ERRAND_LETTERS) {
            let Done { done, skipped } =
                store.errand(errand(portion.to_vec())).map_err(|cause| {
                    format!("{cause} ({} dead letters were done before)", moved.done)
                })?;
            moved.done += done;
            moved.skipped.extend(
                skipped
                    .into_iter()
                    .map(|(id, why)| words::Skipped { id, why: why.as_str().to_owned() }),
            );
        }
        moved.left = view.count_letters().map_err(|e| in_full(&e))?;
        raw(&moved)
    }

    /// In portions, each a commit: what was taken in before a power cut is not
    /// taken in again.
    fn import(&self, file: &Path) -> Result<Box<RawValue>, String> {
        let store = self.store.as_ref().ok_or("the buffer is only open to look at")?;
        let foreign = Foreign::open(file).map_err(|e| in_full(&e))?;
        let dead_letters = View::open(file).and_then(|view| view.count_letters());
        let mut imported = words::Imported {
            dead_letters: dead_letters.map_err(|e| in_full(&e))?,
            ..words::Imported::default()
        };
        let mut after = BatchId::default();
        loop {
            let portion = foreign.portion(after).map_err(|e| in_full(&e))?;
            let Some(last) = portion.last() else { break };
            after = last.id;
            let Done { done, skipped } =
                store.errand(Errand::Import(portion)).map_err(|cause| {
                    format!("{cause} ({} batches were taken in before)", imported.batches)
                })?;
            imported.batches += done;
            if skipped.last().is_some_and(|(_, why)| *why == Skip::NoRoom) {
                return Err(format!(
                    "the buffer is full: {} batches were taken in, import again for the rest",
                    imported.batches
                ));
            }
            imported.skipped += skipped.len() as u64;
            imported.why =
                imported.why.or_else(|| skipped.first().map(|(_, why)| why.as_str().to_owned()));
        }
        raw(&imported)
    }

    fn stats(&self) -> Result<Box<RawValue>, String> {
        let survey = self.view()?.survey().map_err(|e| in_full(&e))?;
        let live = self.live.as_ref();
        let buffer = live.map(|live| live.buffer.borrow().clone()).unwrap_or_default();
        let links = live.map(|live| live.sources.borrow().clone()).unwrap_or_default();
        let sources = links.iter().map(|source| {
            let state = source.borrow();
            words::Source {
                name: state.source.to_string(),
                up: state.up,
                faults: state.faults.clone(),
                devices: state.devices.iter().map(device).collect(),
            }
        });
        let forward = live.map(|live| {
            let status = live.forward.borrow();
            words::Forward {
                state: status.state.to_owned(),
                delivered_events: status.delivered_events,
                last_error: status.last_error.clone(),
                aside: status.aside.iter().map(aside).collect(),
            }
        });
        raw(&words::Stats {
            pid: live.map(|_| std::process::id()),
            file: words::File {
                bytes: survey.file_bytes,
                wal_bytes: survey.wal_bytes,
                in_memory_events: buffer.in_memory.events,
                in_memory_bytes: buffer.in_memory.bytes,
                held_back: buffer.held_back,
                failing: buffer.failing,
            },
            position: position(&survey),
            flows: survey
                .depth
                .iter()
                .map(|depth| words::Flow {
                    stream: depth.stream.as_ref().map(|stream| stream.name.clone()),
                    topic: depth.stream.as_ref().map(|stream| stream.topic.clone()),
                    lane: depth.lane.clone(),
                    batches: depth.batches,
                    events: depth.events,
                    bytes: depth.bytes,
                    oldest: time(depth.oldest),
                })
                .collect(),
            epochs: survey
                .epochs
                .iter()
                .map(|run| words::Run {
                    epoch: run.epoch.to_string(),
                    gateway: run.gateway.to_string(),
                    batches: run.batches,
                })
                .collect(),
            dead_letters: words::DeadLetters {
                letters: survey.dead_letters,
                bytes: survey.dead_bytes,
                dropped: survey.dead_dropped,
            },
            dropped: survey
                .dropped
                .iter()
                .map(|one| words::Dropped {
                    stream: one.stream.clone(),
                    reason: one.reason.as_str().to_owned(),
                    events: one.events,
                    bytes: one.bytes,
                })
                .collect(),
            counters: BTreeMap::from([("committed".to_owned(), survey.committed)]),
            sources: sources.collect(),
            forward,
        })
    }

    fn peek(
        &self,
        stream: Option<&str>,
        events: u32,
        newest: bool,
    ) -> Result<Box<RawValue>, String> {
        let mut found = self.view()?.peek(stream, events, newest).map_err(|e| in_full(&e))?;
        // Newer than all that the file has of their flows.
        let held = self.store.as_ref().map(|store| store.peek_held(stream));
        found.extend(held.into_iter().flatten());
        let wanted = events as usize;
        let mut all = Vec::new();
        let mut bytes = 0_usize;
        for Peeked { stream, lane, batch } in &found {
            each(batch, |event| {
                bytes = bytes.saturating_add(event.get().len());
                all.push(words::Peeked { stream: stream.clone(), lane: lane.clone(), event });
                // The newest are at the end, so that all must be gone through.
                newest || (all.len() < wanted && bytes < MOST_BYTES)
            })?;
            if newest {
                let beyond = all.len().saturating_sub(wanted);
                all.drain(..beyond);
            } else if all.len() >= wanted || bytes >= MOST_BYTES {
                break;
            }
        }
        raw(&words::Peek { events: all })
    }
}

fn position(survey: &Survey) -> Option<words::Position> {
    let position = survey.memory.position.as_ref()?;
    let flows = position.flows.iter().map(|(flow, (epoch, number))| {
        let known = survey.depth.iter().find(|depth| depth.flow == *flow);
        words::Sent {
            stream: known.and_then(|depth| Some(depth.stream.as_ref()?.name.clone())),
            flow: format!("{:08x}", flow.0),
            epoch: epoch.to_string(),
            number: *number,
        }
    });
    Some(words::Position { cluster: position.cluster.clone(), flows: flows.collect() })
}

/// The events of a batch as their records, until `more` says no.
fn each(batch: &Batch, mut more: impl FnMut(Box<RawValue>) -> bool) -> Result<(), String> {
    let mut encoder = Encoder::new();
    encoder.begin(&batch.gateway, batch.epoch);
    let mut stopped = false;
    let walked = batch.events(|event: EventRef<'_>| {
        if stopped {
            return Ok(());
        }
        let mut record = Vec::new();
        encoder.event(&event, &mut record);
        let record = String::from_utf8(record).map_err(|cause| Damaged(cause.to_string()))?;
        let record = RawValue::from_string(record).map_err(|cause| Damaged(cause.to_string()))?;
        stopped = !more(record);
        Ok(())
    });
    walked
        .map_err(|damaged| format!("batch {} of epoch {}: {damaged}", batch.number, batch.written))
}

fn aside(one: &forward::Aside) -> words::Aside {
    words::Aside { stream: one.stream.clone(), topic: one.topic.clone(), cause: one.cause.clone() }
}

fn device((name, device): (&String, &supervise::Device)) -> (String, words::Device) {
    let reason = (!device.reason.is_empty()).then(|| device.reason.clone());
    (name.clone(), words::Device { state: device.standing.as_str().to_owned(), reason })
}

fn letter(letter: Letter) -> words::Letter {
    words::Letter {
        id: letter.id,
        at: time(letter.at),
        origin: letter.origin,
        reason: letter.reason,
        length: letter.length,
        stream: letter.stream,
    }
}

fn time(at: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(at.0.into())
        .map_or_else(|_| at.0.to_string(), |at| at.to_string())
}

fn raw(answer: &impl Serialize) -> Result<Box<RawValue>, String> {
    to_raw_value(answer).map_err(|cause| cause.to_string())
}

/// The error and its causes in one line.
pub(super) fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
