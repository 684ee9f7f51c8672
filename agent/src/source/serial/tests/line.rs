//! Frames, requests and silence on a line in memory, whose time the test lets pass.

use std::future::Future;

use tokio::io::DuplexStream;
pub(super) use tokio::time::sleep;

use super::*;

/// Bytes that the line holds for who does not read.
pub(super) const LINE: usize = 64 * 1_024;

pub(super) const MS: Duration = Duration::from_millis(1);

/// The device's end, and what the source hands over.
pub(super) struct Device {
    pub(super) line: DuplexStream,
    pub(super) handed: mpsc::Receiver<Delivery>,
}

impl Device {
    pub(super) async fn say(&mut self, bytes: &[u8]) {
        self.line.write_all(bytes).await.unwrap();
    }

    pub(super) async fn next(&mut self) -> Delivery {
        self.handed.recv().await.expect("the source runs")
    }

    /// The next delivery's one event.
    pub(super) async fn event(&mut self) -> Event {
        let mut delivery = self.next().await;
        assert_eq!((delivery.events.len(), delivery.dead.len()), (1, 0), "{delivery:?}");
        assert!(delivery.bytes > 0);
        delivery.events.remove(0)
    }

    pub(super) async fn dead(&mut self) -> DeadLetter {
        let mut delivery = self.next().await;
        assert_eq!((delivery.events.len(), delivery.dead.len()), (0, 1), "{delivery:?}");
        delivery.dead.remove(0)
    }

    pub(super) async fn asked(&mut self, request: &[u8]) {
        let mut bytes = vec![0; request.len()];
        self.line.read_exact(&mut bytes).await.expect("a request comes");
        assert_eq!(bytes, request);
    }

    fn nothing(&mut self) {
        assert!(self.handed.try_recv().is_err(), "something was handed over");
    }
}

impl Bench {
    /// One connection, while `script` plays the device; then the source is stopped.
    pub(super) async fn on_line<T>(
        &mut self,
        script: impl AsyncFnOnce(Device) -> T,
    ) -> (Result<(), Error>, T) {
        let (wire, line) = tokio::io::duplex(LINE);
        let (queue, handed) = mpsc::channel(1);
        let stop = self.stop.clone();
        let script = async {
            let result = script(Device { line, handed }).await;
            stop.cancel();
            result
        };
        join(self.source.connection(wire, &mut self.link, &self.stop, queue), script).await
    }
}

async fn join<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    tokio::join!(first, second)
}

/// A serial port that is never opened here.
pub(super) fn port(keys: &str) -> Bench {
    bench("/dev/ttyS1", keys)
}

pub(super) fn text(value: &str) -> Vec<(&'static str, Value)> {
    vec![("value", Value::Text(value.into()))]
}

#[tokio::test(start_paused = true)]
async fn a_line_becomes_an_event_of_the_time_of_its_last_byte() {
    let mut bench = port("device = \"scanner\"");
    let clock = bench.clock.clone();
    let script = async |mut device: Device| {
        sleep(QUIET).await;
        device.say(b"4012345").await;
        sleep(MS).await;
        clock.set(Timestamp(NOW.0 + 1));
        device.say(b"678901\r\n").await;
        let event = device.event().await;
        assert_eq!(values(&event), text("4012345678901"));
        assert_eq!((&*event.device, event.time.0), ("scanner", NOW.0 + 1));
        assert_eq!((event.quality, event.read_at), (Quality::Good, None));
    };
    assert!(bench.on_line(script).await.0.is_ok());
    assert_eq!(bench.faults(), []);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_may_have_begun_before_the_line_was_opened_is_no_event() {
    let mut bench = port("");
    let script = async |mut device: Device| {
        sleep(99 * MS).await;
        device.say(b"5.2\n17.3\n").await;
        let delivery = device.next().await;
        let reason = "came right after opening: perhaps only the end of a frame";
        assert_eq!(dead(&delivery.dead[0]), (reason, &b"5.2\n"[..], 4));
        assert_eq!(values(&delivery.events[0]), text("17.3"));
    };
    assert!(bench.on_line(script).await.0.is_ok());
    assert_eq!(bench.faults(), [], "nothing is wrong with it");
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_frame_and_its_time_is_that_of_its_last_byte() {
    let mut bench = port("split = { by = \"silence\", silence = \"20 ms\" }");
    let clock = bench.clock.clone();
    let script = async |mut device: Device| {
        sleep(QUIET).await;
        device.say(b"ab").await;
        sleep(19 * MS).await;
        device.nothing();
        device.say(b"c").await;
        sleep(MS).await;
        clock.set(Timestamp(NOW.0 + 99));
        let event = device.event().await;
        assert_eq!((values(&event), event.time), (text("abc"), NOW));
        device.say(b"d").await;
        assert_eq!(values(&device.event().await), text("d"));
    };
    assert!(bench.on_line(script).await.0.is_ok());
}

/// What a balance is asked, every second.
const BALANCE: &str = r#"
request = 'S\r\n'
interval = "1 s"
timeout = "300 ms"
parse = { as = "pattern", patterns = ['^S S +(?<weight>[-0-9.]+) g'] }
"#;

fn weight(value: Value) -> Vec<(&'static str, Value)> {
    vec![("weight", value)]
}

#[tokio::test(start_paused = true)]
async fn a_device_is_asked_at_its_interval_and_its_silence_is_told_once() {
    let mut bench = port(BALANCE);
    let mut changes = bench.link.watch();
    let script = async |mut device: Device| {
        let began = Instant::now();
        device.asked(b"S\r\n").await;
        device.say(b"S S     100.25 g\r\n").await;
        assert_eq!(values(&device.event().await), weight(Value::F64(100.25)));
        device.asked(b"S\r\n").await;
        assert_eq!(began.elapsed(), 1_000 * MS);
        let silence = device.event().await;
        assert_eq!(began.elapsed(), 1_300 * MS);
        assert_eq!((values(&silence), silence.quality), (weight(Value::Null), Quality::Timeout));
        let fault = |state: &crate::supervise::State| state.faults.get("line").cloned();
        assert_eq!(fault(&changes.borrow_and_update()).unwrap(), "no answer in time");
        for _ in 0..3 {
            device.asked(b"S\r\n").await;
        }
        sleep(500 * MS).await;
        device.nothing();
        device.asked(b"S\r\n").await;
        device.say(b"S S       0.00 g\r\n").await;
        assert_eq!(values(&device.event().await), weight(Value::F64(0.0)));
        assert_eq!(fault(&changes.borrow_and_update()), None);
    };
    assert!(bench.on_line(script).await.0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_line_without_an_answer_is_asked_again_and_not_in_a_rush() {
    // The answer takes longer than the interval: the next request waits for it.
    let mut bench = port(&BALANCE.replace("\"1 s\"", "\"100 ms\""));
    let script = async |mut device: Device| {
        let began = Instant::now();
        for round in 0..4 {
            device.asked(b"S\r\n").await;
            assert_eq!(began.elapsed(), 300 * round * MS);
        }
    };
    assert!(bench.on_line(script).await.0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_silent_line_is_told_and_a_silent_connection_made_anew() {
    let keys = "idle = \"10 s\"\nparse = { as = \"scalar\" }";
    let mut bench = port(keys);
    let script = async |mut device: Device| {
        let silence = device.event().await;
        assert_eq!(
            (values(&silence), silence.quality),
            (vec![("value", Value::Null)], Quality::Timeout)
        );
        sleep(60_000 * MS).await;
        device.nothing();
        device.say(b"7\n").await;
        assert_eq!(values(&device.event().await), [("value", Value::I64(7))]);
    };
    assert!(bench.on_line(script).await.0.is_ok());
    assert_eq!(bench.faults(), []);
    let mut bench = super::bench("10.0.0.7:4001", keys);
    let began = Instant::now();
    let (end, silence) = bench.on_line(async |mut device: Device| device.event().await).await;
    let end = end.unwrap_err().to_string();
    assert_eq!(end, "nothing came from 10.0.0.7:4001 for so long as `idle` says");
    assert_eq!((silence.quality, began.elapsed()), (Quality::Timeout, 10_000 * MS));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_a_dead_letter_and_told_once_until_a_minute_without() {
    let mut bench = port("parse = { as = \"pattern\", patterns = ['^(?<n>[0-9]+)$'] }");
    let mut changes = bench.link.watch();
    let script = async |mut device: Device| {
        sleep(QUIET).await;
        for bytes in [&b"\x1b[2Jone\r\n"[..], b"two\r\n"] {
            device.say(bytes).await;
            let letter = device.dead().await;
            let length = u64::try_from(bytes.len()).unwrap();
            assert_eq!(dead(&letter), ("no pattern matches", bytes, length));
            assert_eq!(letter.origin, "line line");
        }
        let told = r"`\x1b[2Jone\r\n` became a dead letter: no pattern matches";
        let fault = |state: &crate::supervise::State| state.faults.get("frames").cloned();
        assert_eq!(fault(&changes.borrow_and_update()).unwrap(), told);
        for minutes in 0..2 {
            sleep(60_000 * minutes * MS).await;
            device.say(b"3\n").await;
            assert_eq!(values(&device.event().await), [("n", Value::I64(3))]);
        }
        assert_eq!(fault(&changes.borrow_and_update()), None);
        device.say(b"four\n").await;
        device.dead().await;
        assert!(fault(&changes.borrow_and_update()).unwrap().contains("four"));
    };
    assert!(bench.on_line(script).await.0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_kept_as_it_came_or_dropped_where_that_is_said() {
    let parse = "parse = { as = \"json\" }\n";
    let raw = "unmatched = { keep = \"raw\", stream = \"odd\" }";
    let mut bench = port(&format!("{parse}{raw}"));
    let script = async |mut device: Device| {
        sleep(QUIET).await;
        device.say(b"{\"a\":1}\n\xFF\n").await;
        let delivery = device.next().await;
        let [good, odd] = &delivery.events[..] else { panic!("{delivery:?}") };
        assert_eq!(values(good), [("a", Value::I64(1))]);
        assert_ne!(good.flow, odd.flow);
        assert_eq!(odd.quality, Quality::BadPayload);
        assert_eq!(values(odd)[0], ("raw", Value::Text(r"\xff\n".into())));
        assert!(matches!(&values(odd)[1], ("reason", Value::Text(why)) if why.contains("JSON")));
    };
    assert!(bench.on_line(script).await.0.is_ok());
    let mut bench = port(&format!("{parse}unmatched = {{ keep = \"drop\" }}"));
    let script = async |mut device: Device| {
        sleep(QUIET).await;
        device.say(b"{\n").await;
        device.say(b"{\"a\":1}\n").await;
        assert_eq!(values(&device.event().await), [("a", Value::I64(1))]);
    };
    assert!(bench.on_line(script).await.0.is_ok());
    assert!(bench.faults()[0].1.contains("is dropped"));
}

/// Frames that take more room than a source may hold.
const FLOOD: usize = 12_000;

/// A numbered frame of 100 bytes.
pub(super) fn frame(number: usize) -> Vec<u8> {
    format!("{number:0>99}\n").into_bytes()
}

/// The numbers of the frames that are handed over.
fn numbers(delivery: &Delivery) -> Vec<usize> {
    let number = |event: &Event| match &event.fields[0].value {
        Value::Text(text) => text.parse().unwrap(),
        other => panic!("{other:?}"),
    };
    delivery.events.iter().map(number).collect()
}

#[tokio::test(start_paused = true)]
async fn a_serial_port_is_read_on_while_the_buffer_takes_nothing_and_the_loss_is_told() {
    let mut bench = port("");
    let watch = bench.link.watch();
    let script = async |mut device: Device| {
        sleep(QUIET).await;
        for number in 0..FLOOD {
            device.say(&frame(number)).await;
        }
        // The line took all of it, though nobody took anything from the source.
        sleep(MS).await;
        assert!(watch.borrow().faults["room"].contains("does not wait"));
        let (first, second) = (device.next().await, device.next().await);
        assert!(first.bytes + second.bytes < 3 * take::MOST_HELD, "it is bounded");
        let taken = [numbers(&first), numbers(&second)].concat();
        assert!(taken.len() < FLOOD);
        assert_eq!(taken, (0..taken.len()).collect::<Vec<_>>(), "without a hole");
        device.say(&frame(FLOOD)).await;
        assert_eq!(numbers(&device.next().await), [FLOOD]);
    };
    assert!(bench.on_line(script).await.0.is_ok());
    assert_eq!(bench.faults(), []);
}

#[tokio::test(start_paused = true)]
async fn a_device_server_is_held_back_while_the_buffer_takes_nothing_and_nothing_is_lost() {
    let mut bench = bench("10.0.0.7:4001", "");
    let script = async |device: Device| {
        let Device { mut line, mut handed } = device;
        let speak = async {
            sleep(QUIET).await;
            for number in 0..FLOOD {
                line.write_all(&frame(number)).await.unwrap();
            }
        };
        let hear = async {
            sleep(10_000 * MS).await;
            let mut taken = Vec::new();
            while taken.len() < FLOOD {
                let delivery = handed.recv().await.unwrap();
                assert!(delivery.bytes < 3 * take::MOST_HELD);
                taken.extend(numbers(&delivery));
            }
            taken
        };
        tokio::join!(speak, hear).1
    };
    let (end, taken) = bench.on_line(script).await;
    assert!(end.is_ok());
    assert_eq!(taken, (0..FLOOD).collect::<Vec<_>>());
    assert_eq!(bench.faults(), []);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_is_handed_over_when_the_line_ends_and_when_the_source_stops() {
    let mut bench = port("");
    let script = async |mut device: Device| {
        sleep(QUIET).await;
        device.say(b"whole\nhalf").await;
        let Device { line, mut handed } = device;
        drop(line);
        let mut deliveries = Vec::new();
        while let Some(delivery) = handed.recv().await {
            deliveries.push(delivery);
        }
        deliveries
    };
    let (end, deliveries) = bench.on_line(script).await;
    assert_eq!(end.unwrap_err().to_string(), "/dev/ttyS1 is gone");
    let events: Vec<_> = deliveries.iter().flat_map(|one| &one.events).map(values).collect();
    assert_eq!(events, [text("whole")]);
    let dead: Vec<_> = deliveries.iter().flat_map(|one| &one.dead).map(dead).collect();
    assert_eq!(dead, [("frame that broke off", &b"half"[..], 4)]);
}
