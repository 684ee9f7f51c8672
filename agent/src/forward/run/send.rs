//! Fills a transaction: what is encoded into it, and how it is handed over.

use std::sync::Arc;
use std::time::Duration;

use super::{
    ANYWAY, Class, Forward, IDLE, Kept, LOOK, Line, Outcome, SLICE, Transaction, Trouble, linked,
    no_link, unreadable,
};
use crate::buffer::Reader;
use crate::flow::{self, Lane, Stream};
use crate::forward::size::{Room, TARGET};

/// Bytes of batches that are read from the file at a time.
const PORTION: usize = 128 * 1024;

/// The client starts to send within this.
const SET_OFF: Duration = Duration::from_millis(1);

impl<L: Line> Forward<L> {
    pub(super) fn send(&mut self) -> Result<Outcome, Trouble> {
        if self.transaction.open {
            return self.transmit_part();
        }
        let stopping = self.stopping().is_some();
        self.seen = self.store.newest();
        if self.load.is_empty() {
            if self.must_announce() {
                return self.transmit();
            }
            std::mem::swap(&mut self.load, &mut self.next);
        }
        let nothing = self.load.is_empty()
            && self.emptied == Some(self.seen)
            && self.looked.is_some_and(|looked| self.pace.since(looked) < ANYWAY);
        if !nothing {
            self.fill()?;
        }
        if self.load.is_empty() && !self.must_renew() {
            linked(self.link.as_ref())?.poll();
            self.drained = stopping;
            if !stopping {
                let since = self.pace.now();
                let newest = self.pace.newer(&self.store, self.seen, IDLE);
                // A store that goes down answers at once; its forwarder is
                // stopped a moment later and must not spin until then.
                if newest <= self.seen {
                    self.rest(IDLE.saturating_sub(self.pace.since(since)));
                }
            }
            return Ok(Outcome::Idle);
        }
        self.transmit()
    }

    /// Looks for topics when it is time for it, and encodes a load where none is yet.
    fn fill(&mut self) -> Result<(), Trouble> {
        let due = self.looked.is_none_or(|looked| self.pace.since(looked) >= LOOK);
        if self.load.is_empty() || due {
            let looked = self.look_for_topics();
            self.looked = Some(self.pace.now());
            // A look that fails is no reason to keep back what is encoded.
            if self.load.is_empty() {
                looked?;
            }
        }
        if self.load.is_empty() {
            self.compose(self.sizer.room(0, 0))?;
            std::mem::swap(&mut self.load, &mut self.next);
            self.emptied = self.lineup.is_nothing_stored().then_some(self.seen);
        }
        Ok(())
    }

    pub(super) fn reader(&mut self) -> Result<&mut Reader, Trouble> {
        if self.reader.is_none() {
            self.reader = Some(self.store.reader().map_err(|e| unreadable(&e))?);
        }
        self.reader.as_mut().ok_or_else(no_link)
    }

    /// Every flow that has something to send.
    pub(super) fn flows(&mut self) -> Result<Vec<(flow::Hash, Lane, Arc<Stream>)>, Trouble> {
        let store = self.store.clone();
        store.flows(self.reader()?).map_err(|e| unreadable(&e))
    }

    /// Encodes what is sent next, as much as there is room for.
    pub(super) fn compose(&mut self, room: Room) -> Result<(), Trouble> {
        self.next.clear();
        // A flow that is new on a known topic, an alarm above all, goes with
        // this load and not after the backlog.
        let flows = self.flows()?;
        self.lineup.refresh(flows);
        let Some(reader) = self.reader.as_mut() else { return Ok(()) };
        // A flow on trial and all the others alternate, so that neither can
        // keep the other waiting.
        if !self.last_was_trial {
            for entry in self.lineup.trials() {
                let first = self.store.load(reader, entry.hash, entry.loaded, 1, 1);
                let first = first.map_err(|e| unreadable(&e))?;
                if let Some(batch) = first.first() {
                    self.next.add(&entry.stream, batch);
                    self.next.alone = true;
                    self.lineup.loaded(entry.hash, batch.id);
                    self.last_was_trial = true;
                    return Ok(());
                }
            }
        }
        self.last_was_trial = false;
        let (now, wall) = (self.pace.now(), self.clock.now());
        let request = self.config.request_bytes();
        for entry in self.lineup.order() {
            if entry.slowed && !self.backfill.may_go(now) {
                continue;
            }
            let (mut after, mut each) = (entry.loaded, entry.each);
            'flow: loop {
                let records = u32::try_from(self.next.records.len()).unwrap_or(u32::MAX);
                let events = room.events.saturating_sub(records);
                let bytes = room.bytes.saturating_sub(self.next.bytes());
                // The first batch of all goes in whatever its size.
                self.next.full = !self.next.is_empty() && (events == 0 || bytes == 0);
                if self.next.full {
                    return Ok(());
                }
                // In small portions: what is read stands in memory beside what
                // it becomes.
                let portion = bytes.clamp(1, PORTION);
                let batches = self
                    .store
                    .load(reader, entry.hash, after, events.max(1), portion)
                    .map_err(|e| unreadable(&e))?;
                let Some(last) = batches.last() else { break };
                after = last.id;
                self.next.urgent |= entry.is_urgent();
                for batch in &batches {
                    // The first batch of all goes in whatever its size, here too.
                    let bytes = self.next.request_bytes_with(batch, each);
                    if !self.next.is_empty() && bytes > request {
                        self.next.full = true;
                        return Ok(());
                    }
                    let late = !entry.is_urgent() && self.backfill.holds_for(batch, wall);
                    let wait = late && !self.backfill.may_go(now);
                    self.lineup.slowed(entry.hash, wait);
                    if wait {
                        break 'flow;
                    }
                    let before = self.next.bytes();
                    self.next.add(&entry.stream, batch);
                    self.lineup.loaded(entry.hash, batch.id);
                    let added = self.next.bytes() - before;
                    each = added / usize::try_from(batch.count).map_or(1, |count| count.max(1));
                    self.lineup.weighed(entry.hash, each);
                    if late {
                        self.backfill.goes(added, now);
                    }
                }
            }
        }
        Ok(())
    }

    /// Opens a transaction and sends the load in it.
    pub(super) fn transmit(&mut self) -> Result<Outcome, Trouble> {
        self.began = self.pace.now();
        self.unanswered = false;
        let link = linked(self.link.as_ref())?;
        link.take_failures();
        link.begin()?;
        self.transaction = Transaction::begun();
        self.transmit_part()
    }

    /// Sends the load in the open transaction, encodes the next one meanwhile,
    /// and goes on with that or puts the position behind all of it.
    fn transmit_part(&mut self) -> Result<Outcome, Trouble> {
        let dead = std::mem::take(&mut self.load.dead);
        self.keep_letters(dead.into_iter().map(|letter| (letter, None)).collect())?;
        let all: Vec<usize> = (0..self.load.records.len()).collect();
        self.hand_over(&all, true)?;
        let more =
            self.may_go_on() && self.compose_behind() && self.pace.since(self.began) < TARGET;
        // The next load is handed over behind the answer: librdkafka has one request of a
        // partition on its way, and spins while another one waits behind it.
        self.flush()?;
        let failures = linked(self.link.as_ref())?.take_failures();
        if !failures.is_empty() {
            return self.failed(&failures);
        }
        self.transaction.add(&self.load);
        if more {
            self.load.clear();
            std::mem::swap(&mut self.load, &mut self.next);
            return Ok(Outcome::More);
        }
        self.add_position()
    }

    /// Whether a backlog is on its way that nothing stands against sending in
    /// one transaction.
    fn may_go_on(&self) -> bool {
        self.load.full
            && !self.load.urgent
            && self.next.is_empty()
            && self.careful == 0
            && self.stopping().is_none()
            && self.link.as_ref().is_some_and(Line::is_transactional)
    }

    /// Encodes the next load while the client sends this one. True when it
    /// belongs into the same transaction; else it goes into the next.
    fn compose_behind(&mut self) -> bool {
        let events = self.transaction.events() + self.load.records.len();
        let room = self.sizer.room(events, self.transaction.bytes() + self.load.bytes());
        if room.events == 0 || room.bytes == 0 {
            return false;
        }
        if let Some(link) = &self.link {
            // Else it would wait for `flush`; what is first in a transaction does so anyway,
            // until the broker has taken note of its partition.
            link.flush(SET_OFF);
        }
        // What cannot be read now is met again by the next transaction, which
        // says so.
        self.compose(room).is_ok() && !self.next.is_empty() && !self.next.alone
    }

    fn add_position(&mut self) -> Result<Outcome, Trouble> {
        let mut position = self.kept.position.clone();
        for (flow, _, epoch, number) in self.transaction.ends() {
            position.advance(*flow, *epoch, *number);
        }
        let kept = Kept { offset: self.kept.offset + 1, position };
        let link = linked(self.link.as_ref())?;
        if link.is_transactional() {
            let mut sent = link.send_position(&self.config.positions_topic, &kept);
            // Repeating it is allowed, and each try is short because of stops.
            while sent.as_ref().is_err_and(|t| t.class == Class::Repeat)
                && self.pace.since(self.began) < self.config.transaction_timeout.get()
                && !self.out_of_time()
            {
                link.poll();
                sent = link.send_position(&self.config.positions_topic, &kept);
            }
            sent?;
        }
        self.pending = Some(kept);
        Ok(Outcome::Done)
    }

    /// Hands these records of the load over and waits for their answers.
    pub(super) fn produce(&mut self, indices: &[usize], chunked: bool) -> Result<(), Trouble> {
        self.hand_over(indices, chunked)?;
        self.flush()
    }

    /// Hands these records of the load over.
    /// `chunked`: in requests no larger than what each topic is known to take.
    fn hand_over(&mut self, indices: &[usize], chunked: bool) -> Result<(), Trouble> {
        let link = linked(self.link.as_ref())?;
        let now = self.clock.now();
        let mut id = String::new();
        let mut open = 0_usize;
        for index in indices {
            let Some(given) = self.load.records.get(*index) else { continue };
            if given.buried || given.sent {
                continue;
            }
            while !link.produce(&self.load, *index, given, now, &mut id) {
                link.flush(SLICE / 10);
                self.check_time()?;
            }
            open += 1;
            let topic = &self.load.stream(given).topic;
            let full = chunked && self.lineup.chunk(topic).is_some_and(|chunk| open >= chunk);
            if let Some(record) = self.load.records.get_mut(*index) {
                record.handed = true;
            }
            if full {
                open = 0;
                self.flush()?;
                if link.is_blamed() {
                    break;
                }
            }
        }
        Ok(())
    }

    pub(super) fn flush(&self) -> Result<(), Trouble> {
        let link = linked(self.link.as_ref())?;
        while !link.flush(SLICE) {
            self.check_time()?;
        }
        Ok(())
    }

    pub(super) fn check_time(&self) -> Result<(), Trouble> {
        if self.out_of_time()
            || self.pace.since(self.began) >= self.config.transaction_timeout.get()
        {
            return Err(Trouble::new(Class::Abort, "the broker takes the records too slowly"));
        }
        Ok(())
    }
}
