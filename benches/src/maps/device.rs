//! A device on a line of 9,600 baud that has every register, and notes what it is asked.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crc::{CRC_16_MODBUS, Crc};
use tidegate_e2e::line::Line;
use tidegate_e2e::wait_until;

use super::bus::{self, Read};

const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_MODBUS);

/// The device; dropped, its line is gone.
#[derive(Debug)]
pub(crate) struct Device {
    line: Line,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
}

/// One that is over.
#[derive(Debug, Clone, Copy)]
struct Exchange {
    read: Read,
    began: Instant,
    ended: Instant,
}

/// What one reading of all values was.
#[derive(Debug, Clone)]
pub(crate) struct Polled {
    pub(crate) requests: Vec<Read>,
    /// From the first bit of the first request to the last of the last answer.
    pub(crate) took: Duration,
}

impl Device {
    /// Its line has links in this folder.
    pub(crate) fn start(folder: &Path) -> Self {
        let line = Line::new(folder, "maps");
        let exchanges = Arc::new(Mutex::new(Vec::new()));
        let port = OpenOptions::new().read(true).write(true).open(&line.device);
        let (port, noted) = (port.expect("socat has made it"), Arc::clone(&exchanges));
        // It ends with the line.
        std::thread::spawn(move || serve(port, &noted).ok());
        Self { line, exchanges }
    }

    /// The port of who asks.
    pub(crate) fn path(&self) -> &str {
        &self.line.master
    }

    /// What it was asked until now, as one reading.
    pub(crate) fn polled(&self) -> Option<Polled> {
        polled(&self.exchanges())
    }

    /// Waits for so many readings of so many requests each.
    pub(crate) fn wait(&self, readings: usize, requests: usize, within: Duration) -> Vec<Polled> {
        let exchanges = wait_until("the readings of a map", within, || {
            let exchanges = self.exchanges();
            (exchanges.len() >= readings * requests).then_some(exchanges)
        });
        exchanges.chunks_exact(requests).take(readings).filter_map(polled).collect()
    }

    fn exchanges(&self) -> Vec<Exchange> {
        self.exchanges.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn polled(exchanges: &[Exchange]) -> Option<Polled> {
    let (first, last) = (exchanges.first()?, exchanges.last()?);
    let requests = exchanges.iter().map(|exchange| exchange.read).collect();
    Some(Polled { requests, took: last.ended - first.began })
}

/// Answers when the bytes of request and answer would be over the line, since a
/// pseudo-terminal knows no time.
fn serve(mut port: std::fs::File, noted: &Mutex<Vec<Exchange>>) -> std::io::Result<()> {
    loop {
        // Unit, function, address, count, CRC (Modbus over Serial Line 1.02, 2.5.1).
        let mut request = [0; 8];
        port.read_exact(&mut request)?;
        let began = Instant::now();
        let [unit, function, a0, a1, c0, c1, ..] = request;
        let read = Read(u16::from_be_bytes([a0, a1]), u16::from_be_bytes([c0, c1]));
        let Read(_, count) = read;
        let bytes = u8::try_from(count * 2).map_err(std::io::Error::other)?;
        let mut answer = vec![unit, function, bytes];
        answer.resize(answer.len() + usize::from(bytes), 0);
        answer.extend(CRC.checksum(&answer).to_le_bytes());
        let due = began + bus::exchange(count);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let ended = Instant::now();
        port.write_all(&answer)?;
        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.push(Exchange { read, began, ended });
    }
}
