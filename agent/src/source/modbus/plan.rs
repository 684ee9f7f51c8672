//! Which requests read a group's signals: planned once, from addresses alone.
//!
//! Signals are sorted by table and address; neighbours share a request while
//! the hole between them is small and the device takes that many at once. A
//! value is never split over two requests: its halves could be of two moments.

use super::config::Table;

/// Most unused registers that are read along. A request and its answer cost
/// 21 bytes of frame, two system calls, a wake-up and a round trip of half a
/// millisecond at best; 16 registers are 32 bytes in packets that are sent anyhow.
pub(super) const HOLE: u16 = 16;

/// Sixteen bits are one register's worth of bytes.
const BITS_PER_REGISTER: u16 = 16;

/// Where one signal lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) table: Table,
    pub(super) address: u16,
    pub(super) width: u16,
}

/// What a device takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) registers: u16,
    pub(super) bits: u16,
    /// In registers.
    pub(super) hole: u16,
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
    /// For messages: `holding 100 to 109`.
    pub(super) fn range(&self) -> String {
        let last = self.address.saturating_add(self.count.saturating_sub(1));
        format!("{} {} to {last}", self.table.as_str(), self.address)
    }
}

/// The requests that read all of `spans`.
pub(super) fn plan(spans: &[Span], limits: Limits) -> Vec<Request> {
    let mut sorted: Vec<(usize, &Span)> = spans.iter().enumerate().collect();
    sorted.sort_by_key(|(_, span)| (span.table, span.address, span.width));
    let mut requests: Vec<Request> = Vec::new();
    for (index, span) in sorted {
        if let Some(last) = requests.last_mut()
            && let Some(count) = joined(last, *span, limits)
        {
            last.count = count;
            last.signals.push((index, span.address.saturating_sub(last.address)));
        } else {
            requests.push(Request {
                table: span.table,
                address: span.address,
                count: span.width,
                signals: vec![(index, 0)],
            });
        }
    }
    requests
}

/// How many registers or bits the request reads with `span` in it too; `None`
/// where it needs a request of its own. `span` does not start before it.
fn joined(request: &Request, span: Span, limits: Limits) -> Option<u16> {
    if span.table != request.table {
        return None;
    }
    let (most, hole) = if span.table.is_bits() {
        (limits.bits, limits.hole.saturating_mul(BITS_PER_REGISTER))
    } else {
        (limits.registers, limits.hole)
    };
    let offset = span.address.checked_sub(request.address)?;
    let count = offset.checked_add(span.width)?.max(request.count);
    (offset.saturating_sub(request.count) <= hole && count <= most).then_some(count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { registers: 125, bits: 2000, hole: HOLE };

    fn holding(address: u16, width: u16) -> Span {
        Span { table: Table::Holding, address, width }
    }

    /// Requests as (table, address, count).
    #[track_caller]
    fn check(spans: &[Span], limits: Limits, expected: &[(Table, u16, u16)]) {
        let requests = plan(spans, limits);
        let got: Vec<_> = requests.iter().map(|r| (r.table, r.address, r.count)).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn a_thousand_registers_are_eight_requests() {
        let spans: Vec<Span> = (0..1000).map(|a| holding(a, 1)).collect();
        let expected: Vec<_> = (0..8).map(|n| (Table::Holding, n * 125, 125)).collect();
        check(&spans, LIMITS, &expected);
    }

    #[test]
    fn a_hole_of_sixteen_is_read_along_and_one_of_seventeen_is_not() {
        check(&[holding(0, 1), holding(17, 1)], LIMITS, &[(Table::Holding, 0, 18)]);
        let two = [(Table::Holding, 0, 1), (Table::Holding, 18, 1)];
        check(&[holding(18, 1), holding(0, 1)], LIMITS, &two);
    }

    #[test]
    fn a_device_without_holes_gets_exact_requests() {
        let limits = Limits { hole: 0, ..LIMITS };
        let two = [(Table::Holding, 0, 2), (Table::Holding, 3, 1)];
        check(&[holding(0, 1), holding(1, 1), holding(3, 1)], limits, &two);
    }

    #[test]
    fn a_value_is_never_split_over_two_requests() {
        let limits = Limits { registers: 5, ..LIMITS };
        let two = [(Table::Holding, 0, 4), (Table::Holding, 4, 4)];
        check(&[holding(0, 2), holding(2, 2), holding(4, 4)], limits, &two);
    }

    #[test]
    fn bits_of_one_register_share_it() {
        check(&[holding(7, 1), holding(7, 1), holding(7, 2)], LIMITS, &[(Table::Holding, 7, 2)]);
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
        check(&spans, LIMITS, &expected);
    }

    #[test]
    fn the_last_address_can_be_read() {
        check(&[holding(65_535, 1)], LIMITS, &[(Table::Holding, 65_535, 1)]);
    }

    proptest! {
        #[test]
        fn every_signal_is_read_whole_within_the_limits(
            places in prop::collection::vec((any::<u16>(), 1u16..5), 0..200),
            registers in 4u16..126,
            hole in 0u16..40,
        ) {
            let spans: Vec<Span> = places.iter().map(|(a, w)| holding(a % 65_000, *w)).collect();
            let requests = plan(&spans, Limits { registers, bits: 2000, hole });
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
    }
}
