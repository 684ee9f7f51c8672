//! The MQTT source: a loop of our own on the codec of rumqttc's maintained
//! fork.
//!
//! Why not its event loop: the order and the moment of acknowledgements and the
//! session are ours (SAFETY 18–21), and reads and acknowledgements are
//! gathered: one system call for many messages (0.75 µs a message
//! against 2.6).
//!
//! The parts: [`config`], `subscription`; `frame` (bytes → packets), `packet`, `v4`, `v5`
//! (packets ↔ codec); `session` (what is un-acknowledged; pure), `numbering` (how
//! the broker gives packet ids; pure), `window` (when it stands still; pure), `route` (message → events; pure), with
//! `payload`, `pick` and `property`; `stream` (socket and TLS), `connection` (the loop);
//! `hosted` (where the reader is a Sparkplug host and not the routes).

pub mod config;
mod connection;
mod frame;
#[cfg(test)]
mod fuzz;
mod hosted;
mod numbering;
mod packet;
mod payload;
mod pick;
mod property;
mod raw;
mod route;
mod session;
mod stream;
mod subscription;
mod v4;
mod v5;
mod window;
#[cfg(test)]
pub(crate) mod wire;

use std::hash::Hasher as _;
use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use config::Config;

use crate::clock::Clock;
use crate::collect::{Checkpoint, Intake};
use crate::decode::topic::unshared;
use crate::source::sparkplug::{self, Counts, Host};
use crate::source::{Error, Setup};
use crate::supervise::Link;
use crate::units::Period;
use config::Qos;
use route::Routes;
use session::Session;

/// Before the id of a primary host, in the topic of its state.
const STATE: &str = "spBv1.0/STATE/";

/// The source: what outlives a connection.
#[derive(Debug)]
pub struct Mqtt {
    config: Config,
    client_id: String,
    clock: Clock,
    filters: Vec<(String, Qos)>,
    /// Hash of `filters`: other subscriptions than the saved ones are made anew.
    subscriptions: u64,
    routes: Routes,
    /// For each subscription, and for the topics of none, the good messages since
    /// its last bad one. As the faults of a [`Link`] it outlives a connection.
    good: Vec<Option<u32>>,
    session: Session,
    /// The reader of all messages in the place of `routes`, where there is one.
    host: Option<Box<Host>>,
    /// Somebody looks at it alone: the session at the broker ends with the connection.
    tapped: bool,
}

impl Mqtt {
    /// The configuration must have passed [`Config::check`].
    pub fn new(config: Config, setup: Setup<'_>) -> Self {
        let routes = Routes::new(&config, setup.flows);
        let filters: Vec<(String, Qos)> = config
            .subscriptions
            .iter()
            .enumerate()
            .map(|(index, s)| (routes.filter(index).to_owned(), config.qos_of(s)))
            .collect();
        Self::with(config, setup, filters, routes, None)
    }

    /// A Sparkplug host: its topics and messages are its own. The configuration must have
    /// passed [`sparkplug::Config::check`].
    pub fn host(config: &sparkplug::Config, setup: Setup<'_>) -> Self {
        let mut host = Host::new(config, setup.flows);
        if let Some(saved) = &setup.saved {
            host.restore(saved, Instant::now(), setup.clock.now());
        }
        let filters = config.filters().into_iter().map(|filter| (filter, Qos::AtLeastOnce));
        let config = config.connection();
        let routes = Routes::new(&config, setup.flows);
        Self::with(config, setup, filters.collect(), routes, Some(Box::new(host)))
    }

    fn with(
        config: Config,
        setup: Setup<'_>,
        filters: Vec<(String, Qos)>,
        routes: Routes,
        host: Option<Box<Host>>,
    ) -> Self {
        let mut hash = twox_hash::XxHash64::with_seed(0);
        for (filter, qos) in &filters {
            hash.write(filter.as_bytes());
            hash.write(&[0, u8::from(*qos)]);
        }
        Self {
            client_id: config
                .client_id
                .clone()
                .unwrap_or_else(|| format!("tidegate-{}-{}", setup.gateway, config.name)),
            clock: setup.clock,
            // 0 means that nothing is subscribed.
            subscriptions: hash.finish().max(1),
            good: vec![None; filters.len() + 1],
            filters,
            routes,
            // A host's checkpoint is its own: it begins each session anew.
            session: Session::restore(setup.saved.as_deref().filter(|_| host.is_none())),
            host,
            tapped: false,
            config,
        }
    }

    /// See [`crate::source::Source::tap`]. Under a name of its own and in a session that
    /// ends with it the broker gives it copies, and under another's name it would throw
    /// the agent out. A shared subscription would take its part of the messages from the
    /// others of the group (MQTT 5, 4.8.2), so that it subscribes to the topics alone.
    pub fn tap(&mut self) {
        self.tapped = true;
        self.client_id = format!("{}-tap-{}", self.client_id, std::process::id());
        self.config.session_expiry_interval = Period::from_secs(0);
        self.config.last_will = None;
        if let Some(host) = &mut self.host {
            host.tap();
            // It is no primary host any more, and the state of one is no edge node's message.
            self.filters.retain(|(filter, _)| !filter.starts_with(STATE));
        }
        for (filter, _) in &mut self.filters {
            *filter = unshared(filter).to_owned();
        }
    }

    /// Whether the session at the broker begins and ends with the connection.
    const fn is_clean(&self) -> bool {
        self.tapped || self.host.is_some()
    }

    /// What is saved with a delivery, and what may stand there in its place while that is in
    /// memory only.
    fn checkpoints(&self) -> (Checkpoint, Option<Checkpoint>) {
        let session = |bytes: Vec<u8>| Checkpoint::Session(bytes.into());
        let idle = self.session.idle();
        let Some(host) = &self.host else {
            return (session(self.session.checkpoint()), idle.map(session));
        };
        let held = host.checkpoint();
        let idle = idle.filter(|_| held.is_empty()).map(|_| session(Vec::new()));
        (session(held), idle)
    }

    /// Of a Sparkplug host, what it saw.
    pub fn counts(&self) -> Option<Arc<Counts>> {
        self.host.as_ref().map(|host| host.counts())
    }

    /// One connection, see [`crate::source::Source::run`].
    pub async fn run(
        &mut self,
        intake: &mut Intake,
        link: &mut Link,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        connection::run(self, intake, link, stop).await
    }
}

/// Whether these saved bytes are of a session whose last login was answered.
#[cfg(test)]
pub(crate) fn is_answered(saved: &[u8]) -> bool {
    Session::restore(Some(saved)).subscribed() != 0
}

/// Whether a session that goes on from these saved bytes recognises nothing.
#[cfg(test)]
pub(crate) fn is_idle(saved: &[u8]) -> bool {
    Session::restore(Some(saved)).idle().as_deref() == Some(saved)
}

#[cfg(test)]
#[path = "loop_tests.rs"]
mod tests;
