//! Where a line is: a serial port, or the TCP port of a device server.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::config::Config;
use crate::source::port::{self, Host, Port, Setting, Wire};

/// A device server without power leaves a connection that looks well, and a line on
/// which nobody asks would never find out: it is asked for a sign of life once nothing
/// came for so long.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Between two questions, of which [`KEEP_ALIVE_TRIES`] may stay without an answer.
const KEEP_ALIVE_PAUSE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TRIES: u32 = 3;

/// While a request is not confirmed the kernel asks for no sign of life, and would send it
/// again for a quarter of an hour: so long at most (tcp(7), `TCP_USER_TIMEOUT`).
const UNCONFIRMED: Duration = Duration::from_mins(1);

/// The other end, as it is configured.
pub(super) type Place = port::Place<Setting>;

impl Place {
    /// That of a checked configuration.
    pub(super) fn new(config: &Config) -> Self {
        if let Some(path) = config.port() {
            return Self::Port(path.into(), config.serial.unwrap_or_default().setting());
        }
        let endpoint = port::endpoint(&config.address);
        let (host, port) = endpoint.unwrap_or_else(|_| (config.address.clone(), None));
        Self::Host(Host::new(host, port.unwrap_or_default()))
    }

    /// Whether who does not read holds it back; a serial line goes on speaking.
    pub(super) const fn can_be_held_back(&self) -> bool {
        matches!(self, Self::Host(_))
    }

    pub(super) async fn open(&mut self, timeout: Duration) -> io::Result<Wire> {
        match self {
            Self::Host(host) => {
                let stream = host.connect(timeout).await?;
                keep_alive(&stream)?;
                Ok(Wire::Tcp(stream))
            }
            Self::Port(path, setting) => Port::open(path, *setting).map(Wire::Serial),
            #[cfg(test)]
            Self::Memory(plug, _) => plug.open().map(Wire::Memory),
        }
    }
}

fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let often = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE_PAUSE);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&often.with_retries(KEEP_ALIVE_TRIES))?;
    socket.set_tcp_user_timeout(Some(UNCONFIRMED))
}
