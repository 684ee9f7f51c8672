//! A simulated plant, for the demo, the tests and the benchmarks: a Modbus TCP
//! boiler, an MQTT broker with noisy sensors, a machine that fills a `SQLite`
//! table, and a Kafka in the same process. Other devices come from a file of their
//! own ([`devices`]).
//!
//! Everything that the plant makes carries a number of its own, counted from 1
//! per device without gaps. The [`ledger`] compares them, one by one, with what
//! a consumer read behind the agent.

pub mod ledger;

pub mod boiler;
pub mod broker;
pub mod devices;
pub mod machine;
pub mod noise;
pub mod plant;

pub mod judge;
pub mod kafka;
pub mod uplink;
