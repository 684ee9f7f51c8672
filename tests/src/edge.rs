//! An edge node of Sparkplug B on the bare protocol, MQTT 3.1.1, with one device: it is
//! born, sends values by alias, is born again when it is told to, and dies with its
//! connection. It notes what it said, and shares no code with the agent.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message as _;

use crate::panic_with;
use crate::sparkplug::Said;

/// Whoever is silent for so long is broken.
const SILENCE: Duration = Duration::from_mins(1);

/// Of Sparkplug, 6.4.16.
const INT32: u32 = 3;
const INT64: u32 = 4;
const BOOLEAN: u32 = 11;

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(uint64, optional, tag = "1")]
    timestamp: Option<u64>,
    #[prost(message, repeated, tag = "2")]
    metrics: Vec<Metric>,
    #[prost(uint64, optional, tag = "3")]
    seq: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Metric {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(uint64, optional, tag = "2")]
    alias: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "4")]
    datatype: Option<u32>,
    #[prost(uint32, optional, tag = "10")]
    int: Option<u32>,
    #[prost(uint64, optional, tag = "11")]
    long: Option<u64>,
    #[prost(bool, optional, tag = "14")]
    boolean: Option<bool>,
}

/// The node `<group>/<node>` and its device `pump`; each has the metrics `a` and `b`.
#[derive(Debug)]
pub struct Edge {
    stream: TcpStream,
    group: String,
    node: String,
    session: u64,
    seq: u64,
    /// Added to each alias: another session has other aliases.
    shift: u64,
    value: i32,
    pub said: Vec<Said>,
}

impl Edge {
    /// Logs in with its will and listens for commands; it is not born yet.
    pub fn connect(port: u16, group: &str, node: &str, session: u64) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
        stream.set_read_timeout(Some(SILENCE)).expect("a socket takes a time-out");
        let bd_seq = [bd_seq(session)].to_vec();
        let will = Payload { metrics: bd_seq, ..Payload::default() }.encode_to_vec();
        // Clean session, a will of QoS 1, no keep-alive.
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0b1110, 0, 0];
        text(&mut body, format!("edge-{group}-{node}").as_bytes());
        text(&mut body, format!("spBv1.0/{group}/NDEATH/{node}").as_bytes());
        text(&mut body, &will);
        stream.write_all(&packet(0x10, &body)).expect("the broker reads");
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).expect("the broker answers");
        assert_eq!(answer, [0x20, 2, 0, 0], "the broker takes the edge node");
        let mut body = vec![0, 1];
        text(&mut body, format!("spBv1.0/{group}/NCMD/{node}").as_bytes());
        body.push(1);
        stream.write_all(&packet(0x82, &body)).expect("the broker reads");
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).expect("the broker answers");
        assert_eq!(answer[0], 0x90, "the broker takes the subscription");
        let (group, node) = (group.to_owned(), node.to_owned());
        let value = i32::try_from(session).expect("few sessions") * -1_000;
        Self { stream, group, node, session, seq: 0, shift: session, value, said: Vec::new() }
    }

    /// Its births, with a value of each metric.
    pub fn birth(&mut self) {
        self.seq = 0;
        let rebirth = Metric {
            name: Some("Node Control/Rebirth".to_owned()),
            datatype: Some(BOOLEAN),
            boolean: Some(false),
            ..Metric::default()
        };
        let mut metrics = vec![bd_seq(self.session), rebirth];
        metrics.extend(["a", "b"].map(|name| self.metric(None, name, true)));
        self.send("NBIRTH", None, metrics, true);
        let metrics = ["a", "b"].map(|name| self.metric(Some("pump"), name, true));
        self.send("DBIRTH", Some("pump"), metrics.to_vec(), true);
    }

    /// So many values of each metric, by alias.
    pub fn data(&mut self, count: u32) {
        for _ in 0..count {
            for device in [None, Some("pump")] {
                for name in ["a", "b"] {
                    let metric = self.metric(device, name, false);
                    let kind = if device.is_some() { "DDATA" } else { "NDATA" };
                    self.send(kind, device, vec![metric], true);
                }
            }
        }
    }

    /// A value that is lost on its way to the broker.
    pub fn lose(&mut self) {
        let metric = self.metric(None, "a", false);
        self.said.pop();
        self.send("NDATA", None, vec![metric], false);
    }

    /// Waits until it is told to be born again.
    pub fn wait_command(&mut self) {
        loop {
            let (kind, body) = self.read();
            if kind >> 4 != 3 {
                continue;
            }
            let (length, rest) = body.split_first_chunk::<2>().expect("a topic has a length");
            let (topic, payload) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
            assert_eq!(topic, format!("spBv1.0/{}/NCMD/{}", self.group, self.node).as_bytes());
            let payload = Payload::decode(payload).expect("a command is a payload");
            let [metric] = &*payload.metrics else {
                panic_with(&format!("not one metric: {payload:?}"));
            };
            assert_eq!(metric.name.as_deref(), Some("Node Control/Rebirth"));
            assert_eq!((metric.boolean, payload.seq), (Some(true), None));
            return;
        }
    }

    /// The connection breaks, and the broker sends the will.
    pub fn vanish(self) -> Vec<Said> {
        self.stream.shutdown(Shutdown::Both).expect("the connection is there");
        self.said
    }

    /// The next value of a metric, which is noted as said.
    fn metric(&mut self, device: Option<&str>, name: &str, is_birth: bool) -> Metric {
        self.value -= 1;
        let ms = now();
        let of_device = if device.is_some() { 2 } else { 0 };
        let alias = (u64::from(name == "b") + self.shift) % 2 + of_device;
        self.said.push(Said {
            device: device.map_or(self.node.clone(), |device| format!("{}/{device}", self.node)),
            metric: name.to_owned(),
            ms,
            value: self.value.into(),
        });
        Metric {
            name: is_birth.then(|| name.to_owned()),
            alias: Some(alias),
            timestamp: Some(ms),
            datatype: is_birth.then_some(INT32),
            int: Some(self.value.cast_unsigned()),
            ..Metric::default()
        }
    }

    fn send(&mut self, kind: &str, device: Option<&str>, metrics: Vec<Metric>, arrives: bool) {
        let payload = Payload { timestamp: Some(now()), metrics, seq: Some(self.seq) };
        self.seq = (self.seq + 1) % 256;
        let device = device.map(|device| format!("/{device}")).unwrap_or_default();
        let mut body = Vec::new();
        text(&mut body, format!("spBv1.0/{}/{kind}/{}{device}", self.group, self.node).as_bytes());
        body.extend(payload.encode_to_vec());
        if arrives {
            self.stream.write_all(&packet(0x30, &body)).expect("the broker reads");
        }
    }

    fn read(&mut self) -> (u8, Vec<u8>) {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).expect("the broker says something");
        let kind = byte[0];
        let (mut length, mut shift) = (0, 0);
        loop {
            self.stream.read_exact(&mut byte).expect("a packet has a length");
            length |= usize::from(byte[0] & 0x7F) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a packet is whole");
        (kind, body)
    }
}

fn bd_seq(session: u64) -> Metric {
    Metric {
        name: Some("bdSeq".to_owned()),
        datatype: Some(INT64),
        long: Some(session),
        ..Metric::default()
    }
}

fn now() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "an edge node has a clock of its own")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("before the year 500 million")
}

fn text(body: &mut Vec<u8>, text: &[u8]) {
    body.extend(u16::try_from(text.len()).expect("texts are short").to_be_bytes());
    body.extend(text);
}

/// A packet with its length in the variable form of MQTT 3.1.1, 2.2.3.
fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    let mut left = body.len();
    loop {
        let low = u8::try_from(left % 128).expect("below 128");
        left /= 128;
        bytes.push(if left > 0 { low | 0x80 } else { low });
        if left == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}
