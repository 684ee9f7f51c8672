//! Another input, made of those that there are.

use crate::forward::simulator::chance::Chance;

/// Longer ones find nothing more, only later.
const LONGEST: usize = 4_096;

/// Changes of one input at most.
const MOST: u64 = 5;

/// Bytes at which decoders turn: ends of ranges, signs, and what text is made of.
const TURNS: &[u8] =
    b"\x00\x01\x02\x03\x04\x7F\x80\x81\xC2\xE2\xF0\xFE\xFF\r\n\t ,;:*$.+-/\"\\{}[]eE09aFnT";

pub(super) fn mutate(inputs: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut input = one(inputs, chance).to_vec();
    for _ in 0..=chance.below(MOST) {
        change(&mut input, inputs, chance);
    }
    input.truncate(LONGEST);
    input
}

fn one<'i>(inputs: &'i [Vec<u8>], chance: &mut Chance) -> &'i [u8] {
    &inputs[chance.index(inputs.len())]
}

fn change(input: &mut Vec<u8>, inputs: &[Vec<u8>], chance: &mut Chance) {
    let length = input.len();
    let (at, byte) = (chance.index(length + 1), turn(chance));
    let end = at + chance.index(length - at + 1).min(1 + chance.index(16));
    match chance.below(9) {
        0 if at < length => input[at] ^= 1 << chance.below(8),
        1 if at < length => input[at] = byte,
        2 => input.insert(at, byte),
        3 => drop(input.drain(at..end)),
        4 => input.truncate(at),
        // Once more, or many times: what is nested, what has a count.
        5 => {
            let most = if chance.hits(100) { 64 } else { 2 };
            let times = 1 + chance.index(most);
            let piece = input[at..end].repeat(times);
            input.splice(at..at, piece);
        }
        // A part of another one.
        6 => {
            let other = one(inputs, chance);
            let from = chance.index(other.len() + 1);
            let to = from + chance.index(other.len() - from + 1);
            input.splice(at..end, other[from..to].iter().copied());
        }
        // A number of two or four bytes, in either order, at an end of its range.
        7 => {
            let number =
                [0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0x0100, 0xFFFF][chance.index(7)];
            let bytes =
                if chance.hits(500) { u32::to_be_bytes(number) } else { u32::to_le_bytes(number) };
            let bytes = &bytes[if chance.hits(500) { 2 } else { 0 }..];
            for (place, byte) in input[at..].iter_mut().zip(bytes) {
                *place = *byte;
            }
        }
        _ => {
            let digits = chance.below(u64::MAX).to_string();
            input.splice(at..at, digits.into_bytes());
        }
    }
}

fn turn(chance: &mut Chance) -> u8 {
    if chance.hits(500) {
        return TURNS[chance.index(TURNS.len())];
    }
    u8::try_from(chance.below(256)).unwrap()
}
