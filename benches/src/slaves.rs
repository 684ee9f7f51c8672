//! Devices on a serial line that is as slow as a real one: each byte of an answer comes
//! when the wire would have carried it.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use tidegate_e2e::line::Line;

/// Without an answer for so long the agent is done.
const DONE: Duration = Duration::from_mins(5);

/// The line as the specification sets it (Modbus over Serial Line 1.02, 3.3 and 2.5.1):
/// 19,200 baud, 11 bits a byte with even parity.
pub(crate) const BAUD: u32 = 19_200;
const BITS: u32 = 11;

/// What a device takes to answer: the agent assumes as much.
const LATENCY: Duration = Duration::from_millis(10);

/// A read of registers: unit, function, address, count, CRC.
const REQUEST: usize = 8;
/// Unit, function, bytes; CRC.
const FRAME: usize = 5;

/// Time of so many bytes on the wire.
fn of_bytes(count: usize) -> Duration {
    let bits = BITS * u32::try_from(count).expect("a frame is short");
    Duration::from_secs(bits.into()) / BAUD
}

/// What the wire needs for a read of so many registers: silence before it (3.5
/// characters), request, the device's time, answer.
pub(crate) fn needed(registers: usize) -> Duration {
    of_bytes(7) / 2 + of_bytes(REQUEST) + LATENCY + of_bytes(FRAME + 2 * registers)
}

/// The devices; dropped with the line, they are gone.
#[derive(Debug)]
pub(crate) struct Slaves {
    pub(crate) line: Line,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Each request that was answered: by which unit, and when it had come.
    asked: Vec<(u8, Instant)>,
    /// Units up to this one do not answer.
    dead: u8,
}

impl Slaves {
    pub(crate) fn start(folder: &Path) -> Self {
        let line = Line::new(folder, "slow");
        let mut open = OpenOptions::new();
        let flags = i32::try_from(OFlags::NOCTTY.bits()).expect("a flag is a bit");
        open.read(true).write(true).custom_flags(flags);
        let port = open.open(&line.device).expect("the line has this end");
        let seen = Arc::<Mutex<Seen>>::default();
        let serving = Arc::clone(&seen);
        // It ends with the program: a terminal that socat leaves errs.
        std::thread::spawn(move || serve(port, &serving).ok());
        Self { line, seen }
    }

    /// From now on units up to this one are silent; what was asked is forgotten.
    pub(crate) fn kill(&self, dead: u8) {
        *lock(&self.seen) = Seen { asked: Vec::new(), dead };
    }

    /// When this unit was asked.
    pub(crate) fn asked(&self, unit: u8) -> Vec<Instant> {
        let seen = lock(&self.seen);
        seen.asked.iter().filter(|(one, _)| *one == unit).map(|(_, at)| *at).collect()
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut port: File, seen: &Mutex<Seen>) -> std::io::Result<()> {
    let (crc, begun) = (crc::Crc::<u16>::new(&crc::CRC_16_MODBUS), Instant::now());
    while begun.elapsed() < DONE {
        let mut request = [0; REQUEST];
        port.read_exact(&mut request)?;
        // A pseudo-terminal hands all of it over at once; a wire would still be at it.
        let came = Instant::now() + of_bytes(REQUEST);
        let [unit, function, _, _, high, low, _, _] = request;
        {
            let mut seen = lock(seen);
            if unit <= seen.dead {
                continue;
            }
            seen.asked.push((unit, came));
        }
        let registers = usize::from(u16::from_be_bytes([high, low]));
        let bytes = u8::try_from(2 * registers).map_err(std::io::Error::other)?;
        let mut answer = vec![unit, function, bytes];
        answer.resize(FRAME - 2 + 2 * registers, 1);
        let sum = crc.checksum(&answer).to_le_bytes();
        answer.extend(sum);
        send(&mut port, &answer, came + LATENCY)?;
    }
    Ok(())
}

/// Each byte when the wire has carried it, from `start` on.
fn send(port: &mut File, bytes: &[u8], start: Instant) -> std::io::Result<()> {
    for (number, byte) in bytes.iter().enumerate() {
        let due = start + of_bytes(number + 1);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        port.write_all(&[*byte])?;
    }
    Ok(())
}
