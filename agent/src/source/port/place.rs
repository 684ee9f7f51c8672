//! Where a source reads: a host or a serial port.

use std::fmt;
use std::path::PathBuf;

use super::Host;

/// The other end, as it is configured; of a port with its settings.
#[derive(Debug)]
pub(in crate::source) enum Place<S> {
    Host(Host),
    Port(PathBuf, S),
}

impl<S> fmt::Display for Place<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => host.fmt(f),
            Self::Port(path, _) => path.display().fmt(f),
        }
    }
}

impl<S> Place<S> {
    pub(in crate::source) const fn is_port(&self) -> bool {
        matches!(self, Self::Port(..))
    }

    /// Why there is no way to it, for the log.
    pub(in crate::source) fn unreachable(&self) -> String {
        match self {
            Self::Host(_) => format!("cannot connect to {self}"),
            Self::Port(..) => format!("cannot open {self}"),
        }
    }

    /// What it is that the way to it ended, for the log.
    pub(in crate::source) fn gone(&self) -> String {
        match self {
            Self::Host(_) => format!("{self} closed the connection"),
            Self::Port(..) => format!("{self} is gone"),
        }
    }
}
