//! When the file is read whole beside the running agent (SAFETY 17).

use std::time::Duration;

use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::buffer::{ReadError, Scrub, Scrubbed, Store};

/// A start has better things to do, and a gateway that is restarted each minute.
const FIRST: Duration = Duration::from_mins(1);

/// Pause between two passes.
const NEXT: Duration = Duration::from_hours(24);

/// Pause between two steps, of a megabyte or 256 batches: a percent of a core at most,
/// and a full buffer of 1 GiB in less than an hour where its batches are not small.
const BREATH: Duration = Duration::from_secs(1);

/// Reads the file again and again until `stop`.
pub(super) async fn run(store: Store, stop: CancellationToken) {
    let passes = async {
        let mut pause = FIRST;
        loop {
            tokio::time::sleep(pause).await;
            tell(pass(store.clone()).await);
            pause = NEXT;
        }
    };
    stop.run_until_cancelled(passes).await;
}

async fn pass(store: Store) -> Result<Result<Scrubbed, ReadError>, JoinError> {
    let mut scrub = match tokio::task::spawn_blocking(|| Scrub::begin(store)).await? {
        Ok(scrub) => scrub,
        Err(error) => return Ok(Err(error)),
    };
    loop {
        let more;
        (scrub, more) = tokio::task::spawn_blocking(move || {
            let more = scrub.step();
            (scrub, more)
        })
        .await?;
        match more {
            Ok(true) => tokio::time::sleep(BREATH).await,
            Ok(false) => return Ok(Ok(scrub.read().clone())),
            Err(error) => return Ok(Err(error)),
        }
    }
}

fn tell(passed: Result<Result<Scrubbed, ReadError>, JoinError>) {
    match passed {
        Ok(Ok(Scrubbed { batches, events, wrong, first: Some(first) })) => {
            warn!(
                batches,
                events,
                wrong,
                first,
                "the buffer was read whole: what of it cannot be decoded becomes a dead letter when its turn comes"
            );
        }
        Ok(Ok(Scrubbed { batches, events, .. })) => {
            debug!(batches, events, "the buffer was read whole, nothing is wrong with it");
        }
        // Damage was told to the writer, which says so; else the next pass looks again.
        Ok(Err(error)) => info!(%error, "the buffer was not read to its end"),
        Err(error) => warn!(%error, "the thread that reads the buffer has failed"),
    }
}
