//! Puts the stages together: opens the file, starts the forwarder, the writer
//! and the sources, and takes them down in the order in which an event goes.

mod certificates;
mod mend;
mod packed;
mod reload;
mod running;
mod scrub;
#[cfg(test)]
mod tests;
mod wanted;
mod watchdog;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use mend::Again;
use packed::Packed;
pub use reload::{Refused, Reloaded};
use running::{Made, Running};
use wanted::{rules, wanted};
pub use watchdog::{Vitals, Watchdog};

use crate::buffer::{self, Epoch};
use crate::clock::Clock;
use crate::collect::{self, Buffer, Collector, Joined};
use crate::config::Config;
use crate::control::{self, Desk, Live};
use crate::flow::Flows;
use crate::forward::{self, Forwarder};
use crate::status::{self, Board};
use crate::{memory, pulse, supervise};

/// Kept of the grace for closing the buffer.
const CLOSING: Duration = Duration::from_millis(500);

/// What the sources handed over is committed also when the grace is shorter: a
/// slow card takes as long for it.
const LEAST_GRACE: Duration = Duration::from_secs(2);

/// Between two looks whether memory is to be given back.
const REST: Duration = Duration::from_mins(1);

/// A running agent. It runs until [`Agent::stop`].
#[derive(Debug)]
pub struct Agent {
    /// What it runs by, without its sources.
    config: Config,
    sources: Vec<Packed>,
    clock: Clock,
    flows: Flows,
    tasks: JoinSet<()>,
    running: Vec<Running>,
    /// How the sources stand, in the order of the configuration.
    links: watch::Sender<Links>,
    /// What whoever asks for its status may see.
    seen: watch::Sender<status::Seen>,
    /// The certificates that its configuration names.
    named: watch::Sender<Vec<certificates::Named>>,
    stop: CancellationToken,
    collector: Collector,
    /// None only while another configuration of Kafka is taken over.
    forwarder: Option<Forwarder>,
    /// What the forwarder was made of. The same again needs no other one.
    uplink: Made,
    forward: watch::Sender<forward::Status>,
    buffer: watch::Receiver<buffer::Stats>,
    epoch: Epoch,
    /// Answers commands, and whoever asks for its status, until the agent is gone.
    control: JoinSet<()>,
    status_at: Option<SocketAddr>,
    drain: watch::Receiver<Option<Duration>>,
}

/// Where each source tells how it stands.
pub type Links = Vec<watch::Receiver<supervise::State>>;

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

/// Gives memory back each minute in which something came: what an idle agent has free,
/// it has given back before.
async fn give_back(stats: watch::Receiver<buffer::Stats>, stop: CancellationToken) {
    let looks = async {
        let mut known = 0;
        loop {
            tokio::time::sleep(REST).await;
            let committed = stats.borrow().committed;
            if committed != known {
                known = committed;
                // What ends it is the end of the process.
                tokio::task::spawn_blocking(memory::give_back).await.ok();
            }
        }
    };
    stop.run_until_cancelled(looks).await;
}

/// Takes the sources out of a configuration.
fn packed(config: &mut Config) -> Vec<Packed> {
    std::mem::take(&mut config.sources).into_iter().map(Packed::new).collect()
}

impl Agent {
    /// Starts everything. The file is opened before anything else, under its
    /// lock; neither the sources nor Kafka need to be there.
    ///
    /// # Errors
    ///
    /// The file cannot be opened or is another agent's, or a source cannot be
    /// set up. Nothing runs then.
    pub fn start(mut config: Config) -> anyhow::Result<Self> {
        // A salvage takes long.
        let _told = pulse::calling(watchdog::works);
        let named = watch::Sender::new(certificates::named(&config));
        let sources = packed(&mut config);
        // What the reading of a large file left free would be filled here and there by what
        // stays, and could not be given back any more.
        memory::give_back();
        let clock = Clock::system();
        let mut flows = Flows::new(rules(&config));
        let wanted = wanted(&config, &sources, &mut flows, &clock);
        let file = Buffer::open(&config.buffer, &config.gateway.id, clock.clone())?;
        let epoch = file.epoch();
        let damage = file.last_loss().cloned();
        let saved: Vec<_> = wanted
            .iter()
            .map(|wanted| {
                let saved = file.saved(&wanted.info.name);
                let lost = saved.is_none() && file.is_lost(&wanted.info.name);
                (saved, lost)
            })
            .collect();
        let stats = file.stats();
        let store = file.store();
        let infos = wanted.iter().map(|wanted| wanted.info.clone()).collect();
        let (collector, intakes) = collect::start(file, infos, flows.clone())?;
        let forward = watch::Sender::new(forward::Status::begin());
        let uplink = reload::uplink(&config);
        let forwarder = forward::start(
            config.kafka.clone(),
            &config.gateway.id,
            store.clone(),
            clock.clone(),
            forward.clone(),
        )?;
        let links = watch::Sender::new(Links::new());
        let (asked, drain) = watch::channel(None);
        let live = Live {
            sources: links.subscribe(),
            buffer: stats.clone(),
            forward: forward.subscribe(),
            drain: asked,
        };
        let desk =
            Desk { buffer: config.buffer.path.clone(), store: Some(store), live: Some(live) };
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
        let seen = watch::Sender::new(status::Seen::default());
        let found = watch::Sender::new(Vec::new());
        let board = Board {
            gateway: config.gateway.id.clone(),
            clock: clock.clone(),
            seen: seen.subscribe(),
            store: collector.store(),
            forward: forward.subscribe(),
            certificates: found.subscribe(),
        };
        let status_at = status::start(&config.status, board, &mut control);
        let mut agent = Self {
            config,
            sources,
            clock,
            flows,
            tasks: JoinSet::new(),
            running: Vec::new(),
            seen,
            named,
            links,
            stop: CancellationToken::new(),
            collector,
            forwarder: Some(forwarder),
            uplink,
            forward,
            buffer: stats,
            epoch,
            control,
            status_at,
            drain,
        };
        agent.tasks.spawn(scrub::run(agent.collector.store(), agent.stop.clone()));
        let (named, clock) = (agent.named.subscribe(), agent.clock.clone());
        agent.tasks.spawn(certificates::run(named, found, clock, agent.stop.clone()));
        agent.tasks.spawn(give_back(agent.buffer.clone(), agent.stop.clone()));
        for ((wanted, intake), (saved, lost)) in wanted.into_iter().zip(intakes).zip(saved) {
            agent.run(wanted, Joined { intake, saved, lost }, damage.as_ref());
        }
        agent.show();
        Ok(agent)
    }

    /// The epoch of this run: part of the id of every event that it takes.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How its threads get on, for the watchdog.
    pub fn vitals(&self) -> Vitals {
        Vitals::new(self.pulses(), self.collector.store())
    }

    fn pulses(&self) -> Vec<pulse::Pulse> {
        let forward = self.forwarder.as_ref().map(Forwarder::pulse);
        [Some(self.collector.pulse()), forward].into_iter().flatten().cloned().collect()
    }

    /// What it runs by.
    pub fn config(&self) -> Config {
        let sources = self.sources.iter().map(Packed::config).collect();
        Config { sources, ..self.config.clone() }
    }

    /// Where its status is served, if the port could be opened.
    pub fn status(&self) -> Option<SocketAddr> {
        self.status_at
    }

    pub fn stats(&self) -> Stats {
        Stats {
            sources: self.links.borrow().iter().map(|link| link.borrow().clone()).collect(),
            buffer: self.buffer.borrow().clone(),
            forward: self.forward.borrow().clone(),
        }
    }

    /// Waits until Kafka's position is known for the first time: the start is
    /// over. Never, where the forwarder ends before.
    pub fn connected(&self) -> impl Future<Output = ()> + use<> {
        let mut status = self.forward.subscribe();
        async move {
            let sending = status.wait_for(|status| status.state == "sending").await.is_ok();
            if !sending {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until a part has ended that must not end.
    pub async fn broken(&mut self) -> Broken {
        let forwarder = async {
            match &mut self.forwarder {
                Some(forwarder) => forwarder.ended().await,
                None => std::future::pending().await,
            }
        };
        let failed = async {
            loop {
                match self.tasks.join_next().await {
                    Some(Err(cause)) if !cause.is_cancelled() => return cause,
                    // A source that another configuration has stopped.
                    Some(_) => {}
                    None => std::future::pending().await,
                }
            }
        };
        let cause = tokio::select! {
            () = self.collector.ended() => anyhow::anyhow!("the buffer's thread has ended"),
            () = forwarder => anyhow::anyhow!("the forwarder's thread has ended"),
            cause = failed => anyhow::Error::new(cause).context("a source's task has ended"),
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
        self.end_sources(began + (self.grace() / 2).min(within)).await;
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

    fn grace(&self) -> Duration {
        self.config.gateway.shutdown_grace.get()
    }

    async fn end_sources(&mut self, latest: tokio::time::Instant) {
        self.stop.cancel();
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout_at(latest, all_ended).await.is_err() {
            info!("a source did not stop in time and is left behind");
            self.tasks.shutdown().await;
        }
    }

    /// Stops the sources, commits what they handed over, sends what is stored
    /// as far as the grace allows, and ends. What is not sent stays in the
    /// file. Gives the number of events that are still in it.
    pub async fn stop(mut self) -> anyhow::Result<u64> {
        let began = tokio::time::Instant::now();
        let grace = self.grace();
        // The other half is for what they handed over.
        self.end_sources(began + grace / 2).await;
        self.control.shutdown().await;
        let (forwarder, collector) = (self.forwarder, self.collector);
        let sending = began + grace.saturating_sub(CLOSING.min(grace / 4));
        let (done, closed) = tokio::sync::oneshot::channel();
        // A thread of its own: those of the runtime may all be held by reads of
        // databases and look-ups of names that no longer come back.
        std::thread::Builder::new().name("stop".to_owned()).spawn(move || {
            collector.settle();
            if let Some(forwarder) = forwarder {
                forwarder.stop(sending.saturating_duration_since(tokio::time::Instant::now()));
            }
            collector.close();
            if done.send(()).is_err() {
                info!("the buffer was closed behind the grace");
            }
        })?;
        // A medium that neither writes nor errs holds the writer for ever; what
        // it was not told to be on the medium is not acknowledged.
        tokio::time::timeout_at(began + grace.max(LEAST_GRACE), closed)
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
