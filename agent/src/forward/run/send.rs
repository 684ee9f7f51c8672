//! Fills a transaction: what is encoded into it, and how it is handed over.

use std::time::Duration;

use super::{
    Class, Forward, IDLE, Kept, LOOK, Line, Outcome, SLICE, Trouble, linked, no_link, unreadable,
};
use crate::buffer::Reader;
use crate::forward::size::MOST_BYTES;

impl<L: Line> Forward<L> {
    pub(super) fn send(&mut self) -> Result<Outcome, Trouble> {
        let stopping = self.stopping().is_some();
        self.seen = self.store.wait_newer(self.seen, Duration::ZERO);
        if self.load.is_empty() {
            if self.must_announce() {
                return self.transmit();
            }
            std::mem::swap(&mut self.load, &mut self.next);
        }
        if self.load.is_empty() || self.looked.is_none_or(|looked| self.pace.since(looked) >= LOOK)
        {
            let looked = self.look_for_topics();
            self.looked = Some(self.pace.now());
            // A look that fails is no reason to keep back what is encoded.
            if self.load.is_empty() {
                looked?;
            }
        }
        if self.load.is_empty() {
            self.compose()?;
            std::mem::swap(&mut self.load, &mut self.next);
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

    pub(super) fn reader(&mut self) -> Result<&mut Reader, Trouble> {
        if self.reader.is_none() {
            self.reader = Some(self.store.reader().map_err(|e| unreadable(&e))?);
        }
        self.reader.as_mut().ok_or_else(no_link)
    }

    /// Encodes what goes into the next transaction.
    pub(super) fn compose(&mut self) -> Result<(), Trouble> {
        self.next.clear();
        // A flow that is new on a known topic, an alarm above all, goes with
        // this load and not after the backlog.
        let flows = self.reader()?.flows().map_err(|e| unreadable(&e))?;
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
                    self.lineup.loaded(entry.hash, batch.id);
                    self.last_was_trial = true;
                    return Ok(());
                }
            }
        }
        self.last_was_trial = false;
        let most = self.sizer.events();
        for entry in self.lineup.order() {
            let room = most.saturating_sub(u32::try_from(self.next.records.len()).unwrap_or(most));
            let bytes = MOST_BYTES.saturating_sub(self.next.bytes());
            // The first batch of all goes in whatever its size.
            if !self.next.is_empty() && (room == 0 || bytes == 0) {
                break;
            }
            let mut after = entry.loaded;
            // In small portions: what is read stands in memory beside what it
            // becomes.
            let portion = bytes.clamp(1, MOST_BYTES / 4);
            loop {
                let room =
                    most.saturating_sub(u32::try_from(self.next.records.len()).unwrap_or(most));
                if !self.next.is_empty() && (room == 0 || self.next.bytes() >= MOST_BYTES) {
                    break;
                }
                let batches = self
                    .store
                    .load(reader, entry.hash, after, room.max(1), portion)
                    .map_err(|e| unreadable(&e))?;
                let Some(last) = batches.last() else { break };
                after = last.id;
                for batch in &batches {
                    self.next.add(&entry.stream, batch);
                    self.lineup.loaded(entry.hash, batch.id);
                }
            }
        }
        Ok(())
    }

    /// Fills one transaction with the load and puts the position into it.
    pub(super) fn transmit(&mut self) -> Result<Outcome, Trouble> {
        self.began = self.pace.now();
        self.unanswered = false;
        let dead = std::mem::take(&mut self.load.dead);
        self.keep_letters(dead.into_iter().map(|letter| (letter, None)).collect())?;
        let link = linked(self.link.as_ref())?;
        link.take_failures();
        link.begin()?;
        let all: Vec<usize> = (0..self.load.records.len()).collect();
        self.produce(&all, true)?;
        let failures = linked(self.link.as_ref())?.take_failures();
        if !failures.is_empty() {
            return self.failed(&failures);
        }
        let mut position = self.kept.position.clone();
        for (flow, _, epoch, number) in &self.load.ends {
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
    /// `chunked`: in requests no larger than what each topic is known to take.
    pub(super) fn produce(&mut self, indices: &[usize], chunked: bool) -> Result<(), Trouble> {
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
                    return Ok(());
                }
            }
        }
        self.flush()
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
