//! The connection to one peer while there is one, and the exchange of one
//! request for its answer over it.
//!
//! What is an answer, `line` and `late` decide. After any other end than an answer
//! or an exception a TCP connection is dropped: what comes late must not be read
//! by the next request, and a peer without power leaves a connection that looks
//! well. A serial port stays open, and its line is drained. What may still be
//! answered is remembered here, over all connections, and over both ways where there
//! are two (`ways`): behind them is the same line.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::frame::{Framing, Query};
use super::late::Late;
use super::line::{Line, MOST_PROBES, SETTLE, Trouble};
use super::plan::Request;
use super::ways::Ways;
use super::wire::{Place, Wire};
use crate::source::Error;
use crate::supervise::in_full;

/// After this long a firewall may have forgotten the connection without a word,
/// which would cost a slow group its reading; opening another is cheap.
const LONGEST_IDLE: Duration = Duration::from_mins(1);

/// A device with room for one connection takes a moment to see that the last one ended.
/// A way that was left for a trial and worked until then is given that moment.
const FREED: Duration = Duration::from_millis(500);

/// Bytes of the largest answer and its request, as RTU sends them; ASCII twice as many.
const EXCHANGE: usize = 2 * (256 + 8);

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
    /// Nothing whole came in time, or what may be an answer to something else.
    Late,
    /// Something else than the answer came.
    Unexpected(String),
    /// The peer closed or broke the connection.
    Closed(io::Error),
    /// There is no connection and none can be opened.
    Unreachable(Error),
}

/// The other end, and the connection to it while there is one.
#[derive(Debug)]
pub(super) struct Peer {
    first: Place,
    spare: Option<Spare>,
    framing: Framing,
    timeout: Duration,
    late: Late,
    /// Nothing was asked yet, but somebody else may have asked right before: the
    /// agent before a restart, this source before a reload.
    fresh: bool,
    connection: Option<Connection>,
}

/// A second way to the same devices.
#[derive(Debug)]
struct Spare {
    place: Place,
    /// Which of the two is in use.
    ways: Ways,
    /// Why the first is not in use; empty while it is.
    why: String,
}

#[derive(Debug)]
struct Connection {
    line: Line<Wire>,
    /// It has answered before: if it is closed now, it was idle for too long.
    served: bool,
    used: Instant,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place().fmt(f)
    }
}

impl Peer {
    pub(super) fn new(first: Place, framing: Framing, timeout: Duration) -> Self {
        let late = Late::default();
        Self { first, spare: None, framing, timeout, late, fresh: true, connection: None }
    }

    /// With another way to the same devices, if there is one.
    pub(super) fn with_fallback(mut self, place: Option<Place>) -> Self {
        let ways = Ways::new(Instant::now());
        self.spare = place.map(|place| Spare { place, ways, why: String::new() });
        self
    }

    pub(super) fn drop_connection(&mut self) {
        self.connection = None;
    }

    /// Its end by its own doing, for the log.
    pub(super) fn gone(&self) -> String {
        self.place().gone()
    }

    /// Opens a new connection; by the other way, if there is one, where this one could
    /// not be opened before either. The connection before is closed first: a device may
    /// have room for one only.
    pub(super) async fn connect(&mut self) -> Result<(), Error> {
        self.connection = None;
        let was_second = self.is_second();
        let Err(error) = self.try_to_connect().await else { return Ok(()) };
        let this = in_full(&error);
        if !self.spare.as_mut().is_some_and(|spare| spare.fails(&this)) {
            return Err(error);
        }
        self.fresh = true;
        let Err(error) = self.try_to_connect().await else { return Ok(()) };
        if let Some(spare) = &mut self.spare {
            spare.ways.lost(Instant::now());
            spare.why.clear();
        }
        // Always told in the same order, so that it is told once.
        let other = in_full(&error);
        let (first, second) = if was_second { (other, this) } else { (this, other) };
        Err(Error::new(format!("{first}; fallback: {second}")))
    }

    async fn try_to_connect(&mut self) -> Result<(), Error> {
        let mut opened = self.open().await;
        if opened.is_err() && self.spare.as_ref().is_some_and(|spare| spare.ways.is_back()) {
            sleep(FREED).await;
            opened = self.open().await;
        }
        self.connection = Some(opened?);
        if let Some(spare) = &mut self.spare {
            spare.ways.opened();
        }
        Ok(())
    }

    /// The one that is in use.
    fn place(&self) -> &Place {
        match &self.spare {
            Some(spare) if spare.ways.is_second() => &spare.place,
            _ => &self.first,
        }
    }

    const fn place_mut(&mut self) -> &mut Place {
        match &mut self.spare {
            Some(spare) if spare.ways.is_second() => &mut spare.place,
            _ => &mut self.first,
        }
    }

    /// Longest time that one request takes, with all that may have to go before it.
    pub(super) fn longest(&self) -> Duration {
        let is_port = self.place().is_port();
        let is_open = self.connection.as_ref().is_some_and(|c| is_port || c.is_trusted());
        let connecting = if is_open || is_port { Duration::ZERO } else { self.timeout };
        let listening = if self.fresh { self.timeout } else { SETTLE };
        let bytes = self.place().timing(self.framing, self.timeout).of_bytes(EXCHANGE);
        let one = self.timeout + bytes;
        if !self.framing.is_ambiguous() {
            return connecting + one;
        }
        let probes = if self.late.is_clear() { 0 } else { MOST_PROBES };
        connecting + listening + one + (one + SETTLE) * probes
    }

    pub(super) fn is_second(&self) -> bool {
        self.spare.as_ref().is_some_and(|spare| spare.ways.is_second())
    }

    /// It is to be given up again should nothing answer by it.
    pub(super) fn is_trial(&self) -> bool {
        self.spare.as_ref().is_some_and(|spare| spare.ways.is_trial())
    }

    /// The way that is on trial broke: the other one is in use again.
    pub(super) fn give_up(&mut self, error: &Error) {
        if let Some(spare) = &mut self.spare {
            spare.fails(&in_full(error));
            (self.connection, self.fresh) = (None, true);
        }
    }

    /// Which of two ways is in use, and why the first is not. `None` where there is only
    /// one, and while nothing has shown yet whether another one works.
    pub(super) fn way(&self) -> Option<(&Place, Option<&str>)> {
        let spare = self.spare.as_ref().filter(|spare| !spare.ways.is_trial())?;
        Some((self.place(), spare.ways.is_second().then_some(spare.why.as_str())))
    }

    /// What a cycle says about the way: something was `heard`, or nothing, and whether
    /// `all` devices are silent by now.
    pub(super) fn weigh(&mut self, heard: bool, all: bool) {
        let Some(spare) = &mut self.spare else { return };
        if heard {
            spare.ways.heard();
            if !spare.ways.is_second() {
                spare.why.clear();
            }
        } else {
            spare.ways.unheard(all, Instant::now());
        }
    }

    /// Takes the other way where it is time to, which is then to be connected.
    pub(super) fn change(&mut self) -> bool {
        let Some(spare) = &mut self.spare else { return false };
        let changes = spare.ways.change(Instant::now());
        if changes {
            spare.leave("no device answered there");
            (self.connection, self.fresh) = (None, true);
        }
        changes
    }

    // `&mut`: a connection can be sent to another thread but not shared, and
    // with `&` this future could not be sent either.
    async fn open(&mut self) -> Result<Connection, Error> {
        self.late.take_way(self.is_second());
        let (framing, timeout) = (self.framing, self.timeout);
        let opened = self.place_mut().open(framing, timeout).await;
        let wire = opened.map_err(|cause| Error::because(self.place().unreachable(), cause))?;
        let timing = self.place().timing(framing, timeout);
        // An answer to somebody else comes within the time that is waited for one.
        let quiet = if self.fresh { timeout } else { SETTLE };
        let line = Line::new(wire, framing, timing, quiet).with_echo(self.place().echoes());
        Ok(Connection { line, served: false, used: Instant::now() })
    }

    /// Opens the way in use in the midst of a run. On trial its end is the trial's, and
    /// counted there.
    async fn open_again(&mut self) -> Result<Connection, Error> {
        let opened = self.open().await;
        if let (Err(error), Some(spare)) = (&opened, &mut self.spare)
            && !spare.ways.is_trial()
        {
            spare.fails(&in_full(error));
        }
        opened
    }

    /// One request, one answer; on a new connection if the last was dropped.
    /// Repeated once where a connection that served before has been closed
    /// meanwhile: reading twice changes nothing.
    pub(super) async fn exchange(&mut self, unit: u8, request: &Request) -> Result<Reply, Failure> {
        let query = request.query(unit);
        let is_port = self.place().is_port();
        loop {
            // Taken out, and only put back when it is clean: also a future
            // that is dropped half-way leaves no connection behind.
            let kept = self.connection.take().filter(|c| is_port || c.is_trusted());
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.open_again().await.map_err(Failure::Unreachable)?,
            };
            let answer = connection.line.exchange(&mut self.late, query).await;
            self.fresh &= matches!(answer, Err(Trouble::Closed(_)));
            match answer {
                Err(Trouble::Closed(_)) if connection.served => {}
                Err(Trouble::Closed(cause)) => return Err(Failure::Closed(cause)),
                Err(trouble @ (Trouble::Late | Trouble::Unexpected(_))) => {
                    if is_port {
                        self.connection = Some(connection);
                    }
                    return Err(trouble.into());
                }
                Ok(_) | Err(Trouble::Exception(_)) => {
                    (connection.served, connection.used) = (true, Instant::now());
                    self.connection = Some(connection);
                    return answer.map(|data| reply(query, &data)).map_err(Failure::from);
                }
            }
        }
    }
}

impl Connection {
    fn is_trusted(&self) -> bool {
        self.used.elapsed() < LONGEST_IDLE
    }
}

impl Spare {
    /// The way in use could not be opened; true: the other one is in use now.
    fn fails(&mut self, why: &str) -> bool {
        let leaves = self.ways.failed(Instant::now());
        if leaves {
            self.leave(why);
        }
        leaves
    }

    /// Notes why the first way was left. One that was tried in vain stays away for the
    /// reason that it had.
    fn leave(&mut self, why: &str) {
        if !self.ways.is_second() && !self.ways.is_trial() {
            self.why.clear();
        }
        if self.ways.is_second() && self.why.is_empty() {
            why.clone_into(&mut self.why);
        }
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Exception(code) => Self::Exception(code),
            Trouble::Late => Self::Late,
            Trouble::Unexpected(what) => Self::Unexpected(what),
            Trouble::Closed(cause) => Self::Closed(cause),
        }
    }
}

/// The data bytes of an answer; registers have their high byte first, bits begin
/// with the lowest (Modbus Application Protocol 1.1b3, 6.1 to 6.4).
fn reply(query: Query, data: &[u8]) -> Reply {
    if query.is_bits() {
        let bits = |byte: &u8| {
            (0..8).map({
                let byte = *byte;
                move |bit| byte >> bit & 1 == 1
            })
        };
        return Reply::Bits(data.iter().flat_map(bits).collect());
    }
    let (words, _) = data.as_chunks::<2>();
    Reply::Words(words.iter().map(|word| u16::from_be_bytes(*word)).collect())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::source::modbus::Table;

    fn request() -> Request {
        Request { table: Table::Holding, address: 0, count: 1, signals: Vec::new() }
    }

    #[test]
    fn a_request_may_take_as_long_as_all_that_has_to_go_before_it() {
        const SECOND: Duration = Duration::from_secs(1);
        let peer = |framing| Peer::new(Place::host("plc".into(), 502), framing, SECOND);
        assert_eq!(peer(Framing::Tcp).longest(), 2 * SECOND, "to connect, and the answer");
        let mut rtu = peer(Framing::Rtu);
        assert_eq!(rtu.longest(), 3 * SECOND, "nothing is known of the line");
        rtu.fresh = false;
        rtu.late.note(request().query(1));
        assert_eq!(rtu.longest(), 4 * SECOND + 3 * SETTLE, "and two probes");
    }

    #[test]
    fn why_the_first_way_was_left_is_forgotten_when_it_is_taken_again() {
        let place = Place::host("plc".into(), 502);
        let ways = Ways::new(Instant::now());
        let mut spare = Spare { place, ways, why: String::new() };
        assert!(!spare.fails("gone") && spare.fails("gone"));
        assert_eq!(spare.why, "gone");
        assert!(!spare.fails("gone too") && spare.fails("gone too"));
        assert_eq!(spare.why, "");
    }

    #[tokio::test]
    async fn a_connection_that_was_idle_for_long_is_not_trusted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut peer =
            Peer::new(Place::host("127.0.0.1".into(), port), Framing::Tcp, Duration::from_secs(30));
        let request = request();
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
