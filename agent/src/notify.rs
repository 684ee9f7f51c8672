//! Tells systemd how the service stands (`sd_notify(3)`): one datagram to the
//! socket that `$NOTIFY_SOCKET` names. Without that variable nothing happens.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// A state of the service, as `sd_notify(3)` spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The start is done: sources are running.
    Ready,
    /// Another configuration is being looked at; [`State::Ready`] ends it.
    Reloading,
    /// The stop has begun.
    Stopping,
    /// Every stage gets on: feeds the watchdog.
    Watchdog,
    /// The start, or what is done in place of one, takes longer, and gets on: it
    /// may take [`LONGER`] from now.
    Working,
}

/// Longer than a card takes to sync a salvaged file of the buffer's default size.
const LONGER: Duration = Duration::from_mins(5);

impl State {
    fn text(self) -> Cow<'static, str> {
        match self {
            Self::Ready => "READY=1".into(),
            Self::Reloading => "RELOADING=1".into(),
            Self::Stopping => "STOPPING=1".into(),
            Self::Watchdog => "WATCHDOG=1".into(),
            Self::Working => {
                format!("EXTEND_TIMEOUT_USEC={}\nWATCHDOG=1", LONGER.as_micros()).into()
            }
        }
    }
}

/// Within which time the service manager wants to be told that all is well, if
/// it does (`sd_watchdog_enabled(3)`).
pub fn watchdog() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    // Meant for another process of the service, which handed its variables down.
    if std::env::var_os("WATCHDOG_PID").is_some()
        && number("WATCHDOG_PID") != Some(u64::from(std::process::id()))
    {
        return None;
    }
    number("WATCHDOG_USEC").filter(|usec| *usec > 0).map(Duration::from_micros)
}

/// Sends the state to the service manager, if there is one.
pub fn notify(state: State) -> io::Result<()> {
    std::env::var_os("NOTIFY_SOCKET").map_or(Ok(()), |socket| send(&socket, state))
}

fn send(socket: &OsString, state: State) -> io::Result<()> {
    let bytes = socket.as_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.text().as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_arrives_at_the_socket_of_the_service_manager() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        send(&path.into_os_string(), State::Ready).unwrap();
        let mut heard = [0; 64];
        let length = manager.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"READY=1");
    }
    #[test]
    fn work_that_gets_on_asks_for_more_time_and_feeds_the_watchdog() {
        assert_eq!(State::Working.text(), "EXTEND_TIMEOUT_USEC=300000000\nWATCHDOG=1");
    }
}
