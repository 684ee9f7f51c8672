//! What a read-committed reader must have in the end.

use std::collections::{BTreeMap, BTreeSet};

use super::Mutant;
use super::life::{STREAMS, Stored};
use super::mqtt::{is_bad, payload};
use super::world::World;

/// What the file says was never sent.
struct Gap {
    stream: String,
    epoch: u64,
    first: u64,
    last: u64,
    perhaps_sent: bool,
}

fn gaps(side: &rusqlite::Connection) -> Vec<Gap> {
    let mut statement =
        side.prepare("SELECT stream, epoch, first_seq, last_seq, perhaps_sent FROM gap").unwrap();
    let rows = statement.query_map([], |row| {
        Ok(Gap {
            stream: row.get(0)?,
            epoch: row.get::<_, i64>(1)?.cast_unsigned(),
            first: row.get::<_, i64>(2)?.cast_unsigned(),
            last: row.get::<_, i64>(3)?.cast_unsigned(),
            perhaps_sent: row.get(4)?,
        })
    });
    rows.unwrap().map(Result::unwrap).collect()
}

impl Gap {
    fn names(&self, stream: &str, epoch: u64, seq: u64) -> bool {
        self.stream == stream && self.epoch == epoch && (self.first..=self.last).contains(&seq)
    }
}

pub(super) fn judge(world: &World) -> Result<(), String> {
    let Some(life) = &world.life else { return Err("no agent runs".to_owned()) };
    let gaps = gaps(&life.side);
    let kafka = world.kafka.lock().unwrap();
    let known: BTreeMap<String, &Stored> =
        world.stored.iter().map(|stored| (stored.id(), stored)).collect();
    if known.len() != world.stored.len() {
        return Err("two events have one id".to_owned());
    }
    // Copies that SAFETY 19 and 20 allow. Each stands behind the first, which may have been
    // dropped since.
    let mut keys = BTreeSet::new();
    let stayed = world.stored.iter().filter(|stored| !world.vanished.contains(&stored.id()));
    let again = stayed.filter(|stored| !keys.insert((stored.stream, stored.number)));
    let copies: BTreeSet<String> = again.map(Stored::id).collect();
    let mut arrived = BTreeSet::new();
    for stream in STREAMS {
        let mut newest = 0;
        let mut seen = BTreeSet::new();
        for id in kafka.read(stream) {
            let Some(stored) = known.get(id) else {
                return Err(format!("{id} arrived in {stream} and was never in the file"));
            };
            if stored.stream != stream {
                return Err(format!("{id} of {} arrived in {stream}", stored.stream));
            }
            if !arrived.insert(id) {
                return Err(format!("{id} arrived twice"));
            }
            let first = seen.insert(stored.number) && !copies.contains(id);
            if first && stored.number < newest {
                return Err(format!("{stream} {} arrived behind {newest}", stored.number));
            }
            newest = newest.max(stored.number);
        }
    }
    for (id, stored) in &known {
        let (stream, epoch, seq) = (stored.stream, stored.epoch, stored.seq);
        let mut named = gaps.iter().filter(|gap| gap.names(stream, epoch, seq));
        // What was only in memory when its process died was never answered.
        let stays = !world.vanished.contains(id);
        if stays && !arrived.contains(id.as_str()) && named.next().is_none() {
            return Err(format!("{stream} {} ({id}) never arrived, no gap", stored.number));
        }
    }
    whole(world, &gaps)?;
    let sure = world.mutant == Some(Mutant::SureGap);
    honest(&known, &arrived, gaps.iter().filter(|gap| sure || !gap.perhaps_sent))?;
    for row in 1..=world.rows {
        if world.copies.get(&("rows", row)) != Some(&1) {
            return Err(format!(
                "row {row} is stored {:?} times",
                world.copies.get(&("rows", row))
            ));
        }
    }
    for key in &world.acknowledged {
        let there = if is_bad(*key) {
            world.letters.contains_key(&payload(*key))
        } else {
            let is_of = |stored: &&Stored| (stored.stream, stored.number) == *key;
            let stays = |id: &String| !world.vanished.contains(id) || arrived.contains(id.as_str());
            world.stored.iter().filter(is_of).any(|stored| stays(&stored.id()))
        };
        if !there {
            return Err(format!("{key:?} is acknowledged and lost"));
        }
    }
    Ok(())
}

/// Ids have no holes: what was never seen in the file is named by a gap.
fn whole(world: &World, gaps: &[Gap]) -> Result<(), String> {
    let mut epochs: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for stored in &world.stored {
        epochs.entry(stored.epoch).or_default().insert(stored.seq);
    }
    for (epoch, seqs) in epochs {
        let last = seqs.last().copied().unwrap_or_default();
        let hole = (1..=last).find(|seq| {
            let named = |gap: &Gap| gap.names(&gap.stream, epoch, *seq);
            !seqs.contains(seq) && !gaps.iter().any(named)
        });
        if let Some(seq) = hole {
            return Err(format!("number {seq} of {epoch:016x} is of no event"));
        }
    }
    Ok(())
}

/// A gap that is sure of it names what was really never sent (SAFETY 12).
fn honest<'a>(
    known: &BTreeMap<String, &Stored>,
    arrived: &BTreeSet<&str>,
    sure: impl Iterator<Item = &'a Gap>,
) -> Result<(), String> {
    for gap in sure {
        for (id, stored) in known {
            let named = gap.names(stored.stream, stored.epoch, stored.seq);
            if named && arrived.contains(id.as_str()) {
                return Err(format!("{id} arrived, and a gap says that it was dropped"));
            }
        }
    }
    Ok(())
}
