//! All that the forwarder asks of Kafka, in one place.
//!
//! The real thing is [`Link`](super::link::Link), the shell on librdkafka. The
//! simulator puts a model of Kafka in its place and drives the same machine
//! under virtual time. Calls are bound at compile time: a record that is handed
//! over passes no table of functions.
//!
//! Every call is bounded in time, so that a stop is never held up by a broker
//! that does not answer. An error says itself what to do: [`Trouble`].

use std::time::Duration;

use super::config::Config;
use super::context::Failure;
use super::load::{Load, Record};
use super::tails::Wanted;
use super::trouble::Trouble;
use crate::buffer::Position;
use crate::clock::Clock;
use crate::event::Timestamp;
use crate::flow::Create;

/// Whether a topic can be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    There,
    Missing,
    Forbidden,
}

/// What a look at the end of a topic came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// There is more to read; whether something came.
    Reading { news: bool },
    /// All that stood there when the look began was read, from where it was to
    /// begin; whether nothing older can be what was asked for.
    Ended { whole: bool },
    /// The topic is not there, or not for us.
    Closed(Presence),
}

/// What Kafka keeps of the position, with the counter that its offset is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) offset: i64,
    pub(super) position: Position,
}

/// Makes a producer; nothing is sent and nobody fenced by it yet. It reads the
/// secrets, so that each new producer takes rotated ones.
pub(super) type Open<L> = Box<dyn Fn(&Config, &str, &Clock) -> Result<L, Trouble> + Send>;

/// One producer and what it can be asked.
pub(super) trait Line {
    /// Serves the client's events: errors, its log, a token to be fetched.
    fn poll(&self);

    /// Fences what an earlier producer left open. May be called again until
    /// it is done.
    fn init(&mut self) -> Result<(), Trouble>;

    /// The id of the cluster that answers.
    fn cluster(&self) -> Result<String, Trouble>;

    fn presence(&self, topic: &str) -> Result<Presence, Trouble>;

    /// Makes a topic. False when it is there already.
    fn create(
        &self,
        config: &Config,
        gateway: &str,
        topic: &str,
        create: &Create,
    ) -> Result<bool, String>;

    /// Reads what is kept under the gateway's group, by a reader that sees
    /// only what is committed; it needs no [`Line::init`] and fences nobody.
    fn read_position(&mut self, config: &Config, gateway: &str) -> Result<Option<Kept>, Trouble>;

    /// Reads on in the end of a topic, by a reader that sees only what is
    /// committed, for a moment; gives the id and the bytes of each record. Another
    /// topic begins anew.
    fn read_tail(
        &mut self,
        config: &Config,
        gateway: &str,
        wanted: &Wanted,
        each: &mut dyn FnMut(Option<&str>, usize),
    ) -> Result<Tail, Trouble>;

    /// Drops what reads, wherever it is.
    fn leave_tail(&mut self);

    fn begin(&self) -> Result<(), Trouble>;

    /// Hands a record over to the client. `false`: its queue is full, try
    /// again after [`Line::flush`]. A record that it refuses at once is
    /// gathered among the failures.
    fn produce(
        &self,
        load: &Load,
        index: usize,
        given: &Record,
        now: Timestamp,
        id: &mut String,
    ) -> bool;

    /// Waits for all answers, also behind one that was refused.
    fn answered(&self, at_most: Duration) -> bool;

    /// Waits for all answers; true when none is missing, or when a record was
    /// refused: then the transaction is lost and the rest does not matter.
    fn flush(&self, at_most: Duration) -> bool;

    /// The failures gathered since the last call.
    fn take_failures(&self) -> Vec<Failure>;

    /// Whether a record failed for a reason of its own, not only because
    /// another one did.
    fn is_blamed(&self) -> bool;

    /// Puts the position into the transaction.
    fn send_position(&self, topic: &str, kept: &Kept) -> Result<(), Trouble>;

    /// Asks for the commit, or asks again for its answer.
    fn commit(&self, at_most: Duration) -> Result<(), Trouble>;

    /// Without transactions: waits until it is known what arrived.
    fn abort(&self) -> Result<(), Trouble>;

    /// Whether `delivery` is exactly once.
    fn is_transactional(&self) -> bool;

    /// What the client said about its connections, if it said anything.
    fn told(&self) -> Option<String>;

    /// Something worked: what was told before is over.
    fn well(&self);
}
