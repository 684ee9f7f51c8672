//! Which value each place had for which request, and whether an event says that.

use std::collections::BTreeSet;

use super::super::super::frame::Query;
use super::*;

/// What one request asked for.
#[derive(Debug)]
struct Question {
    query: Query,
    number: u64,
    asked: Instant,
    /// All of its answer was said while it was waited for.
    in_time: bool,
}

/// The requests since the last event, and what was good.
#[derive(Debug)]
pub(super) struct Judge {
    questions: Vec<Question>,
    /// Requests so far.
    number: u64,
    /// A good value of these has not come since all is well.
    missing: BTreeSet<Spot>,
    /// Values that were good.
    good: u64,
}

/// The number in a register, or the bit that is its lowest, when this request is answered.
pub(super) fn register(unit: u8, function: u8, address: u16, number: u64) -> u16 {
    let place = u64::from(unit) << 24 | u64::from(function) << 16 | u64::from(address);
    let mut mixed = Chance::of(number << 32 ^ place);
    let any = u16::try_from(mixed.below(1 << 16)).unwrap();
    if (unit, function) == (sunspec::UNIT, 3) { sunspec::register(address, any) } else { any }
}

impl Judge {
    pub(super) const fn new() -> Self {
        Self { questions: Vec::new(), number: 0, missing: BTreeSet::new(), good: 0 }
    }

    /// Another request; gives its number.
    pub(super) fn asked(&mut self, query: Query) -> u64 {
        self.number += 1;
        let (number, asked) = (self.number, Instant::now());
        self.questions.push(Question { query, number, asked, in_time: false });
        number
    }

    /// The whole answer to a request was said, which is waited for so long. Once there is
    /// another request nobody waits any more.
    pub(super) fn said(&mut self, number: u64, wait: impl Fn(Query) -> Duration) {
        if let Some(last) = self.questions.last_mut()
            && last.number == number
        {
            last.in_time |= last.asked.elapsed() <= wait(last.query);
        }
    }

    pub(super) const fn good(&self) -> u64 {
        self.good
    }

    /// From now on all is well: every place is to be good again.
    pub(super) fn expect_all(&mut self) {
        let all = GROUPS.iter().flat_map(|group| group.iter());
        self.missing = all.flat_map(|read| read.signals()).chain(sunspec::spots()).collect();
    }

    pub(super) fn missing(&self) -> &BTreeSet<Spot> {
        &self.missing
    }

    /// Takes all events that were handed over before the next request comes.
    pub(super) fn look(&mut self, commits: &mut TestCommits) -> Result<(), String> {
        while let Ok((ticket, delivery)) = commits.deliveries.try_recv() {
            commits.commit(ticket);
            for event in &delivery.events {
                self.judge(event)?;
            }
            self.questions.clear();
        }
        Ok(())
    }

    fn judge(&mut self, event: &Event) -> Result<(), String> {
        let mut good = Vec::new();
        for field in &event.fields {
            let quality = field.quality.unwrap_or(event.quality);
            let spot = Spot::of(&event.device, &field.name);
            match (&field.value, quality) {
                (Value::Null, Quality::Good) => {
                    return Err(format!("{spot:?} has neither a value nor a quality"));
                }
                (Value::Null, _) => {}
                (value, Quality::Good) => good.push((spot, value)),
                (value, quality) => return Err(format!("{spot:?} is {value:?} and {quality:?}")),
            }
        }
        self.good += good.len() as u64;
        self.missing.retain(|missing| !good.iter().any(|(spot, _)| spot == missing));
        // Whatever was answered last holds, and of an answer all that it covers.
        for question in self.questions.iter().rev().filter(|question| question.in_time) {
            let is_of = |(spot, _): &(Spot, &Value)| question.covers(*spot);
            let is_right = |(spot, value): &(Spot, &Value)| question.value(*spot) == **value;
            if good.iter().filter(|one| is_of(one)).all(is_right) {
                good.retain(|one| !is_of(one));
            }
        }
        match good.first() {
            None => Ok(()),
            Some((spot, value)) => {
                let query = Query {
                    unit: spot.unit,
                    function: spot.function,
                    address: spot.address,
                    count: spot.width,
                };
                let stood = |number: &u64| {
                    let asked = Instant::now();
                    Question { query, number: *number, asked, in_time: true }.value(*spot)
                        == **value
                };
                let of = (1..=self.number).rev().find(stood);
                Err(format!(
                    "{spot:?} is {value:?}, as it was for request {of:?}, of which nothing was answered in {:?}",
                    self.questions
                ))
            }
        }
    }
}

impl Question {
    fn covers(&self, spot: Spot) -> bool {
        let query = self.query;
        let (begin, end) =
            (u32::from(query.address), u32::from(query.address) + u32::from(query.count));
        let same = (query.unit, query.function) == (spot.unit, spot.function);
        let (first, behind) =
            (u32::from(spot.address), u32::from(spot.address) + u32::from(spot.width));
        same && begin <= first && behind <= end
    }

    /// What stood there when this was answered.
    fn value(&self, spot: Spot) -> Value {
        let at = |n: u16| register(spot.unit, spot.function, spot.address + n, self.number);
        match spot.width {
            _ if spot.unit == sunspec::UNIT => sunspec::value(spot, at),
            _ if spot.function < 3 => Value::Bool(at(0) & 1 == 1),
            1 => Value::U64(at(0).into()),
            _ => Value::U64(u64::from(at(0)) << 16 | u64::from(at(1))),
        }
    }
}
