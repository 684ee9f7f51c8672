//! What a list of requests takes of a line, reckoned: the same for both programs.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate::source::modbus::Outline;

pub(crate) const BAUD: u32 = 9_600;

/// A start bit, eight of data, even parity, a stop bit (Modbus over Serial Line 1.02, 2.5.1).
const BITS: u32 = 11;

/// Bytes of a read request, and of its answer without the registers (2.5.1, and Modbus
/// application protocol 1.1b3, 6.3).
const REQUEST: u32 = 8;
const ANSWER: u32 = 5;

/// The silence between two frames is 3.5 characters (2.5.1.1).
const HALF_SILENCES: u32 = 7;

/// What the simulated device takes before it answers; what Tidegate assumes on a line.
pub(crate) const LATENCY: Duration = Duration::from_millis(10);

/// One request: the first register, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Read(pub(crate) u16, pub(crate) u16);

/// So many half characters on the line.
fn halves(count: u32) -> Duration {
    Duration::from_secs((count * BITS).into()) / (2 * BAUD)
}

/// From the first bit of a request of so many registers to the last of its answer.
pub(crate) fn exchange(registers: u16) -> Duration {
    halves(2 * (REQUEST + ANSWER + 2 * u32::from(registers))) + LATENCY
}

/// From one such request to the next.
pub(crate) fn cycle(requests: &[Read]) -> Duration {
    requests.iter().map(|Read(_, count)| halves(HALF_SILENCES) + exchange(*count)).sum()
}

/// What Tidegate plans.
pub(crate) fn requests(outline: &Outline) -> Vec<Read> {
    let planned = outline.groups.iter().flat_map(|group| &group.requests);
    planned.map(|read| Read(read.address, read.count)).collect()
}
