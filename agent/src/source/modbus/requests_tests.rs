use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::source::modbus::config::Table;
use crate::source::modbus::plan::tests::limits;
use crate::source::modbus::refused::{FIRST_REST, LONGEST_REST};

fn narrow() -> Limits {
    Limits { hole: 16, ..limits() }
}

const fn holding(address: u16, width: u16) -> Span {
    Span { table: Table::Holding, address, width }
}

fn row(addresses: std::ops::Range<u16>) -> Requests {
    Requests::new(addresses.map(|address| holding(address, 1)).collect(), narrow())
}

/// A device that does not have some addresses, in whichever table, and gives only
/// so many at once.
#[derive(Debug, Clone)]
struct Device {
    lacks: BTreeSet<u16>,
    most: u16,
}

impl Device {
    fn lacking(addresses: impl IntoIterator<Item = u16>) -> Self {
        Self { lacks: addresses.into_iter().collect(), most: u16::MAX }
    }

    fn gives(&self, request: &Request) -> bool {
        let last = request.address + (request.count - 1);
        request.count <= self.most && self.lacks.range(request.address..=last).next().is_none()
    }
}

/// One cycle: what was asked, and whether it was answered.
fn cycle(requests: &mut Requests, device: &Device, now: Instant) -> Vec<(Request, bool)> {
    let mut asked = Vec::new();
    requests.begin();
    while let Some(request) = requests.next(now).cloned() {
        let gives = device.gives(&request);
        if gives {
            requests.answered(now);
        } else {
            requests.refused(now);
        }
        asked.push((request, gives));
    }
    asked
}

/// The first address and the number of each request.
fn ranges(asked: &[(Request, bool)]) -> Vec<(u16, u16)> {
    asked.iter().map(|(request, _)| (request.address, request.count)).collect()
}

/// Cycles until all is answered; gives the last, and how many requests were not
/// planned or planned in vain.
fn search(requests: &mut Requests, device: &Device, now: Instant) -> (Vec<(Request, bool)>, usize) {
    let mut surplus = 0;
    for _ in 0..1_000 {
        requests.begin();
        let planned = requests.count();
        let asked = cycle(requests, device, now);
        assert!(asked.len() <= planned + EXTRA, "a cycle holds up the bus");
        let answered = asked.iter().take(planned).filter(|(_, gives)| *gives).count();
        surplus += asked.len() - answered;
        if asked.len() == answered && requests.trials.is_empty() {
            return (asked, surplus);
        }
    }
    panic!("the search does not end: {requests:?}");
}

fn ceil_log2(number: usize) -> usize {
    usize::try_from(number.next_power_of_two().trailing_zeros()).unwrap()
}

proptest! {
    #[test]
    fn the_search_ends_and_finds_exactly_what_is_refused(
        places in prop::collection::vec((0_u16..150, 1_u16..5, 0_u8..4), 1..60),
        lacks in prop::collection::btree_set(0_u16..155, 0..20),
        most in prop_oneof![Just(u16::MAX), 4_u16..80],
        hole in prop_oneof![Just(16_u16), Just(u16::MAX)],
    ) {
        let limits = Limits { hole, ..limits() };
        let table = |number| if number == 0 { Table::Coil } else { Table::Holding };
        let span = |(address, width, number)| Span { table: table(number), address, width };
        let spans: Vec<Span> = places.into_iter().map(span).collect();
        let (device, now) = (Device { lacks, most }, Instant::now());
        let mut requests = Requests::new(spans.clone(), limits);
        let (last, surplus) = search(&mut requests, &device, now);

        let mut read = vec![0; spans.len()];
        for (index, _) in last.iter().flat_map(|(request, _)| &request.signals) {
            read[*index] += 1;
        }
        for (span, read) in spans.iter().zip(read) {
            let end = span.address + span.width;
            let is_good = device.lacks.range(span.address..end).next().is_none();
            prop_assert_eq!(read, usize::from(is_good), "{:?}", span);
            prop_assert_eq!(requests.refused.is_bad(*span), !is_good, "{:?}", span);
        }

        let facts: Vec<Fact> = requests.facts().collect();
        let places: BTreeSet<Span> = spans.iter().copied().collect();
        let most_requests = facts.len() * (1 + 4 * ceil_log2(places.len()));
        prop_assert!(surplus <= most_requests, "{} of {}", surplus, most_requests);
        if most == u16::MAX {
            for question in facts.iter().filter_map(|fact| requests.question(*fact)) {
                prop_assert!(!device.gives(&question), "read apart for nothing: {:?}", question);
            }
        }

        let mut restarted = Requests::new(spans.clone(), limits);
        restarted.remember(facts.iter().copied(), now);
        prop_assert_eq!(&cycle(&mut restarted, &device, now), &last);
        prop_assert!(!restarted.take_unsaved());

        let mended = Device::lacking([]);
        let new = Requests::new(spans, limits);
        requests.doubt(now);
        for hour in 0..=2 * u32::try_from(facts.len()).unwrap() {
            cycle(&mut requests, &mended, now + hour * LONGEST_REST);
        }
        for fact in requests.facts() {
            prop_assert_eq!(requests.question(fact), None, "{:?} still holds", fact);
        }
        let plan = |requests: &Requests| -> Vec<Request> {
            requests.planned.iter().map(|ask| ask.request.clone()).collect()
        };
        requests.begin();
        prop_assert_eq!(plan(&requests), plan(&new));
    }

    #[test]
    fn also_in_a_search_no_request_looks_like_an_answer_to_itself(
        bits in prop::collection::btree_set(768_u16..840, 1..60),
        lacks in prop::collection::btree_set(768_u16..840, 0..20),
        most in prop_oneof![Just(u16::MAX), 1_u16..40],
    ) {
        let span = |address| Span { table: Table::Coil, address, width: 1 };
        let spans: Vec<Span> = bits.iter().copied().map(span).collect();
        let (device, now) = (Device { lacks, most }, Instant::now());
        let (mut requests, mut read) = (Requests::new(spans, limits()), BTreeSet::new());
        for _ in 0..200 {
            let asked = cycle(&mut requests, &device, now);
            prop_assert!(!asked.iter().any(|(request, _)| request.query(1).looks_like_answer()));
            let given = asked.iter().filter(|(_, gives)| *gives);
            read = given.flat_map(|(request, _)| &request.signals).map(|(at, _)| *at).collect();
        }
        let has = |at: &usize| requests.spans.get(*at).is_some_and(|s| !device.lacks.contains(&s.address));
        prop_assert_eq!(read, (0..bits.len()).filter(has).collect());
        prop_assert!(!requests.is_searching(now));
    }

    #[test]
    fn whatever_a_device_says_the_search_panics_nowhere_and_stays_bounded(
        places in prop::collection::vec((any::<u16>(), 1_u16..5), 1..40),
        said in prop::collection::vec(0_u8..4, 0..400),
    ) {
        let spans = places.into_iter().map(|(a, w)| holding(a % 65_530, w)).collect();
        let (mut requests, mut now) = (Requests::new(spans, narrow()), Instant::now());
        let mut said = said.into_iter();
        for _ in 0..100 {
            now += FIRST_REST / 4;
            requests.begin();
            let most = requests.count() + EXTRA;
            let mut asked = 0;
            while requests.next(now).is_some() {
                asked += 1;
                match said.next() {
                    Some(0) => requests.refused(now),
                    Some(1) => requests.unable(now),
                    Some(2) => {
                        requests.failed(now, 1);
                        break;
                    }
                    _ => requests.answered(now),
                }
            }
            prop_assert!(asked <= most);
            let mut places: BTreeMap<usize, u32> = BTreeMap::new();
            for (index, _) in requests.asks().flat_map(|ask| &ask.request.signals) {
                *places.entry(*index).or_default() += 1;
            }
            prop_assert!(places.values().all(|count| *count == 1), "a signal is read twice");
        }
    }
}

#[test]
fn neighbours_of_a_bad_place_are_read_in_as_few_requests_as_can_be() {
    let (mut requests, now) = (row(0..16), Instant::now());
    let device = Device::lacking([5]);
    let first = cycle(&mut requests, &device, now);
    assert_eq!(ranges(&first), [(0, 16), (8, 8), (0, 8), (4, 4), (0, 4)]);
    let (last, _) = search(&mut requests, &device, now);
    assert_eq!(ranges(&last), [(0, 5), (6, 10)]);
    assert!(requests.take_untold() && requests.take_unsaved());
    assert!(!requests.take_untold() && !requests.take_unsaved());
}

#[test]
fn where_requests_are_cut_it_is_known_whether_a_hole_is_the_cause() {
    let spans: Vec<Span> = [0, 10].into_iter().chain(20..40).map(|at| holding(at, 1)).collect();
    let (mut requests, now) = (Requests::new(spans, narrow()), Instant::now());
    search(&mut requests, &Device { most: 14, ..Device::lacking([5]) }, now);
    let cuts: Vec<_> = requests.cuts().map(|(span, hole)| (span.address, hole)).collect();
    assert_eq!(cuts.first(), Some(&(10, 9)));
    assert!(cuts.iter().skip(1).any(|(_, hole)| *hole == 0), "{cuts:?}");
}

#[test]
fn of_several_holes_only_the_refused_one_is_not_read_along() {
    let spans = [0, 10, 20, 30].map(|address| holding(address, 2)).to_vec();
    let mut requests = Requests::new(spans, narrow());
    let (last, _) = search(&mut requests, &Device::lacking([25]), Instant::now());
    assert_eq!(ranges(&last), [(0, 22), (30, 2)]);
    assert!(!requests.bad_signals().any(|_| true), "no signal is bad");
}

#[test]
fn a_hole_is_suspected_before_what_lies_side_by_side() {
    let spans = (0..2).chain(10..16).map(|address| holding(address, 1)).collect();
    let mut requests = Requests::new(spans, narrow());
    let first = cycle(&mut requests, &Device::lacking([7]), Instant::now());
    assert_eq!(ranges(&first), [(0, 16), (10, 6), (0, 2)]);
}

#[test]
fn what_was_refused_is_asked_again_alone_and_one_place_in_a_cycle() {
    let (mut requests, now) = (row(0..8), Instant::now());
    let device = Device::lacking([2, 5]);
    search(&mut requests, &device, now);
    let planned = [(0, 2), (3, 2), (6, 2)];
    let asked = |requests: &mut Requests, device: &Device, now| {
        let asked = ranges(&cycle(requests, device, now));
        assert_eq!(asked[..3], planned);
        asked[3..].to_vec()
    };
    let due = now + FIRST_REST;
    assert_eq!(asked(&mut requests, &device, due - Duration::from_millis(1)), []);
    let two = [asked(&mut requests, &device, due), asked(&mut requests, &device, due)].concat();
    assert_eq!(two, [(2, 1), (5, 1)]);
    assert_eq!(asked(&mut requests, &device, due), []);
    assert_eq!(asked(&mut requests, &device, due + FIRST_REST), []);
    assert_eq!(requests.facts().count(), 2);
    assert!(!requests.take_untold() || requests.take_unsaved());
}

#[test]
fn a_place_that_is_answered_again_is_read_with_its_neighbours() {
    let (mut requests, now) = (row(0..8), Instant::now());
    search(&mut requests, &Device::lacking([2, 5]), now);
    assert!(requests.take_unsaved());
    let (device, later) = (Device::lacking([5]), now + FIRST_REST);
    requests.refused.still(Fact::Bad(holding(5, 1)), later);
    cycle(&mut requests, &device, later);
    assert!(requests.take_untold() && requests.take_unsaved());
    assert_eq!(requests.refused.doubtful(later), None, "the other one was asked too");
    let asked = cycle(&mut requests, &device, later);
    assert_eq!(ranges(&asked), [(0, 5), (6, 2)]);
    assert!(!requests.take_unsaved(), "it is refused as before");
}

/// Steps between two cycles until there is nothing more to find out; gives how many.
fn steps(requests: &mut Requests, device: &Device, now: Instant) -> usize {
    let mut steps = 0;
    while requests.is_searching(now) {
        requests.step();
        let mut asked = 0;
        while let Some(request) = requests.next(now).cloned() {
            asked += 1;
            if device.gives(&request) {
                requests.answered(now);
            } else {
                requests.refused(now);
            }
        }
        assert!(asked <= 1, "a step is one request");
        steps += asked;
        assert!(steps < 10_000, "the search does not end: {requests:?}");
    }
    steps
}

#[test]
fn a_search_that_a_cycle_began_ends_before_the_next_one() {
    let (mut requests, now) = (row(0..125), Instant::now());
    let device = Device::lacking((0..125).step_by(9));
    cycle(&mut requests, &device, now);
    assert!(!requests.has_found(now));
    assert!(steps(&mut requests, &device, now) > 50);
    assert!(requests.has_found(now));
    let asked = cycle(&mut requests, &device, now);
    assert!(asked.iter().all(|(_, gives)| *gives), "{asked:?}");
    assert_eq!(requests.bad().count(), 14);
    assert_eq!(steps(&mut requests, &device, now), 0);
}

#[test]
fn what_comes_back_together_is_read_together() {
    let (mut requests, now) = (row(0..100), Instant::now());
    let device = Device::lacking(40..60);
    search(&mut requests, &device, now);
    assert_eq!(requests.bad().count(), 20);
    let (later, whole) = (now + FIRST_REST, Device::lacking([]));
    // In cycles alone, one and then four in each; between them all at once.
    let asked = cycle(&mut requests, &whole, later);
    assert_eq!(asked.len() - 2, EXTRA);
    assert_eq!(steps(&mut requests, &whole, later), 20 - EXTRA);
    assert!(requests.has_found(later));
    assert_eq!(ranges(&cycle(&mut requests, &whole, later)), [(0, 100)]);
}

#[test]
fn what_stays_refused_while_others_come_back_is_asked_once() {
    let (mut requests, now) = (row(0..100), Instant::now());
    search(&mut requests, &Device::lacking(40..60), now);
    let (later, half) = (now + FIRST_REST, Device::lacking(50..60));
    cycle(&mut requests, &half, later);
    assert_eq!(steps(&mut requests, &half, later), 20 - EXTRA);
    assert_eq!(ranges(&cycle(&mut requests, &half, later)), [(0, 50), (60, 40)]);
}

#[test]
fn a_device_that_refused_all_while_it_started_is_read_again_at_once() {
    let (mut requests, now) = (row(0..100), Instant::now());
    search(&mut requests, &Device::lacking(0..100), now);
    assert!(requests.reads_nothing());
    assert_eq!(requests.bad_signals().count(), 100);
    assert_eq!(cycle(&mut requests, &Device::lacking([]), now), []);
    let later = now + FIRST_REST;
    assert_eq!(ranges(&cycle(&mut requests, &Device::lacking([]), later)), [(0, 1)]);
    assert_eq!(ranges(&cycle(&mut requests, &Device::lacking([]), later)), [(0, 100)]);
}

#[test]
fn a_part_that_is_not_answered_rests_and_the_search_goes_on_without_it() {
    let (mut requests, now) = (row(0..8), Instant::now());
    let device = Device::lacking([5]);
    requests.begin();
    requests.next(now).unwrap();
    requests.refused(now);
    assert_eq!(requests.undecided().count(), 2);
    requests.next(now).unwrap();
    requests.failed(now, 1);
    assert!(requests.is_one_silent() && !requests.are_silent());
    assert_eq!(requests.left().count(), 2, "none of it has values");
    assert_eq!(ranges(&cycle(&mut requests, &device, now)), [(0, 4)]);
    assert_eq!(ranges(&cycle(&mut requests, &device, now)), [(0, 4)]);
    let (last, _) = search(&mut requests, &device, now + Duration::from_secs(1));
    assert_eq!(ranges(&last), [(0, 5), (6, 2)]);
}

#[test]
fn signals_of_one_register_are_found_together() {
    let spans = [7, 7, 7, 8].map(|address| holding(address, 1)).to_vec();
    let mut requests = Requests::new(spans, narrow());
    let first = cycle(&mut requests, &Device::lacking([7]), Instant::now());
    assert_eq!(ranges(&first), [(7, 2), (7, 1), (8, 1)]);
    assert_eq!(requests.bad_signals().collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn a_part_refused_for_something_else_is_read_apart_and_not_searched_again() {
    let (mut requests, now) = (row(0..2), Instant::now());
    // The whole has a wrong address; one part is of a module that is ill.
    let mut cycle = || {
        let mut asked = Vec::new();
        requests.begin();
        while let Some(request) = requests.next(now).cloned() {
            asked.push((request.address, request.count));
            match asked.last() {
                Some((0, 2)) => requests.refused(now),
                Some((0, 1)) => requests.answered(now),
                _ => requests.unable(now),
            }
        }
        asked.sort_unstable();
        asked
    };
    assert_eq!(cycle(), [(0, 1), (0, 2), (1, 1)]);
    for _ in 0..3 {
        assert_eq!(cycle(), [(0, 1), (1, 1)]);
    }
    assert_eq!(requests.facts().collect::<Vec<_>>(), [Fact::Cut(holding(1, 1))]);
    let later = now + FIRST_REST;
    self::cycle(&mut requests, &Device::lacking([]), later);
    assert_eq!(ranges(&self::cycle(&mut requests, &Device::lacking([]), later)), [(0, 2)]);
}

#[test]
fn a_part_that_is_never_answered_holds_up_nothing_else() {
    let (mut requests, mut now) = (row(0..4), Instant::now());
    let cycle = |requests: &mut Requests, lacks_0: bool, now: Instant| {
        let mut asked = Vec::new();
        requests.begin();
        while let Some(request) = requests.next(now).cloned() {
            let (address, count) = (request.address, request.count);
            asked.push((address, count));
            if lacks_0 && address == 0 {
                requests.refused(now);
            } else if address + count > 2 {
                requests.failed(now, 1);
                break;
            } else {
                requests.answered(now);
            }
        }
        asked
    };
    let bad = [Fact::Bad(holding(0, 1))];
    for _ in 0..10 {
        cycle(&mut requests, true, now);
        now += Duration::from_secs(1);
    }
    assert_eq!(requests.facts().collect::<Vec<_>>(), bad);
    assert!(requests.take_untold(), "what is known is told");
    now += FIRST_REST;
    // The silent part comes first, then the doubt; from then on the place is read.
    for expected in [(2, 2), (0, 1), (0, 1), (0, 1)] {
        let asked = cycle(&mut requests, false, now);
        assert_eq!(asked.last(), Some(&expected));
        now += Duration::from_millis(1);
    }
    assert_eq!(requests.facts().next(), None);
}

#[test]
fn a_search_is_told_when_it_has_ended() {
    let (mut requests, now) = (row(0..64), Instant::now());
    let device = Device::lacking([0, 1, 2, 40]);
    let mut half_known = false;
    loop {
        cycle(&mut requests, &device, now);
        half_known |= !requests.trials.is_empty() && requests.facts().next().is_some();
        if requests.take_untold() {
            break;
        }
    }
    assert!(half_known && requests.trials.is_empty());
}

#[test]
fn what_another_configuration_was_refused_is_passed_over() {
    let mut requests = row(0..8);
    let wider = holding(5, 2);
    let elsewhere = Span { table: Table::Input, ..holding(5, 1) };
    let facts = [wider, elsewhere, holding(8, 1)].map(Fact::Bad);
    requests.remember(facts.into_iter(), Instant::now());
    assert_eq!(requests.facts().next(), None);
    assert!(!requests.take_untold());
}
