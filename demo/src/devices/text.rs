//! Lines of text on a serial port, as scales, weather stations and barcode readers send
//! them without being asked.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::fault::{Faults, What};
use super::file::{Named, TextPort};
use super::terminal::Terminal;
use super::value::Value;
use super::{Now, Talk};
use crate::noise::rounded;

/// A running port.
#[derive(Debug)]
pub(super) struct Port {
    name: String,
    terminal: Terminal,
    ended: Arc<AtomicBool>,
}

impl Port {
    pub(super) fn start(config: &TextPort, now: Now, talk: Talk) -> io::Result<Self> {
        let terminal = Terminal::new(config.address.as_deref().map(Path::new))?;
        let own = terminal.own()?;
        let ended = Arc::new(AtomicBool::new(false));
        let (stop, config) = (Arc::clone(&ended), config.clone());
        let name = config.name.clone();
        // What cannot be written any more has no port any more.
        std::thread::spawn(move || say(own, &config, now, talk, &stop).ok());
        Ok(Self { name, terminal, ended })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn address(&self) -> String {
        self.terminal.path().display().to_string()
    }

    /// The agent's `[[source]]` that takes each line as it comes.
    pub(super) fn configuration(&self) -> String {
        let Self { name, .. } = self;
        format!(
            "[[source]]\ntype = \"serial\"\nname = \"{name}\"\naddress = \"{}\"\nstream = \"{name}\"\n",
            self.address()
        )
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn say(
    mut own: File,
    config: &TextPort,
    now: Now,
    talk: Talk,
    ended: &AtomicBool,
) -> io::Result<()> {
    let mut values = Values::new(&config.values);
    let mut faults = Faults::new(&config.faults, 1);
    let mut due = Instant::now();
    while !ended.load(Ordering::Relaxed) {
        let elapsed = now.get();
        let (line, late) = spoilt(&values.fill(&config.line, elapsed), faults.next(elapsed));
        std::thread::sleep(late);
        talk.say(format_args!("{}: {:?}", config.name, String::from_utf8_lossy(&line)));
        own.write_all(&line)?;
        due += config.interval.get();
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// What is sent of a line, and how much later.
fn spoilt(line: &str, fault: Option<What>) -> (Vec<u8>, Duration) {
    let whole = format!("{line}\r\n").into_bytes();
    match fault {
        None | Some(What::Exception(_)) => (whole, Duration::ZERO),
        Some(What::Late(by)) => (whole, by.get()),
        Some(What::Noise) => ([&[0xFF, 0x00, 0xA5], whole.as_slice()].concat(), Duration::ZERO),
        Some(What::Short) => {
            let half = whole.len() / 2;
            (whole.into_iter().take(half).collect(), Duration::ZERO)
        }
        Some(What::Silence | What::Disconnect) => (Vec::new(), Duration::ZERO),
    }
}

/// Values with their names.
#[derive(Debug)]
pub(super) struct Values(Vec<(String, Value)>);

impl Values {
    pub(super) fn new(named: &[Named]) -> Self {
        let started = named.iter().zip(1..);
        Self(
            started
                .map(|(named, number)| (named.name.clone(), named.value.start(number)))
                .collect(),
        )
    }

    /// The text with each `{name}` replaced.
    fn fill(&mut self, text: &str, elapsed: Duration) -> String {
        let now = self.at(elapsed);
        now.into_iter().fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{name}}}"), &value.to_string())
        })
    }

    /// What they are, in three digits behind the point.
    pub(super) fn at(&mut self, elapsed: Duration) -> Vec<(String, f64)> {
        let each = self.0.iter_mut();
        each.map(|(name, value)| (name.clone(), rounded(value.at(elapsed)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use tidegate::units::Period;

    use super::*;

    #[test]
    fn a_line_is_spoilt_as_its_fault_says() {
        let spoilt = |what| spoilt("W 12", what);
        assert_eq!(spoilt(None), (b"W 12\r\n".to_vec(), Duration::ZERO));
        let late = spoilt(Some(What::Late(Period::from_secs(2))));
        assert_eq!(late, (b"W 12\r\n".to_vec(), Duration::from_secs(2)));
        assert_eq!(spoilt(Some(What::Short)).0, b"W 1");
        assert_eq!(spoilt(Some(What::Noise)).0, b"\xFF\x00\xA5W 12\r\n");
        for silent in [What::Silence, What::Disconnect] {
            assert_eq!(spoilt(Some(silent)).0, b"");
        }
    }
}
