//! Puts the stages together: opens the file, starts the forwarder, the writer
//! and the sources, and takes them down in the order in which an event goes.

mod mend;
mod scrub;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use mend::Again;

use crate::buffer::{self, Epoch};
use crate::clock::Clock;
use crate::collect::{self, Buffer, Checkpoint, Collector, SourceInfo};
use crate::config::Config;
use crate::control::{self, Desk, Live};
use crate::flow::Flows;
use crate::forward::{self, Forwarder};
use crate::source::{Setup, Source};
use crate::status::{self, Board};
use crate::supervise::{self, Link};
use crate::system;

/// Kept of the grace for closing the buffer.
const CLOSING: Duration = Duration::from_millis(500);

/// What the sources handed over is committed also when the grace is shorter: a
/// slow card takes as long for it.
const LEAST_GRACE: Duration = Duration::from_secs(2);

/// A running agent. It runs until [`Agent::stop`].
#[derive(Debug)]
pub struct Agent {
    sources: JoinSet<()>,
    links: Vec<watch::Receiver<supervise::State>>,
    stop: CancellationToken,
    collector: Collector,
    forwarder: Forwarder,
    buffer: watch::Receiver<buffer::Stats>,
    epoch: Epoch,
    grace: Duration,
    /// Answers commands, and whoever asks for its status, until the agent is gone.
    control: JoinSet<()>,
    status_at: Option<SocketAddr>,
    drain: watch::Receiver<Option<Duration>>,
}

/// Why an agent is of no use any more.
#[derive(Debug)]
pub enum Broken {
    /// The file turned out to be damaged: stop it and start a new one, whose
    /// opening salvages the file. All that a restart does is done, so that
    /// nothing comes twice.
    Damaged,
    /// A part of it has ended: end the process, its supervisor starts it anew.
    Part(anyhow::Error),
}

/// What the agent has done so far: cheap to take, for the status line.
#[derive(Debug, Clone)]
pub struct Stats {
    pub sources: Vec<supervise::State>,
    pub buffer: buffer::Stats,
    pub forward: forward::Status,
}

impl Agent {
    /// Starts everything. The file is opened before anything else, under its
    /// lock; neither the sources nor Kafka need to be there.
    ///
    /// # Errors
    ///
    /// The file cannot be opened or is another agent's, or a source cannot be
    /// set up. Nothing runs then.
    pub fn start(config: Config) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let streams = config.streams.iter().map(crate::config::Stream::rules);
        let mut flows = Flows::new(streams.chain(config.system.rules()));
        let file = Buffer::open(&config.buffer, &config.gateway.id, clock.clone())?;
        let epoch = file.epoch();
        let mut sources = Vec::new();
        let mut infos = Vec::new();
        for wanted in config.sources {
            let name: Arc<str> = wanted.name().into();
            let mut labels = config.gateway.labels.clone();
            labels.extend(wanted.labels().clone());
            let saved = file.saved(&name).map(|saved| match saved {
                Checkpoint::Cursor(bytes) | Checkpoint::Session(bytes) => bytes,
            });
            let gateway = &config.gateway.id;
            let lost = saved.is_none() && file.is_lost(&name);
            let setup = Setup { gateway, flows: &mut flows, clock: clock.clone(), saved, lost };
            let source = Source::new(&wanted, setup);
            let labels = labels.into_iter().map(|(name, value)| (name.into(), value.into()));
            infos.push(SourceInfo { name: Arc::clone(&name), labels: labels.collect() });
            sources.push((name, source));
        }
        // The agent's own source is the last one.
        let saved = file.saved(system::SOURCE);
        let loss = file.last_loss();
        let system = system::Plan::new(&config.system, &mut flows, saved, loss);
        if system.is_some() {
            let labels = config.gateway.labels.iter();
            let labels = labels.map(|(name, value)| (name.as_str().into(), value.as_str().into()));
            infos.push(SourceInfo { name: system::SOURCE.into(), labels: labels.collect() });
        }
        let streams = flows.rules().map(|rules| rules.stream.name.clone()).collect();
        let cycles = sources.iter().map(|(name, source)| (Arc::clone(name), source.cycles()));
        let cycles = cycles.collect();
        let stats = file.stats();
        let store = file.store();
        let (collector, mut intakes) = collect::start(file, infos, flows)?;
        let gateway = &config.gateway.id;
        let forwarder = forward::start(config.kafka, gateway, store.clone(), clock.clone())?;
        let (desk_store, board_store) = (store.clone(), store.clone());
        let board_clock = clock.clone();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        if let Some(plan) = system
            && let Some(intake) = intakes.pop()
        {
            let system = plan.start(gateway, clock, store, forwarder.status.clone());
            tasks.spawn(system.run(intake, stop.clone()));
        }
        tasks.spawn(scrub::run(collector.store(), stop.clone()));
        let mut links = Vec::new();
        for ((name, source), intake) in sources.into_iter().zip(intakes) {
            let link = Link::new(name);
            links.push(link.watch());
            tasks.spawn(supervise::supervise(source, intake, link, stop.clone()));
        }
        let (asked, drain) = watch::channel(None);
        let live = Live {
            sources: links.clone(),
            buffer: stats.clone(),
            forward: forwarder.status.clone(),
            drain: asked,
        };
        let desk =
            Desk { buffer: config.buffer.path.clone(), store: Some(desk_store), live: Some(live) };
        let mut control = JoinSet::new();
        let socket = config.control.socket(&config.buffer.path);
        match take_commands(&config.buffer.path, &socket) {
            Ok(listening) => {
                control.spawn(listening.serve(Arc::new(desk)));
            }
            Err(cause) => {
                warn!(socket = %socket.display(), error = %cause, "cannot open the socket for commands, running without");
            }
        }
        let board = Board {
            gateway: gateway.clone(),
            clock: board_clock,
            sources: links.clone(),
            cycles,
            streams,
            store: board_store,
            writer: collector.alive(),
            forward: forwarder.status.clone(),
        };
        let status_at = status::start(&config.status, board, &mut control);
        Ok(Self {
            sources: tasks,
            links,
            stop,
            collector,
            forwarder,
            buffer: stats,
            epoch,
            grace: config.gateway.shutdown_grace.get(),
            control,
            status_at,
            drain,
        })
    }

    /// The epoch of this run: part of the id of every event that it takes.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Where its status is served, if the port could be opened.
    pub fn status(&self) -> Option<SocketAddr> {
        self.status_at
    }

    pub fn stats(&self) -> Stats {
        Stats {
            sources: self.links.iter().map(|link| link.borrow().clone()).collect(),
            buffer: self.buffer.borrow().clone(),
            forward: self.forwarder.status.borrow().clone(),
        }
    }

    /// Waits until Kafka's position is known for the first time: the start is
    /// over. Never, where the forwarder ends before.
    pub fn connected(&self) -> impl Future<Output = ()> + use<> {
        let mut status = self.forwarder.status.clone();
        async move {
            let sending = status.wait_for(|status| status.state == "sending").await.is_ok();
            if !sending {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until a part has ended that must not end.
    pub async fn broken(&mut self) -> Broken {
        let cause = tokio::select! {
            () = self.collector.ended() => anyhow::anyhow!("the buffer's thread has ended"),
            _ = self.forwarder.status.wait_for(|_| false) => {
                anyhow::anyhow!("the forwarder's thread has ended")
            }
            Some(Err(cause)) = self.sources.join_next() => {
                anyhow::Error::new(cause).context("a source's task has ended")
            }
        };
        // Whoever asks a writer that has ended ends with it.
        if self.collector.is_damaged() { Broken::Damaged } else { Broken::Part(cause) }
    }

    /// How the buffer stands, now and with each commit.
    pub fn buffer(&self) -> watch::Receiver<buffer::Stats> {
        self.buffer.clone()
    }

    /// Where a command leaves word that the agent is to end once its buffer is
    /// empty, and within which time.
    pub fn drain_requests(&self) -> watch::Receiver<Option<Duration>> {
        self.drain.clone()
    }

    /// Stops the sources, commits what they handed over, and waits until all
    /// that is stored was sent: true when it was, within this time. The agent
    /// is then to be stopped.
    pub async fn drain(&mut self, within: Duration) -> anyhow::Result<bool> {
        let began = tokio::time::Instant::now();
        self.end_sources(began + (self.grace / 2).min(within)).await;
        let store = self.collector.store();
        let (done, settled) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name("drain".to_owned()).spawn(move || {
            if done.send(store.settle()).is_err() {
                info!("the buffer was settled behind the time to drain");
            }
        })?;
        let (buffer, collector) = (&mut self.buffer, &mut self.collector);
        let empty = async {
            if !matches!(settled.await, Ok(Ok(_))) {
                return false;
            }
            // What waits for room gets it as the rest is sent.
            let empty = |stats: &buffer::Stats| stats.batches == 0 && !stats.unsettled;
            buffer.wait_for(empty).await.is_ok()
        };
        tokio::select! {
            // A file that turns out to be damaged is for the next start.
            () = collector.ended() => Ok(false),
            empty = tokio::time::timeout_at(began + within, empty) => Ok(empty.unwrap_or(false)),
        }
    }

    async fn end_sources(&mut self, latest: tokio::time::Instant) {
        self.stop.cancel();
        let all_ended = async { while self.sources.join_next().await.is_some() {} };
        if tokio::time::timeout_at(latest, all_ended).await.is_err() {
            info!("a source did not stop in time and is left behind");
            self.sources.shutdown().await;
        }
    }

    /// Stops the sources, commits what they handed over, sends what is stored
    /// as far as the grace allows, and ends. What is not sent stays in the
    /// file. Gives the number of events that are still in it.
    pub async fn stop(mut self) -> anyhow::Result<u64> {
        let began = tokio::time::Instant::now();
        // The other half is for what they handed over.
        self.end_sources(began + self.grace / 2).await;
        self.control.shutdown().await;
        let (forwarder, collector) = (self.forwarder, self.collector);
        let sending = began + self.grace.saturating_sub(CLOSING.min(self.grace / 4));
        let (done, closed) = tokio::sync::oneshot::channel();
        // A thread of its own: those of the runtime may all be held by reads of
        // databases and look-ups of names that no longer come back.
        std::thread::Builder::new().name("stop".to_owned()).spawn(move || {
            collector.settle();
            forwarder.stop(sending.saturating_duration_since(tokio::time::Instant::now()));
            collector.close();
            if done.send(()).is_err() {
                info!("the buffer was closed behind the grace");
            }
        })?;
        // A medium that neither writes nor errs holds the writer for ever; what
        // it was not told to be on the medium is not acknowledged.
        tokio::time::timeout_at(began + self.grace.max(LEAST_GRACE), closed)
            .await
            .context("the buffer was not closed in time")?
            .context("the buffer did not close")?;
        let events = self.buffer.borrow().events;
        Ok(events)
    }
}

/// Opens the socket and leaves word of it where commands look.
fn take_commands(
    buffer: &std::path::Path,
    socket: &std::path::Path,
) -> std::io::Result<control::Listening> {
    let listening = control::listen(socket)?;
    buffer::announce(buffer, socket)?;
    Ok(listening)
}
