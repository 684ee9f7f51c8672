//! Free ports of 127.0.0.1 for servers that are stopped and started again.
//!
//! Not by binding port 0: such a port belongs to the range from which the kernel
//! takes the local ports of outgoing connections, and while its server is down
//! one of them, even one to this very port, may take it. These lie below.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Above the usual servers, below Linux's range for outgoing connections (32,768).
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// Ports that one run takes at most: two runs with neighbouring pids keep apart.
const STRIDE: u32 = 64;

/// A port that nobody listens on and that this process has not been given yet.
pub fn free() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id().wrapping_mul(STRIDE) % u32::from(COUNT);
    for _ in 0..COUNT {
        let next = u32::from(GIVEN.fetch_add(1, Ordering::Relaxed));
        let offset = u16::try_from((start + next) % u32::from(COUNT)).expect("COUNT fits");
        if TcpListener::bind(("127.0.0.1", FIRST + offset)).is_ok() {
            return FIRST + offset;
        }
    }
    crate::panic_with("no free port on 127.0.0.1")
}
