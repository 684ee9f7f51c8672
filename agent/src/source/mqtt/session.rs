//! The MQTT session as we know it: what is un-acknowledged, what the broker
//! may deliver again, and what of that must survive a crash. No clock, no
//! socket.
//!
//! Rules (SAFETY 18–20):
//! - An answer (PUBACK, PUBREC, PUBCOMP) goes out after the commit of what it
//!   answers, in the order of arrival, and only on the connection that brought
//!   the packet: [`Session::resume`] forgets the answers of the old one.
//! - A message stands in `entries`, and so in every checkpoint, until it is
//!   proven that its PUBACK arrived: brokers read in order, so that one proof
//!   stands for all PUBACKs before. A PINGRESP proves those before its PINGREQ;
//!   a new message beyond the Receive Maximum (version 5) proves the oldest that
//!   made room for it; a new message with the id of the oldest proves that.
//! - After a reconnect the broker delivers what it holds un-acknowledged in the
//!   old order with DUP. What is found so among our entries, going forward
//!   only, is recognised; the first other message ends that.
//! - A broker may reuse a packet id at once, and then a new message with the
//!   same content looks like the old one. Where a content came twice in a row
//!   under one id before, it is taken again rather than lost.
//!
//! A crash costs nothing: the checkpoint is committed with the messages that it
//! names, answers come after that commit.

use std::collections::{BTreeSet, VecDeque};

use crate::collect::Ticket;

/// Version of the saved layout.
const VERSION: u8 = 1;

/// Answered messages that are not proven yet before a PINGREQ asks for the
/// proof: each costs four to eight bytes in every checkpoint, so that a quiet source's
/// stays below a tenth of a page, and a busy one asks once per round trip.
const UNPROVEN: u64 = 32;

/// Longer than any list of a broker that reuses ids at once; in a longer one the
/// ids count upwards, and a new message with the oldest's id has come around.
const COME_AROUND: usize = 4_096;

/// Packet ids whose last content is remembered. Brokers that reuse ids at once
/// take the lowest; those that count upwards come back to one after 65,535.
const LOW_IDS: usize = 1_024;

/// Lowest bit of an entry's hash: the content came before under this id.
const REPEATS: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    id: u16,
    /// Hash of topic and payload; the lowest bit is [`REPEATS`].
    hash: u32,
    /// Number of its PUBACK on this connection; 0 until that is written.
    answer: u64,
}

/// What is sent once the commit is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// PUBACK, for QoS 1.
    Ack(u16),
    /// PUBREC: message and id of a QoS 2 delivery are committed.
    Received(u16),
    /// PUBCOMP: the removal of the id is committed.
    Complete(u16),
}

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is new.
    Take,
    /// It was committed before: only its answer is due.
    Known,
}

#[derive(Debug, Default)]
pub(super) struct Session {
    /// Hash of the subscriptions that the broker's session holds; 0: none, or
    /// not known.
    subscribed: u64,
    /// What `subscribed` was before the login that is under way.
    before_login: u64,
    /// QoS 1 messages whose PUBACK is not proven to have arrived, in order.
    entries: VecDeque<Entry>,
    /// How many of them, from the front, are answered.
    answered: usize,
    /// Entries of older connections that the broker may still deliver again;
    /// in order they stand behind `entries`.
    replay: VecDeque<Entry>,
    /// QoS 2 ids between PUBREC and PUBCOMP.
    received: BTreeSet<u16>,
    /// Answers to what came since the last delivery, and whether it was new.
    open: Vec<(Answer, Verdict)>,
    /// Whether something since the last delivery must be committed.
    changed: bool,
    /// Answers that wait for the commit of their ticket.
    waiting: VecDeque<(Ticket, Answer)>,
    /// Bytes of payload behind each ticket that is not answered yet.
    held: VecDeque<(Ticket, usize)>,
    held_bytes: usize,
    last: Ticket,
    /// PUBACKs written on this connection.
    answers: u64,
    /// QoS 1 messages read on this connection.
    arrived: u64,
    /// Receive Maximum that the broker has been told, if any.
    promised: Option<u16>,
    /// For each PINGREQ on its way the number of PUBACKs written before it.
    pings: VecDeque<u64>,
    /// Last content under each low id, 0 where none is known.
    low: Vec<u32>,
}

impl Session {
    /// What [`Session::checkpoint`] saved, or an empty session where that is
    /// missing or unreadable: then a redelivery is taken twice, not lost.
    pub(super) fn restore(saved: Option<&[u8]>) -> Self {
        let mut session = saved.and_then(decode).unwrap_or_default();
        for entry in session.entries.clone() {
            session.repeats(entry.id, entry.hash & !REPEATS);
        }
        session
    }

    /// The last ticket: what the old connection delivered is committed when
    /// this one is.
    pub(super) const fn last(&self) -> Ticket {
        self.last
    }

    pub(super) const fn subscribed(&self) -> u64 {
        self.subscribed
    }

    /// The broker's session now holds these subscriptions; to be committed.
    pub(super) fn set_subscribed(&mut self, hash: u64) {
        self.changed |= self.subscribed != hash;
        self.subscribed = hash;
    }

    /// A login begins: a broker that lost our session makes a new one, and its
    /// answer, or what we know by it, may be lost on the way. Then the next login
    /// finds a session without subscriptions that looks like ours. So from here
    /// until [`Session::resume`] nothing is known to be subscribed; gives whether
    /// that is to be committed first.
    pub(super) fn begin_login(&mut self) -> bool {
        self.abandon();
        self.before_login = std::mem::take(&mut self.subscribed);
        self.before_login != 0
    }

    /// A new connection in the old session. The caller has seen the commit of
    /// all that the old one delivered (SAFETY 18).
    pub(super) fn resume(&mut self) {
        self.abandon();
        let mut all = std::mem::take(&mut self.entries);
        all.append(&mut self.replay);
        for entry in &mut all {
            entry.answer = 0;
        }
        self.replay = all;
        self.forget_connection();
        self.set_subscribed(self.before_login);
    }

    /// A new connection whose session the broker does not know: nothing will
    /// be delivered again. To be committed before anything is subscribed, else
    /// a crash would compare the new session's messages with the old one's.
    pub(super) fn start_anew(&mut self) {
        self.abandon();
        let known =
            !(self.entries.is_empty() && self.replay.is_empty() && self.received.is_empty());
        self.entries.clear();
        self.replay.clear();
        self.received.clear();
        self.subscribed = 0;
        self.forget_connection();
        self.changed = known;
    }

    /// What was taken and never handed over is not ours: the broker delivers
    /// it again, and then it is new.
    fn abandon(&mut self) {
        let mut place = self.entries.len();
        for (answer, verdict) in self.open.drain(..).rev() {
            match (answer, verdict) {
                (Answer::Ack(_), verdict) => {
                    place = place.saturating_sub(1);
                    if verdict == Verdict::Take {
                        self.entries.remove(place);
                    }
                }
                (Answer::Received(id), Verdict::Take) => drop(self.received.remove(&id)),
                // Else its PUBCOMP would not wait for the commit that removes it.
                (Answer::Complete(id), Verdict::Take) => drop(self.received.insert(id)),
                (Answer::Received(_) | Answer::Complete(_), Verdict::Known) => {}
            }
        }
    }

    fn forget_connection(&mut self) {
        self.answered = 0;
        self.answers = 0;
        self.arrived = 0;
        self.promised = None;
        self.waiting.clear();
        self.held.clear();
        self.held_bytes = 0;
        self.pings.clear();
        self.changed = false;
    }

    /// The broker of this connection was told this Receive Maximum.
    pub(super) fn promise(&mut self, receive_maximum: Option<u16>) {
        self.promised = receive_maximum;
    }

    /// A PUBLISH arrived; `hash` is one of its topic and payload.
    pub(super) fn publish(&mut self, qos: u8, id: u16, dup: bool, hash: u32) -> Verdict {
        match qos {
            0 => Verdict::Take,
            1 => self.publish_once(id, dup, hash & !REPEATS),
            _ => {
                let new = self.received.insert(id);
                let verdict = if new { Verdict::Take } else { Verdict::Known };
                self.changed |= new;
                self.open.push((Answer::Received(id), verdict));
                verdict
            }
        }
    }

    fn publish_once(&mut self, id: u16, dup: bool, hash: u32) -> Verdict {
        self.arrived += 1;
        // Only a new message keeps to the Receive Maximum: what a session already
        // had in flight may be redelivered beyond one that has become smaller.
        if !dup {
            if let Some(promised) = self.promised {
                self.prove(self.arrived.saturating_sub(promised.into()));
            }
            if self.entries.len() > COME_AROUND
                && let Some(oldest) = self.entries.front().filter(|oldest| oldest.id == id)
            {
                self.prove(oldest.answer);
            }
        }
        let found = if dup {
            self.replay.iter().position(|e| e.id == id && e.hash & !REPEATS == hash)
        } else {
            None
        };
        let mut verdict = Verdict::Take;
        let mut flag = 0;
        if let Some(place) = found {
            // Those before it were acknowledged: the broker left them out.
            flag = self.replay.drain(..=place).next_back().map_or(0, |e| e.hash & REPEATS);
            if flag == 0 {
                verdict = Verdict::Known;
            }
        } else {
            self.replay.clear();
            // With DUP it may be the same message once more, not the same content.
            if self.repeats(id, hash) && !dup {
                flag = REPEATS;
            }
        }
        self.changed |= verdict == Verdict::Take;
        self.entries.push_back(Entry { id, hash: hash | flag, answer: 0 });
        self.open.push((Answer::Ack(id), verdict));
        verdict
    }

    /// Whether the last content under this id was the same.
    fn repeats(&mut self, id: u16, hash: u32) -> bool {
        let index = usize::from(id);
        if index >= LOW_IDS {
            return false;
        }
        if self.low.len() <= index {
            self.low.resize(index + 1, 0);
        }
        self.low
            .get_mut(index)
            .is_some_and(|last| hash != 0 && std::mem::replace(last, hash) == hash)
    }

    /// A PUBREL arrived.
    pub(super) fn release(&mut self, id: u16) {
        let held = self.received.remove(&id);
        self.changed |= held;
        let verdict = if held { Verdict::Take } else { Verdict::Known };
        self.open.push((Answer::Complete(id), verdict));
    }

    /// Whether what came since the last delivery needs one, be it without
    /// events.
    pub(super) const fn changed(&self) -> bool {
        self.changed
    }

    /// What was taken since the last delivery has been handed over under
    /// `ticket`; `None`: nothing of it needed a commit, its answers wait for
    /// what was delivered before only.
    pub(super) fn delivered(&mut self, ticket: Option<Ticket>, bytes: usize) {
        if let Some(ticket) = ticket {
            self.last = ticket;
            self.changed = false;
        }
        let last = self.last;
        self.waiting.extend(self.open.drain(..).map(|(answer, _)| (last, answer)));
        if bytes > 0 {
            self.held.push_back((last, bytes));
            self.held_bytes += bytes;
        }
    }

    /// Appends the answers to all that is committed up to `ticket`, in the
    /// order of arrival (MQTT-4.6.0-2). Gives how many.
    pub(super) fn answer(&mut self, committed: Ticket, out: &mut Vec<u8>) -> usize {
        let before = self.waiting.len();
        while let Some((_, answer)) = self.waiting.pop_front_if(|(ticket, _)| *ticket <= committed)
        {
            // Without a reason code all four are the same in both versions.
            let (kind, id) = match answer {
                Answer::Ack(id) => (0x40, id),
                Answer::Received(id) => (0x50, id),
                Answer::Complete(id) => (0x70, id),
            };
            let [high, low] = id.to_be_bytes();
            out.extend_from_slice(&[kind, 2, high, low]);
            if let Answer::Ack(id) = answer {
                self.answers += 1;
                let entry = self.entries.get_mut(self.answered);
                debug_assert!(entry.as_ref().is_some_and(|entry| entry.id == id));
                if let Some(entry) = entry {
                    entry.answer = self.answers;
                    self.answered += 1;
                }
            }
        }
        while let Some((_, bytes)) = self.held.pop_front_if(|(ticket, _)| *ticket <= committed) {
            self.held_bytes -= bytes;
        }
        before - self.waiting.len()
    }

    /// The ticket that the next answer waits for; where only QoS 0 is held, which
    /// has no answers, the one that makes room.
    pub(super) fn next_ticket(&self) -> Option<Ticket> {
        let answer = self.waiting.front().map(|(ticket, _)| *ticket);
        answer.or_else(|| self.held.front().map(|(ticket, _)| *ticket))
    }

    /// Messages and releases that are not answered yet.
    pub(super) fn unanswered(&self) -> usize {
        self.waiting.len() + self.open.len()
    }

    pub(super) const fn unanswered_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether a PINGREQ now would shorten the checkpoints.
    ///
    /// The answer queues behind all that the broker has written by then, so that
    /// more than one is on its way: each after twice as many PUBACKs as the one
    /// before, which keeps them few however long that takes.
    pub(super) fn wants_proof(&self) -> bool {
        let asked = self.pings.back().copied().unwrap_or(0);
        let unproven = self.entries.front().map_or(0, |oldest| oldest.answer);
        let unasked = if unproven == 0 { 0 } else { self.answers + 1 - unproven.max(asked + 1) };
        unasked >= UNPROVEN << self.pings.len().min(32)
    }

    /// Appends a PINGREQ.
    pub(super) fn ping(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0xC0, 0]);
        self.pings.push_back(self.answers);
    }

    /// Whether a PINGREQ is on its way.
    pub(super) fn pinging(&self) -> bool {
        !self.pings.is_empty()
    }

    /// A PINGRESP: every PUBACK before its PINGREQ has arrived.
    pub(super) fn pong(&mut self) {
        if let Some(proven) = self.pings.pop_front() {
            self.prove(proven);
        }
    }

    /// The first so many PUBACKs of this connection have arrived.
    fn prove(&mut self, proven: u64) {
        while self.entries.pop_front_if(|e| e.answer != 0 && e.answer <= proven).is_some() {
            self.answered -= 1;
        }
    }

    /// The state after the commit that saves it: one byte of version, the
    /// subscriptions, the QoS 2 ids, then runs of consecutive packet ids (first
    /// id, count, a hash for each): four bytes a message where a broker counts
    /// its ids upwards, eight at worst.
    pub(super) fn checkpoint(&self) -> Vec<u8> {
        let mut bytes =
            Vec::with_capacity(11 + 2 * self.received.len() + 5 * (self.entries.len() + 4));
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.subscribed.to_le_bytes());
        let count = u16::try_from(self.received.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&count.to_le_bytes());
        for id in &self.received {
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        let mut run: Option<(usize, u16, u16)> = None;
        for entry in self.entries.iter().chain(&self.replay) {
            run = match run {
                Some((at, first, count)) if first.checked_add(count) == Some(entry.id) => {
                    Some((at, first, count + 1))
                }
                ended => {
                    close_run(&mut bytes, ended);
                    let at = bytes.len();
                    bytes.extend_from_slice(&entry.id.to_le_bytes());
                    bytes.extend_from_slice(&[0, 0]);
                    Some((at, entry.id, 1))
                }
            };
            bytes.extend_from_slice(&entry.hash.to_le_bytes());
        }
        close_run(&mut bytes, run);
        bytes
    }
}

/// Writes the count of a run into its place.
fn close_run(bytes: &mut [u8], run: Option<(usize, u16, u16)>) {
    if let Some((at, _, count)) = run
        && let Some(place) = bytes.get_mut(at + 2..at + 4)
    {
        place.copy_from_slice(&count.to_le_bytes());
    }
}

fn decode(mut bytes: &[u8]) -> Option<Session> {
    fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
        let (head, rest) = bytes.split_first_chunk::<N>()?;
        *bytes = rest;
        Some(*head)
    }
    if take(&mut bytes)? != [VERSION] {
        return None;
    }
    let mut session =
        Session { subscribed: u64::from_le_bytes(take(&mut bytes)?), ..Session::default() };
    for _ in 0..u16::from_le_bytes(take(&mut bytes)?) {
        session.received.insert(u16::from_le_bytes(take(&mut bytes)?));
    }
    while !bytes.is_empty() {
        let first = u16::from_le_bytes(take(&mut bytes)?);
        for offset in 0..u16::from_le_bytes(take(&mut bytes)?) {
            let hash = u32::from_le_bytes(take(&mut bytes)?);
            session.entries.push_back(Entry { id: first.checked_add(offset)?, hash, answer: 0 });
        }
    }
    Some(session)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
