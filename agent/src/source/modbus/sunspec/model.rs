//! What `SunSpec`'s models hold: a table of the usual ones, and a user's own beside it.
//!
//! `models.txt` is made from the definitions of the `SunSpec` Alliance by
//! `scripts/sunspec.py`, and is read once, when a source with `SunSpec` is set up.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use crate::decode::registers::{Decoder, Meaning, Order, Type};

const TABLE: &str = include_str!("models.txt");

/// Registers of ID and length, which stand before each model.
pub(super) const HEADER: u16 = 2;

/// What the registers of a model hold, behind its ID and length.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Model {
    pub(super) ids: Vec<u16>,
    /// What its fields begin with.
    pub(super) word: Arc<str>,
    pub(super) head: Points,
    pub(super) tail: Tail,
}

/// What stands behind the points that a model has once.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tail {
    Nothing,
    /// The same points again and again, to the end of the model.
    Each(Arc<str>, Points),
    /// Something whose layout nobody knows without reading it.
    Unknown,
}

/// Points that follow each other, and the registers that they take.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Points {
    pub(super) points: Vec<Point>,
    pub(super) length: u16,
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    pub(super) name: Arc<str>,
    /// `None`: a scale factor, or what is not read.
    kind: Option<Kind>,
    /// From where its points begin, and how many registers it takes.
    pub(super) offset: u16,
    pub(super) length: u16,
    pub(super) factor: Option<Scale>,
    pub(super) unit: Option<Arc<str>>,
    names: BTreeMap<i128, Arc<str>>,
}

/// The power of ten by which an integer is multiplied.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scale {
    Always(i8),
    /// It stands in the point of this name.
    Point(Arc<str>),
}

/// What the bits of a point are, and which of them say that the device has no such value
/// (`SunSpec` Device Information Model Specification 1.1, 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The lowest number of a signed one, all ones of another, are no value.
    Number(Type),
    /// 0 is no value: it has never counted.
    Counter(Type),
    Enum(Type),
    /// With the highest bit set the others have no meaning.
    Flags(Type),
    Float(Type),
    Text,
}

/// What is wrong with the table.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: `{text}` is no {expected}")]
pub(super) struct Mistake {
    line: usize,
    text: String,
    expected: &'static str,
}

impl Kind {
    const fn kind(self) -> Type {
        match self {
            Self::Number(kind)
            | Self::Counter(kind)
            | Self::Enum(kind)
            | Self::Flags(kind)
            | Self::Float(kind) => kind,
            Self::Text => Type::String,
        }
    }

    fn absent(self) -> Vec<u64> {
        let kind = self.kind();
        let ones = kind.masked(u64::MAX);
        let highest = ones ^ (ones >> 1);
        match self {
            Self::Number(Type::I16 | Type::I32 | Type::I64) => vec![highest],
            Self::Number(_) | Self::Enum(_) => vec![ones],
            Self::Counter(_) | Self::Text => vec![0],
            Self::Flags(_) => vec![ones, highest],
            // Any NaN is no number; this one says so on purpose.
            Self::Float(Type::F64) => vec![0x7FF8_0000_0000_0000],
            Self::Float(_) => vec![0x7FC0_0000],
        }
    }

    /// A type of the table, and the registers that it takes.
    fn of(word: &str) -> Option<(Option<Self>, u16)> {
        let sized = |name: &str| word.strip_prefix(name)?.parse::<u16>().ok();
        let kind = match word {
            "i16" => Self::Number(Type::I16),
            "i32" => Self::Number(Type::I32),
            "i64" => Self::Number(Type::I64),
            "u16" => Self::Number(Type::U16),
            "u32" => Self::Number(Type::U32),
            "u64" => Self::Number(Type::U64),
            "acc16" => Self::Counter(Type::U16),
            "acc32" => Self::Counter(Type::U32),
            "acc64" => Self::Counter(Type::U64),
            "enum16" => Self::Enum(Type::U16),
            "enum32" => Self::Enum(Type::U32),
            "bits16" => Self::Flags(Type::U16),
            "bits32" => Self::Flags(Type::U32),
            "bits64" => Self::Flags(Type::U64),
            "f32" => Self::Float(Type::F32),
            "f64" => Self::Float(Type::F64),
            "sf" => return Some((None, 1)),
            // What has no registers is a mistake.
            "text0" | "skip0" => return None,
            _ => {
                let text = sized("text").map(|length| (Some(Self::Text), length));
                return text.or_else(|| Some((None, sized("skip")?)));
            }
        };
        Some((Some(kind), kind.kind().width(0)))
    }
}

impl Point {
    /// How its registers become a value, before the scale; `None` for what is not read.
    pub(super) fn decoder(&self) -> Option<Decoder> {
        let kind = self.kind?;
        let names = || self.names.clone();
        let meaning = match kind {
            Kind::Enum(_) if !self.names.is_empty() => Meaning::Named(names()),
            Kind::Flags(_) if !self.names.is_empty() => Meaning::Flags(names()),
            _ => Meaning::Number,
        };
        Some(Decoder {
            kind: kind.kind(),
            order: Order::Abcd,
            length: if kind == Kind::Text { self.length } else { 0 },
            absent: kind.absent(),
            meaning,
        })
    }
}

impl Points {
    fn push(&mut self, line: &str) -> Result<(), &'static str> {
        let mut words = line.split(' ');
        let mut next = || words.next().filter(|word| *word != "-");
        let name = next().ok_or("name")?;
        let kind = next().ok_or("type")?;
        let factor = next().map(|factor| match factor.parse() {
            Ok(always) => Scale::Always(always),
            Err(_) => Scale::Point(factor.into()),
        });
        let unit = next().map(|unit| unit.replace('_', " ").into());
        let names = next().into_iter().flat_map(|names| names.split(','));
        let numbered = |pair: &str| {
            let (number, name) = pair.split_once('=')?;
            Some((number.parse().ok()?, name.into()))
        };
        let names =
            names.map(|pair| numbered(pair).ok_or("number=NAME")).collect::<Result<_, _>>()?;
        if words.next().is_some() {
            return Err("line of five words");
        }
        self.add(name.into(), kind, factor, unit, names)
    }

    /// The next point, whose type is a word of the table.
    pub(super) fn add(
        &mut self,
        name: Arc<str>,
        kind: &str,
        factor: Option<Scale>,
        unit: Option<Arc<str>>,
        names: BTreeMap<i128, Arc<str>>,
    ) -> Result<(), &'static str> {
        let (kind, length) = Kind::of(kind).ok_or("type")?;
        let offset = self.length;
        self.length = offset.checked_add(length).ok_or("place below 65,536")?;
        self.points.push(Point { name, kind, offset, length, factor, unit, names });
        Ok(())
    }

    pub(super) fn find(&self, name: &str) -> Option<&Point> {
        self.points.iter().find(|point| *point.name == *name)
    }
}

impl Model {
    /// Whether a value of it has this name.
    pub(super) fn has(&self, point: &str) -> bool {
        let tail = match &self.tail {
            Tail::Each(_, points) => points.find(point),
            Tail::Nothing | Tail::Unknown => None,
        };
        self.head.find(point).or(tail).is_some_and(|point| point.kind.is_some())
    }

    /// A point whose scale factor stands nowhere: without it the value would be wrong.
    pub(super) fn unscaled(&self) -> Option<&Point> {
        let head = &self.head;
        let is_lost = |point: &&Point, beside: &Points| match &point.factor {
            Some(Scale::Point(name)) => {
                let factor = beside.find(name).or_else(|| head.find(name));
                factor.is_none_or(|factor| factor.length != 1)
            }
            Some(Scale::Always(_)) | None => false,
        };
        let tail = match &self.tail {
            Tail::Each(_, points) => points.points.iter().find(|point| is_lost(point, points)),
            Tail::Nothing | Tail::Unknown => None,
        };
        head.points.iter().find(|point| is_lost(point, head)).or(tail)
    }

    /// No more values than these are in a model whose tail comes so often.
    pub(super) fn most_values(&self, repeats: u16) -> usize {
        let each = match &self.tail {
            Tail::Each(_, points) => points.points.len(),
            Tail::Nothing | Tail::Unknown => 0,
        };
        self.head.points.len() + each * usize::from(repeats)
    }

    /// How often the points of its tail come in a model of this length; `None` where such
    /// a model is another revision than this one.
    pub(super) fn repeats(&self, length: u16) -> Option<u16> {
        let rest = length.checked_sub(self.head.length)?;
        match &self.tail {
            Tail::Nothing => {
                // A register that makes its length even, which some devices leave out.
                (rest == 0 || (rest == 1 && length.is_multiple_of(2))).then_some(0)
            }
            Tail::Unknown => Some(0),
            Tail::Each(_, points) => {
                (rest.checked_rem(points.length)? == 0).then(|| rest / points.length)
            }
        }
    }
}

/// The models of the table. A test reads it: it has no mistake.
static KNOWN: LazyLock<Vec<Arc<Model>>> =
    LazyLock::new(|| parse(TABLE).unwrap_or_default().into_iter().map(Arc::new).collect());

pub(super) fn known() -> &'static [Arc<Model>] {
    &KNOWN
}

pub(super) fn parse(text: &str) -> Result<Vec<Model>, Mistake> {
    let mut models: Vec<Model> = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.starts_with('#')) {
        let mistake = |expected| Mistake { line: number, text: line.to_owned(), expected };
        if let Some(head) = line.strip_prefix("model ") {
            models.push(model(head).ok_or_else(|| mistake("model"))?);
            continue;
        }
        let Some(model) = models.last_mut() else { return Err(mistake("model")) };
        if line == "more" {
            model.tail = Tail::Unknown;
        } else if let Some(name) = line.strip_prefix("each ") {
            model.tail = Tail::Each(name.into(), Points::default());
        } else {
            let points = match &mut model.tail {
                Tail::Each(_, points) => points,
                Tail::Nothing | Tail::Unknown => &mut model.head,
            };
            points.push(line).map_err(mistake)?;
        }
    }
    Ok(models)
}

/// Behind the word `model`: its numbers, and what its fields begin with.
fn model(line: &str) -> Option<Model> {
    let (ids, word) = line.split_once(' ')?;
    let ids = ids.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
    Some(Model { ids, word: word.into(), head: Points::default(), tail: Tail::Nothing })
}
