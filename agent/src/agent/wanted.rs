//! What a configuration wants to run, and how it is set going.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Agent;
use super::packed::Packed;
use super::running::{Made, Running};
use crate::buffer::Loss;
use crate::clock::Clock;
use crate::collect::{Checkpoint, Joined, SourceInfo};
use crate::config::Config;
use crate::flow::{Flows, Rules};
use crate::source::{self, Setup, Source};
use crate::supervise::{self, Link};
use crate::{status, system};

/// A source that a configuration names, or the agent's own.
#[derive(Debug)]
pub(super) struct Wanted {
    pub info: SourceInfo,
    pub made: Made,
    pub kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Source(Packed),
    System,
}

/// The streams that a configuration defines.
pub(super) fn rules(config: &Config) -> Vec<Rules> {
    let streams = config.streams.iter().map(crate::config::Stream::rules);
    streams.chain(config.system.rules()).collect()
}

/// All that the configuration wants to run, and their flows. The agent's own
/// source is the last one.
pub(super) fn wanted(
    config: &Config,
    sources: &[Packed],
    flows: &mut Flows,
    clock: &Clock,
) -> Vec<Wanted> {
    let mut all = Vec::new();
    for packed in sources {
        let source = &packed.config();
        let mut labels = config.gateway.labels.clone();
        labels.extend(source.labels().clone());
        let labels: Vec<_> = labels
            .iter()
            .map(|(name, value)| (name.as_str().into(), value.as_str().into()))
            .collect();
        flows.take_asked();
        // Only to have its flows: what it is set up with is not known yet.
        drop(set_up(source, &config.gateway.id, flows, clock, None, false));
        let made = Made::new(source, source.files(), labels.clone(), flows.take_asked());
        let info = SourceInfo { name: source.name().into(), labels };
        all.push(Wanted { info, made, kind: Kind::Source(packed.clone()) });
    }
    if config.system.enabled {
        let labels = config.gateway.labels.iter();
        let labels: Vec<_> =
            labels.map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect();
        let flow = flows.polled(system::STREAM, None);
        let made = Made::new(&config.system, Vec::<PathBuf>::new(), labels.clone(), vec![flow]);
        let info = SourceInfo { name: system::SOURCE.into(), labels };
        all.push(Wanted { info, made, kind: Kind::System });
    }
    all
}

fn set_up(
    source: &source::Config,
    gateway: &str,
    flows: &mut Flows,
    clock: &Clock,
    saved: Option<Arc<[u8]>>,
    lost: bool,
) -> Source {
    Source::new(source, Setup { gateway, flows, clock: clock.clone(), saved, lost })
}

impl Agent {
    /// Sets a source going.
    pub(super) fn run(&mut self, wanted: Wanted, joined: Joined, loss: Option<&Loss>) {
        let Joined { intake, saved, lost } = joined;
        let Wanted { info, made, kind } = wanted;
        let id = intake.source();
        let stop = self.stop.child_token();
        let (alive, ended) = oneshot::channel::<()>();
        let (gateway, clock) = (&self.config.gateway.id, &self.clock);
        let (mut shown, mut cycles, mut frames) = (None, Vec::new(), None);
        let mut sparkplug = None;
        let task = match kind {
            Kind::Source(packed) => {
                let saved = saved.map(|saved| match saved {
                    Checkpoint::Cursor(bytes) | Checkpoint::Session(bytes) => bytes,
                });
                let source = set_up(&packed.config(), gateway, &mut self.flows, clock, saved, lost);
                (cycles, frames) = (source.cycles(), source.frames());
                sparkplug = source.sparkplug();
                let link = Link::new(Arc::clone(&info.name));
                shown = Some(link.watch());
                let run = supervise::supervise(source, intake, link, stop.clone());
                self.tasks.spawn(async move {
                    run.await;
                    drop(alive);
                })
            }
            Kind::System => {
                let config = &self.config.system;
                let Some(plan) = system::Plan::new(config, &mut self.flows, saved, loss) else {
                    return;
                };
                let store = self.collector.store();
                let (forward, links) = (self.forward.subscribe(), self.links.subscribe());
                let system = plan.start(gateway, clock.clone(), store, forward, links);
                let run = system.run(intake, stop.clone());
                self.tasks.spawn(async move {
                    run.await;
                    drop(alive);
                })
            }
        };
        self.running.push(Running {
            name: info.name,
            id,
            made,
            link: shown,
            cycles,
            frames,
            sparkplug,
            stop,
            task,
            ended,
        });
    }

    /// Lets everybody see what runs now.
    pub(super) fn show(&self) {
        let links: Vec<_> =
            self.running.iter().filter_map(|running| running.link.clone()).collect();
        let cycles = self.running.iter().filter(|running| !running.cycles.is_empty());
        self.seen.send_replace(status::Seen {
            sources: links.clone(),
            cycles: cycles
                .map(|running| (Arc::clone(&running.name), running.cycles.clone()))
                .collect(),
            frames: self
                .running
                .iter()
                .filter_map(|running| Some((Arc::clone(&running.name), running.frames.clone()?)))
                .collect(),
            sparkplug: self
                .running
                .iter()
                .filter_map(|it| Some((Arc::clone(&it.name), it.sparkplug.clone()?)))
                .collect(),
            streams: self.flows.rules().map(|rules| rules.stream.name.clone()).collect(),
            pulses: self.pulses(),
        });
        self.links.send_replace(links);
    }
}
