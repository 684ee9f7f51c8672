//! Modbus devices behind one address: TCP, or RTU and ASCII on a pseudo-terminal or over TCP.

mod frame;
mod map;
mod registers;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate::source::modbus::{Framing, Order, Table};
use tidegate::units::Period;

use self::frame::Query;
use self::registers::{ILLEGAL_FUNCTION, Registers};
use super::fault::{Faults, What};
use super::file::{Device, ModbusPort};
use super::terminal::Terminal;
use super::{Now, Talk};

pub(super) use map::Map;
pub(super) use registers::Signal;

/// A gateway says so of a unit that does not answer it (Modbus application protocol
/// 1.1b3, 7).
const TARGET_SILENT: u8 = 0x0B;

/// What stands before an answer on a bad line.
const NOISE: [u8; 3] = [0x00, 0xFF, 0x55];

/// A start bit, eight of data, parity and a stop bit (Modbus over Serial Line 1.02, 2.5.1).
const BITS: u32 = 11;

/// A running port.
#[derive(Debug)]
pub(super) struct Port {
    config: ModbusPort,
    place: Place,
    ended: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Place {
    Host(SocketAddr),
    Line(Terminal),
}

/// What answers there.
#[derive(Debug)]
struct Bus {
    framing: Framing,
    /// There are connections that can end.
    is_host: bool,
    /// Time of a byte on the line.
    byte: Duration,
    units: Vec<(u8, Mutex<State>)>,
    now: Now,
    talk: Talk,
    name: String,
}

/// Of one unit.
#[derive(Debug)]
struct State {
    registers: Registers,
    faults: Faults,
    latency: Duration,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    /// So much later, these bytes.
    Bytes(Duration, Vec<u8>),
    Nothing,
    End,
}

impl Port {
    pub(super) fn start(config: &ModbusPort, now: Now, talk: Talk) -> io::Result<Self> {
        let bus = Arc::new(Bus::new(config, now, talk));
        let ended = Arc::new(AtomicBool::new(false));
        let place = if let Some(host) = config.host() {
            let listener = TcpListener::bind(host)?;
            let place = Place::Host(listener.local_addr()?);
            let ended = Arc::clone(&ended);
            std::thread::spawn(move || accept(&listener, &bus, &ended));
            place
        } else {
            let terminal = Terminal::new(config.address.as_deref().map(Path::new))?;
            let own = terminal.own()?;
            // It ends when nobody has the port open any more, this program included.
            std::thread::spawn(move || bus.serve(own).ok());
            Place::Line(terminal)
        };
        Ok(Self { config: config.clone(), place, ended })
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    /// Host and port, or a path.
    pub(super) fn address(&self) -> String {
        match &self.place {
            Place::Host(address) => address.to_string(),
            Place::Line(terminal) => terminal.path().display().to_string(),
        }
    }

    /// The agent's `[[source]]` that reads all of it.
    pub(super) fn configuration(&self) -> String {
        let ModbusPort { name, baud, devices, .. } = &self.config;
        let serial = match (baud, &self.place) {
            (Some(baud), Place::Line(_)) => format!("serial = {{ baud = {baud} }}\n"),
            _ => String::new(),
        };
        let devices: Vec<String> = devices.iter().map(device).collect();
        format!(
            "[[source]]\ntype = \"modbus\"\nname = \"{name}\"\naddress = \"{}\"\nframing = \"{}\"\n\
             stream = \"{name}\"\n{serial}{}",
            self.address(),
            self.config.framing_word(),
            devices.concat()
        )
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Place::Host(address) = self.place {
            // Wakes the thread that accepts.
            TcpStream::connect(address).ok();
        }
    }
}

/// A device as the agent's configuration has it.
fn device(Device { name, unit, signals, sunspec, .. }: &Device) -> String {
    let lines: Vec<String> = signals.iter().map(line).collect();
    let reads = match sunspec {
        // It says itself what it has.
        Some(Map { base, .. }) => format!("sunspec = {{ base = {base} }}"),
        None => format!("signals = [\n{}]", lines.concat()),
    };
    format!(
        "\n[[source.device]]\nname = \"{name}\"\nunit = {unit}\n[[source.device.group]]\n\
         interval = \"1 s\"\n{reads}\n"
    )
}

/// A signal of it.
fn line(signal: &Signal) -> String {
    let Signal { name, table, address, order, scale, .. } = signal;
    let order = match order {
        Order::Abcd => "",
        Order::Cdab => ", order = \"cdab\"",
        Order::Badc => ", order = \"badc\"",
        Order::Dcba => ", order = \"dcba\"",
    };
    let scale = scale.map(|scale| format!(", scale = {scale}")).unwrap_or_default();
    format!(
        "  {{ name = \"{name}\", table = \"{}\", address = {address}, type = \"{}\"{order}{scale} }},\n",
        table.as_str(),
        signal.kind().as_str()
    )
}

fn accept(listener: &TcpListener, bus: &Arc<Bus>, ended: &AtomicBool) {
    for stream in listener.incoming().flatten() {
        if ended.load(Ordering::Relaxed) {
            return;
        }
        let bus = Arc::clone(bus);
        // A connection that breaks is the client's affair.
        std::thread::spawn(move || stream.set_nodelay(true).and_then(|()| bus.serve(stream)).ok());
    }
}

impl Bus {
    fn new(config: &ModbusPort, now: Now, talk: Talk) -> Self {
        let units = config.devices.iter().zip(1..).map(|(device, number)| {
            let registers = Registers::new(&device.signals, device.refuses_holes)
                .with_map(device.sunspec.as_ref());
            let faults = Faults::new(&device.faults, number);
            let latency = device.latency.map_or(Duration::ZERO, Period::get);
            (device.unit, Mutex::new(State { registers, faults, latency }))
        });
        let byte = config.baud.map_or(Duration::ZERO, |baud| Duration::from_secs(1) * BITS / baud);
        let (units, name) = (units.collect(), config.name.clone());
        let (framing, is_host) = (config.framing(), config.host().is_some());
        Self { framing, is_host, byte, units, now, talk, name }
    }

    /// Answers until the connection ends.
    fn serve(&self, mut stream: impl Read + Write) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut part = [0; 512];
        loop {
            let count = match stream.read(&mut part) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            };
            let came = Instant::now();
            bytes.extend(part.iter().take(count));
            while let Some(query) = frame::take(self.framing, &mut bytes) {
                match self.reply(query) {
                    Reply::Nothing => {}
                    Reply::End => return Ok(()),
                    Reply::Bytes(later, answer) => {
                        // A pseudo-terminal knows no time: the line's is waited for here.
                        let crossed = frame::request(self.framing) + answer.len();
                        let crossed = u32::try_from(crossed).unwrap_or(u32::MAX);
                        let due = came + later + self.byte.saturating_mul(crossed);
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        stream.write_all(&answer)?;
                    }
                }
            }
        }
    }

    fn reply(&self, query: Query) -> Reply {
        let found = self.units.iter().find(|(unit, _)| *unit == query.unit);
        let Some((_, unit)) = found else {
            // On a line nobody answers; a gateway has to.
            let refused = [query.unit, query.function | 0x80, TARGET_SILENT];
            return match self.framing {
                Framing::Tcp => {
                    Reply::Bytes(Duration::ZERO, frame::wrap(self.framing, query, &refused))
                }
                Framing::Rtu | Framing::Ascii => Reply::Nothing,
            };
        };
        let mut unit = unit.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = unit.faults.next(self.now.get());
        let Query { function, address, count, .. } = query;
        self.talk.say(format_args!(
            "{}: unit {}, function {function}, {count} from {address}: {}",
            self.name,
            query.unit,
            fault.map_or_else(|| "answered".to_owned(), |fault| format!("{fault:?}")),
        ));
        let body = body(query, &mut unit.registers, fault, self.now.get());
        let answer = frame::wrap(self.framing, query, &body);
        match fault {
            Some(What::Disconnect) if self.is_host => Reply::End,
            fault => faulty(answer, fault, unit.latency),
        }
    }
}

/// Unit and PDU of the answer.
fn body(query: Query, registers: &mut Registers, fault: Option<What>, now: Duration) -> Vec<u8> {
    let Query { unit, function, address, count, .. } = query;
    let table = match function {
        1 => Some(Table::Coil),
        2 => Some(Table::Discrete),
        3 => Some(Table::Holding),
        4 => Some(Table::Input),
        _ => None,
    };
    let read = match (fault, table) {
        (Some(What::Exception(code)), _) => Err(code),
        (_, None) => Err(ILLEGAL_FUNCTION),
        (_, Some(table)) => registers.read(table, address, count, now),
    };
    match read {
        Err(code) => vec![unit, function | 0x80, code],
        Ok(data) => {
            let length = u8::try_from(data.len()).unwrap_or(u8::MAX);
            [&[unit, function, length], data.as_slice()].concat()
        }
    }
}

/// What is sent of an answer.
fn faulty(answer: Vec<u8>, fault: Option<What>, latency: Duration) -> Reply {
    match fault {
        None | Some(What::Exception(_)) => Reply::Bytes(latency, answer),
        Some(What::Late(by)) => Reply::Bytes(latency + by.get(), answer),
        Some(What::Noise) => Reply::Bytes(latency, [&NOISE, answer.as_slice()].concat()),
        Some(What::Short) => {
            let half = answer.len() / 2;
            Reply::Bytes(latency, answer.into_iter().take(half).collect())
        }
        Some(What::Silence | What::Disconnect) => Reply::Nothing,
    }
}
