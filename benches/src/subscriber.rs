//! What reading MQTT costs at least: a subscriber that acknowledges at once and
//! looks at nothing.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use clap::Args;
use rumqttc_v4::mqttbytes::QoS;
use rumqttc_v4::mqttbytes::v4::{Packet, PubAck, Subscribe};
use serde::{Deserialize, Serialize};

use crate::bench::{Bench, DEADLINE};
use crate::line::{Line, float};
use crate::load;
use crate::meter::{Lap, Meter};

/// Between two reads, as the agent has it in a burst.
const PAUSE: Duration = Duration::from_millis(2);

#[derive(Debug, Args)]
pub(crate) struct Work {
    port: u16,
    topic: String,
    count: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Result {
    rate: f64,
    micros: f64,
}

pub(crate) fn compare(bench: &mut Bench) {
    let name = "subscriber";
    let (port, count) = (bench.mosquitto.port, bench.events);
    let child = crate::bench::child(name, &[&port.to_string(), "subscriber/#", &count.to_string()]);
    child.wait_line("SUBSCRIBED", DEADLINE);
    let load = load::publish(port, name, count, None);
    let result = child.wait_line("{", DEADLINE);
    load.join().expect("the publisher ends well");
    let result: Result = serde_json::from_str(&result).expect("it says what it was");
    let name = "bare subscriber";
    bench.lines.extend([
        Line::told(name, "messages read and acknowledged", result.rate, "/s"),
        Line::told(name, "CPU", result.micros, "µs/msg").note("the floor of the reading part"),
    ]);
}

pub(crate) fn run(work: &Work) {
    let mut stream = load::connect(work.port);
    let mut subscribe = Subscribe::new(work.topic.clone(), QoS::AtLeastOnce);
    subscribe.pkid = 1;
    let mut out = BytesMut::new();
    Packet::Subscribe(subscribe).write(&mut out, usize::MAX).expect("a topic fits");
    stream.write_all(&out).expect("the broker reads");
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).expect("the broker answers");
    assert_eq!(answer, [0x90, 3, 0, 1, 1], "the broker takes the subscription");
    writeln!(std::io::stdout(), "SUBSCRIBED").expect("the parent reads");

    let (cpu, mut since) = (Lap::start(&Meter::own()), Instant::now());
    let (mut buffer, mut inbox) = (vec![0; 64 * 1024], BytesMut::new());
    let mut count = 0;
    while count < work.count {
        std::thread::sleep(PAUSE);
        let read = stream.read(&mut buffer).expect("the broker sends");
        assert!(read > 0, "the broker closed the connection");
        inbox.extend_from_slice(buffer.get(..read).expect("no more is read than fits"));
        if count == 0 {
            since = Instant::now();
        }
        out.clear();
        while let Ok(packet) = Packet::read(&mut inbox, usize::MAX) {
            if let Packet::Publish(publish) = packet {
                count += 1;
                let answer = Packet::PubAck(PubAck::new(publish.pkid));
                answer.write(&mut out, usize::MAX).expect("an answer is short");
            }
        }
        stream.write_all(&out).expect("the broker reads");
    }
    let result =
        Result { rate: float(count) / since.elapsed().as_secs_f64(), micros: cpu.micros(count) };
    let result = serde_json::to_string(&result).expect("numbers can be written");
    writeln!(std::io::stdout(), "{result}").expect("the parent reads");
}
