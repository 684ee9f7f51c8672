//! The start of every new producer (SAFETY, Positions 1) and the topics that
//! must be there before anything is sent.

use tracing::{error, info, warn};

use super::{
    Class, Forward, Kept, Line, Outcome, Presence, Transaction, Trouble, UNREADABLE, gone, linked,
    no_link,
};
use crate::buffer::{Memory, Position};
use crate::forward::config::Delivery;

impl<L: Line> Forward<L> {
    pub(super) fn connect(&mut self) -> Result<Outcome, Trouble> {
        if self.link.is_none() {
            self.link = Some((self.open)(&self.config, &self.gateway, &self.clock)?);
        }
        let link = self.link.as_mut().ok_or_else(no_link)?;
        link.init()?;
        self.cluster = link.cluster()?;
        if link.is_transactional() {
            self.ensure_positions_topic()?;
        }
        Ok(Outcome::Done)
    }

    pub(super) fn ensure_positions_topic(&self) -> Result<(), Trouble> {
        let link = linked(self.link.as_ref())?;
        let topic = &self.config.positions_topic;
        let create = &self.config.positions_create;
        if link.presence(topic)? == Presence::There {
            return Ok(());
        }
        match link.create(&self.config, &self.gateway, topic, create) {
            Ok(made) => {
                if made {
                    info!(topic, "topic of positions was made");
                }
                // Not there at once: the pause of a repeated step is right.
                Err(Trouble::new(Class::Repeat, format!("waiting for the topic {topic}")))
            }
            Err(cause) => {
                let command = self.command(topic, create);
                let text = format!(
                    "the topic {topic} is missing and cannot be made ({cause}); make it: {command}"
                );
                Err(Trouble::new(Class::Repeat, text))
            }
        }
    }

    pub(super) fn command(&self, topic: &str, create: &crate::flow::Create) -> String {
        use std::fmt::Write as _;
        let mut command = format!(
            "kafka-topics.sh --bootstrap-server {} --create --topic {topic} --partitions {}",
            self.config.brokers, create.partitions
        );
        if create.replication > 0 {
            write!(command, " --replication-factor {}", create.replication)
                .expect("writing to a string does not fail");
        }
        for (name, value) in &create.config {
            write!(command, " --config {name}={value}").expect("writing to a string does not fail");
        }
        command
    }

    pub(super) fn read_position(&mut self) -> Result<Outcome, Trouble> {
        let memory = self.store.memory();
        let mut outcome = Outcome::Done;
        self.look = None;
        if self.config.delivery == Delivery::ExactlyOnce {
            let link = self.link.as_mut().ok_or_else(no_link)?;
            let kept = link.read_position(&self.config, &self.gateway);
            let kept = kept.inspect_err(|_| self.explain_unreadable())?;
            self.unreadable_since = None;
            let epochs = self.store.epochs();
            let position = kept.as_ref().map(|kept| &kept.position);
            let sender = position.and_then(Position::sender);
            self.unannounced = sender != epochs.last().map(|running| running.epoch);
            self.beside_twin = position.is_some_and(|known| known.names_others(epochs));
            outcome = self.adopt(kept, &memory)?;
        } else if !self.first_start {
            // What was delivered is forgotten in the file before it is read
            // again: adopting waits for the writer.
            let kept = self.kept.position.clone();
            self.store.adopt(&kept, &self.cluster).map_err(|_| gone())?;
            // The cluster may be another one by now, and a position of the one
            // before deletes nothing.
            self.kept.position = self.store.next_position(Some(&kept), &self.cluster);
        } else {
            // The same of the forwarder that a reload has ended.
            self.store.forgotten().map_err(|_| gone())?;
            self.kept.position = self.store.next_position(None, &self.cluster);
        }
        self.transaction = Transaction::default();
        self.load.clear();
        self.next.clear();
        self.suspects.clear();
        self.keep = false;
        self.pending = None;
        self.lineup.restart();
        self.emptied = None;
        if self.first_start {
            info!(brokers = %self.config.brokers, cluster = %self.cluster, "connected to Kafka");
        }
        self.first_start = false;
        Ok(outcome)
    }

    /// Says once why the position may stay unreadable for ever, though the
    /// broker answers.
    ///
    /// A broker that died right after a commit may have lost the commit's
    /// marker on the group's log. `init_transactions` does not write it again,
    /// because the transaction counts as complete, and a read-committed reader
    /// of the offset waits for ever. Committing another offset of the group
    /// would write a marker, but Kafka completes with it all offsets that the
    /// producer id has pending, whatever their epoch: an offset whose
    /// transaction was aborted would become the position, and events that never
    /// arrived would be deleted. From here the two cannot be told apart, so a
    /// person has to, with the tool that Kafka has for it.
    pub(super) fn explain_unreadable(&mut self) {
        let since = *self.unreadable_since.get_or_insert(self.pace.now());
        if self.unreadable_told || self.pace.since(since) < UNREADABLE {
            return;
        }
        let topic = &self.config.positions_topic;
        let answers = self.link.as_ref().is_some_and(|link| {
            link.presence(topic).is_ok_and(|presence| presence == Presence::There)
        });
        if answers {
            self.unreadable_told = true;
            warn!(topic, group = %format!("tidegate-{}", self.gateway),
                "the position cannot be read though Kafka answers: a transaction hangs there, everything is kept until it is ended (kafka-transactions.sh find-hanging, then abort or wait)");
        }
    }

    /// Goes on from what is in Kafka. Lost: nothing is, where something was.
    pub(super) fn adopt(
        &mut self,
        kept: Option<Kept>,
        memory: &Memory,
    ) -> Result<Outcome, Trouble> {
        if let Some(known) = &memory.cluster
            && *known != self.cluster
        {
            warn!(cluster = %self.cluster, before = %known,
                "another Kafka cluster than before: everything that is stored goes there");
        }
        if let Some(kept) = kept {
            self.tell_of_loss(&kept.position, memory);
            let adopted = self.store.adopt(&kept.position, &self.cluster).map_err(|_| gone())?;
            for range in &adopted.in_doubt {
                warn!(range, "may reach Kafka twice under the same id");
            }
            if adopted.deleted_events > 0 {
                info!(events = adopted.deleted_events, "already in Kafka, deleted here");
            }
            self.kept.position = self.store.next_position(Some(&kept.position), &self.cluster);
            self.kept.offset = kept.offset;
            return Ok(Outcome::Done);
        }
        self.kept.position = self.store.next_position(None, &self.cluster);
        match &memory.position {
            Some(remembered) if memory.cluster.as_ref() == Some(&self.cluster) => {
                self.lost(remembered)
            }
            _ => Ok(Outcome::Done),
        }
    }

    /// Says what a Kafka that stands behind what it confirmed has lost (SAFETY
    /// 4). What is still stored is sent by where it stands now.
    fn tell_of_loss(&self, stands: &Position, memory: &Memory) {
        let ours = memory.cluster.as_ref() == Some(&self.cluster)
            && stands.is_of(self.store.epochs(), &self.cluster);
        let Some(seen) = memory.position.as_ref().filter(|_| ours) else { return };
        for (flow, epoch, has, confirmed) in stands.behind(seen, self.store.epochs()) {
            error!(%epoch, flow = %format!("{:08x}", flow.0), first = has + 1, last = confirmed,
                "Kafka has lost batches that it had confirmed and that are deleted here: it was restored from an older state");
        }
    }

    /// Sees which topics are there, makes those that may be made, and says
    /// once which flows stand aside.
    pub(super) fn look_for_topics(&mut self) -> Result<(), Trouble> {
        let flows = self.flows()?;
        self.lineup.refresh(flows);
        for stream in self.lineup.to_look_for(self.pace.now()) {
            let link = linked(self.link.as_ref())?;
            let cause = match link.presence(&stream.topic)? {
                Presence::There => {
                    self.lineup.found(&stream.topic);
                    continue;
                }
                Presence::Forbidden => format!(
                    "the broker does not let this gateway write to it (kafka-acls.sh --add --allow-principal … --operation Write --topic {})",
                    stream.topic
                ),
                Presence::Missing => match &stream.create {
                    Some(create) => {
                        match link.create(&self.config, &self.gateway, &stream.topic, create) {
                            Ok(made) => {
                                if made {
                                    info!(stream = %stream.name, topic = %stream.topic, "topic was made");
                                }
                                if self.lineup.made(&stream.topic, self.pace.now()) {
                                    continue;
                                }
                                "it exists, but no broker shows it to this gateway (kafka-acls.sh --add … --operation Describe)".to_owned()
                            }
                            Err(cause) => format!(
                                "it is missing and cannot be made ({cause}): {}",
                                self.command(&stream.topic, create)
                            ),
                        }
                    }
                    None => format!(
                        "it is missing: {}",
                        self.command(
                            &stream.topic,
                            &crate::flow::Create {
                                partitions: 1,
                                replication: -1,
                                config: std::collections::BTreeMap::new()
                            }
                        )
                    ),
                },
            };
            if self.lineup.aside(&stream.topic, &cause, self.pace.now()) {
                warn!(stream = %stream.name, topic = %stream.topic, error = %cause,
                    "stream stands aside, its events are kept");
            }
        }
        Ok(())
    }
}
