//! The position: how far Kafka has the flows of this gateway, as text that
//! fits into one offset's metadata.

use std::collections::BTreeMap;

use super::Epoch;
use crate::flow;

/// For each flow the epoch and batch number last sent, and the newest eight
/// epochs in order. SAFETY.md says what it covers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    pub gateway: String,
    pub cluster: String,
    /// Oldest first, at most eight, besides those that entries refer to.
    pub epochs: Vec<Epoch>,
    pub flows: BTreeMap<flow::Hash, (Epoch, u64)>,
}
