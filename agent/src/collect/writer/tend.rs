//! What the writer does for the file between two commits: room for what comes,
//! an end for what is too old, and a shorter file once a backlog is gone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::super::bounds::STEP;
use super::super::counted;
use super::Writer;
use crate::buffer::{self, Done, Dropped, Errand, File, Reason, Stats, locked};
use crate::event::Timestamp;
use crate::pulse;

/// Pause before a disk without room is looked at again: somebody else has filled
/// it, and nothing tells when it is empty again.
const LOOK_AT_DISK: Duration = Duration::from_secs(5);

/// Part of `max_age` after which what is too old is looked for again.
const AGE_STEPS: u32 = 20;

/// Looking costs a commit; who counts in days does not see an hour.
const LONGEST_AGE_STEP: Duration = Duration::from_hours(1);

/// A rule that drops all day is said so again after this.
const TELL_AGAIN: Duration = Duration::from_hours(1);

/// What was said of drops.
#[derive(Debug)]
pub(super) struct Told {
    known: Vec<Dropped>,
    at: BTreeMap<(String, Reason), Instant>,
}

impl Told {
    /// What was dropped before this start was said then.
    pub(super) fn new(known: &[Dropped]) -> Self {
        Self { known: known.to_vec(), at: BTreeMap::new() }
    }

    /// Says what has begun to be dropped since the last look.
    fn look(&mut self, dropped: &[Dropped], now: Instant) {
        for one in dropped.iter().filter(|one| !self.known.contains(one)) {
            let key = (one.stream.clone(), one.reason);
            let silent = self.at.get(&key).is_some_and(|at| now < *at + TELL_AGAIN);
            if !silent {
                let Dropped { stream, reason, events, bytes } = one;
                let reason = reason.as_str();
                warn!(%stream, reason, events, bytes, "events are dropped");
                self.at.insert(key, now);
            }
        }
        if self.known != dropped {
            self.known = dropped.to_vec();
        }
    }
}

impl Writer {
    /// When there is something to do here.
    pub(super) fn tend_due(&self) -> Option<Instant> {
        let shrink = self.shrinking.then(|| self.time.now());
        let next = [shrink, self.look_at_disk, self.expire_due].into_iter().flatten().min()?;
        Some(self.retry.map_or(next, |retry| next.max(retry)))
    }

    /// Does what is due, unless the medium errs: then after its pause.
    pub(super) fn tend(&mut self) {
        let now = self.time.now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.damaged || self.retry.is_some_and(|retry| retry > now) {
            return;
        }
        if is_due(self.expire_due) {
            self.expire();
            self.measure();
        } else if is_due(self.look_at_disk) {
            self.measure();
        } else if self.shrinking {
            self.shrink();
        }
    }

    /// Looks at the file's size, makes room by the rules, lets go on who waited
    /// for it, and tells how the buffer stands.
    pub(super) fn measure(&mut self) {
        if let Err(cause) = self.make_room() {
            // What cannot be dropped stays; why, the next commit will say.
            self.notice(&cause);
        }
        self.readmit();
        let now = self.time.now();
        self.look_at_disk = self.bounds.waits_for_disk().then(|| now + LOOK_AT_DISK);
        let before = self.shared.stats.borrow().clone();
        let state = self.file.state().ok();
        self.shrinking |= state.is_some_and(|state| state.is_worth_shrinking());
        let (bytes, length, oldest) = match state {
            Some(state) => (state.used, state.length, state.oldest),
            None => (before.bytes, before.length, before.oldest),
        };
        self.told.look(self.file.dropped(), now);
        let held_back = self.bounds.is_closed() || !self.waiting.is_empty();
        if held_back && !self.held_back {
            let whole = self.bounds.is_closed();
            warn!(bytes, whole, "the buffer is full, sources are held back");
        } else if self.held_back && !held_back {
            info!(bytes, "the buffer has room again");
        }
        self.held_back = held_back;
        self.shared.stats.send_replace(Stats {
            bytes,
            length,
            oldest,
            held_back,
            unsettled: self.is_unsettled(),
            in_memory: locked(&self.shared.held).count(),
            failing: self.failing.clone(),
            took: self.took,
            waited: self.waited,
            ..counted(&self.file)
        });
    }

    /// Drops what the rules let go until there is room, or nothing of it is left.
    fn make_room(&mut self) -> Result<(), rusqlite::Error> {
        self.bounds.ask_again();
        let mut failure = Ok(());
        let mut owed = 0;
        // Each turn drops a batch or rules out one who could give some. After a bound
        // was lowered by gigabytes there are many.
        while !self.damaged {
            pulse::beat();
            let state = self.file.state()?;
            let disk = buffer::disk(self.file.path(), state.length).ok();
            owed = disk.map_or(0, |disk| disk.owed);
            self.bounds.measure(state, disk, |flow| self.file.usage(flow));
            let Some((whose, demand)) = self.bounds.demand(&self.flows) else { break };
            let pins = locked(&self.shared.pins);
            let gone = delete(&mut self.file, |file| file.evict(&demand, &pins));
            drop(pins);
            self.bounds.answered(&whose, *gone.as_ref().unwrap_or(&0));
            failure = failure.and(gone.map(drop));
        }
        if owed > 0 && !self.damaged && self.bounds.is_low() && self.failing.is_none() {
            // While there is room: what others leave may be too little for it.
            failure = failure.and(self.file.empty_wal().map(drop));
        }
        failure
    }

    /// The disk is full: has the -wal begin anew in the room that it takes. Where the
    /// file has empty pages for what waits, and so gets no longer by it, with the
    /// reserve. False where that changed nothing.
    pub(super) fn make_way(&mut self) -> bool {
        if std::mem::replace(&mut self.made_way, true) {
            return false;
        }
        let begun = |file: &File| file.empty_wal().unwrap_or(false);
        let waits: u64 = self.group.batches().map(|(_, events)| events.len() as u64).sum();
        let waits = waits + locked(&self.shared.held).bytes() as u64;
        let fits = self.file.state().is_ok_and(|state| state.length - state.used > waits);
        begun(&self.file) || fits && self.file.give_reserve() && begun(&self.file)
    }

    /// Does what an operator asks for. What failed is not tried again: whoever
    /// asked is told.
    pub(super) fn carry_out(&mut self, errand: &Errand) -> Result<Done, String> {
        let flows = &self.flows;
        let done = if matches!(errand, Errand::Import(_)) {
            let mut left = self.bounds.left();
            self.file.errand(errand, flows, |flow, bytes| left.take(flow, bytes))
        } else {
            delete(&mut self.file, |file| file.errand(errand, flows, |_, _| true))
        };
        if let Err(cause) = &done {
            // What it puts in has numbers too.
            self.in_doubt |= !self.file.is_undone(cause);
            self.notice(cause);
        }
        self.measure();
        done.map_err(|cause| cause.to_string())
    }

    /// An error beside a commit: only damage is acted on.
    pub(in crate::collect) fn notice(&mut self, cause: &rusqlite::Error) {
        if buffer::is_damage(cause) {
            self.broken(&cause.to_string());
        }
    }

    /// One step, for which the forwarder waits at most; what comes meanwhile goes first.
    fn expire(&mut self) {
        let Some(max_age) = self.max_age else { return };
        let step = (max_age / AGE_STEPS).clamp(Duration::from_secs(1), LONGEST_AGE_STEP);
        self.expire_due = Some(self.time.now() + step);
        let now = self.clock.now();
        let age = i64::try_from(max_age.as_nanos()).unwrap_or(i64::MAX);
        let pins = locked(&self.shared.pins);
        let before = Timestamp(now.0.saturating_sub(age));
        let gone = delete(&mut self.file, |file| file.expire(now, before, STEP, &pins));
        drop(pins);
        match gone {
            Ok(0) => {}
            // There may be more.
            Ok(_) => self.expire_due = Some(self.time.now()),
            Err(error) => {
                warn!(%error, "cannot drop what is too old");
                self.notice(&error);
            }
        }
    }

    /// One slice; what comes meanwhile goes first.
    fn shrink(&mut self) {
        let done = self.file.shrink().and_then(|()| self.file.state());
        self.shrinking = done.as_ref().is_ok_and(buffer::State::has_spare);
        if let Err(cause) = &done {
            self.notice(cause);
        }
        if !self.shrinking && !self.damaged {
            // A reader may hold it up: then the next checkpoint does it.
            if let Err(error) = self.file.shrunk() {
                warn!(%error, "cannot make the buffer's file shorter");
            }
            self.measure();
        }
    }
}

/// A delete changes pages before it frees any: on a full disk it is done with
/// the buffer's reserve.
fn delete<T>(
    file: &mut File,
    mut rows: impl FnMut(&mut File) -> Result<T, rusqlite::Error>,
) -> Result<T, rusqlite::Error> {
    match rows(file) {
        Err(cause) if file.is_full(&cause) && file.give_reserve() => rows(file),
        done => done,
    }
}
