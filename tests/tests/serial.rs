//! A serial line, as socat makes one, into Kafka: whole frames and torn ones, and an
//! adapter that is unplugged and comes back.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use tidegate_e2e::agent::Agent;
use tidegate_e2e::judge::{self, Judge};
use tidegate_e2e::kafka::Kafka;
use tidegate_e2e::line::Line;
use tidegate_e2e::{folder, settings};

const DELIVERY: Duration = Duration::from_mins(1);

/// Frames between two unpluggings.
const FRAMES: u64 = 300;

/// A scale whose frames have a start, an end, and behind it the XOR of all between.
fn source(stream: &str, address: &str) -> String {
    format!(
        r#"
[[source]]
type = "serial"
name = "scale"
address = "{address}"
serial = {{ baud = 115200 }}
stream = "{stream}"
split = {{ by = "delimiter", start = '\x02', end = '\x03', tail = 1 }}
checksum = {{ kind = "xor8", from = 1 }}

[source.parse]
as = "columns"
fields = [{{ name = "n", type = "integer" }}, {{ name = "weight", unit = "kg", scale = 0.1 }}]
"#
    )
}

fn frame(number: u64) -> Vec<u8> {
    let mut frame = format!("{number}, {}\x03", number % 100).into_bytes();
    let sum = frame.iter().fold(0, |sum, byte| sum ^ byte);
    frame.insert(0, 0x02);
    frame.push(sum);
    frame
}

fn say(line: &Line, frames: std::ops::Range<u64>) {
    let mut device = File::options().write(true).open(&line.device).expect("the line is there");
    for number in frames {
        device.write_all(&frame(number)).expect("the line takes it");
        if number.is_multiple_of(100) {
            let mut torn = frame(number);
            torn.remove(2);
            device.write_all(&torn).expect("the line takes it");
        }
    }
}

/// Waits until the agent says so once more than `before` times.
fn wait_again(agent: &mut Agent, words: &str, before: usize) {
    let log = agent.process().log.clone();
    let said = || log.matching(0, |line| line.contains(words)).len();
    tidegate_e2e::wait_until(words, DELIVERY, || (said() > before).then_some(()));
}

fn plug(folder: &Path, agent: &mut Agent, before: usize) -> Line {
    let line = Line::new(folder, "scale");
    wait_again(agent, "source is up", before);
    line
}

#[test]
fn a_scale_is_read_whose_adapter_is_unplugged_and_comes_back() {
    let kafka = Kafka::started("serial-kafka");
    let folder = folder("scale");
    let port = folder.join("scale-master");
    let config = settings::head("scale", &folder, &settings::plain(&kafka.brokers()))
        + &settings::stream("scale", 1)
        + &source("scale", port.to_str().expect("a path of ours"));
    let mut agent = Agent::new(&folder, &config);
    agent.start();
    wait_again(&mut agent, "source is down", 0);
    let mut judge = Judge::of_topic(&kafka, "scale");
    for round in 0..3 {
        let line = plug(&folder, &mut agent, round);
        let before = FRAMES * u64::try_from(round).expect("a small number");
        say(&line, before + 1..before + 1 + FRAMES);
        judge.look_until("all frames", DELIVERY, |records| records.len() as u64 >= before + FRAMES);
        drop(line);
        wait_again(&mut agent, "scale-master is gone", round);
    }
    agent.stop();
    let numbers = judge.look().iter().map(|record| record.number("n"));
    judge::assert_each_once("frames", 3 * FRAMES, numbers);
    judge::assert_in_order(&judge.records);
    judge::assert_ids(&judge.records);
    for record in &judge.records {
        let n = record.number("n");
        let weight = record.value.get("weight").and_then(serde_json::Value::as_f64);
        #[expect(clippy::cast_precision_loss, reason = "below 100")]
        let written = (n % 100) as f64 / 10.0;
        assert_eq!(weight, Some(written), "{record:?}");
        assert_eq!((record.key.as_str(), record.text("quality")), ("scale", "good"));
    }
    let told = agent.lines(&["became a dead letter", "checksum is wrong"]);
    assert!((1..9).contains(&told.len()), "nine torn frames are one fault: {told:?}");
}
