//! The port with real sockets before stages that are real or in the hands of the
//! test.

mod figures;
mod health;
mod page;
mod port;
mod whole;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::buffer;
use crate::collect::{self, Buffer, Collector, Delivery, Intake, SourceInfo};
use crate::event::{Event, Quality, Timestamp};
use crate::flow::{self, Flows, Lane, Stream};
use crate::source::modbus::Counts;
use crate::source::serial::Frames;
use crate::source::sparkplug;
use crate::supervise::{Link, Standing};
use crate::units::{Period, Room};

const NOW: Timestamp = Timestamp(1_767_225_600_000_000_000);

/// A name that the text must write in another way.
const STRANGE: &str = "boil\"er\\\n1";

/// The stages: a real writer, and the states of a forwarder and of a source
/// that the test plays.
struct Bench {
    board: Arc<Board>,
    clock: Clock,
    /// The writer runs as long as it is held.
    _collector: Collector,
    intake: Intake,
    flow: flow::Id,
    forward: watch::Sender<forward::Status>,
    writer: Pulse,
    link: Link,
    cycles: Arc<Cycles>,
    frames: Arc<Frames>,
    counts: Arc<sparkplug::Counts>,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = buffer::Config {
            path: folder.path().join("buffer.db"),
            commit_interval: Period::from_millis(1),
            min_free_disk: Room::Size(crate::units::ByteSize(0)),
            ..buffer::Config::default()
        };
        let clock = Clock::fixed(NOW);
        let file = Buffer::open(&config, "gw1", clock.clone()).unwrap();
        let stream = Stream { name: "plant".into(), topic: "plant".into(), create: None };
        let mut flows = Flows::new([stream]);
        let flow = flows.id("plant", Lane::Live);
        let source = SourceInfo { name: "plc".into(), labels: Vec::new() };
        let (collector, mut intakes) = collect::start(file, vec![source], flows).unwrap();
        let (forward, status) = watch::channel(forward::Status::begin());
        let writer = Pulse::new("buffer");
        let mut link = Link::new("plc".into());
        link.device(STRANGE, Standing::Up, "");
        link.way("10.0.0.5:502", None);
        let cycles = Arc::new(Cycles::new(STRANGE.into(), "fast".to_owned()));
        let frames = Arc::new(Frames::default());
        let counts = Arc::<sparkplug::Counts>::default();
        let seen = Seen {
            sources: vec![link.watch()],
            cycles: vec![("plc".into(), vec![Arc::clone(&cycles)])],
            frames: vec![("plc".into(), Arc::clone(&frames))],
            sparkplug: vec![("plc".into(), Arc::clone(&counts))],
            streams: vec!["plant".to_owned()],
            pulses: vec![writer.clone()],
        };
        let certificate = Certificate {
            by: "kafka.tls".to_owned(),
            file: "/etc/tidegate/gw1.pem".to_owned(),
            ends: 1_893_456_000,
        };
        let board = Board {
            gateway: "gw1".to_owned(),
            clock: clock.clone(),
            seen: watch::Sender::new(seen).subscribe(),
            store: collector.store(),
            forward: status,
            certificates: watch::Sender::new(vec![certificate]).subscribe(),
        };
        Self {
            board: Arc::new(board),
            clock,
            _collector: collector,
            intake: intakes.remove(0),
            flow,
            forward,
            writer,
            link,
            cycles,
            frames,
            counts,
            _folder: folder,
        }
    }

    /// Everything is well.
    fn well(&mut self) {
        self.link.up("10.0.0.5:502");
        self.forward.send_modify(|status| status.state = "sending");
    }

    /// Stores so many events, the first read a minute ago.
    async fn store(&mut self, events: i64) {
        let event = |n: i64| Event {
            flow: self.flow,
            device: "d".into(),
            time: Timestamp(NOW.0 - 60_000_000_000 + n),
            read_at: None,
            quality: Quality::Good,
            fields: Vec::new(),
        };
        let events = (0..events).map(event).collect();
        let delivery = Delivery { events, bytes: 1, urgent: true, ..Delivery::default() };
        let ticket = self.intake.deliver(delivery).await.unwrap();
        self.intake.wait_committed(ticket).await.unwrap();
    }

    /// A server that runs as long as what is given back is held.
    fn serve(&self) -> (SocketAddr, JoinSet<()>) {
        let server = Server::open("127.0.0.1:0".parse().unwrap());
        let address = server.address().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(server.serve(Arc::clone(&self.board)));
        (address, tasks)
    }
}

/// A stream whose topic is missing.
fn aside(stream: &str) -> forward::Aside {
    let words = |text: &str| text.to_owned();
    forward::Aside { stream: words(stream), topic: words("lines"), cause: words("it is missing") }
}

/// Everything that comes back for these bytes, until the other end closes.
async fn say(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// An answer, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn of(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and an empty line");
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let status = status.expect("a status line").parse().unwrap();
        Self { status, head: head.to_lowercase(), body: body.to_owned() }
    }
}

async fn get(address: SocketAddr, path: &str) -> Answer {
    Answer::of(&say(address, &format!("GET {path} HTTP/1.1\r\nHost: gw\r\n\r\n")).await)
}
