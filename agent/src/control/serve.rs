//! The agent's end of the socket.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

use super::words::Answer;
use super::{Desk, Request};

/// Commands that are answered at once, each on a thread of its own while it is:
/// a person with two terminals and a program that watches.
const CLIENTS: usize = 4;

/// Bytes of a request: all 10,000 dead letters by their ids fit in.
pub(super) const MOST_REQUEST: u64 = 256 * 1024;

/// Who says nothing or takes no answer for so long makes room for others.
const PATIENCE: Duration = Duration::from_secs(10);

/// A socket that could not take a client (out of descriptors) is left alone for
/// a moment.
const AGAIN: Duration = Duration::from_secs(1);

/// For the agent's user and group: who may send dead letters again.
const MODE: u32 = 0o660;

/// The socket, open; its file goes with it.
#[derive(Debug)]
pub struct Listening {
    listener: UnixListener,
    path: PathBuf,
}

/// Opens the socket. One that an agent left behind when it was killed is
/// replaced; one that somebody answers on is not.
pub fn listen(path: &Path) -> io::Result<Listening> {
    match std::fs::symlink_metadata(path) {
        Ok(known) if known.file_type().is_socket() => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another program answers on it",
                ));
            }
            std::fs::remove_file(path)?;
        }
        // What is no socket is not ours to remove; `bind` says so.
        Ok(_) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE))?;
    Ok(Listening { listener, path: path.to_owned() })
}

impl Drop for Listening {
    fn drop(&mut self) {
        // Left behind it costs nothing: the next start replaces it.
        drop(std::fs::remove_file(&self.path));
    }
}

impl Listening {
    /// Answers until it is dropped.
    pub async fn serve(self, desk: Arc<Desk>) {
        let mut clients = JoinSet::new();
        let mut failing = false;
        loop {
            tokio::select! {
                // Further ones wait in the kernel's queue, whose length it bounds.
                accepted = self.listener.accept(), if clients.len() < CLIENTS => match accepted {
                    Ok((stream, _)) => {
                        failing = false;
                        clients.spawn(client(stream, Arc::clone(&desk)));
                    }
                    Err(cause) => {
                        if !std::mem::replace(&mut failing, true) {
                            warn!(socket = %self.path.display(), error = %cause, "cannot take commands");
                        }
                        tokio::time::sleep(AGAIN).await;
                    }
                },
                Some(_) = clients.join_next() => {}
            }
        }
    }
}

/// Until it goes away, is silent for too long, or says what is no request.
async fn client(stream: UnixStream, desk: Arc<Desk>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut stream).take(MOST_REQUEST);
        match timeout(PATIENCE, bounded.read_until(b'\n', &mut line)).await {
            Ok(Ok(length)) if length > 0 => {}
            Ok(_) | Err(_) => return,
        }
        let whole = line.last() == Some(&b'\n');
        let answer = match serde_json::from_slice::<Request>(&line) {
            Ok(request) if whole => answer(request, &desk).await,
            Ok(_) => refusal(format!("a request is a line of at most {MOST_REQUEST} bytes")),
            Err(cause) => refusal(format!("not a request that this agent knows: {cause}")),
        };
        let Ok(mut text) = serde_json::to_vec(&answer) else { return };
        text.push(b'\n');
        let sent = timeout(PATIENCE, stream.get_mut().write_all(&text)).await;
        if !whole || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

/// On a thread of its own: those of the runtime may all be held by reads of
/// databases and look-ups of names that do not come back, and that is when
/// somebody asks.
async fn answer(request: Request, desk: &Arc<Desk>) -> Answer {
    let (done, answer) = oneshot::channel();
    let desk = Arc::clone(desk);
    let thread = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        // Who asked may have gone away.
        drop(done.send(desk.answer(&request)));
    });
    match thread {
        Ok(_) => answer.await.unwrap_or_else(|_| refusal("the answer failed".to_owned())),
        Err(cause) => refusal(format!("cannot start a thread: {cause}")),
    }
}

fn refusal(error: String) -> Answer {
    Answer { ok: None, error: Some(error) }
}
