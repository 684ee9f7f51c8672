//! What an error of `SQLite` says: of the file, of the disk, of the medium.

use std::io::ErrorKind;

use rusqlite::{Connection, ErrorCode, ffi};

/// Whether the file itself is wrong, and not what was done with it.
pub(crate) fn is_damage(cause: &rusqlite::Error) -> bool {
    // A short read: pages are missing that the -wal says are there.
    extended(cause) == Some(ffi::SQLITE_IOERR_SHORT_READ)
        || matches!(
            cause.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        )
}

/// Whether the disk has no room for what this connection was to write.
pub(super) fn is_full(connection: &Connection, cause: &rusqlite::Error) -> bool {
    cause.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || of_system(connection, cause).is_some_and(|error| is_want_of_room(&error))
}

/// A quota that is used up, or a -shm that cannot grow: `SQLite` says of neither that
/// the disk is full.
fn is_want_of_room(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// An error of this connection in words: with what the system said, where that
/// is what failed.
pub(super) fn explain(connection: &Connection, cause: &rusqlite::Error) -> String {
    match of_system(connection, cause) {
        Some(error) => format!("{cause}: {error}"),
        None => cause.to_string(),
    }
}

/// What the system said to the call that failed, if it was one of its.
fn of_system(connection: &Connection, cause: &rusqlite::Error) -> Option<std::io::Error> {
    let calls = [ErrorCode::SystemIoFailure, ErrorCode::CannotOpen];
    if !cause.sqlite_error_code().is_some_and(|code| calls.contains(&code)) {
        return None;
    }
    #[expect(unsafe_code, reason = "the crate has no way to SQLite's number of the system's error")]
    // SAFETY: the handle belongs to `connection`, which outlives the call, and the
    // call only reads a number.
    let number = unsafe { ffi::sqlite3_system_errno(connection.handle()) };
    (number != 0).then(|| std::io::Error::from_raw_os_error(number))
}

/// Whether something was written and may not be on the medium.
pub(super) fn is_unsynced(cause: &rusqlite::Error) -> bool {
    extended(cause) == Some(ffi::SQLITE_IOERR_FSYNC)
}

/// Whether a value is of another type than the one that was written.
pub(super) fn is_of_another_type(cause: &rusqlite::Error) -> bool {
    matches!(
        cause,
        rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..)
    )
}

fn extended(cause: &rusqlite::Error) -> Option<i32> {
    cause.sqlite_error().map(|error| error.extended_code)
}

/// The same at start, where a value of another type and a page that the medium
/// does not give back are damage too: who waits for it would wait for ever.
pub(super) fn is_damage_at_start(cause: &rusqlite::Error) -> bool {
    let read = [ffi::SQLITE_IOERR_READ, ffi::SQLITE_IOERR_CORRUPTFS];
    is_damage(cause)
        || is_of_another_type(cause)
        || extended(cause).is_some_and(|code| read.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_said_stands_beside_what_failed() {
        let connection = Connection::open_in_memory().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing/buffer.db");
        let attached = connection.execute("ATTACH ?1 AS other", [missing.to_str()]);
        let text = explain(&connection, &attached.unwrap_err());
        assert!(text.contains("unable to open"), "{text}");
        assert!(text.ends_with(": No such file or directory (os error 2)"), "{text}");
        let wrong = connection.execute("nonsense", []).unwrap_err();
        assert_eq!(explain(&connection, &wrong), wrong.to_string());
    }

    #[test]
    fn a_quota_that_is_used_up_is_a_full_disk() {
        let of = std::io::Error::from_raw_os_error;
        assert!(is_want_of_room(&of(libc::EDQUOT)) && is_want_of_room(&of(libc::ENOSPC)));
        assert!(!is_want_of_room(&of(libc::EIO)) && !is_want_of_room(&of(libc::EROFS)));
        let connection = Connection::open_in_memory().unwrap();
        let full = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None);
        assert!(is_full(&connection, &full));
    }
}
