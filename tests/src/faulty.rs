//! A device whose answers come as over a bad line, `peers/modbus/pymodbus_faults.py`: what
//! it is asked, and whether the device had the values that came of it.
//!
//! Each value says where it was read and in which answer, and the number of an answer says
//! what became of it. No clock is needed to see that a value is old, another one's, or of
//! an answer that never came as it should.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::judge::Record;
use crate::panic_with;
use crate::settings::{modbus_group, modbus_signal};

/// What becomes of the answer to the request whose number leaves this remainder: the
/// list of the program.
const FAULTS: [&str; 24] = [
    "good", "late", "good", "good", "held", "good", "good", "torn", "good", "good", "numbered",
    "good", "good", "foreign", "good", "good", "doubled", "good", "good", "noisy", "good", "good",
    "halved", "lost",
];

/// What became of this answer.
pub fn fault(number: usize) -> &'static str {
    FAULTS.get(number % FAULTS.len()).expect("a remainder is less")
}

/// What an answer has at its beginning, besides the address.
const TABLES: [(&str, u64); 4] =
    [("coil", 0x1000), ("discrete", 0x2000), ("holding", 0x4000), ("input", 0x8000)];

/// Groups of the device: requests of two words and of one, and of as many bits as two
/// words have, in all tables. There are many, so that some do not rest after a fault.
pub fn groups(interval: &str) -> String {
    let mut text = String::new();
    for address in (0..80).step_by(4) {
        for table in ["holding", "input"] {
            let words = [address, address + 2].map(|address| {
                modbus_signal(&format!("{table}{address}"), table, address) + ", type = \"u32\""
            });
            text += &modbus_group(interval, words);
        }
    }
    for address in (0..128).step_by(32) {
        for table in ["coil", "discrete"] {
            let bits = (address..address + 32)
                .map(|address| modbus_signal(&format!("{table}{address}"), table, address));
            text += &modbus_group(interval, bits);
        }
    }
    for (table, address) in [("holding", 101), ("input", 103)] {
        let number = modbus_signal(&format!("{table}{address}"), table, address);
        text += &modbus_group(interval, [number]);
    }
    text
}

/// The number of the answer that each of a device's good events was made of, in their
/// order. Fails the test where a value is not the one that the device had when it was
/// asked; `harmless` is what may become of an answer that gives values.
pub fn numbers(records: &[Record], device: &str, harmless: &[&str]) -> Vec<usize> {
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    let mut all = Vec::new();
    for record in records.iter().filter(|record| record.key == device) {
        let of_event = reads(record).into_iter().map(|read| {
            let Read { field, place, number } = read;
            if let Some((expected, got)) = place {
                assert_eq!(
                    got, expected,
                    "{device}: {field} was read elsewhere, expected {expected:#x}, got {got:#x}: {record:?}"
                );
            }
            let fault = fault(number);
            assert!(
                harmless.contains(&fault),
                "{device}: {field} is of answer {number}, which was {fault}: {record:?}"
            );
            let earlier = last.insert(field.clone(), number).unwrap_or_default();
            assert!(
                earlier < number,
                "{device}: {field} is of answer {number} after one of {earlier}: {record:?}"
            );
            number
        });
        let mut of_event: Vec<_> = of_event.collect();
        of_event.dedup();
        assert!(of_event.len() <= 1, "{device}: one event of answers {of_event:?}: {record:?}");
        all.extend(of_event);
    }
    all
}

/// What the good fields of an event say.
struct Read {
    /// The first of them.
    field: String,
    /// Table and address, where they say it: as they should be, and as they are.
    place: Option<(u64, u64)>,
    /// Of the answer.
    number: usize,
}

fn reads(record: &Record) -> Vec<Read> {
    let mut reads = Vec::new();
    for (table, tag) in TABLES {
        let mut good: BTreeMap<u64, &Value> = BTreeMap::new();
        let fields = record.value.as_object().expect("a record is an object");
        for (field, value) in fields {
            let address = field.strip_prefix(table).and_then(|rest| rest.parse().ok());
            if let Some(address) = address
                && record.quality(field) == "good"
            {
                good.insert(address, value);
            }
        }
        let number = |value: &Value| {
            value.as_u64().unwrap_or_else(|| panic_with(&format!("no number: {record:?}")))
        };
        let mut add = |address: u64, place, number: u64| {
            let number = usize::try_from(number).expect("there are few requests");
            reads.push(Read { field: format!("{table}{address}"), place, number });
        };
        if ["coil", "discrete"].contains(&table) {
            let Some(&first) = good.keys().next() else { continue };
            let bits = good.values().rev().fold(0, |word, bit| {
                let bit = bit.as_bool().unwrap_or_else(|| panic_with(&format!("{record:?}")));
                word << 1 | u64::from(bit)
            });
            assert_eq!(good.len(), 32, "a request is answered as a whole: {record:?}");
            add(first, Some((tag + first, bits & 0xFFFF)), bits >> 16);
            continue;
        }
        for (address, value) in good {
            let value = number(value);
            // A single register has no room for its place.
            if address.is_multiple_of(2) {
                add(address, Some((tag + address, value >> 16)), value & 0xFFFF);
            } else {
                add(address, None, value);
            }
        }
    }
    reads
}
