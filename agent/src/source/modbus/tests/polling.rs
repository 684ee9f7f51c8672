//! All is well with the peer.

use std::future::ready;

use tokio_modbus::server::Service;
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};

use super::*;

/// A boiler whose tables hold known values.
pub(super) struct Boiler;

impl Service for Boiler {
    type Request = SlaveRequest<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = std::future::Ready<Result<Response, ExceptionCode>>;

    fn call(&self, request: SlaveRequest<'static>) -> Self::Future {
        let holding = [215, 0x41AC, 0x0000, 0xFFFF, 0x0005, 0x4142, 0x4300, 0b100];
        let from = |address: u16, count: u16| {
            let (start, end) = (usize::from(address), usize::from(address + count));
            holding.get(start..end).map(<[u16]>::to_vec).ok_or(ExceptionCode::IllegalDataAddress)
        };
        ready(match request.request {
            Request::ReadCoils(0, count) => {
                Ok(Response::ReadCoils((0..count).map(|n| n == 9).collect()))
            }
            Request::ReadDiscreteInputs(3, 1) => Ok(Response::ReadDiscreteInputs(vec![true])),
            Request::ReadInputRegisters(100, 1) => Ok(Response::ReadInputRegisters(vec![9])),
            Request::ReadHoldingRegisters(address, count) => {
                from(address, count).map(Response::ReadHoldingRegisters)
            }
            _ => Err(ExceptionCode::IllegalFunction),
        })
    }
}

#[tokio::test]
async fn all_tables_and_types_become_one_event() {
    let (listener, address) = listen().await;
    let devices = r#"
        [[device]]
        name = "boiler"
        [[device.group]]
        interval = "20 ms"
        signals = [
          { name = "temp", table = "holding", address = 0, type = "i16", scale = 0.1, unit = "°C" },
          { name = "flow", table = "holding", address = 1, type = "f32" },
          { name = "level", table = "holding", address = 3, type = "i32", order = "cdab" },
          { name = "serial", table = "holding", address = 5, type = "string", length = 2 },
          { name = "alarm", table = "holding", address = 7, type = "bit", bit = 2 },
          { name = "count", table = "input", address = 100 },
          { name = "pump", table = "coil", address = 0 },
          { name = "valve", table = "coil", address = 9 },
          { name = "door", table = "discrete", address = 3 },
        ]
    "#;
    let (mut bench, mut commits) = bench(&address, devices);
    let server = tokio_modbus::server::tcp::Server::new(listener);
    let connected = |stream, _| ready(std::io::Result::Ok(Some((Boiler, stream))));
    let serve = server.serve(&connected, |_| {});
    let (end, event) = tokio::select! {
        end = bench.run(commits.event()) => end,
        _ = serve => unreachable!("it serves for ever"),
    };
    assert!(end.is_ok());
    assert_eq!((&*event.device, event.time, event.read_at), ("boiler", NOW, None));
    assert_eq!(event.quality, Quality::Good);
    let expected = [
        ("temp", Value::F64(21.5), None),
        ("flow", Value::F64(21.5), None),
        ("level", Value::I64(0x0005_FFFF), None),
        ("serial", Value::Text(Arc::from("ABC")), None),
        ("alarm", Value::Bool(true), None),
        ("count", Value::U64(9), None),
        ("pump", Value::Bool(false), None),
        ("valve", Value::Bool(true), None),
        ("door", Value::Bool(true), None),
    ];
    assert_eq!(fields(&event), expected);
    assert_eq!(event.fields[0].unit.as_deref(), Some("°C"));
}

#[tokio::test]
async fn neighbours_are_read_in_one_request() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, ONE);
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        for round in 0..3 {
            let asked = wire.asked().await;
            assert_eq!((asked.unit, asked.function), (7, 3));
            assert_eq!((asked.address, asked.count), (10, 2));
            wire.answer(asked, 5 + round).await;
            let (a, b) = (u64::from(5 + round), u64::from(6 + round));
            assert_eq!(fields(&commits.event().await), good(a, b));
        }
    };
    assert!(bench.run(script).await.0.is_ok());
    assert!(bench.faults().is_empty());
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_opened_again_without_a_gap() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, ONE);
    let script = async {
        for round in 0..3 {
            let mut wire = Wire::accept(&listener).await;
            let asked = wire.asked().await;
            wire.answer(asked, round).await;
            drop(wire);
            let (a, b) = (u64::from(round), u64::from(round + 1));
            assert_eq!(fields(&commits.event().await), good(a, b));
        }
    };
    assert!(bench.run(script).await.0.is_ok());
    assert!(bench.faults().is_empty());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_an_answer() {
    let (listener, address) = listen().await;
    let (mut bench, commits) = bench(&address, ONE);
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        wire.asked().await;
        bench.stop.clone().cancel();
        wire
    };
    let stop = bench.stop.clone();
    let run = bench.source.run(&mut bench.intake, &mut bench.link, &stop);
    let (end, _wire) = tokio::join!(run, script);
    assert!(end.is_ok());
    assert!(commits.deliveries.is_empty());
}

#[tokio::test]
async fn while_the_buffer_is_full_cycles_are_missed_and_not_bunched() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, &ONE.replace("20 ms", "1 ms"));
    let (intake, full) = Intake::for_test(1);
    bench.intake = intake;
    commits.deliveries.close();
    commits = full;
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        for round in 0..2 {
            let asked = wire.asked().await;
            wire.answer(asked, round).await;
        }
        // The second event waits for room: no request comes meanwhile, however
        // long that takes; two intervals are enough to miss a slot.
        let quiet = std::time::Duration::from_millis(3);
        assert!(tokio::time::timeout(quiet, wire.asked()).await.is_err());
        assert_eq!(fields(&commits.event().await), good(0, 1));
        assert_eq!(fields(&commits.event().await), good(1, 2));
        let asked = wire.asked().await;
        wire.answer(asked, 2).await;
        assert_eq!(fields(&commits.event().await), good(2, 3));
    };
    assert!(bench.run(script).await.0.is_ok());
    assert!(bench.counts().missed >= 1);
}
