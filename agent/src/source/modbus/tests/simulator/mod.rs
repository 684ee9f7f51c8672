//! The whole source on a bus on which everything goes wrong, by one seed and in virtual
//! time: requests, plan, values, events.
//!
//! Each register holds a number made of its unit, its table, its address and of the
//! request that is answered ([`judge`]), so that a value of another place, another unit or
//! an earlier request is seen to be wrong. A seed decides which answers are late, torn,
//! noisy, doubled, of another unit, function or length, of an earlier transaction,
//! refused, lost, echoed, or a half before the whole, two or three of it at once
//! ([`faults`]). One unit says itself what its registers hold ([`sunspec`]),
//! and in half of all seeds nothing where they end. Then all faults end, and soon every signal must be good again.
//!
//! **What no protocol could know**, and no seed does:
//! - A copy of an answer that comes when the next request of its shape is already on its
//!   way: without a transaction id it is that one's answer to the bit. Here a copy follows
//!   at once. The same is a unit that answers one request twice, or not in the order in
//!   which it was asked.
//! - The right label on the wrong values: those of another address, of another moment.
//! - An answer with the label of another request while that one's own is still to come.
//! - Errors that a checksum lets pass: more than three flipped bits, or sixteen in a row,
//!   with the CRC of RTU (one in 65,536); two with the LRC of ASCII (one in 256). Modbus TCP
//!   has no checksum but TCP's own.
//! - On TCP, a frame that is broken off and whose rest the begin of another fills up.
//!
//! `make simulate SEED=n` runs a seed again.

mod bus;
mod faults;
mod judge;
mod real;
mod sunspec;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::super::connection::Peer;
use super::super::frame::Query;
use super::super::serial::Serial;
use super::super::wire::Place;
use super::*;
use crate::forward::simulator::campaign;
use crate::forward::simulator::chance::Chance;
use crate::source::port::memory::Plug;
use bus::{Bus, Listener};

/// Answers with a fault in each seed: 100,000 in the thousand of `make test`.
const FAULTS: u64 = 100;
const SEEDS: u64 = 1_000;

const TIMEOUT: Duration = Duration::from_millis(100);

/// How the devices are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    framing: Framing,
    end: End,
    /// On real sockets and terminals, in real time.
    real: bool,
    /// Addresses are refused too, which are searched for and left alone for a while.
    refuses: bool,
}

/// What is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Host,
    Port,
    /// A port where what is sent comes back.
    Echo,
}

impl Way {
    fn of(seed: u64) -> Self {
        let turn = seed / 5;
        let port = if turn.is_multiple_of(3) { End::Echo } else { End::Port };
        let (framing, end) = match seed % 5 {
            0 => (Framing::Tcp, End::Host),
            1 => (Framing::Rtu, port),
            2 => (Framing::Ascii, port),
            3 => (Framing::Rtu, End::Host),
            _ => (Framing::Ascii, End::Host),
        };
        Self { framing, end, real: false, refuses: turn % 8 == 7 }
    }

    fn is_port(self) -> bool {
        self.end != End::Host
    }

    fn echoes(self) -> bool {
        self.end == End::Echo
    }

    fn serial(self) -> Option<Serial> {
        self.is_port().then(|| Serial { echo: self.echoes(), ..Serial::default() })
    }

    /// How long an answer is waited for.
    fn wait(self, query: Query) -> Duration {
        if self.real {
            // What has come is taken before it is looked at the clock, however late that is.
            return Duration::MAX;
        }
        let bytes = self.framing.request(query, 0).len() + self.framing.answer_length(query);
        let place = Place::Memory(Plug::new().0, self.serial());
        // Timers are of whole milliseconds.
        TIMEOUT + place.timing(self.framing, TIMEOUT).of_bytes(bytes) + Duration::from_millis(1)
    }

    /// The configuration of all units. `keys` are the source's.
    fn devices(self, interval: &str) -> String {
        let framing = format!("{:?}", self.framing).to_lowercase();
        let mut text =
            format!("timeout = \"{} ms\"\nframing = \"{framing}\"\n", TIMEOUT.as_millis());
        if self.echoes() {
            text.push_str("serial = { echo = true }\n");
        }
        for unit in UNITS {
            let device = format!("[[device]]\nname = \"{unit}\"\nunit = {unit}\nmax_hole = 0\n");
            text.push_str(&device);
            for group in GROUPS.iter().filter(|group| group[0].unit == unit) {
                let signals = group.iter().flat_map(|read| read.signals());
                let signals: Vec<String> = signals.map(Spot::line).collect();
                let (head, signals) = ("[[device.group]]", signals.join(","));
                let group = format!("{head}\ninterval = \"{interval}\"\nsignals = [{signals}]\n");
                text.push_str(&group);
            }
        }
        text + &sunspec::configuration(interval)
    }
}

const UNITS: [u8; 3] = [1, 2, 3];

/// What one request reads while nothing is refused.
#[derive(Debug, Clone, Copy)]
struct Read {
    unit: u8,
    function: u8,
    address: u16,
    count: u16,
    /// Registers of each signal, or one bit.
    width: u16,
}

const fn read(unit: u8, function: u8, address: u16, count: u16, width: u16) -> Read {
    Read { unit, function, address, count, width }
}

/// Reads of like and unlike shapes. The request for 24 coils from 784 on would be, as it
/// stands, the frame of an answer to itself.
const GROUPS: [&[Read]; 13] = [
    &[read(1, 3, 0, 2, 2), read(1, 3, 100, 2, 2)],
    &[read(1, 3, 200, 1, 1)],
    &[read(1, 3, 300, 1, 1)],
    &[read(1, 4, 0, 2, 2)],
    &[read(1, 4, 65_535, 1, 1)],
    &[read(2, 3, 0, 2, 2)],
    &[read(2, 3, 40, 20, 2)],
    &[read(2, 4, 40, 20, 2)],
    &[read(2, 3, 7, 1, 1), read(2, 4, 7, 1, 1)],
    &[read(3, 1, 0, 16, 1), read(3, 1, 64, 16, 1)],
    &[read(3, 2, 64, 24, 1)],
    &[read(3, 1, 784, 24, 1)],
    &[read(3, 3, 9, 8, 2)],
];

/// Where one value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Spot {
    unit: u8,
    function: u8,
    address: u16,
    width: u16,
}

impl Read {
    fn signals(self) -> impl Iterator<Item = Spot> {
        let addresses = (0..self.count / self.width).map(move |n| self.address + n * self.width);
        addresses.map(move |address| Spot {
            unit: self.unit,
            function: self.function,
            address,
            width: self.width,
        })
    }
}

impl Spot {
    fn name(self) -> String {
        format!("{}_{}_{}", self.function, self.address, self.width)
    }

    /// That of a field with this name.
    fn of(device: &str, name: &str) -> Self {
        let unit = device.parse().unwrap();
        if unit == sunspec::UNIT {
            return sunspec::spot_of(name);
        }
        let numbers: Vec<u16> = name.split('_').map(|part| part.parse().unwrap()).collect();
        Self {
            unit,
            function: u8::try_from(numbers[0]).unwrap(),
            address: numbers[1],
            width: numbers[2],
        }
    }

    fn line(self) -> String {
        let table = ["", "coil", "discrete", "holding", "input"][usize::from(self.function)];
        let kind = match self.width {
            _ if self.function < 3 => "bool",
            1 => "u16",
            _ => "u32",
        };
        let (name, address) = (self.name(), self.address);
        format!(
            "{{ name = \"{name}\", table = \"{table}\", address = {address}, type = \"{kind}\" }}"
        )
    }
}

/// A source for which the bus is at hand, and the bus.
fn plugged(seed: u64) -> (Bench, TestCommits, Bus, Listener) {
    let mut chance = Chance::of(seed);
    let way = Way::of(seed);
    let interval = match chance.below(4) {
        _ if way.refuses => "5 s",
        0 => "150 ms",
        1 => "500 ms",
        _ => "2 s",
    };
    let address = match way {
        Way { end: End::Port | End::Echo, .. } => "/dev/ttyS1",
        Way { framing: Framing::Tcp, .. } => "bus",
        _ => "bus:4001",
    };
    let (mut bench, commits) = bench(address, &way.devices(interval));
    let (plug, socket) = Plug::new();
    let place = Place::Memory(plug, way.serial());
    bench.source.peer = Box::new(Peer::new(place, way.framing, TIMEOUT));
    (bench, commits, Bus::new(way, chance, FAULTS), Listener::Memory(socket))
}

/// Reads until there were enough faults, and all is good again without.
async fn read_all(
    bench: &mut Bench,
    commits: &mut TestCommits,
    bus: &mut Bus,
    listener: &mut Listener,
) -> Result<(), String> {
    let Bench { source, intake, link, stop } = bench;
    let reading = async {
        loop {
            // As its supervisor does; a peer that closes its connections ends the run.
            source.run(intake, link, stop).await.ok();
            sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        biased;
        end = bus.serve(listener, commits) => end,
        () = reading => Ok(()),
    }
}

/// Runs a world with a clock that goes by itself where nothing is done.
fn run(seed: u64) -> Result<u64, String> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(async {
        let (mut bench, mut commits, mut bus, mut listener) = plugged(seed);
        read_all(&mut bench, &mut commits, &mut bus, &mut listener).await?;
        Ok(bus.faults())
    })
}

#[test]
fn every_value_that_is_good_is_the_one_that_was_asked_for_whatever_goes_wrong() {
    let (worlds, faults) = (AtomicU64::new(0), AtomicU64::new(0));
    campaign("faulty bus", SEEDS, |seed| {
        let count = run(seed)?;
        worlds.fetch_add(1, Ordering::Relaxed);
        faults.fetch_add(count, Ordering::Relaxed);
        Ok(())
    });
    let (worlds, faults) = (worlds.into_inner(), faults.into_inner());
    println!("faulty bus: {faults} answers with faults in {worlds} worlds");
    assert!(worlds > 0, "no seed was run");
    assert!(faults >= worlds * FAULTS);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_stands_still_is_told_whether_time_is_real_or_not() {
    for real in [false, true] {
        let way = Way { real, ..Way::of(0) };
        let mut bus = Bus::new(way, Chance::of(0), FAULTS);
        let (_plug, socket) = Plug::new();
        let (_bench, mut commits) = bench("bus", &way.devices("2 s"));
        let begin = Instant::now();
        let end = bus.serve(&mut Listener::Memory(socket), &mut commits).await;
        assert!(end.is_err_and(|why| why.starts_with("only 0 faults")));
        assert_eq!(begin.elapsed() < Duration::from_mins(5), real);
    }
}
