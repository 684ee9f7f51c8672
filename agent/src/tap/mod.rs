//! One source alone, for a person who looks at what it reads: before and after decoding,
//! without a buffer and without Kafka.
//!
//! It is the agent's own source under the agent's own supervision; only what stands behind
//! its [`Intake`] is another one. All that it hands over counts as dealt with at once, and
//! nothing of it is kept: no cursor, no session, no address that a device refused. What
//! the rules of a stream would hold back or join later is shown as it was read.
//!
//! What an agent that runs beside it feels: nothing of a broker (a session of its own, no
//! shared subscription) or a database (a cursor of its own), but a serial port, and the
//! only connection of a device, have room for one of both.

mod seen;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use seen::{Dead, Seen, Shown};

use crate::buffer::{self, Labels, Locked};
use crate::clock::Clock;
use crate::collect::{Aside, Delivery, Intake};
use crate::config::Config;
use crate::flow::{Flow, Flows};
use crate::source::{self, Setup, Source, sql};
use crate::supervise::{self, Link, State};

/// A person who ended it waits no longer for a peer that is away.
const GOODBYE: Duration = Duration::from_secs(2);

/// Deliveries that wait to be shown: while a slow terminal takes one, the source reads on.
const WAITING: usize = 4;

/// A source that is looked at. Dropped, it ends.
#[derive(Debug)]
pub struct Tap {
    aside: Aside,
    state: watch::Receiver<State>,
    flows: Flows,
    labels: Labels,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// What there is to show.
#[derive(Debug)]
pub enum News {
    /// The source read this.
    Read(Vec<Seen>, Vec<Dead>),
    /// Its connection, or something behind it, is not as it was.
    State(State),
}

impl Tap {
    /// Sets the source going, on this runtime. A table is read from now on, or with
    /// `from_start` from its first row.
    pub fn start(config: &Config, source: &source::Config, from_start: bool) -> Self {
        let mut source = source.clone();
        if let source::Config::Sqlite(table) = &mut source {
            table.from = if from_start { sql::From::Start } else { sql::From::End };
        }
        let mut flows = Flows::new(config.streams.iter().map(crate::config::Stream::rules));
        let setup = Setup {
            gateway: &config.gateway.id,
            flows: &mut flows,
            clock: Clock::system(),
            saved: None,
            lost: false,
        };
        let mut tapped = Source::new(&source, setup);
        tapped.tap();
        let (intake, aside) = Intake::aside(WAITING);
        let link = Link::new(source.name().into());
        let (state, stop) = (link.watch(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(supervise::supervise(tapped, intake, link, stop.clone()));
        let labels = labels(&config.gateway.labels, source.labels());
        Self { aside, state, flows, labels, stop, tasks }
    }

    /// What comes next; `None` if the source has failed for good, which is a fault of ours.
    /// May be dropped and called again.
    pub async fn next(&mut self) -> Option<News> {
        loop {
            tokio::select! {
                biased;
                handed = self.aside.deliveries.recv() => {
                    let (ticket, delivery) = handed?;
                    self.aside.commit(ticket);
                    // One that holds a session's state alone is nothing to see.
                    if !delivery.events.is_empty() || !delivery.dead.is_empty() {
                        return Some(self.read(delivery));
                    }
                }
                changed = self.state.changed() => {
                    changed.ok()?;
                    return Some(News::State(self.state.borrow_and_update().clone()));
                }
            }
        }
    }

    fn read(&self, delivery: Delivery) -> News {
        let (seen, dead) = seen::of(delivery, &self.labels);
        News::Read(seen, dead)
    }

    /// The flow that an event goes to.
    pub fn flow(&self, seen: &Seen) -> &Flow {
        self.flows.get(seen.event.flow)
    }

    /// Lets the source say goodbye to its peer, for [`GOODBYE`] at most.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let ended = async {
            loop {
                // What it still hands over is nobody's any more, and must not hold it up.
                tokio::select! {
                    _ = self.tasks.join_next() => return,
                    Some((ticket, _)) = self.aside.deliveries.recv() => self.aside.commit(ticket),
                }
            }
        };
        let _late = tokio::time::timeout(GOODBYE, ended).await;
    }
}

/// Of a gateway and a source together, as records have them.
fn labels(gateway: &BTreeMap<String, String>, source: &BTreeMap<String, String>) -> Labels {
    let mut all = gateway.clone();
    all.extend(source.clone());
    all.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect()
}

/// The pid of an agent that runs with this buffer. `None` also where it cannot be known: it
/// takes no commands, or its files are not for us to read. Its lock is not tried, which
/// could keep out an agent that starts meanwhile.
pub fn beside(buffer: &Path) -> Option<String> {
    let Locked { pid, socket, .. } = buffer::announced(buffer)?;
    UnixStream::connect(socket?).is_ok().then_some(pid)
}
