//! A machine from power on to power cut: its files, their names, the locks and
//! the shared memory of the processes on it.
//!
//! What survives is what [`Bytes`] says of each file, and of the names what a
//! sync of the folder has made durable: a file that was created since may be
//! missing, one that was deleted may be back. Shared memory and locks are gone.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::dice::Dice;
use crate::medium::{Bytes, Medium};

/// What is on the medium while the power is off.
pub(crate) type Disk = BTreeMap<String, Vec<u8>>;

/// When the power goes: in the midst of this call, counted from 1.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fuse {
    Never,
    /// Of those that change something: write, resize, sync, create, delete.
    Call(u64),
    Sync(u64),
}

/// How the medium errs while it has power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ail {
    /// Nothing that changes a file or a name is taken.
    Write,
    /// It does not sync, and says so once: what was written since the sync before
    /// is not tried again, though programs still see it, as Linux has it.
    Sync,
}

/// Why a call has not done what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The power is off.
    Dead,
    /// Somebody else holds the lock.
    Busy,
    Missing,
    /// The medium errs.
    Ailing,
}

/// How far a file is locked, as `SQLite` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    None,
    Shared,
    Reserved,
    Pending,
    Exclusive,
}

pub(crate) const SLOTS: usize = 8;

/// The slot of whoever writes the -wal into the database.
const CHECKPOINT: usize = 1;

/// Memory that connections share. `SQLite` alone reads and writes it.
type Region = Arc<[AtomicU64]>;

#[derive(Debug, Default)]
struct File {
    bytes: Bytes,
    readers: u32,
    /// Who holds more than a shared lock.
    writer: Option<u64>,
    /// The writer lets no more readers in.
    pending: bool,
    shared: Shared,
}

#[derive(Debug, Default)]
struct Shared {
    users: u32,
    regions: Vec<Region>,
    readers: [u32; SLOTS],
    writer: [bool; SLOTS],
}

#[derive(Debug)]
struct State {
    medium: Medium,
    fuse: Fuse,
    /// How it errs, after so many calls that it would err at, and for how many.
    ails: Option<(Ail, u64, u64)>,
    /// Syncs are said to be done and are not.
    lies: bool,
    dead: bool,
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    /// What a name has stood for since the folder was last synced, oldest first.
    before: BTreeMap<String, Vec<Option<usize>>>,
    handles: u64,
}

#[derive(Debug)]
pub(crate) struct Machine(Mutex<State>);

/// An open file.
#[derive(Debug)]
pub(crate) struct Handle {
    machine: Arc<Machine>,
    id: u64,
    file: usize,
    level: Level,
    /// Its first sync syncs the folder too, as `SQLite` does it on Unix.
    syncs_folder: bool,
    maps: bool,
    reads: [bool; SLOTS],
    writes: [bool; SLOTS],
}

impl Machine {
    pub(crate) fn boot(disk: Disk, medium: Medium, fuse: Fuse) -> Arc<Self> {
        let mut state = State {
            medium,
            fuse,
            ails: None,
            lies: false,
            dead: false,
            files: Vec::new(),
            names: BTreeMap::new(),
            before: BTreeMap::new(),
            handles: 0,
        };
        for (name, bytes) in disk {
            state.names.insert(name, state.files.len());
            state.files.push(File { bytes: Bytes::on_disk(bytes), ..File::default() });
        }
        Arc::new(Self(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn medium(&self) -> Medium {
        self.state().medium
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// The power goes, or the process that ran here: whoever is left of it
    /// finds nothing to work with.
    pub(crate) fn turn_off(&self) {
        self.state().dead = true;
    }

    /// From the call on that comes after so many others, the medium errs at so many
    /// calls: then it is well again.
    pub(crate) fn ail(&self, how: Ail, after: u64, calls: u64) {
        self.state().ails = Some((how, after, calls));
    }

    /// It is well from now on.
    pub(crate) fn heal(&self) {
        self.state().ails = None;
    }

    /// It has erred and is well, or never was to.
    pub(crate) fn is_well(&self) -> bool {
        self.state().ails.is_none()
    }

    /// From now on syncs are said to be done and are not, or are what they say.
    pub(crate) fn lie(&self, lies: bool) {
        self.state().lies = lies;
    }

    /// Some process begins to write the -wal of this file back, or is done with it.
    /// False where nobody has the -wal open.
    pub(crate) fn write_back(&self, name: &str, begins: bool) -> bool {
        let mut state = self.state();
        let Some(file) = state.names.get(name).copied() else { return false };
        let shared = &mut state.file(file).shared;
        shared.writer[CHECKPOINT] = begins && shared.users > 0;
        shared.writer[CHECKPOINT]
    }

    /// The same machine without the process that ran on it, which was killed:
    /// its locks and its shared memory are gone, what it wrote is not, and what
    /// it did not sync is not durable yet.
    pub(crate) fn without_process(&self, fuse: Fuse) -> Arc<Self> {
        let mut state = self.state();
        state.dead = true;
        let taken =
            |file: &mut File| File { bytes: std::mem::take(&mut file.bytes), ..File::default() };
        let files = state.files.iter_mut().map(taken).collect();
        Arc::new(Self(Mutex::new(State {
            medium: state.medium,
            fuse,
            ails: None,
            lies: false,
            dead: false,
            files,
            names: state.names.clone(),
            before: state.before.clone(),
            handles: 0,
        })))
    }

    /// What programs see, synced or not.
    pub(crate) fn now(&self) -> Disk {
        let state = self.state();
        let seen = |(name, file): (&String, &usize)| {
            let bytes = &state.files.get(*file).expect("files are never taken out").bytes;
            (name.clone(), bytes.read(0, bytes.len()).to_vec())
        };
        state.names.iter().map(seen).collect()
    }

    /// Cuts the power, if it is not off yet, and gives what is left.
    pub(crate) fn cut(&self, dice: &mut Dice) -> Disk {
        let mut state = self.state();
        state.dead = true;
        let mut disk = Disk::new();
        let mut possible = state.before.clone();
        for (name, file) in &state.names {
            possible.entry(name.clone()).or_default().push(Some(*file));
        }
        for name in state.before.keys().filter(|name| !state.names.contains_key(*name)) {
            possible.entry(name.clone()).or_default().push(None);
        }
        for (name, possible) in possible {
            let chosen = possible.get(dice.index(possible.len())).copied().flatten();
            if let Some(file) = chosen.and_then(|file| state.files.get(file)) {
                disk.insert(name, file.bytes.after_cut(state.medium, dice));
            }
        }
        disk
    }

    pub(crate) fn has(&self, name: &str) -> Result<bool, Fault> {
        let state = self.state();
        if state.dead { Err(Fault::Dead) } else { Ok(state.names.contains_key(name)) }
    }

    pub(crate) fn delete(&self, name: &str, sync_folder: bool) -> Result<(), Fault> {
        let mut state = self.state();
        if !state.names.contains_key(name) {
            return if state.dead { Err(Fault::Dead) } else { Err(Fault::Missing) };
        }
        state.change(false, |state| state.rename(name, None))?;
        if sync_folder {
            state.change(true, |_| ())?;
            state.before.clear();
        }
        Ok(())
    }

    pub(crate) fn open(
        self: &Arc<Self>,
        name: &str,
        create: bool,
        syncs_folder: bool,
    ) -> Result<Handle, Fault> {
        let mut state = self.state();
        if state.dead {
            return Err(Fault::Dead);
        }
        let file = match state.names.get(name).copied() {
            Some(file) => file,
            None if create => {
                let file = state.files.len();
                state.files.push(File::default());
                state.change(false, |state| state.rename(name, Some(file)))?;
                file
            }
            None => return Err(Fault::Missing),
        };
        state.handles += 1;
        Ok(Handle {
            machine: Arc::clone(self),
            id: state.handles,
            file,
            level: Level::None,
            syncs_folder,
            maps: false,
            reads: [false; SLOTS],
            writes: [false; SLOTS],
        })
    }
}

impl State {
    fn file(&mut self, file: usize) -> &mut File {
        self.files.get_mut(file).expect("files are never taken out")
    }

    /// A call that changes something. The one in which the power goes still
    /// reaches what is pending, unless it is a sync, and its caller never
    /// learns of it.
    fn change(&mut self, is_sync: bool, what: impl FnOnce(&mut Self)) -> Result<(), Fault> {
        if self.dead {
            return Err(Fault::Dead);
        }
        if self.errs(is_sync) {
            return Err(Fault::Ailing);
        }
        let left = match &mut self.fuse {
            Fuse::Call(left) => Some(left),
            Fuse::Sync(left) if is_sync => Some(left),
            Fuse::Sync(_) | Fuse::Never => None,
        };
        if let Some(left) = left {
            *left = left.saturating_sub(1);
            self.dead = *left == 0;
        }
        if !self.dead || !is_sync {
            what(self);
        }
        if self.dead { Err(Fault::Dead) } else { Ok(()) }
    }

    fn errs(&mut self, is_sync: bool) -> bool {
        let Some((how, after, calls)) = &mut self.ails else { return false };
        if is_sync != (*how == Ail::Sync) {
            return false;
        }
        if *after > 0 {
            *after -= 1;
            return false;
        }
        *calls -= 1;
        if *calls == 0 {
            self.ails = None;
        }
        true
    }

    fn rename(&mut self, name: &str, to: Option<usize>) {
        let was = match to {
            Some(file) => self.names.insert(name.to_owned(), file),
            None => self.names.remove(name),
        };
        self.before.entry(name.to_owned()).or_default().push(was);
    }
}

impl Handle {
    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    pub(crate) fn read<T>(
        &self,
        at: usize,
        count: usize,
        then: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, Fault> {
        let mut state = self.machine.state();
        if state.dead {
            return Err(Fault::Dead);
        }
        Ok(then(state.file(self.file).bytes.read(at, count)))
    }

    pub(crate) fn len(&self) -> Result<usize, Fault> {
        let mut state = self.machine.state();
        if state.dead { Err(Fault::Dead) } else { Ok(state.file(self.file).bytes.len()) }
    }

    pub(crate) fn write(&self, at: usize, data: &[u8]) -> Result<(), Fault> {
        self.machine.state().change(false, |state| state.file(self.file).bytes.write(at, data))
    }

    pub(crate) fn resize(&self, len: usize) -> Result<(), Fault> {
        self.machine.state().change(false, |state| state.file(self.file).bytes.resize(len))
    }

    pub(crate) fn sync(&mut self) -> Result<(), Fault> {
        let mut state = self.machine.state();
        if state.lies {
            return Ok(());
        }
        let synced = state.change(true, |state| state.file(self.file).bytes.sync());
        if synced == Err(Fault::Ailing) {
            state.file(self.file).bytes.sync_failed();
        }
        synced?;
        if std::mem::take(&mut self.syncs_folder) {
            state.change(true, |state| state.before.clear())?;
        }
        Ok(())
    }

    pub(crate) fn lock(&mut self, level: Level) -> Result<(), Fault> {
        let mut state = self.machine.state();
        if state.dead {
            return Err(Fault::Dead);
        }
        let file = state.file(self.file);
        let foreign = file.writer.is_some_and(|writer| writer != self.id);
        if self.level >= level {
            return Ok(());
        }
        if self.level == Level::None {
            if file.pending && foreign {
                return Err(Fault::Busy);
            }
            file.readers += 1;
            self.level = Level::Shared;
        }
        if level > Level::Shared {
            if foreign {
                return Err(Fault::Busy);
            }
            file.writer = Some(self.id);
            self.level = Level::Reserved;
        }
        if level == Level::Exclusive {
            file.pending = true;
            self.level = Level::Pending;
            if file.readers > 1 {
                return Err(Fault::Busy);
            }
            self.level = Level::Exclusive;
        }
        Ok(())
    }

    pub(crate) fn unlock(&mut self, level: Level) {
        let mut state = self.machine.state();
        let file = state.file(self.file);
        if self.level > Level::Shared && level <= Level::Shared {
            file.writer = None;
            file.pending = false;
            self.level = Level::Shared;
        }
        if self.level > Level::None && level == Level::None {
            file.readers -= 1;
            self.level = Level::None;
        }
    }

    /// Whether somebody is about to write.
    pub(crate) fn is_reserved(&self) -> bool {
        self.machine.state().file(self.file).writer.is_some()
    }

    /// Where a region of the shared memory of this file is, if there is one.
    pub(crate) fn map(
        &mut self,
        place: usize,
        size: usize,
        extend: bool,
    ) -> Result<Option<*const AtomicU64>, Fault> {
        let mut state = self.machine.state();
        if state.dead {
            return Err(Fault::Dead);
        }
        let shared = &mut state.file(self.file).shared;
        if !std::mem::replace(&mut self.maps, true) {
            shared.users += 1;
        }
        while extend && shared.regions.len() <= place {
            shared.regions.push((0..size / size_of::<AtomicU64>()).map(|_| 0.into()).collect());
        }
        Ok(shared.regions.get(place).map(|region| region.as_ptr()))
    }

    /// The last one that lets go takes the memory away: the next process finds
    /// none.
    pub(crate) fn unmap(&mut self) {
        self.unlock_slots(0..SLOTS);
        if std::mem::replace(&mut self.maps, false) {
            let mut state = self.machine.state();
            let shared = &mut state.file(self.file).shared;
            shared.users -= 1;
            if shared.users == 0 {
                shared.regions.clear();
            }
        }
    }

    pub(crate) fn lock_slots(
        &mut self,
        slots: std::ops::Range<usize>,
        exclusive: bool,
    ) -> Result<(), Fault> {
        let mut state = self.machine.state();
        if state.dead {
            return Err(Fault::Dead);
        }
        let shared = &mut state.file(self.file).shared;
        for slot in slots.clone() {
            let own = u32::from(self.reads[slot]);
            let written = shared.writer[slot] && !self.writes[slot];
            if written || exclusive && shared.readers[slot] > own {
                return Err(Fault::Busy);
            }
        }
        for slot in slots {
            if exclusive {
                shared.writer[slot] = true;
                self.writes[slot] = true;
            } else if !self.reads[slot] {
                shared.readers[slot] += 1;
                self.reads[slot] = true;
            }
        }
        Ok(())
    }

    pub(crate) fn unlock_slots(&mut self, slots: std::ops::Range<usize>) {
        let mut state = self.machine.state();
        let shared = &mut state.file(self.file).shared;
        for slot in slots {
            if std::mem::take(&mut self.writes[slot]) {
                shared.writer[slot] = false;
            }
            if std::mem::take(&mut self.reads[slot]) {
                shared.readers[slot] -= 1;
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.unmap();
        self.unlock(Level::None);
    }
}
