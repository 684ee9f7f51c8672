//! The position is lost: what of the stored batches is in Kafka already (SAFETY,
//! Positions 3)?
//!
//! Topic after topic is read, slice by slice, so that a stop is never held up; then
//! what waits for it is judged, and what was seen is deleted. Nothing is sent
//! before: this run's producer has fenced the one before, so that what is not there
//! now never comes from it.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::{Class, Forward, Line, Outcome, Trouble, gone, linked, no_link, unreadable};
use crate::buffer::Position;
use crate::forward::line::Tail;
use crate::forward::tails::{Look, Verdict, closed};

/// Pause after a topic has given an error though Kafka answers.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Why a topic that was read to its end was not read whole.
const SHORT: &str = "only its end was looked at, or its beginning is deleted";

/// Batches that are judged, and deleted, at a time.
const PORTION: u32 = 1_000;

impl<L: Line> Forward<L> {
    /// Kafka has no position where this file remembers one. Lost: it must be looked
    /// for what is in Kafka already.
    pub(super) fn lost(&mut self, remembered: &Position) -> Result<Outcome, Trouble> {
        warn!(topic = %self.config.positions_topic, group = %format!("tidegate-{}", self.gateway),
            position = %remembered.encode(),
            "the position in Kafka is lost: what is stored here is looked for at the ends of its topics, and sent where it is not there");
        // It is looked for in the file, and from here on.
        self.store.write_held().map_err(|_| gone())?;
        let reader = self.reader()?;
        let flows = reader.flows().map_err(|e| unreadable(&e))?;
        let mut waiting = Vec::new();
        for (hash, _, stream) in flows {
            if let Some(oldest) = reader.oldest(hash).map_err(|e| unreadable(&e))? {
                waiting.push((hash, stream, oldest));
            }
        }
        if waiting.is_empty() {
            return Ok(Outcome::Done);
        }
        let until = self.store.newest();
        self.look = Some(Look::new(waiting, until, self.clock.now()));
        Ok(Outcome::Lost)
    }

    /// Goes on with the look. Done: everything is judged.
    pub(super) fn look_at_tails(&mut self) -> Result<Outcome, Trouble> {
        let Some(mut look) = self.look.take() else { return Ok(Outcome::Done) };
        let went_on = self.go_on(&mut look);
        match went_on {
            Ok(Outcome::Done) => tell(&look),
            _ => self.look = Some(look),
        }
        went_on
    }

    fn go_on(&mut self, look: &mut Look) -> Result<Outcome, Trouble> {
        let Some(target) = look.targets.front() else { return Ok(Outcome::Done) };
        if target.verdict.is_none() {
            let topic = target.topic.clone();
            let verdict = match look.spent() {
                Some(reason) => Some(Verdict::Partly(reason)),
                None => self.read_tail(look, &topic)?,
            };
            if let Some(verdict) = verdict {
                self.leave(look, &topic, verdict);
            }
        } else {
            self.judge(look)?;
        }
        Ok(Outcome::More)
    }

    /// Reads on in a topic for a moment; gives what is known of it once that is over.
    fn read_tail(&mut self, look: &mut Look, topic: &str) -> Result<Option<Verdict>, Trouble> {
        let began = self.pace.now();
        let wanted = look.wanted(topic);
        let link = self.link.as_mut().ok_or_else(no_link)?;
        link.poll();
        let mut note = |id: Option<&str>, bytes: usize| look.note(id, bytes);
        let read = link.read_tail(&self.config, &self.gateway, &wanted, &mut note);
        if look.is_due_to_tell() {
            info!(topic, records = look.records, "still looking for what is in Kafka already");
        }
        match read {
            Ok(Tail::Reading { news }) => self.patience(look, began, news),
            Ok(Tail::Ended { whole }) => {
                look.passed(self.pace.since(began), true);
                Ok(Some(if whole { Verdict::Whole } else { Verdict::Partly(SHORT) }))
            }
            Ok(Tail::Closed(presence)) => Ok(Some(Verdict::Partly(closed(presence)))),
            Err(trouble) if trouble.class > Class::Repeat => Err(trouble),
            Err(trouble) => {
                self.answers(look)?;
                self.say(&trouble);
                // Within this step, so that it counts: else the watchdog would have
                // the look begin anew for ever.
                self.rest(ASK_AGAIN);
                self.patience(look, began, false)
            }
        }
    }

    /// Goes on with what waits for this topic.
    fn leave(&mut self, look: &mut Look, topic: &str, verdict: Verdict) {
        if let Some(link) = &mut self.link {
            link.leave_tail();
        }
        if let Verdict::Partly(reason) = verdict {
            warn!(topic, reason, "cannot see all that may be in Kafka already");
        }
        look.ended(verdict);
    }

    /// Whether a topic is read no further.
    fn patience(
        &self,
        look: &mut Look,
        began: Instant,
        news: bool,
    ) -> Result<Option<Verdict>, Trouble> {
        let reason = look.passed(self.pace.since(began), news);
        if reason.is_some() && !news {
            self.answers(look)?;
        }
        Ok(reason.map(Verdict::Partly))
    }

    /// Time counts only while Kafka answers: else it says nothing about the topic.
    fn answers(&self, look: &mut Look) -> Result<(), Trouble> {
        let link = linked(self.link.as_ref())?;
        link.presence(&self.config.positions_topic).inspect_err(|_| look.cut())?;
        Ok(())
    }

    /// Judges some of what waits for a topic that was read.
    fn judge(&mut self, look: &mut Look) -> Result<(), Trouble> {
        let until = look.until;
        let Some(target) = look.targets.front_mut() else { return Ok(()) };
        let next = target.flows.front().map(|(hash, _)| *hash);
        let Some(flow) = next.filter(|_| !target.is_clear()) else {
            look.targets.pop_front();
            return Ok(());
        };
        let waiting = self.reader()?.waiting(flow, target.after, PORTION);
        let mut waiting = waiting.map_err(|e| unreadable(&e))?;
        waiting.retain(|batch| batch.id <= until);
        let there = target.judge(&waiting);
        if waiting.is_empty() {
            if let Some((stream, doubt)) = target.next_flow() {
                look.doubtful += doubt.events;
                if let Some((first, last)) = doubt.range {
                    warn!(stream = %stream.name, topic = %stream.topic, first, last, events = doubt.events,
                        "may reach Kafka twice under the same id");
                }
            }
            return Ok(());
        }
        if !there.is_empty() {
            let deleted = self.store.delivered(there).map_err(|_| gone())?;
            look.batches += deleted.deleted_batches;
            look.events += deleted.deleted_events;
        }
        Ok(())
    }
}

fn tell(look: &Look) {
    info!(topics = ?look.topics, records = look.records, batches = look.batches, events = look.events, perhaps_twice = look.doubtful,
        "looked for what is in Kafka already: so much was found there and is deleted here, the rest is sent");
}
