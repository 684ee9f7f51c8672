//! The end of a transaction: a commit that is repeated until it is known, or
//! an abort.

use std::time::Duration;

use tracing::info;

use super::{COMMIT_FIRST, Class, Forward, Line, Outcome, SLICE, Trouble, linked};

impl<L: Line> Forward<L> {
    pub(super) fn commit(&mut self) -> Result<Outcome, Trouble> {
        let link = linked(self.link.as_ref())?;
        let mut done = link.commit(COMMIT_FIRST);
        if done.as_ref().is_err_and(|trouble| trouble.class == Class::Repeat) {
            self.unanswered = true;
            if self.next.is_empty() {
                // The broker works on the commit meanwhile.
                self.compose(self.sizer.room(0, 0))?;
            }
            done = linked(self.link.as_ref())?.commit(SLICE * 4);
        }
        // What was asked before may have been done, whatever a broker says that
        // no longer knows it (an id that it forgot while the line was down):
        // only the position tells, and nothing is sent again before (SAFETY 2).
        done.map_err(|trouble| match trouble.class {
            Class::Abort if self.unanswered => Trouble { class: Class::Rebuild, ..trouble },
            _ => trouble,
        })?;
        self.committed();
        Ok(Outcome::Done)
    }

    /// Kafka has it. A power cut from here on costs nothing: the position says
    /// so at the next start.
    pub(super) fn committed(&mut self) {
        let done = std::mem::take(&mut self.transaction);
        let (events, bytes) = (done.events(), done.bytes());
        self.sizer.committed(bytes, self.pace.since(self.began));
        if events > 0 {
            self.careful = self.careful.saturating_sub(1);
        }
        self.again = 0;
        self.buried.clear();
        if let Some(kept) = self.pending.take() {
            self.kept = kept;
        }
        for stream in self.lineup.committed(done.ends()) {
            info!(stream = %stream.name, topic = %stream.topic, "stream delivers again");
        }
        self.last_commit = self.pace.now();
        self.unannounced = false;
        self.load.clear();
        if let Some(link) = &self.link {
            link.well();
        }
        self.voice.well(&self.config.brokers);
        let now = self.clock.now();
        self.status.send_modify(|status| {
            status.transactions += 1;
            for taken in done.taken() {
                // A clock that was set back says nothing; it counts as none.
                let nanos = u64::try_from(now.0.saturating_sub(taken.0)).unwrap_or(0);
                status.took.add(Duration::from_nanos(nanos));
            }
            status.delivered_events += events as u64;
            status.delivered_bytes += bytes as u64;
            status.last_error = None;
        });
        // Behind the count, so that nobody sees it gone and not delivered. The
        // writer is gone only when the agent goes down; the position in Kafka
        // then tells the next start what to delete.
        drop(self.store.forget(self.kept.position.clone(), &self.cluster));
    }

    pub(super) fn abort(&mut self) -> Result<Outcome, Trouble> {
        linked(self.link.as_ref())?.abort()?;
        self.answered()?;
        self.pending = None;
        let kept = std::mem::take(&mut self.keep) || !self.suspects.is_empty();
        // Of a transaction of several loads only the last one is held: they are
        // all read again.
        if std::mem::take(&mut self.transaction).parts() > 0 || !kept {
            self.suspects.clear();
            self.load.clear();
            self.next.clear();
            self.lineup.rewind();
        }
        Ok(Outcome::Done)
    }
}
