//! The whole way under every kind of trouble, by one seed and in virtual time.
//!
//! A model of an MQTT broker ([`mqtt`]) → the real MQTT source, its connection
//! loop included → the real writer, which also has a table with a cursor and a
//! polled device → the real buffer file → the real forwarder → the model of Kafka
//! that [`forward`](crate::forward) has. A seed decides what happens in which
//! order: messages, cuts, lost sessions, kills between any two steps and in the
//! midst of one, a full disk, a small file, a Kafka in trouble, a wall clock that
//! is not set, jumps and is corrected.
//!
//! A third of the seeds run with `write = "when_needed"`. At each step nothing is
//! acknowledged that is neither in the file nor with Kafka. In the end
//! everything that was acknowledged has arrived exactly once and in the order of
//! its device, but for a message that SAFETY 19 leaves in doubt (twice, never
//! lost), one that was in flight when the agent died while the file is only written
//! where it is needed (SAFETY 22: the same), and for what a gap names as dropped.

mod judge;
mod life;
mod mqtt;
mod mutants;
mod world;

/// A rule taken out, at the place where it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutant {
    /// Invariant: what was read is acknowledged before its commit.
    AckBeforeCommit,
    /// SAFETY 10: a record is stamped with its event's time, however old.
    OwnTimeAlways,
    /// SAFETY 12: what stands in an open transaction is dropped like any other.
    Unpinned,
    /// SAFETY 12: a gap is sure of what an earlier process may have sent.
    SureGap,
    /// SAFETY 13: a cursor in a commit of its own, behind its rows.
    CursorApart,
    /// SAFETY 18: a new connection goes by what is committed when it begins, and what
    /// the old one delivered is not.
    Hasty,
    /// SAFETY 19: a redelivery is taken for a new message.
    NoRedelivery,
    /// SAFETY 22: what is in memory only is acknowledged.
    AckWhenHeld,
    /// SAFETY 22: while messages are in memory, the file keeps what it recognised
    /// before.
    StaleCheckpoint,
    /// SAFETY 22: a batch is written behind others of its flow that are in memory.
    PastHeld,
    /// SAFETY 20: PUBCOMP before the commit that removes the id.
    CompleteBeforeCommit,
    /// SAFETY 20: what was released is forgotten with its PUBREL.
    ForgetsReleased,
}

impl Mutant {
    /// It shows only where something is in memory and not in the file. The others are
    /// looked for where nothing may come twice.
    const fn is_of_memory(self) -> bool {
        matches!(self, Self::AckWhenHeld | Self::StaleCheckpoint | Self::PastHeld)
    }
}

/// Seeds of a run that names no number: with those of the forwarder's world the
/// 2,000 of `make test`.
const SEEDS: u64 = 1_000;

#[test]
fn every_message_arrives_exactly_once_whatever_fails() {
    crate::forward::simulator::campaign("whole way", SEEDS, |seed| world::run(seed, None));
}
