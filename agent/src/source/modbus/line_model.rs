//! A bus of units whose registers say where they stand and which request was
//! answered, and which does everything wrong that a bus does: it loses, delays
//! (in order, for each unit), doubles, tears, flips and adds bytes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::sleep_until;

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Faults {
    None,
    All,
}

pub(super) struct Slave {
    framing: Framing,
    echo: bool,
    random: Cell<u64>,
    faults: Cell<Faults>,
    /// Requests that came; each answer is of one of them.
    generation: Cell<u64>,
    refusals: RefCell<Vec<(u64, Query, u8)>>,
    /// What is still to be said, in the order of its time.
    speech: RefCell<BTreeMap<(Instant, u64), Vec<u8>>>,
    /// Until when a unit is busy with what it was asked before.
    busy: RefCell<BTreeMap<u8, Instant>>,
}

impl Slave {
    pub(super) fn new(framing: Framing, echo: bool, seed: u64) -> Self {
        Self {
            framing,
            echo,
            random: Cell::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            faults: Cell::new(Faults::All),
            generation: Cell::new(0),
            refusals: RefCell::default(),
            speech: RefCell::default(),
            busy: RefCell::default(),
        }
    }

    /// Below `limit`.
    pub(super) fn random(&self, limit: usize) -> usize {
        self.random.set(mix(self.random.get().wrapping_add(0x9E37_79B9_7F4A_7C15)));
        usize::try_from(self.random.get() >> 32).unwrap() % limit
    }

    /// One of a hundred, so many times.
    fn chance(&self, percent: usize) -> bool {
        self.faults.get() == Faults::All && self.random(100) < percent
    }

    pub(super) fn set(&self, faults: Faults) {
        self.faults.set(faults);
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Whether this is what a request after `before` was answered.
    pub(super) fn is_fresh(&self, query: Query, data: &[u8], before: u64) -> bool {
        (before + 1..=self.generation.get()).any(|generation| holds(query, generation) == data)
    }

    pub(super) fn has_refused(&self, query: Query, code: u8, before: u64) -> bool {
        let refusals = self.refusals.borrow();
        refusals.iter().any(|(at, asked, with)| *at > before && (*asked, *with) == (query, code))
    }

    pub(super) async fn serve(&self, mut wire: DuplexStream) {
        let mut heard = Vec::new();
        loop {
            let due = self.speech.borrow().keys().next().map(|(at, _)| *at);
            let far = Instant::now() + Duration::from_hours(1);
            tokio::select! {
                read = wire.read_buf(&mut heard) => {
                    assert!(read.unwrap() > 0, "the line stays open");
                    while let Some(query) = self.request(&mut heard) {
                        self.answer(query);
                    }
                }
                () = sleep_until(due.unwrap_or(far)) => {
                    let said = self.speech.borrow_mut().pop_first();
                    if let Some((_, bytes)) = said {
                        wire.write_all(&bytes).await.unwrap();
                    }
                }
            }
        }
    }

    /// The next whole request of what was heard.
    fn request(&self, heard: &mut Vec<u8>) -> Option<Query> {
        let length = self.framing.request(TWO, 0).len();
        if heard.len() < length {
            return None;
        }
        let bytes: Vec<u8> = heard.drain(..length).collect();
        if self.echo && !self.chance(2) {
            self.say(Instant::now(), bytes.clone());
        }
        let body: Vec<u8> = if self.framing == Framing::Ascii {
            let text = std::str::from_utf8(&bytes[1..length - 2]).unwrap();
            let pairs = (0..text.len()).step_by(2).map(|at| &text[at..at + 2]);
            pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
        } else {
            bytes
        };
        let word = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
        Some(query(body[0], body[1], word(2), word(4)))
    }

    fn answer(&self, query: Query) {
        self.generation.set(self.generation.get() + 1);
        if self.chance(6) {
            return;
        }
        let now = Instant::now();
        let busy = self.busy.borrow().get(&query.unit).copied().filter(|until| *until > now);
        // What it keeps of requests while it is busy is limited.
        if busy.is_some_and(|until| until > now + 10 * TIMEOUT) || busy.is_some() && self.chance(40)
        {
            return;
        }
        // A wrong label is only known for what it is while its request waits.
        let mislabel = busy.is_none() && self.chance(4);
        let latency = match self.random(100) {
            _ if mislabel || self.faults.get() == Faults::None => 8,
            0..84 => 1 + self.random(30),
            84..94 => 90 + self.random(200),
            94..99 => 90 + self.random(900),
            _ => 90 + self.random(9_000),
        };
        let mut at = busy.unwrap_or(now) + u32::try_from(latency).unwrap() * MS;
        let frame = self.frame(query, mislabel);
        for piece in self.spoil(frame) {
            self.say(at, piece);
            at += u32::try_from(self.random(3)).unwrap() * MS / 2;
        }
        self.busy.borrow_mut().insert(query.unit, at);
    }

    fn frame(&self, query: Query, mislabel: bool) -> Vec<u8> {
        let generation = self.generation.get();
        if self.chance(8) {
            let code = u8::try_from(1 + self.random(4)).unwrap();
            self.refusals.borrow_mut().push((generation, query, code));
            return self.framing.wrap(&[query.unit, query.function | 0x80, code], 0);
        }
        let mut data = holds(query, generation);
        let (mut unit, mut function) = (query.unit, query.function);
        match self.random(3) {
            _ if !mislabel => {}
            0 => unit = 9,
            1 => function ^= 1,
            _ => data.extend([7, 7]),
        }
        data.truncate(250);
        let count = u8::try_from(data.len()).unwrap();
        self.framing.wrap(&[&[unit, function, count], data.as_slice()].concat(), 0)
    }

    /// The pieces that come of it.
    fn spoil(&self, mut frame: Vec<u8>) -> Vec<Vec<u8>> {
        if self.chance(5) {
            return Vec::new();
        }
        if self.chance(5) {
            let at = self.random(frame.len());
            frame[at] ^= 1 << self.random(8);
        }
        if self.chance(5) {
            frame.truncate(self.random(frame.len()));
        }
        let copy = self.chance(5).then(|| frame.clone());
        if self.chance(5) {
            frame.splice(0..0, self.noise());
        }
        let mut pieces = vec![frame];
        while self.chance(20) {
            let last = pieces.pop().unwrap();
            let (head, tail) = last.split_at(self.random(last.len() + 1));
            pieces.extend([head.to_vec(), tail.to_vec()]);
        }
        // At once: none of the pauses is as long as t3.5.
        pieces.extend(copy);
        if self.chance(5) {
            pieces.push(self.noise());
        }
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }

    fn noise(&self) -> Vec<u8> {
        (0..=self.random(8)).map(|_| u8::try_from(self.random(256)).unwrap()).collect()
    }

    fn say(&self, at: Instant, bytes: Vec<u8>) {
        let mut speech = self.speech.borrow_mut();
        let order = speech.len() as u64 + self.random.get() / 2;
        let next = speech.keys().filter(|(time, _)| *time == at).map(|(_, n)| n + 1).max();
        speech.insert((at, next.unwrap_or(order / 2)), bytes);
    }
}

/// What the addresses of this query hold when this request is answered.
fn holds(query: Query, generation: u64) -> Vec<u8> {
    let word = |index: usize| {
        let place = u64::from(query.address) + index as u64;
        let kind = u64::from(query.unit) << 8 | u64::from(query.function);
        let mixed = mix(generation << 40 ^ kind << 20 ^ place);
        u16::try_from(mixed & 0xFFFF).unwrap().to_be_bytes()
    };
    (0..query.length().div_ceil(2)).flat_map(word).take(query.length()).collect()
}

const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
