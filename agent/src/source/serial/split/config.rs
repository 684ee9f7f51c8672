//! `split = { by = … }`: where a frame ends.

use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::super::checksum::Endian;
use super::Why;
use crate::decode::escaped::Escaped;
use crate::units::{ByteSize, Period};

/// How a line is cut into frames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Config {
    /// A frame ends with certain bytes.
    Delimiter(Delimiter),
    /// All frames are equally long.
    Length(Length),
    /// A frame says how long it is.
    LengthField(LengthField),
    /// A frame ends when nothing more comes.
    Silence(Silence),
}

/// Frames that end with certain bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delimiter {
    /// The bytes at its end: `'\r\n'`, `'\x03'`. Default: `'\n'`, before which a `\r`
    /// does not count.
    #[serde(default = "newline")]
    pub end: Escaped,
    /// The bytes at its start: `'\x02'`. What stands before them is no frame.
    #[serde(default)]
    pub start: Escaped,
    /// Bytes behind `end` that belong to it, as a checksum does. Default: 0.
    #[serde(default)]
    pub tail: u16,
    /// A frame in which nothing comes for so long has broken off. Default: `5 s`.
    #[serde(default = "default_half")]
    pub pause: Period,
    /// A frame is at most so long, without its end; 1 B to 64 KiB. Default: `4 KiB`.
    #[serde(default = "default_max_frame")]
    pub max_frame: ByteSize,
}

/// Frames that are equally long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Length {
    /// Bytes of a frame, with its start; 1 to 65535.
    pub bytes: u16,
    /// The bytes at its start, by which it is found again when bytes are missing.
    #[serde(default)]
    pub start: Escaped,
    /// A frame in which nothing comes for so long has broken off. Default: `1 s`.
    #[serde(default = "default_pause")]
    pub pause: Period,
}

/// Frames that say how long they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LengthField {
    /// Where the length stands: its first byte, counted from 0 at the frame's first.
    pub at: u16,
    /// Bytes of it: 1, 2 or 4. Default: 1.
    #[serde(default = "one")]
    pub size: u8,
    /// Which of them comes first: `big` (the highest) or `little`. Default: `big`.
    #[serde(default)]
    pub order: Endian,
    /// The whole frame is so many bytes longer than the length says. Default: as many
    /// as stand up to its end, for a length of what follows.
    #[serde(default)]
    pub add: Option<i32>,
    /// The bytes at its start, by which it is found again when bytes are missing.
    #[serde(default)]
    pub start: Escaped,
    /// A frame in which nothing comes for so long has broken off. Default: `1 s`.
    #[serde(default = "default_pause")]
    pub pause: Period,
    /// A frame is at most so long; 1 B to 64 KiB. Default: `4 KiB`.
    #[serde(default = "default_max_frame")]
    pub max_frame: ByteSize,
}

/// Frames with silence between them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Silence {
    /// So long nothing comes between two frames, and never within one. At least `5 ms`.
    pub silence: Period,
    /// A frame is at most so long; 1 B to 64 KiB. Default: `4 KiB`.
    #[serde(default = "default_max_frame")]
    pub max_frame: ByteSize,
}

fn newline() -> Escaped {
    Escaped::from("\n")
}
const fn default_max_frame() -> ByteSize {
    ByteSize(4 * 1_024)
}
/// Longer than a device rests within a line, shorter than a plug is out.
const fn default_half() -> Period {
    Period::from_secs(5)
}
const fn default_pause() -> Period {
    Period::from_secs(1)
}
const fn one() -> u8 {
    1
}

/// As much as is kept of what is no event.
const LONGEST: u64 = 64 * 1_024;

/// Timers count in milliseconds, and a busy machine is late by some.
const SHORTEST_SILENCE: Period = Period::from_millis(5);

/// What the beginning of a frame says of its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// That has not come yet.
    Nothing,
    Long(usize),
    /// No frame is so long.
    Nonsense,
}

impl Default for Config {
    fn default() -> Self {
        Self::Delimiter(Delimiter {
            end: newline(),
            start: Escaped::default(),
            tail: 0,
            pause: default_half(),
            max_frame: default_max_frame(),
        })
    }
}

impl LengthField {
    /// Bytes up to its length's end.
    fn header(&self) -> usize {
        usize::from(self.at) + usize::from(self.size)
    }

    fn least(&self) -> usize {
        self.header().max(self.start.get().len()).max(1)
    }

    fn added(&self) -> i64 {
        self.add.map_or(i64::try_from(self.header()).unwrap_or(0), i64::from)
    }

    /// Whether any length that it can say is that of a frame.
    fn may_fit(&self, max: usize) -> bool {
        let most = 256_i64.pow(u32::from(self.size).min(4)) - 1 + self.added();
        let is = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        most >= is(self.least()) && self.added() <= is(max)
    }
}

impl Config {
    /// Key and what is wrong with it.
    pub(in super::super) fn check(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        let mut say = |key, what: &str| wrong.push((key, what.to_owned()));
        if !(1..=LONGEST).contains(&self.longest().get()) {
            say("max_frame", "must be from 1 B to 64 KiB");
        }
        if !matches!(self, Self::Silence(_)) && self.pause().is_zero() {
            say("pause", "is zero: at least 1 ms");
        }
        match self {
            Self::Delimiter(how) if how.end.get().is_empty() => {
                say("end", "is empty: the bytes that end a frame, as in '\\r\\n'");
            }
            Self::Length(how) if how.bytes == 0 => say("bytes", "is 0: from 1 to 65535"),
            Self::Length(how) if how.start.get().len() > usize::from(how.bytes) => {
                say("start", "is longer than the frame");
            }
            Self::LengthField(how) if !matches!(how.size, 1 | 2 | 4) => {
                say("size", "must be 1, 2 or 4");
            }
            Self::LengthField(how) if usize::from(how.at) < how.start.get().len() => {
                say("at", "stands within `start`: it counts from the frame's first byte");
            }
            Self::LengthField(how) if how.header() > self.max_frame() => {
                say("at", "stands beyond `max_frame`");
            }
            Self::LengthField(how) if !how.may_fit(self.max_frame()) => {
                say("add", "makes every length one that no frame can have");
            }
            Self::Silence(how) if how.silence < SHORTEST_SILENCE => {
                say("silence", "is too short for a timer: at least 5 ms");
            }
            _ if self.start().len() > self.max_frame() => {
                say("start", "is longer than `max_frame`");
            }
            _ => {}
        }
        wrong
    }

    /// Bytes that a frame has at most, with what belongs to its end.
    pub(in super::super) fn room(&self) -> usize {
        self.max_frame().saturating_add(self.tail())
    }

    fn longest(&self) -> ByteSize {
        match self {
            Self::Delimiter(how) => how.max_frame,
            Self::Length(how) => ByteSize(u64::from(how.bytes.max(1))),
            Self::LengthField(how) => how.max_frame,
            Self::Silence(how) => how.max_frame,
        }
    }

    pub(super) fn max_frame(&self) -> usize {
        usize::try_from(self.longest().get()).unwrap_or(usize::MAX)
    }

    pub(super) fn start(&self) -> &[u8] {
        match self {
            Self::Delimiter(how) => how.start.get(),
            Self::Length(how) => how.start.get(),
            Self::LengthField(how) => how.start.get(),
            Self::Silence(_) => &[],
        }
    }

    pub(in super::super) fn tail(&self) -> usize {
        match self {
            Self::Delimiter(how) => usize::from(how.tail),
            _ => 0,
        }
    }

    pub(super) fn pause(&self) -> Duration {
        match self {
            Self::Delimiter(how) => how.pause.get(),
            Self::Length(how) => how.pause.get(),
            Self::LengthField(how) => how.pause.get(),
            Self::Silence(how) => how.silence.get(),
        }
    }

    /// What is wrong with a line that never has what is waited for.
    pub(super) fn endless(&self) -> Why {
        match self {
            _ if !self.start().is_empty() => Why::Outside,
            Self::Delimiter(_) | Self::Silence(_) => Why::TooLong,
            Self::Length(_) | Self::LengthField(_) => Why::OutOfStep,
        }
    }

    /// What the frame that begins so says of its length.
    pub(super) fn length_of(&self, bytes: &[u8]) -> Said {
        let how = match self {
            Self::Length(how) => return Said::Long(usize::from(how.bytes)),
            Self::LengthField(how) => how,
            Self::Delimiter(_) | Self::Silence(_) => return Said::Nothing,
        };
        let header = how.header();
        let Some(field) = bytes.get(usize::from(how.at)..header) else { return Said::Nothing };
        let push = |number: u64, byte: &u8| (number << 8) | u64::from(*byte);
        let said = match how.order {
            Endian::Big => field.iter().fold(0, push),
            Endian::Little => field.iter().rev().fold(0, push),
        };
        let add = how.added();
        let whole = said.checked_add_signed(add).and_then(|whole| usize::try_from(whole).ok());
        let least = how.least();
        let whole = whole.filter(|whole| (least..=self.max_frame()).contains(whole));
        whole.map_or(Said::Nonsense, Said::Long)
    }
}
