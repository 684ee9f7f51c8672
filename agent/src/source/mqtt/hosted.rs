//! The connection where a Sparkplug host reads all messages: what it hears, what it says,
//! and what it does in time.

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Mqtt;
use super::config::{LastWill, Qos};
use super::connection::{Connection, End, GOODBYE};
use super::packet::{self, Publish};
use super::raw::Seen;
use crate::collect::Intake;
use crate::event::Timestamp;
use crate::raw::Of;
use crate::source::sparkplug::Arrived;
use crate::supervise::Link;

impl Mqtt {
    /// The will of the login that begins now: each has its own time.
    pub(super) fn make_will(&mut self) {
        let time = self.clock.now();
        let Some(host) = &mut self.host else { return };
        self.config.last_will = host.log_in(time).map(|will| LastWill {
            topic: will.topic,
            payload: String::from_utf8_lossy(&will.payload).into_owned(),
            qos: Qos::AtLeastOnce,
            retain: will.retain,
        });
    }
}

impl Connection<'_> {
    pub(super) fn take_hosted(
        &mut self,
        publish: &Publish,
        time: Timestamp,
        link: Option<&mut Link>,
        seen: Option<Seen>,
    ) {
        let Publish { qos, retain, topic, payload, .. } = publish;
        let Some(host) = &mut self.mqtt.host else { return };
        let arrived =
            Arrived { topic, payload, retained: *retain, qos: *qos, now: Instant::now(), time };
        match host.take(arrived) {
            Ok(()) => {
                let of = Of::Event(self.batch.events.len());
                if self.take_found() {
                    self.batch.note(of, seen, publish);
                }
            }
            Err(reason) => {
                self.batch.note(Of::Dead(self.batch.dead.len()), seen, publish);
                self.bury(None, &reason, topic, payload, payload.len(), link);
            }
        }
    }

    /// Whether the host has made events since it was asked last.
    pub(super) fn take_found(&mut self) -> bool {
        let Some(host) = &mut self.mqtt.host else { return false };
        let events = host.take_events();
        let any = !events.is_empty();
        for event in events {
            self.batch.bytes += event.memory();
            self.batch.events.push(event);
        }
        any
    }

    /// All is subscribed: it says that it is there.
    pub(super) fn greet(&mut self) {
        if let Some(host) = &mut self.mqtt.host {
            host.connected(Instant::now());
        }
    }

    pub(super) fn host_due(&self) -> Option<Instant> {
        self.mqtt.host.as_ref().and_then(|host| host.due())
    }

    /// What is due now, and what was found out of its devices.
    pub(super) fn tend_host(&mut self, link: &mut Link) {
        let time = self.mqtt.clock.now();
        let Some(host) = &mut self.mqtt.host else { return };
        host.tick(Instant::now(), time);
        host.tell(link);
        self.take_found();
        self.say();
    }

    fn say(&mut self) {
        let Some(host) = &mut self.mqtt.host else { return };
        let (protocol, source) = (self.mqtt.config.protocol, &self.mqtt.config.name);
        for message in host.take_packets() {
            // Of QoS 1 there are only those about the host itself, each of which stands
            // for all before: one id serves them, beside that of the SUBSCRIBE.
            match packet::outgoing(protocol, message, PUBLISH_ID) {
                Ok(packet) => self.out.extend_from_slice(&packet),
                Err(error) => warn!(%source, error, "cannot make a PUBLISH"),
            }
        }
    }

    /// The connection ends: at a stop the host says so and gives out what it holds; where
    /// the connection is lost, nothing that it knows is sure any more.
    pub(super) async fn leave_host(
        &mut self,
        end: &Result<(), End>,
        intake: &mut Intake,
        link: &mut Link,
        stop: &CancellationToken,
    ) {
        let time = self.mqtt.clock.now();
        let Some(host) = &mut self.mqtt.host else { return };
        let is_stop = !matches!(end, Err(End::Broken(_)));
        if is_stop {
            host.leave(Instant::now(), time);
        } else {
            host.lost(Instant::now(), time);
        }
        host.tell(link);
        self.take_found();
        if is_stop {
            // A full buffer may take long; then these few are lost, as what came then is.
            let _late = timeout(GOODBYE, self.hand_over(intake)).await;
            self.say();
        } else {
            tokio::select! {
                _done = self.hand_over(intake) => {}
                () = stop.cancelled() => {}
            }
        }
    }
}

/// Packet id of what we publish with QoS 1.
const PUBLISH_ID: u16 = 2;

#[cfg(test)]
#[path = "hosted_tests.rs"]
mod tests;
