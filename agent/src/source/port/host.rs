//! A host and a port of TCP, connected to by name or address.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_blocking};

/// The other end, as it is configured.
#[derive(Debug)]
pub(in crate::source) struct Host {
    name: String,
    port: u16,
    /// A look-up of the name that has not ended. It cannot be broken off and
    /// holds a thread, so that there is never a second one.
    lookup: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

impl Host {
    pub(in crate::source) const fn new(name: String, port: u16) -> Self {
        Self { name, port, lookup: None }
    }

    /// A new connection to it, within this time.
    pub(in crate::source) async fn connect(&mut self, timeout: Duration) -> io::Result<TcpStream> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
        let opened = tokio::time::timeout(timeout, self.reach()).await;
        let stream = opened.unwrap_or_else(|_| Err(late()))?;
        // A request is one small packet and waits for nothing.
        stream.set_nodelay(true)?;
        Ok(stream)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_name_is_not_looked_up_again_while_its_first_look_up_runs() {
        let mut host = Host::new("gateway.invalid".into(), 502);
        // A resolver that does not answer.
        let lookup = tokio::runtime::Handle::current().spawn(std::future::pending());
        let first = lookup.id();
        host.lookup = Some(lookup);
        for _ in 0..3 {
            assert!(host.connect(Duration::from_secs(1)).await.is_err());
            assert_eq!(host.lookup.as_ref().unwrap().id(), first);
        }
    }
}
