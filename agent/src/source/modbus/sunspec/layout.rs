//! The signals of a group, laid out from the models that its device has.
//!
//! A value and its scale factor are one place, so that they are read by the same request
//! and are of one moment, wherever the device gives as much at once. Where it does not (the
//! factors of model 160 stand before all of its modules) the factor is a signal of its own,
//! read in the same cycle.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::super::config::Table;
use super::super::group::{Factor, Signal};
use super::super::plan::Span;
use super::model::{HEADER, Model, Point, Points, Scale, Tail};
use super::survey::COMMON;
use super::survey::{Block, IDENTITY};
use super::{Config, Map, Word, who};
use crate::decode::registers::{Decoder, Meaning, Order, Type};

/// Values of one group. A plant controller with the maps of a hundred inverters has as many;
/// more come of a header that is none, and take memory and no end of requests.
const MOST_VALUES: usize = 5_000;

/// What a group reads, whatever its device has.
#[derive(Debug)]
pub(in super::super) struct Wanted {
    config: Config,
    models: Vec<Arc<Model>>,
    /// Most registers of a request.
    most: u16,
}

/// What is read of a device.
#[derive(Debug, Default)]
pub(in super::super) struct Found {
    /// The fields, then the factors and headers that are none.
    pub(in super::super) signals: Vec<Signal>,
    pub(in super::super) spans: Vec<Span>,
    /// How many of the signals are fields.
    pub(in super::super) fields: usize,
    /// Of each model that is read.
    pub(in super::super) headers: Vec<Header>,
    /// What is known without being read: names and texts.
    pub(in super::super) texts: Vec<(Arc<str>, Arc<str>)>,
    /// Models as they are told: read, and passed over.
    read: Vec<String>,
    passed: Vec<String>,
}

/// The header of a model, which is read with its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Header {
    /// Index of the signal that reads it.
    pub(in super::super) signal: usize,
    /// What it holds while the model stands where it did.
    pub(in super::super) expected: u64,
    /// The fields that are this model's.
    pub(in super::super) fields: Range<usize>,
}

impl Wanted {
    pub(super) fn new(config: &Config, most: u16) -> Self {
        let models = config.defined().into_iter().filter(|model| config.wants(model)).collect();
        Self { config: config.clone(), models, most }
    }

    #[cfg(test)]
    pub(super) fn define(&mut self, model: Model) {
        self.models.insert(0, Arc::new(model));
    }

    /// The signals that read what is wanted of a device with these models.
    pub(super) fn find(&self, map: &Map) -> Found {
        let mut found = Found::default();
        let mut hidden = Hidden::default();
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        for block in map.blocks() {
            let Some(model) = self.models.iter().find(|model| model.ids.contains(&block.id)) else {
                if self.config.models.is_empty() {
                    found.passed.push(block.id.to_string());
                }
                continue;
            };
            let number = numbers.entry(&model.word).and_modify(|number| *number += 1).or_insert(1);
            let number = *number;
            let word = match number {
                1 => model.word.to_string(),
                more => format!("{}_{more}", model.word),
            };
            if block.id == COMMON {
                // Read with the models, and the same until the device is another one.
                if number == 1 {
                    found.texts = self.texts(map, &word);
                    found.read.push(block.id.to_string());
                }
                continue;
            }
            let Some(repeats) = model.repeats(block.length) else {
                let Block { id, length, .. } = block;
                found.passed.push(format!("{id} (of a length that is not known, {length})"));
                continue;
            };
            if found.signals.len() + model.most_values(repeats) > MOST_VALUES {
                let Block { id, length, .. } = block;
                found.passed.push(format!("{id} (of too many values, in {length} registers)"));
                continue;
            }
            found.read.push(block.id.to_string());
            let before = found.signals.len();
            self.lay(block, model, repeats, &word, &mut found, &mut hidden);
            if found.signals.len() > before {
                hidden.headers.push((block, before..found.signals.len()));
            }
        }
        hidden.append(&mut found);
        found
    }

    fn texts(&self, map: &Map, word: &str) -> Vec<(Arc<str>, Arc<str>)> {
        let wanted = IDENTITY.iter().filter(|(name, _)| self.wants(name));
        let text = |(name, _): &(&str, usize)| {
            Some((format!("{word}_{name}").into(), map.text(name)?.into()))
        };
        wanted.filter_map(text).collect()
    }

    fn wants(&self, point: &str) -> bool {
        self.config.points.is_empty() || self.config.points.contains(point)
    }

    /// The signals of one model.
    fn lay(
        &self,
        block: Block,
        model: &Model,
        repeats: u16,
        word: &str,
        found: &mut Found,
        hidden: &mut Hidden,
    ) {
        let head = block.address.saturating_add(HEADER);
        let mut lay = |points: &Points, begin: u16, prefix: &str| {
            // A text that is longer than the device gives at once is not read.
            let wanted = |point: &&Point| self.wants(&point.name) && point.length <= self.most;
            for point in points.points.iter().filter(wanted) {
                let Some(decoder) = point.decoder() else { continue };
                let address = begin.saturating_add(point.offset);
                let own = Span { table: Table::Holding, address, width: point.length };
                // Without its factor it would be another value.
                let Ok(factor) = factor(point, points, begin, &model.head, head) else { continue };
                let (span, skip, factor) = match factor {
                    None => (own, 0, None),
                    Some(Place::Always(factor)) => (own, 0, Some(Factor::Always(factor))),
                    Some(Place::At(at)) => {
                        match over(own, at).filter(|both| both.width <= self.most) {
                            Some(both) => {
                                let offset = at.saturating_sub(both.address);
                                (both, address - both.address, Some(Factor::Beside(offset)))
                            }
                            None => (own, 0, Some(Factor::Signal(hidden.factor(at)))),
                        }
                    }
                };
                let name = format!("{prefix}_{}", point.name).into();
                let unit = point.unit.clone();
                found.signals.push(Signal { name, unit, decoder, width: span.width, skip, factor });
                found.spans.push(span);
            }
        };
        lay(&model.head, head, word);
        if let Tail::Each(name, points) = &model.tail {
            let mut begin = head.saturating_add(model.head.length);
            for number in 1..=repeats {
                lay(points, begin, &format!("{word}_{name}_{number}"));
                begin = begin.saturating_add(points.length);
            }
        }
    }
}

/// Where the scale factor of a point is.
enum Place {
    Always(i8),
    At(u16),
}

/// A factor stands among the points beside it or, of those that repeat, before them all;
/// or nowhere.
fn factor(
    point: &Point,
    beside: &Points,
    begin: u16,
    head: &Points,
    at: u16,
) -> Result<Option<Place>, ()> {
    Ok(match &point.factor {
        None => None,
        Some(Scale::Always(factor)) => Some(Place::Always(*factor)),
        Some(Scale::Point(name)) => {
            let own = beside.find(name).map(|factor| begin.saturating_add(factor.offset));
            let above = || Some(at.saturating_add(head.find(name)?.offset));
            Some(Place::At(own.or_else(above).ok_or(())?))
        }
    })
}

/// The place of a value together with that of its factor.
fn over(own: Span, factor: u16) -> Option<Span> {
    let address = own.address.min(factor);
    let end = own.end().max(u32::from(factor) + 1);
    let width = u16::try_from(end - u32::from(address)).ok()?;
    Some(Span { address, width, ..own })
}

/// What is read besides and becomes no field.
#[derive(Default)]
struct Hidden {
    /// Addresses of factors, in the order in which they were wanted.
    factors: Vec<u16>,
    /// Where a model begins, and its fields.
    headers: Vec<(Block, Range<usize>)>,
}

impl Hidden {
    /// The number of the factor at this address.
    fn factor(&mut self, address: u16) -> usize {
        self.factors.iter().position(|known| *known == address).unwrap_or_else(|| {
            self.factors.push(address);
            self.factors.len() - 1
        })
    }

    /// Behind the fields: the factors, then the headers.
    fn append(self, found: &mut Found) {
        found.fields = found.signals.len();
        for signal in &mut found.signals {
            if let Some(Factor::Signal(index)) = &mut signal.factor {
                *index += found.fields;
            }
        }
        for address in self.factors {
            found.hide(address, Type::I16, vec![0x8000]);
        }
        for (Block { id, address, length }, fields) in self.headers {
            let expected = u64::from(id) << 16 | u64::from(length);
            found.headers.push(Header { signal: found.signals.len(), expected, fields });
            found.hide(address, Type::U32, Vec::new());
        }
    }
}

impl Found {
    fn hide(&mut self, address: u16, kind: Type, absent: Vec<u64>) {
        let meaning = Meaning::Number;
        let decoder = Decoder { kind, order: Order::Abcd, length: 0, absent, meaning };
        let width = decoder.width();
        let (name, unit) = (Arc::from(""), None);
        self.signals.push(Signal { name, unit, decoder, width, skip: 0, factor: None });
        self.spans.push(Span { table: Table::Holding, address, width });
    }

    /// What the log says of it.
    pub(super) fn word(&self, map: &Map, broken: Option<&str>) -> Word {
        let mut said =
            format!("the device is {}, its map begins at holding {}", who(map), map.base);
        let parts = [("read", &self.read), ("passed over", &self.passed)];
        for (what, models) in parts.into_iter().filter(|(_, models)| !models.is_empty()) {
            said = format!("{said}; models {what}: {}", models.join(", "));
        }
        if let Some(broken) = broken {
            said = format!("{said}; {broken}");
        }
        if self.fields > 0 {
            return Word::Note(said);
        }
        let has: Vec<String> = map.models.iter().map(|(id, _)| id.to_string()).collect();
        Word::Fault(format!("{said}; nothing is left to read of its models {}", has.join(", ")))
    }
}
