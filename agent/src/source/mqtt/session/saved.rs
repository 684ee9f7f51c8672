//! The session as it is saved with each commit, so that it is short: one byte of
//! version, the broker's numbering, the subscriptions, the newest id, then the messages of
//! QoS 2 that are received, those that are released, and those of QoS 1, each as runs of
//! consecutive packet ids (first id, count, a hash for each): four bytes a message
//! where a broker counts its ids up, eight at worst.

use super::released::Released;
use super::{Answer, Entry, Login, Session, Verdict};
use crate::source::mqtt::numbering::Numbering;

/// Version of the layout. Version 1 knew nothing of the broker's numbering, and 1 and 2
/// had of QoS 2 the ids alone of what is received, and nothing of what is released.
const VERSION: u8 = 3;

impl Session {
    /// The state after the commit that saves it.
    pub(in crate::source::mqtt) fn checkpoint(&self) -> Vec<u8> {
        let messages = self.received.len() + self.doubtful.len() + self.released.len();
        let messages = messages + self.entries.len() + self.replay.len();
        let mut bytes = Vec::with_capacity(32 + 5 * messages);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.numbering.save());
        bytes.extend_from_slice(&self.subscribed.to_le_bytes());
        bytes.extend_from_slice(&self.released.newest().to_le_bytes());
        let received = self.received.iter().chain(&self.doubtful);
        counted_runs(&mut bytes, received.map(|(id, hash)| (*id, *hash)));
        counted_runs(&mut bytes, self.released.iter());
        let once = self.entries.iter().chain(&self.replay);
        runs(&mut bytes, once.map(|entry| (entry.id, entry.hash)));
        bytes
    }

    /// A state that recognises nothing of what comes again, for what is in memory only
    /// (SAFETY 22): a crash has it taken twice rather than lost. What was learned of
    /// the broker is in it, as worse may be known by now than the file says. `None`
    /// where something must be recognised: ids of QoS 2, and the end of one. What is
    /// released need not be: like what is in memory a crash may have it taken twice.
    pub(in crate::source::mqtt) fn idle(&self) -> Option<Vec<u8>> {
        let once = |(answer, _): &(Answer, Verdict)| matches!(answer, Answer::Ack(_));
        if !self.received.is_empty() || self.doubts() || !self.open.iter().all(once) {
            return None;
        }
        let [kind, ..] = self.numbering.save();
        let idle = Self {
            subscribed: self.subscribed,
            numbering: Numbering::restore([kind, 0, 0]),
            ..Self::default()
        };
        Some(idle.checkpoint())
    }
}

/// Appends the number of runs, and these.
fn counted_runs(bytes: &mut Vec<u8>, messages: impl Iterator<Item = (u16, u32)>) {
    let place = bytes.len();
    bytes.extend_from_slice(&[0, 0]);
    let count = runs(bytes, messages);
    put(bytes, place, count);
}

/// Appends the runs of these ids and hashes; gives how many there are.
fn runs(bytes: &mut Vec<u8>, messages: impl Iterator<Item = (u16, u32)>) -> u16 {
    let mut runs: u16 = 0;
    let mut run: Option<(usize, Option<u16>, u16)> = None;
    for (id, hash) in messages {
        let (place, count) = match run {
            Some((place, next, count)) if next == Some(id) && count < u16::MAX => {
                (place, count + 1)
            }
            _ => {
                runs = runs.saturating_add(1);
                bytes.extend_from_slice(&id.to_le_bytes());
                bytes.extend_from_slice(&[0, 0]);
                (bytes.len() - 2, 1)
            }
        };
        put(bytes, place, count);
        bytes.extend_from_slice(&hash.to_le_bytes());
        run = Some((place, id.checked_add(1), count));
    }
    runs
}

/// Writes a count into its place.
fn put(bytes: &mut [u8], place: usize, count: u16) {
    if let Some(bytes) = bytes.get_mut(place..place + 2) {
        bytes.copy_from_slice(&count.to_le_bytes());
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

fn number(bytes: &mut &[u8]) -> Option<u16> {
    take(bytes).map(u16::from_le_bytes)
}

/// Takes one run.
fn take_run(bytes: &mut &[u8], messages: &mut Vec<(u16, u32)>) -> Option<()> {
    let first = number(bytes)?;
    for offset in 0..number(bytes)? {
        let hash = u32::from_le_bytes(take(bytes)?);
        messages.push((first.checked_add(offset)?, hash));
    }
    Some(())
}

fn take_counted_runs(bytes: &mut &[u8]) -> Option<Vec<(u16, u32)>> {
    let mut messages = Vec::new();
    for _ in 0..number(bytes)? {
        take_run(bytes, &mut messages)?;
    }
    Some(messages)
}

/// The session that these bytes hold, `None` where they hold none.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Session> {
    let bytes = &mut bytes;
    let [version @ 1..=VERSION] = take(bytes)? else { return None };
    let numbering =
        if version == 1 { Numbering::default() } else { Numbering::restore(take(bytes)?) };
    let subscribed = u64::from_le_bytes(take(bytes)?);
    // Without subscriptions a login was under way, and may have been answered.
    let login = if subscribed == 0 { Login::Asked } else { Login::Answered };
    let mut session = Session { subscribed, login, numbering, ..Session::default() };
    if version < 3 {
        for _ in 0..number(bytes)? {
            session.received.insert(number(bytes)?, 0);
        }
    } else {
        let newest = number(bytes)?;
        session.received = take_counted_runs(bytes)?.into_iter().collect();
        session.released = Released::restore(newest, take_counted_runs(bytes)?);
    }
    // Which of them were acknowledged since, nothing tells: none is certain. Version 1
    // used the lowest bit of a hash otherwise; its numbering is not known, so that
    // none of its entries is recognised anyway.
    let mut once = Vec::new();
    while !bytes.is_empty() {
        take_run(bytes, &mut once)?;
    }
    session.replay = once.into_iter().map(|(id, hash)| Entry { id, hash, answer: 0 }).collect();
    Some(session)
}
