//! Bytes of a line that are no frame, and why.

use std::fmt;

use super::Piece;

/// Bytes that are no frame.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Skipped {
    pub(in super::super) why: Why,
    /// The first of them.
    pub(in super::super) bytes: Vec<u8>,
    /// Of all of them.
    pub(in super::super) length: u64,
}

/// So many bytes are worth a word, however short a frame is.
const ENOUGH: usize = 256;

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Why {
    /// They came right after the line was opened.
    Opening,
    /// There was no end within the longest frame.
    TooLong,
    /// The frame has no end: another one began, the line was silent, or it is gone.
    BrokeOff,
    /// The length that it says is none.
    Length,
    Checksum,
    /// They stand before a frame's start.
    Outside,
    /// Without a pause nobody knows where a frame begins.
    OutOfStep,
    /// They waited, and came together.
    HeldBack,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Opening => "came right after opening: perhaps only the end of a frame",
            Self::TooLong => "no end within `max_frame`",
            Self::BrokeOff => "frame that broke off",
            Self::Length => "frame with an impossible length",
            Self::Checksum => "frame whose checksum is wrong",
            Self::Outside => "bytes outside of a frame",
            Self::OutOfStep => {
                "no pause in what comes, and only that says where a frame begins: \
                 say its `start`, or a shorter `pause`"
            }
            Self::HeldBack => "frames that waited for the buffer, with no silence between them",
        })
    }
}

impl Skipped {
    pub(super) fn new(bytes: &[u8], why: Why) -> Self {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Self { why, bytes: bytes.to_vec(), length }
    }
}

/// Gathers them, of which only the first are kept.
#[derive(Debug)]
pub(super) struct Skip {
    kept: Vec<u8>,
    length: u64,
    /// The first reason: all that follows is its consequence.
    why: Option<Why>,
    most: usize,
}

impl Skip {
    pub(super) const fn new(most: usize) -> Self {
        Self { kept: Vec::new(), length: 0, why: None, most }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// There is so much of it that it is told before its end is known.
    pub(super) fn is_enough(&self) -> bool {
        let enough = u64::try_from(self.most.max(ENOUGH)).unwrap_or(u64::MAX);
        self.length >= enough
    }

    /// What is skipped next is so for this reason, unless there is one already.
    pub(super) fn because(&mut self, why: Why) {
        self.why.get_or_insert(why);
    }

    pub(super) fn add(&mut self, bytes: &[u8], why: Why) {
        if bytes.is_empty() {
            return;
        }
        self.because(why);
        self.length = self.length.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let free = self.most.saturating_sub(self.kept.len());
        self.kept.extend(bytes.iter().take(free));
    }

    /// All of it so far. That the line was just opened is no reason for so much.
    pub(super) fn take_unfinished(&mut self, instead: Why) -> Option<Piece> {
        if self.why == Some(Why::Opening) {
            self.why = Some(instead);
        }
        self.take()
    }

    /// All of it, if it is more than the blanks and zeros that stand between frames.
    pub(super) fn take(&mut self) -> Option<Piece> {
        let (bytes, length) = (std::mem::take(&mut self.kept), std::mem::take(&mut self.length));
        let why = self.why.take()?;
        let is_blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0;
        let kept_all = u64::try_from(bytes.len()).is_ok_and(|kept| kept == length);
        if kept_all && bytes.iter().all(is_blank) {
            return None;
        }
        Some(Piece::Skipped(Skipped { why, bytes, length }))
    }
}
