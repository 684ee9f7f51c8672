//! Files of our own beside the buffer: the lock, the reserve, the note of a salvage.
//!
//! Their folder belongs to the agent's user, and a command of root's works in it too.
//! Whoever can write there can put a link in the place of one of them, to have root
//! empty or give away a file that is none of his business. So none of them is opened
//! through a link, and one that is to be new is made anew, by name: what stood there,
//! link or not, goes, and what a link leads to stays as it is.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Makes the file empty, whatever had its name.
pub(super) fn make(name: &Path) -> std::io::Result<File> {
    match fs::remove_file(name) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    // Who is quicker with a link has it refused.
    OpenOptions::new().write(true).create_new(true).open(name)
}

/// Opens the file as `options` say; [`ErrorKind::InvalidInput`]: what has its name is
/// not ours alone, and nothing was done with it.
pub(super) fn open(name: &Path, options: &mut OpenOptions) -> std::io::Result<File> {
    // Nor does it wait for the other end of a pipe.
    let opened = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(name);
    let stands = fs::symlink_metadata(name);
    let file = match (opened, &stands) {
        (Err(_), Ok(stands)) if !stands.is_file() => return Err(foreign(name)),
        (opened, _) => opened?,
    };
    // Of the name and not of what was opened: at this moment it is the only one of the
    // file. Its own count is also one once somebody has taken the link away again.
    let (stands, opened) = (stands?, file.metadata()?);
    let same = (stands.dev(), stands.ino()) == (opened.dev(), opened.ino());
    if same && is_ours(&stands) { Ok(file) } else { Err(foreign(name)) }
}

/// Whether this, looked at by its name, is a plain file that has no other name.
pub(super) fn is_ours(stands: &Metadata) -> bool {
    stands.is_file() && stands.nlink() == 1
}

fn foreign(name: &Path) -> Error {
    let text = format!(
        "{} is a link, has a second name, or is no plain file: what it leads to was left as \
         it is; look who made it and remove it, it is made anew",
        name.display()
    );
    Error::new(ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// What a name can be instead of a file of our own; gives what must stay as it is.
    fn plant(folder: &Path, name: &Path, how: usize) -> std::path::PathBuf {
        let victim = folder.join("victim");
        fs::write(&victim, "precious").unwrap();
        match how {
            0 => std::os::unix::fs::symlink(&victim, name).unwrap(),
            _ => fs::hard_link(&victim, name).unwrap(),
        }
        victim
    }

    #[test]
    fn a_file_that_is_made_anew_takes_the_place_of_a_link_and_not_of_its_target() {
        for how in [0, 1] {
            let folder = tempfile::tempdir().unwrap();
            let name = folder.path().join("buffer.db.reserve");
            let victim = plant(folder.path(), &name, how);
            make(&name).unwrap().write_all(b"mine").unwrap();
            assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
            assert_eq!(fs::read_to_string(&name).unwrap(), "mine");
            assert!(is_ours(&fs::symlink_metadata(&name).unwrap()));
        }
    }

    #[test]
    fn a_link_to_nothing_makes_no_file_where_it_leads() {
        let folder = tempfile::tempdir().unwrap();
        let (name, nowhere) = (folder.path().join("a"), folder.path().join("nowhere"));
        std::os::unix::fs::symlink(&nowhere, &name).unwrap();
        let opened = open(&name, OpenOptions::new().write(true).create(true));
        assert_eq!(opened.unwrap_err().kind(), ErrorKind::InvalidInput);
        make(&name).unwrap();
        assert!(!nowhere.try_exists().unwrap());
    }

    #[test]
    fn what_has_a_second_name_is_not_opened() {
        for how in [0, 1] {
            let folder = tempfile::tempdir().unwrap();
            let name = folder.path().join("a");
            plant(folder.path(), &name, how);
            let opened = open(&name, OpenOptions::new().append(true));
            assert_eq!(opened.unwrap_err().kind(), ErrorKind::InvalidInput, "{how}");
            fs::remove_file(&name).unwrap();
            fs::write(&name, "").unwrap();
            open(&name, OpenOptions::new().append(true)).unwrap();
        }
    }
}
