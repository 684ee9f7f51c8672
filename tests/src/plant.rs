//! What the agent reads in the large scenarios: an MQTT broker behind a line that
//! can be cut, a Modbus plant, a table; and the load on them, all numbered.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::agent::Agent;
use crate::judge::{self, Judge, Record};
use crate::modbus::Modbus;
use crate::mosquitto::Mosquitto;
use crate::proxy::Proxy;
use crate::publisher::Publisher;
use crate::table::Table;
use crate::{outage, settings};

/// Ten devices of a hundred registers are a thousand registers.
const UNITS: u8 = 10;
const REGISTERS: u16 = 100;

/// Devices that the messages come from.
const DEVICES: u64 = 20;

/// The load goes in slices of this many messages, and two rows for five of them.
pub const SLICE: u64 = 100;
const ROWS_PER_SLICE: u64 = 40;

/// Streams, and the topics of the same names.
const SENSORS: &str = "sensors";
const BOILER: &str = "boiler";
const MACHINE: &str = "machine";

/// Until the broker has the agent's subscription.
const SUBSCRIBED: Duration = Duration::from_mins(1);

/// The plant and what it has produced.
#[derive(Debug)]
pub struct Plant {
    pub mosquitto: Mosquitto,
    /// The agent's way to mosquitto; the publisher has its own.
    pub line: Proxy,
    modbus: Modbus,
    table: Table,
    publisher: Publisher,
    /// `5` or `3.1.1`
    protocol: &'static str,
    /// Of each unit.
    registers: u16,
    /// Whether rows come with the messages.
    rows: bool,
}

impl Plant {
    pub fn start(name: &str, folder: &Path, protocol: &'static str) -> Self {
        let mosquitto = Mosquitto::started(&format!("{name}-mosquitto"));
        Self {
            line: Proxy::to(mosquitto.port),
            modbus: Modbus::start(),
            table: Table::make(&folder.join("machine.db")),
            publisher: Publisher::connect(mosquitto.port, "publisher"),
            mosquitto,
            protocol,
            registers: REGISTERS,
            rows: true,
        }
    }

    /// The same with so many registers of each unit, for runs of hours whose
    /// records must all be kept.
    #[must_use]
    pub fn with_registers(self, registers: u16) -> Self {
        Self { registers, ..self }
    }

    /// Whether rows come with the messages from here on.
    pub const fn with_rows(&mut self, rows: bool) {
        self.rows = rows;
    }

    /// The streams and sources for the agent's configuration.
    pub fn settings(&self) -> String {
        let protocol = format!("protocol = \"{}\"", self.protocol);
        settings::stream(SENSORS, 3)
            + &settings::stream(BOILER, 1)
            + &settings::stream(MACHINE, 1)
            + &settings::mqtt("broker", &self.line.address(), SENSORS, &protocol)
            + &settings::modbus("plc", &self.modbus.address(), BOILER, UNITS, self.registers)
            + &settings::sqlite("press", &self.table.path, MACHINE)
    }

    /// Waits for the agent's subscription: what is published before is not its own.
    pub fn wait_subscribed(&self) {
        self.mosquitto.wait_line("Sending SUBACK", SUBSCRIBED);
    }

    /// Publishes until the agent knows how mosquitto numbers: from then on a kill doubles
    /// nothing.
    pub fn teach(&mut self, agent: &Agent) {
        let Self { mosquitto, publisher, .. } = self;
        mosquitto.teach(agent, "tidegate-", || {
            publisher.publish(&[message(publisher.acknowledged + 1)]);
        });
    }

    /// Messages that mosquitto has acknowledged.
    pub fn messages(&self) -> u64 {
        self.publisher.acknowledged
    }

    /// Rows that were written.
    pub fn rows(&self) -> u64 {
        self.table.rows
    }

    /// Publishes so many messages and the rows that belong to them, evenly over a time
    /// that is a fault's, or as fast as it goes; calls `after` with the number of the last
    /// message of each slice.
    pub fn produce(&mut self, messages: u64, over: Duration, mut after: impl FnMut(&Self, u64)) {
        let slices = messages / SLICE;
        let start = Instant::now();
        for slice in 1..=slices {
            let first = self.publisher.acknowledged + 1;
            let batch: Vec<_> = (first..first + SLICE).map(message).collect();
            self.publisher.publish(&batch);
            if self.rows {
                self.table.write(ROWS_PER_SLICE);
            }
            after(self, self.publisher.acknowledged);
            let due = over.mul_f64(as_f64(slice) / as_f64(slices));
            outage(due.saturating_sub(start.elapsed()));
        }
    }

    /// Whether these are as many messages and rows as were produced until now.
    pub fn are_delivered(&self, records: &[Record]) -> bool {
        count(records, SENSORS) >= self.publisher.acknowledged
            && count(records, MACHINE) >= self.table.rows
    }

    /// Waits until everything that was produced until now is in Kafka.
    pub fn wait_delivered(&self, judge: &mut Judge, within: Duration) {
        judge.look_until("all messages and rows", within, |records| self.are_delivered(records));
    }

    /// What became of the messages and of the rows.
    pub fn fates(&self, records: &[Record]) -> [judge::Fate; 2] {
        [
            judge::fate(self.publisher.acknowledged, numbers(records, SENSORS, "n")),
            judge::fate(self.table.rows, numbers(records, MACHINE, "id")),
        ]
    }

    /// Messages that arrived more than once, each time by another run of the agent.
    pub fn taken_again(&self, records: &[Record]) -> usize {
        let mut runs: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
        for record in records.iter().filter(|record| record.topic == SENSORS) {
            runs.entry(record.number("n")).or_default().push(record.text("epoch"));
        }
        let again = runs.into_values().filter_map(|mut runs| {
            let times = runs.len();
            runs.sort_unstable();
            runs.dedup();
            (times > 1 && runs.len() == times).then_some(())
        });
        again.count()
    }

    /// Every message and row exactly once, every reading in order; nothing else.
    pub fn assert_exactly_once(&self, records: &[Record]) {
        let messages = numbers(records, SENSORS, "n");
        judge::assert_each_once("messages", self.publisher.acknowledged, messages);
        judge::assert_each_once("rows", self.table.rows, numbers(records, MACHINE, "id"));
        judge::assert_ids(records);
        judge::assert_gap_free(records);
        judge::assert_in_order(records);
        for unit in 1..=UNITS {
            let device = format!("unit{unit}");
            let mut last = 0;
            let readings = records.iter().filter(|record| {
                record.topic == BOILER && record.text("device") == device
                    // What an outage of the agent cut off is an event without values.
                    && record.text("quality") == "good"
            });
            for reading in readings {
                let value = reading.number("r0");
                assert!(value > last, "{device}: {value} after {last}");
                for register in 1..self.registers {
                    assert_eq!(reading.number(&format!("r{register}")), value, "{reading:?}");
                }
                last = value;
            }
            assert!(last > 0, "{device} was read");
        }
    }
}

/// The numbers in this field of the topic's records.
fn numbers<'r>(
    records: &'r [Record],
    topic: &'r str,
    field: &'r str,
) -> impl Iterator<Item = u64> + 'r {
    let of_topic = records.iter().filter(move |record| record.topic == topic);
    of_topic.map(move |record| record.number(field))
}

fn count(records: &[Record], topic: &str) -> u64 {
    records.iter().filter(|record| record.topic == topic).map(|_| 1).sum()
}

fn message(number: u64) -> (String, Vec<u8>) {
    let device = number % DEVICES;
    let payload = format!(r#"{{"n":{number},"temp":21.5,"state":"running"}}"#);
    (format!("plant/l1/d{device}/temp"), payload.into_bytes())
}

fn as_f64(number: u64) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}
