//! The real forwarder on a line to the model of Kafka.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::broker::Broker;
use super::wire::Wire;
use crate::buffer::{Shared, Store};
use crate::clock::Clock;
use crate::event::Timestamp;
use crate::forward::Status;
use crate::forward::config::Config;
use crate::forward::pace::Pace;
use crate::forward::run::{Forward, StopAt};

pub(crate) struct Sender {
    forward: Forward<Wire>,
    status: watch::Receiver<Status>,
}

impl Sender {
    /// Agent number `who` under this gateway's id; `now` is the broker's time.
    pub(crate) fn new(
        broker: &Arc<Mutex<Broker>>,
        shared: &Arc<Shared>,
        who: usize,
        gateway: &'static str,
        (clock, pace, now): (Clock, Pace, Timestamp),
    ) -> Self {
        let config: Config = serde_json::from_value(serde_json::json!({
            "brokers": "model:1", "transaction_timeout": "10 s",
        }))
        .unwrap();
        let (sender, status) = watch::channel(Status::begin());
        // A few batches fill a load, and some loads a transaction.
        let part = [200, 1_000, 10_000][broker.lock().unwrap().chance.index(3)];
        let (broker, wired) = (Arc::clone(broker), Arc::clone(shared));
        let mut forward = Forward::new(
            config,
            gateway.to_owned(),
            Store(Arc::clone(shared)),
            clock,
            pace,
            Box::new(move |_, gateway, _| Ok(Wire::open(&broker, &wired, who, gateway, now))),
            StopAt::default(),
            sender,
        );
        forward.in_parts_of(part);
        Self { forward, status }
    }

    /// One step; gives the pause after it.
    pub(crate) fn step(&mut self) -> Duration {
        self.forward.step()
    }

    pub(crate) fn state(&self) -> &'static str {
        self.status.borrow().state
    }

    /// What keeps it from delivering, as its status says.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.status.borrow().last_error.clone()
    }
}
