//! The port and who comes to it: HTTP/1, one request a connection.
//!
//! A connection that is kept open for the next request would hold a place for
//! nothing; Prometheus opens a new one as readily. So one time-out over all of
//! it bounds who is slow to ask and who is slow to take the answer.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::answer::Desk;
use super::{Board, process};

/// Connections that are served at once: two collectors, a probe, a person. Others
/// wait in the kernel's queue, whose length it bounds.
const CLIENTS: usize = 4;

/// A request is a line and a few headers; hyper takes no smaller bound.
const MOST_HEADER: usize = 8 * 1024;

/// From the connection to the end of the answer: Prometheus waits as long.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Pause after each connection: whoever knocks all the time is let in a hundred
/// times a second, which costs a percent of a core or two.
const BREATH: Duration = Duration::from_millis(10);

/// A port that could not be opened, or took no client (out of descriptors), is
/// tried again after this: it is another program's until that ends, and an address
/// of this machine may come with its network only.
pub(super) const AGAIN: Duration = Duration::from_secs(30);

/// The port, open or still to be opened.
#[derive(Debug)]
pub(super) struct Server {
    listen: SocketAddr,
    listener: Option<TcpListener>,
}

impl Server {
    /// Opens the port, or says why not. Within a runtime.
    pub(super) fn open(listen: SocketAddr) -> Self {
        process::started();
        let listener = match bind(listen) {
            Ok(listener) => Some(listener),
            Err(cause) => {
                warn!(%listen, error = %cause, retry_every = ?AGAIN, "cannot open the port for status, running without");
                None
            }
        };
        Self { listen, listener }
    }

    /// The address that it listens on, once it does.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref()?.local_addr().ok()
    }

    /// Answers until it is dropped.
    pub(super) async fn serve(self, board: Arc<Board>) {
        let listen = self.listen;
        let listener = self.listening().await;
        let desk = Arc::new(Desk::new(board));
        let mut clients = JoinSet::new();
        let mut failing = false;
        loop {
            tokio::select! {
                accepted = listener.accept(), if clients.len() < CLIENTS => match accepted {
                    Ok((stream, _)) => {
                        failing = false;
                        clients.spawn(client(stream, Arc::clone(&desk)));
                        sleep(BREATH).await;
                    }
                    Err(cause) => {
                        if !std::mem::replace(&mut failing, true) {
                            warn!(%listen, error = %cause, "cannot take requests for status");
                        }
                        sleep(AGAIN).await;
                    }
                },
                Some(_) = clients.join_next() => {}
            }
        }
    }

    async fn listening(self) -> TcpListener {
        let Self { listen, listener } = self;
        if let Some(listener) = listener {
            return listener;
        }
        loop {
            sleep(AGAIN).await;
            if let Ok(listener) = bind(listen) {
                info!(%listen, "the port for status is open now");
                return listener;
            }
        }
    }
}

fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Until it has its answer, says what is no request, or its time is over.
async fn client(stream: TcpStream, desk: Arc<Desk>) {
    let service = service_fn(|request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(&request).await) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MOST_HEADER)
        .serve_connection(TokioIo::new(stream), service);
    // Whatever went wrong is the client's own affair.
    drop(timeout(PATIENCE, connection).await);
}
