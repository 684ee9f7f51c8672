//! A group whose signals are what the device's models hold: how it asks for them.

use tokio::time::Instant;

use super::super::connection::{Failure, Reply};
use super::super::plan::Span;
use super::super::requests::Requests;
use super::super::sunspec::{EXCEPTIONS, Found, Header, Map, SILENCES, Step};
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
            let found = sunspec.remember(map.clone(), Instant::now());
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
        let now = Instant::now();
        if self.requests.break_silence(now) {
            self.suspect();
        }
        if let Some(question) = self.sunspec.as_mut().and_then(|sunspec| sunspec.begin(now)) {
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
        let step = match answer {
            Ok(Reply::Words(words)) => sunspec.answered(Some(words), now),
            Err(Failure::Exception(code)) if is_silence(*code) => sunspec.unheard(SILENCES, now),
            Err(Failure::Exception(code)) => {
                reading.refusals += 1;
                if is_for_address(*code) || *code == ILLEGAL_FUNCTION {
                    sunspec.answered(None, now)
                } else {
                    reading.heard = true;
                    reading.refused = Some(format!("{} on asking for models", exception(*code)));
                    sunspec.unheard(EXCEPTIONS, now)
                }
            }
            Err(Failure::Late | Failure::Unexpected(_)) => sunspec.unheard(SILENCES, now),
            Ok(Reply::Bits(_)) | Err(Failure::Closed(_) | Failure::Unreachable(_)) => None,
        };
        if step.is_none() {
            if reading.heard {
                // It is asked again in the next cycle.
                self.requests.unable(now);
                field::clear(&mut reading.fields, Quality::DeviceError);
            }
            return reading.heard;
        }
        (reading.heard, reading.purpose) = (true, Purpose::Models);
        self.requests.answered(now);
        match step {
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
        let next = Requests::new(vec![question], self.limits);
        let others = std::mem::replace(&mut self.requests, next);
        self.requests.stand_in_for(others);
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
        let (mut stands, mut moved) = (false, false);
        for Header { signal, expected, fields } in &self.headers {
            let Some(header) = reading.fields.get(*signal) else { continue };
            match (&header.value, header.quality) {
                (Value::U64(header), _) if header == expected => stands = true,
                // There is another model, or none.
                (Value::U64(_), _) | (_, Some(Quality::BadAddress)) => moved = true,
                (_, why) => {
                    // Nobody knows whether its values still are what they were.
                    let own = reading.fields.get_mut(fields.clone()).unwrap_or_default();
                    field::withhold(own, why.unwrap_or(Quality::Timeout));
                }
            }
        }
        let now = Instant::now();
        if moved {
            field::clear(&mut reading.fields, Quality::DeviceError);
            let question = sunspec.moved(now);
            self.question(question);
            reading.next = Next::AtOnce;
        } else if stands {
            sunspec.settled(now);
        }
    }
}
