//! A Modbus TCP server on the bare protocol: units whose registers all hold the
//! number of the request that reads them.
//!
//! So each answer differs from the one before, all values of one request are
//! equal, and a consumer sees a device's readings rise.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Read holding registers, read input registers (Modbus application protocol 6.3, 6.4).
const READ: [u8; 2] = [3, 4];
const ILLEGAL_FUNCTION: u8 = 1;

/// The server; dropped, it takes no more connections.
#[derive(Debug)]
pub struct Modbus {
    pub port: u16,
    plant: Arc<Plant>,
}

#[derive(Debug, Default)]
struct Plant {
    /// Requests answered, by unit.
    requests: Mutex<BTreeMap<u8, u16>>,
    dropped: AtomicBool,
}

impl Modbus {
    pub fn start() -> Self {
        let port = crate::ports::free();
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let plant = Arc::new(Plant::default());
        let serving = Arc::clone(&plant);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.dropped.load(Ordering::Relaxed) {
                    return;
                }
                let plant = Arc::clone(&serving);
                // A connection that breaks is the client's affair.
                std::thread::spawn(move || plant.serve(stream).ok());
            }
        });
        Self { port, plant }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Requests that this unit has answered, which is also its registers' value.
    pub fn requests(&self, unit: u8) -> u16 {
        self.plant.requests().get(&unit).copied().unwrap_or_default()
    }
}

impl Drop for Modbus {
    fn drop(&mut self) {
        self.plant.dropped.store(true, Ordering::Relaxed);
        TcpStream::connect(("127.0.0.1", self.port)).ok();
    }
}

impl Plant {
    fn requests(&self) -> std::sync::MutexGuard<'_, BTreeMap<u8, u16>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        loop {
            // Transaction, protocol, length, unit (MBAP), function, address, count.
            let mut request = [0; 12];
            stream.read_exact(&mut request)?;
            let [t0, t1, _, _, _, _, unit, function, _, _, c0, c1] = request;
            let count = u16::from_be_bytes([c0, c1]);
            let body = if READ.contains(&function) {
                let mut requests = self.requests();
                let value = requests.entry(unit).or_default();
                *value += 1;
                let bytes = u8::try_from(count * 2).map_err(std::io::Error::other)?;
                let mut body = vec![unit, function, bytes];
                body.extend(value.to_be_bytes().repeat(count.into()));
                body
            } else {
                vec![unit, function | 0x80, ILLEGAL_FUNCTION]
            };
            let length = u16::try_from(body.len()).map_err(std::io::Error::other)?;
            let [l0, l1] = length.to_be_bytes();
            stream.write_all(&[&[t0, t1, 0, 0, l0, l1], body.as_slice()].concat())?;
        }
    }
}
