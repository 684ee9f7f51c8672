//! Publishers on the demo's own broker.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rumqttc_v4::mqttbytes::QoS;
use rumqttc_v4::mqttbytes::v4::Publish;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::fault::{Faults, What};
use super::file::{Publisher, Publishers};
use super::text::Values;
use super::{Now, Talk};
use crate::broker::{Broker, Shared};

/// A broker and its publishers; they end when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    config: Publishers,
    broker: Broker,
    _publishers: JoinSet<()>,
}

impl Place {
    pub(super) async fn start(config: &Publishers, now: Now, talk: Talk) -> io::Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let address = config.address.as_ref().and_then(|address| address.parse().ok());
        let broker = Broker::start(address.unwrap_or(any)).await?;
        let mut publishers = JoinSet::new();
        for (device, number) in config.devices.iter().zip(1..) {
            publishers.spawn(publish(device.clone(), number, broker.shared(), now, talk));
        }
        Ok(Self { config: config.clone(), broker, _publishers: publishers })
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    pub(super) fn address(&self) -> String {
        self.broker.address().to_string()
    }

    /// The agent's `[[source]]` that reads all of it.
    pub(super) fn configuration(&self) -> String {
        let Publishers { name, devices, .. } = &self.config;
        let topic = |device: &Publisher| {
            format!("\n[[source.subscription]]\ntopic = \"{}\"\n", device.topic)
        };
        let topics: Vec<String> = devices.iter().map(topic).collect();
        format!(
            "[[source]]\ntype = \"mqtt\"\nname = \"{name}\"\naddress = \"{}\"\nprotocol = \"3.1.1\"\n\
             stream = \"{name}\"\n{}",
            self.address(),
            topics.concat()
        )
    }
}

async fn publish(device: Publisher, number: u64, broker: Shared, now: Now, talk: Talk) {
    let mut values = Values::new(&device.values);
    let mut faults = Faults::new(&device.faults, number);
    let mut ticks = interval(device.interval.get());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let elapsed = now.get();
        let fault = faults.next(elapsed);
        let Some((payload, late)) = spoilt(&object(&mut values, elapsed), fault) else {
            if fault == Some(What::Disconnect) {
                broker.cut();
            }
            continue;
        };
        sleep(late).await;
        talk.say(format_args!("{}: {}", device.topic, String::from_utf8_lossy(&payload)));
        broker.publish(&Publish::new(&device.topic, QoS::AtLeastOnce, payload));
    }
}

/// All values as one JSON object.
fn object(values: &mut Values, elapsed: Duration) -> String {
    let fields = values.at(elapsed).into_iter().map(|(name, value)| (name, value.into()));
    serde_json::Value::Object(fields.collect()).to_string()
}

/// What is published, and how much later; nothing where nothing is.
fn spoilt(payload: &str, fault: Option<What>) -> Option<(Vec<u8>, Duration)> {
    let whole = payload.as_bytes();
    match fault {
        None | Some(What::Exception(_)) => Some((whole.to_vec(), Duration::ZERO)),
        Some(What::Late(by)) => Some((whole.to_vec(), by.get())),
        Some(What::Noise) => Some(([&[0xFF, 0x00], whole].concat(), Duration::ZERO)),
        Some(What::Short) => {
            Some((whole.iter().copied().take(whole.len() / 2).collect(), Duration::ZERO))
        }
        Some(What::Silence | What::Disconnect) => None,
    }
}

#[cfg(test)]
mod tests {
    use tidegate::units::Period;

    use super::*;

    #[test]
    fn a_message_is_spoilt_as_its_fault_says() {
        let spoilt = |what| spoilt(r#"{"bar":2}"#, Some(what));
        let late = spoilt(What::Late(Period::from_secs(2)));
        assert_eq!(late, Some((br#"{"bar":2}"#.to_vec(), Duration::from_secs(2))));
        assert_eq!(spoilt(What::Short), Some((br#"{"ba"#.to_vec(), Duration::ZERO)));
        assert_eq!((spoilt(What::Silence), spoilt(What::Disconnect)), (None, None));
        let (noisy, _) = spoilt(What::Noise).unwrap();
        assert!(serde_json::from_slice::<serde_json::Value>(&noisy).is_err());
    }
}
