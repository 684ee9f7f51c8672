//! The bus: hears requests, has the judge look, and says what becomes of the answers.

use std::collections::BTreeMap;
use std::io;

use tokio::time::sleep_until;
use tracing::debug;

use super::super::super::frame::Query;
use super::faults::Fault;
use super::judge::Judge;
use super::*;
use crate::source::port::memory::Socket;
use crate::source::port::pty::Pty;

/// After this long without a fault a request that rested for longest has been asked, and
/// whoever was silent as a whole too.
const BOUND: Duration = Duration::from_mins(5);

/// What was refused is asked again after an hour at the latest.
const BOUND_OF_REFUSED: Duration = Duration::from_hours(2);

/// In this time there are enough faults in every seed, or the source has stopped.
const LONGEST: Duration = Duration::from_hours(48);

/// The same in real time, where all buses together take some seconds.
const LONGEST_OF_REAL: Duration = Duration::from_mins(3);

/// Where the source comes from.
#[derive(Debug)]
pub(super) enum Listener {
    Memory(Socket),
    Tcp(TcpListener),
    /// Plugged in from the beginning.
    Terminal(Option<Pty>),
}

/// The other end of what the source has open.
#[derive(Debug)]
enum Far {
    Memory(tokio::io::DuplexStream),
    Tcp(TcpStream),
    Terminal(Pty),
}

/// What is to be said at once.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) bytes: Vec<u8>,
    /// With it all of the answer to this request was said.
    pub(super) ends: Option<u64>,
    /// Said on this connection only, and else whenever there is one.
    pub(super) connection: Option<u64>,
    /// The connection is closed after it.
    pub(super) closes: bool,
}

#[derive(Debug)]
pub(super) struct Bus {
    pub(super) way: Way,
    pub(super) chance: Chance,
    /// Answers of a thousand that have a fault.
    pub(super) rate: u64,
    /// Behind the last model of its inverter there is silence, now and ever.
    pub(super) is_mute: bool,
    pub(super) judge: Judge,
    wire: Option<Far>,
    /// How many there were.
    pub(super) connection: u64,
    heard: Vec<u8>,
    /// In the order in which it will be said.
    pub(super) speech: BTreeMap<(Instant, u64), Piece>,
    /// Pieces so far.
    order: u64,
    /// Until when a unit is busy with what it was asked before.
    pub(super) busy: BTreeMap<u8, Instant>,
    /// Requests of Modbus TCP that were answered: transaction, query and number.
    pub(super) answered: Vec<(u16, Query, u64)>,
    /// Faults until all is well, and those that there were.
    most: u64,
    pub(super) tally: BTreeMap<Fault, u64>,
    count: u64,
    pub(super) began: Instant,
    well: Option<Instant>,
}

impl Listener {
    async fn accept(&mut self) -> Far {
        match self {
            Self::Memory(socket) => match socket.recv().await {
                Some(stream) => Far::Memory(stream),
                None => std::future::pending().await,
            },
            Self::Tcp(listener) => Far::Tcp(listener.accept().await.unwrap().0),
            Self::Terminal(pty) => match pty.take() {
                Some(pty) => Far::Terminal(pty),
                None => std::future::pending().await,
            },
        }
    }
}

impl Far {
    /// No byte where it is closed.
    async fn read(&mut self, bytes: &mut Vec<u8>) -> usize {
        let read = match self {
            Self::Memory(stream) => stream.read_buf(bytes).await,
            Self::Tcp(stream) => stream.read_buf(bytes).await,
            Self::Terminal(pty) => pty.master.read_buf(bytes).await,
        };
        read.unwrap_or_default()
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Memory(stream) => stream.write_all(bytes).await,
            Self::Tcp(stream) => stream.write_all(bytes).await,
            Self::Terminal(pty) => pty.master.write_all(bytes).await,
        }
    }
}

impl Bus {
    pub(super) fn new(way: Way, mut chance: Chance, most: u64) -> Self {
        let rate = [150, 400, 700][chance.index(3)];
        let is_mute = chance.hits(500);
        Self {
            way,
            chance,
            rate,
            is_mute,
            judge: Judge::new(),
            wire: None,
            connection: 0,
            heard: Vec::new(),
            speech: BTreeMap::new(),
            order: 0,
            busy: BTreeMap::new(),
            answered: Vec::new(),
            most,
            tally: BTreeMap::new(),
            count: 0,
            began: Instant::now(),
            well: None,
        }
    }

    /// Answers with at least one fault.
    pub(super) const fn faults(&self) -> u64 {
        self.count
    }

    pub(super) const fn is_well(&self) -> bool {
        self.well.is_some()
    }

    pub(super) async fn serve(
        &mut self,
        listener: &mut Listener,
        commits: &mut TestCommits,
    ) -> Result<(), String> {
        loop {
            self.judge.look(commits)?;
            if self.is_over()? {
                return Ok(());
            }
            let due = self.speech.keys().next().filter(|_| self.wire.is_some());
            let due = due.map_or_else(|| self.end(), |(at, _)| self.end().min(*at));
            let (wire, heard) = (&mut self.wire, &mut self.heard);
            let read = async {
                match wire {
                    Some(wire) => wire.read(heard).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                wire = listener.accept() => {
                    (self.wire, self.connection) = (Some(wire), self.connection + 1);
                    self.heard.clear();
                }
                count = read => {
                    self.judge.look(commits)?;
                    if count == 0 {
                        self.wire = None;
                    }
                    self.hear();
                }
                () = sleep_until(due) => self.say().await,
            }
        }
    }

    /// When it is over at the latest, one way or the other.
    fn end(&self) -> Instant {
        match self.well {
            None if self.way.real => self.began + LONGEST_OF_REAL,
            None => self.began + LONGEST,
            Some(well) if self.way.refuses => well + BOUND_OF_REFUSED,
            Some(well) => well + BOUND,
        }
    }

    fn is_over(&mut self) -> Result<bool, String> {
        let is_late = Instant::now() >= self.end();
        let Some(well) = self.well else {
            if self.count >= self.most {
                if self.way.real {
                    return Ok(true);
                }
                self.judge.expect_all();
                self.well = Some(Instant::now());
            } else if is_late {
                return Err(format!("only {} faults, {:?}", self.count, self.tally));
            }
            return Ok(false);
        };
        let missing = self.judge.missing();
        if !missing.is_empty() && is_late {
            return Err(format!("{missing:?} is not good again after {:?}", well.elapsed()));
        }
        Ok(missing.is_empty())
    }

    /// Takes the requests that came.
    fn hear(&mut self) {
        let any = Query { unit: 1, function: 3, address: 0, count: 1 };
        let length = self.way.framing.request(any, 0).len();
        while self.heard.len() >= length {
            let bytes: Vec<u8> = self.heard.drain(..length).collect();
            let (transaction, query) = self.request(&bytes);
            assert_eq!(self.way.framing.request(query, transaction), bytes, "it is right");
            assert!(!query.looks_like_answer(), "its echo would be its answer: {query:?}");
            let number = self.judge.asked(query);
            let faulty = self.answer(query, transaction, number, &bytes);
            self.count += u64::from(faulty);
        }
    }

    fn request(&self, bytes: &[u8]) -> (u16, Query) {
        let word = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let (transaction, body) = match self.way.framing {
            Framing::Tcp => (word(bytes, 0), bytes[6..12].to_vec()),
            Framing::Rtu => (0, bytes[..6].to_vec()),
            Framing::Ascii => {
                let text = std::str::from_utf8(&bytes[1..13]).unwrap();
                let pairs = (0..12).step_by(2).map(|at| &text[at..at + 2]);
                (0, pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect())
            }
        };
        let (address, count) = (word(&body, 2), word(&body, 4));
        (transaction, Query { unit: body[0], function: body[1], address, count })
    }

    /// What is to be said at this time.
    pub(super) fn plan(&mut self, at: Instant, piece: Piece) {
        self.order += 1;
        self.speech.insert((at, self.order), piece);
    }

    async fn say(&mut self) {
        let Some((_, piece)) = self.speech.pop_first() else { return };
        debug!(at = ?self.began.elapsed(), bytes = ?piece.bytes, ends = piece.ends, "said");
        let other = piece.connection.is_some_and(|connection| connection != self.connection);
        let Some(wire) = self.wire.as_mut().filter(|_| !other) else { return };
        if wire.write(&piece.bytes).await.is_err() || piece.closes {
            self.wire = None;
        }
        if let Some(number) = piece.ends {
            let way = self.way;
            self.judge.said(number, |query| way.wait(query));
        }
    }
}
