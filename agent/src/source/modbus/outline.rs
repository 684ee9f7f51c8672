//! What a configuration makes of its bus: the requests, how long they take, and how
//! often that can be done. For `tidegate plan` and `tidegate check`; the source itself
//! needs none of it.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::config::{Config, Device, Framing, Group, Table};
use super::connection::{Failure, Peer};
use super::cost::Cost;
use super::plan::{Request, Span};
use super::{group, place};
use crate::source::Error;
use crate::units::Period;

/// Times that each request is sent to be measured; the median counts.
const ROUNDS: usize = 3;

/// All that a source reads.
#[derive(Debug)]
pub struct Outline {
    pub source: String,
    pub address: String,
    /// The second way to the same devices, by which the time is taken to be the same.
    pub fallback: Option<String>,
    pub framing: Framing,
    /// Of a serial port, bits a second.
    pub baud: Option<u32>,
    pub groups: Vec<Planned>,
}

/// A group, and what it takes to read it once.
#[derive(Debug, Serialize)]
pub struct Planned {
    pub device: String,
    pub unit: u8,
    pub group: String,
    #[serde(rename = "interval_ms", serialize_with = "millis")]
    pub interval: Duration,
    pub requests: Vec<Read>,
    /// What it reads the device itself says: its requests are not known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sunspec: bool,
    /// Index of its device.
    #[serde(skip)]
    of: usize,
}

/// One request.
#[derive(Debug, Serialize)]
pub struct Read {
    pub table: Table,
    /// Where it begins, from 0.
    pub address: u16,
    /// Registers, or bits of a table of bits.
    pub count: u16,
    /// Fields that it gives.
    pub fields: usize,
    /// Registers or bits that no field needs.
    pub holes: u16,
    /// Until the next one can be sent.
    #[serde(rename = "estimated_ms", serialize_with = "millis")]
    pub estimated: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
    #[serde(skip)]
    request: Request,
}

/// What became of a request that was sent.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measured {
    /// The median of some.
    #[serde(rename = "ms", serialize_with = "millis")]
    Took(Duration),
    /// It was not answered with values, in words.
    Failed(String),
}

/// A group beside the others of its bus, as a program reads it.
#[derive(Debug, Serialize)]
pub struct Told<'a> {
    #[serde(flatten)]
    group: &'a Planned,
    time_ms: f64,
    /// `null` where the others leave no time.
    shortest_ms: Option<f64>,
}

/// A device that answers after another time than the plan assumes, so that there is a
/// better plan.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Latency {
    pub device: String,
    #[serde(rename = "assumed_ms", serialize_with = "millis")]
    pub assumed: Duration,
    /// To be written as `latency`.
    #[serde(rename = "measured_ms", serialize_with = "millis")]
    pub measured: Duration,
    /// Requests of the plan as it is, and of the one with the measured time.
    pub requests: usize,
    pub requests_then: usize,
}

/// What works, and yet not as it was meant: key path inside the source, and what
/// comes of it. For a configuration that [`Config::check`] found nothing wrong with.
/// Only a serial line is slow for sure; how long a host takes, nobody has asked it.
pub fn doubts(config: &Config) -> Vec<(String, String)> {
    if !config.is_serial() {
        return Vec::new();
    }
    let load = Outline::new(config).load();
    if load <= 1.0 {
        return Vec::new();
    }
    let what = format!(
        "takes about {:.0} % of the bus's time, so that cycles will be skipped: read less often, \
         or say how soon the devices answer (`latency`); `tidegate plan {}` shows what takes how \
         long",
        load * 100.0,
        config.name
    );
    vec![("device".into(), what)]
}

fn millis<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(in_millis(*time))
}

/// To the microsecond.
fn in_millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

impl Outline {
    /// From a configuration that [`Config::check`] found nothing wrong with.
    pub fn new(config: &Config) -> Self {
        let groups = config.devices.iter().enumerate().flat_map(|(of, device)| {
            let groups = device.groups.iter().enumerate();
            groups.map(move |(number, group)| Planned::new(config, of, device, number, group))
        });
        Self {
            source: config.name.clone(),
            address: config.address.clone(),
            fallback: config.fallback.clone(),
            framing: config.framing(),
            baud: config.is_serial().then(|| config.serial.unwrap_or_default().baud),
            groups: groups.collect(),
        }
    }

    /// The part of its time that the bus is busy; above 1 cycles are missed.
    pub fn load(&self) -> f64 {
        self.groups.iter().map(Planned::load).sum()
    }

    /// Whether the time of most requests is no more than a guess: it was not measured,
    /// and no line makes the most of it.
    pub fn is_guess(&self) -> bool {
        let mut reads = self.groups.iter().flat_map(|group| &group.requests);
        self.baud.is_none() && reads.all(|read| read.measured.is_none())
    }

    /// The shortest interval at which this group can be read while the others keep
    /// theirs; `None` where they leave no time.
    pub fn shortest(&self, group: &Planned) -> Option<Duration> {
        let left = 1.0 - (self.load() - group.load());
        // Less than a thousandth is a rounding error or of no use.
        (left > 1e-3).then(|| group.time().div_f64(left))
    }

    /// The groups with what becomes of them on this bus.
    pub fn told(&self) -> Vec<Told<'_>> {
        let told = |group| Told {
            group,
            time_ms: in_millis(group.time()),
            shortest_ms: self.shortest(group).map(in_millis),
        };
        self.groups.iter().map(told).collect()
    }

    /// Asks the devices, each request three times, and tells before each one how many
    /// there were, of how many. What a device refuses or leaves without an answer is in
    /// the outline; one that is silent is asked nothing more.
    ///
    /// # Errors
    ///
    /// There is no way to any device.
    pub async fn measure(
        &mut self,
        config: &Config,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<(), Error> {
        let first = place(config, &config.address);
        let mut peer = Peer::new(first, config.framing(), config.timeout.get());
        peer.connect().await?;
        let all = self.groups.iter().map(|group| group.requests.len()).sum();
        // Of which device the last answer came, and which one is not asked any more.
        let (mut answered, mut silent) = (None, None);
        let mut done = 0;
        for group in &mut self.groups {
            for read in &mut group.requests {
                progress(done, all);
                if done == 0 {
                    // Before it the line is listened to for a while.
                    time(&mut peer, group.unit, &read.request).await?.ok();
                }
                done += 1;
                if silent == Some(group.of) {
                    let what = "not asked: the device was silent before".to_owned();
                    read.measured = Some(Measured::Failed(what));
                    continue;
                }
                let mut took = Vec::with_capacity(ROUNDS);
                for _ in 0..ROUNDS {
                    match time(&mut peer, group.unit, &read.request).await? {
                        Ok(one) => {
                            took.push(one);
                            answered = Some(group.of);
                        }
                        Err(failed) => {
                            let is_whole = failed.silent && answered != Some(group.of);
                            silent = is_whole.then_some(group.of);
                            read.measured = Some(Measured::Failed(failed.what));
                            break;
                        }
                    }
                }
                if read.measured.is_none() {
                    read.measured = median(took).map(Measured::Took);
                }
            }
        }
        Ok(())
    }

    /// Where the devices, as they were measured, would be read better by another plan.
    pub fn latencies(&self, config: &Config) -> Vec<Latency> {
        let devices = config.devices.iter().enumerate();
        devices.filter_map(|(of, device)| self.latency(config, of, device)).collect()
    }

    fn latency(&self, config: &Config, of: usize, device: &Device) -> Option<Latency> {
        let cost = Cost::new(config, device.latency.map(Period::get));
        let reads = self.groups.iter().filter(|group| group.of == of).flat_map(|g| &g.requests);
        let thought = reads.clone().filter_map(|read| match read.measured {
            Some(Measured::Took(took)) => Some(cost.latency_in(read.table, read.count, took)),
            _ => None,
        });
        // As it is written: in whole milliseconds, and not as none.
        let millis = median(thought.collect())?.as_millis().max(1);
        let measured = Period::from_millis(u64::try_from(millis).ok()?);
        let then = Device { latency: Some(measured), ..device.clone() };
        let planned = then.groups.iter().flat_map(|group| group::requests(config, &then, group));
        let planned: Vec<Request> = planned.collect();
        let changed = !planned.iter().eq(reads.clone().map(|read| &read.request));
        changed.then(|| Latency {
            device: device.name.clone(),
            assumed: cost.latency(),
            measured: measured.get(),
            requests: reads.count(),
            requests_then: planned.len(),
        })
    }
}

impl Planned {
    fn new(config: &Config, of: usize, device: &Device, number: usize, group: &Group) -> Self {
        let cost = Cost::new(config, device.latency.map(Period::get));
        let spans = group::spans(group);
        let requests = group::requests(config, device, group).into_iter();
        Self {
            device: device.name.clone(),
            unit: device.unit,
            group: group.name.clone().unwrap_or_else(|| number.to_string()),
            interval: group.interval.get(),
            requests: requests.map(|request| Read::new(&cost, &spans, request)).collect(),
            sunspec: group.sunspec.is_some(),
            of,
        }
    }

    /// To read it once: as it was measured, and what is not is estimated.
    pub fn time(&self) -> Duration {
        self.requests.iter().map(Read::time).sum()
    }

    pub fn load(&self) -> f64 {
        self.time().as_secs_f64() / self.interval.as_secs_f64().max(1e-3)
    }
}

impl Read {
    /// In words: `holding 100 to 109`.
    pub fn range(&self) -> String {
        self.request.range()
    }

    fn new(cost: &Cost, spans: &[Span], request: Request) -> Self {
        Self {
            table: request.table,
            address: request.address,
            count: request.count,
            fields: request.signals.len(),
            holes: request.count.saturating_sub(covered(spans, &request)),
            estimated: cost.of(request.table, request.count),
            measured: None,
            request,
        }
    }

    fn time(&self) -> Duration {
        match self.measured {
            Some(Measured::Took(took)) => took,
            _ => self.estimated,
        }
    }
}

/// Registers or bits of a request that belong to a field; they come in order.
fn covered(spans: &[Span], request: &Request) -> u16 {
    let (mut end, mut covered) = (0_u16, 0_u16);
    for (index, offset) in &request.signals {
        let width = spans.get(*index).map_or(0, |span| span.width);
        let until = offset.saturating_add(width);
        covered = covered.saturating_add(until.saturating_sub(end.max(*offset)));
        end = end.max(until);
    }
    covered
}

/// Why one request got no values.
struct Failed {
    what: String,
    /// The device as a whole gives no answer.
    silent: bool,
}

/// One exchange. The outer error: there is no way to any device.
async fn time(
    peer: &mut Peer,
    unit: u8,
    request: &Request,
) -> Result<Result<Duration, Failed>, Error> {
    let began = Instant::now();
    let failed = match peer.exchange(unit, request).await {
        Ok(_) => return Ok(Ok(began.elapsed())),
        Err(Failure::Unreachable(error)) => return Err(error),
        Err(Failure::Exception(code)) => {
            Failed { what: group::exception(code), silent: group::is_silence(code) }
        }
        Err(Failure::Late) => Failed { what: "no answer in time".to_owned(), silent: true },
        Err(Failure::Unexpected(what)) => Failed { what, silent: false },
        Err(Failure::Closed(cause)) => {
            Failed { what: format!("the connection broke: {cause}"), silent: false }
        }
    };
    Ok(Err(failed))
}

fn median(mut times: Vec<Duration>) -> Option<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}
