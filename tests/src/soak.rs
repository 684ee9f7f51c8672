//! The agent is killed again and again at random moments while Kafka and the lines
//! to it and to the MQTT broker fail in every way; then the judge counts.
//!
//! A round is one kill. A fault of Kafka begins in some rounds and lasts for a few,
//! so that agents start, recover and die within it.

use std::time::Duration;

use crate::agent::Agent;
use crate::chance::Chance;
use crate::judge::{self, Fate, Judge};
use crate::kafka::Kafka;
use crate::plant::{Plant, SLICE};
use crate::process::Signal;
use crate::proxy::Mode;
use crate::{folder, outage, settings};

/// Slices of the load in a round, one behind which the agent is killed.
const SLICES: u64 = 3;

/// Longest time of a round's load, in milliseconds.
const ROUND: u64 = 1_200;

/// Longest time between a slice of the load and the kill, in milliseconds: the
/// commit interval of these agents is 200.
const MOMENT: u64 = 250;

/// A fault begins in one round of so many, if there is none.
const CALM: u64 = 2;

/// Longest fault in rounds.
const LASTS: u64 = 4;

/// A line of 64 kbit/s.
const SLOW: u32 = 8_000;

/// Of a line over a satellite.
const DELAY: Duration = Duration::from_millis(300);

/// Time for the broker to end what it is at before it is killed.
const BREATH: Duration = Duration::from_millis(300);

/// Registers of each unit: all records are kept for the judge.
const REGISTERS: u16 = 3;

/// What is sent when all is well again: more than the load's rest.
const AT_THE_END: u64 = 2_000;

/// Until what waits in the buffer is in Kafka; several times what it takes.
const DRAIN: Duration = Duration::from_mins(5);

/// How a soak ended. From `lost` to `out_of_order` all should be zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub kills: u64,
    /// Acknowledged messages and rows; readings of registers come on top.
    pub events: u64,
    pub lost: usize,
    pub duplicated: usize,
    pub out_of_order: usize,
    /// Only with [`Write::WhenNeeded`], and allowed there: messages that were taken
    /// again, by another run of the agent, and ids that were in memory when one died.
    pub taken_again: usize,
    pub vanished: usize,
}

/// When these agents write their file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    Always,
    WhenNeeded,
}

impl Write {
    /// By the word of the configuration.
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "always" => Some(Self::Always),
            "when_needed" => Some(Self::WhenNeeded),
            _ => None,
        }
    }
}

impl Report {
    /// One JSON object in one line.
    pub fn json(&self) -> String {
        let Self { kills, events, lost, duplicated, out_of_order, taken_again, vanished } = self;
        serde_json::json!({
            "kills": kills, "events": events,
            "lost": lost, "duplicated": duplicated, "out_of_order": out_of_order,
            "taken_again": taken_again, "vanished": vanished,
        })
        .to_string()
    }

    /// Nothing lost, nothing twice, nothing out of order.
    pub const fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.out_of_order == 0
    }
}

/// What is wrong with Kafka, or with the line to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Frozen,
    Stopped,
    Killed,
    /// New connections are closed, the old ones are cut.
    Refused,
    /// Connections stand half open.
    BlackHole,
    LostReplies,
    Slow,
    Delayed,
    /// Cut at each kill, and open again.
    Flapping,
}

const FAULTS: [Fault; 9] = [
    Fault::Frozen,
    Fault::Stopped,
    Fault::Killed,
    Fault::Refused,
    Fault::BlackHole,
    Fault::LostReplies,
    Fault::Slow,
    Fault::Delayed,
    Fault::Flapping,
];

/// Runs `kills` rounds and counts what arrived. `say` is told what happens.
pub fn run(name: &str, kills: u64, write: Write, mut say: impl FnMut(&str)) -> Report {
    let mut chance = Chance::new();
    say(&format!("E2E_SEED={}", chance.seed));
    let folder = folder(name);
    let mut kafka = Kafka::started(&format!("{name}-kafka"));
    let mut plant = Plant::start(name, &folder, "5").with_registers(REGISTERS);
    let uplink = settings::plain(&kafka.line.address()) + "transaction_timeout = \"10 s\"\n";
    let head = settings::head_with_system("gw1", &folder, &uplink);
    let head = match write {
        Write::Always => head,
        Write::WhenNeeded => settings::when_needed(&head),
    };
    let mut agent = Agent::new(&folder, &(head + &plant.settings()));
    agent.start();
    plant.wait_subscribed();
    plant.teach(&agent);

    // The kinds come in turn, so that a short soak has them all; how long each lasts
    // and when it begins is chance.
    let mut turn = chance.below(FAULTS.len() as u64);
    let mut fault: Option<(Fault, u64)> = None;
    for round in 1..=kills {
        fault = match fault {
            Some((kind, left @ 1..)) => Some((kind, left - 1)),
            Some((kind, 0)) => {
                end(kind, &mut kafka);
                None
            }
            None if chance.below(CALM) == 0 => {
                turn += 1;
                let kind = FAULTS.iter().cycle().nth(usize::try_from(turn).unwrap_or_default());
                let kind = *kind.expect("a cycle has no end");
                say(&format!("round {round}: Kafka is {kind:?}"));
                begin(kind, &mut kafka, &mut agent);
                Some((kind, chance.below(LASTS)))
            }
            None => None,
        };
        let fatal = plant.messages() + SLICE * (1 + chance.below(SLICES));
        let over = Duration::from_millis(chance.below(ROUND));
        let moment = Duration::from_millis(chance.below(MOMENT));
        let cut = chance.below(4) == 0;
        // Rows are always written, with all that came before: not in every round.
        plant.with_rows(write == Write::Always || round % 2 == 0);
        plant.produce(SLICE * SLICES, over, |plant, published| {
            if published == fatal {
                outage(moment);
                agent.kill();
                agent.start();
                if cut {
                    plant.line.cut();
                }
                if matches!(fault, Some((Fault::Flapping, _))) {
                    kafka.line.cut();
                }
            }
        });
        if round % 50 == 0 {
            say(&format!("round {round}: {} messages", plant.messages()));
        }
    }
    if let Some((kind, _)) = fault {
        end(kind, &mut kafka);
    }
    plant.produce(AT_THE_END, Duration::ZERO, |_, _| {});

    let mut judge = Judge::new(&kafka);
    plant.wait_delivered(&mut judge, DRAIN);
    agent.stop();
    let records = judge.look();
    let fates = plant.fates(records);
    let gaps = judge::gaps(records);
    let disorder = judge::disorder(records);
    for wrong in disorder.iter().chain(&gaps.first) {
        say(wrong);
    }
    for fate in &fates {
        let Fate { lost, repeated, .. } = fate;
        if !lost.is_empty() || !repeated.is_empty() {
            say(&format!("lost {lost:?}, repeated {repeated:?}"));
        }
    }
    let taken_again = match write {
        Write::Always => 0,
        Write::WhenNeeded => plant.taken_again(records),
    };
    let vanished = if write == Write::WhenNeeded { gaps.missing } else { 0 };
    let repeated = fates.iter().map(|fate| fate.repeated.len()).sum::<usize>();
    Report {
        kills,
        events: plant.messages() + plant.rows(),
        lost: fates.iter().map(|fate| fate.lost.len()).sum::<usize>() + gaps.missing - vanished,
        duplicated: repeated + gaps.repeated - taken_again,
        out_of_order: disorder.len(),
        taken_again,
        vanished,
    }
}

fn begin(fault: Fault, kafka: &mut Kafka, agent: &mut Agent) {
    match fault {
        Fault::Frozen => kafka.freeze(),
        Fault::Stopped => kafka.stop(),
        Fault::Killed => {
            // A single broker that is killed between its decision to commit and the markers
            // of it may skip them at its next start ([`Kafka::kill`]); the outcome of that
            // transaction is then not what Kafka has said, whoever asks. So it may end what
            // it is at. A transaction that stands open is killed with it.
            agent.process().signal(Signal::STOP);
            outage(BREATH);
            kafka.kill();
            agent.process().signal(Signal::CONT);
        }
        Fault::Refused => {
            kafka.line.set(Mode::Refuse);
            kafka.line.cut();
        }
        Fault::BlackHole => kafka.line.set(Mode::BlackHole),
        Fault::LostReplies => kafka.line.set(Mode::LostReplies),
        Fault::Slow => kafka.line.slow(Duration::ZERO, Some(SLOW)),
        Fault::Delayed => kafka.line.slow(DELAY, None),
        Fault::Flapping => {
            kafka.line.cut();
        }
    }
}

fn end(fault: Fault, kafka: &mut Kafka) {
    match fault {
        Fault::Frozen => kafka.thaw(),
        Fault::Stopped | Fault::Killed => kafka.start(),
        Fault::LostReplies => {
            // The replies are gone, so that what waits for them must not go on.
            kafka.line.cut();
            kafka.line.set(Mode::Forward);
        }
        Fault::Refused | Fault::BlackHole => kafka.line.set(Mode::Forward),
        Fault::Slow | Fault::Delayed => kafka.line.slow(Duration::ZERO, None),
        Fault::Flapping => {}
    }
}
