//! One commit, and what becomes of those who wait for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use tracing::{debug, error, info, warn};

use super::{AGAIN, LONGEST_AGAIN, Writer};
use crate::buffer::{self, Call, Changes, Sealed, locked};
use crate::collect::group::Group;

impl Writer {
    /// Gives whether all of it is done; false too where the file is damaged: nothing is
    /// written to it then.
    pub(super) fn commit(&mut self) -> bool {
        if self.damaged {
            return false;
        }
        // On a full disk the events wait, whatever makes room does not.
        let others = self.forget.is_some() || self.call.is_some();
        let alone = self.disk_full && others;
        let events = self.takes_group() && !alone;
        if let Some(Call::Adopt { position, cluster, .. }) = &self.call {
            let (position, cluster) = (position.clone(), cluster.clone());
            self.pass(&position, &cluster);
        }
        let takes_held = self.takes_held(events, alone);
        let mut sources: Vec<u16> = Vec::new();
        if takes_held {
            sources.extend(self.standby.saved().keys());
        }
        if events {
            sources.extend(self.group.saved.keys());
        }
        // It may fail and be there all the same.
        let known = self.standby.unlearn(&sources);
        let refused = if events { self.group.refused(&self.flows) } else { Vec::new() };
        // Held over the commit only if a gap may grow by it.
        let pins = (!refused.is_empty()).then(|| locked(&self.shared.pins));
        let mut changes = Changes::default();
        let mut saved = BTreeMap::new();
        if takes_held {
            changes.held = locked(&self.shared.held).rows().cloned().collect();
            saved.extend(self.standby.saved().iter().map(|(source, saved)| (*source, saved)));
        }
        if events {
            saved.extend(self.group.saved.iter().map(|(source, saved)| (*source, saved)));
            changes.refused = refused;
            changes.told = pins.as_ref().map_or(0, |pins| pins.told);
            changes.dead = self.group.dead.iter().collect();
            changes.batches = self
                .group
                .batches()
                .map(|(flow, events)| Sealed { flow: self.flows.get(flow), events })
                .collect();
        }
        let named = saved.into_iter().filter_map(|(source, checkpoint)| {
            Some((&*self.sources.get(usize::from(source))?.name, checkpoint))
        });
        changes.saved = named.collect();
        // For its own sake only when it is due.
        let due = self.remember_due.is_some_and(|due| due <= self.time.now());
        let remember = (due || !changes.is_empty()).then_some(&self.remember).cloned().flatten();
        if let Some((position, cluster)) = &remember {
            changes.positions.push((position, cluster));
        }
        if let Some((position, cluster)) = &self.forget {
            changes.positions.push((position, cluster));
        }
        match &self.call {
            Some(Call::Adopt { position, cluster, .. }) => {
                changes.positions.push((position, cluster));
            }
            Some(Call::Delivered { batches, .. }) => changes.delivered = batches,
            Some(Call::Bury { dead, .. }) => changes.buried.extend(dead),
            // What is held goes along anyway; an errand has a commit of its own, behind
            // this one.
            Some(Call::Write { .. } | Call::Errand { .. }) | None => {}
        }
        let began = self.time.now();
        let writes = !changes.is_empty();
        let result =
            if writes { self.file.commit(&changes, self.clock.now()) } else { Ok(Vec::new()) };
        drop(pins);
        match result {
            Ok(adopted) => {
                // In the -wal it stands where one that failed would.
                self.in_doubt &= !writes;
                if remember.is_some() {
                    (self.remember, self.remember_due) = (None, None);
                }
                self.committed((events, takes_held), began, adopted);
            }
            Err(cause) => {
                if self.file.is_undone(&cause) {
                    self.standby.learn(known);
                } else {
                    self.in_doubt |= events && !self.group.is_empty();
                }
                // One that went alone is not tried alone once more: what it takes from
                // memory (a dead letter takes it all) has to stand before it.
                self.failed(&cause, !alone && (events || takes_held), others);
                return false;
            }
        }
        true
    }

    /// All of it is on the medium: acknowledge.
    fn committed(
        &mut self,
        (events, takes_held): (bool, bool),
        began: Instant,
        mut adopted: Vec<buffer::Adopted>,
    ) {
        let mut held = VecDeque::new();
        if takes_held {
            locked(&self.shared.held).clear();
            held = self.standby.written();
            self.write_now = false;
        }
        self.retry = None;
        self.disk_full = false;
        self.made_way = false;
        let mut group = Group::default();
        if events {
            std::mem::swap(&mut group, &mut self.group);
            self.due = None;
        }
        self.count(&group, began);
        for group in &held {
            self.count_waited(&group.since);
        }
        if self.group.is_empty() || !self.takes_group() {
            self.pause = AGAIN;
            let tries = std::mem::take(&mut self.tries);
            if self.failing.take().is_some() {
                info!(tries, "the buffer can be written again");
            }
            self.file.take_reserve();
        }
        // Before the acknowledgement: who gets one sees what is stored, and whether it
        // is full now.
        self.measure();
        self.shared.stored(self.file.newest());
        for group in &held {
            self.acknowledge(group);
        }
        for (source, part) in &group.parts {
            if let Some(known) = self.sources.get(usize::from(*source)) {
                known.committed.send_replace(part.ticket);
                known.room.deliveries.add_permits(part.deliveries);
                known.room.bytes.add_permits(part.permits);
            }
        }
        self.forget = None;
        self.forget_due = None;
        self.memory_is_written();
        match self.call.take() {
            Some(Call::Adopt { reply, .. } | Call::Delivered { reply, .. }) => {
                answer(&reply, adopted.pop().unwrap_or_default());
            }
            Some(Call::Bury { reply, .. } | Call::Write { reply }) => answer(&reply, ()),
            Some(Call::Errand { errand, reply }) => {
                let done = self.carry_out(&errand);
                self.shared.stored(self.file.newest());
                answer(&reply, done);
            }
            None => {}
        }
        // What waited and has room now is handed in too.
        if self.group.is_empty() {
            self.settled();
        }
    }

    /// How long it took, and what is in it had waited.
    fn count(&mut self, group: &Group, began: Instant) {
        let now = self.time.now();
        if !group.is_empty() {
            self.took.add(now.saturating_duration_since(began));
        }
        self.count_waited(&group.since);
    }

    pub(super) fn count_waited(&mut self, since: &[Instant]) {
        let now = self.time.now();
        for since in since {
            self.waited.add(now.saturating_duration_since(*since));
        }
    }

    /// After a commit that failed. `events`: it held what can be left out of the next;
    /// `others`: and what may go without that.
    pub(super) fn failed(&mut self, cause: &rusqlite::Error, events: bool, others: bool) {
        let text = self.file.explain(cause);
        if buffer::is_damage(cause) {
            self.broken(&text);
            return;
        }
        if self.failing.as_ref() != Some(&text) {
            warn!(error = %text, retry_in = ?self.pause, "cannot write the buffer, sources are held back");
        }
        self.failing = Some(text);
        self.tries = self.tries.saturating_add(1);
        self.disk_full = self.file.is_full(cause);
        // A delete changes pages before it frees any.
        let alone = others && (events || self.file.give_reserve());
        let at_once = self.disk_full && (alone || events && self.make_way());
        if at_once {
            self.retry = None;
        } else {
            self.retry = Some(self.time.now() + self.pause);
            self.pause = (self.pause * 2).min(LONGEST_AGAIN);
        }
        if self.settling {
            // The forwarder would wait for it until its grace is over.
            self.call = None;
        }
        self.settled();
        self.measure();
    }

    /// The file is damaged: nothing more is written to it. What is not
    /// acknowledged is delivered again to the next run.
    pub(super) fn broken(&mut self, cause: &str) {
        if std::mem::replace(&mut self.damaged, true) {
            return;
        }
        error!(error = cause, "the buffer is damaged, it is opened anew");
        self.file.ask_for_salvage(cause);
        locked(&self.shared.damage).get_or_insert_with(|| cause.to_owned());
        self.closing = true;
        self.call = None;
        self.settled();
    }

    pub(super) fn settled(&mut self) {
        if let Some(reply) = self.settle.take() {
            answer(&reply, !self.is_unsettled());
        }
    }
}

fn answer<T>(reply: &SyncSender<T>, what: T) {
    if reply.send(what).is_err() {
        debug!("who asked the buffer has gone away");
    }
}
