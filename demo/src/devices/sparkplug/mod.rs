//! Sparkplug edge nodes on the demo's own broker: births with aliases, data when they have
//! changed, births again when a host asks for them.

mod config;
mod node;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use rumqttc_v4::mqttbytes::v4::Publish;
use tidegate::clock::Clock;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

pub(super) use config::EdgeNodes;
use config::What;
use node::{At, Node};

use super::fault::Faults;
use super::{Now, Talk};
use crate::broker::{Broker, Shared};

/// A broker and its edge nodes; they end when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    config: EdgeNodes,
    broker: Broker,
    _nodes: JoinSet<()>,
}

impl Place {
    pub(super) async fn start(config: &EdgeNodes, now: Now, talk: Talk) -> io::Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let address = config.address.as_ref().and_then(|address| address.parse().ok());
        let broker = Broker::start(address.unwrap_or(any)).await?;
        let mut nodes = JoinSet::new();
        for (node, number) in config.nodes.iter().zip(1..) {
            let speaker = Speaker { broker: broker.shared(), talk, now };
            nodes.spawn(run(config.group().to_owned(), node.clone(), number, speaker));
        }
        Ok(Self { config: config.clone(), broker, _nodes: nodes })
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    pub(super) fn address(&self) -> String {
        self.broker.address().to_string()
    }

    /// The agent's `[[source]]` that reads all of it.
    pub(super) fn configuration(&self) -> String {
        let EdgeNodes { name, .. } = &self.config;
        format!(
            "[[source]]\ntype = \"sparkplug\"\nname = \"{name}\"\naddress = \"{}\"\n\
             protocol = \"3.1.1\"\ngroups = [\"{}\"]\nstream = \"{name}\"\n",
            self.address(),
            self.config.group(),
        )
    }
}

/// Where a node speaks, and when it is.
struct Speaker {
    broker: Shared,
    talk: Talk,
    now: Now,
}

impl Speaker {
    fn at(&self) -> At {
        let millis = Clock::system().now().0 / 1_000_000;
        At { elapsed: self.now.get(), millis: u64::try_from(millis).unwrap_or_default() }
    }

    fn publish(&self, messages: &[Publish]) {
        for message in messages {
            let topic = String::from_utf8_lossy(&message.topic);
            self.talk.say(format_args!("{topic}: {} bytes", message.payload.len()));
            self.broker.publish(message);
        }
    }
}

async fn run(group: String, config: config::Node, number: u64, speaker: Speaker) {
    let mut node = Node::new(&group, &config);
    let of_devices = config.devices.iter().map(|device| &device.faults);
    // No part of any node fails with another: a node has fewer parts than that.
    let all = [&config.faults].into_iter().chain(of_devices).zip(number * 1_000..);
    let mut faults: Vec<Faults<What>> = all.map(|(f, number)| Faults::new(f, number)).collect();
    let commands = format!("spBv1.0/{group}/NCMD/{}", config.name);
    let mut commands = speaker.broker.inbox(&format!("{group}/{}", config.name), &commands);
    let mut ticks = interval(config.interval.get());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            command = commands.next() => {
                let Some(command) = command else { return };
                speaker.publish(&node.command(&command.payload, speaker.at()));
                continue;
            }
        }
        for (part, faults) in faults.iter_mut().enumerate() {
            let fault = faults.next(speaker.now.get());
            match fault {
                Some(What::Late(by)) => sleep(by.get()).await,
                Some(What::Disconnect) => speaker.broker.cut(),
                _ => {}
            }
            speaker.publish(&node.turn(part, fault, speaker.at()));
        }
    }
}
