//! The names of fields, made once and shared by all events.
//!
//! Messages of one kind bring the same names in the same order, so that the
//! name that came next the last time is nearly always the one that comes now:
//! comparing with it costs less than a hash.

use std::collections::HashSet;
use std::sync::Arc;

/// Names that are kept. A payload with names that never repeat (a serial
/// number as a key) must not fill the memory: beyond this they are not shared.
const MOST_NAMES: usize = 4_096;

#[derive(Debug, Default)]
pub struct Names {
    known: HashSet<Arc<str>>,
    /// Names in the order in which the last message brought them.
    order: Vec<Arc<str>>,
    at: usize,
}

impl Names {
    /// A new message begins.
    pub fn rewind(&mut self) {
        self.at = 0;
    }

    /// The shared name.
    pub fn get(&mut self, name: &str) -> Arc<str> {
        let at = self.at;
        self.at += 1;
        if let Some(expected) = self.order.get(at)
            && **expected == *name
        {
            return Arc::clone(expected);
        }
        let shared = if let Some(known) = self.known.get(name) {
            Arc::clone(known)
        } else {
            let new: Arc<str> = name.into();
            if self.known.len() < MOST_NAMES {
                self.known.insert(Arc::clone(&new));
            }
            new
        };
        match self.order.get_mut(at) {
            Some(place) => *place = Arc::clone(&shared),
            None if at < MOST_NAMES => self.order.push(Arc::clone(&shared)),
            None => {}
        }
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_came_before_is_shared_in_any_order() {
        let mut names = Names::default();
        let (a, b) = (names.get("a"), names.get("b"));
        names.rewind();
        assert!(Arc::ptr_eq(&names.get("b"), &b));
        assert!(Arc::ptr_eq(&names.get("a"), &a));
    }

    #[test]
    fn names_that_never_repeat_are_not_kept_for_ever() {
        let mut names = Names::default();
        for n in 0..3 * MOST_NAMES {
            names.rewind();
            names.get(&n.to_string());
        }
        assert_eq!((names.known.len(), names.order.len()), (MOST_NAMES, 1));
    }
}
