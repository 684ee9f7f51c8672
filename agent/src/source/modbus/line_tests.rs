#[path = "line_model.rs"]
mod model;

use tokio::io::DuplexStream;

use super::*;
use model::{Faults, Slave};

const TIMEOUT: Duration = Duration::from_millis(100);
const MS: Duration = Duration::from_millis(1);

const fn query(unit: u8, function: u8, address: u16, count: u16) -> Query {
    Query { unit, function, address, count }
}

/// Two registers of unit 7.
const TWO: Query = query(7, 3, 10, 2);

/// A serial line at 9,600 baud, and its other end.
fn pair(framing: Framing) -> (Line<DuplexStream>, DuplexStream) {
    let (near, far) = tokio::io::duplex(4096);
    let timing = Timing::serial(9_600, 11, TIMEOUT);
    (Line::new(near, framing, timing, Duration::ZERO), far)
}

/// The answer of RTU with these registers.
fn registers(query: Query, values: &[u16]) -> Vec<u8> {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
    let count = u8::try_from(data.len()).unwrap();
    Framing::Rtu.wrap(&[&[query.unit, query.function, count], data.as_slice()].concat(), 0)
}

/// The frame that these bytes are.
fn whole(framing: Framing, bytes: &[u8]) -> (Frame, usize) {
    match framing.decode(bytes) {
        Decoded::Whole(frame, length) => (frame, length),
        other => unreachable!("{other:?}"),
    }
}

/// The next request of RTU: unit, function, address, count.
async fn asked(far: &mut DuplexStream) -> Query {
    let mut b = [0; 8];
    far.read_exact(&mut b).await.unwrap();
    let word = |i: usize| u16::from_be_bytes([b[i], b[i + 1]]);
    query(b[0], b[1], word(2), word(4))
}

/// Waits for a request that must be `expected`, then says `bytes`.
async fn say(far: &mut DuplexStream, expected: Query, bytes: &[u8]) {
    assert_eq!(asked(far).await, expected);
    far.write_all(bytes).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_serial_line_is_silent_before_a_request_for_three_and_a_half_bytes() {
    for (baud, bits, micros) in [(9_600, 11, 4_010), (19_200, 11, 2_005), (115_200, 11, 1_750)] {
        let timing = Timing::serial(baud, bits, TIMEOUT);
        assert_eq!(timing.silence.as_micros(), micros, "{baud} baud");
    }
    let (mut line, mut far) = pair(Framing::Rtu);
    let mut late = Late::default();
    let script = async {
        say(&mut far, TWO, &registers(TWO, &[1, 2])).await;
        let answered = Instant::now();
        say(&mut far, TWO, &registers(TWO, &[3, 4])).await;
        assert!(answered.elapsed() >= Duration::from_micros(4_010));
    };
    let master = async {
        assert_eq!(line.exchange(&mut late, TWO).await.unwrap(), [0, 1, 0, 2]);
        assert_eq!(line.exchange(&mut late, TWO).await.unwrap(), [0, 3, 0, 4]);
    };
    tokio::join!(master, script);
}

#[tokio::test(start_paused = true)]
async fn the_late_answer_of_an_equal_read_is_not_taken() {
    let (mut line, mut far) = pair(Framing::Rtu);
    let mut late = Late::default();
    let other = query(7, 3, 500, 2);
    let fewer = query(7, 3, 500, 1);
    let script = async {
        assert_eq!(asked(&mut far).await, TWO);
        // Not the read itself: its answer and the late one are alike.
        assert_eq!(asked(&mut far).await, fewer);
        far.write_all(&registers(TWO, &[66, 66])).await.unwrap();
        far.write_all(&registers(fewer, &[5])).await.unwrap();
        say(&mut far, other, &registers(other, &[5, 6])).await;
        // And from here on again without a probe.
        say(&mut far, TWO, &registers(TWO, &[1, 2])).await;
    };
    let master = async {
        assert!(matches!(line.exchange(&mut late, TWO).await, Err(Trouble::Late)));
        assert_eq!(line.exchange(&mut late, other).await.unwrap(), [0, 5, 0, 6]);
        assert_eq!(line.exchange(&mut late, TWO).await.unwrap(), [0, 1, 0, 2]);
    };
    tokio::join!(master, script);
}

#[tokio::test(start_paused = true)]
async fn a_single_register_is_probed_by_the_other_function_and_a_refusal_will_do() {
    let (mut line, mut far) = pair(Framing::Rtu);
    let mut late = Late::default();
    let one = query(7, 3, 10, 1);
    let probe = query(7, 4, 10, 1);
    let script = async {
        asked(&mut far).await;
        say(&mut far, probe, &Framing::Rtu.wrap(&[7, 0x84, 1], 0)).await;
        say(&mut far, one, &registers(one, &[9])).await;
    };
    let master = async {
        assert!(matches!(line.exchange(&mut late, one).await, Err(Trouble::Late)));
        assert_eq!(line.exchange(&mut late, one).await.unwrap(), [0, 9]);
    };
    tokio::join!(master, script);
}

#[tokio::test(start_paused = true)]
async fn an_exception_while_something_is_late_counts_as_late() {
    let (mut line, mut far) = pair(Framing::Rtu);
    let mut late = Late::default();
    let longer = query(7, 3, 10, 9);
    let script = async {
        asked(&mut far).await;
        say(&mut far, longer, &Framing::Rtu.wrap(&[7, 0x83, 2], 0)).await;
    };
    let master = async {
        assert!(matches!(line.exchange(&mut late, TWO).await, Err(Trouble::Late)));
        assert!(matches!(line.exchange(&mut late, longer).await, Err(Trouble::Late)));
    };
    tokio::join!(master, script);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_takes_no_probe_is_read_again_all_the_same() {
    let (mut line, mut far) = pair(Framing::Rtu);
    let mut late = Late::default();
    let one = query(7, 3, 10, 1);
    // Silent to other functions, and it has one register only.
    let script = async {
        asked(&mut far).await;
        loop {
            let asked = asked(&mut far).await;
            let refusal = Framing::Rtu.wrap(&[7, 0x83, 2], 0);
            let answer = if asked.count == 1 { registers(one, &[9]) } else { refusal };
            if asked.function == 3 {
                far.write_all(&answer).await.unwrap();
            }
        }
    };
    let master = async {
        assert!(matches!(line.exchange(&mut late, one).await, Err(Trouble::Late)));
        let mut tries = 0;
        while line.exchange(&mut late, one).await.is_err() {
            tries += 1;
        }
        tries
    };
    let tries = tokio::select! { tries = master => tries, () = script => unreachable!() };
    assert!(tries < 3, "{tries} tries");
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_an_answer_makes_the_next_equal_read_suspect() {
    let (mut line, mut far) = pair(Framing::Rtu);
    let mut late = Late::default();
    let script = async {
        let answer = registers(TWO, &[1, 2]);
        say(&mut far, TWO, &[answer.clone(), answer].concat()).await;
        let probe = query(7, 3, 10, 1);
        say(&mut far, probe, &registers(probe, &[1])).await;
        say(&mut far, TWO, &registers(TWO, &[3, 4])).await;
    };
    let master = async {
        assert_eq!(line.exchange(&mut late, TWO).await.unwrap(), [0, 1, 0, 2]);
        assert_eq!(line.exchange(&mut late, TWO).await.unwrap(), [0, 3, 0, 4]);
    };
    tokio::join!(master, script);
}

#[tokio::test(start_paused = true)]
async fn after_a_bad_frame_the_line_is_drained_to_silence() {
    let (mut line, mut far) = pair(Framing::Rtu);
    let mut late = Late::default();
    let other = query(8, 3, 10, 2);
    let script = async {
        let mut bad = registers(TWO, &[1, 2]);
        bad[4] ^= 1;
        say(&mut far, TWO, &bad).await;
        for _ in 0..10 {
            tokio::time::sleep(40 * MS).await;
            far.write_all(&registers(other, &[6, 6])).await.unwrap();
        }
        let said = Instant::now();
        say(&mut far, other, &registers(other, &[3, 4])).await;
        assert!(said.elapsed() >= SETTLE);
    };
    let master = async {
        let end = line.exchange(&mut late, TWO).await;
        assert!(matches!(&end, Err(Trouble::Unexpected(what)) if what.contains("CRC")), "{end:?}");
        // It takes as long as it may to become silent, and then says so.
        let noisy = line.exchange(&mut late, other).await;
        assert!(matches!(noisy, Err(Trouble::Unexpected(_))), "{noisy:?}");
        while let Err(end) = line.exchange(&mut late, other).await {
            assert!(matches!(end, Trouble::Unexpected(_)), "{end:?}");
        }
    };
    tokio::join!(master, script);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_another_unit_is_passed_over() {
    let (mut line, mut far) = pair(Framing::Rtu);
    let mut late = Late::default();
    let script = async {
        let foreign = registers(query(9, 3, 10, 2), &[6, 6]);
        say(&mut far, TWO, &[foreign.clone(), registers(TWO, &[1, 2])].concat()).await;
        say(&mut far, TWO, &foreign).await;
        std::future::pending::<()>().await;
    };
    let master = async {
        assert_eq!(line.exchange(&mut late, TWO).await.unwrap(), [0, 1, 0, 2]);
        let end = line.exchange(&mut late, TWO).await;
        let Err(Trouble::Unexpected(what)) = end else { unreachable!("{end:?}") };
        assert_eq!(what, "answer of unit 9 instead");
    };
    tokio::select! { () = master => {}, () = script => {} };
}

#[tokio::test(start_paused = true)]
async fn a_frame_may_come_byte_by_byte_but_not_with_a_long_pause_in_it() {
    for (pause, whole) in [(48 * MS, true), (52 * MS, false)] {
        let (line, mut far) = pair(Framing::Rtu);
        let timing = Timing { timeout: Duration::from_secs(9), ..line.timing };
        let mut line = Line { timing, ..line };
        let mut late = Late::default();
        let script = async {
            asked(&mut far).await;
            for byte in registers(TWO, &[1, 2]) {
                tokio::time::sleep(if byte == 2 { pause } else { MS }).await;
                far.write_all(&[byte]).await.unwrap();
            }
        };
        let (end, ()) = tokio::join!(line.exchange(&mut late, TWO), script);
        assert_eq!(end.is_ok(), whole, "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_echo_is_swallowed_if_it_is_right_and_named_if_nobody_expects_it() {
    let request = Framing::Rtu.request(TWO, 0);
    let right = [request.clone(), registers(TWO, &[1, 2])].concat();
    let mut wrong = right.clone();
    wrong[2] ^= 1;
    for (echo, bytes, said) in [
        (true, &right, None),
        (true, &wrong, Some("came back")),
        (true, &registers(TWO, &[1, 2]), Some("came back")),
        (false, &right, Some("the request itself")),
    ] {
        let (line, mut far) = pair(Framing::Rtu);
        let mut line = line.with_echo(echo);
        let mut late = Late::default();
        let script = say(&mut far, TWO, bytes);
        let (end, ()) = tokio::join!(line.exchange(&mut late, TWO), script);
        match (said, end) {
            (None, end) => assert_eq!(end.unwrap(), [0, 1, 0, 2]),
            (Some(said), Err(Trouble::Unexpected(what))) => assert!(what.contains(said), "{what}"),
            (Some(said), end) => unreachable!("{said}: {end:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_back_is_no_answer_even_where_it_looks_like_one() {
    // The high byte of the address, 3, stands where an answer says how many bytes it has.
    let coils = query(7, 1, 784, 24);
    for framing in [Framing::Rtu, Framing::Ascii] {
        for noise in [&[][..], &[0, 0xFF]] {
            let (mut line, mut far) = pair(framing);
            let mut late = Late::default();
            let request = framing.request(coils, 0);
            let (frame, _) = whole(framing, &request);
            assert_eq!(coils.judge(&frame, 0), Judged::Answer);
            let script = async {
                far.read_exact(&mut vec![0; request.len()]).await.unwrap();
                far.write_all(&[noise, &request].concat()).await.unwrap();
            };
            let (end, ()) = tokio::join!(line.exchange(&mut late, coils), script);
            let Err(Trouble::Unexpected(what)) = end else { unreachable!("{framing}: {end:?}") };
            assert!(what.starts_with("the request itself came back"), "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_of_which_nothing_is_known_is_listened_to_first() {
    let (near, mut far) = tokio::io::duplex(4096);
    let timing = Timing::serial(9_600, 11, TIMEOUT);
    let mut line = Line::new(near, Framing::Rtu, timing, TIMEOUT);
    let mut late = Late::default();
    let script = async {
        // To somebody who asked before us.
        far.write_all(&registers(TWO, &[6, 6])).await.unwrap();
        let begin = Instant::now();
        say(&mut far, TWO, &registers(TWO, &[1, 2])).await;
        assert!(begin.elapsed() >= TIMEOUT);
    };
    let (end, ()) = tokio::join!(line.exchange(&mut late, TWO), script);
    assert_eq!(end.unwrap(), [0, 1, 0, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_broken_off_may_still_be_answered() {
    let (mut line, mut far) = pair(Framing::Rtu);
    let mut late = Late::default();
    assert!(timeout(20 * MS, line.exchange(&mut late, TWO)).await.is_err());
    assert_eq!(asked(&mut far).await, TWO);
    assert!(late.clouds(TWO));
}

/// Reads of like and unlike shapes from three units.
const READS: [Query; 14] = [
    query(1, 3, 0, 2),
    query(1, 3, 100, 2),
    query(1, 3, 200, 1),
    query(1, 3, 300, 1),
    query(1, 4, 0, 2),
    query(1, 4, 65_535, 1),
    query(2, 3, 0, 2),
    query(2, 3, 40, 125),
    query(2, 4, 40, 125),
    query(2, 3, 7, 1),
    query(3, 1, 0, 16),
    query(3, 1, 64, 16),
    query(3, 2, 64, 24),
    query(3, 3, 9, 8),
];

/// How many exchanges ended how.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    exchanges: u32,
    good: u32,
    refused: u32,
    late: u32,
    unexpected: u32,
}

/// Reads at random while everything goes wrong that may, then without faults.
async fn exchanges(framing: Framing, echo: bool, seed: u64, count: u32) -> Tally {
    let (near, far) = tokio::io::duplex(1 << 16);
    let timing = Timing::serial(19_200, 11, TIMEOUT);
    let mut line = Line::new(near, framing, timing, TIMEOUT).with_echo(echo);
    let mut late = Late::default();
    let slave = Slave::new(framing, echo, seed);
    let mut tally = Tally::default();
    let master = async {
        for _ in 0..count {
            let query = READS[slave.random(READS.len())];
            // Also in haste, and after a while.
            let pause = [0, 0, 1, 5, 60, 400][slave.random(6)];
            tokio::time::sleep(pause * MS).await;
            let before = slave.generation();
            let end = line.exchange(&mut late, query).await;
            tally.exchanges += 1;
            match end {
                Ok(data) => {
                    tally.good += 1;
                    let fresh = slave.is_fresh(query, &data, before);
                    assert!(fresh, "seed {seed}: {query:?} got {data:?}, which is not its own");
                }
                Err(Trouble::Exception(code)) => {
                    tally.refused += 1;
                    let right = slave.has_refused(query, code, before);
                    assert!(right, "seed {seed}: {query:?} was not refused by {code}");
                }
                Err(Trouble::Late) => tally.late += 1,
                Err(Trouble::Unexpected(_)) => tally.unexpected += 1,
                Err(Trouble::Closed(error)) => unreachable!("{error}"),
            }
        }
        // All that was late has come, and the line is well.
        slave.set(Faults::None);
        tokio::time::sleep(Duration::from_secs(30)).await;
        for round in 0..4 {
            for query in READS {
                let end = line.exchange(&mut late, query).await;
                assert!(end.is_ok() || round < 2, "seed {seed}: {query:?} stays {end:?}");
            }
        }
    };
    tokio::select! { () = master => {}, () = slave.serve(far) => {} }
    tally
}

/// 300 exchanges each; a hundred times as many found nothing more.
const SEEDS: u64 = 25;

#[tokio::test(start_paused = true)]
async fn no_wrong_or_stale_value_is_taken_in_thirty_thousand_faulty_exchanges() {
    for (framing, echo) in [
        (Framing::Rtu, false),
        (Framing::Rtu, true),
        (Framing::Ascii, false),
        (Framing::Ascii, true),
    ] {
        let mut sum = Tally::default();
        for seed in 1..=SEEDS {
            let tally = exchanges(framing, echo, seed, 300).await;
            sum.exchanges += tally.exchanges;
            sum.good += tally.good;
            sum.refused += tally.refused;
            sum.late += tally.late;
            sum.unexpected += tally.unexpected;
        }
        println!("{framing} echo {echo}: {sum:?}");
        assert_eq!(u64::from(sum.exchanges), 300 * SEEDS);
        // What never takes anything takes nothing wrong either.
        assert!(sum.good > 2_500 && sum.refused > 20, "{sum:?}");
        assert!(sum.late > 500 && sum.unexpected > 500, "{sum:?}");
    }
}
