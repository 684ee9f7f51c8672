//! The session as it is saved with each commit, so that it is short: one byte of
//! version, the broker's numbering, the subscriptions, the QoS 2 ids, then runs of
//! consecutive packet ids (first id, count, a hash for each): four bytes a message
//! where a broker counts its ids up, eight at worst.

use super::{Answer, Entry, Login, Session, Verdict};
use crate::source::mqtt::numbering::Numbering;

/// Version of the layout. Version 1 knew nothing of the broker's numbering.
const VERSION: u8 = 2;

impl Session {
    /// The state after the commit that saves it.
    pub(in crate::source::mqtt) fn checkpoint(&self) -> Vec<u8> {
        let mut bytes =
            Vec::with_capacity(14 + 2 * self.received.len() + 5 * (self.entries.len() + 4));
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.numbering.save());
        bytes.extend_from_slice(&self.subscribed.to_le_bytes());
        let count = self.received.len() + self.doubtful.len();
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&count.to_le_bytes());
        for id in self.received.iter().chain(&self.doubtful) {
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

    /// A state that recognises nothing of what comes again, for what is in memory only
    /// (SAFETY 22): a crash has it taken twice rather than lost. What was learned of
    /// the broker is in it, as worse may be known by now than the file says. `None`
    /// where something must be recognised: ids of QoS 2, and the end of one.
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

/// Writes the count of a run into its place.
fn close_run(bytes: &mut [u8], run: Option<(usize, u16, u16)>) {
    if let Some((at, _, count)) = run
        && let Some(place) = bytes.get_mut(at + 2..at + 4)
    {
        place.copy_from_slice(&count.to_le_bytes());
    }
}

/// The session that these bytes hold, `None` where they hold none.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Session> {
    fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
        let (head, rest) = bytes.split_first_chunk::<N>()?;
        *bytes = rest;
        Some(*head)
    }
    let [version] = take(&mut bytes)?;
    let numbering = match version {
        1 => Numbering::default(),
        VERSION => Numbering::restore(take(&mut bytes)?),
        _ => return None,
    };
    let subscribed = u64::from_le_bytes(take(&mut bytes)?);
    // Without subscriptions a login was under way, and may have been answered.
    let login = if subscribed == 0 { Login::Asked } else { Login::Answered };
    let mut session = Session { subscribed, login, numbering, ..Session::default() };
    for _ in 0..u16::from_le_bytes(take(&mut bytes)?) {
        session.received.insert(u16::from_le_bytes(take(&mut bytes)?));
    }
    // Which of them were acknowledged since, nothing tells: none is certain. Version 1
    // used the lowest bit of a hash otherwise; its numbering is not known, so that
    // none of its entries is recognised anyway.
    while !bytes.is_empty() {
        let first = u16::from_le_bytes(take(&mut bytes)?);
        for offset in 0..u16::from_le_bytes(take(&mut bytes)?) {
            let hash = u32::from_le_bytes(take(&mut bytes)?);
            session.replay.push_back(Entry { id: first.checked_add(offset)?, hash, answer: 0 });
        }
    }
    Some(session)
}
