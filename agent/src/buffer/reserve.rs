//! `<path>.reserve`: room that is given back when the disk is full, so that
//! what Kafka has can still be deleted. A delete writes pages before it frees
//! any.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::own;
use super::schema::beside;

/// A delete of some thousand batches changes as many pages as they have leaves:
/// some hundred KiB. (Each test that opens a file would write it.)
const SIZE: usize = if cfg!(test) { 64 * 1024 } else { 2 * 1024 * 1024 };

/// A disk that is nearly full takes the reserve in part, again and again: each
/// try costs as many bytes of the flash.
const AGAIN: Duration = Duration::from_mins(10);

/// The room, held or given back.
#[derive(Debug, Default)]
pub(super) struct Reserve {
    held: bool,
    tried: Option<Instant>,
}

impl Reserve {
    /// Takes the room where there is enough, from time to time.
    pub(super) fn take(&mut self, path: &Path) {
        if self.held || self.tried.is_some_and(|tried| tried.elapsed() < AGAIN) {
            return;
        }
        self.tried = Some(Instant::now());
        let name = beside(path, ".reserve");
        let ours = |data: &fs::Metadata| own::is_ours(data) && data.len() == SIZE as u64;
        self.held = fs::symlink_metadata(&name).as_ref().is_ok_and(ours);
        if self.held {
            return;
        }
        match fill(&name) {
            Ok(()) => self.held = true,
            Err(error) => {
                release(path);
                warn!(%error, "the disk has no room for the buffer's reserve");
            }
        }
    }

    /// Gives the room back; false when there is none to give.
    pub(super) fn give(&mut self, path: &Path) -> bool {
        self.tried = Some(Instant::now());
        let given = std::mem::take(&mut self.held) && release(path);
        if given {
            info!("the disk is full, the buffer's reserve is given back for deletes");
        }
        given
    }
}

/// Removes the reserve, whoever made it.
pub(super) fn release(path: &Path) -> bool {
    fs::remove_file(beside(path, ".reserve")).is_ok()
}

/// Noise: a file system that compresses would keep no room for zeros.
fn fill(name: &Path) -> std::io::Result<()> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_ne_bytes()
    })
    .take(SIZE / 8)
    .flatten()
    .collect();
    let mut file = own::make(name)?;
    file.write_all(&noise)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_given_once_and_outlives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("buffer.db");
        let held = || fs::metadata(beside(&path, ".reserve")).map_or(0, |data| data.len());
        let mut reserve = Reserve::default();
        reserve.take(&path);
        assert_eq!(held(), SIZE as u64);
        let mut after = Reserve::default();
        after.take(&path);
        assert!(after.give(&path));
        assert_eq!(held(), 0);
        assert!(!after.give(&path));
        // Not at once: the disk is as full as before.
        after.take(&path);
        assert_eq!(held(), 0);
    }

    #[test]
    fn a_link_in_the_place_of_the_reserve_is_replaced_and_its_target_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (path, victim) = (folder.path().join("buffer.db"), folder.path().join("victim"));
        // As long as the reserve, so that nothing but the link tells it from one.
        fs::write(&victim, vec![7; SIZE]).unwrap();
        std::os::unix::fs::symlink(&victim, beside(&path, ".reserve")).unwrap();
        let mut reserve = Reserve::default();
        reserve.take(&path);
        assert!(own::is_ours(&fs::symlink_metadata(beside(&path, ".reserve")).unwrap()));
        assert!(reserve.give(&path));
        assert_eq!(fs::read(&victim).unwrap(), vec![7; SIZE]);
    }
}
