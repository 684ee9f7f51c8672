//! What a read-committed reader must have in the end.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::{Kind, World};

/// Every event arrived exactly once and in the order of its flow, or at least
/// once where the seed leaves a doubt, or where a look after a forgotten position
/// could not see all of its topic; what no topic takes is a dead letter,
/// and nothing else is.
pub(super) fn judge(world: &World) -> Result<(), String> {
    let broker = world.broker.lock().unwrap();
    for (topic, expected) in world.expected() {
        let mut seen = BTreeSet::new();
        let mut order: BTreeMap<(String, usize), u64> = BTreeMap::new();
        for id in broker.read(topic) {
            let Some(flow) = expected.get(id) else {
                return Err(format!("{id} arrived in {topic} and was never stored for it"));
            };
            if !seen.insert(id) {
                let seen = world.kind == Kind::Forgotten && !broker.blind.contains(topic);
                if world.kind == Kind::Plain || seen {
                    return Err(format!("{id} arrived twice"));
                }
                continue;
            }
            let (epoch, seq) = id.rsplit_once('/').unwrap();
            let seq: u64 = seq.parse().unwrap();
            let before = order.insert((epoch.to_owned(), *flow), seq);
            if before.is_some_and(|before| before > seq) {
                return Err(format!("{id} arrived behind {before:?} of its flow"));
            }
        }
        if let Some((lost, _)) = expected.iter().find(|(id, _)| !seen.contains(id.as_str())) {
            return Err(format!("{lost} never arrived"));
        }
    }
    drop(broker);
    world.letters()
}
