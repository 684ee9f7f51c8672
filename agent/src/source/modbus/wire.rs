//! Where a source reads: a host or a serial port, and how time counts there.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::frame::Framing;
use super::line::Timing;
use super::serial::Serial;
pub(super) use crate::source::port::Wire;
use crate::source::port::{Host, Port};

/// The other end, as it is configured.
#[derive(Debug)]
pub(super) enum Place {
    Host(Host),
    Port(PathBuf, Serial),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => host.fmt(f),
            Self::Port(path, _) => path.display().fmt(f),
        }
    }
}

impl Place {
    pub(super) const fn host(name: String, port: u16) -> Self {
        Self::Host(Host::new(name, port))
    }

    pub(super) const fn is_port(&self) -> bool {
        matches!(self, Self::Port(..))
    }

    /// What is sent comes back from it.
    pub(super) const fn echoes(&self) -> bool {
        matches!(self, Self::Port(_, Serial { echo: true, .. }))
    }

    pub(super) fn timing(&self, framing: Framing, timeout: Duration) -> Timing {
        match self {
            Self::Host(_) => Timing::stream(timeout),
            Self::Port(_, serial) => {
                Timing::serial(serial.baud, serial.setting(framing).bits(), timeout)
            }
        }
    }

    /// Why there is no way to it, for the log.
    pub(super) fn unreachable(&self) -> String {
        match self {
            Self::Host(_) => format!("cannot connect to {self}"),
            Self::Port(..) => format!("cannot open {self}"),
        }
    }

    /// What it is that the way to it ended, for the log.
    pub(super) fn gone(&self) -> String {
        match self {
            Self::Host(_) => format!("{self} closed the connection"),
            Self::Port(..) => format!("{self} is gone"),
        }
    }

    pub(super) async fn open(&mut self, framing: Framing, timeout: Duration) -> io::Result<Wire> {
        match self {
            Self::Host(host) => host.connect(timeout).await.map(Wire::Tcp),
            Self::Port(path, serial) => Port::open(path, serial.setting(framing)).map(Wire::Serial),
        }
    }
}
