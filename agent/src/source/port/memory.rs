//! A way in memory, for tests in virtual time: who opens it gets one end of a pipe, and
//! who holds the socket the other.

use std::io;

use tokio::io::DuplexStream;
use tokio::sync::mpsc;

/// More than either end says before the other has read it.
const ROOM: usize = 1 << 16;

/// Open ways that the other end has not taken yet.
const WAITING: usize = 64;

/// What is connected to.
#[derive(Debug)]
pub(in crate::source) struct Plug(mpsc::Sender<DuplexStream>);

/// What gives the other end of each connection.
pub(in crate::source) type Socket = mpsc::Receiver<DuplexStream>;

impl Plug {
    pub(in crate::source) fn new() -> (Self, Socket) {
        let (sender, socket) = mpsc::channel(WAITING);
        (Self(sender), socket)
    }

    pub(in crate::source) fn open(&self) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(ROOM);
        self.0.try_send(far).map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(near)
    }
}
