//! Records that the broker refuses: who is to blame, and what is refused alone
//! and for its own content (SAFETY, Transactions 8 and 9).

use std::time::Duration;

use tracing::{error, warn};

use super::{
    Class, Forward, Line, MOST_AGAIN, Outcome, Refusal, Sieve, Trouble, gone, linked, refusal,
    unreadable,
};
use crate::buffer::{Batch, BatchId, Refused};
use crate::collect::DeadLetter;
use crate::forward::context::Failure;
use crate::forward::load::{Load, Record};
use crate::forward::trouble::is_of_partition;

/// The client looks for records whose time is over once a second.
const ALL_ANSWERS: Duration = Duration::from_secs(2);

impl<L: Line> Forward<L> {
    /// Records of the transaction failed: who is to blame?
    pub(super) fn failed(&mut self, failures: &[Failure]) -> Result<Outcome, Trouble> {
        if self.transaction.parts() > 0 {
            return self.failed_behind_others(failures);
        }
        self.load.failed(failures);
        let mut blamed: Vec<usize> = Vec::new();
        let mut line = None;
        let mut slow: Vec<usize> = Vec::new();
        let mut topics: Vec<(String, String)> = Vec::new();
        for failure in failures {
            let Some(record) = self.load.records.get(failure.record) else { continue };
            match refusal(failure.code) {
                Refusal::Content | Refusal::Timestamp => {
                    if !blamed.contains(&record.stream) {
                        blamed.push(record.stream);
                    }
                }
                Refusal::Topic => {
                    let topic = &self.load.stream(record).topic;
                    if !topics.iter().any(|(known, _)| known == topic) {
                        topics.push((topic.clone(), failure.code.to_string()));
                    }
                }
                Refusal::Line => {
                    line = line.or(Some(failure.code));
                    let topic = |index: &usize| self.load.streams.get(*index).map(|s| &s.topic);
                    if !slow.iter().any(|known| topic(known) == topic(&record.stream)) {
                        slow.push(record.stream);
                    }
                }
                Refusal::Consequence => {}
            }
        }
        for (topic, cause) in &topics {
            if self.lineup.aside(topic, cause, self.pace.now()) {
                warn!(topic, error = %cause, "stream stands aside, its events are kept");
            }
        }
        if !blamed.is_empty() {
            // What is sifted is all that its transaction has, until it is sent.
            self.careful = self.careful.max(1);
            self.suspects = (0..self.load.records.len())
                .filter(|index| {
                    self.load
                        .records
                        .get(*index)
                        .is_some_and(|r| !r.buried && blamed.contains(&r.stream))
                })
                .collect();
            return Ok(Outcome::Refused);
        }
        if !topics.is_empty() {
            // Said above, and nobody else is held up by it.
            return Ok(Outcome::Failed(Class::Abort));
        }
        if let Some(code) = line
            && is_of_partition(code)
            && self.only_theirs(&slow)?
        {
            for stream in slow.iter().filter_map(|index| self.load.streams.get(*index)) {
                if self.lineup.aside(&stream.topic, &code.to_string(), self.pace.now()) {
                    warn!(stream = %stream.name, topic = %stream.topic, error = %code,
                        "stream stands aside, its events are kept");
                }
            }
            return Ok(Outcome::Failed(Class::Abort));
        }
        if let Some(code) = line {
            return Err(Trouble {
                class: Class::Abort,
                code: Some(code),
                text: format!("records were not delivered: {code}"),
            });
        }
        // All were purged because the transaction as such failed; whoever asks
        // next for something in it is told why.
        if self.again < MOST_AGAIN && self.load.records.iter().any(|r| r.buried || r.stamped) {
            // As in `sift`; to read the load again would bury twice.
            self.again += 1;
            self.keep = true;
            return Ok(Outcome::Failed(Class::Abort));
        }
        let refused = linked(self.link.as_ref())?
            .send_position(&self.config.positions_topic, &self.kept)
            .err()
            .filter(|trouble| trouble.class != Class::Repeat);
        if let Some(code) = refused.as_ref().and_then(|t| t.code)
            && refusal(code) == Refusal::Topic
            && self.stand_aside_alone(code)
        {
            return Ok(Outcome::Failed(Class::Abort));
        }
        Err(refused.unwrap_or_else(|| Trouble::new(Class::Abort, "records were not delivered")))
    }

    /// The transaction has loads that are no longer held, and whose record it was
    /// cannot be told: that shows when each load goes alone.
    fn failed_behind_others(&mut self, failures: &[Failure]) -> Result<Outcome, Trouble> {
        self.careful = self.transaction.parts() + 1;
        let of_line = failures.iter().find(|failure| refusal(failure.code) == Refusal::Line);
        let others = |failure: &Failure| {
            !matches!(refusal(failure.code), Refusal::Line | Refusal::Consequence)
        };
        if let Some(Failure { code, .. }) = of_line.filter(|_| !failures.iter().any(others)) {
            return Err(Trouble {
                class: Class::Abort,
                code: Some(*code),
                text: format!("records were not delivered: {code}"),
            });
        }
        Ok(Outcome::Failed(Class::Abort))
    }

    /// Whether the topics of these streams cannot be written while the line is
    /// well (no leader, too few replicas): others of the load were. One that
    /// goes alone because it was blamed before is believed to be it again.
    fn only_theirs(&mut self, slow: &[usize]) -> Result<bool, Trouble> {
        let streams = slow.iter().filter_map(|index| self.load.streams.get(*index));
        let theirs: Vec<String> = streams.map(|stream| stream.topic.clone()).collect();
        let is_other = |load: &Load, record: &Record| {
            !record.buried && !record.sent && !theirs.contains(&load.stream(record).topic)
        };
        if !self.load.records.iter().any(|record| is_other(&self.load, record)) {
            return Ok(theirs.iter().all(|topic| self.lineup.is_trial(topic)));
        }
        // A line that is gone fails them all, though not all in one moment.
        let link = linked(self.link.as_ref())?;
        if !link.answered(ALL_ANSWERS) {
            return Ok(false);
        }
        self.load.failed(&link.take_failures());
        let mut others = self.load.records.iter().filter(|record| is_other(&self.load, record));
        Ok(others.all(|record| record.handed))
    }

    /// Some topic of the load may not be written to, and Kafka did not say
    /// which. A load of one topic has found it; else each goes alone.
    pub(super) fn stand_aside_alone(&mut self, code: rdkafka::error::RDKafkaErrorCode) -> bool {
        let mut topics: Vec<String> =
            self.load.streams.iter().map(|stream| stream.topic.clone()).collect();
        topics.sort_unstable();
        topics.dedup();
        if let [topic] = topics.as_slice() {
            if self.lineup.aside(topic, &code.to_string(), self.pace.now()) {
                warn!(topic, error = %code, "stream stands aside, its events are kept");
            }
        } else {
            for topic in &topics {
                self.lineup.try_alone(topic);
            }
        }
        !topics.is_empty()
    }

    /// Finds out which of the suspects are refused alone, in transactions that
    /// are never committed, and buries those. Without transactions what passes
    /// has arrived and is not sent again.
    pub(super) fn sift(&mut self) -> Result<Outcome, Trouble> {
        let suspects = std::mem::take(&mut self.suspects);
        let mut sieve = Sieve::new(suspects.len());
        let mut reasons = Vec::new();
        let mut again = 0;
        self.began = self.pace.now();
        linked(self.link.as_ref())?.begin()?;
        while let Some(range) = sieve.next() {
            let tried = suspects.get(range.clone()).unwrap_or_default();
            self.produce(tried, false)?;
            let failures = linked(self.link.as_ref())?.take_failures();
            let Some(first) = failures
                .iter()
                .find(|f| refusal(f.code) != Refusal::Consequence)
                .or_else(|| failures.first())
            else {
                self.answered()?;
                again = 0;
                continue;
            };
            let (blame, code) = (refusal(first.code), first.code);
            self.load.failed(&failures);
            self.abort_fully()?;
            self.answered()?;
            match blame {
                Refusal::Timestamp if self.stamp(tried) => sieve.again(range),
                Refusal::Content | Refusal::Timestamp => {
                    again = 0;
                    if sieve.refuse(range) {
                        reasons.push(format!("the broker refuses it: {code}"));
                    }
                }
                // A broker that refused a batch before this one has not seen its
                // sequence numbers and calls the next ones out of order. The
                // abort has mended that: the client begins anew with them.
                Refusal::Consequence if again < MOST_AGAIN => {
                    again += 1;
                    sieve.again(range);
                }
                Refusal::Topic | Refusal::Line | Refusal::Consequence => {
                    linked(self.link.as_ref())?.begin()?;
                    return Err(Trouble {
                        class: Class::Abort,
                        code: Some(code),
                        text: format!("records were not delivered: {code}"),
                    });
                }
            }
            self.began = self.pace.now();
            linked(self.link.as_ref())?.begin()?;
        }
        self.abort_fully()?;
        self.bury(&suspects, &sieve, &reasons)?;
        let topic = suspects
            .first()
            .and_then(|index| self.load.records.get(*index))
            .map(|record| self.load.stream(record).topic.clone());
        if let Some(topic) = topic {
            self.lineup.set_chunk(&topic, sieve.largest());
        }
        Ok(Outcome::Done)
    }

    /// Nothing is on its way any more. Without transactions what did not fail
    /// has arrived; with them it was aborted, or is taken back in the end.
    pub(super) fn answered(&mut self) -> Result<(), Trouble> {
        let link = linked(self.link.as_ref())?;
        if !link.is_transactional() {
            self.load.failed(&link.take_failures());
            self.load.arrived();
        }
        Ok(())
    }

    /// Aborts within a step: a slow line takes longer than one call.
    pub(super) fn abort_fully(&self) -> Result<(), Trouble> {
        loop {
            let done = linked(self.link.as_ref())?.abort();
            if !done.as_ref().is_err_and(|trouble| trouble.class == Class::Repeat) {
                return done;
            }
            self.check_time()?;
        }
    }

    /// Stamps these records with the time of sending; false when they were.
    pub(super) fn stamp(&mut self, indices: &[usize]) -> bool {
        let mut news = false;
        for index in indices {
            if let Some(record) = self.load.records.get_mut(*index) {
                news |= !record.stamped;
                record.stamped = true;
            }
        }
        news
    }

    pub(super) fn bury(
        &mut self,
        suspects: &[usize],
        sieve: &Sieve,
        reasons: &[String],
    ) -> Result<(), Trouble> {
        let mut letters = Vec::new();
        let mut batch = None;
        for (place, reason) in sieve.refused().iter().zip(reasons) {
            let index = suspects.get(*place).copied().unwrap_or(usize::MAX);
            let event = self.whole(index, &mut batch)?;
            if let Some(record) = self.load.records.get(index) {
                let letter = self.load.letter(record, reason);
                letters.push((letter, event));
            }
        }
        self.keep_letters(letters)?;
        for place in sieve.refused() {
            let index = suspects.get(*place).copied().unwrap_or(usize::MAX);
            if let Some(record) = self.load.records.get_mut(index) {
                record.buried = true;
            }
        }
        Ok(())
    }

    /// The event of a record as it stands in the file, so that it can be sent
    /// again; none where its batch is gone or damaged. `batch` is the one that
    /// was read last: the records come in its order.
    fn whole(
        &mut self,
        record: usize,
        batch: &mut Option<Batch>,
    ) -> Result<Option<Refused>, Trouble> {
        let Some((flow, place)) = self.load.place(record) else { return Ok(None) };
        let Some(seq) = self.load.records.get(record).map(|record| record.seq) else {
            return Ok(None);
        };
        if batch.as_ref().is_none_or(|known| known.id != place) {
            let before = BatchId(place.0.saturating_sub(1));
            let store = self.store.clone();
            let found = store.batches(self.reader()?, flow, before, 1, 1);
            let found = found.map_err(|e| unreadable(&e))?;
            *batch = found.into_iter().find(|found| found.id == place);
        }
        Ok(batch.as_ref().and_then(|batch| batch.refused(seq).ok()))
    }

    /// Commits dead letters to the file, each once for all tries of its load.
    ///
    /// A power cut behind this line leaves a dead letter whose batch is met
    /// again. The event in it is then known to be buried and not sent: whether
    /// it is sent again is for a person to say (SAFETY 9). A batch that is
    /// damaged is buried twice, never lost.
    pub(super) fn keep_letters(
        &mut self,
        mut letters: Vec<(DeadLetter, Option<Refused>)>,
    ) -> Result<(), Trouble> {
        // One with an event is known by its place, in the file.
        letters.retain(|(letter, event)| event.is_some() || !self.buried.contains(&letter.origin));
        if letters.is_empty() {
            return Ok(());
        }
        let origins: Vec<String> =
            letters.iter().map(|(letter, _)| letter.origin.clone()).collect();
        for (letter, _) in &letters {
            error!(origin = %letter.origin, reason = %letter.reason, "became a dead letter");
        }
        self.store.bury_refused(letters).map_err(|_| gone())?;
        self.buried.extend(origins);
        Ok(())
    }
}
