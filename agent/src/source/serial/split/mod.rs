//! Bytes → frames: pure, and the same frames however the bytes come in pieces.
//!
//! Only the pause is a matter of time, and who reads the line says when there is one.
//! What is no frame is not passed over in silence: it comes out as [`Skipped`], at
//! most its first [`Splitter`]`::max` bytes, with its length and the reason.

mod config;
mod skip;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};

pub(super) use config::Config;
pub(super) use skip::{Skipped, Why};

use super::checksum;
use config::Said;
use skip::Skip;

/// What comes out of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Frame(Frame),
    Skipped(Skipped),
}

/// A whole frame, whose checksum is right if it has one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    bytes: Bytes,
    /// Without what only frames it.
    body: Range<usize>,
}

impl Frame {
    /// All of its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What is to be read in it.
    pub(super) fn body(&self) -> &[u8] {
        self.bytes.get(self.body.clone()).unwrap_or_default()
    }
}

/// Where the bytes that came stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A frame begins with the first of them, or, of frames with a start, it may begin
    /// anywhere in them.
    Open,
    /// They are the rest of something: up to the next delimiter or pause.
    Lost,
}

/// Cuts one line.
#[derive(Debug)]
pub(super) struct Splitter {
    how: Config,
    checksum: Option<checksum::Config>,
    buffer: BytesMut,
    /// Bytes of the buffer in which no delimiter begins.
    scanned: usize,
    state: State,
    /// What is no frame, until its end is known.
    skip: Skip,
}

impl Splitter {
    pub(super) fn new(how: Config, checksum: Option<checksum::Config>) -> Self {
        let skip = Skip::new(how.max_frame());
        Self { how, checksum, buffer: BytesMut::new(), scanned: 0, state: State::Open, skip }
    }

    /// The connection ended: what stands here is no frame any more.
    pub(super) fn broke_off(&mut self) -> Option<Piece> {
        self.forsake(Why::BrokeOff)
    }

    /// What comes now may be the rest of a frame whose beginning is not known.
    pub(super) fn doubt(&mut self, why: Why) {
        self.skip.because(why);
        if self.how.start().is_empty() {
            self.state = State::Lost;
        }
    }

    /// What came while nobody read comes at once: what only silence tells apart is one
    /// lump.
    pub(super) fn held_back(&mut self) {
        if matches!(self.how, Config::Silence(_)) {
            self.doubt(Why::HeldBack);
        }
    }

    /// Whether what comes is the rest of something.
    pub(super) fn is_lost(&self) -> bool {
        self.state == State::Lost
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// How long nothing must come for [`Splitter::paused`], if that matters now.
    pub(super) fn pause(&self) -> Option<Duration> {
        let something = !self.buffer.is_empty() || !self.skip.is_empty();
        let waits = something || self.state == State::Lost;
        waits.then(|| self.how.pause())
    }

    /// Nothing came for that long.
    pub(super) fn paused(&mut self) -> Option<Piece> {
        if matches!(self.how, Config::Silence(_)) && self.state == State::Open {
            if self.buffer.is_empty() {
                return None;
            }
            let frame = self.buffer.split().freeze();
            return Some(self.whole(frame, 0, 0));
        }
        self.forsake(Why::BrokeOff)
    }

    /// The next that the bytes so far have in them.
    pub(super) fn next(&mut self) -> Option<Piece> {
        loop {
            let piece = self.cut();
            if piece.is_some() || !self.skip.is_enough() {
                return piece;
            }
            // Nobody knows when an end comes, or if: so much is told before it does.
            if let Some(told) = self.skip.take_unfinished(self.how.endless()) {
                return Some(told);
            }
        }
    }

    fn cut(&mut self) -> Option<Piece> {
        match &self.how {
            Config::Delimiter(how) if how.start.get().is_empty() => self.delimited(),
            Config::Delimiter(_) => self.between(),
            Config::Length(_) | Config::LengthField(_) => self.sized(),
            Config::Silence(how) => {
                let max = usize::try_from(how.max_frame.get()).unwrap_or(usize::MAX);
                if self.state == State::Lost || self.buffer.len() > max {
                    self.skip_bytes(self.buffer.len(), Why::TooLong);
                    self.state = State::Lost;
                }
                None
            }
        }
    }

    /// Gives up what stands here.
    fn forsake(&mut self, why: Why) -> Option<Piece> {
        self.skip_bytes(self.buffer.len(), why);
        self.state = State::Open;
        self.skip.take()
    }

    /// The first bytes are no frame. What was skipped before gives the reason.
    fn skip_bytes(&mut self, count: usize, why: Why) {
        let bytes = self.buffer.split_to(count.min(self.buffer.len()));
        self.skip.add(&bytes, why);
        self.scanned = self.scanned.saturating_sub(bytes.len());
    }

    /// Frames that end with a delimiter, and begin where the last one ended.
    fn delimited(&mut self) -> Option<Piece> {
        let Config::Delimiter(how) = &self.how else { return None };
        let (end, tail) = (how.end.get().len(), usize::from(how.tail));
        let max = self.how.max_frame();
        loop {
            let Some(at) = self.find_end() else {
                // One that has begun may end in what is still to come.
                let sure = self.buffer.len().saturating_sub(end.saturating_sub(1));
                self.scanned = sure;
                if self.state == State::Lost {
                    self.skip_bytes(sure, Why::TooLong);
                } else if sure > max {
                    self.skip_bytes(sure, Why::TooLong);
                    self.state = State::Lost;
                }
                return None;
            };
            if self.state == State::Open && at > max {
                self.skip_bytes(at, Why::TooLong);
                self.state = State::Lost;
                continue;
            }
            let whole = at + end + tail;
            if self.buffer.len() < whole {
                self.scanned = at;
                return None;
            }
            if self.state == State::Lost {
                self.skip_bytes(whole, Why::TooLong);
                self.state = State::Open;
                match self.skip.take() {
                    Some(told) => return Some(told),
                    None => continue,
                }
            }
            let frame = self.buffer.split_to(whole).freeze();
            self.scanned = 0;
            let is_empty = frame.get(..at).is_none_or(|content| content.trim_ascii().is_empty());
            if !is_empty || tail > 0 {
                return Some(self.whole(frame, 0, end + tail));
            }
        }
    }

    /// Frames between a start and a delimiter; what stands outside is none.
    fn between(&mut self) -> Option<Piece> {
        let Config::Delimiter(how) = &self.how else { return None };
        let (start, end) = (how.start.clone(), how.end.get().len());
        let (start, tail, max) = (start.get(), usize::from(how.tail), self.how.max_frame());
        loop {
            if !self.seek(start) {
                return None;
            }
            self.scanned = self.scanned.max(start.len());
            let found = self.find_end();
            let sure = self.buffer.len().saturating_sub(end.saturating_sub(1));
            if found.unwrap_or(sure) > max {
                // The next one may begin right behind this start.
                self.skip_bytes(start.len(), Why::TooLong);
                continue;
            }
            let Some(at) = found else {
                self.scanned = sure;
                return None;
            };
            let whole = at + end + tail;
            self.scanned = at;
            let bytes = self.buffer.get(..whole)?;
            let frame = Bytes::copy_from_slice(bytes);
            let piece = self.whole(frame, start.len(), end + tail);
            // A frame whose checksum is right may have the bytes of a start in it.
            let is_sure = self.checksum.is_some() && matches!(piece, Piece::Frame(_));
            let inside = self.buffer.get(start.len()..at).filter(|_| !is_sure);
            if let Some(again) = inside.and_then(|inside| rfind(inside, start)) {
                self.skip_bytes(start.len() + again, Why::BrokeOff);
                continue;
            }
            // What was skipped before it goes first; it is found again at once.
            if let Some(told) = self.skip.take() {
                return Some(told);
            }
            self.drop_bytes(whole);
            return Some(piece);
        }
    }

    /// Frames that are as long as is said, by the configuration or by themselves.
    fn sized(&mut self) -> Option<Piece> {
        let start = self.how.start().to_vec();
        loop {
            if self.state == State::Lost {
                self.skip_bytes(self.buffer.len(), Why::OutOfStep);
                return None;
            }
            if !self.seek(&start) {
                return None;
            }
            let wrong = match self.how.length_of(&self.buffer) {
                Said::Nothing => return None,
                Said::Long(whole) if self.buffer.len() < whole => return None,
                Said::Long(whole) if self.is_right(whole) => {
                    if let Some(told) = self.skip.take() {
                        return Some(told);
                    }
                    let frame = self.buffer.split_to(whole).freeze();
                    return Some(Piece::Frame(Frame { body: 0..frame.len(), bytes: frame }));
                }
                Said::Long(whole) if start.is_empty() => {
                    self.skip_bytes(whole, Why::Checksum);
                    match self.skip.take() {
                        Some(told) => return Some(told),
                        None => continue,
                    }
                }
                Said::Long(_) => Why::Checksum,
                Said::Nonsense => Why::Length,
            };
            // A start that was none: the next one may stand in the midst of it.
            if start.is_empty() {
                self.skip.because(wrong);
                self.state = State::Lost;
            } else {
                self.skip_bytes(1, wrong);
            }
        }
    }

    fn is_right(&self, whole: usize) -> bool {
        let frame = self.buffer.get(..whole);
        self.checksum.as_ref().is_none_or(|sum| frame.is_some_and(|frame| sum.is_right(frame)))
    }

    /// Goes to the next start; false if there is none yet. What stands before it is told
    /// with the next frame, or when there is enough of it: not each byte for itself.
    fn seek(&mut self, start: &[u8]) -> bool {
        if start.is_empty() {
            return !self.buffer.is_empty();
        }
        let found = find(&self.buffer, start, 0);
        let sure = self.buffer.len().saturating_sub(start.len().saturating_sub(1));
        self.skip_bytes(found.unwrap_or(sure), Why::Outside);
        found.is_some() && !self.skip.is_enough()
    }

    /// The first bytes are taken.
    fn drop_bytes(&mut self, count: usize) {
        self.buffer.advance(count.min(self.buffer.len()));
        self.scanned = 0;
    }

    /// A frame of a delimiter, of a silence: with a checksum that is right it is one.
    fn whole(&self, bytes: Bytes, before: usize, behind: usize) -> Piece {
        let end = bytes.len().saturating_sub(behind);
        let ends_line = matches!(&self.how, Config::Delimiter(how) if how.end.get() == b"\n");
        let trimmed = end.checked_sub(1).filter(|at| ends_line && bytes.get(*at) == Some(&b'\r'));
        // That `\r` may also be the last byte of a binary checksum.
        let body =
            trimmed.and_then(|end| self.body(&bytes, end)).or_else(|| self.body(&bytes, end));
        match body {
            Some(end) => Piece::Frame(Frame { body: before.min(end)..end, bytes }),
            None => Piece::Skipped(Skipped::new(&bytes, Why::Checksum)),
        }
    }

    /// Where the body ends in a frame whose delimiter begins at `end`, if its checksum is
    /// right: it stands in the tail, or right before the delimiter.
    fn body(&self, bytes: &[u8], end: usize) -> Option<usize> {
        let Some(checksum) = &self.checksum else { return Some(end) };
        let tail = self.how.tail();
        let covered = if tail > 0 { bytes.len() } else { end };
        bytes.get(..covered).filter(|covered| checksum.is_right(covered))?;
        if tail > 0 {
            return Some(end);
        }
        Some(end.saturating_sub(checksum.width() + usize::from(checksum.gap)))
    }

    /// Where the first delimiter begins.
    fn find_end(&self) -> Option<usize> {
        let Config::Delimiter(how) = &self.how else { return None };
        find(&self.buffer, how.end.get(), self.scanned)
    }
}

/// The first place, from `from` on, at which `needle` begins.
fn find(bytes: &[u8], needle: &[u8], from: usize) -> Option<usize> {
    let mut windows = bytes.get(from..)?.windows(needle.len().max(1));
    windows.position(|window| window == needle).map(|at| from + at)
}

/// The last one.
fn rfind(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len().max(1)).rposition(|window| window == needle)
}
