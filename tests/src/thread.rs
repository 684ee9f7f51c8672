//! One thread of a server held, while the others go on: what a stage that hangs
//! looks like from outside (`ptrace(2)`).

use std::path::Path;
use std::time::Duration;

use crate::wait_until;

/// A thread that was just started has its name a moment later.
const NAMED: Duration = Duration::from_secs(10);

/// A held thread; dropped, it goes on. To be dropped on the thread that made it.
#[derive(Debug)]
pub struct Held(libc::pid_t);

impl Held {
    /// Holds the thread of this name.
    pub fn new(process: u32, name: &str) -> Self {
        let thread = wait_until(&format!("a thread {name}"), NAMED, || {
            let threads = std::fs::read_dir(format!("/proc/{process}/task")).ok()?;
            let mut threads = threads.filter_map(|entry| Some(entry.ok()?.path()));
            threads.find(|thread| is_named(thread, name))
        });
        let id = thread.file_name().and_then(|id| id.to_str()?.parse().ok());
        let held = Self(id.expect("threads are numbers"));
        held.ask(libc::PTRACE_SEIZE);
        held.ask(libc::PTRACE_INTERRUPT);
        #[expect(unsafe_code, reason = "no safe way to wait for a thread of another process")]
        // SAFETY: no memory is given; the thread is traced by this one.
        let stopped = unsafe { libc::waitpid(held.0, std::ptr::null_mut(), libc::__WALL) };
        assert_eq!(stopped, held.0, "it stops: {}", std::io::Error::last_os_error());
        held
    }

    /// Waits until it has been killed where it is held. Its process is gone for its
    /// own parent only once that is seen here.
    pub fn wait_killed(self) {
        loop {
            let mut status = 0;
            #[expect(unsafe_code, reason = "as above")]
            // SAFETY: the status outlives the call; the thread is traced by this one.
            let thread = unsafe { libc::waitpid(self.0, &raw mut status, libc::__WALL) };
            assert_eq!(thread, self.0, "it is killed: {}", std::io::Error::last_os_error());
            if libc::WIFSIGNALED(status) || libc::WIFEXITED(status) {
                break;
            }
        }
        // There is nothing left to let go.
        std::mem::forget(self);
    }

    fn ask(&self, request: libc::c_uint) {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        #[expect(unsafe_code, reason = "ptrace has no safe form")]
        // SAFETY: these requests neither read nor write memory of this process.
        let answer = unsafe { libc::ptrace(request, self.0, nothing, nothing) };
        assert_eq!(answer, 0, "ptrace: {}", std::io::Error::last_os_error());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Gone with its process, it cannot go on.
        if !std::thread::panicking() {
            self.ask(libc::PTRACE_DETACH);
        }
    }
}

fn is_named(thread: &Path, name: &str) -> bool {
    std::fs::read_to_string(thread.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
}
