//! The line to the model: what librdkafka does between the forwarder and a
//! broker, call by call.
//!
//! A mutant takes a rule out here, where it shows on the line: the machine
//! behaves as if it did not keep the rule.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode as Code;

use super::Mutant;
use super::broker::{Broker, Fate, HeldBack, Sent};
use crate::buffer::{Shared, Store, locked};
use crate::encode::record;
use crate::event::Timestamp;
use crate::flow::Create;
use crate::forward::config::Config;
use crate::forward::context::Failure;
use crate::forward::line::{Kept, Line, Presence, Tail};
use crate::forward::load::{Load, Record};
use crate::forward::tails::Wanted;
use crate::forward::trouble::{Class, Refusal, Trouble, refusal};

/// As librdkafka's shell waits for a call.
const CALL: Duration = Duration::from_secs(2);

/// Records that one reading of a topic's end gives.
const AT_A_TIME: usize = 50;

#[derive(Debug, Default)]
struct Client {
    epoch: Option<u32>,
    /// It is of no use any more.
    lost: Option<Class>,
    /// The transaction can only be aborted.
    broken: Option<Code>,
    /// Handed over, not taken by a broker yet.
    queue: Vec<Sent>,
    /// Taken or refused by a broker, and not known yet.
    unheard: Vec<Failure>,
    waits: bool,
    failures: Vec<Failure>,
    /// The transaction has records in it.
    carries: bool,
}

pub(super) struct Wire {
    broker: Arc<Mutex<Broker>>,
    shared: Arc<Shared>,
    who: usize,
    id: String,
    now_ms: i64,
    client: RefCell<Client>,
    /// The topic that is looked at, what is still to come of it, and whether that
    /// is all.
    tail: Option<(String, Vec<String>, bool)>,
}

fn failed(class: Class, code: Code) -> Trouble {
    Trouble { class, code: Some(code), text: code.to_string() }
}

impl Wire {
    pub(super) fn open(
        broker: &Arc<Mutex<Broker>>,
        shared: &Arc<Shared>,
        who: usize,
        gateway: &str,
        now: Timestamp,
    ) -> Self {
        let mut known = broker.lock().unwrap();
        known.stuck.remove(&who);
        if known.faults > 0 && known.chance.hits(20) {
            known.stuck.insert(who);
        }
        drop(known);
        Self {
            broker: Arc::clone(broker),
            shared: Arc::clone(shared),
            who,
            id: format!("tidegate-{gateway}"),
            now_ms: now.0 / 1_000_000,
            client: RefCell::default(),
            tail: None,
        }
    }

    fn broker(&self) -> MutexGuard<'_, Broker> {
        self.broker.lock().unwrap()
    }

    /// One transactional call: what is left of it before the broker is asked.
    fn ask(&self, at_most: Duration) -> Result<(MutexGuard<'_, Broker>, u32, Fate), Trouble> {
        let mut broker = self.broker();
        let mut client = self.client.borrow_mut();
        if broker.is_dead() {
            client.lost = Some(Class::Rebuild);
        }
        if broker.faults > 0 && broker.chance.hits(1) {
            client.lost = Some(Class::Rebuild);
        }
        if let Some(class) = client.lost {
            broker.call();
            let code = if class == Class::Fenced { Code::Fenced } else { Code::Fatal };
            return Err(failed(class, code));
        }
        let mut fate = broker.call();
        if broker.stuck.contains(&self.who) {
            fate = Fate::Unasked;
        }
        if fate != Fate::Fine {
            broker.pace.park(at_most);
        }
        let Some(epoch) = client.epoch else {
            return Err(Trouble::new(Class::Rebuild, "not initialised"));
        };
        drop(client);
        Ok((broker, epoch, fate))
    }

    /// What the coordinator's refusal leaves of the producer.
    fn refused(&self, code: Code) -> Trouble {
        let mut client = self.client.borrow_mut();
        if code == Code::InvalidProducerEpoch {
            let twins = !self.broker.lock().unwrap().is(Mutant::NoLookForTwins);
            let class = if twins { Class::Fenced } else { Class::Rebuild };
            client.lost = Some(class);
            return failed(class, Code::Fenced);
        }
        client.broken = Some(code);
        failed(Class::Abort, code)
    }

    /// The position of a Kafka that has everything, where the file remembers one.
    fn all_that_is_stored(&self) -> Option<Kept> {
        let store = Store(Arc::clone(&self.shared));
        let mut position = store.memory().position?;
        let running = store.epochs().last()?.epoch;
        for (flow, ..) in store.reader().unwrap().flows().unwrap() {
            position.advance(flow, running, u64::MAX);
        }
        Some(Kept { offset: 0, position })
    }

    fn call(&self) -> Result<MutexGuard<'_, Broker>, Trouble> {
        let mut broker = self.broker();
        if broker.call() == Fate::Fine && !broker.stuck.contains(&self.who) {
            return Ok(broker);
        }
        broker.pace.park(CALL);
        Err(failed(Class::Repeat, Code::OperationTimedOut))
    }

    /// Sends what is queued, topic by topic; a failure purges the rest.
    fn deliver(&self, broker: &mut Broker, epoch: u32, requests: usize) {
        let mut client = self.client.borrow_mut();
        let mut topics: BTreeMap<String, Vec<Sent>> = BTreeMap::new();
        for sent in client.queue.drain(..) {
            topics.entry(sent.topic.clone()).or_default().push(sent);
        }
        for (place, (topic, sent)) in topics.into_iter().enumerate() {
            if place >= requests {
                client.queue.extend(sent);
                continue;
            }
            let result = match client.broken {
                Some(_) => Err(Code::PurgeQueue),
                None => broker.append(&self.id, epoch, &topic, self.now_ms, &sent),
            };
            let Err(code) = result else { continue };
            if code == Code::InvalidProducerEpoch {
                let twins = !broker.is(Mutant::NoLookForTwins);
                client.lost = Some(if twins { Class::Fenced } else { Class::Rebuild });
            }
            client.broken = client.broken.or(Some(code));
            client.unheard.extend(sent.iter().map(|sent| Failure { record: sent.index, code }));
        }
    }
}

impl Line for Wire {
    fn poll(&self) {}

    fn init(&mut self) -> Result<(), Trouble> {
        if self.client.borrow().epoch.is_some() {
            return Ok(());
        }
        let mut broker = self.broker.lock().unwrap();
        let fate = broker.call();
        let mut client = self.client.borrow_mut();
        if fate == Fate::Unasked || broker.stuck.contains(&self.who) {
            broker.pace.park(CALL);
            return Err(failed(Class::Repeat, Code::OperationTimedOut));
        }
        let epoch = broker.init(&self.id, self.who);
        if fate == Fate::Unheard {
            return Err(failed(Class::Repeat, Code::OperationTimedOut));
        }
        client.epoch = Some(epoch);
        Ok(())
    }

    fn cluster(&self) -> Result<String, Trouble> {
        Ok(self.call()?.cluster.clone())
    }

    fn presence(&self, topic: &str) -> Result<Presence, Trouble> {
        let broker = self.call()?;
        if topic.starts_with("tidegate.") {
            return Ok(Presence::There);
        }
        Ok(match broker.topics.get(topic) {
            Some(topic) if topic.forbidden => Presence::Forbidden,
            Some(topic) if topic.there => Presence::There,
            _ => Presence::Missing,
        })
    }

    fn create(&self, _: &Config, _: &str, _: &str, _: &Create) -> Result<bool, String> {
        Err("the model's topics are not made by agents".to_owned())
    }

    fn read_position(&mut self, _: &Config, _: &str) -> Result<Option<Kept>, Trouble> {
        let broker = self.broker.lock().unwrap();
        let forgiving = broker.is(Mutant::ErrorIsNoPosition);
        drop(broker);
        let broker = match self.call() {
            Err(_) if forgiving => return Ok(None),
            called => called?,
        };
        match broker.offset(&self.id) {
            Ok(None) if broker.is(Mutant::GoneIsAll) => Ok(self.all_that_is_stored()),
            Ok(kept) => Ok(kept),
            Err(HeldBack) if forgiving => Ok(None),
            Err(HeldBack) => {
                broker.pace.park(CALL * 2);
                Err(failed(Class::Repeat, Code::OperationTimedOut))
            }
        }
    }

    fn read_tail(
        &mut self,
        _: &Config,
        _: &str,
        wanted: &Wanted,
        each: &mut dyn FnMut(Option<&str>, usize),
    ) -> Result<Tail, Trouble> {
        let mut broker = self.call()?;
        if broker.sick.as_ref() == Some(&wanted.topic) {
            broker.blind.insert(wanted.topic.clone());
            return Err(failed(Class::Repeat, Code::LeaderNotAvailable));
        }
        let known = self.tail.clone().filter(|(topic, ..)| *topic == wanted.topic);
        let (ids, whole) =
            match known.map_or_else(|| broker.tail(&wanted.topic), |k| Ok((k.1, k.2))) {
                Ok(found) => found,
                Err(closed) => return Ok(Tail::Closed(closed)),
            };
        drop(broker);
        for id in ids.iter().take(AT_A_TIME) {
            each(Some(id), id.len());
        }
        let rest: Vec<String> = ids.into_iter().skip(AT_A_TIME).collect();
        if rest.is_empty() {
            return Ok(Tail::Ended { whole });
        }
        self.tail = Some((wanted.topic.clone(), rest, whole));
        Ok(Tail::Reading { news: true })
    }

    fn leave_tail(&mut self) {
        self.tail = None;
    }

    fn begin(&self) -> Result<(), Trouble> {
        let mut client = self.client.borrow_mut();
        client.failures.clear();
        client.carries = false;
        match client.lost {
            Some(class) => Err(failed(class, Code::Fenced)),
            None => Ok(()),
        }
    }

    fn produce(
        &self,
        load: &Load,
        index: usize,
        given: &Record,
        now: Timestamp,
        id: &mut String,
    ) -> bool {
        record::id(&given.gateway, given.epoch, given.seq, id);
        let mut stamp = record::timestamp(if given.stamped { now } else { given.time }, now);
        if self.broker().is(Mutant::OwnTimeAlways) {
            stamp = given.time.0 / 1_000_000;
        }
        let mut client = self.client.borrow_mut();
        client.carries = true;
        client.queue.push(Sent {
            index,
            topic: load.stream(given).topic.clone(),
            id: id.clone(),
            bytes: load.value(given).len(),
            stamp,
        });
        true
    }

    fn answered(&self, at_most: Duration) -> bool {
        self.flush(at_most)
    }

    fn flush(&self, at_most: Duration) -> bool {
        {
            let client = self.client.borrow();
            if client.queue.is_empty() && !client.waits {
                return true;
            }
        }
        let asked = self.ask(at_most);
        let Ok((mut broker, epoch, fate)) = asked else {
            // The client fails what it can no longer send.
            let mut client = self.client.borrow_mut();
            let code = Code::PurgeQueue;
            let purged: Vec<Failure> =
                client.queue.drain(..).map(|sent| Failure { record: sent.index, code }).collect();
            client.broken = client.broken.or(Some(code));
            client.failures.extend(purged);
            client.waits = false;
            return true;
        };
        match fate {
            Fate::Unasked => return false,
            Fate::Unheard => {
                let requests = broker.chance.index(3);
                self.deliver(&mut broker, epoch, requests);
                self.client.borrow_mut().waits = true;
                return false;
            }
            Fate::Fine => self.deliver(&mut broker, epoch, usize::MAX),
        }
        let mut client = self.client.borrow_mut();
        let heard = std::mem::take(&mut client.unheard);
        client.failures.extend(heard);
        client.waits = false;
        true
    }

    fn take_failures(&self) -> Vec<Failure> {
        std::mem::take(&mut self.client.borrow_mut().failures)
    }

    fn is_blamed(&self) -> bool {
        let client = self.client.borrow();
        client.failures.iter().any(|failure| refusal(failure.code) != Refusal::Consequence)
    }

    fn send_position(&self, _: &str, kept: &Kept) -> Result<(), Trouble> {
        let (mut broker, epoch, fate) = self.ask(CALL)?;
        if let Some(code) = self.client.borrow().broken {
            return Err(failed(Class::Abort, code));
        }
        if fate == Fate::Unasked {
            return Err(failed(Class::Repeat, Code::OperationTimedOut));
        }
        let renews = !self.client.borrow().carries;
        if broker.is(Mutant::NoPosition) || renews && broker.is(Mutant::NoRenewal) {
            return Ok(());
        }
        if broker.is(Mutant::DeleteBeforeCommit) {
            *locked(&self.shared.forget) = Some((kept.position.clone(), broker.cluster.clone()));
        }
        let added = broker.add_offset(&self.id, epoch, &self.id, kept);
        drop(broker);
        added.map_err(|code| match self.refused(code) {
            // The group's coordinator knows no way back from it.
            trouble if code == Code::InvalidProducerIdMapping => {
                self.client.borrow_mut().lost = Some(Class::Rebuild);
                Trouble { class: Class::Rebuild, ..trouble }
            }
            trouble => trouble,
        })?;
        if fate == Fate::Unheard {
            return Err(failed(Class::Repeat, Code::OperationTimedOut));
        }
        Ok(())
    }

    fn commit(&self, at_most: Duration) -> Result<(), Trouble> {
        let (mut broker, epoch, fate) = self.ask(at_most)?;
        if let Some(code) = self.client.borrow().broken {
            return Err(failed(Class::Abort, code));
        }
        let unknown = if broker.is(Mutant::AbortUnknownCommit) {
            failed(Class::Abort, Code::OperationTimedOut)
        } else {
            failed(Class::Repeat, Code::OperationTimedOut)
        };
        if fate == Fate::Unasked {
            return if broker.is(Mutant::SilenceIsCommit) { Ok(()) } else { Err(unknown) };
        }
        let done = broker.end(&self.id, epoch, true);
        drop(broker);
        done.map_err(|code| self.refused(code))?;
        if fate == Fate::Unheard {
            return Err(unknown);
        }
        Ok(())
    }

    fn abort(&self) -> Result<(), Trouble> {
        let (mut broker, epoch, fate) = self.ask(CALL)?;
        if fate == Fate::Unasked {
            return Err(failed(Class::Repeat, Code::OperationTimedOut));
        }
        match broker.end(&self.id, epoch, false) {
            // The client takes a new id and goes on.
            Err(Code::InvalidProducerIdMapping) => {
                self.client.borrow_mut().epoch = Some(broker.init(&self.id, self.who));
            }
            ended => {
                drop(broker);
                ended.map_err(|code| self.refused(code))?;
            }
        }
        if fate == Fate::Unheard {
            return Err(failed(Class::Repeat, Code::OperationTimedOut));
        }
        let mut client = self.client.borrow_mut();
        client.queue.clear();
        client.unheard.clear();
        client.failures.clear();
        (client.waits, client.broken) = (false, None);
        Ok(())
    }

    fn is_transactional(&self) -> bool {
        true
    }

    fn told(&self) -> Option<String> {
        None
    }

    fn well(&self) {}
}
