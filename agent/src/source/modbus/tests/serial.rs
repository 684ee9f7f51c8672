//! The source on serial ports: pseudo-terminals, with a scripted device at the
//! other end.

use std::io;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::frame::Query;
use super::*;
use crate::source::port::Port;
use crate::source::port::pty::Pty;

/// The other end of a serial port.
struct Bus {
    pty: Pty,
    framing: Framing,
}

fn socket(folder: &Path) -> PathBuf {
    Pty::path(folder)
}

impl Bus {
    /// Plugs a port in.
    fn plug(folder: &Path, framing: Framing) -> Self {
        Self { pty: Pty::plug(folder), framing }
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.pty.master.write_all(bytes).await.unwrap();
    }

    /// A frame with this unit and PDU.
    async fn frame(&mut self, body: &[u8]) {
        self.say(&self.framing.wrap(body, 0)).await;
    }

    /// The next request, and its bytes.
    async fn heard(&mut self) -> (Asked, Vec<u8>) {
        let any = Query { unit: 1, function: 3, address: 0, count: 1 };
        let mut bytes = self.framing.request(any, 0);
        self.pty.master.read_exact(&mut bytes).await.expect("a request comes");
        let body: Vec<u8> = if self.framing == Framing::Ascii {
            let text = std::str::from_utf8(&bytes[1..13]).unwrap();
            let pairs = (0..12).step_by(2).map(|at| &text[at..at + 2]);
            pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
        } else {
            bytes[..6].to_vec()
        };
        let word = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
        let (address, count) = (word(2), word(4));
        let asked = Asked { transaction: 0, unit: body[0], function: body[1], address, count };
        assert_eq!(self.framing.request(query(asked), 0), bytes, "its checksum is right");
        (asked, bytes)
    }

    async fn asked(&mut self) -> Asked {
        self.heard().await.0
    }

    /// The right answer: register `n` of it holds `first + n`.
    async fn answer(&mut self, asked: Asked, first: u16) {
        self.frame(&right(asked, first)).await;
    }
}

fn query(asked: Asked) -> Query {
    let Asked { unit, function, address, count, .. } = asked;
    Query { unit, function, address, count }
}

fn right(asked: Asked, first: u16) -> Vec<u8> {
    [vec![asked.unit], registers(asked.function, asked.count, first)].concat()
}

/// A source of two registers on this port, with these keys besides.
fn on_port(folder: &Path, keys: &str) -> (Bench, TestCommits) {
    let devices = ONE.replace("30 s", "500 ms");
    bench(socket(folder).to_str().unwrap(), &format!("{keys}\n{devices}"))
}

#[tokio::test]
async fn registers_are_read_by_rtu_and_by_ascii_with_and_without_an_echo() {
    for (framing, echo) in [
        (Framing::Rtu, false),
        (Framing::Rtu, true),
        (Framing::Ascii, false),
        (Framing::Ascii, true),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut bus = Bus::plug(folder.path(), framing);
        let name = format!("{framing:?}").to_lowercase();
        let keys = format!("framing = \"{name}\"\nserial = {{ baud = 115200, echo = {echo} }}");
        let (mut bench, mut commits) = on_port(folder.path(), &keys);
        let script = async {
            for round in 0..5 {
                let (asked, bytes) = bus.heard().await;
                assert_eq!((asked.unit, asked.function), (7, 3));
                assert_eq!((asked.address, asked.count), (10, 2));
                if echo {
                    bus.say(&bytes).await;
                }
                bus.answer(asked, 5 + round).await;
                let (a, b) = (u64::from(5 + round), u64::from(6 + round));
                assert_eq!(fields(&commits.event().await), good(a, b), "{framing} {echo}");
            }
        };
        assert!(bench.run(script).await.0.is_ok());
        assert!(bench.faults().is_empty(), "{:?}", bench.faults());
    }
}

/// What comes instead of the answer gives no value, and costs no more than that:
/// the port stays open and is read again.
async fn check_wrong_bytes(name: &str, quality: Quality, bytes: impl Fn(Asked) -> Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let mut bus = Bus::plug(folder.path(), Framing::Rtu);
    let (mut bench, mut commits) = on_port(folder.path(), "");
    let script = async {
        let asked = bus.asked().await;
        bus.say(&bytes(asked)).await;
        let event = commits.event().await;
        assert_eq!((fields(&event), event.quality), (nothing(), quality), "{name}");
        // One register: its answer is told from any that is still to come.
        let probe = bus.asked().await;
        assert_eq!((probe.function, probe.address, probe.count), (3, 10, 1), "{name}");
        bus.answer(probe, 1).await;
        let asked = bus.asked().await;
        assert_eq!(asked.count, 2);
        bus.answer(asked, 5).await;
        assert_eq!(fields(&commits.event().await), good(5, 6), "{name}");
    };
    assert!(bench.run(script).await.0.is_ok(), "{name}");
}

#[tokio::test]
async fn what_is_not_exactly_the_answer_is_never_a_value_on_a_serial_line() {
    fn rtu(body: &[u8]) -> Vec<u8> {
        Framing::Rtu.wrap(body, 0)
    }
    let bad = Quality::BadPayload;
    let checks = async |name, quality, bytes: fn(Asked) -> Vec<u8>| {
        check_wrong_bytes(name, quality, bytes).await;
    };
    tokio::join!(
        checks("nothing", Quality::Timeout, |_| Vec::new()),
        checks("a byte of noise", Quality::Timeout, |_| vec![0xFF]),
        checks("a flipped bit", bad, |asked| {
            let mut bytes = rtu(&right(asked, 666));
            bytes[4] ^= 0x10;
            bytes
        }),
        checks("a part", bad, |asked| {
            let mut bytes = rtu(&right(asked, 666));
            bytes.truncate(7);
            bytes
        }),
        checks("another unit", bad, |asked| rtu(&right(Asked { unit: 8, ..asked }, 666))),
        checks("another function", bad, |asked| rtu(&right(Asked { function: 4, ..asked }, 666))),
        checks("too many registers", bad, |asked| rtu(&right(Asked { count: 3, ..asked }, 666))),
        checks("the request itself", bad, |asked| Framing::Rtu.request(query(asked), 0)),
    );
}

#[tokio::test]
async fn noise_around_an_answer_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut bus = Bus::plug(folder.path(), Framing::Rtu);
    let (mut bench, mut commits) = on_port(folder.path(), "");
    let script = async {
        for round in 0..3 {
            let asked = bus.asked().await;
            let answer = Framing::Rtu.wrap(&right(asked, round), 0);
            bus.say(&[&[0, 0xFF], answer.as_slice(), &[0]].concat()).await;
            let (a, b) = (u64::from(round), u64::from(round + 1));
            assert_eq!(fields(&commits.event().await), good(a, b));
        }
    };
    assert!(bench.run(script).await.0.is_ok());
    assert!(bench.faults().is_empty(), "{:?}", bench.faults());
}

#[tokio::test]
async fn the_late_answer_of_one_read_is_not_taken_for_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut bus = Bus::plug(folder.path(), Framing::Rtu);
    let devices = r#"
        timeout = "500 ms"
        [[device]]
        name = "slow"
        unit = 1
        group = [{ interval = "20 ms", signals = [{ name = "a", table = "holding", address = 0 }] }]
        [[device]]
        name = "quick"
        unit = 1
        group = [{ interval = "20 ms", signals = [{ name = "a", table = "holding", address = 9 }] }]
    "#;
    let (mut bench, mut commits) = bench(socket(folder.path()).to_str().unwrap(), devices);
    let script = async {
        let late = bus.asked().await;
        let silence = commits.event().await;
        assert_eq!((&*silence.device, silence.quality), ("slow", Quality::Timeout));
        // The other table: there is no shorter read than that of one register.
        let probe = bus.asked().await;
        assert_eq!((probe.function, probe.address, probe.count), (4, 9, 1));
        bus.answer(late, 666).await;
        bus.frame(&[1, 0x84, 1]).await;
        let asked = bus.asked().await;
        assert_eq!((asked.function, asked.address), (3, 9));
        bus.answer(asked, 5).await;
        let event = commits.event().await;
        assert_eq!((&*event.device, fields(&event)), ("quick", vec![("a", Value::U64(5), None)]));
    };
    assert!(bench.run(script).await.0.is_ok());
}

#[tokio::test]
async fn an_adapter_that_was_unplugged_is_read_again_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (mut bench, mut commits) = on_port(folder.path(), "");
    let path = socket(folder.path());
    let path = path.display();
    for round in 0..2 {
        let mut bus = Bus::plug(folder.path(), Framing::Rtu);
        let script = async {
            let asked = bus.asked().await;
            bus.answer(asked, round).await;
            let (a, b) = (u64::from(round), u64::from(round + 1));
            assert_eq!(fields(&commits.event().await), good(a, b));
            drop(bus);
            let event = commits.event().await;
            assert_eq!((fields(&event), event.quality), (nothing(), Quality::Timeout));
        };
        let run = bench.source.run(&mut bench.intake, &mut bench.link, &bench.stop);
        let (end, ()) = tokio::join!(run, script);
        assert_eq!(end.unwrap_err().to_string(), format!("cannot open {path}"));
    }
    // And nothing is told again while it stays away.
    let run = bench.source.run(&mut bench.intake, &mut bench.link, &bench.stop);
    assert_eq!(run.await.unwrap_err().to_string(), format!("cannot open {path}"));
    assert!(commits.deliveries.try_recv().is_err());
}

#[tokio::test]
async fn a_port_is_open_once() {
    let folder = tempfile::tempdir().unwrap();
    let _bus = Bus::plug(folder.path(), Framing::Rtu);
    let open = || Port::open(&socket(folder.path()), Serial::default().setting(Framing::Rtu));
    let first = open().unwrap();
    let second = open().unwrap_err();
    assert_eq!(second.kind(), io::ErrorKind::ResourceBusy);
    assert_eq!(second.to_string(), "another program or source has it open");
    drop(first);
    open().unwrap();
}

#[tokio::test]
async fn what_is_no_serial_port_or_has_no_such_direction_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Port::open(&file, Serial::default().setting(Framing::Rtu)).unwrap_err();
    assert_eq!(error.to_string(), "it is no serial port");
    let _bus = Bus::plug(folder.path(), Framing::Rtu);
    let serial = Serial { rs485: true, ..Serial::default() };
    let error = Port::open(&socket(folder.path()), serial.setting(Framing::Rtu)).unwrap_err();
    let said = "its driver does not turn the direction of RS-485: leave `rs485` out";
    assert!(error.to_string().starts_with(said), "{error}");
}

#[tokio::test]
async fn a_device_server_is_read_by_rtu_and_ascii_over_tcp_and_its_late_bytes_are_known() {
    for framing in [Framing::Rtu, Framing::Ascii] {
        let (listener, address) = listen().await;
        let name = format!("{framing:?}").to_lowercase();
        let devices = ONE.replace("30 s", "500 ms");
        let keys = format!("framing = \"{name}\"\n{devices}");
        let (mut bench, mut commits) = bench(&address, &keys);
        let length = framing.request(Query { unit: 1, function: 3, address: 0, count: 1 }, 0).len();
        let script = async {
            let asked = Asked { transaction: 0, unit: 7, function: 3, address: 10, count: 2 };
            let hear = async |stream: &mut TcpStream, asked| {
                let mut bytes = vec![0; length];
                stream.read_exact(&mut bytes).await.unwrap();
                assert_eq!(bytes, framing.request(query(asked), 0));
            };
            let mut first = listener.accept().await.unwrap().0;
            hear(&mut first, asked).await;
            first.write_all(&framing.wrap(&right(asked, 1), 0)).await.unwrap();
            assert_eq!(fields(&commits.event().await), good(1, 2));
            hear(&mut first, asked).await;
            assert_eq!(commits.event().await.quality, Quality::Timeout);
            // It gives to the new connection what the old one waited for.
            let mut second = listener.accept().await.unwrap().0;
            let probe = Asked { count: 1, ..asked };
            hear(&mut second, probe).await;
            second.write_all(&framing.wrap(&right(asked, 666), 0)).await.unwrap();
            second.write_all(&framing.wrap(&right(probe, 5), 0)).await.unwrap();
            hear(&mut second, asked).await;
            second.write_all(&framing.wrap(&right(asked, 5), 0)).await.unwrap();
            assert_eq!(fields(&commits.event().await), good(5, 6));
        };
        assert!(bench.run(script).await.0.is_ok());
    }
}
