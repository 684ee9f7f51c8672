//! What becomes of an answer.

use tracing::debug;

use super::super::super::frame::Query;
use super::bus::{Bus, Piece};
use super::judge::register;
use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// It never comes.
    Lost,
    /// It comes when nobody waits for it any more.
    Late,
    /// It is broken off.
    Torn,
    /// A part of it comes, and then all of it.
    Halved,
    /// It comes twice.
    Doubled,
    /// Bytes of nobody stand before it, behind it, or both.
    Noisy,
    /// Bits of it are others.
    Flipped,
    /// Another unit says what it has there.
    Unit,
    /// It is what another table has there.
    Function,
    /// It is of another address, and longer or shorter.
    Length,
    /// An exception.
    Refused,
    /// The request comes back; or it does not, where it should, or not as it was.
    Echo,
    /// An answer of an earlier transaction comes instead, or before it.
    Earlier,
    /// The connection is closed behind it.
    Closed,
}

const ALL: [Fault; 14] = [
    Fault::Lost,
    Fault::Late,
    Fault::Torn,
    Fault::Halved,
    Fault::Doubled,
    Fault::Noisy,
    Fault::Flipped,
    Fault::Unit,
    Fault::Function,
    Fault::Length,
    Fault::Refused,
    Fault::Echo,
    Fault::Earlier,
    Fault::Closed,
];

/// Answers that are remembered to come again.
const REMEMBERED: usize = 64;

const MS: Duration = Duration::from_millis(1);

/// The body of the answer to a query, unit and PDU, with the values of this number.
fn body(query: Query, number: u64) -> Vec<u8> {
    let at = |n: u16| register(query.unit, query.function, query.address.wrapping_add(n), number);
    let data: Vec<u8> = if query.is_bits() {
        let byte = |n: u16| (0..8).map(|bit| u8::from(at(n * 8 + bit) & 1 == 1) << bit).sum();
        (0..query.count.div_ceil(8)).map(byte).collect()
    } else {
        (0..query.count).flat_map(|n| at(n).to_be_bytes()).collect()
    };
    let count = u8::try_from(data.len()).unwrap();
    [&[query.unit, query.function, count], data.as_slice()].concat()
}

const fn other_table(function: u8) -> u8 {
    match function {
        1 => 2,
        2 => 1,
        3 => 4,
        _ => 3,
    }
}

impl Bus {
    /// Answers a request, somehow; whether anything is wrong with it.
    pub(super) fn answer(
        &mut self,
        query: Query,
        transaction: u16,
        number: u64,
        request: &[u8],
    ) -> bool {
        if self.is_mute && sunspec::is_end(query) {
            self.echo(Instant::now(), request, false);
            return false;
        }
        let mut faults = self.draw();
        let now = Instant::now();
        let busy = self.busy.get(&query.unit).copied().filter(|until| *until > now);
        self.fit(&mut faults, query, busy.is_some());
        self.echo(now, request, faults.contains(&Fault::Echo));
        for fault in &faults {
            *self.tally.entry(*fault).or_default() += 1;
        }
        debug!(at = ?self.began.elapsed(), number, ?query, ?faults, busy = busy.is_some(), "asked");
        // What it keeps of requests while it is busy is limited.
        let full = busy.is_some_and(|until| until > now + 10 * TIMEOUT || self.chance.hits(400));
        if full || faults.contains(&Fault::Lost) {
            return true;
        }
        let latency = match self.chance.below(6) {
            _ if !faults.contains(&Fault::Late) => 1 + self.chance.below(30),
            0..3 => 90 + self.chance.below(200),
            3..5 => 90 + self.chance.below(900),
            _ => 90 + self.chance.below(9_000),
        };
        let at = busy.unwrap_or(now) + u32::try_from(latency).unwrap() * MS;
        let frame = self.frame(&faults, query, transaction, number);
        let end = self.spoil(at, &faults, frame, number);
        self.busy.insert(query.unit, end);
        self.remember(transaction, query, number);
        !faults.is_empty() || busy.is_some()
    }

    /// None, one, or two or three at once.
    fn draw(&mut self) -> Vec<Fault> {
        if self.is_well() || !self.chance.hits(self.rate) {
            return Vec::new();
        }
        let count = 1 + u8::from(self.chance.hits(300)) + u8::from(self.chance.hits(250));
        let (tcp, port) = (self.way.framing == Framing::Tcp, self.way.is_port());
        let possible: Vec<Fault> = ALL
            .into_iter()
            .filter(|fault| match fault {
                Fault::Earlier => tcp,
                // There is no checksum but that of TCP itself.
                Fault::Flipped => !tcp,
                Fault::Closed => !port,
                _ => true,
            })
            .collect();
        (0..count).map(|_| possible[self.chance.index(possible.len())]).collect()
    }

    /// Takes out what nobody could know for what it is.
    fn fit(&mut self, faults: &mut Vec<Fault>, query: Query, is_busy: bool) {
        let labels = [Fault::Unit, Fault::Function, Fault::Length];
        if faults.iter().any(|fault| labels.contains(fault)) {
            let owes = self.busy.iter().any(|(unit, until)| {
                let of_both = *unit == query.unit || faults.contains(&Fault::Unit);
                of_both && *until > Instant::now()
            });
            // A wrong label is known for what it is while its own request waits.
            if is_busy || owes {
                faults.retain(|fault| !labels.contains(fault));
            } else {
                faults.retain(|fault| *fault != Fault::Late);
            }
        }
        if self.way.framing == Framing::Tcp && faults.contains(&Fault::Torn) {
            // The begin of another frame would fill it up.
            faults.retain(|fault| !matches!(fault, Fault::Doubled | Fault::Halved | Fault::Noisy));
            if !self.speech.is_empty() {
                faults.push(Fault::Lost);
            }
        }
    }

    /// Says the request again, as it was or not, where that is usual or a fault.
    fn echo(&mut self, now: Instant, request: &[u8], fault: bool) {
        if !self.way.echoes() && !fault {
            return;
        }
        let mut bytes = request.to_vec();
        if self.way.echoes() && fault {
            if self.chance.hits(500) {
                return;
            }
            let at = self.chance.index(bytes.len());
            bytes[at] ^= 1 << self.chance.below(8);
        }
        self.plan(now, Piece { bytes, ends: None, connection: None, closes: false });
    }

    /// The frame of the answer, before it is sent.
    fn frame(&mut self, faults: &[Fault], query: Query, transaction: u16, number: u64) -> Vec<u8> {
        let framing = self.way.framing;
        let mut of = query;
        for fault in faults {
            match fault {
                Fault::Refused => {
                    let codes: &[u8] = match self.way.refuses {
                        _ if sunspec::is_of_map(query) => &[4, 5, 6, 10, 11],
                        true => &[2, 2, 3],
                        false => &[1, 4, 5, 6, 10, 11],
                    };
                    let code = codes[self.chance.index(codes.len())];
                    return framing.wrap(&[query.unit, query.function | 0x80, code], transaction);
                }
                Fault::Unit => of.unit = query.unit % 3 + 1,
                Fault::Function => of.function = other_table(query.function),
                Fault::Length => {
                    let step = if query.is_bits() { 8 } else { 1 };
                    let less = query.count > step && self.chance.hits(500);
                    of.count = if less { query.count - step } else { query.count + step };
                    of.address = query.address.wrapping_add(50);
                }
                _ => {}
            }
        }
        framing.wrap(&body(of, number), transaction)
    }

    /// Plans how it is said; gives the end of that.
    fn spoil(
        &mut self,
        mut at: Instant,
        faults: &[Fault],
        mut frame: Vec<u8>,
        number: u64,
    ) -> Instant {
        let has = |fault| faults.contains(&fault);
        let is_tcp = self.way.framing == Framing::Tcp;
        if has(Fault::Flipped) {
            self.flip(&mut frame);
        }
        let mut whole = true;
        if has(Fault::Torn) {
            frame.truncate(self.chance.index(frame.len()));
        }
        let copy = if has(Fault::Doubled) { frame.clone() } else { Vec::new() };
        let mut before = Vec::new();
        if has(Fault::Earlier) && !self.answered.is_empty() {
            let (transaction, query, number) =
                self.answered[self.chance.index(self.answered.len())];
            let earlier = self.way.framing.wrap(&body(query, number), transaction);
            if self.chance.hits(500) {
                (frame, whole) = (earlier, false);
            } else {
                before.extend(earlier);
            }
        }
        let noise = if has(Fault::Noisy) { 1 + self.chance.below(3) } else { 0 };
        if noise & 1 == 1 {
            before.extend(self.noise());
        }
        if has(Fault::Halved) {
            before.extend_from_slice(&frame[..self.chance.index(frame.len().max(1))]);
        }
        let behind = if noise & 2 == 2 { self.noise() } else { Vec::new() };
        frame.splice(0..0, before);
        let end = frame.len();
        let only = (is_tcp && self.chance.hits(500)).then_some(self.connection);
        // At once: none of the pauses is as long as t3.5.
        let mut tail = [copy, behind].concat();
        if self.way.real || (is_tcp && has(Fault::Halved)) || self.chance.hits(500) {
            frame.append(&mut tail);
        }
        // Of a part the first byte behind it may happen to be the missing one.
        let end = if has(Fault::Torn) || has(Fault::Halved) { 0 } else { end };
        let mut pieces = vec![(frame, whole.then_some(end))];
        // Over TCP the rest of a frame that is no whole one would be the begin of the next.
        if !(is_tcp && has(Fault::Halved)) {
            self.split(&mut pieces);
        }
        if !tail.is_empty() {
            pieces.push((tail, None));
        }
        if is_tcp {
            at = self.after_others(at);
        }
        let count = pieces.len();
        for (index, (bytes, end)) in pieces.into_iter().enumerate() {
            let ends = end.map(|_| number);
            let closes = has(Fault::Closed) && index + 1 == count;
            let connection = if closes { Some(self.connection) } else { only };
            self.plan(at, Piece { bytes, ends, connection, closes });
            // A gateway does not send parts of several frames in turns.
            if !is_tcp {
                at += u32::try_from(self.chance.below(3)).unwrap() * MS / 2;
            }
        }
        at
    }

    /// A time at which nothing else is said.
    fn after_others(&self, mut at: Instant) -> Instant {
        while self.speech.keys().any(|(other, _)| *other == at) {
            at += MS;
        }
        at
    }

    /// Cuts it into pieces, each with the place in it where the answer ends.
    fn split(&mut self, pieces: &mut Vec<(Vec<u8>, Option<usize>)>) {
        while self.chance.hits(200) {
            let Some((mut head, end)) = pieces.pop_if(|(bytes, _)| bytes.len() > 1) else { return };
            let at = 1 + self.chance.index(head.len() - 1);
            let tail = head.split_off(at);
            let (of_head, of_tail) = (end.filter(|end| *end <= at), end.filter(|end| *end > at));
            pieces.extend([(head, of_head), (tail, of_tail.map(|end| end - at))]);
        }
    }

    /// As much as its checksum knows for sure.
    fn flip(&mut self, frame: &mut [u8]) {
        let most = if self.way.framing == Framing::Rtu { 3 } else { 1 };
        for _ in 0..=self.chance.below(most) {
            let at = self.chance.index(frame.len());
            frame[at] ^= 1 << self.chance.below(8);
        }
    }

    fn noise(&mut self) -> Vec<u8> {
        let count = 1 + self.chance.below(8);
        (0..count).map(|_| u8::try_from(self.chance.below(256)).unwrap()).collect()
    }

    fn remember(&mut self, transaction: u16, query: Query, number: u64) {
        if self.answered.len() == REMEMBERED {
            self.answered.remove(0);
        }
        self.answered.push((transaction, query, number));
    }
}
