//! The end of a transaction: a commit that is repeated until it is known, or
//! an abort.

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
                self.compose()?;
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
        let events = self.load.records.iter().filter(|record| !record.buried).count();
        let bytes = self.load.bytes();
        if events > 0 {
            self.sizer.committed(events, self.pace.since(self.began));
        }
        self.again = 0;
        self.buried.clear();
        if let Some(kept) = self.pending.take() {
            self.kept = kept;
        }
        for stream in self.lineup.committed(&self.load.ends) {
            info!(stream = %stream.name, topic = %stream.topic, "stream delivers again");
        }
        self.last_commit = self.pace.now();
        self.unannounced = false;
        // The writer is gone only when the agent goes down; the position in
        // Kafka then tells the next start what to delete.
        drop(self.store.forget(self.kept.position.clone(), &self.cluster));
        self.load.clear();
        if let Some(link) = &self.link {
            link.well();
        }
        self.voice.well(&self.config.brokers);
        self.status.send_modify(|status| {
            status.delivered_events += events as u64;
            status.delivered_bytes += bytes as u64;
            status.last_error = None;
        });
    }

    pub(super) fn abort(&mut self) -> Result<Outcome, Trouble> {
        linked(self.link.as_ref())?.abort()?;
        self.answered()?;
        self.pending = None;
        if self.suspects.is_empty() && !std::mem::take(&mut self.keep) {
            self.load.clear();
            self.next.clear();
            self.lineup.rewind();
        }
        Ok(Outcome::Done)
    }
}
