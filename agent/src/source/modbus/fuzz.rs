//! What a bus says under any bytes (`crate::fuzz`).

use super::frame::{Decoded, Framing};
use super::remembered::Remembered;
use super::sunspec;
use crate::fuzz::{check, text as as_text};

#[test]
fn frames() {
    check("modbus-frames", |bytes| {
        for framing in [Framing::Tcp, Framing::Rtu, Framing::Ascii] {
            framing.broken(bytes);
            let mut rest = bytes;
            while let Decoded::Whole(frame, length) = framing.decode(rest) {
                assert!((1..5).contains(&frame.function) && (1..=rest.len()).contains(&length));
                rest = &rest[length..];
            }
        }
    });
}

#[test]
fn remembered() {
    check("modbus-remembered", |bytes| drop(Remembered::load(bytes)));
}

#[test]
fn sunspec() {
    check("sunspec-definitions", |bytes| {
        sunspec::is_definition(&as_text(bytes));
    });
}
