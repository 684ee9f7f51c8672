//! Where a source reads: a host or a serial port, and the bytes to and from it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_blocking};

use super::frame::Framing;
use super::line::Timing;
use super::port::Port;
use super::serial::Serial;

/// The other end, as it is configured.
#[derive(Debug)]
pub(super) enum Place {
    Host(Host),
    Port(PathBuf, Serial),
}

#[derive(Debug)]
pub(super) struct Host {
    name: String,
    port: u16,
    /// A look-up of the name that has not ended. It cannot be broken off and
    /// holds a thread, so that there is never a second one.
    lookup: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
}

/// An open way to it.
#[derive(Debug)]
pub(super) enum Wire {
    Tcp(TcpStream),
    Serial(Port),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => write!(f, "{}:{}", host.name, host.port),
            Self::Port(path, _) => path.display().fmt(f),
        }
    }
}

impl Place {
    pub(super) const fn host(name: String, port: u16) -> Self {
        Self::Host(Host { name, port, lookup: None })
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
            Self::Port(_, serial) => Timing::serial(serial.baud, serial.bits(framing), timeout),
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
            Self::Host(host) => {
                let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
                let opened = tokio::time::timeout(timeout, host.reach()).await;
                let stream = opened.unwrap_or_else(|_| Err(late()))?;
                // A request is one small packet and waits for nothing.
                stream.set_nodelay(true)?;
                Ok(Wire::Tcp(stream))
            }
            Self::Port(path, serial) => Port::open(path, *serial, framing).map(Wire::Serial),
        }
    }
}

impl Host {
    async fn reach(&mut self) -> io::Result<TcpStream> {
        if let Ok(address) = self.name.parse::<IpAddr>() {
            return TcpStream::connect((address, self.port)).await;
        }
        let target = (self.name.clone(), self.port);
        let lookup = self.lookup.get_or_insert_with(|| {
            spawn_blocking(move || target.to_socket_addrs().map(Iterator::collect))
        });
        let found = lookup.await;
        self.lookup = None;
        let found = found.map_err(io::Error::other)??;
        TcpStream::connect(found.as_slice()).await
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Serial(port) => Pin::new(port).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Serial(port) => Pin::new(port).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Serial(port) => Pin::new(port).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Serial(port) => Pin::new(port).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_name_is_not_looked_up_again_while_its_first_look_up_runs() {
        let mut place = Place::host("gateway.invalid".into(), 502);
        let Place::Host(host) = &mut place else { unreachable!("it is one") };
        // A resolver that does not answer.
        let lookup = tokio::runtime::Handle::current().spawn(std::future::pending());
        let first = lookup.id();
        host.lookup = Some(lookup);
        for _ in 0..3 {
            assert!(place.open(Framing::Tcp, Duration::from_secs(1)).await.is_err());
            let Place::Host(host) = &place else { unreachable!("it is one") };
            assert_eq!(host.lookup.as_ref().unwrap().id(), first);
        }
    }
}
