//! The machines as `SQLite`'s file system: the table of C functions that a
//! connection opens, reads, writes, syncs and locks its files through.
//!
//! It is this process's default, so that the agent's own code opens its buffer
//! on it as it would anywhere. A folder is a machine: [`plug_in`] says which.
//! Nothing is decided here.

#![expect(unsafe_code, reason = "SQLite's file system is a table of C functions")]

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::{Arc, LazyLock, Mutex, Once, PoisonError};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_int64, sqlite3_vfs};

use crate::dice::Dice;
use crate::machine::{Fault, Handle, Level, Machine};

/// Longest path of a file.
const MOST_PATH: c_int = 1024;

/// Milliseconds since noon of 24 November 4714 BC, as `SQLite` counts time: one
/// moment is as good as another.
const NOW: sqlite3_int64 = 212_000_000_000_000;

static FOLDERS: LazyLock<Mutex<BTreeMap<PathBuf, Arc<Machine>>>> = LazyLock::new(Mutex::default);

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(resize),
    xSync: Some(sync),
    xFileSize: Some(len),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(is_reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(map),
    xShmLock: Some(lock_slots),
    xShmBarrier: Some(barrier),
    xShmUnmap: Some(unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Files in this folder are from now on those of this machine.
pub(crate) fn plug_in(folder: &Path, machine: &Arc<Machine>) {
    static ONCE: Once = Once::new();
    ONCE.call_once(install);
    folders().insert(folder.to_owned(), Arc::clone(machine));
}

pub(crate) fn unplug(folder: &Path) {
    folders().remove(folder);
}

fn folders() -> std::sync::MutexGuard<'static, BTreeMap<PathBuf, Arc<Machine>>> {
    FOLDERS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn install() {
    let vfs = Box::leak(Box::new(sqlite3_vfs {
        iVersion: 2,
        szOsFile: c_int::try_from(size_of::<Open>()).expect("it is two pointers"),
        mxPathname: MOST_PATH,
        pNext: ptr::null_mut(),
        zName: c"cuts".as_ptr(),
        pAppData: ptr::null_mut(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_path),
        xDlOpen: None,
        xDlError: None,
        xDlSym: None,
        xDlClose: None,
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: None,
        xGetLastError: None,
        xCurrentTimeInt64: Some(now),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }));
    // SAFETY: the table lives for ever, and all that it must have is in it.
    let done = unsafe { ffi::sqlite3_vfs_register(vfs, 1) };
    assert_eq!(done, ffi::SQLITE_OK, "SQLite takes any complete table");
}

/// A file as `SQLite` holds it: memory of its own, with its table first.
#[repr(C)]
struct Open {
    base: sqlite3_file,
    handle: *mut Handle,
}

/// The file behind `SQLite`'s pointer.
///
/// # Safety
/// `file` was opened by [`open`] and is not closed yet. `SQLite` uses a file on
/// one thread at a time, and calls nothing on it from within a call.
unsafe fn handle<'a>(file: *mut sqlite3_file) -> &'a mut Handle {
    // SAFETY: `open` has put a handle there, which `close` takes away.
    unsafe { &mut *(*file.cast::<Open>()).handle }
}

/// The machine and the name of the file that this path means.
///
/// # Safety
/// `path` is a C string or null.
unsafe fn place(path: *const c_char) -> Option<(Arc<Machine>, String)> {
    if path.is_null() {
        return None;
    }
    // SAFETY: as the caller says.
    let path = unsafe { CStr::from_ptr(path) };
    let path = Path::new(OsStr::from_bytes(path.to_bytes()));
    let machine = folders().get(path.parent()?).cloned()?;
    Some((machine, path.file_name()?.to_str()?.to_owned()))
}

fn size(number: impl TryInto<usize>) -> usize {
    number.try_into().unwrap_or_default()
}

fn code(result: Result<(), Fault>, dead: c_int) -> c_int {
    match result {
        Ok(()) => ffi::SQLITE_OK,
        Err(Fault::Busy) => ffi::SQLITE_BUSY,
        Err(Fault::Dead | Fault::Missing | Fault::Ailing) => dead,
    }
}

unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    path: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let file = file.cast::<Open>();
    // SAFETY: SQLite gives room for an `Open`; without methods it is not closed.
    unsafe { (*file).base.pMethods = ptr::null() };
    // SAFETY: SQLite gives a C string, or null for a file without a name; all
    // of ours keep such in memory, so that none is asked for.
    let Some((machine, name)) = (unsafe { place(path) }) else { return ffi::SQLITE_CANTOPEN };
    let journals = ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL;
    let create = flags & ffi::SQLITE_OPEN_CREATE != 0;
    match machine.open(&name, create, create && flags & journals != 0) {
        Ok(handle) => {
            // SAFETY: room as above; the flags may be wanted or not.
            unsafe {
                (*file).handle = Box::into_raw(Box::new(handle));
                (*file).base.pMethods = &raw const METHODS;
                if !out_flags.is_null() {
                    *out_flags = flags;
                }
            }
            ffi::SQLITE_OK
        }
        Err(Fault::Missing) => ffi::SQLITE_CANTOPEN,
        Err(_) => ffi::SQLITE_IOERR,
    }
}

unsafe extern "C" fn delete(_: *mut sqlite3_vfs, path: *const c_char, sync: c_int) -> c_int {
    // SAFETY: SQLite gives a C string.
    let Some((machine, name)) = (unsafe { place(path) }) else { return ffi::SQLITE_IOERR_DELETE };
    match machine.delete(&name, sync != 0) {
        Err(Fault::Missing) => ffi::SQLITE_IOERR_DELETE_NOENT,
        result => code(result, ffi::SQLITE_IOERR_DELETE),
    }
}

unsafe extern "C" fn access(
    _: *mut sqlite3_vfs,
    path: *const c_char,
    _: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives a C string.
    let Some((machine, name)) = (unsafe { place(path) }) else { return ffi::SQLITE_IOERR_ACCESS };
    let found = machine.has(&name);
    // SAFETY: SQLite gives room for the answer.
    unsafe { *out = c_int::from(found == Ok(true)) };
    code(found.map(|_| ()), ffi::SQLITE_IOERR_ACCESS)
}

unsafe extern "C" fn full_path(
    _: *mut sqlite3_vfs,
    path: *const c_char,
    room: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: SQLite gives a C string.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes_with_nul();
    if path.len() > size(room) {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: there is room, as was just seen.
    unsafe { ptr::copy_nonoverlapping(path.as_ptr().cast(), out, path.len()) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn randomness(_: *mut sqlite3_vfs, count: c_int, out: *mut c_char) -> c_int {
    let mut bytes = vec![0; size(count)];
    Dice::new(0).fill(&mut bytes);
    // SAFETY: SQLite gives room for so many.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, bytes.len()) };
    count
}

/// Time does not pass here.
unsafe extern "C" fn sleep(_: *mut sqlite3_vfs, microseconds: c_int) -> c_int {
    microseconds
}

unsafe extern "C" fn now(_: *mut sqlite3_vfs, out: *mut sqlite3_int64) -> c_int {
    // SAFETY: SQLite gives room for the answer.
    unsafe { *out = NOW };
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: SQLite closes what was opened, once.
    drop(unsafe { Box::from_raw((*file.cast::<Open>()).handle) });
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    into: *mut c_void,
    count: c_int,
    at: sqlite3_int64,
) -> c_int {
    let count = size(count);
    // SAFETY: the file is open.
    let read = unsafe { handle(file) }.read(size(at), count, |found| {
        // SAFETY: SQLite gives room for `count` bytes, of which `found` is a
        // part. What is missing must be zero.
        unsafe {
            ptr::copy_nonoverlapping(found.as_ptr(), into.cast::<u8>(), found.len());
            ptr::write_bytes(into.cast::<u8>().add(found.len()), 0, count - found.len());
        }
        found.len()
    });
    match read {
        Ok(whole) if whole == count => ffi::SQLITE_OK,
        Ok(_) => ffi::SQLITE_IOERR_SHORT_READ,
        Err(_) => ffi::SQLITE_IOERR_READ,
    }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    from: *const c_void,
    count: c_int,
    at: sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite gives so many bytes, and the file is open.
    let (data, file) =
        unsafe { (std::slice::from_raw_parts(from.cast::<u8>(), size(count)), handle(file)) };
    code(file.write(size(at), data), ffi::SQLITE_IOERR_WRITE)
}

unsafe extern "C" fn resize(file: *mut sqlite3_file, len: sqlite3_int64) -> c_int {
    // SAFETY: the file is open.
    code(unsafe { handle(file) }.resize(size(len)), ffi::SQLITE_IOERR_TRUNCATE)
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _: c_int) -> c_int {
    // SAFETY: the file is open.
    code(unsafe { handle(file) }.sync(), ffi::SQLITE_IOERR_FSYNC)
}

unsafe extern "C" fn len(file: *mut sqlite3_file, out: *mut sqlite3_int64) -> c_int {
    // SAFETY: the file is open.
    let len = unsafe { handle(file) }.len();
    // SAFETY: SQLite gives room for the answer.
    unsafe { *out = len.unwrap_or_default().try_into().unwrap_or_default() };
    code(len.map(|_| ()), ffi::SQLITE_IOERR_FSTAT)
}

fn level(number: c_int) -> Level {
    match number {
        ffi::SQLITE_LOCK_NONE => Level::None,
        ffi::SQLITE_LOCK_SHARED => Level::Shared,
        ffi::SQLITE_LOCK_RESERVED => Level::Reserved,
        ffi::SQLITE_LOCK_PENDING => Level::Pending,
        _ => Level::Exclusive,
    }
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, to: c_int) -> c_int {
    // SAFETY: the file is open.
    code(unsafe { handle(file) }.lock(level(to)), ffi::SQLITE_IOERR_LOCK)
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, to: c_int) -> c_int {
    // SAFETY: the file is open.
    unsafe { handle(file) }.unlock(level(to));
    ffi::SQLITE_OK
}

unsafe extern "C" fn is_reserved(file: *mut sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: the file is open, and SQLite gives room for the answer.
    unsafe { *out = c_int::from(handle(file).is_reserved()) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn control(_: *mut sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector(file: *mut sqlite3_file) -> c_int {
    // SAFETY: the file is open.
    let medium = unsafe { handle(file) }.machine().medium();
    c_int::try_from(medium.sector).unwrap_or_default()
}

unsafe extern "C" fn characteristics(file: *mut sqlite3_file) -> c_int {
    // SAFETY: the file is open.
    let medium = unsafe { handle(file) }.machine().medium();
    if medium.powersafe { ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE } else { 0 }
}

unsafe extern "C" fn map(
    file: *mut sqlite3_file,
    place: c_int,
    bytes: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: the file is open.
    let found = unsafe { handle(file) }.map(size(place), size(bytes), extend != 0);
    let region = found.ok().flatten().map_or(ptr::null_mut(), <*const _>::cast_mut);
    // SAFETY: SQLite gives room for the answer. The memory is there until its
    // last user is gone; its type lets it be changed through a shared pointer.
    unsafe { *out = region.cast() };
    code(found.map(|_| ()), ffi::SQLITE_IOERR_SHMMAP)
}

unsafe extern "C" fn lock_slots(
    file: *mut sqlite3_file,
    first: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    let slots = size(first)..size(first) + size(count);
    // SAFETY: the file is open.
    let file = unsafe { handle(file) };
    if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
        file.unlock_slots(slots);
        return ffi::SQLITE_OK;
    }
    let exclusive = flags & ffi::SQLITE_SHM_EXCLUSIVE != 0;
    code(file.lock_slots(slots, exclusive), ffi::SQLITE_IOERR_SHMLOCK)
}

unsafe extern "C" fn barrier(_: *mut sqlite3_file) {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

unsafe extern "C" fn unmap(file: *mut sqlite3_file, _: c_int) -> c_int {
    // SAFETY: the file is open.
    unsafe { handle(file) }.unmap();
    ffi::SQLITE_OK
}
