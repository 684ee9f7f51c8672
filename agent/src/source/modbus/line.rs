//! One line, serial or a TCP stream, and the exchange of one request for its
//! answer.
//!
//! - An answer counts only if it is exactly the answer. With transaction ids
//!   (TCP) these say so; without them `late` does, with what was asked before.
//! - Before a request a serial line is silent for t3.5 (Modbus over Serial Line
//!   1.02, 2.5.1.1). After a time-out or something that was no frame it must be
//!   silent for longer, and all that comes until then is thrown away.
//! - Where an adapter of a 2-wire line hears its own sending, the request comes
//!   back first: it is compared and swallowed. Where nobody expects that it is no answer,
//!   even if it looks like one.
//! - A frame of nobody who was asked is passed over, and the time for the answer
//!   runs on (the same, 2.4.1); with transaction ids it ends the exchange.
//!
//! What it cannot know: a copy of an answer that comes more than t3.5 behind the
//! first, when the next request of its shape is already on its way, is that
//! request's answer to the bit. Nothing on a line of two wires makes such copies.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::frame::{Body, Decoded, Frame, Framing, Judged, Query, SHORTEST};
use super::late::{Heard, Late};

/// USB adapters hand bytes over in pieces up to 16 ms apart, and a busy gateway
/// adds to it: shorter pauses are none of the line's.
pub(super) const SETTLE: Duration = Duration::from_millis(50);

/// Between an answer and the next request over TCP: the device server keeps the
/// line's own silence, this is for copies of the answer.
const APART: Duration = Duration::from_millis(5);

/// What has come is only seen after the runtime has looked; it does in this time.
const LOOK: Duration = Duration::from_millis(1);

/// One that must not fail, and one of the other kind where it was refused: what
/// is in doubt after that waits for the next cycle, for the line has others.
pub(super) const MOST_PROBES: u32 = 2;

/// What is said where the request is all that comes.
const ECHOED: &str =
    "the request itself came back: the adapter hears its own sending (`echo = true`),";

/// Longer than any frame.
const PIECE: usize = 600;

/// The pauses of one line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// Longest wait for an answer, besides the time of its bytes.
    timeout: Duration,
    /// Silence before a request. ASCII needs none to tell frames apart, but to
    /// see what comes behind an answer.
    silence: Duration,
    /// Silence after which the rest of a frame does not come any more.
    settle: Duration,
    /// One byte on the line.
    byte: Duration,
    /// A pause ends a frame: not so on TCP, which stops and goes as it likes.
    paced: bool,
}

impl Timing {
    pub(super) const fn stream(timeout: Duration) -> Self {
        Self { timeout, silence: APART, settle: SETTLE, byte: Duration::ZERO, paced: false }
    }

    /// A serial line on which a byte takes so many `bits` with start and stop.
    pub(super) fn serial(baud: u32, bits: u32, timeout: Duration) -> Self {
        let byte = Duration::from_secs(bits.into()) / baud.max(1);
        // Above 19,200 baud the specification fixes it (2.5.1.1).
        let t35 = if baud > 19_200 { Duration::from_micros(1750) } else { byte * 7 / 2 };
        Self { timeout, silence: t35, settle: SETTLE.max(t35), byte, paced: true }
    }

    /// From what was said last to the next request, as it is planned for.
    pub(super) fn silence(&self) -> Duration {
        self.silence.max(LOOK)
    }

    pub(super) fn of_bytes(&self, count: usize) -> Duration {
        self.byte.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
    }
}

/// Why there is no data.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The device refuses this request. The line is good.
    Exception(u8),
    /// No answer came in time, or one that may be late.
    Late,
    /// Something else than the answer came.
    Unexpected(String),
    /// The other end is gone.
    Closed(io::Error),
}

/// What a frame does to the exchange.
enum Taken {
    /// It is the answer.
    Answer,
    /// It may be the answer: no more is learned from this request.
    Doubtful,
    /// It is somebody else's; the wait goes on.
    Passed,
}

#[derive(Debug)]
pub(super) struct Line<S> {
    wire: S,
    framing: Framing,
    timing: Timing,
    echo: bool,
    /// What came and was not yet a frame.
    buffer: Vec<u8>,
    /// When the last byte came or left.
    last: Instant,
    /// Silence that the next request needs.
    need: Duration,
    /// What was answered last: what comes behind is a copy.
    answered: Option<Query>,
    /// A frame of nobody who was asked, in words.
    passed: Option<String>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    /// A line of which nothing is known must be silent for `quiet` at first:
    /// somebody else may have asked something on it a moment ago.
    pub(super) fn new(wire: S, framing: Framing, timing: Timing, quiet: Duration) -> Self {
        Self {
            wire,
            framing,
            timing,
            echo: false,
            buffer: Vec::new(),
            last: Instant::now(),
            need: quiet.max(timing.silence),
            answered: None,
            passed: None,
        }
    }

    /// What is sent comes back.
    pub(super) const fn with_echo(mut self, echo: bool) -> Self {
        self.echo = echo;
        self
    }

    /// The data bytes of the answer; first a probe or two where a late answer
    /// could be taken for it. After another end than data or an exception
    /// a stream is to be closed; a serial line is drained before its next use.
    pub(super) async fn exchange(
        &mut self,
        late: &mut Late,
        query: Query,
    ) -> Result<Vec<u8>, Trouble> {
        let mut probes = 0;
        loop {
            self.hush(late).await?;
            if !late.clouds(query) {
                break;
            }
            if probes == MOST_PROBES {
                return Err(Trouble::Late);
            }
            probes += 1;
            let probe = late.probe(query);
            // Whatever it is answered, `late` knows what that says.
            self.ask(late, probe).await?;
            self.need = self.timing.settle;
        }
        match self.ask(late, query).await? {
            Some(Body::Data(data)) => Ok(data),
            Some(Body::Exception(code)) => Err(Trouble::Exception(code)),
            None => Err(Trouble::Late),
        }
    }

    /// Sends one request and waits for its answer; `None` for one that may be
    /// late.
    async fn ask(&mut self, late: &mut Late, query: Query) -> Result<Option<Body>, Trouble> {
        let transaction = late.transaction();
        if self.framing.is_ambiguous() {
            late.note(query);
        }
        let request = self.framing.request(query, transaction);
        let bytes = request.len() + self.framing.answer_length(query);
        let deadline = Instant::now() + self.timing.timeout + self.timing.of_bytes(bytes);
        self.passed = None;
        // Until the answer is there: whatever ends this, the line is not clean.
        self.need = self.timing.settle.max(self.timing.silence);
        let conversed =
            timeout_at(deadline, self.converse(late, query, transaction, &request)).await;
        let body = conversed.unwrap_or_else(|_| Err(self.in_time(&request)))?;
        if body.is_some() {
            self.need = self.timing.silence;
            self.answered = Some(query);
        }
        Ok(body)
    }

    /// Waits for the silence that a request needs. What comes meanwhile is
    /// thrown away; behind an answer it is a copy of it, of which there may be
    /// another.
    async fn hush(&mut self, late: &mut Late) -> Result<(), Trouble> {
        if !self.framing.is_ambiguous() {
            return Ok(());
        }
        let begin = Instant::now();
        let mut surplus = std::mem::take(&mut self.buffer).len();
        if surplus > 0 {
            self.need = self.need.max(self.timing.settle);
        }
        loop {
            let silent = (self.last + self.need).max(Instant::now() + LOOK);
            let Ok(read) = timeout_at(silent, self.read()).await else { break };
            read?;
            surplus += std::mem::take(&mut self.buffer).len();
            self.need = self.need.max(self.timing.settle);
            if begin.elapsed() > self.timing.timeout + self.need {
                return Err(Trouble::Unexpected("bytes without end on the line".to_owned()));
            }
        }
        if let Some(query) = self.answered.take()
            && surplus >= SHORTEST
        {
            late.note(query);
        }
        Ok(())
    }

    async fn converse(
        &mut self,
        late: &mut Late,
        query: Query,
        transaction: u16,
        request: &[u8],
    ) -> Result<Option<Body>, Trouble> {
        self.send(request).await?;
        if self.echo {
            self.swallow(request).await?;
        }
        loop {
            match self.framing.decode(&self.buffer) {
                Decoded::Incomplete => self.more(request).await?,
                Decoded::Broken(_) => return Err(self.broken(request)),
                Decoded::Whole(frame, length) => {
                    // From 768 to 1023 a request is, as it stands, a frame with three bytes of
                    // data. None is sent of which that could be the answer.
                    let taken = self.buffer.get(..length).unwrap_or_default();
                    if !self.echo && taken.ends_with(request) {
                        return Err(Trouble::Unexpected(ECHOED.to_owned()));
                    }
                    self.buffer.drain(..length.min(self.buffer.len()));
                    match self.take(late, query, transaction, &frame)? {
                        Taken::Answer => return Ok(Some(frame.body)),
                        Taken::Doubtful => return Ok(None),
                        Taken::Passed => {}
                    }
                }
            }
        }
    }

    async fn send(&mut self, request: &[u8]) -> Result<(), Trouble> {
        self.wire.write_all(request).await.map_err(Trouble::Closed)?;
        self.wire.flush().await.map_err(Trouble::Closed)?;
        self.last = Instant::now() + self.timing.of_bytes(request.len());
        Ok(())
    }

    /// Takes the request that comes back.
    async fn swallow(&mut self, request: &[u8]) -> Result<(), Trouble> {
        loop {
            let length = self.buffer.len().min(request.len());
            if self.buffer.get(..length) != request.get(..length) {
                let what = "something else than the request came back (`echo = true`)";
                return Err(Trouble::Unexpected(what.to_owned()));
            }
            if length == request.len() {
                self.buffer.drain(..length);
                return Ok(());
            }
            self.read().await?;
        }
    }

    /// Reads on in a frame that is not whole.
    async fn more(&mut self, request: &[u8]) -> Result<(), Trouble> {
        if self.buffer.is_empty() || !self.timing.paced {
            return self.read().await;
        }
        match timeout(self.timing.settle, self.read()).await {
            Ok(read) => read,
            // Too little for a frame: noise, behind which the answer may come.
            Err(_) if self.buffer.len() < SHORTEST => {
                self.buffer.clear();
                Ok(())
            }
            Err(_) => Err(self.broken(request)),
        }
    }

    async fn read(&mut self) -> Result<(), Trouble> {
        let mut piece = [0; PIECE];
        let count = self.wire.read(&mut piece).await.map_err(Trouble::Closed)?;
        if count == 0 {
            return Err(Trouble::Closed(io::Error::from(io::ErrorKind::UnexpectedEof)));
        }
        self.buffer.extend_from_slice(piece.get(..count).unwrap_or_default());
        self.last = self.last.max(Instant::now());
        Ok(())
    }

    fn take(
        &mut self,
        late: &mut Late,
        query: Query,
        transaction: u16,
        frame: &Frame,
    ) -> Result<Taken, Trouble> {
        let judged = query.judge(frame, transaction);
        if !self.framing.is_ambiguous() {
            return self.compare(judged);
        }
        Ok(match (late.heard(query, frame), judged) {
            (Heard::Answer, Judged::Answer | Judged::Exception(_)) => Taken::Answer,
            (Heard::Doubtful, _) => Taken::Doubtful,
            (Heard::Foreign, Judged::Foreign(what)) => {
                self.passed = Some(what);
                Taken::Passed
            }
            _ => Taken::Passed,
        })
    }

    /// With transaction ids: the answer, and nothing behind it.
    fn compare(&self, judged: Judged) -> Result<Taken, Trouble> {
        match judged {
            Judged::Foreign(what) => Err(Trouble::Unexpected(what)),
            _ if self.buffer.is_empty() => Ok(Taken::Answer),
            _ => {
                let what = format!("answer with {} bytes too many", self.buffer.len());
                Err(Trouble::Unexpected(what))
            }
        }
    }

    fn broken(&self, request: &[u8]) -> Trouble {
        let what = if self.buffer.starts_with(request) {
            ECHOED
        } else {
            self.framing.broken(&self.buffer)
        };
        Trouble::Unexpected(what.to_owned())
    }

    /// What it is that no answer came in time.
    fn in_time(&mut self, request: &[u8]) -> Trouble {
        match self.passed.take() {
            Some(what) => Trouble::Unexpected(what),
            None if self.framing.is_ambiguous() && self.buffer.len() >= SHORTEST => {
                self.broken(request)
            }
            None => Trouble::Late,
        }
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
