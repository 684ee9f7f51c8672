//! `SunSpec`: a device that says itself what its registers hold.
//!
//! A group with the key `sunspec` has no signals of its own. While the device's models are
//! being looked for (`survey`) its only request is the next question, so that time-outs,
//! back-off and turns are those of every group; when they are known its signals are laid
//! out (`layout`) of what the models hold (`model`), and all else is as if they had been
//! configured.
//!
//! What was found is remembered over restarts. It is compared with the device after each
//! start and silence, each hour, and before values that are read seldom, by two requests;
//! and the headers of the models are read with the values: what stands elsewhere than it
//! did is never taken for a value.
//!
//! Not every device refuses what it does not have: some say nothing. One that says nothing
//! twice at the same place behind something that it answered has nothing there.

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
pub(super) use layout::{Found, Header, Wanted};
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

/// When something is done again, and how long it was left alone.
type Rest = (Instant, Duration);

/// So often is asked for the same thing before its silence says that it is not there: once
/// more than a device can miss by chance.
pub(super) const SILENCES: u32 = 2;

/// The same of exceptions that say nothing about addresses: more, for they come at once
/// and a device that is starting gives some of them.
pub(super) const EXCEPTIONS: u32 = 5;

/// A group that is read less often than this may meet another device in each cycle. A
/// quicker one would have met its silence.
const LONG_AGO: Duration = Duration::from_mins(1);

/// The place of which the device says nothing.
#[derive(Debug)]
struct Unheard {
    place: Span,
    times: u32,
    /// It is asked for no more.
    is_enough: bool,
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
    rests: Option<Rest>,
    /// The list of models broke off, or nothing of it is read: when it is read again.
    short: Option<Rest>,
    /// When the models were last found, and when values last stood where they were expected.
    found: Option<Instant>,
    seen: Option<Instant>,
    unheard: Option<Unheard>,
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
            short: None,
            found: None,
            seen: None,
            unheard: None,
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
    pub(super) fn remember(&mut self, map: Map, now: Instant) -> Found {
        let found = self.wanted.find(&map);
        self.note_short(&map, &found, now);
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
    pub(super) fn begin(&mut self, now: Instant) -> Option<Span> {
        let doubted = std::mem::take(&mut self.doubted);
        let question = self.question();
        let is_in_vain = |at: &Unheard| at.is_enough && Some(at.place) == question;
        if self.unheard.as_ref().is_some_and(is_in_vain)
            && let Some(survey) = self.survey.as_mut()
            && survey.elsewhere()
        {
            self.unheard = None;
            self.word = Some(Word::Note(UNHEARD.to_owned()));
            return Some(survey.question());
        }
        let survey = match (&self.survey, &self.map) {
            (Some(survey), _) if doubted && survey.is_begun() => survey.restarted(),
            (None, Some(known)) if !doubted && self.short.is_some_and(|(at, _)| at <= now) => {
                Survey::at(self.base, self.most, known.base)
            }
            (None, Some(known)) if doubted || self.is_long_ago(now) => {
                Survey::again(self.base, self.most, known.clone())
            }
            _ => return None,
        };
        Some(self.survey.insert(survey).question())
    }

    /// The device may have changed without a silence that anybody saw.
    fn is_long_ago(&self, now: Instant) -> bool {
        let is_past = |at: Option<Instant>, time| at.is_some_and(|at| now >= at + time);
        is_past(self.seen, LONG_AGO) || is_past(self.found, LONGEST_REST)
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
        let survey = match &self.map {
            Some(known) => Survey::at(self.base, self.most, known.base),
            None => Survey::new(self.base, self.most),
        };
        self.survey.insert(survey).question()
    }

    /// The values stood where they were expected.
    pub(super) const fn settled(&mut self, now: Instant) {
        self.rests = None;
        self.seen = Some(now);
    }

    /// The question met silence, or an exception that says nothing about its address. Gives
    /// what comes of that once it is `enough`: behind something that was answered there is
    /// nothing at this place.
    pub(super) fn unheard(&mut self, enough: u32, now: Instant) -> Option<Step> {
        let survey = self.survey.as_ref()?;
        let place = survey.question();
        let before = self.unheard.take().filter(|unheard| unheard.place == place);
        let times = before.map_or(1, |unheard| unheard.times.saturating_add(1));
        let is_enough = times >= enough;
        self.unheard = Some(Unheard { place, times, is_enough });
        let is_at_break = || self.map.as_ref().is_some_and(|known| survey.is_at_break(known));
        if survey.is_under_way() && (is_enough || is_at_break()) {
            return self.answered(None, now);
        }
        None
    }

    /// The question was answered with these registers, or refused.
    pub(super) fn answered(&mut self, words: Option<&[u16]>, now: Instant) -> Option<Step> {
        let survey = self.survey.as_mut()?;
        let is_check = survey.is_check();
        let answer = match words {
            Some(words) => survey.answered(words),
            None => survey.refused(),
        };
        Some(match answer {
            Answer::Ask => Step::Ask(survey.question()),
            Answer::Found(map, broken) => {
                self.survey = None;
                self.rests = Some((now, longer(self.rests)));
                (self.found, self.seen, self.unheard) = (Some(now), Some(now), None);
                self.unsaved |= self.map.as_ref() != Some(&map);
                let found = self.wanted.find(&map);
                if !is_check {
                    self.note_short(&map, &found, now);
                }
                self.word = Some(found.word(&map, broken.as_deref()));
                self.map = Some(map);
                Step::Read(found)
            }
            Answer::Nowhere => {
                let rest = longer(self.rests);
                self.rests = Some((now + rest, rest));
                self.unheard = None;
                self.word = Some(Word::Fault(self.nowhere()));
                Step::Rest(self.survey.insert(Survey::new(self.base, self.most)).question())
            }
        })
    }

    /// What broke off may be whole another time, and a device of which nothing is read may
    /// have something to read: nobody would see it otherwise.
    fn note_short(&mut self, map: &Map, found: &Found, now: Instant) {
        let rest = longer(self.short);
        self.short = (!map.ends || found.fields == 0).then_some((now + rest, rest));
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

/// Twice as long each time.
fn longer(rest: Option<Rest>) -> Duration {
    rest.map_or(FIRST_REST, |(_, rest)| rest.saturating_mul(2).min(LONGEST_REST))
}

/// Why another place is tried.
const UNHEARD: &str = "the device does not answer where its SunSpec map is looked for, at holding \
                       40000, 50000 and 0 in turn: its manual names the register, for `base`";

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
