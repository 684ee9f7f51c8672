//! Another configuration, taken over by the running agent: only what changed is
//! stopped and started, an unchanged source keeps its connection, and what is
//! stored is never touched (SAFETY 14). What a source that changes had read is on
//! disk before the new one begins where it ended.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use tracing::info;

use super::packed::Packed;
use super::running::Made;
use super::wanted::{Wanted, rules, wanted};
use super::{Agent, LEAST_GRACE, certificates, packed};
use crate::clock::Clock;
use crate::collect::Asked;
use crate::config::Config;
use crate::flow::Flows;
use crate::forward;
use crate::pulse::Pulse;

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The running process cannot change this.
    #[error("`{0}` changes only by a restart: systemctl restart tidegate")]
    Restart(&'static str),
    /// A certificate or a secret is missing: the uplink that there is would be ended for
    /// one that cannot connect.
    #[error("the file {} cannot be read, and the uplink would be lost with it: {cause}", file.display())]
    Unreadable { file: PathBuf, cause: std::io::Error },
    /// It has had too many streams since its start.
    #[error("too many streams came and went since the start: systemctl restart tidegate")]
    Worn,
}

/// What a change of the configuration did: names of sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// They went on as they were.
    pub kept: Vec<Arc<str>>,
    pub started: Vec<Arc<str>>,
    pub stopped: Vec<Arc<str>>,
    /// Kafka is connected to anew.
    pub kafka: bool,
}

impl Agent {
    /// Takes another configuration over, which was checked whole. May be dropped
    /// before it is done, if the agent is stopped then.
    ///
    /// # Errors
    ///
    /// [`Refused`]: nothing was changed. Any other: the agent is going down.
    pub async fn reload(&mut self, new: Config) -> anyhow::Result<Reloaded> {
        only_by_restart(&self.config, &new)?;
        let named = certificates::named(&new);
        let uplink = uplink(&new);
        if uplink != self.uplink {
            readable(&new.kafka.files())?;
        }
        let flows = self.flows.renewed(rules(&new));
        if flows.is_worn() {
            return Err(Refused::Worn.into());
        }
        let prepared = prepare(new, flows, self.clock.clone()).await?;
        let Prepared { config: new, sources, flows, wanted } = prepared;
        let began = tokio::time::Instant::now();
        let mut done = Reloaded::default();
        let (mut kept, mut retired) = (BTreeMap::new(), Vec::new());
        for running in std::mem::take(&mut self.running) {
            let same =
                |wanted: &&Wanted| wanted.info.name == running.name && wanted.made == running.made;
            if wanted.iter().any(|wanted| same(&wanted)) {
                done.kept.push(Arc::clone(&running.name));
                kept.insert(Arc::clone(&running.name), running);
            } else {
                done.stopped.push(Arc::clone(&running.name));
                running.stop.cancel();
                retired.push(running);
            }
        }
        // Before whatever may wait for room: where the file is full, nobody but Kafka makes
        // any, and the address before, or a topic, may be the wrong one.
        let left = if uplink == self.uplink { None } else { Some(self.disconnect().await) };
        self.collector.follow(flows.clone()).await?;
        if let Some(pulse) = left {
            self.uplink = uplink;
            self.connect(pulse, &new.kafka)?;
            done.kafka = true;
        }
        let latest = began + (self.grace() / 2).max(LEAST_GRACE);
        let mut places = Vec::new();
        for running in retired {
            places.push(running.id);
            running.end(latest).await;
        }
        let added = wanted.iter().filter(|wanted| !kept.contains_key(&wanted.info.name));
        let asked = Asked {
            flows: flows.clone(),
            buffer: new.buffer.clone(),
            retired: places,
            added: added.map(|wanted| wanted.info.clone()).collect(),
        };
        let mut joined = self.collector.change(asked).await?.into_iter();
        (self.flows, self.config, self.sources) = (flows, new, sources);
        for wanted in wanted {
            if let Some(running) = kept.remove(&wanted.info.name) {
                self.running.push(running);
            } else if let Some(joined) = joined.next() {
                done.started.push(Arc::clone(&wanted.info.name));
                self.run(wanted, joined, None);
            }
        }
        self.show();
        self.named.send_replace(named);
        info!(
            kept = done.kept.len(),
            started = done.started.join(", "),
            stopped = done.stopped.join(", "),
            kafka = done.kafka,
            "configuration is taken over"
        );
        Ok(done)
    }

    /// Ends the forwarder between two transactions: one that goes on would be fenced by
    /// the next, and look like a twin. Gives its pulse, which the next one goes on with.
    async fn disconnect(&mut self) -> Pulse {
        let Some(mut old) = self.forwarder.take() else { return Pulse::new("forward") };
        old.leave();
        old.ended().await;
        old.pulse().clone()
    }

    /// Starts a forwarder in its place with what another configuration says; it runs the
    /// whole start (SAFETY 1).
    fn connect(&mut self, pulse: Pulse, kafka: &forward::Config) -> anyhow::Result<()> {
        let forwarder = forward::start_with(
            pulse,
            kafka.clone(),
            &self.config.gateway.id,
            self.collector.store(),
            self.clock.clone(),
            self.forward.clone(),
        );
        self.forwarder = Some(forwarder.context("cannot start the forwarder")?);
        Ok(())
    }
}

/// Another configuration with its sources apart, and what it wants to run.
#[derive(Debug)]
pub(super) struct Prepared {
    pub config: Config,
    pub sources: Vec<Packed>,
    pub flows: Flows,
    pub wanted: Vec<Wanted>,
}

/// Packs the sources and makes each of them once, on a thread of its own: with 10,000 signals
/// that takes so long that the sources that go on would miss their cycles.
pub(super) async fn prepare(
    mut config: Config,
    mut flows: Flows,
    clock: Clock,
) -> anyhow::Result<Prepared> {
    let preparing = move || {
        let sources = packed(&mut config);
        let wanted = wanted(&config, &sources, &mut flows, &clock);
        Prepared { config, sources, flows, wanted }
    };
    // None of the runtime's: those may all be held by reads of databases and look-ups of names.
    let (done, prepared) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    std::thread::Builder::new().name("reload".to_owned()).spawn(move || {
        let _entered = runtime.enter();
        if done.send(preparing()).is_err() {
            info!("nobody waits for the configuration any more");
        }
    })?;
    prepared.await.context("the configuration was not prepared")
}

/// What the forwarder is made of, to be asked before it is: a file that changes while
/// it is read is another one at the next reload.
pub(super) fn uplink(config: &Config) -> Made {
    Made::new(&config.kafka, config.kafka.files(), Vec::new(), Vec::new())
}

fn readable(files: &[PathBuf]) -> Result<(), Refused> {
    // Of librdkafka's options some take a word in place of a path.
    for file in files.iter().filter(|file| file.is_absolute()) {
        if let Err(cause) = std::fs::File::open(file) {
            return Err(Refused::Unreadable { file: file.clone(), cause });
        }
    }
    Ok(())
}

fn only_by_restart(old: &Config, new: &Config) -> Result<(), Refused> {
    let json = |part: &dyn Fn(&Config) -> serde_json::Value| part(old) == part(new);
    let keys: [(&'static str, bool); 5] = [
        ("gateway.id", old.gateway.id == new.gateway.id),
        ("buffer.path", old.buffer.path == new.buffer.path),
        ("control", old.control == new.control),
        ("status", old.status == new.status),
        ("log", json(&|config| serde_json::to_value(&config.log).unwrap_or_default())),
    ];
    match keys.into_iter().find(|(_, same)| !same) {
        Some((key, _)) => Err(Refused::Restart(key)),
        None => Ok(()),
    }
}
