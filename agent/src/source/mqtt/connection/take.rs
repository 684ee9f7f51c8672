//! Bytes that were read → events, dead letters, and what the session notes.

use bytes::Bytes;
use tokio::time::Instant;
use tracing::{debug, warn};
use twox_hash::XxHash3_64;

use super::super::config::Protocol;
use super::super::frame::{Cut, Frame};
use super::super::packet::{self, Packet, Publish};
use super::super::raw::Seen;
use super::super::route::{Odd, Refused, Taken};
use super::super::session::Verdict;
use super::{Connection, End};
use crate::collect::{DEAD_LETTER_BYTES, DeadLetter};
use crate::event::{Event, Timestamp};
use crate::raw::Of;
use crate::source::Error;
use crate::supervise::Link;

/// Characters of a topic, and of a reason, that are told: both can be as long as
/// what a stranger sends.
const TOLD: usize = 500;

/// Subject of the faults of topics that no subscription wants, and of what is no
/// topic: one for all, since a stranger makes them.
const OTHER_TOPICS: &str = "other topics";

/// Messages without a fault after which a subscription is well again: one that
/// brings good and bad ones in turn must not fill the log.
const WELL_AFTER: u32 = 100;

impl Connection<'_> {
    pub(super) fn take_packets(&mut self, mut link: Option<&mut Link>) -> Result<(), End> {
        let now = self.mqtt.clock.now();
        let broken = |address: &str, what: String| {
            Error::new(format!("{address} broke the protocol: {what}"))
        };
        while self.room() {
            let frame = self
                .frames
                .next()
                .map_err(|error| broken(&self.mqtt.config.address, error.to_string()))?;
            let seen;
            let packet = match frame {
                None => return Ok(()),
                Some(Frame::Cut(cut)) => {
                    self.take_cut(&cut, link.as_deref_mut())?;
                    continue;
                }
                Some(Frame::Whole(frame)) => {
                    seen = self.mqtt.tapped.then(|| Seen::of(&frame, self.mqtt.config.protocol));
                    packet::read(self.mqtt.config.protocol, frame)
                        .map_err(|error| broken(&self.mqtt.config.address, error))?
                }
            };
            match packet {
                Packet::Publish(publish) => {
                    self.take(&publish, now, link.as_deref_mut(), seen);
                }
                Packet::Release(id) => self.mqtt.session.release(id),
                Packet::Subscribed(granted) => self.granted = granted,
                Packet::Pong => self.mqtt.session.pong(),
                Packet::Closed(why) => {
                    let address = &self.mqtt.config.address;
                    let what = format!("{address} ended the connection: {why}");
                    return Err(Error::new(what).into());
                }
                Packet::Connected(_) => {
                    return Err(broken(&self.mqtt.config.address, "a second CONNACK".into()).into());
                }
                Packet::Other => {}
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        publish: &Publish,
        now: Timestamp,
        link: Option<&mut Link>,
        seen: Option<Seen>,
    ) {
        let Publish { qos, id, dup, topic, payload, .. } = publish;
        let hash = XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(topic), payload);
        if !self.wanted(*qos, *id, *dup, hash) {
            return;
        }
        if self.mqtt.host.is_some() {
            return self.take_hosted(publish, now, link, seen);
        }
        let first = self.batch.events.len();
        match self.mqtt.routes.decode(publish, now, &mut self.batch.events) {
            Ok(Taken { subscription, odd }) => {
                let news = self.batch.events.iter().skip(first);
                self.batch.bytes += news.map(Event::memory).sum::<usize>();
                if self.batch.events.len() > first {
                    self.batch.note(Of::Event(first), seen.clone(), publish);
                }
                match odd {
                    None => self.went_well(subscription, link),
                    Some(odd) => self.take_odd(subscription, &odd, publish, seen.as_ref(), link),
                }
            }
            Err(Refused::Unwanted) => {
                debug!(source = %self.mqtt.config.name, topic = %String::from_utf8_lossy(topic), "message of no subscription");
            }
            Err(Refused::Dead(index, reason)) => {
                self.batch.note(Of::Dead(self.batch.dead.len()), seen, publish);
                self.bury(index, &reason, topic, payload, payload.len(), link);
            }
        }
    }

    /// Takes the pieces of a message that are no events, beside others that are: in as many
    /// dead letters as it takes to have all of them.
    fn take_odd(
        &mut self,
        subscription: usize,
        odd: &Odd,
        publish: &Publish,
        seen: Option<&Seen>,
        mut link: Option<&mut Link>,
    ) {
        for lines in at_line_ends(&odd.lines, DEAD_LETTER_BYTES) {
            let payload = Bytes::copy_from_slice(lines.as_bytes());
            let pieces = Publish { payload, ..publish.clone() };
            self.batch.note(Of::Dead(self.batch.dead.len()), seen.cloned(), &pieces);
            let Publish { topic, payload, .. } = &pieces;
            let link = link.as_deref_mut();
            self.bury(Some(subscription), &odd.reason, topic, payload, payload.len(), link);
        }
    }

    /// Whether a message is to be taken.
    fn wanted(&mut self, qos: u8, id: u16, dup: bool, hash: u64) -> bool {
        match self.mqtt.session.publish(qos, id, dup, low(hash)) {
            Verdict::Take => true,
            Verdict::Again => {
                if !std::mem::replace(&mut self.told_again, true) {
                    warn!(
                        source = %self.mqtt.config.name,
                        packet_id = id,
                        "broker delivers again what may be new under a reused packet id: taken, \
                         perhaps twice"
                    );
                }
                true
            }
            Verdict::Known => false,
        }
    }

    /// A message whose payload was too large to take.
    fn take_cut(&mut self, cut: &Cut, link: Option<&mut Link>) -> Result<(), End> {
        let properties = self.mqtt.config.protocol == Protocol::V5;
        let Some(publish) = cut.parse(properties) else {
            let what = format!("{} broke the protocol: a PUBLISH", self.mqtt.config.address);
            return Err(Error::new(what).into());
        };
        if self.wanted(publish.qos, publish.id, publish.dup, cut.hash) {
            let reason =
                format!("payload is larger than max_payload ({})", self.mqtt.config.max_payload);
            if let Some(host) = &mut self.mqtt.host {
                host.cut(publish.topic, publish.retain, Instant::now());
            }
            let subscription = self.mqtt.routes.subscription(publish.topic);
            self.bury(subscription, &reason, publish.topic, publish.payload, cut.length, link);
            if let Some(dead) = self.batch.dead.last_mut() {
                dead.reason = format!("{}; hash of the whole: {:016x}", dead.reason, cut.hash);
            }
        }
        Ok(())
    }

    pub(in crate::source::mqtt) fn bury(
        &mut self,
        subscription: Option<usize>,
        reason: &str,
        topic: &[u8],
        payload: &[u8],
        length: usize,
        link: Option<&mut Link>,
    ) {
        let topic = String::from_utf8_lossy(topic);
        let index = subscription.unwrap_or(self.mqtt.filters.len());
        if let (Some(good), Some(link)) = (self.mqtt.good.get_mut(index), link)
            && good.replace(0).is_none()
        {
            let subject = subscription.map_or(OTHER_TOPICS, |i| self.mqtt.routes.filter(i));
            let told = format!("message on {topic:.TOLD$} became a dead letter: {reason:.TOLD$}");
            link.fault(subject, &told);
        }
        let reason: String = reason.chars().take(TOLD).collect();
        let (kept, _) = payload.split_at(payload.len().min(DEAD_LETTER_BYTES));
        let dead = DeadLetter {
            reason,
            origin: format!("{} {topic:.TOLD$}", self.mqtt.config.name),
            payload: kept.to_vec(),
            length: u64::try_from(length).unwrap_or(u64::MAX),
        };
        self.batch.bytes += dead.memory();
        self.batch.dead.push(dead);
    }

    fn went_well(&mut self, subscription: usize, link: Option<&mut Link>) {
        let Some(state) = self.mqtt.good.get_mut(subscription) else { return };
        let Some(count) = state else { return };
        *count += 1;
        if *count >= WELL_AFTER
            && let Some(link) = link
        {
            *state = None;
            link.well(self.mqtt.routes.filter(subscription));
        }
    }
}

/// Whole lines, as many as fit into so many bytes each time. A line that is longer stands
/// alone.
fn at_line_ends(mut lines: &str, most: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    while !lines.is_empty() {
        let fits = lines.as_bytes().iter().take(most).rposition(|byte| *byte == b'\n');
        let end = fits.or_else(|| lines.find('\n')).map_or(lines.len(), |at| at + 1);
        let (part, rest) = lines.split_at(if lines.len() <= most { lines.len() } else { end });
        parts.push(part);
        lines = rest;
    }
    parts
}

/// The half of a hash that the session keeps.
#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
const fn low(hash: u64) -> u32 {
    hash as u32
}

#[cfg(test)]
mod tests {
    use super::at_line_ends;

    #[test]
    fn lines_are_cut_at_their_ends_and_none_is_left_out() {
        for (lines, expected) in [
            ("", &[][..]),
            ("ab\n", &["ab\n"]),
            ("ab\ncd\n", &["ab\n", "cd\n"]),
            ("a\nb\ncdefgh\ni\n", &["a\nb\n", "cdefgh\n", "i\n"]),
            ("a\nbcdefg", &["a\n", "bcdefg"]),
        ] {
            assert_eq!(at_line_ends(lines, 5), expected, "{lines:?}");
        }
    }
}
