//! What one transaction carries, encoded: records, and the position after it.

use std::ops::Range;
use std::sync::Arc;

use super::context::Failure;
use crate::buffer::{Batch, BatchId, Epoch};
use crate::collect::{DEAD_LETTER_BYTES, DeadLetter};
use crate::encode::json::Encoder;
use crate::event::Timestamp;
use crate::flow::{self, Stream};

/// What librdkafka reckons for a record beside its key, its value and the gateway in its
/// id: headers, and what frames it.
const FRAMING: u64 = 90;

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a note of its own, no state of a machine"
)]
pub(super) struct Record {
    pub(super) gateway: Arc<str>,
    pub(super) epoch: Epoch,
    pub(super) seq: u64,
    /// Index into [`Load::streams`].
    pub(super) stream: usize,
    key: Range<usize>,
    value: Range<usize>,
    pub(super) time: Timestamp,
    pub(super) read_at: Option<Timestamp>,
    /// Stamped with the time of sending, because its own was refused.
    pub(super) stamped: bool,
    /// A dead letter by now: not sent again.
    pub(super) buried: bool,
    /// With the client, and not reported as failed.
    pub(super) handed: bool,
    /// Without transactions: the broker has it, though others of its load were
    /// refused. Not sent again.
    pub(super) sent: bool,
}

impl Record {
    /// The event's id, as messages name it.
    pub(super) fn id(&self) -> String {
        format!("{}/{}/{}", self.gateway, self.epoch, self.seq)
    }
}

/// Records of one or more flows in the order in which they are sent. Its
/// memory is used again for the next one.
#[derive(Debug, Default)]
pub(super) struct Load {
    bytes: Vec<u8>,
    pub(super) records: Vec<Record>,
    pub(super) streams: Vec<Arc<Stream>>,
    /// For each flow the last batch that is in it.
    pub(super) ends: Vec<(flow::Hash, BatchId, Epoch, u64)>,
    /// For each batch that is in it the first of its records.
    places: Vec<(usize, flow::Hash, BatchId)>,
    /// When the first event of each batch was read.
    pub(super) taken: Vec<Timestamp>,
    /// What could not be encoded; buried before the position passes it.
    pub(super) dead: Vec<DeadLetter>,
    /// It took all that fits: more is stored.
    pub(super) full: bool,
    /// Goes in a transaction of its own, as its topic is on trial.
    pub(super) alone: bool,
    /// Holds alarms: its transaction takes no further load.
    pub(super) urgent: bool,
    encoder: Encoder,
}

impl Load {
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that it takes in a request, uncompressed, with another batch whose events
    /// take so many each.
    pub(super) fn request_bytes_with(&self, batch: &Batch, each: usize) -> u64 {
        let records = self.records.len() as u64 + u64::from(batch.count);
        let framing = FRAMING + batch.gateway.len() as u64;
        let events = u64::from(batch.count).saturating_mul(each as u64);
        (self.bytes.len() as u64).saturating_add(events).saturating_add(records * framing)
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.streams.clear();
        self.ends.clear();
        self.places.clear();
        self.taken.clear();
        self.dead.clear();
        (self.full, self.alone, self.urgent) = (false, false, false);
    }

    /// Encodes a batch behind what is there.
    pub(super) fn add(&mut self, stream: &Arc<Stream>, batch: &Batch) {
        // Not by its name: the lanes of a stream may have definitions of before
        // and after a reload, with a topic each.
        let same = |known: &Arc<Stream>| Arc::ptr_eq(known, stream) || **known == **stream;
        let index = self.streams.iter().position(same).unwrap_or_else(|| {
            self.streams.push(Arc::clone(stream));
            self.streams.len() - 1
        });
        let before = (self.bytes.len(), self.records.len());
        self.encoder.begin(&batch.gateway, batch.epoch);
        let (bytes, records, encoder) = (&mut self.bytes, &mut self.records, &mut self.encoder);
        let walked = batch.events(|event| {
            let start = bytes.len();
            bytes.extend_from_slice(event.device.as_bytes());
            let middle = bytes.len();
            encoder.event(&event, bytes);
            records.push(Record {
                gateway: Arc::clone(&batch.gateway),
                epoch: batch.epoch,
                seq: event.seq,
                stream: index,
                key: start..middle,
                value: middle..bytes.len(),
                time: event.time,
                read_at: event.read_at,
                stamped: false,
                buried: batch.buried.contains(&event.seq),
                handed: false,
                sent: false,
            });
            Ok(())
        });
        if let Err(damaged) = walked {
            // Half a batch would make seqs that look like a loss of the rest.
            self.bytes.truncate(before.0);
            self.records.truncate(before.1);
            let end = batch.first_seq.saturating_add(u64::from(batch.count)).saturating_sub(1);
            self.dead.push(dead_letter(
                damaged.to_string(),
                format!(
                    "{}/{}/{}..{end} for {}",
                    batch.gateway, batch.epoch, batch.first_seq, stream.topic
                ),
                &batch.events,
            ));
        }
        if let Some(first) = self.records.get(before.1) {
            self.taken.push(first.read_at.unwrap_or(first.time));
        }
        self.places.push((before.1, batch.flow, batch.id));
        let end = (batch.flow, batch.id, batch.written, batch.number);
        match self.ends.iter_mut().find(|known| known.0 == batch.flow) {
            Some(known) => *known = end,
            None => self.ends.push(end),
        }
    }

    /// The batch that holds the record with this index.
    pub(super) fn place(&self, record: usize) -> Option<(flow::Hash, BatchId)> {
        let behind = self.places.partition_point(|(first, ..)| *first <= record);
        let (_, flow, batch) = self.places.get(behind.checked_sub(1)?)?;
        Some((*flow, *batch))
    }

    /// These were handed over in vain.
    pub(super) fn failed(&mut self, failures: &[Failure]) {
        for failure in failures {
            if let Some(record) = self.records.get_mut(failure.record) {
                record.handed = false;
            }
        }
    }

    /// All answers are there, and what was handed over and did not fail has
    /// reached the broker for good.
    pub(super) fn arrived(&mut self) {
        for record in &mut self.records {
            record.sent |= std::mem::take(&mut record.handed);
        }
    }

    pub(super) fn stream(&self, record: &Record) -> &Arc<Stream> {
        self.streams.get(record.stream).expect("records only point at streams of their load")
    }

    pub(super) fn key(&self, record: &Record) -> &[u8] {
        self.bytes.get(record.key.clone()).unwrap_or_default()
    }

    pub(super) fn value(&self, record: &Record) -> &[u8] {
        self.bytes.get(record.value.clone()).unwrap_or_default()
    }

    /// The dead letter of a record that the broker refuses alone.
    pub(super) fn letter(&self, record: &Record, reason: &str) -> DeadLetter {
        let origin = format!("{} for {}", record.id(), self.stream(record).topic);
        dead_letter(reason.to_owned(), origin, self.value(record))
    }
}

fn dead_letter(reason: String, origin: String, bytes: &[u8]) -> DeadLetter {
    DeadLetter {
        reason,
        origin,
        payload: bytes.get(..DEAD_LETTER_BYTES).unwrap_or(bytes).to_vec(),
        length: bytes.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Lane;

    #[test]
    fn lanes_of_a_stream_that_got_another_topic_keep_their_own() {
        let mut load = Load::default();
        for (topic, lane) in [("old", Lane::Bulk), ("new", Lane::Live), ("new", Lane::Live)] {
            let stream =
                Arc::new(Stream { name: "plant".into(), topic: topic.into(), create: None });
            let batch = Batch {
                id: BatchId(1),
                gateway: "gw1".into(),
                epoch: Epoch(1),
                written: Epoch(1),
                number: 1,
                flow: flow::Hash::of("plant", lane),
                first_seq: 1,
                count: 1,
                buried: Vec::new(),
                events: Vec::new(),
            };
            load.add(&stream, &batch);
        }
        let topics: Vec<&str> = load.streams.iter().map(|stream| stream.topic.as_str()).collect();
        assert_eq!(topics, ["old", "new"]);
    }
}
