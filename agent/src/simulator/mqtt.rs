//! A model of an MQTT broker: one client's session with a window, QoS 1 and 2,
//! both ways to number messages, and the wire between.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};

use super::Mutant;
use crate::forward::simulator::chance::Chance;
use crate::source::mqtt::wire::{Ends, Wire};

/// Topics, by the QoS less one; the last level is the event's device.
pub(super) const DEVICES: [&str; 2] = ["once", "exact"];

/// Messages in flight at most.
pub(super) const WINDOW: usize = 6;

/// A message by its device and number.
pub(super) type Key = (&'static str, u64);

#[derive(Debug)]
struct Flight {
    id: u16,
    key: Key,
    /// Its PUBREC came: only the id is left.
    received: bool,
    /// It is published again all the same, as mosquitto does with what it was broken off
    /// at when it sent its PUBRELs again.
    republished: bool,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Broker {
    chance: Chance,
    /// Of logins alone, so that they leave the rest its way.
    logins: Chance,
    pub(super) counts: bool,
    version_5: bool,
    mutant: Option<Mutant>,
    pub(super) up: bool,
    session: bool,
    subscribed: bool,
    wire: Option<Wire>,
    /// The last one that was cut: what its client still tried to write.
    old: Option<Wire>,
    /// Nothing has come yet from a client that was answered.
    unheard: bool,
    published: [u64; 2],
    queue: VecDeque<Key>,
    flights: Vec<Flight>,
    last_id: u16,
    /// Acknowledged since the last look.
    pub(super) acknowledged: Vec<Key>,
    /// What SAFETY 19 may take a second time.
    pub(super) doubt: BTreeSet<Key>,
    /// What was in flight when a client died: without a file that has it, it is new.
    pub(super) orphans: BTreeSet<Key>,
    /// The client knows that ids are counted up: then nothing is in doubt.
    pub(super) learned: bool,
    /// It knew it, and has had no other session since: what was released is no new message.
    pub(super) same: bool,
}

/// Taken as no JSON: it becomes a dead letter.
pub(super) fn is_bad(key: Key) -> bool {
    key.1 % 40 == 39
}

pub(super) fn payload(key: Key) -> String {
    let (device, number) = key;
    if is_bad(key) { format!("{device} {number}") } else { format!("{{\"n\":{number}}}") }
}

impl Broker {
    pub(super) fn new(
        chance: Chance,
        counts: bool,
        version_5: bool,
        mutant: Option<Mutant>,
    ) -> Self {
        let logins = Chance::of(chance.clone().below(u64::MAX));
        Self {
            chance,
            logins,
            counts,
            version_5,
            mutant,
            up: true,
            session: false,
            subscribed: false,
            wire: None,
            old: None,
            unheard: false,
            published: [0; 2],
            queue: VecDeque::new(),
            flights: Vec::new(),
            last_id: 0,
            acknowledged: Vec::new(),
            doubt: BTreeSet::new(),
            orphans: BTreeSet::new(),
            learned: false,
            same: false,
        }
    }

    pub(super) fn connect(&mut self) -> io::Result<Wire> {
        if !self.up {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.cut(0);
        self.look_at_old();
        let wire = Arc::new(Mutex::new(Ends::default()));
        self.wire = Some(Arc::clone(&wire));
        Ok(wire)
    }

    /// Somebody publishes; a broker keeps it for who has subscribed.
    pub(super) fn publish(&mut self) {
        let index = self.chance.index(2);
        if self.subscribed {
            self.published[index] += 1;
            self.queue.push_back((DEVICES[index], self.published[index]));
        }
    }

    /// One message goes out.
    pub(super) fn send(&mut self) {
        if self.wire.is_none() || !self.subscribed || self.flights.len() >= WINDOW {
            return;
        }
        let Some(key) = self.queue.pop_front() else { return };
        let id = self.free_id();
        self.flights.push(Flight { id, key, received: false, republished: false });
        self.deliver(id, key, false);
    }

    /// This message is next, under this id; it may come again.
    pub(super) fn queue_as(&mut self, id: u16, key: Key) {
        self.last_id = id - 1;
        self.doubt.insert(key);
        (self.learned, self.same) = (false, false);
        self.queue.push_back(key);
    }

    fn free_id(&mut self) -> u16 {
        let free = |id: &u16| self.flights.iter().all(|flight| flight.id != *id);
        self.last_id =
            if self.counts { self.last_id + 1 } else { (1..=u16::MAX).find(free).unwrap() };
        self.last_id
    }

    fn write(&self, bytes: &[u8]) {
        if let Some(wire) = &self.wire {
            wire.lock().unwrap().to_client.extend(bytes);
        }
    }

    fn deliver(&self, id: u16, key: Key, again: bool) {
        let dup = again && self.mutant != Some(Mutant::NoRedelivery);
        let qos = if key.0 == DEVICES[0] { 1 } else { 2 };
        let topic = format!("m/{}", key.0);
        let mut body = vec![0, u8::try_from(topic.len()).unwrap()];
        body.extend(topic.as_bytes());
        body.extend(id.to_be_bytes());
        if self.version_5 {
            body.push(0);
        }
        body.extend(payload(key).as_bytes());
        let mut packet = vec![0x30 | u8::from(dup) << 3 | qos << 1];
        packet.push(u8::try_from(body.len()).unwrap());
        packet.extend(body);
        self.write(&packet);
    }

    /// Takes so many packets of the client's.
    pub(super) fn serve(&mut self, packets: usize) {
        for _ in 0..packets {
            let Some(wire) = self.wire.clone() else { return };
            let Some(packet) = next(&mut wire.lock().unwrap().to_broker) else { break };
            self.take(&packet);
        }
        self.hasten();
    }

    fn take(&mut self, packet: &[u8]) {
        let id = || u16::from_be_bytes([packet[2], packet[3]]);
        self.unheard = packet[0] >> 4 == 1;
        match packet[0] >> 4 {
            1 => self.log_in(),
            4 => self.acknowledge(id()),
            5 => {
                if let Some(flight) = self.flights.iter_mut().find(|flight| flight.id == id()) {
                    flight.republished = false;
                    if !std::mem::replace(&mut flight.received, true) {
                        self.acknowledged.push(flight.key);
                    }
                    self.release(id());
                }
            }
            7 => self.flights.retain(|flight| flight.id != id()),
            8 => {
                self.subscribed = true;
                let [high, low] = id().to_be_bytes();
                if self.version_5 {
                    self.write(&[0x90, 5, high, low, 0, 1, 2]);
                } else {
                    self.write(&[0x90, 4, high, low, 1, 2]);
                }
            }
            12 => self.write(&[0xD0, 0]),
            _ => {}
        }
    }

    fn release(&self, id: u16) {
        let [high, low] = id.to_be_bytes();
        self.write(&[0x62, 2, high, low]);
    }

    fn acknowledge(&mut self, id: u16) {
        if let Some(at) = self.flights.iter().position(|flight| flight.id == id) {
            self.acknowledged.push(self.flights.remove(at).key);
        }
    }

    /// Answers the login, and delivers again what is in flight.
    fn log_in(&mut self) {
        let present = u8::from(self.session);
        if self.version_5 {
            self.write(&[0x20, 3, present, 0, 0]);
        } else {
            self.write(&[0x20, 2, present, 0]);
        }
        self.session = true;
        let whole = self.flights.len();
        let reaches = if self.logins.hits(300) { self.logins.index(WINDOW) } else { whole };
        for flight in self.flights.iter().take(reaches) {
            if flight.received && !flight.republished {
                self.release(flight.id);
            } else {
                let forgets = self.mutant == Some(Mutant::ForgetsReleased);
                self.deliver(flight.id, flight.key, !(flight.republished && forgets));
            }
        }
        if reaches < whole {
            self.break_off(reaches);
        }
    }

    /// The line breaks while so many messages are delivered again. What is still to be
    /// released again is published again at the next login.
    fn break_off(&mut self, reaches: usize) {
        let known = self.counts && self.same;
        for flight in self.flights.iter_mut().skip(reaches).filter(|flight| flight.received) {
            flight.republished = true;
            if !known {
                self.doubt.insert(flight.key);
            }
        }
        self.cut(0);
    }

    /// A client without a rule answers what it has only read.
    fn hasten(&mut self) {
        let read = |wire: &Wire| wire.lock().unwrap().to_client.is_empty();
        if !self.wire.as_ref().is_some_and(read) {
            return;
        }
        if self.mutant == Some(Mutant::AckBeforeCommit) {
            let (read, rest) = std::mem::take(&mut self.flights)
                .into_iter()
                .partition(|flight| flight.key.0 == DEVICES[0]);
            self.flights = rest;
            let read: Vec<Flight> = read;
            self.acknowledged.extend(read.iter().map(|flight| flight.key));
        }
        if self.mutant == Some(Mutant::CompleteBeforeCommit) {
            self.flights.retain(|flight| !flight.received);
        }
    }

    /// The line breaks behind so many of the client's packets. What it has
    /// acknowledged and did not arrive is in doubt.
    pub(super) fn cut(&mut self, arrives: usize) {
        self.serve(arrives);
        let Some(wire) = self.wire.take() else { return };
        let mut ends = wire.lock().unwrap();
        ends.closed = true;
        if self.chance.hits(500) {
            ends.to_client.clear();
        }
        drop(ends);
        self.old = Some(wire);
        self.look_at_old();
        if std::mem::take(&mut self.unheard) {
            self.is_unsure();
        }
    }

    /// What the client has written, or tried to, and never arrived.
    fn look_at_old(&mut self) {
        let Some(old) = self.old.clone() else { return };
        while let Some(packet) = next(&mut old.lock().unwrap().to_broker) {
            match packet[0] >> 4 {
                1 => self.is_unsure(),
                4 => {
                    let id = u16::from_be_bytes([packet[2], packet[3]]);
                    let unheard = self.flights.iter().filter(|flight| flight.id == id);
                    self.doubt.extend(unheard.map(|flight| flight.key));
                }
                _ => {}
            }
        }
    }

    /// The client may take our session for a new one, and what is in flight of QoS 1
    /// for new messages. That of QoS 2 shows it that the session is the old one.
    pub(super) fn is_unsure(&mut self) {
        let once = self.flights.iter().filter(|flight| flight.key.0 == DEVICES[0]);
        self.doubt.extend(once.map(|flight| flight.key));
        self.learned = false;
    }

    /// The client's process dies: it does not know what it has answered.
    pub(super) fn client_dies(&mut self, arrives: usize) {
        self.cut(arrives);
        self.look_at_old();
        let once = self.flights.iter().filter(|flight| flight.key.0 == DEVICES[0]);
        let once: Vec<Key> = once.map(|flight| flight.key).collect();
        self.orphans.extend(&once);
        let released = self.flights.iter().filter(|flight| flight.received);
        self.orphans.extend(released.map(|flight| flight.key));
        self.doubt.extend(once);
    }

    /// The broker loses the session and what it held for it.
    pub(super) fn lose_session(&mut self) {
        self.cut(1);
        (self.session, self.subscribed) = (false, false);
        (self.learned, self.same) = (false, false);
        self.queue.clear();
        self.flights.clear();
        self.last_id = 0;
    }

    pub(super) fn is_idle(&self) -> bool {
        self.subscribed && self.wire.is_some() && self.queue.is_empty() && self.flights.is_empty()
    }

    pub(super) fn stands(&self) -> String {
        let Self { up, session, subscribed, queue, flights, .. } = self;
        format!("{up} {session} {subscribed} {} {flights:?}", queue.len())
    }
}

/// The next whole packet.
fn next(bytes: &mut VecDeque<u8>) -> Option<Vec<u8>> {
    let (mut length, mut header) = (0, 1);
    loop {
        let byte = *bytes.get(header)?;
        length |= usize::from(byte & 0x7f) << (7 * (header - 1));
        header += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    (bytes.len() >= header + length).then(|| bytes.drain(..header + length).collect())
}
