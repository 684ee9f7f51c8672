//! Where a source reads: a host or a serial port, and how time counts there.

use std::io;
use std::time::Duration;

use super::frame::Framing;
use super::line::Timing;
use super::serial::Serial;
pub(super) use crate::source::port::Wire;
use crate::source::port::{self, Host, Port};

/// The other end, as it is configured.
pub(super) type Place = port::Place<Serial>;

impl Place {
    pub(super) const fn host(name: String, port: u16) -> Self {
        Self::Host(Host::new(name, port))
    }

    /// What is sent comes back from it.
    pub(super) const fn echoes(&self) -> bool {
        match self {
            Self::Host(_) => false,
            Self::Port(_, serial) => serial.echo,
            #[cfg(test)]
            Self::Memory(_, serial) => matches!(serial, Some(Serial { echo: true, .. })),
        }
    }

    pub(super) fn timing(&self, framing: Framing, timeout: Duration) -> Timing {
        match self {
            Self::Host(_) => Timing::stream(timeout),
            #[cfg(test)]
            Self::Memory(_, None) => Timing::stream(timeout),
            #[cfg(test)]
            Self::Memory(_, Some(serial)) => {
                Timing::serial(serial.baud, serial.setting(framing).bits(), timeout)
            }
            Self::Port(_, serial) => {
                Timing::serial(serial.baud, serial.setting(framing).bits(), timeout)
            }
        }
    }

    pub(super) async fn open(&mut self, framing: Framing, timeout: Duration) -> io::Result<Wire> {
        match self {
            Self::Host(host) => host.connect(timeout).await.map(Wire::Tcp),
            Self::Port(path, serial) => Port::open(path, serial.setting(framing)).map(Wire::Serial),
            #[cfg(test)]
            Self::Memory(plug, _) => plug.open().map(Wire::Memory),
        }
    }
}
