//! What is known of devices, over restarts (what they refuse, and the models of those
//! that speak `SunSpec`): the source's checkpoint, saved in the
//! commit of the events that show it.
//!
//! A fact is found again by the device's name and a checksum of all that is
//! configured of it and of the way to it: where anything of that is changed, it may be
//! another device, or what was wrong may be mended. It spares a search and is no more
//! than that, so that bytes which cannot be read are passed over.
//!
//! CBOR: the version, and of each device its name, the checksum, its bad places, its
//! cuts, its models where there are any (base, ID and length of each, texts), and whether
//! their list was read to its end; places by table, as address and width.

use std::collections::{BTreeMap, BTreeSet};

use crc::{CRC_32_ISO_HDLC, Crc, Table as Slices};
use serde::{Deserialize, Serialize};

use super::config::{self, Config, Table};
use super::plan::Span;
use super::refused::Fact;
use super::sunspec::Map;

const CRC: Crc<u32, Slices<1>> = Crc::<u32, Slices<1>>::new(&CRC_32_ISO_HDLC);

/// What is written first, so that a later form can be told from this one.
const VERSION: u8 = 1;

/// Facts of one source that are saved, 5 B each: a device that refuses more than
/// this is another one than was configured. The rest is found again.
const MOST: usize = 1_000;

type Places = BTreeMap<Table, Vec<(u16, u16)>>;

/// Models as they are saved: base, ID and length of each, texts.
type Models = (u16, Vec<(u16, u16)>, Vec<String>);

/// A device as it is saved: name, checksum, bad places, cuts, models, and whether they are all.
#[derive(Debug, Serialize, Deserialize)]
struct Device(
    String,
    u32,
    Places,
    Places,
    #[serde(default)] Option<Models>,
    #[serde(default)] bool,
);

/// What is known of each device of a source, by its name and [`checksum`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Remembered(BTreeMap<(String, u32), Known>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    facts: BTreeSet<Fact>,
    map: Option<Map>,
}

/// Of all that is configured of a device and of the way to it.
pub(super) fn checksum(config: &Config, device: &config::Device) -> u32 {
    let way = (&config.address, config.framing, config.serial);
    // Nothing in it fails to be written; without a text it would be asked afresh at worst.
    let text = serde_json::to_vec(&(way, device)).unwrap_or_default();
    CRC.checksum(&text)
}

/// Nothing is remembered: what devices refuse is searched for again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("it is damaged")]
    Damaged,
    #[error("it is of version {0}")]
    Version(u8),
}

impl Remembered {
    pub(super) fn add(&mut self, name: &str, sum: u32, facts: impl Iterator<Item = Fact>) {
        let room = MOST.saturating_sub(self.0.values().map(|known| known.facts.len()).sum());
        let mut facts = facts.take(room).peekable();
        if facts.peek().is_some() {
            self.0.entry((name.to_owned(), sum)).or_default().facts.extend(facts);
        }
    }

    pub(super) fn add_map(&mut self, name: &str, sum: u32, map: Option<&Map>) {
        if let Some(map) = map {
            self.0.entry((name.to_owned(), sum)).or_default().map = Some(map.clone());
        }
    }

    pub(super) fn map(&self, name: &str, sum: u32) -> Option<&Map> {
        self.0.get(&(name.to_owned(), sum))?.map.as_ref()
    }

    pub(super) fn of(&self, name: &str, sum: u32) -> impl Iterator<Item = Fact> {
        let known = self.0.get(&(name.to_owned(), sum));
        known.into_iter().flat_map(|known| &known.facts).copied()
    }

    /// `None` never: writing to memory does not fail.
    pub(super) fn save(&self) -> Option<Vec<u8>> {
        let device = |((name, sum), known): (&(String, u32), &Known)| {
            let ends = known.map.as_ref().is_some_and(|map| map.ends);
            let models = known.map.clone().map(|map| (map.base, map.models, map.identity));
            let mut device = Device(name.clone(), *sum, Places::new(), Places::new(), models, ends);
            for fact in &known.facts {
                let (places, span) = match fact {
                    Fact::Bad(span) => (&mut device.2, span),
                    Fact::Cut(span) => (&mut device.3, span),
                };
                places.entry(span.table).or_default().push((span.address, span.width));
            }
            device
        };
        let devices: Vec<Device> = self.0.iter().map(device).collect();
        let mut bytes = Vec::new();
        ciborium::into_writer(&(VERSION, devices), &mut bytes).ok()?;
        Some(bytes)
    }

    pub(super) fn load(bytes: &[u8]) -> Result<Self, Unreadable> {
        let read: Result<(u8, Vec<Device>), _> = ciborium::from_reader(bytes);
        let (version, devices) = read.map_err(|_| Unreadable::Damaged)?;
        if version != VERSION {
            return Err(Unreadable::Version(version));
        }
        let mut remembered = Self::default();
        for Device(name, sum, bad, cuts, models, ends) in devices {
            let bad = spans(bad).map(Fact::Bad);
            remembered.add(&name, sum, bad.chain(spans(cuts).map(Fact::Cut)));
            let map = models.map(|(base, models, identity)| Map { base, models, identity, ends });
            remembered.add_map(&name, sum, map.as_ref());
        }
        Ok(remembered)
    }
}

fn spans(places: Places) -> impl Iterator<Item = Span> {
    places.into_iter().flat_map(|(table, places)| {
        places.into_iter().map(move |(address, width)| Span { table, address, width })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts() -> impl Strategy<Value = Vec<Fact>> {
        let tables = [Table::Coil, Table::Discrete, Table::Input, Table::Holding];
        let fact = (0..4_usize, any::<u16>(), any::<u16>(), any::<bool>());
        let fact = fact.prop_map(move |(table, address, width, is_bad)| {
            let span = Span { table: tables[table], address, width };
            if is_bad { Fact::Bad(span) } else { Fact::Cut(span) }
        });
        prop::collection::vec(fact, 0..40)
    }

    proptest! {
        #[test]
        fn what_is_remembered_comes_back_as_it_was(
            devices in prop::collection::vec(("[a-z]{0,3}", any::<u32>(), facts()), 0..5),
        ) {
            let mut remembered = Remembered::default();
            for (name, sum, facts) in devices {
                remembered.add(&name, sum, facts.into_iter());
                let models = vec![(1, 66), (103, 50)];
                let (identity, ends) = (vec![name.clone()], sum % 4 == 0);
                let map = Map { base: 40_000, models, identity, ends };
                remembered.add_map(&name, sum, (sum % 2 == 0).then_some(&map));
            }
            let saved = remembered.save().unwrap();
            prop_assert_eq!(Remembered::load(&saved).unwrap(), remembered);
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..60),
            facts in facts(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            drop(Remembered::load(&bytes));
            let mut remembered = Remembered::default();
            remembered.add("boiler", 7, facts.into_iter());
            let mut saved = remembered.save().unwrap();
            prop_assert!(Remembered::load(&saved[..at.index(saved.len())]).is_err());
            let at = at.index(saved.len());
            saved[at] = byte;
            drop(Remembered::load(&saved));
        }
    }

    #[test]
    fn another_device_or_checksum_finds_nothing_and_another_version_is_refused() {
        let fact = Fact::Bad(Span { table: Table::Holding, address: 5, width: 1 });
        let mut remembered = Remembered::default();
        remembered.add("boiler", 7, [fact].into_iter());
        assert_eq!(remembered.of("boiler", 7).collect::<Vec<_>>(), [fact]);
        assert_eq!(remembered.of("boiler", 8).chain(remembered.of("pump", 7)).next(), None);
        let mut saved = remembered.save().unwrap();
        saved[1] = 2;
        assert!(matches!(Remembered::load(&saved), Err(Unreadable::Version(2))));
    }

    #[test]
    fn what_was_saved_before_there_were_models_is_read() {
        let places = Places::from([(Table::Holding, vec![(5, 1)])]);
        let mut bytes = Vec::new();
        let old = (VERSION, vec![("boiler", 7_u32, places, Places::new())]);
        ciborium::into_writer(&old, &mut bytes).unwrap();
        let remembered = Remembered::load(&bytes).unwrap();
        let fact = Fact::Bad(Span { table: Table::Holding, address: 5, width: 1 });
        assert_eq!(remembered.of("boiler", 7).collect::<Vec<_>>(), [fact]);
        assert_eq!(remembered.map("boiler", 7), None);
    }

    #[test]
    fn what_is_saved_is_bounded() {
        let places = (0..u16::MAX).map(|address| Span { table: Table::Input, address, width: 1 });
        let mut remembered = Remembered::default();
        remembered.add("boiler", 7, places.clone().map(Fact::Bad));
        remembered.add("pump", 7, places.map(Fact::Bad));
        assert_eq!(remembered.of("boiler", 7).count(), MOST);
        assert!(remembered.save().unwrap().len() < 6 * MOST);
    }
}
