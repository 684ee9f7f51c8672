//! QoS 2 messages that were released, until nothing can bring them again.
//!
//! With the PUBREL the protocol is done with a message: a sender must not publish again
//! what it has released (MQTT 3.1.1 and 5, 4.3.3), and its id is ours to forget. mosquitto
//! does it all the same. Its PUBRELs are lost by a cut, it begins to send them again, and
//! that is cut as well: those it had not come to it publishes at the login after that,
//! under the old ids and with DUP. So the id and the hash of topic and payload go from
//! `received` to here, in the commit that stands before the PUBCOMP.
//!
//! They leave when a PINGRESP shows that the PUBCOMP arrived; when a message without DUP
//! has the id, which was free for it; and, those of older connections, behind the first
//! message that we have never seen. A broker delivers again in the old order (4.6), and
//! before what is new: what has not come by then was completed.
//!
//! What comes again so is known only where the broker counts its ids up, and no message is
//! lost by that. It would be a new one, with DUP, under the id and with the content of a
//! released one. Then the broker has given all other ids between the two. A message of
//! these that we have not read is in flight, comes before the new one, and ends the list.
//! If we have read them all, the newest id that we know, saved with each commit, is nearly
//! a round ahead of the released one, and nothing so far behind is known. Where a broker
//! may reuse ids what comes again is taken, twice rather than lost.

use std::collections::BTreeMap;

/// Further ahead of an id a count may have come back to it: half of all ids, so that
/// neither many in flight nor ids that were left out make a difference.
const HALF_A_ROUND: u16 = 1 << 15;

#[derive(Debug, Clone, Copy)]
struct Complete {
    hash: u32,
    /// Number of its PUBCOMP on this connection; 0 until that is written.
    answer: u64,
}

#[derive(Debug, Default)]
pub(super) struct Released {
    /// On this connection.
    now: BTreeMap<u16, Complete>,
    /// On older ones, and not again on this one, with the hash.
    before: BTreeMap<u16, u32>,
    /// Whether these may be of another session, see `doubt`.
    doubtful: bool,
    /// Id of the last message that was taken and never seen before, of either QoS.
    newest: u16,
    /// PUBCOMPs with a number on this connection, and those of them that have arrived.
    answers: u64,
    proven: u64,
}

impl Released {
    /// A PUBREL arrived; `received` is the hash of the message, where its id was held. A
    /// hash of 0 is not known.
    pub(super) fn release(&mut self, id: u16, received: Option<u32>) {
        let before = self.before.remove(&id);
        let now = self.now.get(&id).map(|complete| complete.hash);
        if let Some(hash) = received.or(before).or(now).filter(|hash| *hash != 0) {
            self.now.insert(id, Complete { hash, answer: 0 });
        }
    }

    /// The PUBREL of an id that was held is to count as never read; gives the hash, 0 where
    /// it is not known.
    pub(super) fn take_back(&mut self, id: u16) -> u32 {
        self.now.remove(&id).map_or(0, |complete| complete.hash)
    }

    /// Whether a message of this content was released under the id on an older connection.
    pub(super) fn holds(&self, id: u16, hash: u32) -> bool {
        self.before.get(&id) == Some(&hash)
    }

    /// Whether a broker that counts cannot have come back to the id yet.
    pub(super) const fn is_recent(&self, id: u16) -> bool {
        self.newest.wrapping_sub(id) < HALF_A_ROUND
    }

    /// The message is delivered again, and held by its id from here.
    pub(super) fn comes_again(&mut self, id: u16) {
        self.before.remove(&id);
    }

    /// A message under this id was taken that was never seen before.
    pub(super) fn took(&mut self, id: u16) {
        self.newest = id;
        self.now.remove(&id);
        self.forget_old();
    }

    /// Its PUBCOMP is written.
    pub(super) fn answered(&mut self, id: u16) {
        if let Some(complete) = self.now.get_mut(&id) {
            self.answers += 1;
            complete.answer = self.answers;
        }
    }

    /// How many PUBCOMPs with a number were written on this connection.
    pub(super) const fn answers(&self) -> u64 {
        self.answers
    }

    /// How many were written since this many were, and are not proven.
    pub(super) fn unasked(&self, asked: u64) -> u64 {
        self.answers - asked.max(self.proven)
    }

    /// The first so many have arrived; gives whether that is news.
    pub(super) fn prove(&mut self, proven: u64) -> bool {
        if proven <= self.proven {
            return false;
        }
        self.proven = proven;
        self.now.retain(|_, complete| complete.answer == 0 || complete.answer > proven);
        true
    }

    /// A new connection in the old session.
    pub(super) fn resume(&mut self) {
        let now = std::mem::take(&mut self.now);
        self.before.extend(now.into_iter().map(|(id, complete)| (id, complete.hash)));
        (self.answers, self.proven) = (0, 0);
    }

    pub(super) fn doubt(&mut self) {
        self.doubtful |= !self.before.is_empty();
    }

    pub(super) const fn trust(&mut self) {
        self.doubtful = false;
    }

    pub(super) const fn doubts(&self) -> bool {
        self.doubtful
    }

    pub(super) fn forget_doubtful(&mut self) {
        if self.doubtful {
            self.forget_old();
        }
    }

    fn forget_old(&mut self) {
        self.before.clear();
        self.doubtful = false;
    }

    pub(super) fn len(&self) -> usize {
        self.now.len() + self.before.len()
    }

    pub(super) const fn newest(&self) -> u16 {
        self.newest
    }

    /// Ids and hashes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, u32)> {
        let now = self.now.iter().map(|(id, complete)| (*id, complete.hash));
        now.chain(self.before.iter().map(|(id, hash)| (*id, *hash)))
    }

    /// What was saved: all of older connections.
    pub(super) fn restore(newest: u16, messages: impl IntoIterator<Item = (u16, u32)>) -> Self {
        let before = messages.into_iter().filter(|(_, hash)| *hash != 0).collect();
        Self { before, newest, ..Self::default() }
    }
}
