use proptest::prelude::*;

use super::*;

const fn query(unit: u8, function: u8, count: u16) -> Query {
    Query { unit, function, address: 10, count }
}

fn frame(query: Query) -> Frame {
    let body = Body::Data(vec![0; query.length()]);
    Frame { transaction: None, unit: query.unit, function: query.function, body }
}

fn exception(query: Query) -> Frame {
    Frame { body: Body::Exception(2), ..frame(query) }
}

fn noted(queries: &[Query]) -> Late {
    let mut late = Late::default();
    for query in queries {
        late.note(*query);
    }
    late
}

#[test]
fn an_answer_ends_all_that_was_asked_of_its_unit_and_of_no_other() {
    let (two, one, elsewhere) = (query(1, 3, 2), query(1, 3, 1), query(2, 3, 2));
    let mut late = noted(&[two, elsewhere, one]);
    assert_eq!(late.heard(one, &frame(one)), Heard::Answer);
    assert!(!late.clouds(two) && !late.clouds(one) && late.clouds(elsewhere));
}

#[test]
fn no_probe_looks_like_an_answer_to_itself() {
    for (function, count) in (1..=2).flat_map(|f| (1..=60).map(move |count| (f, count))) {
        let query = Query { address: 784, ..query(1, function, count) };
        let mut late = noted(&[query]);
        for _ in 0..8 {
            let probe = late.probe(query);
            assert!(!probe.looks_like_answer(), "{probe:?} for {query:?}");
            late.note(probe);
        }
    }
}

#[test]
fn an_answer_by_one_way_says_nothing_of_what_the_other_one_holds_back() {
    let (two, one) = (query(1, 3, 2), query(1, 3, 1));
    let mut late = noted(&[two]);
    late.take_way(true);
    assert!(late.clouds(two), "the line may be one");
    late.note(one);
    assert_eq!(late.heard(one, &frame(one)), Heard::Answer);
    assert!(!late.clouds(two) && late.is_clear(), "the device has done with it");
    // What the first way's queue held comes when that is opened again.
    late.take_way(false);
    assert!(late.clouds(two) && !late.clouds(one));
    late.note(two);
    assert_eq!(late.heard(two, &frame(two)), Heard::Doubtful);
    late.note(one);
    assert_eq!(late.heard(one, &frame(one)), Heard::Answer);
    late.take_way(true);
    assert!(late.is_clear(), "it is over for both");
}

#[test]
fn a_frame_that_fits_two_ends_only_the_first_and_what_was_before_it() {
    let (two, one, bits) = (query(1, 3, 2), query(1, 3, 1), query(1, 1, 8));
    let mut late = noted(&[bits, two, one, two]);
    assert_eq!(late.heard(two, &frame(two)), Heard::Doubtful);
    assert!(late.clouds(two) && late.clouds(one) && !late.clouds(bits));
}

#[test]
fn an_exception_fits_all_of_its_function() {
    let (two, one, other) = (query(1, 3, 2), query(1, 3, 1), query(1, 4, 1));
    let mut late = noted(&[two, one]);
    assert_eq!(late.heard(one, &exception(one)), Heard::Doubtful);
    assert!(!late.clouds(two) && late.clouds(one));
    late.note(other);
    assert_eq!(late.heard(other, &exception(other)), Heard::Answer);
    assert!(!late.clouds(one));
}

#[test]
fn what_nobody_asked_for_says_nothing() {
    let (two, elsewhere) = (query(1, 3, 2), query(2, 3, 2));
    let mut late = noted(&[two]);
    assert_eq!(late.heard(two, &frame(elsewhere)), Heard::Foreign);
    assert!(late.clouds(two));
}

#[test]
fn a_unit_that_is_dead_for_years_takes_no_more_memory_than_for_a_day() {
    let mut late = noted(&[query(9, 3, 1)]);
    for _ in 0..100_000 {
        let probe = late.probe(query(1, 3, 2));
        late.note(probe);
    }
    assert_eq!(late.noted.len(), MOST_NOTED + 1);
    assert!(late.clouds(query(9, 3, 1)));
}

proptest! {
    #[test]
    fn a_probe_is_a_legal_read_of_another_shape(
        unit: u8, function in 1_u8..5, address: u16, count in 1_u16..126, probes in 0_usize..9,
    ) {
        let query = Query { unit, function, address: address.min(u16::MAX - (count - 1)), count };
        let mut late = noted(&[query]);
        for _ in 0..probes {
            let probe = late.probe(query);
            late.note(probe);
            prop_assert_ne!(Shape::of(probe), Shape::of(query));
            prop_assert!(probe.unit == unit && (1..5).contains(&probe.function));
            let last = u32::from(probe.address) + u32::from(probe.count) - 1;
            // The other table is as long, and what is not there is refused.
            prop_assert!(probe.count > 0 && (last <= 65_535 || probe.function != function));
        }
    }
}
