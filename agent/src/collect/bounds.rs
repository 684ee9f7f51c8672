//! When the file is full, for whom, and what then happens to which flow.
//!
//! Full is the file at its size, or at its present length while the disk has
//! too little room: it may use what it has and must not grow, beyond what is
//! needed to let events through to Kafka. A stream is full
//! at its share. Either is over when a twentieth is free again: else it would be
//! full and not full with each commit. While something is full, what the rules
//! of its flows let go goes; only when nothing of it is left, what comes waits
//! or is refused.
//!
//! Decides, and touches no file.

use std::collections::BTreeMap;

use crate::buffer::{self, Demand, Disk, Reason, State};
use crate::flow::{Flow, Flows, Hash, Lane, WhenFull};

/// Part of a bound that must be free before it is no longer full.
const FREE_SHARE: u64 = 20;

/// Part of the size that the file may have on a disk that is low from the first:
/// 16 MiB of the default. An empty file that may not grow would let nothing
/// through for ever, though Kafka would take it.
const WAY_THROUGH: u64 = 64;

/// Bytes of pages that a byte of rows takes at most: a row of a little more than
/// half a page leaves the other half empty.
const PAGES_FOR_ROWS: u64 = 2;

/// Bytes that go in one commit: a worn card takes seconds for it, and the watchdog
/// ends a writer that is silent for longer. (Each test would have to fill gigabytes.)
pub(super) const STEP: u64 = if cfg!(test) { 64 * 1024 } else { 64 * 1024 * 1024 };

/// What happens to an event that comes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Take,
    /// Its source waits.
    Wait,
    /// It is dropped and counted.
    Refuse,
}

/// Whose bound it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whose {
    All,
    Stream(String),
}

/// How one bound stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Level {
    full: bool,
    /// And nothing is left that may go.
    stuck: bool,
}

impl Level {
    /// Gives what must go until there is room again.
    fn measure(&mut self, used: u64, limit: u64) -> u64 {
        let low = limit - limit / FREE_SHARE;
        self.full = used >= limit || (self.full && used > low);
        self.stuck &= self.full;
        if self.full { used.saturating_sub(low).max(1) } else { 0 }
    }

    /// What may come before it is full.
    fn left(self, used: u64, limit: u64) -> u64 {
        if self.full { 0 } else { limit.saturating_sub(used) }
    }

    fn is_closed(self) -> bool {
        self.full && self.stuck
    }
}

/// A stream that may have only a part of the file.
#[derive(Debug)]
struct Share {
    limit: u64,
    /// Its flows in the file, also those of lanes that it no longer has.
    hashes: [Hash; 3],
    level: Level,
    /// What must go until it has room again.
    excess: u64,
    /// What may come before it is full.
    left: u64,
}

/// What may be taken in beside what comes by itself, before something is full.
#[derive(Debug)]
pub(super) struct Left {
    whole: u64,
    /// Flows and what they may have together.
    shares: Vec<([Hash; 3], u64)>,
}

impl Left {
    /// Takes so many bytes of this flow; false, and nothing is taken, where they
    /// would fill the file or the stream's share.
    pub(super) fn take(&mut self, flow: Hash, bytes: u64) -> bool {
        let pages = bytes.saturating_mul(PAGES_FOR_ROWS);
        let share = self.shares.iter_mut().find(|(flows, _)| flows.contains(&flow));
        if pages >= self.whole || share.as_ref().is_some_and(|(_, left)| bytes >= *left) {
            return false;
        }
        self.whole -= pages;
        if let Some((_, left)) = share {
            *left -= bytes;
        }
        true
    }
}

#[derive(Debug)]
pub(super) struct Bounds {
    max_size: u64,
    min_free_disk: crate::units::Room,
    /// While the disk has too little room: how long the file may be.
    ceiling: Option<u64>,
    /// By the stream's name; one with all of the file has none.
    shares: BTreeMap<String, Share>,
    whole: Level,
    /// What fills the whole, and what must go until it has room again.
    reason: Reason,
    excess: u64,
    left: u64,
}

impl Bounds {
    pub(super) fn new(config: &buffer::Config, flows: &Flows) -> Self {
        let max_size = config.max_size.get();
        let mut shares = BTreeMap::new();
        // Also of streams that no source feeds: an import may.
        for rules in flows.rules() {
            let limit = rules.share.of(max_size);
            if limit < max_size {
                let name = &rules.stream.name;
                let hashes = [Lane::Alarm, Lane::Live, Lane::Bulk].map(|lane| Hash::of(name, lane));
                let share = Share { limit, hashes, level: Level::default(), excess: 0, left: 0 };
                shares.insert(name.clone(), share);
            }
        }
        Self {
            max_size,
            min_free_disk: config.min_free_disk,
            ceiling: None,
            shares,
            whole: Level::default(),
            reason: Reason::Size,
            excess: 0,
            left: 0,
        }
    }

    /// Takes note of how the file stands. A disk that does not tell is no reason
    /// to stop.
    pub(super) fn measure(
        &mut self,
        state: State,
        disk: Option<Disk>,
        usage: impl Fn(Hash) -> u64,
    ) {
        let low = disk.is_some_and(|disk| disk.free < self.min_free_disk.of(disk.size));
        // What was its length when the disk ran out of room, or less since.
        let ceiling = self.ceiling.unwrap_or(self.max_size).min(state.length);
        let ceiling = ceiling.max(self.max_size / WAY_THROUGH);
        self.ceiling = low.then_some(ceiling);
        let limit = self.ceiling.unwrap_or(self.max_size);
        self.reason = if limit < self.max_size { Reason::Disk } else { Reason::Size };
        self.excess = self.whole.measure(state.used, limit);
        self.left = self.whole.left(state.used, limit);
        for share in self.shares.values_mut() {
            let used = share.hashes.iter().map(|hash| usage(*hash)).sum();
            share.excess = share.level.measure(used, share.limit);
            share.left = share.level.left(used, share.limit);
        }
    }

    /// Who could give nothing is asked again: what was pinned may be free now.
    pub(super) fn ask_again(&mut self) {
        self.whole.stuck = false;
        for share in self.shares.values_mut() {
            share.level.stuck = false;
        }
    }

    /// The next that must give room, and what, a [`STEP`] at most; to be answered and
    /// measured before the next one is asked for. A stream above its share gives
    /// first: that may be enough for all.
    pub(super) fn demand(&self, flows: &Flows) -> Option<(Whose, Demand)> {
        let asked = |level: Level| level.full && !level.stuck;
        if let Some((name, share)) = self.shares.iter().find(|(_, share)| asked(share.level)) {
            let of = may_go(flows, |flow| flow.stream.name == *name);
            let demand = Demand { reason: Reason::Share, bytes: share.excess.min(STEP), of };
            return Some((Whose::Stream(name.clone()), demand));
        }
        asked(self.whole).then(|| {
            let of = may_go(flows, |_| true);
            (Whose::All, Demand { reason: self.reason, bytes: self.excess.min(STEP), of })
        })
    }

    /// So many batches went for the demand.
    pub(super) fn answered(&mut self, whose: &Whose, gone: u64) {
        let level = match whose {
            Whose::All => Some(&mut self.whole),
            Whose::Stream(name) => self.shares.get_mut(name).map(|share| &mut share.level),
        };
        if let Some(level) = level {
            level.stuck = gone == 0;
        }
    }

    /// What happens to an event of this flow that comes now.
    pub(super) fn verdict(&self, flow: &Flow) -> Verdict {
        let share = self.shares.get(&flow.stream.name);
        let closed = self.whole.is_closed() || share.is_some_and(|share| share.level.is_closed());
        match (closed, flow.when_full()) {
            (false, _) => Verdict::Take,
            (true, WhenFull::DropNewest) => Verdict::Refuse,
            (true, WhenFull::Block | WhenFull::DropOldest) => Verdict::Wait,
        }
    }

    /// What there is room for without anything being dropped or held back.
    pub(super) fn left(&self) -> Left {
        let shares = self.shares.values().map(|share| (share.hashes, share.left));
        Left { whole: self.left, shares: shares.collect() }
    }

    /// Whatever comes is taken.
    pub(super) fn is_open(&self) -> bool {
        let closed = self.shares.values().any(|share| share.level.is_closed());
        !closed && !self.whole.is_closed()
    }

    /// The file is full, and no rule makes room.
    pub(super) fn is_closed(&self) -> bool {
        self.whole.is_closed()
    }

    /// The disk has less room than it must keep.
    pub(super) fn is_low(&self) -> bool {
        self.ceiling.is_some()
    }

    /// It depends on others when there is room again.
    pub(super) fn waits_for_disk(&self) -> bool {
        self.whole.full && self.reason == Reason::Disk
    }
}

/// The flows that the rules let go, bulk before live before alarms.
fn may_go(flows: &Flows, of: impl Fn(&Flow) -> bool) -> Vec<Vec<(Hash, String)>> {
    let class = |lane| {
        flows
            .iter()
            .map(|(_, flow)| flow)
            .filter(|flow| flow.lane == lane && flow.when_full() == WhenFull::DropOldest)
            .filter(|flow| of(flow))
            .map(|flow| (flow.hash, flow.stream.name.clone()))
            .collect()
    };
    [Lane::Bulk, Lane::Live, Lane::Alarm].map(class).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Rules, Stream};
    use crate::units::{ByteSize, Percent, Room};

    const MAX: u64 = 1_000;

    fn rules(name: &str, when_full: Option<WhenFull>, share: u8) -> Rules {
        let stream = Stream { name: name.into(), topic: name.into(), create: None };
        Rules { when_full, share: Percent::new(share), ..stream.into() }
    }

    fn bounds(flows: &Flows) -> Bounds {
        let config = buffer::Config {
            max_size: ByteSize(MAX),
            min_free_disk: Room::Size(ByteSize(100)),
            ..buffer::Config::default()
        };
        Bounds::new(&config, flows)
    }

    fn state(used: u64) -> State {
        State { used, length: used, oldest: None }
    }

    #[test]
    fn full_is_over_when_a_twentieth_is_free() {
        let mut flows = Flows::default();
        let id = flows.id("plant", Lane::Live);
        let mut bounds = bounds(&flows);
        let mut at = |used, verdict| {
            bounds.ask_again();
            bounds.measure(state(used), None, |_| 0);
            while let Some((whose, _)) = bounds.demand(&flows) {
                bounds.answered(&whose, 0);
            }
            assert_eq!(bounds.verdict(flows.get(id)), verdict, "{used}");
        };
        at(999, Verdict::Take);
        at(1_000, Verdict::Wait);
        at(951, Verdict::Wait);
        at(950, Verdict::Take);
        at(999, Verdict::Take);
    }

    #[test]
    fn a_disk_without_room_lets_the_file_use_what_it_has() {
        let mut flows = Flows::default();
        flows.polled("plant", Lane::Live);
        let mut bounds = bounds(&flows);
        let low = Some(Disk { size: 10_000, free: 99, owed: 0 });
        bounds.measure(State { used: 300, length: 500, oldest: None }, low, |_| 0);
        assert_eq!(bounds.demand(&flows), None);
        bounds.measure(state(500), low, |_| 0);
        let (_, demand) = bounds.demand(&flows).unwrap();
        assert_eq!((demand.reason, demand.bytes), (Reason::Disk, 25));
        // One commit too many does not make it longer for good.
        bounds.measure(state(520), low, |_| 0);
        assert_eq!(bounds.demand(&flows).unwrap().1.bytes, 45);
        bounds.measure(state(500), Some(Disk { size: 10_000, free: 100, owed: 0 }), |_| 0);
        assert_eq!(bounds.demand(&flows), None);
    }

    #[test]
    fn a_disk_that_is_low_from_the_first_leaves_a_way_through() {
        let mut flows = Flows::default();
        let id = flows.id("plant", Lane::Live);
        let mut bounds = bounds(&flows);
        let low = Some(Disk { size: 10_000, free: 99, owed: 0 });
        let least = MAX / WAY_THROUGH;
        for (used, full) in [(1, false), (least - 1, false), (least, true), (0, false)] {
            bounds.ask_again();
            bounds.measure(state(used), low, |_| 0);
            while let Some((whose, _)) = bounds.demand(&flows) {
                bounds.answered(&whose, 0);
            }
            assert_eq!(bounds.verdict(flows.get(id)) == Verdict::Wait, full, "{used}");
        }
    }

    #[test]
    fn a_stream_above_its_share_gives_of_its_own_and_others_go_on() {
        let streams = [rules("small", None, 10), rules("large", None, 100)];
        let mut flows = Flows::new(streams);
        let small = flows.polled("small", Lane::Live);
        let large = flows.polled("large", Lane::Live);
        let alarm = flows.polled("small", Lane::Alarm);
        let hashes = [small, alarm].map(|id| flows.get(id).hash);
        let mut bounds = bounds(&flows);
        bounds.measure(state(500), None, |hash| if hashes.contains(&hash) { 60 } else { 0 });
        let (whose, demand) = bounds.demand(&flows).unwrap();
        assert_eq!(whose, Whose::Stream("small".into()));
        assert_eq!((demand.reason, demand.bytes), (Reason::Share, 25));
        let named: Vec<Hash> = demand.of.concat().into_iter().map(|(hash, _)| hash).collect();
        assert_eq!(named, [flows.get(small).hash], "alarms stay");
        bounds.answered(&whose, 0);
        assert_eq!(bounds.demand(&flows), None);
        assert_eq!(bounds.verdict(flows.get(small)), Verdict::Wait);
        assert_eq!(bounds.verdict(flows.get(large)), Verdict::Take);
    }

    #[test]
    fn what_is_taken_in_beside_fills_neither_the_file_nor_a_share() {
        let streams = [rules("small", None, 10), rules("large", None, 100)];
        let flows = Flows::new(streams);
        let (small, large) = (Hash::of("small", Lane::Bulk), Hash::of("large", Lane::Live));
        let mut bounds = bounds(&flows);
        bounds.measure(state(500), None, |hash| if hash == small { 40 } else { 0 });
        let mut left = bounds.left();
        assert!(!left.take(small, 60));
        assert!(left.take(small, 59));
        assert!(!left.take(small, 1), "what was taken is gone");
        assert!(!left.take(large, 191));
        assert!(left.take(large, 190));
        bounds.measure(state(1_000), None, |_| 0);
        assert!(!bounds.left().take(large, 1));
    }

    #[test]
    fn only_what_the_rules_let_go_goes_and_bulk_goes_first() {
        let drop = Some(WhenFull::DropOldest);
        let streams = [rules("polled", None, 100), rules("explicit", drop, 100)];
        let mut flows = Flows::new(streams);
        for (stream, lane) in
            [("polled", Lane::Live), ("polled", Lane::Alarm), ("polled", Lane::Bulk)]
        {
            flows.polled(stream, lane);
        }
        flows.id("waits", Lane::Bulk);
        flows.id("explicit", Lane::Alarm);
        let hash = |stream: &str, lane| (Hash::of(stream, lane), stream.to_owned());
        let expected = [
            vec![hash("polled", Lane::Bulk)],
            vec![hash("polled", Lane::Live)],
            vec![hash("explicit", Lane::Alarm)],
        ];
        assert_eq!(may_go(&flows, |_| true), expected);
    }
}
