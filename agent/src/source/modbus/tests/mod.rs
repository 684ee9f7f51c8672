//! The source against peers on real sockets: tokio-modbus's own server where
//! all is well, a scripted peer where it is not.

mod check;
mod fallback;
mod faults;
mod outline;
mod polling;
mod refused;
mod serial;
mod simulator;
mod standing;
mod sunspec;
mod values;

use std::future::Future;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
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
    bench_with(address, devices, None)
}

/// The same after a restart: its last checkpoint held this.
fn bench_with(address: &str, devices: &str, saved: Option<&[u8]>) -> (Bench, TestCommits) {
    let head = format!("name = \"bus\"\nstream = \"plant\"\naddress = \"{address}\"\n");
    let config = parse(&(head + devices)).unwrap();
    assert_eq!(config.check(), []);
    let mut flows = Flows::default();
    let setup = Setup {
        gateway: "gw1",
        flows: &mut flows,
        clock: Clock::fixed(NOW),
        saved: saved.map(Arc::from),
        lost: false,
    };
    let source = Source::new(&config, setup);
    let (intake, commits) = Intake::for_test(64);
    let (link, stop) = (Link::new(Arc::from("bus")), CancellationToken::new());
    (Bench { source, intake, link, stop }, commits)
}

impl Bench {
    /// Of all groups.
    fn counts(&self) -> Counts {
        self.source.cycles().iter().fold(Counts::default(), |sum, cycles| {
            let one = cycles.counts();
            Counts {
                read: sum.read + one.read,
                missed: sum.missed + one.missed,
                rested: sum.rested + one.rested,
                failed: sum.failed + one.failed,
                refused: sum.refused + one.refused,
            }
        })
    }

    /// What is wrong, besides the interval: that a busy machine breaks it is
    /// none of these tests' business.
    fn faults(&self) -> Vec<(String, String)> {
        let faults = self.link.faults().into_iter();
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
        self.event_and_checkpoint().await.0
    }

    async fn event_and_checkpoint(&mut self) -> (Event, Option<Checkpoint>) {
        let (ticket, mut delivery) = self.deliveries.recv().await.expect("the source runs");
        self.commit(ticket);
        assert_eq!(delivery.events.len(), 1);
        assert!(delivery.bytes > 0);
        (delivery.events.remove(0), delivery.checkpoint)
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

    /// The source drops this connection without another request. A reset is a
    /// drop too: the source left bytes unread.
    async fn dropped(&mut self) {
        let read = self.0.read(&mut [0]).await;
        assert!(matches!(read, Ok(0) | Err(_)), "another request on a tainted connection");
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
