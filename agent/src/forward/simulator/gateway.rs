//! One agent of the simulation: the real buffer file, the real forwarder, and
//! a memory of what was stored, which judges what is deleted.

use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::broker::Broker;
use super::sender::Sender;
use super::{Mutant, NOW};
use crate::buffer::{Call, Changes, Encoder, File, Labels, Sealed, Serve, Shared, locked};
use crate::clock::Clock;
use crate::event::{Event, Field, Quality, Timestamp, Value};
use crate::flow::{Flows, Lane};

pub(super) const GATEWAY: &str = "gw1";

/// Streams with a topic each; the second has an alarm lane too.
const FLOWS: [(&str, Lane); 4] =
    [("a", Lane::Live), ("b", Lane::Alarm), ("b", Lane::Live), ("c", Lane::Bulk)];

/// Memory of a stored event.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) id: String,
    pub(super) flow: usize,
    pub(super) topic: &'static str,
    /// No topic takes it.
    pub(super) poison: bool,
    batch: i64,
}

/// What a file is known to hold or to have held.
pub(super) type Memory = Arc<Mutex<Vec<Stored>>>;

pub(super) struct Gateway {
    pub(super) who: usize,
    pub(super) folder: PathBuf,
    pub(super) memory: Memory,
    broker: Arc<Mutex<Broker>>,
    flows: Flows,
    life: Option<Life>,
}

struct Life {
    shared: Arc<Shared>,
    file: Arc<Mutex<File>>,
    forward: Sender,
    ready: Instant,
}

/// Whatever has left the file must have arrived, or be a dead letter.
fn audit(file: &File, memory: &Memory, broker: &Mutex<Broker>) {
    let batches = file.batch_ids();
    let mut broker = broker.lock().unwrap();
    memory.lock().unwrap().retain(|stored| {
        if batches.contains(&stored.batch) {
            return true;
        }
        let origin = stored.origin();
        if stored.poison && !broker.buried.contains(&origin) {
            broker.wrong.get_or_insert(format!("{origin} is gone and no dead letter"));
        } else if !stored.poison && !broker.arrived.contains_key(&stored.id) {
            broker.wrong.get_or_insert(format!("{origin} was deleted and never arrived"));
        }
        false
    });
}

impl Stored {
    /// As a dead letter names it.
    pub(super) fn origin(&self) -> String {
        format!("{} for {}", self.id, self.topic)
    }
}

impl Gateway {
    pub(super) fn new(who: usize, folder: PathBuf, broker: &Arc<Mutex<Broker>>) -> Self {
        let mut flows = Flows::default();
        for (stream, lane) in FLOWS {
            flows.id(stream, lane);
        }
        let broker = Arc::clone(broker);
        Self { who, folder, memory: Memory::default(), broker, flows, life: None }
    }

    pub(super) fn lives(&self) -> bool {
        self.life.is_some()
    }

    fn path(&self) -> PathBuf {
        self.folder.join("buffer.db")
    }

    /// The process ends, whatever it was about to do.
    pub(super) fn kill(&mut self) {
        self.life = None;
    }

    pub(super) fn start(&mut self) {
        self.kill();
        let file = File::open(&self.path(), GATEWAY).unwrap();
        let (epochs, newest) = (file.epochs().to_vec(), file.newest());
        let known = file.memory().clone();
        let file = Arc::new(Mutex::new(file));
        // Nobody reads it: calls are served at once.
        let (inbox, _) = sync_channel(1);
        let shared = Shared::new(self.path(), inbox, epochs, known, newest);
        let serve = self.serve(&file);
        let shared = Arc::new(shared.served(serve));
        locked(&shared.memory).clone_from(file.lock().unwrap().memory());
        let pace = self.broker.lock().unwrap().pace.clone();
        let time = (Clock::fixed(NOW), pace.clone(), NOW);
        let forward = Sender::new(&self.broker, &shared, self.who, GATEWAY, time);
        self.life = Some(Life { shared, file, forward, ready: pace.now() });
    }

    /// The writer's side of the forwarder's calls, without its thread.
    fn serve(&self, file: &Arc<Mutex<File>>) -> Serve {
        let file = Arc::downgrade(file);
        let (memory, broker) = (Arc::clone(&self.memory), Arc::clone(&self.broker));
        Serve(Box::new(move |call| {
            let (dead, careless) = {
                let broker = broker.lock().unwrap();
                (broker.is_dead(), broker.is(Mutant::DeadLetterLater))
            };
            let Some(file) = file.upgrade().filter(|_| !dead) else { return };
            let mut file = file.lock().unwrap();
            let mut changes = Changes::default();
            match &call {
                Call::Adopt { position, cluster, .. } => {
                    changes.positions.push((position, cluster));
                }
                Call::Delivered { batches, .. } => changes.delivered = batches,
                Call::Bury { dead, .. } if !careless => changes.buried.extend(dead),
                Call::Bury { .. } | Call::Write { .. } => {}
                Call::Errand { .. } => unreachable!("nobody commands here"),
            }
            let mut adopted = file.commit(&changes, NOW).unwrap();
            if let (Call::Bury { dead, .. }, false) = (&call, careless) {
                let origins = dead.iter().map(|burial| burial.letter.origin.clone());
                broker.lock().unwrap().buried.extend(origins);
            }
            drop(changes);
            audit(&file, &memory, &broker);
            match call {
                Call::Adopt { reply, .. } | Call::Delivered { reply, .. } => {
                    reply.send(adopted.pop().unwrap_or_default()).unwrap();
                }
                Call::Bury { reply, .. } | Call::Write { reply } => reply.send(()).unwrap(),
                Call::Errand { .. } => {}
            }
        }))
    }

    /// When the forwarder's next step is due.
    pub(super) fn ready(&self) -> Option<Instant> {
        self.life.as_ref().map(|life| life.ready)
    }

    /// One step of the forwarder.
    pub(super) fn step(&mut self, pace: &crate::forward::pace::Pace) {
        let Some(life) = &mut self.life else { return };
        let pause = life.forward.step();
        life.ready = pace.now() + pause;
        if self.broker.lock().unwrap().is_dead() {
            self.kill();
        }
    }

    /// One commit of a few events for some flows; gives them.
    pub(super) fn store(&mut self) -> Vec<Stored> {
        let Some(life) = &mut self.life else { return Vec::new() };
        let labels: Labels = Arc::from([]);
        let mut file = life.file.lock().unwrap();
        let running = file.epochs().last().unwrap().clone();
        let totals = file.totals();
        let (mut number, mut seq) = (totals.number, totals.seq);
        let mut batches = Vec::new();
        let mut stored = Vec::new();
        let mut broker = self.broker.lock().unwrap();
        for (flow, (stream, lane)) in FLOWS.into_iter().enumerate() {
            let needed = flow + 1 == FLOWS.len() && batches.is_empty();
            if broker.chance.hits(400) && !needed {
                continue;
            }
            let id = self.flows.id(stream, lane);
            let mut encoder = Encoder::default();
            number += 1;
            for _ in 0..=broker.chance.below(5) {
                seq += 1;
                let poison = broker.chance.hits(15);
                let length = if poison { 6_000 } else { broker.chance.index(200) };
                let ahead = if broker.chance.hits(30) { 30_000_000_000 } else { 0 };
                encoder.add(
                    0,
                    &labels,
                    &Event {
                        flow: id,
                        device: "d".into(),
                        time: Timestamp(NOW.0 + ahead),
                        read_at: None,
                        quality: Quality::Good,
                        fields: vec![Field {
                            name: "v".into(),
                            unit: None,
                            value: Value::Text("x".repeat(length).into()),
                            quality: None,
                        }],
                    },
                );
                stored.push(Stored {
                    id: format!("{GATEWAY}/{}/{seq}", running.epoch),
                    flow,
                    topic: stream,
                    poison,
                    batch: crate::buffer::BatchId::new(running.ordinal, number).0,
                });
            }
            batches.push((id, encoder));
        }
        let batches =
            batches.iter().map(|(id, events)| Sealed { flow: self.flows.get(*id), events });
        let changes = Changes { batches: batches.collect(), ..Changes::default() };
        file.commit(&changes, NOW).unwrap();
        life.shared.stored(file.newest());
        self.memory.lock().unwrap().extend(stored.iter().cloned());
        stored
    }

    /// The writer deletes what the forwarder's last commit covers.
    pub(super) fn forget(&mut self) {
        let Some(life) = &self.life else { return };
        let Some((position, cluster)) = locked(&life.shared.forget).take() else { return };
        tracing::debug!(who = self.who, position = %position.encode(), "deletes");
        let mut file = life.file.lock().unwrap();
        let positions = vec![(&position, cluster.as_str())];
        file.commit(&Changes { positions, ..Changes::default() }, NOW).unwrap();
        locked(&life.shared.memory).clone_from(file.memory());
        audit(&file, &self.memory, &self.broker);
    }

    /// The position that the file knows of.
    pub(super) fn remembers(&self) -> Option<String> {
        let file = self.life.as_ref()?.file.lock().unwrap();
        Some(file.memory().position.as_ref()?.encode())
    }

    /// How many batches wait in the file.
    pub(super) fn waiting(&self) -> u64 {
        self.life.as_ref().map_or(0, |life| life.file.lock().unwrap().totals().batches)
    }

    /// What keeps it from delivering, as its status says.
    pub(super) fn trouble(&self) -> Option<String> {
        self.life.as_ref()?.forward.trouble()
    }

    pub(super) fn state(&self) -> &'static str {
        self.life.as_ref().map_or("dead", |life| life.forward.state())
    }

    /// Origins of the dead letters.
    pub(super) fn letters(&self) -> Vec<String> {
        let file = rusqlite::Connection::open(self.path()).unwrap();
        let mut statement = file.prepare("SELECT origin FROM dead_letter").unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }
}
