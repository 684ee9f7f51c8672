//! Telegraf on the same work in the same run: what is bought with it, and what it costs.
//!
//! Its settings are those of a user who has read its manual: batches of 10,000, LZ4,
//! idempotent writes, a persistent session. It reads the same messages of the same
//! mosquitto and the same registers, with all fields and the device as a tag, and
//! writes them to a topic of the same Kafka. What it does not give (order, no double
//! after a crash, nothing lost in memory) is no figure and stands in none.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use tidegate_e2e::modbus::Modbus;
use tidegate_e2e::process::Process;

use crate::bench::{Bench, DEADLINE};
use crate::burst::Burst;
use crate::line::{Line, float};
use crate::load;
use crate::meter::{Lap, Meter};
use crate::poll::{self, REGISTERS};

/// Limits of the project: so many times the agent's.
const CPU: f64 = 8.0;
const CPU_ON_DISK: f64 = 40.0;
const PEAK: f64 = 6.0;
const WRITTEN: f64 = 40.0;
const POLLED: f64 = 5.0;

/// With its disk buffer it takes a thousand events a second or fewer.
const ON_DISK: u64 = 20_000;

/// Where it keeps what it has not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    InMemory,
    /// `buffer_strategy = "disk"`, each write synced: its default.
    OnDisk,
}

pub(crate) fn telegraf(bench: &mut Bench) {
    let ours = bench.burst();
    let memory = messages(bench, "telegraf", Keeps::InMemory, bench.events);
    let disk = messages(bench, "telegraf-disk", Keeps::OnDisk, bench.events.min(ON_DISK));
    let polled = bench.polled();
    let registers = registers(bench, "telegraf-modbus");
    let times = |theirs: f64, ours: f64| theirs / ours;
    let name = "telegraf";
    bench.lines.extend([
        Line::told(name, "MQTT to Kafka, in memory", memory.rate, "events/s"),
        Line::told(name, "CPU", memory.micros, "µs/event"),
        Line::told(name, "by the agent's", times(memory.micros, ours.micros), "×").at_least(CPU),
        Line::told(name, "peak resident", memory.peak, "MB"),
        Line::told(name, "by the agent's", times(memory.peak, ours.peak), "×").at_least(PEAK),
        Line::told(name, "with its disk buffer", disk.rate, "events/s")
            .note(format!("{} events", bench.events.min(ON_DISK))),
        Line::told(name, "CPU", disk.micros, "µs/event"),
        Line::told(name, "by the agent's", times(disk.micros, ours.micros), "×")
            .at_least(CPU_ON_DISK),
        Line::told(name, "written to disk", disk.written, "B/event"),
        Line::told(name, "by the agent's", times(disk.written, ours.written), "×")
            .at_least(WRITTEN),
        Line::told(name, "1,000 registers, 10 times a second", registers.percent, "% core"),
        Line::told(name, "CPU", registers.micros, "µs/register"),
        Line::told(name, "by the agent's", times(registers.micros, polled.micros), "×")
            .at_least(POLLED),
    ]);
}

/// The burst's messages.
fn messages(bench: &Bench, name: &str, keeps: Keeps, events: u64) -> Burst {
    let input = format!(
        "[[inputs.mqtt_consumer]]\nservers = [\"tcp://127.0.0.1:{port}\"]\ntopics = [\"{name}/+/state\"]\n\
         qos = 1\npersistent_session = true\nclient_id = \"{name}\"\nmax_undelivered_messages = 10000\n\
         data_format = \"json_v2\"\n\
         [[inputs.mqtt_consumer.topic_parsing]]\ntopic = \"+/+/state\"\ntags = \"_/device/_\"\n\
         [[inputs.mqtt_consumer.json_v2]]\n[[inputs.mqtt_consumer.json_v2.object]]\npath = \"@this\"\n",
        port = bench.mosquitto.port
    );
    let telegraf = start(bench, name, "1s", keeps, &input);
    // mosquitto names each subscription that it has taken.
    bench.mosquitto.process.wait_line(&format!("{name}/+/state"), DEADLINE);
    let topic = bench.topic(name);
    let meter = Meter::of(&telegraf);
    let (cpu, written, since) = (Lap::start(&meter), meter.written(), Instant::now());
    let load = load::publish(bench.mosquitto.port, name, events, None);
    let end = topic.wait_for(events);
    load.join().expect("the publisher ends well");
    Burst {
        rate: float(events) / (end - since).as_secs_f64(),
        micros: cpu.micros(events),
        written: float(meter.written() - written) / float(events),
        peak: float(meter.peak()) / 1e6,
    }
}

fn registers(bench: &Bench, name: &str) -> poll::Polled {
    let plant = Modbus::start();
    let mut input = format!(
        "[[inputs.modbus]]\nname = \"plant\"\ntimeout = \"1s\"\ncontroller = \"tcp://{}\"\n\
         configuration_type = \"request\"\n\
         [[inputs.modbus.request]]\nslave_id = 1\nbyte_order = \"ABCD\"\nregister = \"holding\"\n\
         measurement = \"plant\"\noptimization = \"none\"\nfields = [\n",
        plant.address()
    );
    for register in 0..REGISTERS {
        writeln!(input, "  {{ name = \"r{register}\", address = {register}, type = \"UINT16\" }},")
            .expect("a string takes text");
    }
    input.push_str("]\n");
    let telegraf = start(bench, name, "100ms", Keeps::InMemory, &input);
    bench.topic(name).wait_begin();
    poll::watch(&Meter::of(&telegraf), &plant)
}

/// One that runs between this input and the topic `name`, which is made.
fn start(bench: &Bench, name: &str, interval: &str, keeps: Keeps, input: &str) -> Process {
    bench.kafka.create_topic(name, &[]);
    let folder = bench.folder(name);
    let buffer = match keeps {
        Keeps::InMemory => String::new(),
        Keeps::OnDisk => {
            format!(
                "buffer_strategy = \"disk\"\nbuffer_directory = \"{}\"\n",
                folder.join("buffer").display()
            )
        }
    };
    let text = format!(
        "[agent]\ninterval = \"{interval}\"\nflush_interval = \"1s\"\nmetric_batch_size = 10000\n\
         metric_buffer_limit = 100000\nomit_hostname = true\n{buffer}\
         [[outputs.kafka]]\nbrokers = [\"{brokers}\"]\ntopic = \"{name}\"\nversion = \"3.0.0\"\n\
         routing_tag = \"device\"\ncompression_codec = 3\nidempotent_writes = true\n\
         required_acks = -1\ndata_format = \"json\"\njson_timestamp_units = \"1ms\"\n{input}",
        brokers = bench.kafka.brokers(),
    );
    let config = folder.join("telegraf.conf");
    std::fs::write(&config, text).expect("it is writable");
    let mut command = Command::new(program());
    command.arg("--config").arg(config);
    let process = Process::start("telegraf", &command);
    // Behind its own check of the settings.
    process.wait_line("[agent] Config:", DEADLINE);
    process
}

/// What `scripts/setup.sh bench` builds.
pub(crate) fn program() -> PathBuf {
    let path = std::env::var_os("BENCH_TELEGRAF").map(PathBuf::from);
    let path = path.expect("BENCH_TELEGRAF names Telegraf's program; make bench sets it");
    assert!(path.is_file(), "no Telegraf at {}: scripts/setup.sh bench", path.display());
    path
}
