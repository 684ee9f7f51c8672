//! Another configuration, taken over by the writer between two commits.

use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::writer::{AGAIN, Writer};
use super::{Checkpoint, Intake, SourceId, SourceInfo, join, room_of_each};
use crate::buffer;
use crate::flow::Flows;

/// What changes.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Made of the writer's by [`Flows::renewed`].
    pub flows: Flows,
    pub buffer: buffer::Config,
    /// Sources that have ended: they hand nothing over any more.
    pub retired: Vec<SourceId>,
    pub added: Vec<SourceInfo>,
}

/// What changes, and who waits for it.
#[derive(Debug)]
pub(crate) struct Change {
    pub asked: Asked,
    pub reply: oneshot::Sender<Vec<Joined>>,
}

/// A source that was added.
#[derive(Debug)]
pub(crate) struct Joined {
    pub intake: Intake,
    /// Its last committed checkpoint.
    pub saved: Option<Checkpoint>,
    /// It has none because a damaged file lost it.
    pub lost: bool,
}

impl Writer {
    /// What is stored goes where this configuration says. It does not wait for room, since
    /// what is sent makes it.
    pub(super) fn follow(&mut self, flows: &Flows, reply: oneshot::Sender<()>) {
        // A file that is damaged is opened anew, which does it too.
        if !self.damaged
            && let Err(error) = self.file.follow(flows)
        {
            warn!(%error, "cannot note where streams go now, the next commit does");
            self.notice(&error);
        }
        if reply.send(()).is_err() {
            debug!("who asked the buffer has gone away");
        }
    }

    /// What the sources that ended handed over no longer waits for room: it is
    /// bounded by their rooms, and nobody would hand it over again.
    pub(super) fn begin_change(&mut self, change: Change) {
        for source in &change.asked.retired {
            for handed in self.waiting.remove(&source.0).unwrap_or_default() {
                self.admit(handed);
            }
        }
        self.change = Some(change);
        self.due = Some(self.time.now());
    }

    pub(super) fn is_retired(&self, source: SourceId) -> bool {
        self.change.as_ref().is_some_and(|change| change.asked.retired.contains(&source))
    }

    /// Once all that was handed over before is on disk.
    pub(super) fn end_change(&mut self) {
        if !self.group.is_empty() || !self.standby.is_written() || self.more {
            return;
        }
        let Some(change) = self.change.take() else { return };
        if let Err(cause) = self.file.learn_saved() {
            // Without its checkpoint none may begin.
            self.notice(&cause);
            self.change = Some(change);
            self.due = Some(self.time.now() + AGAIN);
            return;
        }
        let Change { asked, reply } = change;
        let Asked { flows, buffer, retired, added } = asked;
        if let Err(cause) = self.file.catch_up() {
            self.notice(&cause);
        }
        self.obey(flows, &buffer);
        self.free.extend(retired);
        self.standby.unlearn_all();
        let bytes = room_of_each(self.sources.len() - self.free.len() + added.len());
        let mut joined = Vec::new();
        for info in added {
            let saved = self.file.saved(&info.name).cloned();
            let lost = saved.is_none() && self.file.is_lost(&info.name);
            // Places do not grow with the reloads, only with the sources.
            let next = u16::try_from(self.sources.len()).unwrap_or(u16::MAX);
            let place = self.free.pop().unwrap_or(SourceId(next));
            let (known, intake) = join(&self.shared, place, bytes, info, &self.time);
            match self.sources.get_mut(usize::from(place.0)) {
                Some(free) => *free = known,
                None => self.sources.push(known),
            }
            joined.push(Joined { intake, saved, lost });
        }
        // Who asked may have gone with the agent.
        drop(reply.send(joined));
    }
}
