//! How the C library keeps memory, on glibc.
//!
//! By default each thread gets a pool of its own and freed memory stays in it.
//! Events are made on one thread and freed on another, so that four pools grow
//! to the peak of each: a burst took 34 MB. With one pool and fixed thresholds
//! it is a fifth less at the same CPU, and what a burst took goes back to the
//! system after it.

/// Sets the allocator up; before any thread is started.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn set_up() {
    /// Free memory at the end of the heap above this goes back at once, and
    /// blocks of this size are mapped alone and unmapped when they are freed.
    /// Naming a value also keeps glibc from raising both by itself.
    const THRESHOLD: libc::c_int = 256 * 1024;

    let wanted = [
        (libc::M_ARENA_MAX, 1),
        (libc::M_TRIM_THRESHOLD, THRESHOLD),
        (libc::M_MMAP_THRESHOLD, THRESHOLD),
    ];
    for (parameter, value) in wanted {
        // A refused value leaves glibc's own, which costs memory and nothing else.
        #[expect(unsafe_code, reason = "mallopt has no safe wrapper")]
        // SAFETY: mallopt(3) takes two integers and keeps no reference; it is
        // called before a second thread exists.
        let _accepted = unsafe { libc::mallopt(parameter, value) };
    }
}

/// Other C libraries keep little and have no such knobs.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub const fn set_up() {}
