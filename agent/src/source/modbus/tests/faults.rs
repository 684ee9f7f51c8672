//! Peers and devices that are late, wrong, silent or gone.

use super::*;

#[tokio::test]
async fn a_late_answer_is_never_taken_for_the_next_one() {
    let (listener, address) = listen().await;
    let devices = r#"
        timeout = "300 ms"
        [[device]]
        name = "slow"
        unit = 1
        group = [{ interval = "20 ms", signals = [{ name = "a", table = "holding", address = 0 }] }]
        [[device]]
        name = "quick"
        unit = 1
        group = [{ interval = "20 ms", signals = [{ name = "a", table = "holding", address = 0 }] }]
    "#;
    let (mut bench, mut commits) = bench(&address, devices);
    let script = async {
        let mut old = Wire::accept(&listener).await;
        let late = old.asked().await;
        let silence = commits.event().await;
        assert_eq!((&*silence.device, silence.quality), ("slow", Quality::Timeout));
        assert_eq!(fields(&silence), [("a", Value::Null, None)]);
        old.answer(late, 666).await;
        old.dropped().await;
        let mut new = Wire::accept(&listener).await;
        let asked = new.asked().await;
        assert_eq!(asked.address, late.address);
        new.answer(asked, 5).await;
        let event = commits.event().await;
        assert_eq!(&*event.device, "quick");
        assert_eq!(fields(&event), [("a", Value::U64(5), None)]);
    };
    let (end, ()) = bench.run(script).await;
    assert!(end.is_ok());
    let said = "no answer from unit 1 in time, reading holding 0";
    assert_eq!(bench.faults(), [("slow".to_owned(), said.to_owned())]);
}

/// A frame that is not the answer to a request of two registers gives no
/// value, and its connection is not used again.
async fn check_wrong_frame(name: &str, frame: impl Fn(Asked) -> Vec<u8>) {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, ONE);
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        let asked = wire.asked().await;
        wire.0.write_all(&frame(asked)).await.unwrap();
        let event = commits.event().await;
        assert_eq!((fields(&event), event.quality), (nothing(), Quality::BadPayload), "{name}");
        wire.dropped().await;
    };
    assert!(bench.run(script).await.0.is_ok(), "{name}");
    assert_eq!(bench.faults().len(), 1, "{name}");
}

#[tokio::test]
async fn what_is_not_exactly_the_answer_is_never_a_value() {
    /// A frame with this PDU, and a length that fits it.
    fn framed(transaction: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
        let mut frame = transaction.to_be_bytes().to_vec();
        frame.extend([0, 0, 0, u8::try_from(pdu.len() + 1).unwrap(), unit]);
        frame.extend(pdu);
        frame
    }
    fn answer(asked: Asked, pdu: &[u8]) -> Vec<u8> {
        framed(asked.transaction, asked.unit, pdu)
    }
    check_wrong_frame("too few registers", |a| answer(a, &[3, 2, 0, 1])).await;
    check_wrong_frame("too many registers", |a| answer(a, &[3, 6, 0, 1, 0, 2, 0, 3])).await;
    check_wrong_frame("no registers", |a| answer(a, &[3, 0])).await;
    check_wrong_frame("byte count too small", |a| answer(a, &[3, 2, 0, 1, 0, 2])).await;
    check_wrong_frame("byte count too large", |a| answer(a, &[3, 6, 0, 1, 0, 2])).await;
    check_wrong_frame("odd byte count", |a| answer(a, &[3, 3, 0, 1, 0])).await;
    check_wrong_frame("surplus byte", |a| answer(a, &[3, 4, 0, 1, 0, 2, 9])).await;
    check_wrong_frame("function alone", |a| answer(a, &[3])).await;
    check_wrong_frame("nothing", |a| answer(a, &[])).await;
    check_wrong_frame("another function", |a| answer(a, &[4, 4, 0, 1, 0, 2])).await;
    check_wrong_frame("exception of another function", |a| answer(a, &[0x84, 2])).await;
    check_wrong_frame("exception with surplus", |a| answer(a, &[0x83, 2, 0])).await;
    check_wrong_frame("exception without code", |a| answer(a, &[0x83])).await;
    let right = [3, 4, 0, 1, 0, 2];
    check_wrong_frame("another transaction", |a| framed(a.transaction ^ 1, a.unit, &right)).await;
    check_wrong_frame("another unit", |a| framed(a.transaction, a.unit + 1, &right)).await;
    check_wrong_frame("twice", |a| [answer(a, &right), answer(a, &right)].concat()).await;
    check_wrong_frame("length of zero", |a| {
        let mut frame = answer(a, &right);
        frame[5] = 0;
        frame
    })
    .await;
    check_wrong_frame("another protocol", |a| {
        let mut frame = answer(a, &right);
        frame[3] = 1;
        frame
    })
    .await;
}

#[tokio::test]
async fn a_frame_that_never_ends_is_a_time_out() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, &one_impatient());
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        let asked = wire.asked().await;
        let [high, low] = asked.transaction.to_be_bytes();
        wire.0.write_all(&[high, low, 0, 0, 0, 7, 7, 3, 4, 0, 1]).await.unwrap();
        let event = commits.event().await;
        assert_eq!((fields(&event), event.quality), (nothing(), Quality::Timeout));
        wire.dropped().await;
    };
    assert!(bench.run(script).await.0.is_ok());
}

/// Coils 0 to 2 and registers 10 and 40: three requests.
const THREE: &str = r#"
timeout = "30 s"
device = [{ name = "boiler", max_hole = 16, group = [{ name = "fast", interval = "20 ms", signals = [
  { name = "a", table = "holding", address = 10 },
  { name = "b", table = "holding", address = 40 },
  { name = "c", table = "coil", address = 2 },
] }] }]
"#;

#[tokio::test]
async fn a_refused_request_costs_its_own_signals_only() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, THREE);
    let codes = [
        (0x01, Quality::DeviceError),
        (0x04, Quality::DeviceError),
        (0x06, Quality::DeviceError),
        (0x63, Quality::DeviceError),
    ];
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        for (code, quality) in codes {
            let coils = wire.asked().await;
            assert_eq!((coils.function, coils.address, coils.count), (1, 2, 1));
            wire.frame(coils.transaction, coils.unit, &[1, 1, 1]).await;
            let first = wire.asked().await;
            assert_eq!((first.address, first.count), (10, 1));
            wire.exception(first, code).await;
            let second = wire.asked().await;
            assert_eq!((second.address, second.count), (40, 1));
            wire.answer(second, 5).await;
            let event = commits.event().await;
            assert_eq!(event.quality, Quality::Good);
            let expected = [
                ("a", Value::Null, Some(quality)),
                ("b", Value::U64(5), None),
                ("c", Value::Bool(true), None),
            ];
            assert_eq!(fields(&event), expected);
        }
    };
    assert!(bench.run(script).await.0.is_ok());
    let said = "exception 63 (not defined) on reading holding 10";
    assert_eq!(bench.faults(), [("boiler group fast".to_owned(), said.to_owned())]);
    assert_eq!(bench.counts().refused, 4);
}

#[tokio::test]
async fn bits_beyond_those_asked_for_are_no_answer() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, THREE);
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        let coils = wire.asked().await;
        wire.frame(coils.transaction, coils.unit, &[1, 2, 1, 0]).await;
        assert_eq!(commits.event().await.quality, Quality::BadPayload);
        wire.dropped().await;
    };
    assert!(bench.run(script).await.0.is_ok());
}

#[tokio::test]
async fn a_unit_that_its_gateway_cannot_reach_rests_and_the_others_go_on() {
    let (listener, address) = listen().await;
    let devices = r#"
        timeout = "30 s"
        [[device]]
        name = "dead"
        unit = 1
        group = [{ interval = "20 ms", signals = [
          { name = "a", table = "holding", address = 0 },
          { name = "b", table = "holding", address = 500 },
        ] }]
        [[device]]
        name = "alive"
        unit = 2
        group = [{ interval = "20 ms", signals = [{ name = "a", table = "holding", address = 0 }] }]
    "#;
    let (mut bench, mut commits) = bench(&address, devices);
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        let dead = wire.asked().await;
        assert_eq!((dead.unit, dead.address), (1, 0));
        wire.exception(dead, 0x0B).await;
        let silence = commits.event().await;
        assert_eq!((&*silence.device, silence.quality), ("dead", Quality::Timeout));
        // The second request of the dead unit is not even tried, and the
        // connection, which is well, goes on.
        let alive = wire.asked().await;
        assert_eq!((alive.unit, alive.address), (2, 0));
        wire.answer(alive, 5).await;
        assert_eq!(fields(&commits.event().await), [("a", Value::U64(5), None)]);
    };
    assert!(bench.run(script).await.0.is_ok());
    let said = "exception 0B (gateway target failed to respond) for unit 1";
    assert_eq!(bench.faults(), [("dead".to_owned(), said.to_owned())]);
}

#[tokio::test]
async fn the_dead_give_way_to_those_who_waited_through_a_time_out() {
    let (listener, address) = listen().await;
    // Longer than a busy machine stands still: the three turns keep their order.
    let group = "group = [{ interval = \"1 s\", signals = [{ name = \"a\", table = \"holding\", address = 0 }] }]";
    let device = |unit: u8| format!("[[device]]\nname = \"d{unit}\"\nunit = {unit}\n{group}\n");
    let devices = format!("timeout = \"30 s\"\n{}{}{}", device(1), device(2), device(3));
    let (mut bench, mut commits) = bench(&address, &devices);
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        for unit in [1, 2] {
            let dead = wire.asked().await;
            assert_eq!(dead.unit, unit);
            wire.exception(dead, 0x0B).await;
            commits.event().await;
        }
        let alive = wire.asked().await;
        assert_eq!(alive.unit, 3);
        wire.answer(alive, 5).await;
        commits.event().await;
    };
    assert!(bench.run(script).await.0.is_ok());
    assert!(bench.source.schedule.last_silence().is_some(), "the cycles that failed are known");
    // Another time-out, by whose end all rests are over and all three are due.
    let later = Instant::now() + std::time::Duration::from_mins(1);
    bench.source.schedule.silent(later);
    let mut turn = || bench.source.next_turn(later).map(|turn| turn.group);
    assert_eq!([turn(), turn(), turn()], [Some(2), Some(0), Some(1)]);
}

#[tokio::test]
async fn a_device_is_asked_again_after_its_rest_and_its_silence_is_told_once() {
    let (listener, address) = listen().await;
    let devices = r#"
        timeout = "30 s"
        [[device]]
        name = "sleeper"
        unit = 1
        group = [{ interval = "20 ms", signals = [{ name = "a", table = "holding", address = 0 }] }]
        [[device]]
        name = "alive"
        unit = 2
        group = [{ interval = "20 ms", signals = [{ name = "a", table = "holding", address = 0 }] }]
    "#;
    let (mut bench, mut commits) = bench(&address, devices);
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        let mut asleep = Vec::new();
        while asleep.len() < 2 {
            let asked = wire.asked().await;
            if asked.unit == 2 {
                wire.answer(asked, 5).await;
                assert_eq!(&*commits.event().await.device, "alive");
                continue;
            }
            if asleep.is_empty() {
                wire.exception(asked, 0x0A).await;
            } else {
                wire.answer(asked, 9).await;
            }
            asleep.push(commits.event().await);
        }
        asleep
    };
    let (end, asleep) = bench.run(script).await;
    assert!(end.is_ok());
    assert_eq!((asleep[0].quality, asleep[1].quality), (Quality::Timeout, Quality::Good));
    assert_eq!(fields(&asleep[1]), [("a", Value::U64(9), None)]);
    assert!(bench.faults().is_empty());
    assert_eq!(bench.counts().failed, 1);
}

#[tokio::test]
async fn a_group_that_is_never_answered_costs_the_devices_other_groups_nothing() {
    let (listener, address) = listen().await;
    let devices = r#"
        timeout = "30 s"
        [[device]]
        name = "boiler"
        unit = 1
        [[device.group]]
        interval = "20 ms"
        signals = [{ name = "never", table = "holding", address = 900 }]
        [[device.group]]
        interval = "20 ms"
        signals = [{ name = "a", table = "holding", address = 0 }]
    "#;
    let (mut bench, mut commits) = bench(&address, devices);
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        let mut good = 0;
        while good < 10 {
            let asked = wire.asked().await;
            if asked.address == 900 {
                wire.exception(asked, 0x0B).await;
                continue;
            }
            wire.answer(asked, 5).await;
            good += 1;
        }
        let mut events = Vec::new();
        while events.iter().filter(|e: &&Event| e.quality == Quality::Good).count() < 10 {
            events.push(commits.event().await);
        }
        events
    };
    let (end, events) = bench.run(script).await;
    assert!(end.is_ok());
    let silent: Vec<&Event> = events.iter().filter(|e| e.quality != Quality::Good).collect();
    assert_eq!(silent.len(), 1, "silence is told once and of one group only: {silent:?}");
    assert_eq!(&*silent[0].fields[0].name, "never");
    assert_eq!(bench.faults().len(), 1);
}

#[tokio::test]
async fn a_request_that_is_never_answered_does_not_slow_the_rest_of_its_group() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, THREE);
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        let mut told = Vec::new();
        // One answer with b and then, while a rests, more of them.
        while told.iter().filter(|e| fields(e)[1].1 == Value::U64(5)).count() < 3 {
            let asked = wire.asked().await;
            match asked.address {
                10 => wire.exception(asked, 0x0B).await,
                40 => {
                    wire.answer(asked, 5).await;
                    told.push(commits.event().await);
                    continue;
                }
                _ => {
                    wire.frame(asked.transaction, asked.unit, &[1, 1, 1]).await;
                    continue;
                }
            }
            told.push(commits.event().await);
        }
        told
    };
    let (end, told) = bench.run(script).await;
    assert!(end.is_ok());
    assert!(told.iter().all(|e| fields(e)[2].1 == Value::Bool(true)), "all cycles read the coil");
    assert!(bench.counts().rested == 0, "the group has not rested");
}

#[tokio::test]
async fn what_was_read_before_the_silence_is_kept() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, &THREE.replace("30 s", "50 ms"));
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        let coils = wire.asked().await;
        wire.frame(coils.transaction, coils.unit, &[1, 1, 1]).await;
        wire.asked().await;
        let expected = [
            ("a", Value::Null, Some(Quality::Timeout)),
            ("b", Value::Null, Some(Quality::Timeout)),
            ("c", Value::Bool(true), None),
        ];
        assert_eq!(fields(&commits.event().await), expected);
    };
    assert!(bench.run(script).await.0.is_ok());
}

#[tokio::test]
async fn a_peer_that_closes_each_new_connection_ends_the_run_and_is_told_once() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, ONE);
    for _ in 0..2 {
        let run = bench.source.run(&mut bench.intake, &mut bench.link, &bench.stop);
        let script = async {
            Wire::accept(&listener).await.asked().await;
        };
        let (end, ()) = tokio::join!(run, script);
        assert_eq!(end.unwrap_err().to_string(), format!("{address} closed the connection"));
        // As if its rest were over.
        bench.source.devices[0].health = Health::default();
        bench.source.groups[0].wake();
    }
    let event = commits.event().await;
    assert_eq!((fields(&event), event.quality), (nothing(), Quality::Timeout));
    assert!(commits.deliveries.try_recv().is_err());
}

#[tokio::test]
async fn a_peer_that_is_not_there_is_told_once_by_each_group() {
    let (listener, address) = listen().await;
    drop(listener);
    let (mut bench, mut commits) = bench(&address, ONE);
    for _ in 0..2 {
        let run = bench.source.run(&mut bench.intake, &mut bench.link, &bench.stop);
        assert_eq!(run.await.unwrap_err().to_string(), format!("cannot connect to {address}"));
    }
    let event = commits.event().await;
    assert_eq!((fields(&event), event.quality), (nothing(), Quality::Timeout));
    assert!(commits.deliveries.try_recv().is_err());
}
