//! A group whose signals are what the device's models hold: how it asks for them.

use tokio::time::Instant;

use super::super::connection::{Failure, Reply};
use super::super::plan::Span;
use super::super::requests::Requests;
use super::super::sunspec::{Found, Map, Step};
use super::{Next, Poll, Purpose, Reading, exception, field, is_for_address, is_silence};
use crate::event::{Field, Quality, Value};

/// The device has no such function: it has no holding registers at all.
const ILLEGAL_FUNCTION: u8 = 0x01;

impl Poll {
    /// The device's models, once they are known.
    pub(in super::super) fn map(&self) -> Option<&Map> {
        self.sunspec.as_ref()?.map()
    }

    pub(super) fn remember_map(&mut self, map: Option<&Map>) {
        if let (Some(sunspec), Some(map)) = (&mut self.sunspec, map) {
            let found = sunspec.remember(map.clone());
            self.lay_out(found);
        }
    }

    /// The device may be another one when it answers again, or at another end.
    pub(super) fn suspect(&mut self) {
        if let Some(sunspec) = &mut self.sunspec {
            sunspec.doubt();
        }
    }

    pub(super) fn rests(&self, now: Instant) -> bool {
        self.sunspec.as_ref().is_some_and(|sunspec| sunspec.rests(now))
    }

    /// Before a cycle: a device that may be another one is asked first whether it is. So
    /// is one that was silent.
    pub(super) fn look_again(&mut self) {
        if self.requests.break_silence(Instant::now()) {
            self.suspect();
        }
        if let Some(question) = self.sunspec.as_mut().and_then(super::Sunspec::begin) {
            self.question(question);
        }
    }

    /// Takes an answer to a question for models; false where this was none, or where
    /// silence is to be treated as any other.
    pub(super) fn surveyed(
        &mut self,
        answer: &Result<Reply, Failure>,
        reading: &mut Reading,
    ) -> bool {
        let Some(sunspec) = self.sunspec.as_mut().filter(|sunspec| sunspec.is_surveying()) else {
            return false;
        };
        let now = Instant::now();
        let words = match answer {
            Ok(Reply::Words(words)) => Some(words.as_slice()),
            Err(Failure::Exception(code)) if is_silence(*code) => return false,
            Err(Failure::Exception(code)) => {
                reading.refusals += 1;
                if !is_for_address(*code) && *code != ILLEGAL_FUNCTION {
                    // It is asked again in the next cycle.
                    (reading.heard, reading.purpose) = (true, Purpose::Models);
                    reading.refused = Some(format!("{} on asking for models", exception(*code)));
                    self.requests.unable(now);
                    return true;
                }
                None
            }
            Ok(Reply::Bits(_)) | Err(_) => return false,
        };
        (reading.heard, reading.purpose) = (true, Purpose::Models);
        self.requests.answered(now);
        match sunspec.answered(words, now) {
            Some(Step::Ask(question)) => {
                self.question(question);
                reading.next = Next::AtOnce;
            }
            Some(Step::Read(found)) => {
                if found.fields > 0 {
                    reading.next = Next::AtOnce;
                }
                self.lay_out(found);
                let kept = self.sunspec.as_mut().map(|s| std::mem::take(&mut s.facts));
                self.requests.remember(kept.into_iter().flatten(), now);
            }
            Some(Step::Rest(question)) => self.question(question),
            None => {}
        }
        true
    }

    /// From now on this is all that the group asks.
    fn question(&mut self, question: Span) {
        let facts: Vec<_> = self.requests.facts().collect();
        if let Some(sunspec) = self.sunspec.as_mut().filter(|_| !facts.is_empty()) {
            sunspec.facts = facts;
        }
        self.requests = Requests::new(vec![question], self.limits);
    }

    /// The signals are these from now on.
    fn lay_out(&mut self, found: Found) {
        let Found { signals, spans, fields, headers, texts, .. } = found;
        self.requests = Requests::new(spans, self.limits);
        (self.signals, self.read, self.headers) = (signals, fields, headers);
        let text =
            |(name, text)| Field { name, unit: None, value: Value::Text(text), quality: None };
        self.texts = texts.into_iter().map(text).collect();
    }

    /// At the end of a cycle: values whose factors were read beside them, and whether the
    /// models still stand where they did. Where they do not, there is no value.
    pub(super) fn settle(&mut self, reading: &mut Reading) {
        let is_of_values = reading.purpose == Purpose::Values;
        let Some(sunspec) = self.sunspec.as_mut().filter(|_| is_of_values) else { return };
        if sunspec.is_surveying() {
            return;
        }
        field::scale(&self.signals, &mut reading.fields);
        let stands = |(index, expected): &(usize, u64)| match reading.fields.get(*index)?.value {
            Value::U64(header) => Some(header == *expected),
            _ => None,
        };
        let stands: Vec<bool> = self.headers.iter().filter_map(stands).collect();
        if stands.contains(&false) {
            for field in &mut reading.fields {
                (field.value, field.quality) = (Value::Null, Some(Quality::DeviceError));
            }
            let question = sunspec.moved(Instant::now());
            self.question(question);
            reading.next = Next::AtOnce;
        } else if !stands.is_empty() {
            sunspec.settled();
        }
    }
}
