//! What was asked and may still be answered: on a line without transaction ids
//! the only way to know a late answer from the right one.
//!
//! An answer of RTU or ASCII says unit, function and length, and nothing of
//! what it answers. After a time-out, the late answer to one read is, to the
//! bit, the right answer to another of the same [`Shape`]. So each request is
//! noted before it is sent and stays noted until it is known that its answer
//! has come or never will. Two facts decide that:
//!
//! - **A unit answers in the order in which it was asked**, and a line does not
//!   reorder. What came after a request was answered cannot be followed by an
//!   answer to what was asked before.
//! - **A request is answered at most once**, besides copies that follow at once:
//!   those are thrown away as surplus (`line`), which notes the shape again.
//!
//! So a frame counts as the answer only if the request just sent is the only
//! one noted that it fits; and then all that was noted of its unit is over. A
//! frame that fits several tells nothing but that the first of them is over, and
//! all that was sent before it. A request of a noted shape would get such a
//! frame, so that a probe goes first: a read whose answer is of another shape.
//! An exception has no length, so that it fits all of its function.
//!
//! The notes outlive the connection: a serial device server hands late bytes to
//! whoever connects next. Where there are two ways to the line, each has a queue of its
//! own, and the first fact holds within one of them. So an answer ends what was asked by
//! its own way alone. What was asked by the other is set aside, for on a line that both
//! share the device has done with it, and counts again when that way is taken again.

use std::cmp::Reverse;
use std::iter::successors;

use super::frame::{Body, Frame, Query};

/// Most notes of one unit. To be answered later than that, a request would have
/// to be held back by the device or the line with 256 others behind it.
const MOST_NOTED: usize = 256;

/// Lengths of probes beyond what is surely there: a few, in case that one of
/// them is itself still to be answered.
const MOST_MORE: u16 = 4;

/// What tells the answer to one query from the answer to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    unit: u8,
    function: u8,
    length: usize,
}

/// A request that may still be answered.
#[derive(Debug, Clone, Copy)]
struct Noted {
    shape: Shape,
    /// Which of two ways it was sent by.
    by_second: bool,
    /// The other way has answered since.
    aside: bool,
}

/// All that may still be answered.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// In the order in which it was sent.
    noted: Vec<Noted>,
    /// Which of two ways is in use.
    by_second: bool,
    transaction: u16,
    /// Probes so far: they take turns, as a device may leave one kind unanswered.
    probes: usize,
}

/// What a frame is to the request just sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Its answer and nobody else's.
    Answer,
    /// Its answer, or the late one to an earlier request.
    Doubtful,
    /// The late answer to an earlier request.
    Late,
    /// Nothing that was asked.
    Foreign,
}

impl Shape {
    fn of(query: Query) -> Self {
        Self { unit: query.unit, function: query.function, length: query.length() }
    }

    fn fits(self, frame: &Frame) -> bool {
        let same = self.unit == frame.unit && self.function == frame.function;
        same && match &frame.body {
            Body::Exception(_) => true,
            Body::Data(data) => data.len() == self.length,
        }
    }
}

impl Late {
    /// The id of the next request, where there are such; it goes on over all
    /// connections.
    pub(super) const fn transaction(&mut self) -> u16 {
        self.transaction = self.transaction.wrapping_add(1);
        self.transaction
    }

    /// From now on requests go by the first or the second of two ways.
    pub(super) fn take_way(&mut self, second: bool) {
        self.by_second = second;
        for noted in self.noted.iter_mut().filter(|noted| noted.by_second == second) {
            noted.aside = false;
        }
    }

    /// Notes a request; right before it is sent, so that one which is broken
    /// off half-way is noted too.
    pub(super) fn note(&mut self, query: Query) {
        let (shape, by_second) = (Shape::of(query), self.by_second);
        self.noted.push(Noted { shape, by_second, aside: false });
        let is_of_unit = |noted: &Noted| noted.shape.unit == query.unit;
        if self.noted.iter().filter(|noted| is_of_unit(noted)).count() > MOST_NOTED
            && let Some(oldest) = self.noted.iter().position(is_of_unit)
        {
            self.noted.remove(oldest);
        }
    }

    /// Nothing that was asked may still be answered.
    pub(super) fn is_clear(&self) -> bool {
        self.noted.iter().all(|noted| noted.aside)
    }

    /// Whether the answer to this query could not be told from a late one.
    pub(super) fn clouds(&self, query: Query) -> bool {
        let shape = Shape::of(query);
        self.noted.iter().any(|noted| !noted.aside && noted.shape == shape)
    }

    /// Takes a frame that came after `query` was sent, the last request of all.
    pub(super) fn heard(&mut self, query: Query, frame: &Frame) -> Heard {
        let fits = |noted: &Noted| !noted.aside && noted.shape.fits(frame);
        let Some(first) = self.noted.iter().position(fits) else { return Heard::Foreign };
        let ours = Shape::of(query).fits(frame);
        if ours && self.noted.iter().filter(|noted| fits(noted)).count() == 1 {
            self.end(frame.unit, self.noted.len());
            return Heard::Answer;
        }
        // One that is surely late is left noted: a copy of it may follow.
        self.end(frame.unit, if ours { first + 1 } else { first });
        if ours { Heard::Doubtful } else { Heard::Late }
    }

    /// So many of all notes are over, as far as they are this unit's.
    fn end(&mut self, unit: u8, over: usize) {
        let by_second = self.by_second;
        let mut place = 0;
        self.noted.retain_mut(|noted| {
            place += 1;
            if place > over || noted.shape.unit != unit {
                return true;
            }
            noted.aside = true;
            noted.by_second != by_second
        });
    }

    /// The read that goes before `query` to learn whether anything is still to
    /// come: any other shape of the same unit, in turns.
    ///
    /// - **Fewer** registers of the same ones, which a device that gives all of
    ///   them gives too. Some can be read only as a block, though.
    /// - **More**, where there cannot be fewer.
    /// - **Another function**, 4 for 3 and 2 for 1 and the reverse. Also
    ///   "illegal function" proves that all which was asked before is over. Some
    ///   devices say nothing at all, though.
    pub(super) fn probe(&mut self, query: Query) -> Query {
        let step = if query.is_bits() { 8 } else { 1 };
        let turn = self.probes;
        self.probes = self.probes.wrapping_add(1);
        let fewer = successors(query.count.checked_sub(step), |count| count.checked_sub(step));
        let fewer: Vec<Query> =
            fewer.take_while(|count| *count > 0).map(|count| Query { count, ..query }).collect();
        // What is surely there first.
        if turn.is_multiple_of(2) == fewer.is_empty() {
            let function = match query.function {
                1 => 2,
                2 => 1,
                3 => 4,
                _ => 3,
            };
            let other = |more: u16| Query { function, count: 1 + more * step, ..query };
            self.telling(query, (0..MOST_MORE).map(other))
        } else if fewer.is_empty() {
            self.telling(query, (1..=MOST_MORE).map(|more| wider(query, more * step)))
        } else {
            self.telling(query, fewer.into_iter())
        }
    }

    /// The probe whose answer, even if it is a late one itself, says of most that
    /// it is over; none that looks like its answer, for it would be seen as an echo.
    fn telling(&self, query: Query, probes: impl Iterator<Item = Query>) -> Query {
        let first = |probe: &Query| {
            let shape = Shape::of(*probe);
            self.noted.iter().position(|noted| noted.shape == shape).unwrap_or(usize::MAX)
        };
        let sent = probes.filter(|probe| !probe.looks_like_answer());
        sent.min_by_key(|probe| Reverse(first(probe))).unwrap_or(query)
    }
}

/// As many more that the answer is longer, before the query's where it stands
/// at the end of the addresses.
fn wider(query: Query, more: u16) -> Query {
    let count = query.count.saturating_add(more);
    let address = query.address.min(u16::MAX - (count - 1));
    Query { address, count, ..query }
}

#[cfg(test)]
#[path = "late_tests.rs"]
mod tests;
