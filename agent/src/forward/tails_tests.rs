use super::*;
use crate::buffer::{Birth, Epoch};

const NOW: Timestamp = Timestamp(1_767_225_600_000_000_000);

fn batch(epoch: u64, first_seq: u64, count: u32, buried: &[u64]) -> Waiting {
    Waiting {
        id: BatchId(first_seq.cast_signed()),
        birth: Some(Birth { epoch: Epoch(epoch), gateway: "gw1".into() }),
        first_seq,
        count,
        buried: buried.to_vec(),
    }
}

fn seen(epoch: u64, seqs: impl IntoIterator<Item = u64>) -> Seen {
    let mut seen = Seen::default();
    for seq in seqs {
        seen.note(&format!("gw1/{}/{seq}", Epoch(epoch)));
    }
    seen
}

fn look(topics: &[&str], oldest: Timestamp) -> Look {
    let flows = (1..).zip(topics).map(|(hash, topic)| {
        let (name, topic) = (format!("s{hash}"), (*topic).to_owned());
        (flow::Hash(hash), Arc::new(Stream { name, topic, create: None }), oldest)
    });
    Look::new(flows.collect(), BatchId(9), NOW)
}

#[test]
fn a_batch_is_there_only_with_each_of_its_events() {
    let there = seen(1, [4, 2, 3, 7, 8]);
    assert!(there.holds(&batch(1, 2, 3, &[])));
    assert!(!there.holds(&batch(1, 1, 4, &[])), "the first is missing");
    assert!(!there.holds(&batch(1, 2, 4, &[])), "the last is missing");
    assert!(!there.holds(&batch(1, 2, 7, &[5])), "one in the middle is missing");
    assert!(!there.holds(&batch(2, 2, 3, &[])), "another epoch");
}

#[test]
fn a_dead_letter_need_not_be_there() {
    let there = seen(1, [2, 3, 5]);
    assert!(there.holds(&batch(1, 2, 4, &[4])));
    assert!(!there.holds(&batch(1, 6, 2, &[6, 7])), "nothing of it was seen");
}

#[test]
fn what_has_no_known_birth_or_no_event_is_not_there() {
    let there = seen(1, [2]);
    assert!(!there.holds(&Waiting { birth: None, ..batch(1, 2, 1, &[]) }));
    assert!(!there.holds(&batch(1, 2, 0, &[])));
}

#[test]
fn what_is_no_id_is_passed_over() {
    let mut none = Seen::default();
    for id in ["", "gw1", "gw1/x", "/", "gw1/0000000000000001/-2", "gw1/1/18446744073709551616"] {
        none.note(id);
    }
    assert!(none.is_empty());
}

#[test]
fn ranges_hold_what_was_noted_and_nothing_else() {
    let mut ranges = BTreeMap::new();
    for seq in [9, 1, u64::MAX, 3, 2, 2, 7, 8, 0] {
        insert(&mut ranges, seq);
    }
    assert_eq!(ranges, BTreeMap::from([(0, 3), (7, 9), (u64::MAX, u64::MAX)]));
    let held: Vec<u64> = (0..12).filter(|seq| contains(&ranges, *seq)).collect();
    assert_eq!(held, [0, 1, 2, 3, 7, 8, 9]);
}

#[test]
fn ids_are_seen_in_their_own_topic_only() {
    let mut look = look(&["a", "b", "a"], NOW);
    look.note(Some("gw1/0000000000000001/2"), 10);
    look.ended(Verdict::Whole);
    let mut first = look.targets.pop_front().unwrap();
    assert_eq!(first.flows.len(), 2);
    assert_eq!(first.judge(&[batch(1, 2, 1, &[]), batch(1, 3, 1, &[])]), [BatchId(2)]);
    assert_eq!(first.doubt, Doubt::default(), "what was not seen is not there");
    look.ended(Verdict::Partly("a reason"));
    let mut second = look.targets.pop_front().unwrap();
    assert!(second.judge(&[batch(1, 2, 1, &[]), batch(1, 3, 2, &[])]).is_empty());
    let range = ("gw1/0000000000000001/2".to_owned(), "gw1/0000000000000001/4".to_owned());
    assert_eq!(second.doubt, Doubt { events: 3, range: Some(range) });
}

#[test]
fn it_begins_two_days_before_the_oldest_that_waits_if_that_can_be_believed() {
    let day = 86_400_000_000_000;
    let since = |oldest| look(&["a"], oldest).wanted("a").since;
    let three_days_ago = (NOW.0 - 3 * day) / 1_000_000;
    assert_eq!(since(Timestamp(NOW.0 - day)), Some(three_days_ago));
    assert_eq!(since(Timestamp(NOW.0 + day)), None, "ahead of the clock");
    assert_eq!(since(Timestamp(day)), None, "of a clock that nothing had set");
}

#[test]
fn a_look_has_bounds() {
    let minute = Duration::from_mins(1);
    let mut slow = look(&["a"], NOW);
    assert!((0..9).all(|_| slow.passed(minute, true).is_none()));
    assert!(slow.passed(minute, true).is_some());
    let mut silent = look(&["a"], NOW);
    assert!(silent.passed(minute, false).is_none());
    silent.cut();
    assert!(silent.passed(minute, false).is_none(), "a broken line does not count");
    assert!(silent.passed(minute, false).is_some());
    let mut large = look(&["a", "b"], NOW);
    large.note(None, usize::try_from(MOST_BYTES).unwrap());
    assert!(large.passed(Duration::ZERO, true).is_some());
    assert_eq!(large.wanted("a").records, MOST_RECORDS / 2);
}
