//! One `SQLite` file: batches, source checkpoints, dead letters, totals.
//!
//! The invariants:
//! - One connection writes, on one thread; readers have connections of their
//!   own, read-only, in short transactions.
//! - Events, the checkpoints behind them and the totals stand in one commit,
//!   which is on the medium (`synchronous=FULL`) before anything is acknowledged.
//! - Every opening draws a new random epoch and commits it before the first
//!   event; numbers count within it. So no id comes twice, whatever happens to
//!   the file: SAFETY.md, "Two counters and an epoch".
//! - A position deletes, and only what it covers: [`Position`]; where Kafka has lost
//!   it, what was seen there goes, batch by batch. Besides that only a rule of the
//!   user's deletes, `evict`, and what it drops is counted.
//! - A damaged file stops nobody: `damage`, `salvage`.
//!
//! What an event is in here, as bytes, is in `codec`.

mod batch;
mod codec;
mod config;
mod damage;
mod dead;
mod disk;
mod drops;
mod evict;
mod failure;
mod file;
mod forget;
#[cfg(test)]
mod fuzz;
mod held;
mod lock;
mod own;
mod pack;
mod position;
mod reader;
mod reserve;
mod room;
mod salvage;
mod schema;
mod scrub;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod transfer;
mod usage;
mod verify;
mod view;

use std::path::PathBuf;

pub use batch::{ArrayRef, Batch, Birth, Damaged, EventRef, FieldRef, Refused, ValueRef, Waiting};
pub(crate) use codec::{Encoder, Labels};
pub use config::{Config, Write};
pub(crate) use dead::{Burial, Done, ERRAND_LETTERS, Errand, Skip};
pub(crate) use disk::{Disk, disk};
pub use drops::{Dropped, Gap, Ids, Reason};
pub(crate) use evict::{Demand, Pins};
pub(crate) use failure::is_damage;
pub(crate) use file::{Changes, File, Sealed};
pub use held::InMemory;
pub(crate) use held::{Held, MOST_HELD, Row};
pub use lock::{Locked, announce, announced};
pub use position::{BadPosition, FileEpoch, Named, Position};
pub use reader::{ReadError, Reader};
pub(crate) use room::State;
pub use salvage::Loss;
pub(crate) use scrub::{Scrub, Scrubbed};
#[cfg(test)]
pub(crate) use store::Serve;
pub use store::{Adopted, ErrandError, Gone, Memory, Stats, Store};
pub(crate) use store::{Call, Handed, Message, Shared, locked};
pub(crate) use transfer::ForeignBatch;
pub use transfer::{ExportError, Foreign, SalvageError, export, salvage_into};
pub use verify::{Verified, verify};
pub use view::{AtRest, Depth, Letter, Peeked, Run, Survey, View, Which, WholeLetter};

/// Place of a batch in the file: the epoch's ordinal in the file (23 bits)
/// above the batch number within the epoch (40 bits). Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BatchId(pub i64);

impl BatchId {
    const NUMBER_BITS: u32 = 40;
    const MOST_NUMBER: u64 = (1 << Self::NUMBER_BITS) - 1;
    /// Eight million starts: one every ten seconds for two and a half years.
    const MOST_ORDINAL: i64 = (1 << 23) - 1;

    /// The batch with this number in the epoch with this ordinal; a number
    /// beyond the last is the last.
    pub fn new(ordinal: i64, number: u64) -> Self {
        let number = number.min(Self::MOST_NUMBER).cast_signed();
        Self(ordinal.clamp(0, Self::MOST_ORDINAL) << Self::NUMBER_BITS | number)
    }

    pub fn ordinal(self) -> i64 {
        self.0 >> Self::NUMBER_BITS
    }

    pub fn number(self) -> u64 {
        self.0.cast_unsigned() & Self::MOST_NUMBER
    }
}

/// A random number of 64 bits, new at every start of the process and for every
/// new or salvaged file; printed as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The file cannot be used; the agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Locked(#[from] Locked),
    /// Somebody put a link there, or has one to it: nothing was written through it.
    #[error(
        "cannot take the lock {}: it is a link, has a second name, or is no plain file; look \
         who made it and remove it, the next start makes it anew",
        .0.display()
    )]
    ForeignLock(PathBuf),
    #[error("cannot take the lock {}", path.display())]
    Lock {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    /// A medium in trouble, most likely: the kernel mounts it so after an error.
    #[error(
        "the file system of {} is read-only: check the medium and mount it writable; to look \
         into the file, copy it and its -wal elsewhere",
        .0.display()
    )]
    ReadOnly(PathBuf),
    #[error("cannot open the buffer {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        cause: rusqlite::Error,
    },
    /// The disk is full or does not answer; the next start goes on with it.
    #[error("cannot set the damaged buffer {} aside", path.display())]
    SetAside {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    /// The same of what is in it.
    #[error("cannot salvage the damaged buffer {}", path.display())]
    Salvage {
        path: PathBuf,
        #[source]
        cause: rusqlite::Error,
    },
    /// A command that only looks leaves it as it is: start the agent, or drain.
    #[error(
        "the buffer {} is damaged ({cause}): the next start of the agent salvages it",
        path.display()
    )]
    Damaged { path: PathBuf, cause: String },
    #[error("{} is another program's database", .0.display())]
    Foreign(PathBuf),
    /// Downgrading is not possible without losing what is in it.
    #[error(
        "{} was written by a newer tidegate (layout {found}, this one knows {known})",
        path.display()
    )]
    Newer { path: PathBuf, found: i32, known: i32 },
    /// Look at it once with `tidegate buffer stats` of this version.
    #[error("{} was written by an older tidegate: export it with this version", .0.display())]
    Older(PathBuf),
    /// A command that only looks makes no file.
    #[error("there is no buffer at {}", .0.display())]
    Missing(PathBuf),
    /// What it holds would go under another name than what was sent of it already.
    #[error(
        "the buffer {} is of the gateway `{known}`, and the configuration says `{named}`: if \
         /etc/tidegate/environment or a drop-in of the unit names it, give this command \
         TIDEGATE_GATEWAY__ID too; if it was renamed, start the agent first",
        path.display()
    )]
    OtherGateway { path: PathBuf, known: String, named: String },
    #[error("cannot draw a random epoch for {}", path.display())]
    Random {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    /// After eight million starts the file must be replaced by a new one.
    #[error("{} has been opened too often: set it aside once it is drained", .0.display())]
    Worn(PathBuf),
}
