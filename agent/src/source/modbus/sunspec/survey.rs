//! The search for a device's models. No clock, no socket: it says what is to be read next
//! and takes what came.
//!
//! Somewhere in the holding registers stands `SunS`, and behind it one model after the
//! other, each with its ID and the number of registers that follow, up to an ID of 0xFFFF
//! (`SunSpec` Device Information Model Specification 1.1, 6.2 and 6.3).

use super::super::plan::Span;
use super::super::table::Table;
use super::model::HEADER;

/// Where a map may begin, in the order in which it is looked for.
const BASES: [u16; 3] = [40_000, 50_000, 0];

/// `SunS`.
const MARKER: [u16; 2] = [0x5375, 0x6E53];

/// ID of what stands behind the last model.
const END: u16 = 0xFFFF;

/// The model that says what a device is.
pub(super) const COMMON: u16 = 1;

/// Models of one device: a plant controller with the maps of its inverters has some dozens.
const MOST_MODELS: usize = 250;

/// The texts of the common model and their registers, in the order in which they lie.
pub(super) const IDENTITY: [(&str, usize); 5] =
    [("Mn", 16), ("Md", 16), ("Opt", 8), ("Vr", 8), ("SN", 16)];

/// Registers of all of them.
const IDENTITY_LENGTH: u16 = 64;

/// A device's models.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct Map {
    pub(in super::super) base: u16,
    /// ID and length of each model, in their order.
    pub(in super::super) models: Vec<(u16, u16)>,
    /// What the texts of the common model say; empty where it has none.
    pub(in super::super) identity: Vec<String>,
    /// Its list was read to its end: it did not break off.
    pub(in super::super) ends: bool,
}

/// A model where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) id: u16,
    /// Of its ID.
    pub(super) address: u16,
    /// Registers behind ID and length.
    pub(super) length: u16,
}

/// What comes of what a device answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The next question is another one.
    Ask,
    /// The models, and why there may be more.
    Found(Map, Option<String>),
    /// There is no map.
    Nowhere,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Marker,
    Header,
    /// The texts of the common model from its first register on.
    Common {
        address: u16,
    },
}

#[derive(Debug)]
pub(super) struct Survey {
    /// Where it begins, if that is said.
    base: Option<u16>,
    /// Where else a map may begin, the next one last.
    bases: Vec<u16>,
    question: Question,
    /// Where the next header stands.
    at: u32,
    map: Map,
    /// What came of the texts.
    texts: Vec<u16>,
    /// Most registers of a request.
    most: u16,
    /// What was known before, to be compared with the device.
    known: Option<Map>,
}

impl Map {
    /// Its models where they lie.
    pub(super) fn blocks(&self) -> impl Iterator<Item = Block> {
        let mut address = self.base.saturating_add(HEADER);
        self.models.iter().map(move |(id, length)| {
            let block = Block { id: *id, address, length: *length };
            address = address.saturating_add(HEADER).saturating_add(*length);
            block
        })
    }

    /// Where the header behind its last model stands.
    fn end(&self) -> u32 {
        let lengths = self.models.iter().map(|(_, length)| u32::from(HEADER) + u32::from(*length));
        u32::from(self.base) + u32::from(HEADER) + lengths.sum::<u32>()
    }

    /// Where the texts of the common model begin.
    fn common(&self) -> Option<u16> {
        let common = self.blocks().find(|block| is_common(block.id, block.length))?;
        common.address.checked_add(HEADER)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let at = IDENTITY.iter().position(|(text, _)| *text == name)?;
        self.identity.get(at).map(String::as_str).filter(|text| !text.is_empty())
    }
}

const fn is_common(id: u16, length: u16) -> bool {
    id == COMMON && length >= IDENTITY_LENGTH
}

impl Survey {
    /// For a map at `base`, or wherever it begins, of a device that gives at most so many
    /// registers at once.
    pub(super) fn new(base: Option<u16>, most: u16) -> Self {
        let mut bases: Vec<u16> = base.map_or_else(|| BASES.to_vec(), |base| vec![base]);
        bases.reverse();
        let map = Map { base: bases.pop().unwrap_or_default(), ..Map::default() };
        let (question, texts) = (Question::Marker, Vec::new());
        Self { base, bases, question, at: 0, map, texts, most, known: None }
    }

    /// The same, but where a map was found before it is looked for first.
    pub(super) fn at(base: Option<u16>, most: u16, first: u16) -> Self {
        let mut survey = Self::new(base, most);
        if survey.map.base != first {
            survey.bases.retain(|other| *other != first);
            survey.bases.push(survey.map.base);
            survey.map.base = first;
        }
        survey
    }

    /// Looks first whether the device is still the one that is known, by its texts or,
    /// where it has none, by where its map begins, and whether its list of models still
    /// ends where it did: two requests for most.
    pub(super) fn again(base: Option<u16>, most: u16, known: Map) -> Self {
        let mut survey = Self::at(base, most, known.base);
        if let Some(address) = known.common().filter(|_| !known.identity.is_empty()) {
            survey.question = Question::Common { address };
        }
        Self { known: Some(known), ..survey }
    }

    /// The same search from its beginning.
    pub(super) fn restarted(&self) -> Self {
        match &self.known {
            Some(known) => Self::again(self.base, self.most, known.clone()),
            None => Self::at(self.base, self.most, self.map.base),
        }
    }

    /// It compares the device with what is known of it.
    pub(super) const fn is_check(&self) -> bool {
        self.known.is_some()
    }

    /// It knows something of the device already.
    pub(super) const fn is_begun(&self) -> bool {
        !self.map.models.is_empty() || !self.texts.is_empty()
    }

    /// Something was answered right before: a device that says nothing now is not
    /// switched off.
    pub(super) const fn is_under_way(&self) -> bool {
        match self.question {
            Question::Marker => false,
            Question::Header => true,
            Question::Common { .. } => self.known.is_none(),
        }
    }

    /// The list of models broke off here before.
    pub(super) fn is_at_break(&self, known: &Map) -> bool {
        self.question == Question::Header
            && !known.ends
            && (self.map.base, &self.map.models) == (known.base, &known.models)
    }

    /// Nothing is said where the map is looked for: the next place comes, and behind the
    /// last one the first again. False where there is no other.
    pub(super) fn elsewhere(&mut self) -> bool {
        if self.question != Question::Marker || self.known.is_some() || self.base.is_some() {
            return false;
        }
        match self.bases.pop() {
            Some(base) => self.map.base = base,
            None => *self = Self::new(None, self.most),
        }
        true
    }

    /// The registers that are to be read.
    pub(super) fn question(&self) -> Span {
        let (address, width) = match self.question {
            Question::Marker => (self.map.base, 2),
            Question::Header => (u16::try_from(self.at).unwrap_or(u16::MAX - 1), HEADER),
            Question::Common { address } => {
                let read = u16::try_from(self.texts.len()).unwrap_or(IDENTITY_LENGTH);
                let left = IDENTITY_LENGTH.saturating_sub(read);
                (address.saturating_add(read), left.min(self.most).max(1))
            }
        };
        Span { table: Table::Holding, address, width }
    }

    /// These registers came.
    pub(super) fn answered(&mut self, words: &[u16]) -> Answer {
        match self.question {
            Question::Marker if *words == MARKER && self.known.is_some() => self.is_same(),
            Question::Marker if *words == MARKER => self.header_at(u32::from(self.map.base) + 2),
            Question::Marker => self.not_here(),
            Question::Header => match (self.known.take(), words) {
                (Some(known), [END, _]) => Answer::Found(known, None),
                (Some(_), _) => self.afresh(),
                (None, [id, length]) => self.header(*id, *length),
                (None, _) => self.broken("is not to be read"),
            },
            Question::Common { .. } => {
                self.texts.extend_from_slice(words);
                if self.texts.len() < usize::from(IDENTITY_LENGTH) {
                    return Answer::Ask;
                }
                self.identified()
            }
        }
    }

    /// The device does not have these registers.
    pub(super) fn refused(&mut self) -> Answer {
        match self.question {
            Question::Marker => self.not_here(),
            Question::Header | Question::Common { .. } if self.known.is_some() => self.afresh(),
            Question::Header => self.broken("is refused"),
            Question::Common { .. } => self.header_at(self.at),
        }
    }

    fn header_at(&mut self, at: u32) -> Answer {
        self.at = at;
        self.question = Question::Header;
        if at + u32::from(HEADER) > 0x1_0000 {
            return self.broken("lies beyond 65535");
        }
        Answer::Ask
    }

    fn header(&mut self, id: u16, length: u16) -> Answer {
        if id == END {
            return self.found(None);
        }
        let end = self.at + u32::from(HEADER) + u32::from(length);
        if id == 0 || length == 0 || end > 0x1_0000 {
            return self.broken(&format!("holds {id} and {length}, which is no ID and length"));
        }
        if self.map.models.len() >= MOST_MODELS {
            return self.broken(&format!("comes behind {MOST_MODELS} models"));
        }
        self.map.models.push((id, length));
        let texts = u16::try_from(self.at + u32::from(HEADER));
        self.at = end;
        match texts {
            Ok(address) if is_common(id, length) && self.texts.is_empty() => {
                self.question = Question::Common { address };
                Answer::Ask
            }
            _ => self.header_at(end),
        }
    }

    /// The texts of the common model were read.
    fn identified(&mut self) -> Answer {
        let identity = identity(&self.texts);
        if let Some(known) = &self.known {
            return if known.identity == identity { self.is_same() } else { self.afresh() };
        }
        self.map.identity = identity;
        self.header_at(self.at)
    }

    /// It is the device that is known, and has the same models if nothing was put behind
    /// the last of them.
    fn is_same(&mut self) -> Answer {
        match self.known.take() {
            Some(known) if known.ends => {
                let end = known.end();
                self.known = Some(known);
                self.header_at(end)
            }
            Some(known) => Answer::Found(known, None),
            None => self.afresh(),
        }
    }

    /// It is another device than before, or has other models.
    fn afresh(&mut self) -> Answer {
        *self = Self::at(self.base, self.most, self.map.base);
        Answer::Ask
    }

    fn not_here(&mut self) -> Answer {
        self.known = None;
        match self.bases.pop() {
            Some(base) => {
                self.map.base = base;
                Answer::Ask
            }
            None => Answer::Nowhere,
        }
    }

    fn broken(&mut self, what: &str) -> Answer {
        self.found(Some(format!("its list of models breaks off: holding {} {what}", self.at)))
    }

    fn found(&mut self, broken: Option<String>) -> Answer {
        let mut map = std::mem::take(&mut self.map);
        map.ends = broken.is_none();
        if map.models.is_empty() { Answer::Nowhere } else { Answer::Found(map, broken) }
    }
}

/// The texts of the common model; what is not UTF-8 is shown as it can be.
fn identity(words: &[u16]) -> Vec<String> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    let mut left = bytes.as_slice();
    let text = |(_, registers): &(&str, usize)| {
        let (own, rest) = left.split_at_checked(registers * 2).unwrap_or((left, &[]));
        left = rest;
        let own = own.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(own).trim().to_owned()
    };
    IDENTITY.iter().map(text).collect()
}
