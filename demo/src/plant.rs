//! The whole plant: a boiler behind Modbus TCP, noisy sensors behind an MQTT
//! broker, and a machine that fills a `SQLite` table.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rumqttc_v4::mqttbytes::QoS;
use rumqttc_v4::mqttbytes::v4::Publish;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::boiler::Boiler;
use crate::broker::{Broker, Shared, Taken};
use crate::ledger::{Ledger, Source};
use crate::machine::Machine;
use crate::noise::{Wander, rounded};

/// Name, middle and width of what each sensor measures.
const SENSORS: [(&str, f64, f64); 5] = [
    ("vibration-1", 2.5, 2.0),
    ("level-2", 61.0, 9.0),
    ("gas-3", 410.0, 35.0),
    ("humidity-4", 44.0, 12.0),
    ("power-5", 7.5, 1.5),
];

/// The topic filter of all sensors; the third part is the device.
pub const FILTER: &str = "plant/line1/+/telemetry";

/// Sensors publish in bursts this far apart: a timer a message would cost more
/// than the message.
const BURST: Duration = Duration::from_millis(20);

/// A press makes five parts a second.
const CYCLE: Duration = Duration::from_millis(200);

/// A running plant.
#[derive(Debug)]
pub struct Plant {
    boiler: Boiler,
    broker: Broker,
    machine: Machine,
    database: PathBuf,
    sensors: JoinSet<()>,
    stop: CancellationToken,
}

impl Plant {
    /// Starts everything; `rate` is how many events a second the sensors make
    /// together. They are silent until somebody listens.
    pub async fn start(folder: &Path, rate: u32, ledger: Ledger) -> anyhow::Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let boiler = Boiler::start(any, ledger.clone()).await.context("cannot start the boiler")?;
        let broker = Broker::start(any).await.context("cannot start the MQTT broker")?;
        let database = folder.join("machine.db");
        let machine = Machine::start(&database, CYCLE, ledger.clone())
            .with_context(|| format!("cannot make {}", database.display()))?;
        let stop = CancellationToken::new();
        let mut sensors = JoinSet::new();
        sensors.spawn(measure(broker.shared(), rate, ledger, stop.clone()));
        Ok(Self { boiler, broker, machine, database, sensors, stop })
    }

    pub fn boiler(&self) -> SocketAddr {
        self.boiler.address()
    }

    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    pub fn database(&self) -> &Path {
        &self.database
    }

    /// Nothing new happens from now on; what was made can still be fetched.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        while self.sensors.join_next().await.is_some() {}
        self.boiler.stop();
        self.machine.stop();
    }
}

async fn measure(broker: Shared, rate: u32, ledger: Ledger, stop: CancellationToken) {
    let mut seed = 41;
    let mut sensors = SENSORS.map(|(name, middle, width)| {
        seed += 1;
        (name, format!("plant/line1/{name}/telemetry"), Wander::new(middle, width, seed))
    });
    let mut due = 0.0;
    let mut turn = 0;
    let mut ticks = interval(BURST);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        // Before anybody subscribed the broker would drop what is published.
        if !sensors.iter().all(|(_, topic, _)| broker.wanted(topic)) {
            continue;
        }
        due += f64::from(rate) * BURST.as_secs_f64();
        while due >= 1.0 {
            due -= 1.0;
            turn = (turn + 1) % sensors.len();
            if let Some((name, topic, value)) = sensors.get_mut(turn) {
                publish(&broker, &ledger, name, topic, value.step());
            }
        }
    }
}

fn publish(broker: &Shared, ledger: &Ledger, device: &str, topic: &str, value: f64) {
    let number = ledger.produce(Source::Sensors, device);
    let payload = format!(r#"{{"n":{number},"value":{}}}"#, rounded(value));
    let message = Publish::new(topic, QoS::AtLeastOnce, payload);
    // What the broker has no room for was never handed over to anybody.
    if !matches!(broker.publish(&message), Taken::By(1..)) {
        ledger.take_back(Source::Sensors, device, number);
    }
}
