//! Is it alive, is it ready: yes, or why not. Pure.

use serde::Serialize;

use super::Board;
use crate::forward::Aside;
use crate::pulse::SILENCE;
use crate::supervise::Standing;

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Reason {
    /// `buffer`, `kafka`, or `source`, `device` or `stream` and its name.
    pub part: String,
    pub what: String,
}

impl Reason {
    fn new(part: &str, what: impl Into<String>) -> Self {
        Self { part: part.to_owned(), what: what.into() }
    }
}

/// What does not get on though it should: a restart, or a person, may help. A
/// line that is down or a buffer that is full is none of it: that is what the
/// agent is for.
pub(super) fn ailing(board: &Board) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for pulse in board.seen.borrow().pulses.iter().filter(|pulse| pulse.silent() > SILENCE) {
        let silent = pulse.silent().as_secs();
        reasons.push(Reason::new(pulse.stage(), format!("no sign of life for {silent} s")));
    }
    reasons.extend(wrong_with_file(board));
    reasons
}

/// What a person should see though it is ready: the streams whose topics do not take
/// their events, which are kept, and the devices that do not answer. All others go on;
/// no restart helps.
pub(super) fn worth_a_look(board: &Board) -> Vec<Reason> {
    let aside = &board.forward.borrow().aside;
    let reason = |one: &Aside| {
        let what = format!("stands aside, its events are kept: topic {}: {}", one.topic, one.cause);
        Reason::new(&format!("stream {}", one.stream), what)
    };
    let mut all: Vec<Reason> = aside.iter().map(reason).collect();
    for source in &board.seen.borrow().sources {
        let state = source.borrow();
        let ill = state.devices.iter().filter(|(_, device)| device.standing != Standing::Up);
        all.extend(ill.map(|(name, device)| {
            let what = format!("{}: {}", device.standing.as_str(), device.reason);
            Reason::new(&format!("device {}/{name}", state.source), what)
        }));
    }
    all
}

/// What keeps it from taking data in or from delivering it.
pub(super) fn unready(board: &Board) -> Vec<Reason> {
    let mut reasons = ailing(board);
    let buffer = board.store.stats().borrow().clone();
    if buffer.held_back {
        reasons.push(Reason::new("buffer", "it is full, sources are held back"));
    }
    {
        let kafka = board.forward.borrow();
        let error = kafka.last_error.as_deref();
        if !kafka.is_reached() {
            let what = match error {
                Some(error) => format!("not reached ({}): {error}", kafka.state),
                None => format!("not reached yet ({})", kafka.state),
            };
            reasons.push(Reason::new("kafka", what));
        } else if let (Some(error), 1..) = (error, buffer.batches) {
            // What was said of an earlier try does not stand in the way of
            // nothing.
            reasons.push(Reason::new("kafka", format!("cannot deliver: {error}")));
        }
    }
    for source in &board.seen.borrow().sources {
        let state = source.borrow();
        if !state.up {
            let what = state.faults.get("").map_or("is not connected yet", String::as_str);
            reasons.push(Reason::new(&format!("source {}", state.source), what));
        }
    }
    reasons
}

fn wrong_with_file(board: &Board) -> Option<Reason> {
    if board.store.is_damaged() {
        return Some(Reason::new("buffer", "its file is damaged and is about to be salvaged"));
    }
    let failing = board.store.stats().borrow().failing.clone()?;
    Some(Reason::new("buffer", format!("cannot be written: {failing}")))
}
