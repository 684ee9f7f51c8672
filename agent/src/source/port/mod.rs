//! The ways to a device that sources share: a serial port as a stream of bytes,
//! a [host](host) that is connected to, and [either](wire) of them.
//!
//! A port is ours alone: whoever else speaks on it would take our answers and we his. It
//! is set anew at each opening, whatever was set before, and what came before is
//! thrown away. A port that goes (an adapter that is unplugged) is an error or an
//! end at the next read, never silence.
//!
//! On `rustix`, which the agent has anyhow: the crates for serial ports stand on
//! `serialport`, whose licence (MPL-2.0) is not among those of `deny.toml`.

mod address;
mod host;
#[cfg(test)]
pub(super) mod memory;
mod place;
#[cfg(test)]
pub(super) mod pty;
mod wire;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::termios::{
    ControlModes, InputModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios,
    ioctl_tiocexcl, tcflush, tcgetattr, tcsetattr,
};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use serde::{Deserialize, Serialize};

pub(super) use address::{check_path, endpoint, is_path};
pub(super) use host::Host;
pub(super) use place::Place;
pub(super) use wire::Wire;

/// How a serial port is set; each source type has its own defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Setting {
    /// Bits in a second.
    pub(super) baud: u32,
    pub(super) parity: Parity,
    pub(super) data_bits: u8,
    pub(super) stop_bits: u8,
    /// The driver turns the direction of an RS-485 line.
    pub(super) rs485: bool,
}

/// The bit that is added to each byte.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Parity {
    /// The number of ones is even.
    #[default]
    Even,
    /// The number of ones is odd.
    Odd,
    /// There is none.
    None,
}

impl Setting {
    /// Bits of one byte, with its start bit.
    pub(super) fn bits(self) -> u32 {
        let parity = u8::from(self.parity != Parity::None);
        u32::from(1 + self.data_bits + parity + self.stop_bits)
    }

    /// Key and what is wrong with it.
    pub(super) fn check(self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        // Linux knows no rate below, nor the devices one above.
        if !(50..=4_000_000).contains(&self.baud) {
            wrong.push(("baud", format!("{} is not within 50 to 4000000", self.baud)));
        }
        if !matches!(self.data_bits, 7 | 8) {
            wrong.push(("data_bits", format!("{} is neither 7 nor 8", self.data_bits)));
        }
        if !matches!(self.stop_bits, 1 | 2) {
            wrong.push(("stop_bits", format!("{} is neither 1 nor 2", self.stop_bits)));
        }
        wrong
    }
}

/// An open serial port.
#[derive(Debug)]
pub(super) struct Port {
    file: AsyncFd<File>,
}

impl Port {
    pub(super) fn open(path: &Path, setting: Setting) -> io::Result<Self> {
        // Without `NONBLOCK` opening waits for the carrier of a modem.
        let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits();
        let flags = i32::try_from(flags).map_err(io::Error::other)?;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
        // Who took it for himself alone (`TIOCEXCL`) keeps others from opening it.
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => taken(),
            _ => error,
        })?;
        own(&file)?;
        set(&file, setting)?;
        if setting.rs485 {
            rs485(&file).map_err(|error| {
                let what = "its driver does not turn the direction of RS-485: leave `rs485` out";
                io::Error::new(error.kind(), format!("{what} ({error})"))
            })?;
        }
        tcflush(&file, QueueSelector::IOFlush)?;
        Self::register(file)
    }

    /// Over an open file that neither reading nor writing waits for.
    #[expect(unsafe_code, reason = "AsyncFd has no other way in that is not deprecated")]
    pub(super) fn register(file: File) -> io::Result<Self> {
        // SAFETY: `file` owns a valid descriptor, and it is neither replaced nor
        // closed while the `AsyncFd` owns it: this module only reads and writes.
        Ok(Self { file: unsafe { AsyncFd::register(file) }? })
    }
}

/// The lock keeps out another agent, also one of root's; `TIOCEXCL` keeps out
/// programs that know nothing of locks.
fn own(file: &File) -> io::Result<()> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Err(taken()),
        other => other?,
    }
    ioctl_tiocexcl(file).map_err(|error| match error {
        Errno::NOTTY => io::Error::other("it is no serial port"),
        other => other.into(),
    })
}

fn taken() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, "another program or source has it open")
}

fn set(file: &File, setting: Setting) -> io::Result<()> {
    let mut termios = tcgetattr(file)?;
    modes(&mut termios, setting);
    termios.set_speed(setting.baud)?;
    tcsetattr(file, OptionalActions::Now, &termios)?;
    // It succeeds if anything at all could be set.
    let taken = tcgetattr(file)?.output_speed();
    if taken.abs_diff(setting.baud) > setting.baud / 33 {
        let what = format!("it does not take {} baud, the nearest is {taken}", setting.baud);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ok(())
}

fn modes(termios: &mut Termios, setting: Setting) {
    termios.make_raw();
    // A byte at once; and none at all means that the port has gone.
    termios.special_codes[SpecialCodeIndex::VMIN] = 1;
    termios.special_codes[SpecialCodeIndex::VTIME] = 0;
    let control = &mut termios.control_modes;
    control.remove(
        ControlModes::CSIZE
            | ControlModes::CSTOPB
            | ControlModes::PARENB
            | ControlModes::PARODD
            | ControlModes::CRTSCTS,
    );
    control.insert(ControlModes::CREAD | ControlModes::CLOCAL);
    let bits = if setting.data_bits == 7 { ControlModes::CS7 } else { ControlModes::CS8 };
    control.insert(bits);
    control.set(ControlModes::CSTOPB, setting.stop_bits == 2);
    control.set(ControlModes::PARENB, setting.parity != Parity::None);
    control.set(ControlModes::PARODD, setting.parity == Parity::Odd);
    // A byte whose parity is wrong is read as 0, which no checksum lets pass, nor
    // who reads text; a line that is pulled down is not read as bytes.
    termios.input_modes.set(InputModes::INPCK, setting.parity != Parity::None);
    termios.input_modes.insert(InputModes::IGNBRK);
}

/// `struct serial_rs485` of the kernel (include/uapi/linux/setting.h).
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
struct Direction {
    flags: u32,
    delay_before_send: u32,
    delay_after_send: u32,
    padding: [u32; 5],
}

/// Drives the line while it sends (`ENABLED`, `RTS_ON_SEND`), and hears nothing
/// of it.
const SENDS_BY_RTS: u32 = 0b11;

/// Lets the driver turn the direction of the line.
#[expect(unsafe_code, reason = "TIOCSRS485 has no safe wrapper")]
fn rs485(file: &File) -> rustix::io::Result<()> {
    const TIOCSRS485: rustix::ioctl::Opcode = 0x542F;
    let direction = Direction { flags: SENDS_BY_RTS, ..Direction::default() };
    // SAFETY: the opcode (include/uapi/asm-generic/ioctls.h) reads and writes one
    // `serial_rs485`, which `Direction` has the layout of and which lives until
    // the call is over.
    unsafe {
        let setter = rustix::ioctl::Setter::<TIOCSRS485, Direction>::new(direction);
        rustix::ioctl::ioctl(file, setter)
    }
}

impl AsyncRead for Port {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.file.poll_read_ready(context))?;
            let free = buffer.initialize_unfilled();
            let read = ready.try_io(|file| Ok(rustix::io::read(file.get_ref(), &mut *free)?));
            match read {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                // Not ready after all.
                Err(_) => {}
            }
        }
    }
}

impl AsyncWrite for Port {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.file.poll_write_ready(context))?;
            match ready.try_io(|file| Ok(rustix::io::write(file.get_ref(), bytes)?)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(written) => return Poll::Ready(written),
                Err(_) => {}
            }
        }
    }

    /// What is written is sent at the line's pace; who times a line counts with it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
