//! The source against peers on real sockets: tokio-modbus's own server where
//! all is well, a scripted peer where it is not.

use std::future::{Future, ready};
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_modbus::server::Service;
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::collect::TestCommits;
use crate::event::{Quality, Timestamp, Value};
use crate::flow::Flows;

const NOW: Timestamp = Timestamp(1_767_225_600_123_456_789);

/// A source with all that it is run with.
struct Bench {
    source: Source,
    intake: Intake,
    link: Link,
    stop: CancellationToken,
}

fn parse(text: &str) -> Result<Config, ::config::ConfigError> {
    let file = ::config::File::from_str(text, ::config::FileFormat::Toml);
    ::config::Config::builder().add_source(file).build()?.try_deserialize()
}

/// A bench for a source at `address`, and the end that takes its deliveries.
fn bench(address: &str, devices: &str) -> (Bench, TestCommits) {
    let head = format!("name = \"bus\"\nstream = \"plant\"\naddress = \"{address}\"\n");
    let config = parse(&(head + devices)).unwrap();
    assert_eq!(config.check(), []);
    let mut flows = Flows::default();
    let setup = Setup { gateway: "gw1", flows: &mut flows, clock: Clock::fixed(NOW), saved: None };
    let source = Source::new(&config, setup);
    let (intake, commits) = Intake::for_test(64);
    let (link, stop) = (Link::new(Arc::from("bus")), CancellationToken::new());
    (Bench { source, intake, link, stop }, commits)
}

impl Bench {
    /// What is wrong, besides the interval: that a busy machine breaks it is
    /// none of these tests' business.
    fn faults(&self) -> Vec<(&str, &str)> {
        let faults = self.link.faults().iter().map(|(s, w)| (s.as_str(), w.as_str()));
        faults.filter(|(subject, _)| !subject.ends_with(" interval")).collect()
    }

    /// Runs the source while `script` plays the rest of the world; then stops
    /// it. The end is what `run` gave.
    async fn run<T>(&mut self, script: impl Future<Output = T>) -> (Result<(), Error>, T) {
        let stop = self.stop.clone();
        let script = async {
            let result = script.await;
            stop.cancel();
            result
        };
        let run = self.source.run(&mut self.intake, &mut self.link, &self.stop);
        tokio::join!(run, script)
    }
}

impl TestCommits {
    async fn event(&mut self) -> Event {
        let (ticket, mut delivery) = self.deliveries.recv().await.expect("the source runs");
        self.commit(ticket);
        assert_eq!(delivery.events.len(), 1);
        assert!(delivery.bytes > 0);
        delivery.events.remove(0)
    }
}

/// Names, values and qualities of an event's fields.
fn fields(event: &Event) -> Vec<(&str, Value, Option<Quality>)> {
    event.fields.iter().map(|f| (&*f.name, f.value.clone(), f.quality)).collect()
}

/// One connection of a scripted peer.
struct Wire(TcpStream);

/// A request as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    transaction: u16,
    unit: u8,
    function: u8,
    address: u16,
    count: u16,
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

impl Wire {
    async fn accept(listener: &TcpListener) -> Self {
        Self(listener.accept().await.unwrap().0)
    }

    async fn asked(&mut self) -> Asked {
        let mut b = [0; 12];
        self.0.read_exact(&mut b).await.expect("a request comes");
        assert_eq!(b[2..6], [0, 0, 0, 6]);
        let word = |i: usize| u16::from_be_bytes([b[i], b[i + 1]]);
        Asked {
            transaction: word(0),
            unit: b[6],
            function: b[7],
            address: word(8),
            count: word(10),
        }
    }

    async fn frame(&mut self, transaction: u16, unit: u8, pdu: &[u8]) {
        let mut frame = transaction.to_be_bytes().to_vec();
        frame.extend([0, 0]);
        frame.extend(u16::try_from(pdu.len() + 1).unwrap().to_be_bytes());
        frame.push(unit);
        frame.extend(pdu);
        self.0.write_all(&frame).await.unwrap();
    }

    /// The right answer: register `n` of it holds `first + n`.
    async fn answer(&mut self, asked: Asked, first: u16) {
        let pdu = registers(asked.function, asked.count, first);
        self.frame(asked.transaction, asked.unit, &pdu).await;
    }

    async fn exception(&mut self, asked: Asked, code: u8) {
        self.frame(asked.transaction, asked.unit, &[asked.function | 0x80, code]).await;
    }

    /// The source drops this connection without another request.
    async fn dropped(&mut self) {
        let mut rest = Vec::new();
        // A reset is a drop too: the source left bytes unread.
        let read = self.0.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "another request after {read:?}: {rest:?}");
    }
}

fn registers(function: u8, count: u16, first: u16) -> Vec<u8> {
    let mut pdu = vec![function, u8::try_from(count * 2).unwrap()];
    pdu.extend((first..first + count).flat_map(u16::to_be_bytes));
    pdu
}

/// One device with two registers, read so often that no test waits.
const ONE: &str = r#"
timeout = "30 s"
device = [{ name = "boiler", unit = 7, group = [{ interval = "20 ms", signals = [
  { name = "a", table = "holding", address = 10 },
  { name = "b", table = "holding", address = 11 },
] }] }]
"#;

/// The same with a time-out that a silent peer lets pass.
fn one_impatient() -> String {
    ONE.replace("30 s", "50 ms")
}

fn good(a: u64, b: u64) -> Vec<(&'static str, Value, Option<Quality>)> {
    vec![("a", Value::U64(a), None), ("b", Value::U64(b), None)]
}

fn nothing() -> Vec<(&'static str, Value, Option<Quality>)> {
    vec![("a", Value::Null, None), ("b", Value::Null, None)]
}

/// A boiler whose tables hold known values.
struct Boiler;

impl Service for Boiler {
    type Request = SlaveRequest<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = std::future::Ready<Result<Response, ExceptionCode>>;

    fn call(&self, request: SlaveRequest<'static>) -> Self::Future {
        let holding = [215, 0x41AC, 0x0000, 0xFFFF, 0x0005, 0x4142, 0x4300, 0b100];
        let from = |address: u16, count: u16| {
            let (start, end) = (usize::from(address), usize::from(address + count));
            holding.get(start..end).map(<[u16]>::to_vec).ok_or(ExceptionCode::IllegalDataAddress)
        };
        ready(match request.request {
            Request::ReadCoils(0, count) => {
                Ok(Response::ReadCoils((0..count).map(|n| n == 9).collect()))
            }
            Request::ReadDiscreteInputs(3, 1) => Ok(Response::ReadDiscreteInputs(vec![true])),
            Request::ReadInputRegisters(100, 1) => Ok(Response::ReadInputRegisters(vec![9])),
            Request::ReadHoldingRegisters(address, count) => {
                from(address, count).map(Response::ReadHoldingRegisters)
            }
            _ => Err(ExceptionCode::IllegalFunction),
        })
    }
}

#[tokio::test]
async fn all_tables_and_types_become_one_event() {
    let (listener, address) = listen().await;
    let devices = r#"
        [[device]]
        name = "boiler"
        [[device.group]]
        interval = "20 ms"
        signals = [
          { name = "temp", table = "holding", address = 0, type = "i16", scale = 0.1, unit = "°C" },
          { name = "flow", table = "holding", address = 1, type = "f32" },
          { name = "level", table = "holding", address = 3, type = "i32", order = "cdab" },
          { name = "serial", table = "holding", address = 5, type = "string", length = 2 },
          { name = "alarm", table = "holding", address = 7, type = "bit", bit = 2 },
          { name = "count", table = "input", address = 100 },
          { name = "pump", table = "coil", address = 0 },
          { name = "valve", table = "coil", address = 9 },
          { name = "door", table = "discrete", address = 3 },
        ]
    "#;
    let (mut bench, mut commits) = bench(&address, devices);
    let server = tokio_modbus::server::tcp::Server::new(listener);
    let connected = |stream, _| ready(std::io::Result::Ok(Some((Boiler, stream))));
    let serve = server.serve(&connected, |_| {});
    let (end, event) = tokio::select! {
        end = bench.run(commits.event()) => end,
        _ = serve => unreachable!("it serves for ever"),
    };
    assert!(end.is_ok());
    assert_eq!((&*event.device, event.time, event.read_at), ("boiler", NOW, None));
    assert_eq!(event.quality, Quality::Good);
    let expected = [
        ("temp", Value::F64(21.5), None),
        ("flow", Value::F64(21.5), None),
        ("level", Value::I64(0x0005_FFFF), None),
        ("serial", Value::Text(Arc::from("ABC")), None),
        ("alarm", Value::Bool(true), None),
        ("count", Value::U64(9), None),
        ("pump", Value::Bool(false), None),
        ("valve", Value::Bool(true), None),
        ("door", Value::Bool(true), None),
    ];
    assert_eq!(fields(&event), expected);
    assert_eq!(event.fields[0].unit.as_deref(), Some("°C"));
}

#[tokio::test]
async fn neighbours_are_read_in_one_request() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, ONE);
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        for round in 0..3 {
            let asked = wire.asked().await;
            assert_eq!((asked.unit, asked.function), (7, 3));
            assert_eq!((asked.address, asked.count), (10, 2));
            wire.answer(asked, 5 + round).await;
            let (a, b) = (u64::from(5 + round), u64::from(6 + round));
            assert_eq!(fields(&commits.event().await), good(a, b));
        }
    };
    assert!(bench.run(script).await.0.is_ok());
    assert!(bench.faults().is_empty());
}

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
    let said = "no answer from unit 1 in time, reading holding 0 to 0";
    assert_eq!(bench.faults(), [("slow", said)]);
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
device = [{ name = "boiler", group = [{ name = "fast", interval = "20 ms", signals = [
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
        (0x02, Quality::BadAddress),
        (0x03, Quality::BadAddress),
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
    let said = "exception 63 (not defined) on reading holding 10 to 10";
    assert_eq!(bench.faults(), [("boiler group fast", said)]);
    assert_eq!(bench.source.counts().refused, 6);
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
    assert_eq!(bench.faults(), [("dead", said)]);
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
    assert_eq!(bench.source.counts().failed, 1);
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
async fn a_peer_that_closes_a_new_connection_ends_the_run() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, ONE);
    let run = bench.source.run(&mut bench.intake, &mut bench.link, &bench.stop);
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        wire.asked().await;
        drop(wire);
        commits.event().await
    };
    let (end, event) = tokio::join!(run, script);
    assert_eq!(end.unwrap_err().to_string(), format!("{address} closed the connection"));
    assert_eq!((fields(&event), event.quality), (nothing(), Quality::Timeout));
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_opened_again_without_a_gap() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, ONE);
    let script = async {
        for round in 0..3 {
            let mut wire = Wire::accept(&listener).await;
            let asked = wire.asked().await;
            wire.answer(asked, round).await;
            drop(wire);
            let (a, b) = (u64::from(round), u64::from(round + 1));
            assert_eq!(fields(&commits.event().await), good(a, b));
        }
    };
    assert!(bench.run(script).await.0.is_ok());
    assert!(bench.faults().is_empty());
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

#[tokio::test]
async fn a_stop_does_not_wait_for_an_answer() {
    let (listener, address) = listen().await;
    let (mut bench, commits) = bench(&address, ONE);
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        wire.asked().await;
        bench.stop.clone().cancel();
        wire
    };
    let stop = bench.stop.clone();
    let run = bench.source.run(&mut bench.intake, &mut bench.link, &stop);
    let (end, _wire) = tokio::join!(run, script);
    assert!(end.is_ok());
    assert!(commits.deliveries.is_empty());
}

#[tokio::test]
async fn while_the_buffer_is_full_cycles_are_missed_and_not_bunched() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, &ONE.replace("20 ms", "1 ms"));
    let (intake, full) = Intake::for_test(1);
    bench.intake = intake;
    commits.deliveries.close();
    commits = full;
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        for round in 0..2 {
            let asked = wire.asked().await;
            wire.answer(asked, round).await;
        }
        // The second event waits for room: no request comes meanwhile, however
        // long that takes; two intervals are enough to miss a slot.
        let quiet = std::time::Duration::from_millis(3);
        assert!(tokio::time::timeout(quiet, wire.asked()).await.is_err());
        assert_eq!(fields(&commits.event().await), good(0, 1));
        assert_eq!(fields(&commits.event().await), good(1, 2));
        let asked = wire.asked().await;
        wire.answer(asked, 2).await;
        assert_eq!(fields(&commits.event().await), good(2, 3));
    };
    assert!(bench.run(script).await.0.is_ok());
    assert!(bench.source.counts().missed >= 1);
}

#[test]
fn a_short_configuration_is_filled_with_the_defaults() {
    let config = parse(
        r#"
        name = "bus"
        stream = "plant"
        address = "10.0.0.5"
        [[device]]
        name = "boiler"
        [[device.group]]
        interval = "1 s"
        signals = [{ name = "a", table = "holding", address = 0 }]
        "#,
    )
    .unwrap();
    assert_eq!(config.check(), []);
    assert_eq!(config.timeout, crate::units::Period::from_secs(1));
    let device = &config.devices[0];
    assert_eq!((device.unit, device.max_registers, device.max_bits), (1, 125, 2000));
    assert_eq!((device.max_hole, device.order), (16, Order::Abcd));
    assert_eq!(device.groups[0].signals[0].kind(), Type::U16);
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let config = parse(
        r#"
        name = ""
        stream = ""
        address = "10.0.0.5:port"
        timeout = "0 s"
        [[device]]
        name = "boiler"
        max_registers = 126
        max_bits = 0
        group = []
        [[device]]
        name = "boiler"
        max_registers = 3
        [[device.group]]
        name = "g"
        interval = "0 s"
        stream = ""
        signals = []
        [[device.group]]
        name = "g"
        interval = "1 s"
        signals = [
          { name = "a", table = "holding", address = 65535, type = "u32" },
          { name = "a", table = "coil", address = 0, type = "i16", order = "abcd" },
          { name = "", table = "input", address = 0, type = "bool", scale = 2.0 },
          { name = "d", table = "input", address = 0, type = "bit" },
          { name = "e", table = "input", address = 0, type = "bit", bit = 16 },
          { name = "f", table = "input", address = 0, type = "string" },
          { name = "g", table = "input", address = 0, type = "string", length = 0 },
          { name = "h", table = "input", address = 0, type = "string", length = 4 },
          { name = "i", table = "input", address = 0, type = "u64", bit = 1, length = 1 },
          { name = "j", table = "input", address = 0, type = "u16", scale = 0.0, offset = inf },
        ]
        "#,
    )
    .unwrap();
    let told: Vec<String> =
        config.check().iter().map(|(key, what)| format!("{key} {what}")).collect();
    let signals = "device[1].group[1].signals";
    let expected = [
        "name is empty: give the source a name".to_owned(),
        "stream is empty: name the stream of the events".to_owned(),
        "address `10.0.0.5:port` is not a host and a port: write it as \"10.0.0.5:502\", \
         \"plc.local\" or \"[fe80::1]:502\""
            .to_owned(),
        "timeout is zero: at least 1 ms".to_owned(),
        "device[0].max_registers 126 is not within 1 to 125".to_owned(),
        "device[0].max_bits 0 is not within 1 to 2000".to_owned(),
        "device[0].group is empty: add a [[source.device.group]]".to_owned(),
        "device[1].name `boiler` is already a device of this source".to_owned(),
        "device[1].group[0].interval is zero: at least 1 ms".to_owned(),
        "device[1].group[0].stream is empty: name a stream or leave the key out".to_owned(),
        "device[1].group[0].signals is empty: name what is to be read".to_owned(),
        "device[1].group[1].name `g` is already a group of this device".to_owned(),
        format!("{signals}[0].address 65535 and 2 registers go beyond 65535"),
        format!("{signals}[1].name `a` is already a signal of this group"),
        format!("{signals}[1].type `i16` does not fit table `coil`: use `bool`"),
        format!("{signals}[1].order has no meaning in table `coil`"),
        format!("{signals}[2].name is empty: give the signal a name"),
        format!("{signals}[2].type `bool` does not fit table `input`: use `bit` with `bit = 0`"),
        format!("{signals}[2].scale has no meaning for type `bool`"),
        format!("{signals}[3].bit is missing: 0 (lowest) to 15"),
        format!("{signals}[4].bit 16 is not within 0 to 15"),
        format!("{signals}[5].length is missing: the length in registers"),
        format!("{signals}[6].length is zero: at least 1"),
        format!("{signals}[7].length takes 4 registers, the device gives at most 3 at once"),
        format!("{signals}[8].bit is only for `type = \"bit\"`"),
        format!("{signals}[8].length is only for `type = \"string\"`"),
        format!("{signals}[8].length takes 4 registers, the device gives at most 3 at once"),
        format!("{signals}[9].offset inf is not a finite number"),
        format!("{signals}[9].scale is zero: every value would be the offset"),
    ];
    assert_eq!(told, expected);
}

#[test]
fn an_unknown_key_is_refused() {
    let error = parse("name = \"a\"\nstream = \"s\"\naddress = \"b\"\nintervall = 1\ndevice = []");
    assert!(error.unwrap_err().to_string().contains("unknown field `intervall`"));
}

#[test]
fn addresses_have_port_502_unless_they_name_one() {
    let endpoint = |text: &str| config::endpoint(text).ok();
    let is = |host: &str, port| Some((host.to_owned(), port));
    assert_eq!(endpoint("plc.local"), is("plc.local", 502));
    assert_eq!(endpoint("10.0.0.5:1502"), is("10.0.0.5", 1502));
    assert_eq!(endpoint("[fe80::1]:1502"), is("fe80::1", 1502));
    assert_eq!(endpoint("[fe80::1]"), is("fe80::1", 502));
    assert_eq!(endpoint("fe80::1"), is("fe80::1", 502));
    for wrong in ["", ":502", "a:", "a:0", "a:70000", "a b", "[fe80::1", "[fe80::1]502"] {
        assert_eq!(endpoint(wrong), None, "{wrong}");
    }
}
