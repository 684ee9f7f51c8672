//! The bytes of one file on a medium that tells nobody when it writes.
//!
//! Only a sync makes bytes durable. What was written since may be on the medium
//! or not, each write for itself, in any order and in part: that is decided
//! when the power is cut, by the dice.

use std::ops::Range;

use crate::dice::Dice;

/// What `SQLite` is told of the medium, and what the medium then keeps to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Medium {
    /// The unit that is written whole or is torn.
    pub(crate) sector: usize,
    /// Bytes beside those that a torn write was meant for stay as they are.
    pub(crate) powersafe: bool,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Size(usize),
}

/// One file: as programs see it, and as the medium has it for sure.
#[derive(Debug, Default)]
pub(crate) struct Bytes {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Since the last sync, oldest first.
    pending: Vec<Change>,
}

/// What becomes of one change.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Kept,
    Lost,
    Torn,
}

impl Bytes {
    pub(crate) fn on_disk(bytes: Vec<u8>) -> Self {
        Self { now: bytes.clone(), durable: bytes, pending: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.now.len()
    }

    /// As many bytes as there are from there on, at most `count`.
    pub(crate) fn read(&self, at: usize, count: usize) -> &[u8] {
        let end = at.saturating_add(count).min(self.now.len());
        self.now.get(at..end).unwrap_or_default()
    }

    pub(crate) fn write(&mut self, at: usize, data: &[u8]) {
        put(&mut self.now, at, data, &mut None);
        self.pending.push(Change::Write(at, data.to_vec()));
    }

    pub(crate) fn resize(&mut self, len: usize) {
        self.now.resize(len, 0);
        self.pending.push(Change::Size(len));
    }

    /// What is pending never comes to the medium by itself: who wrote it has to
    /// write it again.
    pub(crate) fn sync_failed(&mut self) {
        self.pending.clear();
    }

    pub(crate) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Write(at, data) => put(&mut self.durable, at, &data, &mut None),
                Change::Size(len) => self.durable.resize(len, 0),
            }
        }
    }

    /// What is found on the medium when the power is back.
    pub(crate) fn after_cut(&self, medium: Medium, dice: &mut Dice) -> Vec<u8> {
        let mut found = self.durable.clone();
        let fates = fates(self.pending.len(), dice);
        for (change, fate) in self.pending.iter().zip(fates) {
            match (change, fate) {
                (_, Fate::Lost) => {}
                (Change::Size(len), _) => found.resize(*len, 0),
                (Change::Write(at, data), Fate::Kept) => {
                    put(&mut found, *at, data, &mut Some(dice));
                }
                (Change::Write(at, data), Fate::Torn) => {
                    tear(&mut found, *at, data, medium, dice);
                }
            }
        }
        found
    }
}

/// Media differ: one writes in order, one the newest first, one whatever.
fn fates(count: usize, dice: &mut Dice) -> Vec<Fate> {
    let turn = dice.index(count + 1);
    let style = dice.roll(7);
    let mut fate = |place: usize| {
        let kept = match style {
            0 => false,
            1 => true,
            2 if place == turn => return Fate::Torn,
            2 => place < turn,
            3 => place >= turn,
            // Nearly all of it is there, or little.
            4 => !dice.once_in(count as u64 / 2 + 1),
            5 => dice.once_in(4),
            _ if dice.once_in(3) => return Fate::Torn,
            _ => dice.once_in(2),
        };
        if kept { Fate::Kept } else { Fate::Lost }
    };
    (0..count).map(&mut fate).collect()
}

/// Writes; a gap that this leaves behind the end holds zeros, or, where chance
/// is given, whatever stood in those blocks before.
fn put(bytes: &mut Vec<u8>, at: usize, data: &[u8], chance: &mut Option<&mut Dice>) {
    let end = at + data.len();
    let before = bytes.len();
    if before < end {
        bytes.resize(end, 0);
    }
    if let Some(dice) = chance
        && before < at
        && dice.once_in(2)
        && let Some(gap) = bytes.get_mut(before..at)
    {
        dice.fill(gap);
    }
    bytes.get_mut(at..end).expect("it was made long enough").copy_from_slice(data);
}

/// Writes some of the sectors, and makes nonsense of others.
fn tear(bytes: &mut Vec<u8>, at: usize, data: &[u8], medium: Medium, dice: &mut Dice) {
    let in_order = dice.once_in(2);
    let mut torn = false;
    let mut from = 0;
    while from < data.len() {
        let to = sector_of(at + from, medium.sector).end.min(at + data.len()) - at;
        let piece = data.get(from..to).unwrap_or_default();
        torn = if in_order { torn || dice.once_in(3) } else { dice.once_in(2) };
        if !torn {
            put(bytes, at + from, piece, &mut Some(dice));
        } else if dice.once_in(4) {
            let sector = sector_of(at + from, medium.sector);
            let hit = if medium.powersafe { at + from..at + to } else { sector };
            let mut nonsense = vec![0; hit.len()];
            dice.fill(&mut nonsense);
            put(bytes, hit.start, &nonsense, &mut Some(dice));
        }
        from = to;
    }
}

fn sector_of(at: usize, size: usize) -> Range<usize> {
    let start = at - at % size;
    start..start + size
}
