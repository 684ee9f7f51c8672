//! What the process holds of the machine's memory.
//!
//! # What it allocates, on glibc
//!
//! By default each thread gets a pool of its own and freed memory stays in it.
//! Events are made on one thread and freed on another, so that four pools grow
//! to the peak of each: a burst took 34 MB. With one pool and fixed thresholds
//! it is a fifth less at the same CPU, and what a burst took goes back to the
//! system after it.
//!
//! # What it maps of its own file
//!
//! The start touches most of the program once: OpenSSL registers all it has, the
//! configuration is read through its schema. The kernel maps 64 KiB around each
//! page that is touched, and they stay mapped though nothing asks for them again.
//! [`let_go_of_the_start`] unmaps them.

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

/// Gives the system what is free inside the heap: after a burst that is three times
/// what an idle agent holds. Other threads that allocate wait for it, a millisecond
/// for some megabytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn give_back() {
    #[expect(unsafe_code, reason = "malloc_trim has no safe wrapper")]
    // SAFETY: malloc_trim(3) takes a number and only touches what is free.
    let _given = unsafe { libc::malloc_trim(0) };
}

/// musl gives back by itself.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub const fn give_back() {}

/// Unmaps what the program's and the libraries' files hold that cannot be
/// written: code and constants. What is needed again comes back page by page,
/// from the page cache and without a read while the machine has the memory; the
/// rest the kernel may now take without looking for who maps it. To be called
/// when a phase is over that will not come again.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "neither dl_iterate_phdr nor madvise has a safe wrapper")]
pub fn let_go_of_the_start() {
    /// Called with each loaded object; 0 goes on to the next one.
    ///
    /// # Safety
    ///
    /// `info` is what `dl_iterate_phdr(3)` hands over.
    unsafe extern "C" fn unmap(
        info: *mut libc::dl_phdr_info,
        _size: libc::size_t,
        page: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: the caller's promise; the headers live as long as the object.
        let (base, headers) = unsafe {
            let info = &*info;
            (info.dlpi_addr, std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()))
        };
        // SAFETY: the address of the size on the caller's stack.
        let page = unsafe { *page.cast::<usize>() };
        for header in headers {
            // What may be written holds changes that the file does not have:
            // relocated addresses, which are only read after the start, too.
            if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
                continue;
            }
            let Ok(start) = usize::try_from(base.wrapping_add(header.p_vaddr)) else { continue };
            let Ok(length) = usize::try_from(header.p_memsz) else { continue };
            let first = start.next_multiple_of(page);
            let end = start.saturating_add(length) / page * page;
            if first < end {
                // SAFETY: a private mapping of a file that was never written:
                // a page that is touched again is the same as before. Where
                // the kernel refuses, it stays mapped.
                unsafe {
                    libc::madvise(
                        std::ptr::without_provenance_mut(first),
                        end - first,
                        libc::MADV_DONTNEED,
                    )
                };
            }
        }
        0
    }

    // SAFETY: sysconf(3) only reads.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let Ok(mut page) = usize::try_from(page) else { return };
    // SAFETY: the function above keeps nothing of what it is given.
    unsafe { libc::dl_iterate_phdr(Some(unmap), (&raw mut page).cast()) };
}

/// Other systems have no such call.
#[cfg(not(target_os = "linux"))]
pub const fn let_go_of_the_start() {}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    /// What of mapped files is in memory, in kB.
    fn mapped() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn what_is_free_below_what_stays_goes_back() {
        let held = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let mut blocks: Vec<Box<[u8]>> = (0..1_000).map(|_| vec![1; 64 * 1024].into()).collect();
        let last = blocks.pop();
        drop(blocks);
        let before = held();
        give_back();
        assert!(held() + 32_000 < before, "{} kB of {before}", held());
        drop(last);
    }

    #[test]
    fn what_was_unmapped_comes_back_as_it_was() {
        let schema = crate::config::schema().to_string();
        let before = mapped();
        let_go_of_the_start();
        assert!(mapped() < before);
        assert_eq!(crate::config::schema().to_string(), schema);
    }
}
