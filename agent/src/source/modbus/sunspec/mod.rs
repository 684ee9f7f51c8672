//! `SunSpec`: a device that says itself what its registers hold.
//!
//! A group with the key `sunspec` has no signals of its own. While the device's models are
//! being looked for (`survey`) its only request is the next question, so that time-outs,
//! back-off and turns are those of every group; when they are known its signals are laid
//! out (`layout`) of what the models hold (`model`), and all else is as if they had been
//! configured.
//!
//! What was found is remembered over restarts. It is compared with the device after each
//! start and silence, by one request, and the headers of the models are read with the
//! values: what stands elsewhere than it did is never taken for a value.

mod config;
mod definition;
mod layout;
mod model;
mod survey;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use config::Config;
pub(super) use layout::{Found, Wanted};
pub(super) use survey::Map;
use survey::{Answer, Survey};

use super::plan::{Limits, Span};
use super::refused::{FIRST_REST, Fact, LONGEST_REST};

/// What becomes of the group's requests.
#[derive(Debug)]
pub(super) enum Step {
    /// The next question, which is asked when the group has its turn again: at once.
    Ask(Span),
    /// The models are known.
    Read(Found),
    /// Nothing for now: there is no map.
    Rest(Span),
}

/// What the log says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// What the device is, and what of it is read.
    Note(String),
    Fault(String),
}

/// The models of a group's device: looked for, or known.
#[derive(Debug)]
pub(super) struct Sunspec {
    wanted: Wanted,
    base: Option<u16>,
    /// Most registers of a request.
    most: u16,
    survey: Option<Survey>,
    map: Option<Map>,
    /// The device may be another one: what is known is compared with it before it is read.
    doubted: bool,
    /// There was no map, or a wrong one: until when it is left alone, and for how long.
    rests: Option<(Instant, Duration)>,
    /// What is to be told, and what was last.
    word: Option<Word>,
    said: Option<Word>,
    /// The map is not what was last saved.
    pub(super) unsaved: bool,
    /// What the device refuses, while its signals are not read.
    pub(super) facts: Vec<Fact>,
}

impl Sunspec {
    pub(super) fn new(config: &Config, limits: &Limits) -> Self {
        Self {
            wanted: Wanted::new(config, limits.registers),
            base: config.base,
            most: limits.registers,
            survey: Some(Survey::new(config.base, limits.registers)),
            map: None,
            doubted: false,
            rests: None,
            word: None,
            said: None,
            unsaved: false,
            facts: Vec::new(),
        }
    }

    /// What is asked now.
    pub(super) fn question(&self) -> Option<Span> {
        self.survey.as_ref().map(Survey::question)
    }

    /// It was found in an earlier run.
    pub(super) fn remember(&mut self, map: Map) -> Found {
        let found = self.wanted.find(&map);
        (self.map, self.survey, self.doubted) = (Some(map), None, true);
        found
    }

    pub(super) const fn map(&self) -> Option<&Map> {
        self.map.as_ref()
    }

    /// The group asks for models, and reads no values.
    pub(super) const fn is_surveying(&self) -> bool {
        self.survey.is_some()
    }

    /// The device may be another one.
    pub(super) const fn doubt(&mut self) {
        self.doubted = true;
        self.rests = None;
    }

    /// A cycle begins; gives the question where the device is to be looked at again: also
    /// the half of a search says nothing about another device.
    pub(super) fn begin(&mut self) -> Option<Span> {
        let survey = match (&self.survey, &self.map) {
            _ if !std::mem::take(&mut self.doubted) => return None,
            (None, Some(known)) => Survey::again(self.base, self.most, known.clone()),
            (Some(survey), _) if survey.is_begun() => Survey::new(self.base, self.most),
            _ => return None,
        };
        Some(self.survey.insert(survey).question())
    }

    /// Nothing is asked for now.
    pub(super) fn rests(&self, now: Instant) -> bool {
        self.is_surveying() && self.rests.is_some_and(|(until, _)| now < until)
    }

    /// The device's models stand elsewhere than they did: they are looked for anew, but
    /// not over and over where that finds the same.
    pub(super) fn moved(&mut self, now: Instant) -> Span {
        self.word = Some(Word::Note(
            "the device's models are not where they were: they are looked for anew".to_owned(),
        ));
        self.rests = self.rests.map(|(_, rest)| (now + rest, rest));
        self.survey.insert(Survey::new(self.base, self.most)).question()
    }

    /// The values stood where they were expected.
    pub(super) const fn settled(&mut self) {
        self.rests = None;
    }

    /// The question was answered with these registers, or refused.
    pub(super) fn answered(&mut self, words: Option<&[u16]>, now: Instant) -> Option<Step> {
        let survey = self.survey.as_mut()?;
        let answer = match words {
            Some(words) => survey.answered(words),
            None => survey.refused(),
        };
        Some(match answer {
            Answer::Ask => Step::Ask(survey.question()),
            Answer::Found(map, broken) => {
                self.survey = None;
                self.rests = Some((now, self.rest()));
                self.unsaved |= self.map.as_ref() != Some(&map);
                let found = self.wanted.find(&map);
                self.word = Some(found.word(&map, broken.as_deref()));
                self.map = Some(map);
                Step::Read(found)
            }
            Answer::Nowhere => {
                let rest = self.rest();
                self.rests = Some((now + rest, rest));
                self.word = Some(Word::Fault(self.nowhere()));
                Step::Rest(self.survey.insert(Survey::new(self.base, self.most)).question())
            }
        })
    }

    /// How long it is left alone the next time: twice as long each time.
    fn rest(&self) -> Duration {
        self.rests.map_or(FIRST_REST, |(_, rest)| rest.saturating_mul(2).min(LONGEST_REST))
    }

    fn nowhere(&self) -> String {
        let place = match self.base {
            Some(base) => format!("holding {base}: leave `base` out to have it looked for"),
            None => "holding 40000, 50000 and 0: its manual names the register, for `base`, and \
                     the unit, and whether SunSpec is to be switched on"
                .to_owned(),
        };
        format!(
            "the device has no SunSpec map at {place}; it is asked again, each hour at the latest"
        )
    }

    /// What is new to tell.
    pub(super) fn take_word(&mut self) -> Option<Word> {
        let word = self.word.take().filter(|word| self.said.as_ref() != Some(word))?;
        self.said = Some(word.clone());
        Some(word)
    }
}

/// What the device says of itself, in words.
fn who(map: &Map) -> String {
    let texts = ["Mn", "Md"].into_iter().filter_map(|name| map.text(name));
    let mut who = texts.collect::<Vec<_>>().join(" ");
    if let Some(number) = map.text("SN") {
        who = format!("{who}, serial number {number}");
    }
    who
}

/// The name under which the fault of a group's models stands.
pub(super) fn subject(group: &str) -> Arc<str> {
    format!("{group} sunspec").into()
}

/// Whether a text defines a model.
#[cfg(test)]
pub(super) fn is_definition(text: &str) -> bool {
    definition::model(text).is_ok()
}
