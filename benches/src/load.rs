//! A `QoS` 1 publisher that the broker cannot outrun: it writes hundreds of
//! messages by one system call and never waits for an acknowledgement, which a
//! second thread counts.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Messages of one write at full speed.
const CHUNK: u64 = 500;

/// At a rate, one write in so much time, and so often a second.
const BEAT: Duration = Duration::from_millis(10);
const BEATS: u64 = 100;

/// Devices that the messages come from in turn, where nothing else is asked for.
const DEVICES: u64 = 20;

/// A broker that is silent for so long is broken.
const SILENCE: Duration = Duration::from_mins(1);

const CONNECT: u8 = 0x10;
const PUBLISH_QOS_1: u8 = 0x32;
const PUBACK_BYTES: u64 = 4;

/// Publishes so many messages on `<root>/<device>/state`; its thread ends when
/// the broker has acknowledged all.
pub(crate) fn publish(port: u16, root: &str, count: u64, rate: Option<u64>) -> JoinHandle<()> {
    publish_of(DEVICES, port, root, count, rate)
}

/// The same of so many devices.
pub(crate) fn publish_of(
    devices: u64,
    port: u16,
    root: &str,
    count: u64,
    rate: Option<u64>,
) -> JoinHandle<()> {
    let root = root.to_owned();
    std::thread::spawn(move || {
        let mut stream = connect(port);
        let mut answers = stream.try_clone().expect("a socket can be cloned");
        let counting = std::thread::spawn(move || count_answers(&mut answers, count));
        let since = Instant::now();
        let (mut next, mut beats, mut bytes) = (0, 0, Vec::new());
        while next < count {
            beats += 1;
            let due = rate.map_or(next + CHUNK, |rate| due(rate, beats));
            let end = count.min(due);
            bytes.clear();
            for number in next..end {
                message(&mut bytes, &root, number % devices, number);
            }
            stream.write_all(&bytes).expect("the broker reads");
            next = end;
            if rate.is_some() {
                std::thread::sleep((BEAT * beats).saturating_sub(since.elapsed()));
            }
        }
        counting.join().expect("the broker acknowledges all messages");
    })
}

/// Messages that are due after so many beats.
fn due(rate: u64, beats: u32) -> u64 {
    rate * u64::from(beats) / BEATS
}

/// Publishes so many messages one by one, a pause after each, and gives for each
/// the moment at which it was handed to the broker.
pub(crate) fn pulse(port: u16, root: &str, count: u64, pause: Duration) -> Vec<Instant> {
    let (mut stream, mut bytes) = (connect(port), Vec::new());
    let (begun, mut moments) = (Instant::now(), Vec::new());
    for number in 0..count {
        bytes.clear();
        message(&mut bytes, root, number % DEVICES, number);
        moments.push(Instant::now());
        stream.write_all(&bytes).expect("the broker reads");
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).expect("the broker acknowledges");
        let next = pause * u32::try_from(number + 1).expect("pulses are few");
        std::thread::sleep(next.saturating_sub(begun.elapsed()));
    }
    moments
}

/// The number that the message carries in its field `n`.
pub(crate) const fn n(number: u64) -> u64 {
    100_000_000 + number
}

pub(crate) fn connect(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
    stream.set_nodelay(true).expect("a socket takes nodelay");
    stream.set_read_timeout(Some(SILENCE)).expect("a socket takes a time-out");
    // MQTT 3.1.1, 3.1: name, level 4, clean session, no keep-alive, no client id.
    let body = [0, 4, b'M', b'Q', b'T', b'T', 4, 0b10, 0, 0, 0, 0];
    let head = [CONNECT, 12];
    stream.write_all(&[head.as_slice(), &body].concat()).expect("the broker reads");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("the broker answers");
    assert_eq!(answer, [0x20, 2, 0, 0], "the broker takes the client");
    stream
}

fn count_answers(stream: &mut TcpStream, count: u64) {
    let (mut buffer, mut left) = (vec![0; 64 * 1024], count * PUBACK_BYTES);
    while left > 0 {
        let read = stream.read(&mut buffer).expect("the broker acknowledges");
        assert!(read > 0, "the broker closed the publisher's connection");
        left -= u64::try_from(read).expect("a count of bytes fits");
    }
}

/// What the messages of a device are published on.
pub(crate) fn topic(root: &str, device: u64) -> String {
    format!("{root}/device-{device:02}/state")
}

/// Appends the PUBLISH of message `number`: eight fields, 133 bytes.
fn message(bytes: &mut Vec<u8>, root: &str, device: u64, number: u64) {
    let topic = topic(root, device);
    let payload = format!(
        r#"{{"n":{},"temp":{:.2},"pressure":{:.4},"flow":{:.3},"speed":{},"level":{:.4},"state":"running, program 42b","alarm":false}}"#,
        n(number),
        20.0 + crate::line::float(number % 997) / 100.0,
        3.0 + crate::line::float(number % 9_973) / 10_000.0,
        14.0 + crate::line::float(number % 4_999) / 1_000.0,
        1_400 + number % 200,
        0.1 + crate::line::float(number % 7_919) / 10_000.0,
    );
    let length = 2 + topic.len() + 2 + payload.len();
    bytes.push(PUBLISH_QOS_1);
    // MQTT 3.1.1, 2.2.3: seven bits a byte, the lowest first.
    let [low, high] = u16::try_from(length).expect("messages are short").to_le_bytes();
    let (low, high) = (low | 0x80, high << 1 | low >> 7);
    bytes.extend([low, high]);
    bytes.extend(u16::try_from(topic.len()).expect("topics are short").to_be_bytes());
    bytes.extend(topic.as_bytes());
    // Packet ids are 1 to 65,535.
    let id = u16::try_from(number % 65_535 + 1).expect("it fits");
    bytes.extend(id.to_be_bytes());
    bytes.extend(payload.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use rumqttc_v4::mqttbytes::v4::Packet;

    #[test]
    fn a_rate_below_that_of_the_beats_leaves_some_of_them_out() {
        let sent: Vec<u64> = (0..=10).map(|beats| due(20, beats)).collect();
        assert_eq!(sent, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2]);
        assert_eq!([due(1_000, 1), due(1_000, 100)], [10, 1_000]);
    }

    #[test]
    fn a_message_is_a_publish_of_133_bytes_of_json_with_eight_fields() {
        for number in [0, 7, 199_999] {
            let mut bytes = Vec::new();
            message(&mut bytes, "bench", 7, number);
            let mut bytes = bytes::BytesMut::from(bytes.as_slice());
            let Ok(Packet::Publish(publish)) = Packet::read(&mut bytes, usize::MAX) else {
                unreachable!("it is a PUBLISH")
            };
            assert!(bytes.is_empty());
            let json: serde_json::Value = serde_json::from_slice(&publish.payload).unwrap();
            assert_eq!((publish.payload.len(), json.as_object().unwrap().len()), (133, 8));
        }
    }
}
