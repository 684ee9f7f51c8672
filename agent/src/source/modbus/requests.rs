//! The requests of a group: which one is next, and the search for what the
//! device refuses of them. No clock, no socket: `group` asks and says what came.
//!
//! A request is refused as a whole, whichever of its addresses it is for. One
//! that reads more than one place is therefore split in two, at the middle one of
//! its holes, for an address that nobody wants is the likelier to be missing, or
//! where it has none between the places in its middle; and so on with each part
//! that is refused. The search ends with facts ([`Fact`]): a place that is refused
//! alone is bad; where both parts are answered and the whole is not, they are read
//! apart from then on. Then all is planned anew around the facts, so that what is
//! left is read in as few requests as before. Each fact costs at most
//! 1 + 4 ⌈log₂ places⌉ requests: [`EXTRA`] of them in a cycle, and while the bus has
//! nothing else to do one after the other in between ([`Requests::step`]).

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::plan::{Limits, Request, Span, exact, plan};
use super::refused::{Fact, Refused};
use super::schedule::Health;

/// Requests of a search in one cycle: two splits. On a slow line they take some
/// 200 ms, less than the one time-out that every device of a bus bears with; a
/// place among 125 is found within four cycles.
pub(super) const EXTRA: usize = 4;

/// A request, and whether it is answered: each has a back-off of its own, so
/// that one which a device never answers costs nothing of the others.
#[derive(Debug)]
struct Ask {
    request: Request,
    health: Health,
}

/// A part of a request that was refused, not yet answered itself.
#[derive(Debug)]
struct Trial {
    ask: Ask,
    /// Index of the split that it is a part of.
    split: usize,
}

/// A refused request's two parts.
#[derive(Debug)]
struct Split {
    /// Where the second begins.
    at: Span,
    is_half_answered: bool,
}

/// What is being asked.
#[derive(Debug)]
enum Current {
    /// The planned request at `at`.
    Planned,
    Trial(usize),
    Doubt(Fact, Request),
}

/// What of that which was refused is answered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Return {
    None,
    /// With a module that is plugged in again many places come back: the others are asked
    /// as soon as can be.
    Some,
}

/// When it is asked.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// The group is read.
    Cycle,
    /// A search goes on between two cycles.
    Step,
}

/// How the places of a group are read.
#[derive(Debug)]
pub(super) struct Requests {
    /// Of all signals, in the order of the configuration.
    spans: Vec<Span>,
    limits: Limits,
    planned: Vec<Ask>,
    trials: Vec<Trial>,
    splits: Vec<Split>,
    refused: Refused,
    /// The plan does not follow from what is refused any more.
    outdated: bool,
    returned: Return,
    /// What is refused has changed since it was last told, and since it was saved.
    untold: bool,
    unsaved: bool,
    /// Of this cycle: the next planned request, and how many went beyond the plan.
    at: usize,
    extra: usize,
    turn: Turn,
    current: Option<Current>,
}

impl Requests {
    pub(super) fn new(spans: Vec<Span>, limits: Limits) -> Self {
        let mut requests = Self {
            spans,
            limits,
            planned: Vec::new(),
            trials: Vec::new(),
            splits: Vec::new(),
            refused: Refused::default(),
            outdated: false,
            returned: Return::None,
            untold: false,
            unsaved: false,
            at: 0,
            extra: 0,
            turn: Turn::Cycle,
            current: None,
        };
        requests.plan();
        requests
    }

    /// These come in the place of `others`: a device that stays silent is asked as seldom
    /// as before.
    pub(super) fn stand_in_for(&mut self, others: Self) {
        if others.are_silent()
            && let (Some(ask), Some(silent)) =
                (self.planned.first_mut(), others.planned.into_iter().next())
        {
            ask.health = silent.health;
            ask.health.wake();
        }
    }

    /// What was found in an earlier run; what is not of this group is passed over.
    pub(super) fn remember(&mut self, facts: impl Iterator<Item = Fact>, now: Instant) {
        let own: BTreeSet<Span> = self.spans.iter().copied().collect();
        for fact in facts.filter(|fact| own.contains(&fact.span())) {
            self.refused.learn(fact, now);
            self.untold = true;
        }
        if !self.refused.is_empty() {
            self.plan();
        }
    }

    pub(super) fn facts(&self) -> impl Iterator<Item = Fact> {
        self.refused.facts()
    }

    /// The places that the device refuses.
    pub(super) fn bad(&self) -> impl Iterator<Item = Span> {
        self.refused.bad()
    }

    /// Where requests are cut for what the device does not give at once, and how many
    /// registers or bits that nobody needs lie before it.
    pub(super) fn cuts(&self) -> impl Iterator<Item = (Span, u32)> {
        self.refused.cuts().map(|cut| {
            let before = self.spans.iter().filter(|span| span.table == cut.table && **span < cut);
            let end = before.map(|span| span.end()).max().unwrap_or_default();
            (cut, u32::from(cut.address).saturating_sub(end))
        })
    }

    /// The signals whose place the device refuses.
    pub(super) fn bad_signals(&self) -> impl Iterator<Item = usize> {
        // With nothing refused this looks at no signal.
        let spans = if self.refused.is_empty() { [].as_slice() } else { &self.spans };
        let all = spans.iter().enumerate();
        all.filter(|(_, span)| self.refused.is_bad(**span)).map(|(index, _)| index)
    }

    /// Whether there is another thing to tell than last time. A search is told when
    /// it has ended.
    pub(super) fn take_untold(&mut self) -> bool {
        // A part that is never answered holds up no word about the others.
        let is_over = self.trials.iter().all(|trial| trial.ask.health.is_silent());
        is_over && std::mem::take(&mut self.untold)
    }

    /// Whether there is something else to save than last time.
    pub(super) fn take_unsaved(&mut self) -> bool {
        std::mem::take(&mut self.unsaved)
    }

    pub(super) fn count(&self) -> usize {
        self.planned.len()
    }

    /// The device refuses every place.
    pub(super) fn reads_nothing(&self) -> bool {
        self.planned.is_empty() && self.trials.is_empty()
    }

    /// None was answered when it was last asked.
    pub(super) fn are_silent(&self) -> bool {
        self.asks().all(|ask| ask.health.is_silent())
    }

    /// None was, and now one is asked again.
    pub(super) fn break_silence(&self, now: Instant) -> bool {
        self.are_silent() && self.asks().any(|ask| !ask.health.rests(now))
    }

    /// At least one was not.
    pub(super) fn is_one_silent(&self) -> bool {
        self.asks().any(|ask| ask.health.is_silent())
    }

    /// At least one was not, and is asked again in the next cycle to see if it still is.
    pub(super) fn is_one_woken(&self) -> bool {
        self.asks().any(|ask| ask.health.is_woken())
    }

    /// The device has answered something: what is silent is tried again, and so is
    /// what it refused, for it may have been changed or have been starting.
    pub(super) fn wake(&mut self, now: Instant) {
        self.planned.iter_mut().for_each(|ask| ask.health.wake());
        self.trials.iter_mut().for_each(|trial| trial.ask.health.wake());
        self.doubt(now);
    }

    /// What is refused is asked again, one place in each cycle.
    pub(super) fn doubt(&mut self, now: Instant) {
        self.refused.doubt(now);
    }

    /// A cycle begins.
    pub(super) fn begin(&mut self) {
        if self.outdated && self.trials.is_empty() {
            self.plan();
        }
        (self.at, self.extra, self.turn, self.current) = (0, 0, Turn::Cycle, None);
    }

    /// Whether there is something to find out between two cycles.
    pub(super) fn is_searching(&self, now: Instant) -> bool {
        let awake = self.trials.iter().any(|trial| !trial.ask.health.rests(now));
        awake || (!self.waits_for_plan() && self.refused.doubtful(now).is_some())
    }

    /// Whether a search has ended with another plan.
    pub(super) fn has_found(&self, now: Instant) -> bool {
        self.outdated && self.trials.is_empty() && !self.is_searching(now)
    }

    /// Between two cycles one request of a search may be sent, and none that is planned.
    pub(super) fn step(&mut self) {
        (self.at, self.extra) = (self.planned.len(), EXTRA - 1);
        (self.turn, self.current) = (Turn::Step, None);
    }

    /// What is to be asked now: what is planned and does not rest, then the parts of
    /// what was refused, and if there are none, something that was refused before.
    pub(super) fn next(&mut self, now: Instant) -> Option<&Request> {
        self.current = self.choose(now);
        self.current()
    }

    /// What is being asked.
    pub(super) fn current(&self) -> Option<&Request> {
        match self.current.as_ref()? {
            Current::Planned => self.planned.get(self.at).map(|ask| &ask.request),
            Current::Trial(index) => self.trials.get(*index).map(|trial| &trial.ask.request),
            Current::Doubt(_, request) => Some(request),
        }
    }

    /// Whether it is asked besides what is read, to see if it is refused still.
    pub(super) const fn is_doubt(&self) -> bool {
        matches!(self.current, Some(Current::Doubt(..)))
    }

    fn choose(&mut self, now: Instant) -> Option<Current> {
        while let Some(ask) = self.planned.get(self.at) {
            if !ask.health.rests(now) {
                return Some(Current::Planned);
            }
            self.at += 1;
        }
        if !self.trials.is_empty() {
            if self.extra >= EXTRA {
                return None;
            }
            // The largest first: most values wait for it.
            let awake = self.trials.iter().enumerate().filter(|(_, t)| !t.ask.health.rests(now));
            let largest = awake.max_by_key(|(_, trial)| trial.ask.request.signals.len());
            if let Some((index, _)) = largest {
                return Some(Current::Trial(index));
            }
        }
        // One in a cycle, and none beside a search, unless that only waits for parts
        // that are never answered. As many as can be where one was answered again.
        let most = match (self.returned, self.turn) {
            (Return::None, Turn::Cycle) => 1,
            (Return::Some, _) | (_, Turn::Step) => EXTRA,
        };
        if self.extra >= most || self.waits_for_plan() {
            return None;
        }
        let Some(fact) = self.refused.doubtful(now) else {
            self.returned = Return::None;
            return None;
        };
        self.extra += 1;
        let Some(request) = self.question(fact) else {
            self.refused.still(fact, now);
            return None;
        };
        Some(Current::Doubt(fact, request))
    }

    /// What is refused is another thing than the plan says, and is asked again only when
    /// that is mended.
    const fn waits_for_plan(&self) -> bool {
        self.outdated && self.trials.is_empty() && matches!(self.returned, Return::None)
    }

    /// The request that is refused if the fact still holds; `None` where the fact
    /// changes nothing.
    fn question(&self, fact: Fact) -> Option<Request> {
        let is_it = |index: usize| self.spans.get(index) == Some(&fact.span());
        if matches!(fact, Fact::Bad(_)) {
            let signals: Vec<usize> = (0..self.spans.len()).filter(|i| is_it(*i)).collect();
            return exact(&self.spans, &signals);
        }
        let mut others = self.refused.clone();
        others.forget(fact);
        let whole = plan(&self.spans, self.limits, &others);
        let mut whole = whole.into_iter();
        let over = whole.find(|request| request.signals.iter().any(|(index, _)| is_it(*index)))?;
        let (first, _) = *over.signals.first()?;
        (!is_it(first)).then_some(over)
    }

    /// It was answered with values.
    pub(super) fn answered(&mut self, now: Instant) {
        match self.current.take() {
            Some(Current::Planned) => self.heard(),
            Some(Current::Trial(index)) => self.accepted(index, now),
            Some(Current::Doubt(fact, request)) => {
                self.refused.forget(fact);
                // Where one place is answered again, others may be; each is asked once.
                if std::mem::replace(&mut self.returned, Return::Some) == Return::None {
                    self.refused.doubt(now);
                }
                if !self.trials.is_empty() {
                    // There is no other plan until they are answered.
                    if matches!(fact, Fact::Bad(_)) {
                        self.read_on(request);
                    }
                } else if self.planned.is_empty() {
                    // Nothing is read that another search could hold up.
                    self.refused.forget_bad();
                }
                (self.outdated, self.untold, self.unsaved) = (true, true, true);
            }
            None => {}
        }
    }

    /// It was refused for its addresses.
    pub(super) fn refused(&mut self, now: Instant) {
        let request = match self.current.take() {
            Some(Current::Planned) if self.at < self.planned.len() => {
                self.planned.remove(self.at).request
            }
            Some(Current::Trial(index)) if index < self.trials.len() => {
                self.extra += 1;
                self.trials.swap_remove(index).ask.request
            }
            Some(Current::Doubt(fact, _)) => return self.refused.still(fact, now),
            _ => return,
        };
        self.outdated = true;
        if let Some((parts, at)) = self.split(&request) {
            self.try_apart(parts, at);
        } else if let Some(span) = request.signals.first().and_then(|(i, _)| self.spans.get(*i)) {
            self.learn(Fact::Bad(*span), now);
        }
    }

    /// Both parts are asked; one that looks like its answer never is, but its own parts as
    /// if it had been refused.
    fn try_apart(&mut self, parts: [Request; 2], at: Span) {
        let split = self.splits.len();
        self.splits.push(Split { at, is_half_answered: false });
        for request in parts {
            if request.query(0).looks_like_answer()
                && let Some((parts, at)) = self.split(&request)
            {
                self.try_apart(parts, at);
            } else {
                let ask = Ask { request, health: Health::default() };
                self.trials.push(Trial { ask, split });
            }
        }
    }

    /// It was refused for something else than its addresses.
    pub(super) fn unable(&mut self, now: Instant) {
        match self.current.take() {
            Some(Current::Planned) => self.heard(),
            // Its addresses are not at fault: it is asked as any other.
            Some(Current::Trial(index)) => self.accepted(index, now),
            Some(Current::Doubt(fact, _)) => self.refused.still(fact, now),
            None => {}
        }
    }

    /// There was no answer: it rests, as one of `sharers`. The cycle is over.
    pub(super) fn failed(&mut self, now: Instant, sharers: u32) {
        let ask = match self.current.take() {
            Some(Current::Planned) => self.planned.get_mut(self.at),
            Some(Current::Trial(index)) => self.trials.get_mut(index).map(|trial| &mut trial.ask),
            Some(Current::Doubt(fact, _)) => return self.refused.still(fact, now),
            None => None,
        };
        if let Some(ask) = ask {
            ask.health.failed(now, sharers);
        }
    }

    /// What was not asked in this cycle, or not answered at its end.
    pub(super) fn left(&self) -> impl Iterator<Item = &Request> {
        let planned = self.planned.iter().skip(self.at);
        planned.chain(self.trials.iter().map(|trial| &trial.ask)).map(|ask| &ask.request)
    }

    /// What a search has not come to yet.
    pub(super) fn undecided(&self) -> impl Iterator<Item = &Request> {
        let heard = self.trials.iter().filter(|trial| !trial.ask.health.is_silent());
        heard.map(|trial| &trial.ask.request)
    }

    fn asks(&self) -> impl Iterator<Item = &Ask> {
        self.planned.iter().chain(self.trials.iter().map(|trial| &trial.ask))
    }

    /// The planned request has been answered somehow.
    fn heard(&mut self) {
        if let Some(ask) = self.planned.get_mut(self.at) {
            ask.health.answered();
            self.at += 1;
        }
    }

    /// The device has these addresses: the trial is no longer one.
    fn accepted(&mut self, index: usize, now: Instant) {
        if index >= self.trials.len() {
            return;
        }
        let Trial { ask: Ask { request, .. }, split } = self.trials.swap_remove(index);
        self.read_on(request);
        self.extra += 1;
        if let Some(split) = self.splits.get_mut(split)
            && std::mem::replace(&mut split.is_half_answered, true)
        {
            let fact = Fact::Cut(split.at);
            self.learn(fact, now);
        }
    }

    /// It is asked from the next cycle on; in this one it was.
    fn read_on(&mut self, request: Request) {
        self.planned.push(Ask { request, health: Health::default() });
        self.at = self.planned.len();
    }

    fn learn(&mut self, fact: Fact, now: Instant) {
        self.refused.learn(fact, now);
        (self.outdated, self.untold, self.unsaved) = (true, true, true);
    }

    /// Two parts of a request, and where the second begins; `None` where it reads
    /// one place only.
    fn split(&self, request: &Request) -> Option<([Request; 2], Span)> {
        let (mut joints, mut holes) = (Vec::new(), Vec::new());
        let (mut before, mut end) = (None, 0);
        for (at, (index, _)) in request.signals.iter().enumerate() {
            let span = *self.spans.get(*index)?;
            if before.is_some_and(|before| before != span) {
                joints.push((at, span));
                if u32::from(span.address) > end {
                    holes.push((at, span));
                }
            }
            (before, end) = (Some(span), span.end().max(end));
        }
        let joints = if holes.is_empty() { joints } else { holes };
        let (at, span) = *joints.get(joints.len() / 2)?;
        let signals: Vec<usize> = request.signals.iter().map(|(index, _)| *index).collect();
        let (left, right) = signals.split_at_checked(at)?;
        Some(([exact(&self.spans, left)?, exact(&self.spans, right)?], span))
    }

    /// Plans around what is refused. A request that stays the same keeps its rest.
    fn plan(&mut self) {
        let mut old = std::mem::take(&mut self.planned);
        let mut ask = |request| {
            let same = old.iter_mut().find(|ask| ask.request == request);
            let health = same.map(|ask| std::mem::take(&mut ask.health)).unwrap_or_default();
            Ask { request, health }
        };
        let requests = plan(&self.spans, self.limits, &self.refused);
        self.planned = requests.into_iter().map(&mut ask).collect();
        self.splits.clear();
        self.outdated = false;
    }
}

#[cfg(test)]
#[path = "requests_tests.rs"]
mod tests;
