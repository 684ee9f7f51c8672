//! The position: how far Kafka has the flows of this gateway, as text that
//! fits into one offset's metadata.
//!
//! ```text
//! 1;<gateway>;<cluster>;<epoch>[.<end>],…;<flow><place><number>,…
//! ```
//! Epochs are 16 hexadecimal digits, oldest first; `end` is the number up to
//! which the epoch belongs to everything sent after it. A flow is six digits
//! of base64url, the place of its epoch in the list one digit of base 36, its
//! number base 36 too. All of it is ASCII.
//!
//! # Why an epoch has an end
//!
//! A file that does not know a flow's epoch (it was restored, cloned or
//! replaced) may only delete what was surely sent. The epochs that the list
//! names are the past that it shares with the file which sent last. But two
//! copies of one file share only the beginning of the epoch in which the copy
//! was taken: the end says how much of it the sender had. Without it the
//! original of a clone would delete what it collected after the copy was made.
//! An end never rises, so that a doubt is always solved by sending twice.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::{BatchId, Epoch};
use crate::flow;

/// Epochs that are named though no flow stands in them: eight restarts are
/// what somebody who changes cards and clocks does in a day.
const NAMED: usize = 8;

/// Epochs that the text holds at most, those that flows stand in included; a
/// flow that was quiet for longer loses its entry, which deletes nothing.
const MOST_EPOCHS: usize = 24;

/// With the epochs above and names of [`MOST_NAME`] this stays below the 4,096
/// bytes of an offset's metadata. `check` refuses more flows.
const MOST_FLOWS: usize = 200;

/// Longest id of a gateway or cluster in the text.
const MOST_NAME: usize = 64;

/// Batch numbers have 40 bits in the file.
const MOST_NUMBER: u64 = 1 << 40;

/// For each flow the epoch and batch number last sent, and the newest eight
/// epochs in order. SAFETY.md says what it covers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    pub gateway: String,
    pub cluster: String,
    /// Oldest first, at most eight, besides those that entries refer to; the
    /// last is that of the run that wrote it.
    pub epochs: Vec<Named>,
    pub flows: BTreeMap<flow::Hash, (Epoch, u64)>,
}

/// An epoch in the position's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    pub epoch: Epoch,
    /// Last batch number that the sender's file had of it; `None` while it
    /// runs, 0 where the sender's file did not have the epoch at all.
    pub end: Option<u64>,
}

/// An epoch as the file knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEpoch {
    /// Its place in the file's order, from 1.
    pub ordinal: i64,
    pub epoch: Epoch,
    /// The gateway that its batches were written under.
    pub gateway: Arc<str>,
    /// Number of its last batch; `None` while it runs.
    pub last: Option<u64>,
}

/// The text is not a position. It is no reason to delete or to forget.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a position: {0}")]
pub struct BadPosition(&'static str);

impl Position {
    /// The position with which a process goes on: the flows as Kafka has them,
    /// the epochs of both. `kafka` is what was read and adopted, if there was
    /// something, of this gateway and cluster.
    pub fn continued(
        kafka: Option<&Self>,
        gateway: &str,
        cluster: &str,
        file: &[FileEpoch],
    ) -> Self {
        let kafka = kafka.filter(|k| k.gateway == name(gateway) && k.cluster == name(cluster));
        let mut next = Self {
            gateway: name(gateway),
            cluster: name(cluster),
            epochs: Vec::new(),
            flows: kafka.map(|k| k.flows.clone()).unwrap_or_default(),
        };
        for named in kafka.into_iter().flat_map(|k| &k.epochs) {
            let end = match file.iter().find(|known| known.epoch == named.epoch) {
                // What the sender before had more than this file was not sent
                // by this one; what this file has more, it may not have sent.
                Some(known) => match (named.end, known.last) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                },
                None => Some(0),
            };
            next.epochs.push(Named { epoch: named.epoch, end });
        }
        // What is older than the newest that both know has gone from the list for
        // want of room. Named again it would stand before entries of others'
        // epochs, which would then cover what nobody sent.
        let named = |known: &&FileEpoch| next.epochs.iter().any(|n| n.epoch == known.epoch);
        let newest = file.iter().filter(named).map(|known| known.ordinal).max().unwrap_or(0);
        let newer = file.iter().filter(|known| known.ordinal > newest);
        next.epochs.extend(newer.map(|known| Named { epoch: known.epoch, end: known.last }));
        // The last is the one that sends, also where another came between.
        let running = file.last().map(|running| running.epoch);
        if let Some(place) = next.epochs.iter().position(|named| Some(named.epoch) == running) {
            let running = next.epochs.remove(place);
            next.epochs.push(running);
        }
        next.trim();
        next
    }

    /// The epoch of the run that wrote it.
    pub fn sender(&self) -> Option<Epoch> {
        self.epochs.last().map(|named| named.epoch)
    }

    /// Whether another file has sent under this gateway's id.
    pub fn names_others(&self, file: &[FileEpoch]) -> bool {
        let is_known = |named: &Named| file.iter().any(|known| known.epoch == named.epoch);
        !self.epochs.iter().all(is_known)
    }

    /// Whether it was written by the gateway that has this file open, for this
    /// cluster; else it covers nothing.
    pub fn is_of(&self, file: &[FileEpoch], cluster: &str) -> bool {
        let gateway = file.last().map(|running| &*running.gateway).unwrap_or_default();
        self.gateway == name(gateway) && self.cluster == name(cluster)
    }

    /// Where it stands behind `seen`, which Kafka had confirmed to this file:
    /// for each such flow the epoch, what it has of it, and what was confirmed.
    /// Kafka has then lost what it had (it was restored from a backup, or its
    /// replicas were too few), and what was deleted here cannot be sent again.
    pub fn behind(&self, seen: &Self, file: &[FileEpoch]) -> Vec<(flow::Hash, Epoch, u64, u64)> {
        let place = |epoch: Epoch| file.iter().position(|known| known.epoch == epoch);
        let behind = seen.flows.iter().filter_map(|(flow, (epoch, number))| {
            let confirmed = place(*epoch)?;
            // An entry goes for want of room only when there are many newer
            // epochs. One that the file does not know is another file's, and
            // says nothing.
            let (other, has) = self.flows.get(flow).copied().or(Some((self.sender()?, 0)))?;
            let stands = place(other)?;
            let has = if stands == confirmed { has } else { 0 };
            let less = (stands, has) < (confirmed, *number);
            less.then_some((*flow, *epoch, has, *number))
        });
        behind.collect()
    }

    /// The flow has been sent up to this batch.
    pub fn advance(&mut self, flow: flow::Hash, epoch: Epoch, number: u64) {
        if !self.epochs.iter().any(|named| named.epoch == epoch) {
            // An epoch too old for the list, with a backlog of its own.
            self.epochs.insert(0, Named { epoch, end: Some(0) });
        }
        self.flows.insert(flow, (epoch, number));
    }

    /// What of `flow` it covers in a file with these epochs: ranges of batch
    /// ids, both ends included. What is in none of them must be sent.
    pub fn covered(&self, flow: flow::Hash, file: &[FileEpoch]) -> Vec<(BatchId, BatchId)> {
        let Some((epoch, number)) = self.flows.get(&flow) else { return Vec::new() };
        if let Some(known) = file.iter().find(|known| known.epoch == *epoch) {
            return vec![(BatchId(0), BatchId::new(known.ordinal, *number))];
        }
        self.epochs
            .iter()
            .take_while(|named| named.epoch != *epoch)
            .filter_map(|named| {
                let known = file.iter().find(|known| known.epoch == named.epoch)?;
                let end = named.end.filter(|end| *end > 0)?;
                Some((BatchId::new(known.ordinal, 1), BatchId::new(known.ordinal, end)))
            })
            .collect()
    }

    /// The text, at most 4,096 bytes.
    pub fn encode(&self) -> String {
        let mut short = self.clone();
        short.trim();
        let epochs: Vec<String> = short.epochs.iter().map(Named::to_string).collect();
        let place = |epoch: Epoch| short.epochs.iter().position(|named| named.epoch == epoch);
        let flows: Vec<String> = short
            .flows
            .iter()
            .filter_map(|(flow, (epoch, number))| {
                // `trim` leaves no flow without its epoch.
                let place = Base36(place(*epoch)? as u64);
                Some(format!("{}{place}{}", Base64(flow.0), Base36(*number)))
            })
            .collect();
        let (gateway, cluster) = (name(&short.gateway), name(&short.cluster));
        format!("1;{gateway};{cluster};{};{}", epochs.join(","), flows.join(","))
    }

    /// Reads the text; any text gives `Ok` or `Err`.
    pub fn parse(text: &str) -> Result<Self, BadPosition> {
        if !text.is_ascii() {
            return Err(BadPosition("it is not ASCII"));
        }
        let mut parts = text.split(';');
        let mut part = || parts.next().ok_or(BadPosition("a part is missing"));
        if part()? != "1" {
            return Err(BadPosition("it has another version"));
        }
        let (gateway, cluster) = (part()?.to_owned(), part()?.to_owned());
        let (epochs, flows) = (part()?, part()?);
        if parts.next().is_some() {
            return Err(BadPosition("there is something behind it"));
        }
        let mut position = Self { gateway, cluster, ..Self::default() };
        for text in epochs.split(',').filter(|text| !text.is_empty()) {
            let (epoch, end) =
                text.split_once('.').map_or((text, None), |(epoch, end)| (epoch, Some(end)));
            let epoch = Epoch(hexadecimal(epoch).ok_or(BadPosition("a wrong epoch"))?);
            let end = end.map(|end| base36(end).ok_or(BadPosition("a wrong end")));
            position.epochs.push(Named { epoch, end: end.transpose()? });
        }
        for text in flows.split(',').filter(|text| !text.is_empty()) {
            let entry = entry(text, &position.epochs).ok_or(BadPosition("a wrong flow"))?;
            position.flows.insert(entry.0, (entry.1, entry.2));
        }
        Ok(position)
    }

    /// Leaves what fits, dropping the oldest first. A dropped entry covers
    /// nothing any more: events may go twice, none is lost.
    fn trim(&mut self) {
        let used = |epoch: Epoch, flows: &BTreeMap<flow::Hash, (Epoch, u64)>| {
            flows.values().any(|(used, _)| *used == epoch)
        };
        let spare = self.epochs.len().saturating_sub(NAMED);
        let mut place = 0;
        self.epochs.retain(|named| {
            place += 1;
            place > spare || used(named.epoch, &self.flows)
        });
        // An epoch that is only named goes before one that a flow stands in.
        // The last one is the running one.
        let mut beyond = self.epochs.len().saturating_sub(MOST_EPOCHS);
        let mut left = self.epochs.len();
        self.epochs.retain(|named| {
            left -= 1;
            let goes = beyond > 0 && left > 0 && !used(named.epoch, &self.flows);
            beyond -= usize::from(goes);
            !goes
        });
        self.epochs.drain(..beyond);
        let places: BTreeMap<u64, usize> =
            self.epochs.iter().enumerate().map(|(place, named)| (named.epoch.0, place)).collect();
        self.flows.retain(|_, (epoch, _)| places.contains_key(&epoch.0));
        while self.flows.len() > MOST_FLOWS {
            let oldest = self.flows.iter().min_by_key(|(_, (epoch, _))| places.get(&epoch.0));
            let Some((&oldest, _)) = oldest else { break };
            self.flows.remove(&oldest);
        }
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.end {
            None => write!(f, "{}", self.epoch),
            Some(end) => write!(f, "{}.{}", self.epoch, Base36(end)),
        }
    }
}

/// A name as the text can hold it.
fn name(raw: &str) -> String {
    let plain = |c: char| if c.is_ascii_graphic() && c != ';' { c } else { '_' };
    raw.chars().map(plain).take(MOST_NAME).collect()
}

fn entry(text: &str, epochs: &[Named]) -> Option<(flow::Hash, Epoch, u64)> {
    let (flow, rest) = text.split_at_checked(6)?;
    let (place, number) = rest.split_at_checked(1)?;
    let place = usize::try_from(base36(place)?).ok()?;
    Some((flow::Hash(base64(flow)?), epochs.get(place)?.epoch, base36(number)?))
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Six digits of base64url, the most significant first.
struct Base64(u32);

impl std::fmt::Display for Base64 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for shift in [30, 24, 18, 12, 6, 0] {
            let digit = (u64::from(self.0) >> shift) & 63;
            let digit = DIGITS.get(usize::try_from(digit).unwrap_or_default());
            f.write_char(char::from(*digit.expect("six bits are below 64")))?;
        }
        Ok(())
    }
}

struct Base36(u64);

impl std::fmt::Display for Base36 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rest = self.0;
        let mut digits = Vec::with_capacity(8);
        loop {
            let digit = u32::try_from(rest % 36).expect("it is below 36");
            digits.push(char::from_digit(digit, 36).expect("it is below 36"));
            rest /= 36;
            if rest == 0 {
                break;
            }
        }
        f.write_str(&digits.iter().rev().collect::<String>())
    }
}

fn base64(text: &str) -> Option<u32> {
    let value = text.bytes().try_fold(0_u64, |value, digit| {
        let digit = DIGITS.iter().position(|known| *known == digit)?;
        Some(value << 6 | digit as u64)
    })?;
    u32::try_from(value).ok()
}

fn base36(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase());
    u64::from_str_radix(text, 36).ok().filter(|number| plain && *number < MOST_NUMBER)
}

fn hexadecimal(text: &str) -> Option<u64> {
    let plain = text.len() == 16 && text.bytes().all(|c| c.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(text, 16).ok())?
}
