//! A fence: who has sent in our place (SAFETY, Positions 5)?
//!
//! The broker says the same to a producer whose own transaction stood open for
//! too long and to one whose place another took. The position tells them apart:
//! the newest epoch in it is that of the run which committed last, and every
//! run commits one right after its start. One that this file does not know is a
//! *twin*: a second agent under this gateway's id, on a cloned card or by a
//! copied configuration. The one that started later goes on, since `init_transactions`
//! would only fence it and be fenced in turn; this one collects, and looks on.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::{Forward, Kept, Line, Outcome, Trouble, gone, no_link};
use crate::buffer::Epoch;

/// After a fence: a run that has just taken our place has by then said so in
/// the position, also on a slow line.
const ANNOUNCED: Duration = Duration::from_secs(5);

/// A twin whose position has stood for so long is gone. One that sends nothing
/// renews its position each [`RENEW_BESIDE_TWIN`]; this is three of them missed.
const TAKE_OVER: Duration = Duration::from_mins(15);

/// How often a run renews the position when it knows of another file that has
/// sent under its gateway's id.
const RENEW_BESIDE_TWIN: Duration = Duration::from_mins(5);

/// What is known of who sends in our place.
#[derive(Debug, Default)]
pub(super) struct Twin {
    fenced: Option<Instant>,
    /// What its position was, and since when it stands.
    stands: Option<(Kept, Instant)>,
    told: Option<Epoch>,
    /// Since when there is no position, where there was one.
    lost: Option<Instant>,
}

impl Twin {
    pub(super) fn fenced(&mut self, now: Instant) {
        self.fenced = Some(now);
        self.stands = None;
    }

    /// It cannot be read: by a transaction of the twin's that stands open, or
    /// because we are cut off and know nothing. Neither says that it is gone.
    fn unread(&mut self) {
        self.stands = None;
    }

    /// Whether the twin's position has stood long enough.
    fn is_gone(&mut self, kept: Kept, now: Instant) -> bool {
        match &self.stands {
            Some((known, since)) if *known == kept => {
                now.saturating_duration_since(*since) >= TAKE_OVER
            }
            _ => {
                self.stands = Some((kept, now));
                false
            }
        }
    }
}

impl<L: Line> Forward<L> {
    /// Looks who sends, without fencing anybody. Done: this run may.
    pub(super) fn look_who_sends(&mut self) -> Result<Outcome, Trouble> {
        if let Some(fenced) = self.twin.fenced.take() {
            let waited = self.pace.since(fenced);
            self.rest(ANNOUNCED.saturating_sub(waited));
        }
        if self.twin.told.is_some() && self.stopping().is_some() {
            // Whatever is stored is sent by a later run.
            self.drained = true;
            return Ok(Outcome::Aside);
        }
        if self.link.is_none() {
            self.link = Some((self.open)(&self.config, &self.gateway, &self.clock)?);
        }
        let link = self.link.as_mut().ok_or_else(no_link)?;
        link.poll();
        let kept = link.read_position(&self.config, &self.gateway);
        let kept = kept.inspect_err(|_| self.twin.unread())?;
        if kept.is_none() && self.may_be_looked_for() {
            return Ok(Outcome::Aside);
        }
        self.twin.lost = None;
        let Some(kept) = kept.filter(|k| k.position.is_of(self.store.epochs(), &self.cluster))
        else {
            return Ok(Outcome::Done);
        };
        // An earlier run of this file is over: it is no twin that the fenced one, who had
        // no time yet to say that it sends, would have to wait for.
        let is_ours = |sender: &Epoch| self.store.epochs().iter().any(|run| run.epoch == *sender);
        let Some(sender) = kept.position.sender().filter(|sender| !is_ours(sender)) else {
            return Ok(Outcome::Done);
        };
        if self.twin.told != Some(sender) {
            self.twin.told = Some(sender);
            warn!(epoch = %sender, gateway = %self.gateway, take_over_after = ?TAKE_OVER,
                "another agent runs under this gateway's id and delivers in its place: events are kept here, forwarding stands aside until that one stops");
            self.voice.aside(format!(
                "another agent runs under the id {} (epoch {sender}) and delivers in its place",
                self.gateway
            ));
            self.tell_of_doubt(&kept);
            // What Kafka has of ours goes now: the twin's next positions no
            // longer say it.
            self.store.adopt(&kept.position, &self.cluster).map_err(|_| gone())?;
        }
        if !self.twin.is_gone(kept, self.pace.now()) {
            return Ok(Outcome::Aside);
        }
        info!(epoch = %sender, stood_for = ?TAKE_OVER, "the other agent's position stands still, taking over");
        self.twin = Twin::default();
        Ok(Outcome::Done)
    }

    /// Whether the position is gone, and whoever fenced this run may just be looking
    /// for what is in Kafka: it commits none before it is done.
    fn may_be_looked_for(&mut self) -> bool {
        let memory = self.store.memory();
        if memory.position.is_none() || memory.cluster.as_ref() != Some(&self.cluster) {
            return false;
        }
        if self.twin.lost.is_none() {
            warn!(gateway = %self.gateway, take_over_after = ?TAKE_OVER,
                "the position in Kafka is lost, and another agent under this gateway's id may be looking for what is there: forwarding stands aside until one is there again");
            self.voice.aside(format!(
                "the position in Kafka is lost, and another agent under the id {} may be looking for what is there",
                self.gateway
            ));
        }
        let since = *self.twin.lost.get_or_insert(self.pace.now());
        self.pace.since(since) < TAKE_OVER
    }

    /// The twin came between a commit and its answer, and its position may no
    /// longer say how the commit ended: what it carried is sent again later.
    fn tell_of_doubt(&self, kept: &Kept) {
        let known = |(flow, _, epoch, number): &(_, _, Epoch, u64)| {
            kept.position.flows.get(flow) == Some(&(*epoch, *number))
        };
        if self.pending.is_none() || self.transaction.ends().iter().all(known) {
            return;
        }
        if let Some((first, last)) = self.transaction.range() {
            warn!(
                first,
                last,
                records = self.transaction.events(),
                "may reach Kafka twice under the same id: nobody was told how their commit ended"
            );
        }
    }

    /// Whether this run must first say in the position that it is the one that
    /// sends. In a transaction of its own: the first load may be refused, sifted
    /// and sent for longer than a fenced run waits.
    pub(super) fn must_announce(&self) -> bool {
        self.unannounced && self.link.as_ref().is_some_and(Line::is_transactional)
    }

    /// Whether the position must be committed anew though nothing is sent: it
    /// keeps brokers from forgetting (SAFETY 3) and a twin from taking over.
    pub(super) fn must_renew(&self) -> bool {
        let after = if self.beside_twin { RENEW_BESIDE_TWIN } else { super::RENEW };
        self.link.as_ref().is_some_and(Line::is_transactional)
            && self.pace.since(self.last_commit) >= after
    }
}
