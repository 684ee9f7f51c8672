//! A line that can be cut: a TCP proxy to one port of this machine.

use std::io::{Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes taken at once: small enough for a slow line to be slow evenly.
const CHUNK: usize = 16 * 1024;

/// What the line does with bytes and new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Forward,
    /// New connections are closed at once.
    Refuse,
    /// Connections stand, and nothing comes through.
    BlackHole,
    /// The server gets all that is sent to it, and its replies are lost.
    LostReplies,
}

/// The line; dropped, it is cut for good.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    line: Arc<Line>,
}

#[derive(Debug)]
struct Line {
    target: u16,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    /// Each chunk waits this long, in each direction.
    delay: Duration,
    bytes_per_second: Option<u32>,
    open: Vec<TcpStream>,
    taken: usize,
    dropped: bool,
}

impl Proxy {
    /// A line to a server of this machine, which need not be there yet.
    pub fn to(target: u16) -> Self {
        let port = crate::ports::free();
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let line = Arc::new(Line {
            target,
            state: Mutex::new(State {
                mode: Mode::Forward,
                delay: Duration::ZERO,
                bytes_per_second: None,
                open: Vec::new(),
                taken: 0,
                dropped: false,
            }),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&line);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.lock().dropped {
                    return;
                }
                accepting.take(client);
            }
        });
        Self { port, line }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn set(&self, mode: Mode) {
        self.line.lock().mode = mode;
        self.line.changed.notify_all();
    }

    /// A slow line: `delay` for each chunk, and at most so many bytes a second.
    pub fn slow(&self, delay: Duration, bytes_per_second: Option<u32>) {
        let mut state = self.line.lock();
        state.delay = delay;
        state.bytes_per_second = bytes_per_second;
    }

    /// Breaks every connection that stands; gives how many.
    pub fn cut(&self) -> usize {
        let open = std::mem::take(&mut self.line.lock().open);
        for stream in &open {
            // It may be gone already, which is what is wanted.
            stream.shutdown(Shutdown::Both).ok();
        }
        self.line.changed.notify_all();
        open.len() / 2
    }

    /// Connections taken since the start.
    pub fn connections(&self) -> usize {
        self.line.lock().taken
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.line.lock().dropped = true;
        self.set(Mode::Refuse);
        self.cut();
        // Wakes the thread that accepts.
        TcpStream::connect(("127.0.0.1", self.port)).ok();
    }
}

impl Line {
    fn take(self: &Arc<Self>, client: TcpStream) {
        let mut state = self.lock();
        if state.mode == Mode::Refuse {
            return;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.target)) else { return };
        // A message is one chunk: waiting for more of it would be another fault.
        if client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).is_err() {
            return;
        }
        let clones = || Ok::<_, std::io::Error>((client.try_clone()?, server.try_clone()?));
        let (Ok((to_client, to_server)), Ok((kept_client, kept_server))) = (clones(), clones())
        else {
            return;
        };
        state.taken += 1;
        state.open.extend([kept_client, kept_server]);
        drop(state);
        for (from, to, replies) in [(client, to_server, false), (server, to_client, true)] {
            let line = Arc::clone(self);
            std::thread::spawn(move || line.copy(from, to, replies));
        }
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, replies: bool) {
        let mut chunk = [0; CHUNK];
        while let Ok(read @ 1..) = from.read(&mut chunk) {
            let mut state = self.lock();
            while state.mode == Mode::BlackHole {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if replies && state.mode == Mode::LostReplies {
                continue;
            }
            let mut pause = state.delay;
            if let Some(rate) = state.bytes_per_second {
                let bytes = u32::try_from(read).expect("a chunk is small");
                pause += Duration::from_secs(1) * bytes / rate.max(1);
            }
            drop(state);
            std::thread::sleep(pause);
            if to.write_all(chunk.get(..read).unwrap_or_default()).is_err() {
                break;
            }
        }
        // One direction has ended: for the protocols here that is the end.
        from.shutdown(Shutdown::Both).ok();
        to.shutdown(Shutdown::Both).ok();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, sync_channel};

    /// A server that answers each byte with the next one.
    fn server() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).is_ok() {
                        stream.write_all(&[byte[0] + 1]).unwrap();
                    }
                });
            }
        });
        port
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(proxy.address()).unwrap()
    }

    fn ask(stream: &mut TcpStream, byte: u8) -> std::io::Result<u8> {
        let mut answer = [byte];
        stream.write_all(&answer)?;
        stream.read_exact(&mut answer)?;
        Ok(answer[0])
    }

    fn ask_aside(mut stream: TcpStream, byte: u8) -> Receiver<u8> {
        let (answer, answered) = sync_channel(1);
        std::thread::spawn(move || answer.send(ask(&mut stream, byte).unwrap()));
        answered
    }

    #[test]
    fn a_cut_ends_what_stands_and_lets_the_next_in() {
        let proxy = Proxy::to(server());
        let mut first = connect(&proxy);
        assert_eq!(ask(&mut first, 1).unwrap(), 2);
        assert_eq!(proxy.cut(), 1);
        assert!(ask(&mut first, 1).is_err());
        assert_eq!(ask(&mut connect(&proxy), 3).unwrap(), 4);
        assert_eq!(proxy.connections(), 2);
    }

    #[test]
    fn a_refusing_line_closes_new_connections() {
        let proxy = Proxy::to(server());
        proxy.set(Mode::Refuse);
        assert!(ask(&mut connect(&proxy), 1).is_err());
        proxy.set(Mode::Forward);
        assert_eq!(ask(&mut connect(&proxy), 1).unwrap(), 2);
    }

    #[test]
    fn a_lost_reply_never_comes_though_the_server_was_asked() {
        let proxy = Proxy::to(server());
        let mut line = connect(&proxy);
        assert_eq!(ask(&mut line, 1).unwrap(), 2);
        proxy.set(Mode::LostReplies);
        let answered = ask_aside(line.try_clone().unwrap(), 5);
        assert_eq!(proxy.cut(), 1);
        assert!(answered.recv().is_err(), "the line ends without the reply");
        proxy.set(Mode::Forward);
        assert_eq!(ask(&mut connect(&proxy), 3).unwrap(), 4);
    }

    #[test]
    fn a_black_hole_keeps_what_it_was_given_until_it_ends() {
        let proxy = Proxy::to(server());
        proxy.set(Mode::BlackHole);
        let answered = ask_aside(connect(&proxy), 1);
        assert!(answered.try_recv().is_err());
        proxy.set(Mode::Forward);
        assert_eq!(answered.recv().unwrap(), 2);
    }
}
