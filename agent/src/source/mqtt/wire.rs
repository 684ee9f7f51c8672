//! A connection without a socket: a simulator holds its other end, and looks at
//! the client again after each of its own steps.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::Poll;

/// What is on its way.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) to_client: VecDeque<u8>,
    pub(crate) to_broker: VecDeque<u8>,
    pub(crate) closed: bool,
}

pub(crate) type Wire = Arc<Mutex<Ends>>;

type Dial = Box<dyn Fn() -> io::Result<Wire>>;

thread_local! {
    static BROKER: RefCell<Option<Dial>> = const { RefCell::new(None) };
}

/// From now on this thread's clients find their broker so.
pub(crate) fn plug_in(dial: impl Fn() -> io::Result<Wire> + 'static) {
    BROKER.with_borrow_mut(|broker| *broker = Some(Box::new(dial)));
}

/// This thread's clients use sockets again.
pub(crate) fn unplug() {
    BROKER.with_borrow_mut(|broker| *broker = None);
}

/// `None`: there is no simulator.
pub(super) fn dial() -> Option<io::Result<Wire>> {
    BROKER.with_borrow(|broker| broker.as_ref().map(|dial| dial()))
}

pub(super) fn read(wire: &Wire, buffer: &mut [u8]) -> io::Result<usize> {
    let mut ends = wire.lock().unwrap();
    if ends.to_client.is_empty() {
        return if ends.closed { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
    }
    io::Read::read(&mut ends.to_client, buffer)
}

pub(super) fn write(wire: &Wire, bytes: &[u8]) -> io::Result<usize> {
    let mut ends = wire.lock().unwrap();
    // What cannot arrive any more was meant too: the client knows it as written.
    ends.to_broker.extend(bytes);
    if ends.closed { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) }
}

pub(super) async fn ready(wire: &Wire, read: bool, write: bool) -> io::Result<()> {
    std::future::poll_fn(|_| {
        let ends = wire.lock().unwrap();
        let readable = read && (ends.closed || !ends.to_client.is_empty());
        if readable || write { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}
