//! A command's end: the running agent is asked, or, where none runs, the file
//! itself, under its lock.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::value::RawValue;

use super::words::Answer;
use super::{Desk, Request};
use crate::buffer::{AtRest, Locked, OpenError};
use crate::clock::Clock;
use crate::collect::{self, Buffer, StartError};
use crate::config::Config;
use crate::flow::Flows;

/// An agent that cannot write its buffer answers when it can; a person does not
/// wait for longer.
const PATIENCE: Duration = Duration::from_mins(1);

/// Bytes of an answer: the largest is a page of dead letters or events.
const MOST_ANSWER: u64 = 64 * 1024 * 1024;

/// There is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// No agent runs, and the file cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Start(#[from] StartError),
    /// The agent that has the file takes no command: stop it, or wait.
    #[error("{locked}, and it does not answer on {}", socket.display())]
    Silent {
        locked: Locked,
        socket: PathBuf,
        #[source]
        cause: io::Error,
    },
    /// It was understood, and not done.
    #[error("{0}")]
    Refused(String),
}

/// Puts the request to whoever has the file.
pub fn put(config: &Config, request: &Request) -> Result<Box<RawValue>, PutError> {
    let path = &config.buffer.path;
    let answer = match AtRest::take(path) {
        Ok(rest) if request.writes() => {
            rest.must_be_of(&config.gateway.id)?;
            // The writer takes the lock itself.
            drop(rest);
            at_rest(config, request)?
        }
        Ok(_rest) => Desk { buffer: path.clone(), store: None, live: None }.answer(request),
        Err(OpenError::Locked(locked)) => {
            let socket = locked.socket.clone().unwrap_or_else(|| config.control.socket(path));
            ask(&socket, request).map_err(|cause| PutError::Silent { locked, socket, cause })?
        }
        // Somebody of the agent's group may use its socket and not its files.
        Err(refused @ OpenError::Lock { .. }) => {
            ask(&config.control.socket(path), request).map_err(|_| refused)?
        }
        Err(other) => return Err(other.into()),
    };
    match answer {
        Answer { ok: Some(ok), .. } => Ok(ok),
        Answer { error, .. } => Err(PutError::Refused(error.unwrap_or_default())),
    }
}

/// Starts the writer on the file for this one request, as the agent does.
fn at_rest(config: &Config, request: &Request) -> Result<Answer, PutError> {
    let file = Buffer::open(&config.buffer, &config.gateway.id, Clock::system())?;
    let streams = config.streams.iter().map(crate::config::Stream::rules);
    let flows = Flows::new(streams.chain(config.system.rules()));
    let (collector, _) = collect::start(file, Vec::new(), flows)?;
    let store = Some(collector.store());
    let answer = Desk { buffer: config.buffer.path.clone(), store, live: None }.answer(request);
    collector.close();
    Ok(answer)
}

/// One request to an agent, and its answer.
pub(super) fn ask(socket: &Path, request: &Request) -> io::Result<Answer> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    (&stream).write_all(&line)?;
    let mut text = Vec::new();
    BufReader::new(stream).take(MOST_ANSWER).read_until(b'\n', &mut text)?;
    if text.last() != Some(&b'\n') {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up"));
    }
    Ok(serde_json::from_slice(&text)?)
}
