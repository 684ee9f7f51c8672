//! How a broker numbers its messages: whether it counts packet ids up, or gives
//! a freed one again at once. No clock, no socket.
//!
//! It decides what a redelivery proves. A broker that counts up (mosquitto, EMQX,
//! `RabbitMQ`) comes back to an id after tens of thousands of messages: what it
//! delivers again under an id of ours is ours. One that takes the lowest free id
//! (`HiveMQ`) may have given it to a new message of the same content meanwhile.
//! The protocol does not tell, so that it is learned, and until then the worse is
//! taken for true.
//!
//! Such a broker gives an id only while all lower ones are in flight, so that no
//! id is above their number. A message with a higher one, the next after the
//! last, is a sign that the broker counts. A broker may choose ids some time
//! before it sends the messages, so that one sign is not enough, and only one
//! counts for each proof that acknowledgements have arrived. A single step back
//! says the contrary.

/// Signs after which a broker counts up: each needs a message of its own that
/// was numbered before an acknowledgement and sent after its proof, and four of
/// those in a row, none of them under a freed id, are no accident.
const SIGNS: u16 = 4;

/// The same after it has once given an id again: more than a pool of ids that
/// are given in turn would show between two turns, and still learned within
/// hours where it was a broker that has restarted with old numbers.
const SIGNS_AFTER_REUSE: u16 = 256;

/// A larger step back is a count that has come around.
const COME_AROUND: u16 = 4_096;

/// What is known of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Kind {
    /// To be taken for one that reuses.
    #[default]
    Unknown,
    /// It comes back to an id only after all others.
    Counts,
    /// It has given an id again at once.
    Reuses,
}

#[derive(Debug, Default)]
pub(super) struct Numbering {
    kind: Kind,
    /// The id of the last new message; 0: none is known.
    last: u16,
    signs: u16,
    /// Whether acknowledgements were proven to have arrived since the last sign.
    proven: bool,
}

impl Numbering {
    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    /// What is saved with the session.
    pub(super) const fn save(&self) -> [u8; 3] {
        let kind = match self.kind {
            Kind::Unknown => 0,
            Kind::Counts => 1,
            Kind::Reuses => 2,
        };
        let [low, high] = self.last.to_le_bytes();
        [kind, low, high]
    }

    pub(super) fn restore([kind, low, high]: [u8; 3]) -> Self {
        let kind = match kind {
            1 => Kind::Counts,
            2 => Kind::Reuses,
            _ => Kind::Unknown,
        };
        Self { kind, last: u16::from_le_bytes([low, high]), ..Self::default() }
    }

    /// Acknowledgements were proven to have arrived: their ids are free.
    pub(super) fn proven(&mut self) {
        self.proven = true;
    }

    /// A new message has come, not a redelivery, while at most so many others
    /// were in flight.
    pub(super) fn came(&mut self, id: u16, in_flight: usize) {
        let last = std::mem::replace(&mut self.last, id);
        if last == 0 {
            return;
        }
        if id <= last && last - id < COME_AROUND {
            self.kind = Kind::Reuses;
            self.signs = 0;
        } else if last.checked_add(1) == Some(id)
            && usize::from(id) > in_flight + 1
            && std::mem::take(&mut self.proven)
        {
            self.signs = self.signs.saturating_add(1);
            let enough = if self.kind == Kind::Reuses { SIGNS_AFTER_REUSE } else { SIGNS };
            if self.signs >= enough {
                self.kind = Kind::Counts;
            }
        }
    }
}

/// A set of packet ids: a bit for each up to the highest, 8 KiB at most.
#[derive(Debug, Default)]
pub(super) struct Ids(Vec<u64>);

impl Ids {
    const BITS: u16 = 64;

    pub(super) fn insert(&mut self, id: u16) {
        let word = usize::from(id / Self::BITS);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << (id % Self::BITS);
        }
    }

    pub(super) fn remove(&mut self, id: u16) {
        if let Some(word) = self.0.get_mut(usize::from(id / Self::BITS)) {
            *word &= !(1 << (id % Self::BITS));
        }
    }

    pub(super) fn contains(&self, id: u16) -> bool {
        self.0
            .get(usize::from(id / Self::BITS))
            .is_some_and(|word| word & (1 << (id % Self::BITS)) != 0)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages one by one, each proven before the next.
    fn one_by_one(numbering: &mut Numbering, ids: impl IntoIterator<Item = u16>) {
        for id in ids {
            numbering.came(id, 0);
            numbering.proven();
        }
    }

    fn kind_of(ids: impl IntoIterator<Item = u16>) -> Kind {
        let mut numbering = Numbering::default();
        one_by_one(&mut numbering, ids);
        numbering.kind()
    }

    #[test]
    fn four_signs_show_that_a_broker_counts_and_three_do_not() {
        assert_eq!(kind_of(1..=4), Kind::Unknown);
        assert_eq!(kind_of(1..=5), Kind::Counts);
    }

    #[test]
    fn without_a_proof_between_two_messages_the_second_is_no_sign() {
        let mut numbering = Numbering::default();
        for id in 1..1_000 {
            numbering.came(id, 0);
        }
        assert_eq!(numbering.kind(), Kind::Unknown);
    }

    #[test]
    fn an_id_not_above_what_is_in_flight_is_no_sign() {
        let mut numbering = Numbering::default();
        for id in 1..1_000 {
            numbering.came(id, usize::from(id) - 1);
            numbering.proven();
        }
        assert_eq!(numbering.kind(), Kind::Unknown);
    }

    #[test]
    fn an_id_that_comes_again_or_a_small_step_back_shows_a_reuse_at_once() {
        assert_eq!(kind_of([1, 1]), Kind::Reuses);
        assert_eq!(kind_of((1..=100).chain([40])), Kind::Reuses);
    }

    #[test]
    fn after_a_reuse_more_signs_are_needed() {
        assert_eq!(kind_of((1..=100).chain(1..=256)), Kind::Reuses);
        assert_eq!(kind_of((1..=100).chain(1..=257)), Kind::Counts);
    }

    #[test]
    fn a_count_may_come_around_and_leave_ids_out() {
        assert_eq!(kind_of((1..=u16::MAX).chain(1..=u16::MAX)), Kind::Counts);
        assert_eq!(kind_of((1..=10).chain([30, 31, 50])), Kind::Counts);
        assert_eq!(kind_of((1..=32_767).chain([3, 4])), Kind::Counts);
    }

    #[test]
    fn ids_apart_are_no_sign() {
        assert_eq!(kind_of((1..1_000).map(|n| n * 2)), Kind::Unknown);
    }

    #[test]
    fn what_was_saved_goes_on_after_a_crash() {
        let mut numbering = Numbering::default();
        one_by_one(&mut numbering, 1..=5);
        let mut again = Numbering::restore(numbering.save());
        assert_eq!(again.kind(), Kind::Counts);
        again.came(3, 0);
        assert_eq!(again.kind(), Kind::Reuses, "the last id is saved too");
        assert_eq!(Numbering::restore(again.save()).kind(), Kind::Reuses);
    }

    #[test]
    fn a_set_of_ids_holds_what_was_put_in_and_not_taken_out() {
        let mut ids = Ids::default();
        for id in [1, 64, u16::MAX] {
            assert!(!ids.contains(id));
            ids.insert(id);
            assert!(ids.contains(id));
        }
        ids.remove(64);
        assert!(!ids.contains(64) && ids.contains(1) && ids.contains(u16::MAX));
        ids.clear();
        assert!(!ids.contains(1));
    }
}
