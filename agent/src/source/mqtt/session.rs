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
//!   made room for it; a new message with the id of an entry proves that.
//! - After a reconnect the broker delivers what it holds un-acknowledged in the
//!   old order with DUP. What is found so among our entries, going forward
//!   only, was committed before; the first other message ends that.
//! - Where the broker counts its packet ids up ([`super::numbering`]), such a
//!   message is recognised. Else it may have got our PUBACK and given the id at
//!   once to a new message of the same content, which we have not seen. It is the
//!   old one for certain only if an entry's PUBACK was never written, the
//!   message's own or that of a later one: that entry is in flight, and a new
//!   message would stand behind it. In the doubt that remains it is taken again
//!   rather than lost: after a crash, and after a cut between the last PUBACK and
//!   its proof, so that there a proof is asked for at once.
//!
//! A crash costs nothing: the checkpoint is committed with the messages that it
//! names, answers come after that commit. Whether the ids of QoS 2 still hold after a
//! login that had no answer, `doubt` finds out; what a broker publishes again that it has
//! released, `released` knows.

mod doubt;
mod released;
mod saved;

use std::collections::{BTreeMap, VecDeque};

use self::released::Released;
use super::numbering::{Ids, Kind, Numbering};
use crate::collect::Ticket;

/// Answered messages that are not proven yet before a PINGREQ asks for the
/// proof: each costs four to eight bytes in every checkpoint, so that a quiet source's
/// stays below a tenth of a page, and a busy one asks once per round trip.
const UNPROVEN: u64 = 32;

/// The same where the broker may reuse ids: until the proof a cut makes a doubt. And the
/// same of PUBCOMPs where nothing is known of it: a proof tells how it gives its ids.
const UNPROVEN_IN_DOUBT: u64 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    id: u16,
    /// Hash of topic and payload.
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
    /// It was committed before, or is a new one that looks the same: taken twice
    /// rather than lost.
    Again,
    /// It was committed before: only its answer is due.
    Known,
}

/// How the last CONNECT ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Login {
    /// Or none was sent.
    #[default]
    Answered,
    /// No answer was read yet.
    Asked,
    /// None ever was: it may have made a new session of the broker's.
    Unsure,
}

#[derive(Debug, Default)]
pub(super) struct Session {
    /// Hash of the subscriptions that the broker's session holds; 0: none, or
    /// not known.
    subscribed: u64,
    /// What `subscribed` was before the login that is under way.
    before_login: u64,
    login: Login,
    /// QoS 1 messages whose PUBACK is not proven to have arrived, in order.
    entries: VecDeque<Entry>,
    /// How many of them, from the front, are answered.
    answered: usize,
    /// Entries of older connections that the broker may still deliver again;
    /// in order they stand behind `entries`.
    replay: VecDeque<Entry>,
    /// How many of these, from the front, are for certain what comes again and
    /// looks like them: the PUBACK of the last one was never written.
    certain: usize,
    /// Ids of `entries`.
    in_use: Ids,
    numbering: Numbering,
    /// QoS 2 ids between PUBREC and PUBREL, by which alone the message is known, with the
    /// hash of topic and payload for `released`; 0: not known.
    received: BTreeMap<u16, u32>,
    /// Those of them that may be another session's, see `doubt`.
    doubtful: BTreeMap<u16, u32>,
    /// QoS 2 messages whose PUBCOMP is not proven to have arrived.
    released: Released,
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
    /// The PINGREQs on their way.
    pings: VecDeque<Ping>,
}

/// What was written on this connection before a PINGREQ.
#[derive(Debug, Clone, Copy, Default)]
struct Ping {
    acks: u64,
    completes: u64,
}

impl Session {
    /// What [`Session::checkpoint`] saved, or an empty session where that is
    /// missing or unreadable: then a redelivery is taken twice, not lost.
    pub(super) fn restore(bytes: Option<&[u8]>) -> Self {
        bytes.and_then(saved::decode).unwrap_or_default()
    }

    /// How the broker gives its packet ids.
    pub(super) const fn numbering(&self) -> Kind {
        self.numbering.kind()
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
    /// that is to be committed before the CONNECT.
    pub(super) fn begin_login(&mut self) -> bool {
        self.abandon();
        let known = std::mem::take(&mut self.subscribed);
        if known != 0 {
            self.before_login = known;
        }
        known != 0
    }

    /// The CONNECT goes out now. Where the one before went unanswered, a session
    /// that the broker has may be a new one, with other messages under the same
    /// ids.
    pub(super) fn ask(&mut self) {
        self.login = match self.login {
            Login::Answered => Login::Asked,
            Login::Asked | Login::Unsure => {
                self.before_login = 0;
                Login::Unsure
            }
        };
    }

    /// A new connection in the old session. The caller has seen the commit of
    /// all that the old one delivered (SAFETY 18).
    pub(super) fn resume(&mut self) {
        self.abandon();
        // An entry whose PUBACK was not written is in flight, and all that is
        // delivered again before it is older than any message we have not seen.
        if self.certain > 0 {
            self.certain += self.entries.len();
        } else if self.answered < self.entries.len() {
            self.certain = self.entries.len();
        }
        let mut all = std::mem::take(&mut self.entries);
        all.append(&mut self.replay);
        for entry in &mut all {
            entry.answer = 0;
        }
        self.replay = all;
        self.released.resume();
        let unsure = self.login == Login::Unsure;
        self.forget_connection();
        if unsure {
            self.doubt();
        }
        let known = std::mem::take(&mut self.before_login);
        self.set_subscribed(known);
    }

    /// A new connection whose session the broker does not know: nothing will
    /// be delivered again. To be committed before anything is subscribed, else
    /// a crash would compare the new session's messages with the old one's.
    pub(super) fn start_anew(&mut self) {
        self.abandon();
        let known = !(self.entries.is_empty()
            && self.replay.is_empty()
            && self.received.is_empty()
            && self.doubtful.is_empty()
            && self.released.len() == 0
            && self.numbering.kind() == Kind::Unknown);
        self.entries.clear();
        self.replay.clear();
        self.certain = 0;
        self.received.clear();
        self.doubtful.clear();
        self.released = Released::default();
        // Another session may be another broker's.
        self.numbering = Numbering::default();
        self.subscribed = 0;
        self.before_login = 0;
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
                    if verdict != Verdict::Known {
                        self.entries.remove(place);
                    }
                }
                (_, Verdict::Known) => {}
                (Answer::Received(id), _) => drop(self.received.remove(&id)),
                // Else its PUBCOMP would not wait for the commit that removes it.
                (Answer::Complete(id), _) => {
                    self.received.insert(id, self.released.take_back(id));
                }
            }
        }
    }

    fn forget_connection(&mut self) {
        self.login = Login::Answered;
        self.answered = 0;
        self.answers = 0;
        self.arrived = 0;
        self.in_use.clear();
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
        if qos > 0 {
            self.look_at(id, dup);
        }
        match qos {
            0 => Verdict::Take,
            1 => self.publish_once(id, dup, hash),
            _ => self.publish_exactly_once(id, dup, hash),
        }
    }

    fn publish_exactly_once(&mut self, id: u16, dup: bool, hash: u32) -> Verdict {
        let verdict = if self.received.contains_key(&id) {
            Verdict::Known
        } else if dup && self.released.holds(id, hash) {
            // Known or not, it is held by its id again: what the file says of it is worth
            // the same.
            self.released.comes_again(id);
            self.received.insert(id, hash);
            let counts = self.numbering.kind() == Kind::Counts;
            if counts && self.released.is_recent(id) { Verdict::Known } else { Verdict::Again }
        } else {
            self.took(id, dup);
            self.received.insert(id, hash);
            Verdict::Take
        };
        self.changed |= verdict != Verdict::Known;
        self.open.push((Answer::Received(id), verdict));
        verdict
    }

    fn publish_once(&mut self, id: u16, dup: bool, hash: u32) -> Verdict {
        self.arrived += 1;
        let found = if dup {
            self.replay.iter().position(|entry| entry.id == id && entry.hash == hash)
        } else {
            self.prove_by_new(id);
            None
        };
        let verdict = if let Some(place) = found {
            let certain = place < self.certain || self.numbering.kind() == Kind::Counts;
            // Those before it were acknowledged: the broker left them out.
            self.replay.drain(..=place);
            self.certain = self.certain.saturating_sub(place + 1);
            if certain { Verdict::Known } else { Verdict::Again }
        } else {
            self.took(id, dup);
            self.replay.clear();
            self.certain = 0;
            Verdict::Take
        };
        self.changed |= verdict != Verdict::Known;
        self.entries.push_back(Entry { id, hash, answer: 0 });
        self.in_use.insert(id);
        self.open.push((Answer::Ack(id), verdict));
        verdict
    }

    /// What a new message, not a redelivery, proves of the acknowledgements.
    fn prove_by_new(&mut self, id: u16) {
        // Only a new message keeps to the Receive Maximum: what a session already
        // had in flight may be redelivered beyond one that has become smaller.
        if let Some(promised) = self.promised {
            self.prove(self.arrived.saturating_sub(promised.into()));
        }
        // An id is given again only after its PUBACK. Each entry that is passed
        // in the search is dropped by what is found.
        if self.in_use.contains(id)
            && let Some(old) = self.entries.iter().take(self.answered).find(|old| old.id == id)
        {
            self.prove(old.answer);
        }
    }

    /// A message was taken that was never seen before. Where it is sent for the first time
    /// its id shows how the broker gives them.
    fn took(&mut self, id: u16, dup: bool) {
        if !dup {
            let in_flight = self.entries.len() + self.received.len() + self.released.len();
            self.numbering.came(id, in_flight);
        }
        self.released.took(id);
    }

    /// A PUBREL arrived.
    pub(super) fn release(&mut self, id: u16) {
        self.trust();
        let held = self.received.remove(&id);
        self.released.release(id, held);
        self.changed |= held.is_some();
        let verdict = if held.is_some() { Verdict::Take } else { Verdict::Known };
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
            match answer {
                Answer::Ack(id) => self.acknowledged(id),
                Answer::Complete(id) => self.released.answered(id),
                Answer::Received(_) => {}
            }
        }
        while let Some((_, bytes)) = self.held.pop_front_if(|(ticket, _)| *ticket <= committed) {
            self.held_bytes -= bytes;
        }
        before - self.waiting.len()
    }

    /// The PUBACK of the next entry is written.
    fn acknowledged(&mut self, id: u16) {
        self.answers += 1;
        let entry = self.entries.get_mut(self.answered);
        debug_assert!(entry.as_ref().is_some_and(|entry| entry.id == id));
        if let Some(entry) = entry {
            entry.answer = self.answers;
            self.answered += 1;
        }
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
    /// more than one is on its way: each after twice as many PUBACKs, or PUBCOMPs, as the
    /// one before, which keeps them few however long that takes.
    pub(super) fn wants_proof(&self) -> bool {
        let asked = self.pings.back().copied().unwrap_or_default();
        let unproven = self.entries.front().map_or(0, |oldest| oldest.answer);
        let acks = if unproven == 0 { 0 } else { self.answers + 1 - unproven.max(asked.acks + 1) };
        let completes = self.released.unasked(asked.completes);
        let (first_ack, first_complete) = match self.numbering.kind() {
            Kind::Counts => (UNPROVEN, UNPROVEN),
            Kind::Unknown => (UNPROVEN_IN_DOUBT, UNPROVEN_IN_DOUBT),
            // Of QoS 2 nothing is in doubt by a cut.
            Kind::Reuses => (UNPROVEN_IN_DOUBT, UNPROVEN),
        };
        let pings = self.pings.len().min(32);
        acks >= first_ack << pings || completes >= first_complete << pings
    }

    /// Appends a PINGREQ.
    pub(super) fn ping(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0xC0, 0]);
        self.pings.push_back(Ping { acks: self.answers, completes: self.released.answers() });
    }

    /// Whether a PINGREQ is on its way.
    pub(super) fn pinging(&self) -> bool {
        !self.pings.is_empty()
    }

    /// A PINGRESP: every PUBACK and PUBCOMP before its PINGREQ has arrived.
    pub(super) fn pong(&mut self) {
        if let Some(ping) = self.pings.pop_front() {
            self.prove(ping.acks);
            if self.released.prove(ping.completes) {
                self.numbering.proven();
            }
        }
    }

    /// The first so many PUBACKs of this connection have arrived.
    fn prove(&mut self, proven: u64) {
        while let Some(entry) =
            self.entries.pop_front_if(|entry| entry.answer != 0 && entry.answer <= proven)
        {
            self.answered -= 1;
            self.in_use.remove(entry.id);
            self.numbering.proven();
        }
    }
}

#[cfg(test)]
#[path = "session_qos2_tests.rs"]
mod exactly_once;
#[cfg(test)]
#[path = "session_properties_tests.rs"]
mod properties;
#[cfg(test)]
#[path = "session_released_tests.rs"]
mod released_tests;
#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
