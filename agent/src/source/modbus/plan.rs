//! Which requests read a group's signals: planned once, from addresses alone.
//!
//! Signals are sorted by table and address, and of all ways to cut that row into
//! requests the one is taken that costs the line least time ([`Cost`]): a hole between
//! two signals is read along where that takes less time than another request. A value
//! is never split over two requests: its halves could be of two moments. What the device
//! is known to refuse is not read, not even along. A request that looks like an answer to
//! itself is none of the ways ([`Query::looks_like_answer`]).

use std::time::Duration;

use super::config::{Config, Device, Table};
use super::cost::Cost;
use super::frame::Query;
use super::refused::Refused;
use crate::units::Period;

/// Sixteen bits are one register's worth of bytes.
pub(super) const BITS_PER_REGISTER: u16 = 16;

/// Where one signal lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) table: Table,
    pub(super) address: u16,
    pub(super) width: u16,
}

impl Span {
    /// The first address behind it.
    pub(super) fn end(self) -> u32 {
        u32::from(self.address) + u32::from(self.width)
    }
}

/// What a device takes, and what it costs to ask it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) registers: u16,
    pub(super) bits: u16,
    /// Longest hole, in registers.
    pub(super) hole: u16,
    /// A request reads one value.
    pub(super) single: bool,
    pub(super) cost: Cost,
}

impl Limits {
    pub(super) fn new(config: &Config, device: &Device) -> Self {
        Self {
            registers: device.max_registers,
            bits: device.max_bits,
            hole: device.max_hole.unwrap_or(u16::MAX),
            single: device.one_value_per_request,
            cost: Cost::new(config, device.latency.map(Period::get)),
        }
    }

    /// Most registers or bits of a request, and of a hole in it.
    const fn of(&self, table: Table) -> (u32, u32) {
        if table.is_bits() {
            (self.bits as u32, self.hole.saturating_mul(BITS_PER_REGISTER) as u32)
        } else {
            (self.registers as u32, self.hole as u32)
        }
    }
}

/// One read of neighbouring addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) table: Table,
    pub(super) address: u16,
    pub(super) count: u16,
    /// The signals in it: index, and offset of its first register or bit.
    pub(super) signals: Vec<(usize, u16)>,
}

impl Request {
    /// As it is asked of a unit.
    pub(super) const fn query(&self, unit: u8) -> Query {
        query(unit, self.table, self.address, self.count)
    }

    /// For messages.
    pub(super) fn range(&self) -> String {
        range(self.table, self.address, self.count)
    }
}

const fn query(unit: u8, table: Table, address: u16, count: u16) -> Query {
    Query { unit, function: table.function(), address, count }
}

/// For messages: `holding 100 to 109`, or `holding 100` alone.
pub(super) fn range(table: Table, address: u16, count: u16) -> String {
    let name = table.as_str();
    match address.saturating_add(count.saturating_sub(1)) {
        last if last == address => format!("{name} {address}"),
        last => format!("{name} {address} to {last}"),
    }
}

/// The fields that lie in one place, such as the bits of a register: never apart.
#[derive(Debug)]
struct Place<'a> {
    span: Span,
    /// With their indexes; at least one.
    fields: &'a [(usize, Span)],
}

/// The requests that read all of `spans` but those that are refused, in the order of
/// their addresses.
pub(super) fn plan(spans: &[Span], limits: Limits, refused: &Refused) -> Vec<Request> {
    let wanted = spans.iter().copied().enumerate().filter(|(_, span)| !refused.is_bad(*span));
    let mut sorted: Vec<(usize, Span)> = wanted.collect();
    sorted.sort_by_key(|(_, span)| *span);
    let places = sorted.chunk_by(|(_, one), (_, next)| one == next);
    let place = |fields| Some(Place { span: <[(usize, Span)]>::first(fields)?.1, fields });
    let places: Vec<Place<'_>> = places.filter_map(place).collect();
    let tables = places.chunk_by(|one, next| one.span.table == next.span.table);
    tables.flat_map(|row| cheapest(row, limits, refused)).collect()
}

/// The cheapest way to read the first places of a row.
#[derive(Debug, Clone, Copy)]
struct Best {
    time: Duration,
    /// The last of its requests: its first place, and where it ends.
    from: usize,
    end: u32,
}

/// The requests for places of one table, sorted by address. Each request that could
/// begin at a place is joined to the best way up to there, so that no better cut is
/// missed; of two as good the one whose first requests are full is taken.
fn cheapest(row: &[Place<'_>], limits: Limits, refused: &Refused) -> Vec<Request> {
    let mut best: Vec<Option<Best>> = vec![None; row.len()];
    let way_to = |best: &[Option<Best>], end: usize| best.get(end.checked_sub(1)?).copied()?;
    for (from, first) in row.iter().enumerate() {
        let before = way_to(&best, from).map_or(Duration::ZERO, |best| best.time);
        for (to, end, count) in ends(row, from, limits, refused) {
            let time = before + limits.cost.of(first.span.table, count);
            if let Some(slot) = best.get_mut(to)
                && slot.is_none_or(|known| time <= known.time)
            {
                *slot = Some(Best { time, from, end });
            }
        }
    }
    let mut requests = Vec::new();
    let mut left = row.len();
    while let Some(last) = way_to(&best, left) {
        requests.extend(request(row.get(last.from..left).unwrap_or_default(), last.end));
        left = last.from;
    }
    requests.reverse();
    requests
}

/// The requests that begin with the place `from`: index of the last place, address
/// behind it, and number of registers or bits. There is always one.
fn ends(
    row: &[Place<'_>],
    from: usize,
    limits: Limits,
    refused: &Refused,
) -> impl Iterator<Item = (usize, u32, u16)> {
    let first = row.get(from).map(|place| place.span);
    let mut end = first.map_or(0, |span| u32::from(span.address));
    let places = row.iter().enumerate().skip(from);
    // Of bits one place is one bit: that looks like no answer.
    let is_sent = move |(_, _, count): &(usize, u32, u16)| {
        first.is_some_and(|span| !query(0, span.table, span.address, *count).looks_like_answer())
    };
    let reach = places.map_while(move |(to, Place { span, .. })| {
        let first = first?;
        let (most, longest) = limits.of(span.table);
        let begin = u32::from(span.address);
        let hole = begin.saturating_sub(end);
        end = end.max(span.end());
        let count = u16::try_from(end - u32::from(first.address)).ok()?;
        let fits = u32::from(count) <= most && hole <= longest;
        let allowed = !limits.single && !refused.is_cut(*span);
        let reads = fits && allowed && !refused.is_within(first.table, first.address, count);
        (to == from || reads).then_some((to, end, count))
    });
    reach.filter(is_sent)
}

/// The request that reads these neighbours, which end before `end`.
fn request(places: &[Place<'_>], end: u32) -> Option<Request> {
    let Span { table, address, .. } = places.first()?.span;
    let count = u16::try_from(end.saturating_sub(address.into())).ok()?;
    let offset = |(index, span): &(usize, Span)| (*index, span.address.saturating_sub(address));
    let signals = places.iter().flat_map(|place| place.fields).map(offset).collect();
    Some(Request { table, address, count, signals })
}

/// The request that reads these signals, which lie in one table and stand in the
/// order of their addresses, and no hole before or behind them. `None` for none.
pub(super) fn exact(spans: &[Span], signals: &[usize]) -> Option<Request> {
    let first = *spans.get(*signals.first()?)?;
    let mut request =
        Request { table: first.table, address: first.address, count: 0, signals: Vec::new() };
    for index in signals {
        let span = spans.get(*index)?;
        let offset = span.address.checked_sub(first.address)?;
        request.count = request.count.max(offset.checked_add(span.width)?);
        request.signals.push((*index, offset));
    }
    Some(request)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::super::cost::tests::cost;
    use super::*;
    use crate::source::modbus::refused::Fact;

    const LINE: &str = "address = \"/dev/ttyS1\"\nserial = { baud = 9600 }";

    /// Over TCP, where a request costs more than all that it can read.
    pub(in super::super) fn limits() -> Limits {
        let cost = cost("address = \"10.0.0.5\"");
        Limits { registers: 125, bits: 2000, hole: u16::MAX, single: false, cost }
    }

    fn holding(address: u16, width: u16) -> Span {
        Span { table: Table::Holding, address, width }
    }

    /// Requests as (table, address, count).
    #[track_caller]
    fn check(spans: &[Span], limits: Limits, expected: &[(Table, u16, u16)]) {
        check_around(spans, limits, &[], expected);
    }

    /// The same around what is refused.
    #[track_caller]
    fn check_around(
        spans: &[Span],
        limits: Limits,
        facts: &[Fact],
        expected: &[(Table, u16, u16)],
    ) {
        let mut refused = Refused::default();
        for fact in facts {
            refused.learn(*fact, Instant::now());
        }
        let requests = plan(spans, limits, &refused);
        let got: Vec<_> = requests.iter().map(|r| (r.table, r.address, r.count)).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn a_thousand_registers_are_eight_requests() {
        let spans: Vec<Span> = (0..1000).map(|a| holding(a, 1)).collect();
        let expected: Vec<_> = (0..8).map(|n| (Table::Holding, n * 125, 125)).collect();
        check(&spans, limits(), &expected);
    }

    #[test]
    fn a_hole_is_read_along_while_that_is_cheaper_than_a_request() {
        let line = Limits { cost: cost(LINE), ..limits() };
        check(&[holding(0, 1), holding(13, 1)], line, &[(Table::Holding, 0, 14)]);
        let two = [(Table::Holding, 0, 1), (Table::Holding, 14, 1)];
        check(&[holding(14, 1), holding(0, 1)], line, &two);
        check(&[holding(0, 1), holding(124, 1)], limits(), &[(Table::Holding, 0, 125)]);
    }

    #[test]
    fn a_hole_longer_than_allowed_is_never_read() {
        let limits = Limits { hole: 16, ..limits() };
        check(&[holding(0, 1), holding(17, 1)], limits, &[(Table::Holding, 0, 18)]);
        let two = [(Table::Holding, 0, 1), (Table::Holding, 18, 1)];
        check(&[holding(18, 1), holding(0, 1)], limits, &two);
    }

    #[test]
    fn a_device_without_holes_gets_exact_requests() {
        let limits = Limits { hole: 0, ..limits() };
        let two = [(Table::Holding, 0, 2), (Table::Holding, 3, 1)];
        check(&[holding(0, 1), holding(1, 1), holding(3, 1)], limits, &two);
    }

    #[test]
    fn a_device_that_takes_one_value_gets_a_request_for_each() {
        let limits = Limits { single: true, ..limits() };
        let spans = [holding(0, 2), holding(2, 1), holding(2, 1), holding(2, 2)];
        let three = [(Table::Holding, 0, 2), (Table::Holding, 2, 1), (Table::Holding, 2, 2)];
        check(&spans, limits, &three);
    }

    #[test]
    fn a_cut_lies_in_the_widest_hole() {
        // Filling the first request up to 125 would read the wide hole, too.
        let spans = [holding(0, 1), holding(60, 1), holding(120, 1), holding(130, 1)];
        let two = [(Table::Holding, 0, 61), (Table::Holding, 120, 11)];
        check(&spans, limits(), &two);
    }

    #[test]
    fn a_value_is_never_split_over_two_requests() {
        let limits = Limits { registers: 5, ..limits() };
        let two = [(Table::Holding, 0, 4), (Table::Holding, 4, 4)];
        check(&[holding(0, 2), holding(2, 2), holding(4, 4)], limits, &two);
    }

    #[test]
    fn bits_of_one_register_share_it() {
        check(&[holding(7, 1), holding(7, 1), holding(7, 2)], limits(), &[(Table::Holding, 7, 2)]);
    }

    #[test]
    fn tables_are_read_apart_and_holes_of_bits_are_wider() {
        let bit = |table, address| Span { table, address, width: 1 };
        let spans = [
            bit(Table::Coil, 0),
            bit(Table::Coil, 257),
            bit(Table::Coil, 2_300),
            bit(Table::Discrete, 1),
            holding(0, 1),
        ];
        let expected = [
            (Table::Coil, 0, 258),
            (Table::Coil, 2_300, 1),
            (Table::Discrete, 1, 1),
            (Table::Holding, 0, 1),
        ];
        check(&spans, Limits { hole: 16, ..limits() }, &expected);
    }

    #[test]
    fn what_looks_like_an_answer_to_itself_is_never_one_request() {
        let row = |table: Table, address: u16, count: u16| -> Vec<Span> {
            (address..address + count).map(|address| Span { table, address, width: 1 }).collect()
        };
        for table in [Table::Coil, Table::Discrete] {
            let two = [(table, 784, 16), (table, 800, 8)];
            check(&row(table, 784, 24), limits(), &two);
            for (address, count) in [(784, 16), (784, 25), (767, 24), (1024, 24)] {
                check(&row(table, address, count), limits(), &[(table, address, count)]);
            }
            let short = [(table, 768, 16), (table, 784, 14)];
            check(&row(table, 768, 30), Limits { bits: 20, ..limits() }, &short);
            // The hole between two of them counts.
            let ends = [row(table, 1_000, 1), row(table, 1_019, 1)].concat();
            check(&ends, limits(), &[(table, 1_000, 1), (table, 1_019, 1)]);
        }
        check(&row(Table::Holding, 784, 24), limits(), &[(Table::Holding, 784, 24)]);
    }

    #[test]
    fn the_last_address_can_be_read() {
        check(&[holding(65_535, 1)], limits(), &[(Table::Holding, 65_535, 1)]);
    }

    /// The time of the best of all ways to cut the row, each tried.
    fn best_of_all(spans: &[Span], limits: Limits) -> Duration {
        let mut row = spans.to_vec();
        row.sort_by_key(|span| (span.address, span.width));
        let ways = 0..1_u32 << (row.len() - 1);
        let times = ways.filter_map(|cuts| {
            let mut groups: Vec<Vec<Span>> = Vec::new();
            for (index, span) in row.iter().enumerate() {
                match groups.last_mut() {
                    Some(last) if cuts >> (index - 1) & 1 == 0 => last.push(*span),
                    _ => groups.push(vec![*span]),
                }
            }
            groups
                .iter()
                .map(|group| {
                    let mut covered = u32::from(group[0].address);
                    for span in group {
                        if u32::from(span.address) > covered + u32::from(limits.hole) {
                            return None;
                        }
                        covered = covered.max(u32::from(span.address + span.width));
                    }
                    let count = u16::try_from(covered).unwrap() - group[0].address;
                    (count <= limits.registers).then(|| limits.cost.of(Table::Holding, count))
                })
                .sum::<Option<Duration>>()
        });
        times.min().unwrap()
    }

    #[test]
    fn what_is_refused_is_not_read_even_along() {
        let spans: Vec<Span> = (0..10).map(|address| holding(address, 1)).collect();
        let bad = [Fact::Bad(holding(4, 1)), Fact::Bad(holding(9, 1))];
        let around = [(Table::Holding, 0, 4), (Table::Holding, 5, 4)];
        check_around(&spans, limits(), &bad, &around);
        let apart = [(Table::Holding, 0, 7), (Table::Holding, 7, 3)];
        check_around(&spans, limits(), &[Fact::Cut(holding(7, 1))], &apart);
    }

    #[test]
    fn bits_of_a_cut_register_stay_together() {
        let spans = [holding(6, 1), holding(7, 1), holding(7, 1)];
        let apart = [(Table::Holding, 6, 1), (Table::Holding, 7, 1)];
        check_around(&spans, limits(), &[Fact::Cut(holding(7, 1))], &apart);
    }

    proptest! {
        #[test]
        fn every_signal_is_read_whole_within_the_limits(
            places in prop::collection::vec((any::<u16>(), 1u16..5), 0..200),
            registers in 4u16..126,
            hole in 0u16..40,
        ) {
            let spans: Vec<Span> = places.iter().map(|(a, w)| holding(a % 65_000, *w)).collect();
            let limits = Limits { registers, hole, ..limits() };
            let requests = plan(&spans, limits, &Refused::default());
            let mut seen = vec![0; spans.len()];
            for request in &requests {
                prop_assert!(request.count <= registers);
                for (index, offset) in &request.signals {
                    seen[*index] += 1;
                    prop_assert_eq!(request.address + offset, spans[*index].address);
                    prop_assert!(offset + spans[*index].width <= request.count);
                }
            }
            prop_assert!(seen.iter().all(|count| *count == 1));
        }

        #[test]
        fn no_other_cut_takes_less_time(
            places in prop::collection::vec((0u16..160, 1u16..5), 1..9),
            registers in 4u16..126,
            hole in 0u16..100,
            slow in any::<bool>(),
        ) {
            let spans: Vec<Span> = places.iter().map(|(a, w)| holding(*a, *w)).collect();
            let cost = if slow { cost(LINE) } else { limits().cost };
            let limits = Limits { registers, hole, cost, ..limits() };
            let requests = plan(&spans, limits, &Refused::default());
            let time: Duration = requests.iter().map(|r| cost.of(r.table, r.count)).sum();
            prop_assert_eq!(time, best_of_all(&spans, limits));
        }
    }
}
