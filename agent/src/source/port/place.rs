//! Where a source reads: a host or a serial port.

use std::fmt;
use std::path::PathBuf;

use super::Host;
#[cfg(test)]
use super::memory::Plug;

/// The other end, as it is configured; of a port with its settings.
#[derive(Debug)]
pub(in crate::source) enum Place<S> {
    Host(Host),
    Port(PathBuf, S),
    /// A port where it has settings, and a host where it has none.
    #[cfg(test)]
    Memory(Plug, Option<S>),
}

impl<S> fmt::Display for Place<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => host.fmt(f),
            Self::Port(path, _) => path.display().fmt(f),
            #[cfg(test)]
            Self::Memory(..) => f.write_str("memory"),
        }
    }
}

impl<S> Place<S> {
    pub(in crate::source) const fn is_port(&self) -> bool {
        match self {
            Self::Host(_) => false,
            Self::Port(..) => true,
            #[cfg(test)]
            Self::Memory(_, settings) => settings.is_some(),
        }
    }

    /// Why there is no way to it, for the log.
    pub(in crate::source) fn unreachable(&self) -> String {
        match self {
            Self::Host(_) => format!("cannot connect to {self}"),
            Self::Port(..) => format!("cannot open {self}"),
            #[cfg(test)]
            Self::Memory(..) => format!("cannot open {self}"),
        }
    }

    /// What it is that the way to it ended, for the log.
    pub(in crate::source) fn gone(&self) -> String {
        match self {
            Self::Host(_) => format!("{self} closed the connection"),
            Self::Port(..) => format!("{self} is gone"),
            #[cfg(test)]
            Self::Memory(..) => format!("{self} is gone"),
        }
    }
}
