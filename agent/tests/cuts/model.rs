//! What the sources, Kafka and the file must agree on, whatever was cut.

use std::collections::{BTreeMap, BTreeSet};

use tidegate::buffer::{Batch, Position, ValueRef};
use tidegate::collect::{Checkpoint, DeadLetter, Delivery};
use tidegate::event::{Event, Field, Quality, Timestamp, Value};
use tidegate::flow;

use crate::dice::Dice;

/// What a source saves with each delivery.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Cursor,
    Session,
    Nothing,
}

/// One event: a number that is never given to another, in a place of its own
/// among those of its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number(pub(crate) i64);

impl Number {
    fn new(source: usize, delivery: u64, place: usize) -> Self {
        let number = (source as u64) << 40 | delivery << 8 | place as u64;
        Self(number.cast_signed())
    }

    pub(crate) fn source(self) -> i64 {
        self.0 >> 40
    }
}

/// What an event says besides its number. After a cut the source reads again,
/// and a meter then shows another value: nothing may take one for the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Content {
    number: Number,
    life: u64,
    /// Length of its body, whose bytes follow from the rest.
    len: usize,
}

impl Content {
    fn body(self) -> Vec<u8> {
        let mut body = vec![0; self.len];
        Dice::new(self.number.0.cast_unsigned() ^ self.life << 56).fill(&mut body);
        body
    }
}

#[derive(Debug)]
struct Given {
    events: Vec<Number>,
    dead: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Source {
    place: usize,
    pub(crate) name: &'static str,
    kind: Kind,
    /// Number of the last delivery that was handed over, and of the last that
    /// was acknowledged.
    pub(crate) handed: u64,
    pub(crate) acknowledged: u64,
    given: BTreeMap<u64, Given>,
}

/// How large things are on this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) body: usize,
    pub(crate) session: usize,
}

impl Source {
    pub(crate) fn all() -> Vec<Self> {
        let kinds = [("sql", Kind::Cursor), ("mqtt", Kind::Session), ("modbus", Kind::Nothing)];
        let sources = kinds.into_iter().enumerate().map(|(place, (name, kind))| Self {
            place,
            name,
            kind,
            handed: 0,
            acknowledged: 0,
            given: BTreeMap::new(),
        });
        sources.collect()
    }

    /// The next delivery, for some of these flows.
    pub(crate) fn next(
        &mut self,
        flows: &[flow::Id],
        life: u64,
        sizes: Sizes,
        dice: &mut Dice,
    ) -> Delivery {
        self.handed += 1;
        let mut delivery = Delivery { bytes: 100, ..Delivery::default() };
        let mut given = Given { events: Vec::new(), dead: None };
        // Of a source that saves nothing only events can tell how far it came.
        let least = usize::from(self.kind == Kind::Nothing);
        for place in 0..least + dice.index(4) {
            let number = Number::new(self.place, self.handed, place);
            let content = Content { number, life, len: dice.index(sizes.body) };
            let flow = flows[dice.index(flows.len())];
            delivery.events.push(event(flow, self.name, content));
            given.events.push(number);
        }
        if dice.once_in(8) {
            let origin = format!("{}/{}", self.name, self.handed);
            delivery.dead.push(dead_letter(&origin, dice));
            given.dead = Some(origin);
        }
        let mut saved = self.handed.to_le_bytes().to_vec();
        if self.kind == Kind::Session {
            saved.resize(8 + dice.index(sizes.session), 7);
        }
        delivery.checkpoint = match self.kind {
            Kind::Cursor => Some(Checkpoint::Cursor(saved.into())),
            Kind::Session => Some(Checkpoint::Session(saved.into())),
            Kind::Nothing => None,
        };
        self.given.insert(self.handed, given);
        delivery
    }

    /// Settles how far the file has this source: its last delivery there.
    fn reached(&self, saved: Option<Checkpoint>, there: &BTreeSet<Number>) -> u64 {
        let number = |bytes: &[u8]| {
            let bytes = bytes.get(..8).expect("a checkpoint begins with the delivery's number");
            u64::from_le_bytes(bytes.try_into().expect("these are eight"))
        };
        match (self.kind, saved) {
            (Kind::Cursor, Some(Checkpoint::Cursor(bytes)))
            | (Kind::Session, Some(Checkpoint::Session(bytes))) => number(&bytes),
            (_, None) if self.kind != Kind::Nothing => 0,
            (Kind::Nothing, None) => {
                let seen = |given: &Given| given.events.iter().any(|event| there.contains(event));
                let last = self.given.iter().rev().find(|(_, given)| seen(given));
                last.map_or(0, |(number, _)| *number)
            }
            (_, saved) => panic!("{} finds a checkpoint that is not its own: {saved:?}", self.name),
        }
    }
}

fn event(flow: flow::Id, device: &str, content: Content) -> Event {
    let field = |name: &str, value| Field { name: name.into(), unit: None, value, quality: None };
    Event {
        flow,
        device: device.into(),
        time: Timestamp(content.number.0),
        read_at: None,
        quality: Quality::Good,
        fields: vec![
            field("life", Value::U64(content.life)),
            field("body", Value::Bytes(content.body().into())),
        ],
    }
}

pub(crate) fn dead_letter(origin: &str, dice: &mut Dice) -> DeadLetter {
    let mut payload = vec![0; dice.index(600)];
    dice.fill(&mut payload);
    let length = payload.len() as u64;
    DeadLetter { reason: "refused".to_owned(), origin: origin.to_owned(), payload, length }
}

/// Id of an event: epoch and sequence number.
type Id = (u64, u64);

/// What a batch holds, each event with its id.
pub(crate) fn contents(batch: &Batch) -> Vec<(Id, Content)> {
    let mut found = Vec::new();
    let walked = batch.events(|event| {
        let [life, body] = event.fields else { panic!("{event:?} is not what was written") };
        let (ValueRef::U64(life), ValueRef::Bytes(body)) = (life.value, body.value) else {
            panic!("{event:?} is not what was written")
        };
        let content = Content { number: Number(event.time.0), life, len: body.len() };
        assert_eq!(body, content.body(), "an event is not what was written");
        found.push(((batch.epoch.0, event.seq), content));
        Ok(())
    });
    walked.expect("a batch of the file is not damaged");
    assert_eq!(found.len(), batch.count as usize);
    found
}

/// The topics and the position of one cluster.
#[derive(Debug, Default)]
pub(crate) struct Kafka {
    pub(crate) position: Option<Position>,
    sent: BTreeSet<Number>,
    /// Of each flow and source the event last sent.
    last: BTreeMap<(flow::Hash, i64), Number>,
}

impl Kafka {
    /// One transaction: these batches of a flow, and the position behind them.
    pub(crate) fn commit(&mut self, batches: &[Batch], position: &Position) {
        for batch in batches {
            for (_, content) in contents(batch) {
                let number = content.number;
                assert!(self.sent.insert(number), "{number:?} goes to Kafka twice");
                let last = self.last.insert((batch.flow, number.source()), number);
                assert!(last < Some(number), "{number:?} is behind {last:?} in its topic");
            }
        }
        self.position = Some(position.clone());
    }
}

/// What was found in the file when the power was back.
#[derive(Debug)]
pub(crate) struct Found {
    /// All batches, oldest first, without those that the position covers.
    pub(crate) batches: Vec<Batch>,
    pub(crate) saved: BTreeMap<&'static str, Checkpoint>,
    /// Origins of the dead letters.
    pub(crate) dead: Vec<String>,
    /// Events ever committed, as the file counts them.
    pub(crate) committed: u64,
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) sources: Vec<Source>,
    pub(crate) kafka: Kafka,
    /// What stood under each id that was ever seen.
    ids: BTreeMap<Id, Content>,
    /// Dead letters of the forwarder: true once they were said to be stored.
    pub(crate) buried: BTreeMap<String, bool>,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            sources: Source::all(),
            kafka: Kafka::default(),
            ids: BTreeMap::new(),
            buried: BTreeMap::new(),
        }
    }

    /// No id means two things, in all that any process ever read.
    pub(crate) fn see(&mut self, batches: &[Batch]) {
        for (id, content) in batches.iter().flat_map(contents) {
            let before = self.ids.entry(id).or_insert(content);
            assert_eq!(*before, content, "{id:?} came twice");
        }
    }

    /// All that is in the file must stay there from now on.
    pub(crate) fn promised(&mut self) {
        for source in &mut self.sources {
            source.acknowledged = source.handed;
        }
        self.buried.values_mut().for_each(|stored| *stored = true);
    }

    /// Everything that was promised is in the file or in Kafka, once; and the
    /// sources go on behind what is. That is a promise too where it is `durable`.
    pub(crate) fn check(&mut self, found: &Found, durable: bool) {
        self.see(&found.batches);
        let mut there = BTreeMap::<Number, usize>::new();
        let mut last = BTreeMap::new();
        for batch in &found.batches {
            for (_, content) in contents(batch) {
                *there.entry(content.number).or_default() += 1;
                let key = (batch.flow, content.number.source());
                let before = last.insert(key, content.number);
                assert!(before < Some(content.number), "the file has {content:?} out of order");
            }
        }
        for number in &self.kafka.sent {
            *there.entry(*number).or_default() += 1;
        }
        let numbers: BTreeSet<Number> = there.keys().copied().collect();
        let mut dead = BTreeMap::<&str, usize>::new();
        for origin in &found.dead {
            *dead.entry(origin).or_default() += 1;
        }
        let mut events = 0;
        for source in &mut self.sources {
            let reached = source.reached(found.saved.get(source.name).cloned(), &numbers);
            assert!(
                (source.acknowledged..=source.handed).contains(&reached),
                "{} was acknowledged up to {}, handed over {}, and the file has {reached}",
                source.name,
                source.acknowledged,
                source.handed,
            );
            for (delivery, given) in &source.given {
                let expected = usize::from(*delivery <= reached);
                for number in &given.events {
                    let times = there.remove(number).unwrap_or_default();
                    assert_eq!(times, expected, "{number:?} of {} {delivery}", source.name);
                    events += expected as u64;
                }
                if let Some(origin) = &given.dead {
                    let times = dead.remove(origin.as_str()).unwrap_or_default();
                    assert_eq!(times, expected, "dead letter {origin}");
                }
            }
            source.given.split_off(&(reached + 1));
            source.handed = reached;
        }
        assert!(there.is_empty(), "nobody gave {there:?}");
        assert_eq!(found.committed, events, "events ever committed");
        self.buried.retain(|origin, stored| {
            let times = dead.remove(origin.as_str()).unwrap_or_default();
            assert!(times == 1 || times == 0 && !*stored, "{origin} is there {times} times");
            times == 1
        });
        assert!(dead.is_empty(), "nobody buried {dead:?}");
        if durable {
            self.promised();
        }
    }
}
