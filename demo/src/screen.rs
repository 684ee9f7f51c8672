//! The terminal: full screen, keys without Enter, and always put back as it
//! was, also after a panic.

use std::io::{self, Stdout, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Color, Print, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{execute, queue};

use crate::view::{Line, Tone};

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Plug,
    Quit,
}

/// The open screen; dropping it gives the terminal back.
pub(crate) struct Screen(Stdout);

impl Screen {
    pub(crate) fn open() -> anyhow::Result<Self> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            before(panic);
        }));
        enable_raw_mode().context("cannot take over the terminal")?;
        let mut screen = Self(io::stdout());
        execute!(screen.0, EnterAlternateScreen, Hide).context("cannot clear the terminal")?;
        Ok(screen)
    }

    /// Waits for a key that means something, at most this long.
    pub(crate) fn key(wait: Duration) -> anyhow::Result<Option<Key>> {
        if !event::poll(wait).context("cannot read the keyboard")? {
            return Ok(None);
        }
        let Event::Key(key) = event::read().context("cannot read the keyboard")? else {
            return Ok(None);
        };
        if key.kind == KeyEventKind::Release {
            return Ok(None);
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        Ok(match key.code {
            // In raw mode ^C is a key like any other.
            KeyCode::Char('c') if control => Some(Key::Quit),
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => Some(Key::Quit),
            KeyCode::Char('p' | 'P' | ' ') => Some(Key::Plug),
            _ => None,
        })
    }

    /// Draws what `lines` makes for the size that the terminal has now.
    pub(crate) fn draw(&mut self, lines: impl Fn(u16, u16) -> Vec<Line>) -> anyhow::Result<()> {
        let (width, height) = size().context("cannot ask for the terminal's size")?;
        self.paint(&lines(width, height)).context("cannot draw")
    }

    fn paint(&mut self, lines: &[Line]) -> io::Result<()> {
        let out = &mut self.0;
        queue!(out, BeginSynchronizedUpdate)?;
        let mut row = 0;
        for line in lines {
            queue!(out, MoveTo(0, row), SetAttribute(Attribute::Reset))?;
            match line.tone {
                Tone::Plain => {}
                Tone::Title => queue!(out, SetAttribute(Attribute::Bold))?,
                Tone::Dim => queue!(out, SetAttribute(Attribute::Dim))?,
                Tone::Good => queue!(out, SetForegroundColor(Color::Green))?,
                Tone::Watch => queue!(out, SetForegroundColor(Color::Yellow))?,
                Tone::Bad => queue!(out, SetForegroundColor(Color::Red))?,
            }
            queue!(out, Print(&line.text), Clear(ClearType::UntilNewLine))?;
            row += 1;
        }
        queue!(out, SetAttribute(Attribute::Reset), MoveTo(0, row))?;
        queue!(out, Clear(ClearType::FromCursorDown), EndSynchronizedUpdate)?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    // A terminal that is gone needs nothing more.
    drop(execute!(io::stdout(), SetAttribute(Attribute::Reset), Show, LeaveAlternateScreen));
    drop(disable_raw_mode());
}
