//! The show: plant, agent, Kafka and judge, and what is known of them.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tempfile::TempDir;
use tidegate::clock::Clock;
use tidegate_demo::judge::Judge;
use tidegate_demo::kafka::Kafka;
use tidegate_demo::ledger::{Ledger, Source};
use tidegate_demo::plant::Plant;
use tidegate_demo::uplink::Uplink;

use crate::config;
use crate::gateway::{Gateway, Stats};
use crate::log::{self, Tail};
use crate::view::{Snapshot, SourceLine};

/// Depths that the sparkline can show: two minutes at two a second, or as wide
/// as terminals get.
const HISTORY: usize = 240;

/// Rates are over the last two seconds of half-second samples.
const SAMPLES: usize = 4;

/// Everything that runs.
pub(crate) struct Show {
    folder: Option<TempDir>,
    config: PathBuf,
    started: Instant,
    clock: Clock,
    ledger: Ledger,
    kafka: Kafka,
    uplink: Uplink,
    plant: Plant,
    judge: Option<Judge>,
    gateway: Option<Gateway>,
    tail: Tail,
    stats: Stats,
    peak: u64,
    history: VecDeque<u64>,
    /// When, what each source had made, and what was delivered.
    samples: VecDeque<(Instant, [u64; 3], u64)>,
}

impl Show {
    pub(crate) async fn start(brokers: Option<&str>, rate: u32) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("tidegate-demo-")
            .tempdir()
            .context("cannot make a temporary folder")?;
        let tail = log::start(&folder.path().join("agent.log"))?;
        let kafka = match brokers {
            Some(brokers) => Kafka::real(brokers).await?,
            None => Kafka::simulated()?,
        };
        let uplink = Uplink::start(kafka.brokers()).await.context("cannot open the uplink")?;
        let ledger = Ledger::new(kafka.is_mock());
        let clock = Clock::system();
        // In a Kafka that others use, too, each run is a gateway of its own.
        let id =
            if kafka.is_mock() { "demo".to_owned() } else { format!("demo-{}", clock.now().0) };
        let judge = Judge::start(kafka.brokers(), &id, ledger.clone())?;
        let plant = Plant::start(folder.path(), rate, ledger.clone()).await?;
        let path = folder.path().join("gateway.toml");
        let text = config::text(&config::Places {
            id: &id,
            brokers: uplink.brokers(),
            buffer: &folder.path().join("buffer.db"),
            boiler: plant.boiler(),
            broker: plant.broker().address(),
            database: plant.database(),
        });
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        let gateway = Gateway::start(&path)?;
        Ok(Self {
            folder: Some(folder),
            config: path,
            started: Instant::now(),
            clock,
            ledger,
            kafka,
            uplink,
            plant,
            judge: Some(judge),
            stats: gateway.stats(),
            gateway: Some(gateway),
            tail,
            peak: 0,
            history: VecDeque::new(),
            samples: VecDeque::new(),
        })
    }

    pub(crate) fn plugged(&self) -> bool {
        self.uplink.plugged()
    }

    /// Pulls the uplink's plug or puts it back.
    pub(crate) fn plug(&mut self, plugged: bool) {
        self.uplink.plug(plugged);
        if plugged {
            self.ledger.outage_over();
        }
    }

    /// Takes the agent's figures anew.
    pub(crate) fn look(&mut self) {
        if let Some(gateway) = &self.gateway {
            self.stats = gateway.stats();
        }
        self.peak = self.peak.max(self.stats.events);
    }

    /// Most events that were in the buffer at once.
    pub(crate) fn peak(&self) -> u64 {
        self.peak
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.ledger.live(None).delivered
    }

    /// Events that were made and not delivered.
    pub(crate) fn under_way(&self) -> u64 {
        let now = self.ledger.live(None);
        now.produced.saturating_sub(now.delivered)
    }

    pub(crate) fn snapshot(&mut self) -> Snapshot {
        let by = Source::ALL.map(|source| self.ledger.live(Some(source)));
        let totals = self.ledger.live(None);
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(self.stats.events);
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((Instant::now(), by.map(|t| t.produced), totals.delivered));
        let first = self.samples.front();
        let rate = |now: u64, before: &dyn Fn(&[u64; 3], u64) -> u64| {
            first.map_or(0.0, |(at, made, delivered)| {
                per_second(now.saturating_sub(before(made, *delivered)), at.elapsed())
            })
        };
        let sources =
            Source::ALL.into_iter().zip(by).enumerate().map(|(index, (source, now))| SourceLine {
                name: source.name(),
                kind: kind(source),
                made: now.produced,
                delivered: now.delivered,
                rate: rate(now.produced, &|made, _| made.get(index).copied().unwrap_or(0)),
                up: self.stats.sources.iter().any(|(name, up)| name == source.name() && *up),
            });
        Snapshot {
            elapsed: self.started.elapsed(),
            sources: sources.collect(),
            depth: self.stats.events,
            peak: self.peak,
            bytes: self.stats.bytes,
            oldest: self.stats.oldest.map(|at| {
                let age = self.clock.now().0.saturating_sub(at.0);
                Duration::from_nanos(u64::try_from(age).unwrap_or(0))
            }),
            history: self.history.iter().copied().collect(),
            plugged: self.uplink.plugged(),
            brokers: self.kafka.brokers().to_owned(),
            forward: self.stats.forward.clone(),
            totals,
            rate: rate(totals.delivered, &|_, delivered| delivered),
            said: self.tail.lines(),
            config: self.config.display().to_string(),
        }
    }

    pub(crate) async fn stop_plant(&mut self) {
        self.plant.stop().await;
    }

    /// Stops the agent, then gives away what the result is made of: the
    /// ledger, what it does not prove, the dead letters, and the judge, which
    /// still reads.
    pub(crate) async fn stop_agent(
        &mut self,
    ) -> anyhow::Result<(Ledger, &'static str, u64, Judge)> {
        self.look();
        let judge = self.judge.take().context("the agent was stopped before")?;
        if let Some(gateway) = self.gateway.take() {
            gateway.stop().await.context("cannot stop the agent")?;
        }
        Ok((self.ledger.clone(), self.kafka.note(), self.stats.dead_letters, judge))
    }

    /// Ends everything; the folder's path where it is kept.
    pub(crate) fn close(mut self, keep: bool) -> Option<PathBuf> {
        let folder = self.folder.take()?;
        keep.then(|| folder.keep())
    }
}

const fn kind(source: Source) -> &'static str {
    match source {
        Source::Boiler => "modbus tcp",
        Source::Sensors => "mqtt",
        Source::Machine => "sqlite",
    }
}

fn per_second(count: u64, time: Duration) -> f64 {
    let count = u32::try_from(count).map_or(f64::INFINITY, f64::from);
    if time.is_zero() { 0.0 } else { count / time.as_secs_f64() }
}

/// When the plug is in, in an unattended run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeline {
    out_from: Duration,
    out_until: Duration,
    end: Duration,
}

impl Timeline {
    /// Longer than the agent's first pauses; a shorter run has a shorter outage, so that there are
    /// events before and after.
    const OUTAGE: Duration = Duration::from_secs(8);

    pub(crate) fn new(end: Duration) -> Self {
        let outage = Self::OUTAGE.min(end * 2 / 5);
        let out_from = end.saturating_sub(outage) / 2;
        Self { out_from, out_until: out_from + outage, end }
    }

    pub(crate) fn plugged(&self, elapsed: Duration) -> bool {
        !(self.out_from..self.out_until).contains(&elapsed)
    }

    pub(crate) fn is_over(&self, elapsed: Duration) -> bool {
        elapsed >= self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outage_is_eight_seconds_in_the_middle_and_less_in_a_short_run() {
        let outage = |whole: u64| {
            let timeline = Timeline::new(Duration::from_secs(whole));
            let out = |ms: &u64| !timeline.plugged(Duration::from_millis(*ms));
            let all: Vec<u64> = (0..whole * 1_000).step_by(500).filter(out).collect();
            (all.first().copied(), all.last().copied())
        };
        assert_eq!(outage(20), (Some(6_000), Some(13_500)));
        assert_eq!(outage(60), (Some(26_000), Some(33_500)));
        assert_eq!(outage(10), (Some(3_000), Some(6_500)));
        assert!(Timeline::new(Duration::from_secs(20)).is_over(Duration::from_secs(20)));
    }
}
