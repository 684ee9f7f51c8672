//! Frames → events, and what is none → where the configuration wants it.

use std::sync::Arc;

use tracing::warn;

use super::config::{Config, Keep};
use super::frames::Frames;
use super::split::{Piece, Skipped, Why};
use crate::collect::{DEAD_LETTER_BYTES, DeadLetter, Delivery};
use crate::decode::escaped;
use crate::decode::payload::{Parser, Reading};
use crate::event::{Event, Field, Quality, Timestamp, Value};
use crate::flow::{self, Flows};
use crate::raw::{Note, Of, Raw};
use crate::supervise::Link;

/// Subject of the fault that frames cannot be read.
const FRAMES: &str = "frames";

/// Subject of the fault that the buffer takes nothing.
const ROOM: &str = "room";

/// Bytes of a frame that are told: a line of the log.
const TOLD: usize = 60;

/// Memory that may wait while the buffer takes nothing: a thousand events or two, which
/// is minutes of a line at 9,600 baud.
pub(super) const MOST_HELD: usize = 512 * 1_024;

/// What makes events of one line's frames.
#[derive(Debug)]
pub(super) struct Take {
    name: String,
    device: Arc<str>,
    flow: flow::Id,
    parser: Parser,
    /// A byte 0 is one whose parity was wrong.
    has_parity: bool,
    keep: Keep,
    /// Flow of what is kept as it came.
    odd_flow: Option<flow::Id>,
    /// Nothing is heard, and that has been told.
    silent: bool,
    /// What was told of the first of the frames that cannot be read: the others are the
    /// same fault.
    odd: Option<String>,
    frames: Arc<Frames>,
    /// Somebody looks at the source alone.
    tapped: bool,
}

/// What was taken and not handed over yet.
#[derive(Debug, Default)]
pub(super) struct Batch {
    delivery: Delivery,
    /// It was full before this read, and what comes finds no room.
    is_closed: bool,
    dropped: u64,
    /// What was put in last, if it was.
    last: Option<Of>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.delivery.events.is_empty() && self.delivery.dead.is_empty()
    }

    pub(super) const fn is_full(&self) -> bool {
        self.delivery.bytes >= MOST_HELD
    }

    /// To be called before each read: what one read brings has room together.
    pub(super) fn close_if_full(&mut self) {
        self.is_closed = self.is_full();
    }

    fn event(&mut self, event: Event) {
        self.last = None;
        if self.is_closed {
            self.dropped += 1;
            return;
        }
        self.push(event);
    }

    /// The word of a silence, which is said once and therefore always finds room.
    pub(super) fn silence(&mut self, event: Event) {
        self.push(event);
        // Nothing came that it was made of.
        self.last = None;
    }

    fn push(&mut self, event: Event) {
        self.last = Some(Of::Event(self.delivery.events.len()));
        self.delivery.bytes += event.memory();
        self.delivery.events.push(event);
    }

    fn bury(&mut self, dead: DeadLetter) {
        self.last = None;
        if self.is_closed {
            self.dropped += 1;
            return;
        }
        self.last = Some(Of::Dead(self.delivery.dead.len()));
        self.delivery.bytes += dead.memory();
        self.delivery.dead.push(dead);
    }

    /// What the last of it was made of, if that found room.
    fn note(&mut self, raw: Raw) {
        self.delivery.notes.extend(self.last.map(|of| Note { of, raw }));
    }

    /// Says that frames get lost, once.
    pub(super) fn tell(&self, link: &mut Link) {
        if self.dropped > 0 {
            link.fault(ROOM, "the buffer takes nothing, and a serial line does not wait");
        }
    }
}

impl Take {
    pub(super) fn new(config: &Config, flows: &mut Flows) -> Self {
        // A device does not wait and repeats nothing.
        let flow = flows.polled(&config.stream, config.lane);
        let odd = config.unmatched.stream.as_deref();
        let odd_flow = odd.map(|stream| flows.polled(stream, config.unmatched.lane));
        Self {
            name: config.name.clone(),
            device: config.device.as_deref().unwrap_or(&config.name).into(),
            flow,
            parser: Parser::new(&config.parse),
            has_parity: config.has_parity() && config.parse.is_text(),
            keep: config.unmatched.keep,
            odd_flow,
            silent: false,
            odd: None,
            frames: Arc::default(),
            tapped: false,
        }
    }

    pub(super) const fn tap(&mut self) {
        self.tapped = true;
    }

    pub(super) fn frames(&self) -> Arc<Frames> {
        Arc::clone(&self.frames)
    }

    /// What is to be handed over of a batch, which is empty then.
    pub(super) fn hand_over(&self, batch: &mut Batch, link: &mut Link) -> Delivery {
        batch.is_closed = false;
        let frames = std::mem::take(&mut batch.dropped);
        if frames > 0 {
            self.frames.add_dropped(frames);
            warn!(source = %self.name, frames, "the buffer had no room, frames are lost");
            link.well(ROOM);
        }
        std::mem::take(&mut batch.delivery)
    }

    /// Takes what a line had; `time` is that of its last byte. True for a frame that
    /// could be read.
    pub(super) fn piece(
        &mut self,
        piece: Piece,
        time: Timestamp,
        batch: &mut Batch,
        link: &mut Link,
    ) -> bool {
        let frame = match piece {
            Piece::Frame(frame) => frame,
            Piece::Skipped(Skipped { why, bytes, length }) => {
                // Where a line is opened in the midst of a frame nothing is wrong.
                let told = (why != Why::Opening).then_some(&mut *link);
                self.odd(&bytes, length, &why.to_string(), time, batch, told);
                return false;
            }
        };
        let mut fields = Vec::new();
        let reading = if self.has_parity && frame.body().contains(&0) {
            Err("byte whose parity is wrong".to_owned())
        } else {
            self.parser.parse(frame.body(), &mut fields)
        };
        match reading {
            Ok(reading) => {
                if let Reading::Event(quality) = reading {
                    batch.event(self.event(self.flow, time, quality, fields));
                    self.note(frame.bytes(), batch);
                }
                self.frames.add_read();
                self.went_well(link);
                true
            }
            Err(reason) => {
                let length = u64::try_from(frame.bytes().len()).unwrap_or(u64::MAX);
                self.odd(frame.bytes(), length, &reason, time, batch, Some(link));
                false
            }
        }
    }

    /// The event that says once that nothing is heard.
    pub(super) fn silence(&mut self, time: Timestamp) -> Option<Event> {
        if std::mem::replace(&mut self.silent, true) {
            return None;
        }
        Some(self.event(self.flow, time, Quality::Timeout, self.parser.absent()))
    }

    /// The device is told to be silent.
    pub(super) fn tell_silence(&self, what: &str, link: &mut Link) {
        link.fault(&self.device, what);
    }

    /// Whether that has been told, and nothing has been heard since.
    pub(super) const fn is_silent(&self) -> bool {
        self.silent
    }

    fn went_well(&mut self, link: &mut Link) {
        if std::mem::replace(&mut self.silent, false) {
            link.well(&self.device);
        }
        link.settled(FRAMES);
    }

    fn event(
        &self,
        flow: flow::Id,
        time: Timestamp,
        quality: Quality,
        fields: Vec<Field>,
    ) -> Event {
        Event { flow, device: Arc::clone(&self.device), time, read_at: None, quality, fields }
    }

    /// Bytes that are no event.
    fn odd(
        &mut self,
        bytes: &[u8],
        length: u64,
        reason: &str,
        time: Timestamp,
        batch: &mut Batch,
        link: Option<&mut Link>,
    ) {
        self.frames.add_unread();
        if let Some(link) = link {
            let known = self.odd.take().filter(|_| link.is_faulty(FRAMES));
            let told = known.unwrap_or_else(|| self.told(bytes, reason));
            link.fault(FRAMES, &told);
            self.odd = Some(told);
        }
        match (self.keep, self.odd_flow) {
            (Keep::DeadLetter, _) => {
                let (kept, _) = bytes.split_at(bytes.len().min(DEAD_LETTER_BYTES));
                let origin = format!("{} {}", self.name, self.device);
                let payload = kept.to_vec();
                batch.bury(DeadLetter { reason: reason.to_owned(), origin, payload, length });
                self.note(bytes, batch);
            }
            (Keep::Raw, Some(flow)) => {
                let field = |name: &str, text: &str| {
                    let value = Value::Text(text.into());
                    Field { name: name.into(), unit: None, value, quality: None }
                };
                let fields = vec![field("raw", &escaped::print(bytes)), field("reason", reason)];
                batch.event(self.event(flow, time, Quality::BadPayload, fields));
                self.note(bytes, batch);
            }
            (Keep::Raw, None) | (Keep::Drop, _) => {}
        }
    }

    /// What the last of the batch was made of.
    fn note(&self, bytes: &[u8], batch: &mut Batch) {
        if self.tapped {
            batch.note(Raw::Frame(bytes.to_vec()));
        }
    }

    fn told(&self, bytes: &[u8], reason: &str) -> String {
        let becomes = match self.keep {
            Keep::DeadLetter => "became a dead letter",
            Keep::Raw => "is kept as it came",
            Keep::Drop => "is dropped",
        };
        let (shown, rest) = bytes.split_at(bytes.len().min(TOLD));
        let more = if rest.is_empty() { "" } else { "…" };
        format!("`{}{more}` {becomes}: {reason}", escaped::print(shown))
    }
}
