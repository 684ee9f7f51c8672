//! What the running configuration says of the streams that the file knows: what is stored
//! of them goes where it says now, whatever it said when that was stored.
//!
//! A stream stands aside because its topic is misspelt; once that is mended nothing new
//! need come of it, and where its share is full nothing can.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, Transaction};

use super::{File, definition};
use crate::flow::{self, Flows, Stream};

/// Definitions that count from now on.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// By the stream's name, as text.
    streams: BTreeMap<String, String>,
    /// The file may still have others.
    behind: bool,
}

impl Followed {
    /// The definition that counts for this stream: one that the configuration does not
    /// name keeps the one that it came with (SAFETY 14).
    pub(super) fn of(&self, stream: &Stream) -> String {
        self.streams.get(&stream.name).cloned().unwrap_or_else(|| definition(stream))
    }

    /// Brings the file behind them; gives what it changed, by flow.
    pub(super) fn write(
        &self,
        transaction: &Transaction<'_>,
    ) -> Result<Vec<(flow::Hash, String)>, rusqlite::Error> {
        if !self.behind {
            return Ok(Vec::new());
        }
        let others = others(transaction, &self.streams)?;
        let mut update =
            transaction.prepare_cached("UPDATE stream SET definition = ?2 WHERE flow = ?1")?;
        for (flow, definition) in &others {
            update.execute((flow.0, definition))?;
        }
        Ok(others)
    }

    /// The file has them.
    pub(super) const fn written(&mut self) {
        self.behind = false;
    }
}

/// The flows of which the file has another definition than the one that counts.
fn others(
    connection: &Connection,
    streams: &BTreeMap<String, String>,
) -> Result<Vec<(flow::Hash, String)>, rusqlite::Error> {
    let known: HashMap<u32, String> = connection
        .prepare_cached("SELECT flow, definition FROM stream")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut others = Vec::new();
    for (flow, text) in known {
        // What cannot be read is told by who sends it.
        let Ok(Stream { name, .. }) = serde_json::from_str(&text) else { continue };
        if let Some(counts) = streams.get(&name).filter(|counts| **counts != text) {
            others.push((flow::Hash(flow), counts.clone()));
        }
    }
    Ok(others)
}

impl File {
    /// From now on the streams of this configuration are what it says, for what is stored
    /// of them and for what comes by an earlier definition. On a full disk the reserve is
    /// used for it: what is sent then makes room.
    ///
    /// After an error the next commit does it too.
    pub(crate) fn follow(&mut self, flows: &Flows) -> Result<(), rusqlite::Error> {
        let text = |stream: &Stream| (stream.name.clone(), definition(stream));
        let streams = flows.rules().map(|rules| text(&rules.stream)).collect();
        self.followed = Followed { streams, behind: true };
        match self.catch_up() {
            Err(cause) if self.is_full(&cause) && self.give_reserve() => self.catch_up(),
            done => done,
        }
    }

    /// What [`File::follow`] could not write.
    pub(crate) fn catch_up(&mut self) -> Result<(), rusqlite::Error> {
        if !self.followed.behind {
            return Ok(());
        }
        let transaction = self.connection.transaction()?;
        let changed = self.followed.write(&transaction)?;
        transaction.commit()?;
        self.commits += u64::from(!changed.is_empty());
        self.streams.extend(changed);
        self.followed.written();
        Ok(())
    }
}
