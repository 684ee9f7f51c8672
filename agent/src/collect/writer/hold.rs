//! `write = "when_needed"`: a group that may stays in memory, and what becomes of
//! it when Kafka has it (SAFETY 22).
//!
//! A group is held whole or written whole, and whatever writes rows writes all that
//! is held before them: so numbers have no holes in the file, and no row stands
//! there behind one that is only in memory.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Writer;
use crate::buffer::{self, Batch, BatchId, Changes, Held, MOST_HELD, Position, Row, Write, locked};
use crate::collect::Checkpoint;
#[cfg(test)]
use crate::collect::standby::Standby;
use crate::collect::standby::Waiting;
use crate::event::Timestamp;

impl Writer {
    /// When what is in memory must be written.
    pub(super) fn held_due(&self) -> Option<Instant> {
        self.standby.oldest().map(|closed| closed + self.interval)
    }

    /// The agent stops, or takes another configuration over.
    fn ends(&self) -> bool {
        self.settling || self.closing || self.change.is_some()
    }

    fn is_over(&self, due: Option<Instant>) -> bool {
        due.is_some_and(|due| due <= self.time.now())
    }

    /// Whether the next commit is for what is gathered too. Where it may be held, it
    /// is not written because somebody else needs a commit.
    pub(super) fn takes_group(&self) -> bool {
        self.write == Write::Always
            || self.more
            || self.write_now
            || self.in_doubt
            || self.ends()
            || self.is_over(self.due)
    }

    /// Whether the next commit, with or without what is gathered, takes along what is
    /// in memory: no row and no dead letter is written before it. `alone`: it only
    /// makes room.
    pub(super) fn takes_held(&self, group: bool, alone: bool) -> bool {
        use buffer::Call::{Bury, Errand, Write};
        let asked = matches!(self.call, Some(Bury { .. } | Write { .. } | Errand { .. }));
        let over = self.is_over(self.held_due()) || self.write_now || self.ends();
        asked || over && !alone || group && !self.group.is_empty()
    }

    /// Holds the group where it may be, instead of writing it.
    pub(super) fn hold(&mut self) {
        if self.write == Write::Always || !self.more && !self.is_over(self.due) {
            return;
        }
        let Some(empties) = self.may_hold() else { return };
        let idle = self.group.idle.iter();
        let entering: BTreeMap<u16, Checkpoint> = idle
            .filter(|(source, idle)| !self.standby.knows(**source, idle))
            .map(|(source, idle)| (*source, idle.clone()))
            .collect();
        if (empties || !entering.is_empty()) && !self.enter(entering) {
            return;
        }
        let group = std::mem::take(&mut self.group);
        self.due = None;
        for (flow, events) in group.batches() {
            let flow = self.flows.get(flow);
            let mut raw = Vec::new();
            events.finish(&mut raw);
            let row = self.file.take_number(events.count(), |running, id, first_seq| Row {
                batch: Batch {
                    id,
                    gateway: running.gateway.clone(),
                    epoch: running.epoch,
                    written: running.epoch,
                    number: id.number(),
                    flow: flow.hash,
                    first_seq,
                    count: events.count(),
                    buried: Vec::new(),
                    events: raw,
                },
                lane: flow.lane,
                stream: flow.stream.clone(),
                oldest: events.oldest().unwrap_or(Timestamp(0)),
            });
            locked(&self.shared.held).push(row);
        }
        let (last, now) = (self.file.newest(), self.time.now());
        // Its room before the writer is free: here it has a bound of its own.
        for (source, part) in &group.parts {
            if let Some(known) = self.sources.get(usize::from(*source)) {
                known.room.deliveries.add_permits(part.deliveries);
                known.room.bytes.add_permits(part.permits);
            }
        }
        self.standby.add(group, last, now);
        self.measure();
        self.shared.stored(last);
        // One without rows may be done already.
        self.answer_held();
    }

    /// Whether the group may be held; within: whether batches that Kafka has must
    /// leave the file before.
    fn may_hold(&self) -> Option<bool> {
        let failing = self.retry.is_some_and(|retry| retry > self.time.now());
        // While writing fails, Kafka may take what cannot be written.
        let over = self.is_over(self.held_due()) && !failing;
        let written = self.group.must_write || self.group.has_refused();
        let asked = self.write_now || self.ends() || self.call.is_some();
        if self.group.is_empty() || written || over || asked || self.in_doubt || self.damaged {
            return None;
        }
        let bytes: usize = self.group.batches().map(|(_, events)| Held::size(events.len())).sum();
        if locked(&self.shared.held).bytes() + bytes > MOST_HELD {
            return None;
        }
        let forget = self.forget.as_ref().map(|(position, _)| position);
        let mut empties = false;
        for (flow, _) in self.group.batches() {
            let hash = self.flows.get(flow).hash;
            // What cannot be known is no reason to hold; why, the commit will say.
            let Some(newest) = self.file.newest_of(hash).ok()? else { continue };
            let covered = forget?.covered(hash, self.file.epochs());
            let all = |(first, last): &(_, _)| *first == BatchId(0) && newest <= *last;
            if !covered.iter().any(all) {
                return None;
            }
            empties = true;
        }
        Some(empties)
    }

    /// Has the file recognise nothing of what these sources deliver again: held
    /// messages are in no checkpoint, and an old entry must not be taken for one of
    /// them. What Kafka has leaves the file with it. A power cut behind it has what
    /// was not answered yet taken twice.
    fn enter(&mut self, idle: BTreeMap<u16, Checkpoint>) -> bool {
        if self.damaged || self.retry.is_some_and(|retry| retry > self.time.now()) {
            return false;
        }
        let mut changes = Changes::default();
        let name = |source: u16| Some(&*self.sources.get(usize::from(source))?.name);
        let saved = idle.iter().filter_map(|(source, state)| Some((name(*source)?, state)));
        changes.saved = saved.collect();
        let known = self.remember.iter().chain(&self.forget);
        changes.positions = known.map(|(position, cluster)| (position, &**cluster)).collect();
        if let Err(cause) = self.file.commit(&changes, self.clock.now()) {
            self.failed(&cause, true, false);
            return false;
        }
        self.standby.learn(idle);
        (self.remember, self.remember_due) = (None, None);
        (self.forget, self.forget_due) = (None, None);
        self.memory_is_written();
        true
    }

    pub(super) fn memory_is_written(&self) {
        locked(&self.shared.memory).clone_from(self.file.memory());
    }

    /// Kafka has all that this position covers: what is in memory goes at once, and
    /// its sources are answered. True where the file has something to do for it.
    pub(super) fn pass(&mut self, position: &Position, cluster: &str) -> bool {
        if self.write == Write::Always && self.standby.is_empty() {
            return true;
        }
        if !position.is_of(self.file.epochs(), cluster) {
            return true;
        }
        {
            let mut held = locked(&self.shared.held);
            let events = held.forget(position, self.file.epochs());
            if events > 0 {
                self.file.passed(events, held.first());
            }
        }
        self.file.end_gaps(position);
        let news = self.file.is_news(position, cluster).unwrap_or(true);
        if !news {
            // A flash at rest is not woken for it. Who asks in this process is told, and
            // the file with the next commit.
            let (cluster, position) = (Some(cluster.to_owned()), Some(position.clone()));
            *locked(&self.shared.memory) = buffer::Memory { cluster, position };
        }
        self.answer_held();
        news
    }

    /// Answers what is done. The figures say so before: who gets an answer sees them.
    fn answer_held(&mut self) {
        let mut done = Vec::new();
        {
            let held = locked(&self.shared.held);
            while let Some(group) = self.standby.next_done(held.first()) {
                done.push(group);
            }
        }
        for group in &done {
            self.count_waited(&group.since);
        }
        self.tell_held();
        for group in &done {
            self.acknowledge(group);
        }
    }

    /// This group is in the file or in Kafka.
    pub(super) fn acknowledge(&self, group: &Waiting) {
        for (source, part) in &group.parts {
            if let Some(known) = self.sources.get(usize::from(*source)) {
                known.committed.send_replace(part.ticket);
            }
        }
    }

    fn tell_held(&self) {
        let in_memory = locked(&self.shared.held).count();
        let committed = self.file.totals().committed;
        let unsettled = self.is_unsettled();
        self.shared.stats.send_modify(|stats| {
            stats.in_memory = in_memory;
            stats.committed = committed;
            stats.waited = self.waited;
            stats.unsettled = unsettled;
        });
    }

    /// Something that was handed in is neither in the file nor in Kafka.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.group.is_empty() || !self.waiting.is_empty() || !self.standby.is_empty()
    }
}

#[cfg(test)]
impl Writer {
    pub(in crate::collect) fn acknowledge_held(&self) {
        for (source, part) in self.standby.groups().flat_map(|group| &group.parts) {
            if let Some(known) = self.sources.get(usize::from(*source)) {
                known.committed.send_replace(part.ticket);
            }
        }
    }

    pub(in crate::collect) fn is_held_over(&self) -> bool {
        self.is_over(self.held_due())
    }

    pub(in crate::collect) fn hide_held(&mut self) -> (Held, Standby) {
        (std::mem::take(&mut *locked(&self.shared.held)), std::mem::take(&mut self.standby))
    }

    pub(in crate::collect) fn show_held(&mut self, (before, standby): (Held, Standby)) {
        locked(&self.shared.held).put_before(before);
        self.standby.put_before(standby);
    }
}
