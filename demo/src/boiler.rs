//! A boiler behind Modbus TCP. Input registers from 0:
//!
//! | register | what | as |
//! | --- | --- | --- |
//! | 0, 1 | number of this reading | u32, high word first |
//! | 2 | temperature | i16, 0.1 °C |
//! | 3 | pressure | u16, 0.01 bar |
//! | 4, 5 | flow | f32, high word first, m³/h |
//! | 6 | state: 1 heating, 2 holding | u16 |
//!
//! A reading that covers the number gets a new one, so that a poll that was
//! answered is one event of the plant. The holding registers show the same.

use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::{Server, accept_tcp_connection};
use tokio_modbus::{ExceptionCode, Request, Response};

use crate::ledger::{Ledger, Source};
use crate::noise::Wander;

/// The device's name, in the configuration and in the records.
pub const DEVICE: &str = "boiler-1";

/// How many registers there are.
pub const REGISTERS: u16 = 7;

/// A running boiler; it ends when it is dropped.
#[derive(Debug)]
pub struct Boiler {
    address: SocketAddr,
    registers: Registers,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Clone)]
struct Registers(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    ledger: Ledger,
    stopped: bool,
    temperature: Wander,
    pressure: Wander,
    flow: Wander,
}

impl Boiler {
    /// Listens on `address`; port 0 takes a free one.
    pub async fn start(address: SocketAddr, ledger: Ledger) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let registers = Registers(Arc::new(Mutex::new(State {
            ledger,
            stopped: false,
            temperature: Wander::new(82.0, 6.0, 11),
            pressure: Wander::new(2.4, 0.3, 13),
            flow: Wander::new(14.0, 2.0, 17),
        })));
        let service = registers.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let server = Server::new(listener);
            let connect = |stream, peer| {
                ready(accept_tcp_connection(stream, peer, |_| Ok(Some(service.clone()))))
            };
            // A client that breaks off is no matter for the boiler.
            let ended = server.serve(&connect, |_| {}).await;
            tracing::debug!(?ended, "boiler no longer listens");
        });
        Ok(Self { address, registers, _tasks: tasks })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the boiler answers that it is busy, and numbers no reading.
    pub fn stop(&self) {
        self.registers.0.lock().unwrap_or_else(PoisonError::into_inner).stopped = true;
    }
}

impl Registers {
    fn read(&self, start: u16, count: u16) -> Result<Vec<u16>, ExceptionCode> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.stopped {
            return Err(ExceptionCode::ServerDeviceBusy);
        }
        let end = start.checked_add(count).filter(|end| *end <= REGISTERS && count > 0);
        let end = end.ok_or(ExceptionCode::IllegalDataAddress)?;
        let number = if start == 0 { state.ledger.produce(Source::Boiler, DEVICE) } else { 0 };
        let number = u32::try_from(number).map_err(|_| ExceptionCode::ServerDeviceFailure)?;
        let temperature = state.temperature.step();
        let heating = temperature < 82.0;
        let image = image(number, temperature, state.pressure.step(), state.flow.step(), heating);
        let range = usize::from(start)..usize::from(end);
        image.get(range).map(<[u16]>::to_vec).ok_or(ExceptionCode::IllegalDataAddress)
    }
}

fn image(number: u32, temperature: f64, pressure: f64, flow: f64, heating: bool) -> [u16; 7] {
    let [number_high, number_low] = words(number);
    #[expect(clippy::cast_possible_truncation, reason = "a flow of 14.0 needs no f64")]
    let [flow_high, flow_low] = words((flow as f32).to_bits());
    let state = if heating { 1 } else { 2 };
    let scaled = [temperature * 10.0, pressure * 100.0];
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "both wander far within a register's range, above zero"
    )]
    let [temperature, pressure] = scaled.map(|value| value.round() as u16);
    [number_high, number_low, temperature, pressure, flow_high, flow_low, state]
}

fn words(value: u32) -> [u16; 2] {
    let [a, b, c, d] = value.to_be_bytes();
    [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
}

impl Service for Registers {
    type Request = Request<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Response, ExceptionCode>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        ready(match request {
            Request::ReadInputRegisters(start, count) => {
                self.read(start, count).map(Response::ReadInputRegisters)
            }
            Request::ReadHoldingRegisters(start, count) => {
                self.read(start, count).map(Response::ReadHoldingRegisters)
            }
            _ => Err(ExceptionCode::IllegalFunction),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio_modbus::client::tcp;
    use tokio_modbus::prelude::Reader as _;

    use super::*;

    #[tokio::test]
    async fn each_answered_reading_has_the_next_number_and_a_stopped_boiler_has_none() {
        let ledger = Ledger::new(true);
        let boiler = Boiler::start((Ipv4Addr::LOCALHOST, 0).into(), ledger.clone()).await.unwrap();
        let mut client = tcp::connect(boiler.address()).await.unwrap();
        for number in 1..=3 {
            let registers = client.read_input_registers(0, REGISTERS).await.unwrap().unwrap();
            assert_eq!(registers[..2], [0, number]);
            assert!((760..=880).contains(&registers[2]));
        }
        assert!(client.read_input_registers(1, REGISTERS).await.unwrap().is_err());
        boiler.stop();
        let busy = client.read_input_registers(0, REGISTERS).await.unwrap();
        assert_eq!(busy, Err(ExceptionCode::ServerDeviceBusy));
        assert_eq!(ledger.at_end(Some(Source::Boiler)).produced, 3);
    }
}
