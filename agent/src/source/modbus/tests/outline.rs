//! What is told of a bus before it is read, and what it then takes.

use std::future::ready;
use std::time::Duration;

use tokio_modbus::server::tcp::Server;

use super::polling::Boiler;
use super::*;

fn config(address: &str, devices: &str) -> Config {
    let head = format!("name = \"bus\"\nstream = \"plant\"\naddress = \"{address}\"\n");
    let config = parse(&(head + devices)).unwrap();
    assert_eq!(config.check(), []);
    config
}

/// Two devices on a line, one group each: 2 requests a second and one in ten.
const LINE: &str = r#"
serial = { baud = 9600, parity = "none", stop_bits = 1 }
[[device]]
name = "meter"
unit = 3
[[device.group]]
interval = "1 s"
signals = [
  { name = "power", table = "input", address = 12, type = "f32" },
  { name = "energy", table = "input", address = 18, type = "f32" },
  { name = "serial", table = "input", address = 0x40, type = "u32" },
]
[[device]]
name = "pump"
unit = 4
[[device.group]]
interval = "10 s"
signals = [{ name = "speed", table = "holding", address = 0 }]
"#;

#[test]
fn an_outline_names_requests_holes_time_and_the_shortest_interval() {
    let outline = Outline::new(&config("/dev/ttyS1", LINE));
    let reads: Vec<_> = outline.groups.iter().flat_map(|g| &g.requests).collect();
    let told: Vec<_> = reads.iter().map(|r| (r.address, r.count, r.fields, r.holes)).collect();
    assert_eq!(told, [(12, 8, 2, 4), (0x40, 2, 1, 0), (0, 1, 1, 0)]);
    // 10 bits a byte, t3.5 before, 13 bytes and 2 for a register, and the device.
    let byte = Duration::from_secs(10) / 9_600;
    let expected =
        |registers: u32| byte * (13 + 2 * registers) + byte * 7 / 2 + Duration::from_millis(10);
    for (read, registers) in reads.iter().zip([8, 2, 1]) {
        assert_eq!(read.estimated, expected(registers));
    }
    let (meter, pump) = (&outline.groups[0], &outline.groups[1]);
    let (fast, slow) = (expected(8) + expected(2), expected(1));
    assert_eq!((meter.time(), pump.time()), (fast, slow));
    let busy = fast.as_secs_f64() + slow.as_secs_f64() / 10.0;
    assert!((outline.load() - busy).abs() < 1e-9);
    let left = 1.0 - slow.as_secs_f64() / 10.0;
    let shortest = outline.shortest(meter).unwrap().as_secs_f64();
    assert!((shortest - fast.as_secs_f64() / left).abs() < 1e-6, "{shortest}");
}

#[test]
fn a_group_beside_others_that_take_all_the_time_fits_at_no_interval() {
    let host = config("10.0.0.5", &LINE.replace("serial =", "# ").replace("1 s", "1 ms"));
    let config = config("/dev/ttyS1", &LINE.replace("\"1 s\"", "\"50 ms\""));
    let outline = Outline::new(&config);
    assert!(outline.load() > 1.0);
    assert_eq!(outline.shortest(&outline.groups[1]), None);
    assert!(outline.shortest(&outline.groups[0]).is_some());
    let doubts = doubts(&config);
    assert_eq!(doubts.len(), 1);
    assert!(doubts[0].1.contains("tidegate plan bus"), "{doubts:?}");
    assert_eq!(super::super::doubts(&host), [], "nobody has asked it how soon it answers");
}

#[test]
fn a_device_slower_than_assumed_is_told_where_its_plan_would_be_another() {
    let config = config("/dev/ttyS1", LINE);
    let mut outline = Outline::new(&config);
    assert_eq!(outline.latencies(&config), [], "nothing was measured");
    let measure = |outline: &mut Outline, more: Duration| {
        for read in outline.groups.iter_mut().flat_map(|group| &mut group.requests) {
            read.measured = Some(Measured::Took(read.estimated + more));
        }
    };
    measure(&mut outline, Duration::from_millis(5));
    assert_eq!(outline.latencies(&config), [], "the plan is the same");
    // 44 unused registers take 92 ms at 9,600 baud.
    measure(&mut outline, Duration::from_millis(80));
    let expected = Latency {
        device: "meter".into(),
        assumed: Duration::from_millis(10),
        measured: Duration::from_millis(90),
        requests: 2,
        requests_then: 1,
    };
    assert_eq!(outline.latencies(&config), [expected]);
}

#[tokio::test]
async fn what_the_devices_take_is_measured_and_what_they_refuse_is_told() {
    let (listener, address) = listen().await;
    let devices = r#"
        [[device]]
        name = "boiler"
        max_hole = 0
        [[device.group]]
        interval = "1 s"
        signals = [
          { name = "temp", table = "holding", address = 0 },
          { name = "none", table = "holding", address = 9 },
        ]
    "#;
    let config = config(&address, devices);
    let mut outline = Outline::new(&config);
    let mut told = Vec::new();
    let server = Server::new(listener);
    let connected = |stream, _| ready(std::io::Result::Ok(Some((Boiler, stream))));
    let serve = server.serve(&connected, |_| {});
    tokio::select! {
        measured = outline.measure(&config, |done, all| told.push((done, all))) => measured.unwrap(),
        _ = serve => unreachable!("it serves for ever"),
    }
    assert_eq!(told, [(0, 2), (1, 2)]);
    let [temp, none] = outline.groups[0].requests.as_slice() else { panic!("two requests") };
    assert!(matches!(temp.measured, Some(Measured::Took(took)) if !took.is_zero()), "{temp:?}");
    let refused = "exception 02 (illegal data address)";
    assert_eq!(none.measured, Some(Measured::Failed(refused.to_owned())));
}

#[tokio::test]
async fn a_silent_device_is_asked_once_and_the_next_one_is_measured() {
    let (listener, address) = listen().await;
    let device = |name: &str, unit: u8| {
        format!(
            "[[device]]\nname = \"{name}\"\nunit = {unit}\nmax_hole = 0\n[[device.group]]\n\
             interval = \"1 s\"\nsignals = [\n\
             {{ name = \"a\", table = \"holding\", address = 0 }},\n\
             {{ name = \"b\", table = \"holding\", address = 5 }},\n]\n"
        )
    };
    let devices = format!("timeout = \"50 ms\"\n{}{}", device("dead", 1), device("well", 2));
    let config = config(&address, &devices);
    let mut outline = Outline::new(&config);
    let mut in_vain = 0;
    let peer = async {
        loop {
            let mut wire = Wire::accept(&listener).await;
            loop {
                let asked = wire.asked().await;
                if asked.unit == 1 {
                    in_vain += 1;
                    wire.dropped().await;
                    break;
                }
                wire.answer(asked, 7).await;
            }
        }
    };
    tokio::select! {
        measured = outline.measure(&config, |_, _| {}) => measured.unwrap(),
        () = peer => {}
    }
    // The first of all is sent once more than it is measured.
    assert_eq!(in_vain, 2);
    let of = |group: usize| outline.groups[group].requests.iter().map(|read| &read.measured);
    let failed = |what: &str| Some(Measured::Failed(what.to_owned()));
    let dead = [failed("no answer in time"), failed("not asked: the device was silent before")];
    assert!(of(0).eq(&dead), "{:?}", outline.groups[0]);
    assert!(of(1).all(|m| matches!(m, Some(Measured::Took(_)))), "{:?}", outline.groups[1]);
}

#[tokio::test]
async fn where_nobody_listens_is_said_and_nothing_is_measured() {
    let (listener, address) = listen().await;
    drop(listener);
    let device = "[[device]]\nname = \"a\"\n[[device.group]]\ninterval = \"1 s\"\nsignals = [{ name = \"x\", table = \"input\", address = 0 }]";
    let config = config(&address, device);
    let mut outline = Outline::new(&config);
    let error = outline.measure(&config, |_, _| {}).await.unwrap_err();
    assert_eq!(error.what, format!("cannot connect to {address}"));
    assert_eq!(outline.groups[0].requests[0].measured, None);
}
