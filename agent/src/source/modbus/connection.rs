//! One TCP connection and the exchange of one request for its answer.
//!
//! An answer counts only if it is exactly the answer: transaction id, unit and
//! function are compared by tokio-modbus, the quantity and the length of the
//! frame here (tokio-modbus only asserts the quantity in debug builds, and
//! reads past surplus bytes). After any other end than an answer or an
//! exception the connection must be dropped: what comes late must never be
//! taken for the answer to the next request.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;
use tokio_modbus::client::{self, Client as _};
use tokio_modbus::slave::SlaveContext as _;
use tokio_modbus::{Response, Slave};

use super::config::Table;
use super::plan::Request;
use crate::source::Error;

/// Header of a frame: transaction, protocol, length, unit.
const HEADER: usize = 7;
/// After this long a firewall may have forgotten the connection without a word,
/// which would cost a slow group its reading; opening another is cheap.
const LONGEST_IDLE: Duration = Duration::from_mins(1);

/// Function code and byte count, or function code and exception.
const PREFIX: usize = 2;

/// What the device gave; exactly as much as was asked for (bits are filled up
/// to a whole byte).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Words(Vec<u16>),
    Bits(Vec<bool>),
}

/// Why there is no reply.
#[derive(Debug)]
pub(super) enum Failure {
    /// The device refuses this request. The connection is good.
    Exception(u8),
    /// Nothing whole came in time. Drop the connection.
    Late,
    /// Something else than the answer came. Drop the connection.
    Unexpected(String),
    /// The peer closed or broke the connection.
    Closed(io::Error),
    /// There is no connection and none can be opened.
    Unreachable(Error),
}

/// The other end, and the connection to it while there is one.
#[derive(Debug)]
pub(super) struct Peer {
    host: String,
    port: u16,
    timeout: Duration,
    connection: Option<Connection>,
    /// A look-up of the host's name that has not ended. It cannot be broken
    /// off and holds a thread, so that there is never a second one.
    lookup: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Peer {
    pub(super) const fn new(host: String, port: u16, timeout: Duration) -> Self {
        Self { host, port, timeout, connection: None, lookup: None }
    }

    pub(super) fn drop_connection(&mut self) {
        self.connection = None;
    }

    /// Opens a new connection.
    pub(super) async fn connect(&mut self) -> Result<(), Error> {
        self.connection = None;
        self.connection = Some(self.open().await?);
        Ok(())
    }

    // `&mut`: a connection can be sent to another thread but not shared, and
    // with `&` this future could not be sent either.
    async fn open(&mut self) -> Result<Connection, Error> {
        let opened = tokio::time::timeout(self.timeout, self.reach()).await;
        let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
        let opened = opened.unwrap_or_else(|_| Err(late()));
        let timeout = self.timeout;
        opened
            .and_then(|stream| Connection::new(stream, timeout))
            .map_err(|cause| Error::because(format!("cannot connect to {self}"), cause))
    }

    async fn reach(&mut self) -> io::Result<TcpStream> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return TcpStream::connect((address, self.port)).await;
        }
        let target = (self.host.clone(), self.port);
        let lookup = self.lookup.get_or_insert_with(|| {
            spawn_blocking(move || target.to_socket_addrs().map(Iterator::collect))
        });
        let found = lookup.await;
        self.lookup = None;
        let found = found.map_err(io::Error::other)??;
        TcpStream::connect(found.as_slice()).await
    }

    /// One request, one answer; on a new connection if the last was dropped.
    /// Repeated once where a connection that served before has been closed
    /// meanwhile: reading twice changes nothing.
    pub(super) async fn exchange(&mut self, unit: u8, request: &Request) -> Result<Reply, Failure> {
        loop {
            // Taken out, and only put back when it is clean: also a future
            // that is dropped half-way leaves no connection behind.
            let kept = self.connection.take().filter(|c| c.used.elapsed() < LONGEST_IDLE);
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.open().await.map_err(Failure::Unreachable)?,
            };
            let served = connection.served;
            let answer = connection.read(unit, request).await;
            match answer {
                Err(Failure::Closed(_)) if served => {}
                Ok(_) | Err(Failure::Exception(_)) => {
                    self.connection = Some(connection);
                    return answer;
                }
                Err(_) => return answer,
            }
        }
    }
}

struct Connection {
    client: client::Context,
    watch: Arc<Watch>,
    timeout: Duration,
    /// It has answered before: if it is closed now, it was idle for too long.
    served: bool,
    used: Instant,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("watch", &self.watch).finish_non_exhaustive()
    }
}

/// What was seen below tokio-modbus.
#[derive(Debug, Default)]
struct Watch {
    /// Bytes that came since the last request.
    read: AtomicUsize,
    closed: AtomicBool,
}

impl Connection {
    fn new(stream: TcpStream, timeout: Duration) -> io::Result<Self> {
        // A request is one small packet and waits for nothing.
        stream.set_nodelay(true)?;
        let watch = Arc::new(Watch::default());
        let transport = Watched { stream, watch: Arc::clone(&watch) };
        let client = client::tcp::attach(transport);
        Ok(Self { client, watch, timeout, served: false, used: Instant::now() })
    }

    /// One request, one answer.
    async fn read(&mut self, unit: u8, request: &Request) -> Result<Reply, Failure> {
        self.watch.read.store(0, Ordering::Relaxed);
        self.client.set_slave(Slave(unit));
        let call = self.client.call(pdu(request));
        let answer = match tokio::time::timeout(self.timeout, call).await {
            Err(_) => return Err(Failure::Late),
            Ok(Err(error)) => return Err(self.broken(error)),
            Ok(Ok(answer)) => answer,
        };
        let read = self.watch.read.load(Ordering::Relaxed);
        let data = match &answer {
            Err(_) => 0,
            Ok(_) if request.table.is_bits() => usize::from(request.count).div_ceil(8),
            Ok(_) => usize::from(request.count) * 2,
        };
        if read != HEADER + PREFIX + data {
            let what =
                format!("answer of {read} bytes where {} would be right", HEADER + PREFIX + data);
            return Err(Failure::Unexpected(what));
        }
        self.served = true;
        self.used = Instant::now();
        match answer {
            Err(code) => Err(Failure::Exception(code.into())),
            Ok(Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits))
                if bits.len() == data * 8 =>
            {
                Ok(Reply::Bits(bits))
            }
            Ok(Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words))
                if words.len() * 2 == data =>
            {
                Ok(Reply::Words(words))
            }
            Ok(_) => {
                let what = "answer with another quantity than was asked for";
                Err(Failure::Unexpected(what.to_owned()))
            }
        }
    }

    fn broken(&self, error: tokio_modbus::Error) -> Failure {
        use tokio_modbus::ProtocolError;
        // Whether the peer has gone only the transport knows: tokio-modbus
        // gives the same kinds of error for a frame that is too short.
        let gone = self.watch.closed.load(Ordering::Relaxed);
        match error {
            tokio_modbus::Error::Transport(_) if gone => {
                Failure::Closed(io::Error::from(io::ErrorKind::UnexpectedEof))
            }
            tokio_modbus::Error::Transport(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::TimedOut
                        | io::ErrorKind::HostUnreachable
                        | io::ErrorKind::NetworkUnreachable
                ) =>
            {
                Failure::Closed(error)
            }
            tokio_modbus::Error::Transport(error) => {
                Failure::Unexpected(format!("answer that is no Modbus frame: {error}"))
            }
            tokio_modbus::Error::Protocol(ProtocolError::HeaderMismatch { .. }) => {
                Failure::Unexpected("answer with another transaction id or unit".to_owned())
            }
            tokio_modbus::Error::Protocol(ProtocolError::FunctionCodeMismatch { .. }) => {
                Failure::Unexpected("answer with another function code".to_owned())
            }
        }
    }
}

fn pdu(request: &Request) -> tokio_modbus::Request<'static> {
    let (address, count) = (request.address, request.count);
    match request.table {
        Table::Coil => tokio_modbus::Request::ReadCoils(address, count),
        Table::Discrete => tokio_modbus::Request::ReadDiscreteInputs(address, count),
        Table::Input => tokio_modbus::Request::ReadInputRegisters(address, count),
        Table::Holding => tokio_modbus::Request::ReadHoldingRegisters(address, count),
    }
}

/// A stream whose bytes are counted and whose end is remembered.
#[derive(Debug)]
struct Watched {
    stream: TcpStream,
    watch: Arc<Watch>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(result) = &polled {
            let count = buffer.filled().len().saturating_sub(before);
            self.watch.read.fetch_add(count, Ordering::Relaxed);
            if result.is_err() || (count == 0 && buffer.remaining() > 0) {
                self.watch.closed.store(true, Ordering::Relaxed);
            }
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_name_is_not_looked_up_again_while_its_first_look_up_runs() {
        let mut peer = Peer::new("gateway.invalid".into(), 502, Duration::from_secs(1));
        // A resolver that does not answer.
        peer.lookup = Some(tokio::runtime::Handle::current().spawn(std::future::pending()));
        let first = peer.lookup.as_ref().unwrap().id();
        for _ in 0..3 {
            assert!(peer.connect().await.is_err());
            assert_eq!(peer.lookup.as_ref().unwrap().id(), first);
        }
    }

    #[tokio::test]
    async fn a_connection_that_was_idle_for_long_is_not_trusted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut peer = Peer::new("127.0.0.1".into(), port, Duration::from_secs(30));
        let request = Request { table: Table::Holding, address: 0, count: 1, signals: Vec::new() };
        let serve = async |value: u8| {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 12];
            stream.read_exact(&mut asked).await.unwrap();
            let answer = [asked[0], asked[1], 0, 0, 0, 5, asked[6], 3, 2, 0, value];
            stream.write_all(&answer).await.unwrap();
            // It stays open: only its age speaks against it.
            stream
        };
        let (first, old) = tokio::join!(peer.exchange(1, &request), serve(1));
        assert_eq!(first.unwrap(), Reply::Words(vec![1]));
        let connection = peer.connection.as_mut().unwrap();
        connection.used = connection.used.checked_sub(LONGEST_IDLE).unwrap();
        let (second, _new) = tokio::join!(peer.exchange(1, &request), serve(2));
        assert_eq!(second.unwrap(), Reply::Words(vec![2]));
        drop(old);
    }
}
