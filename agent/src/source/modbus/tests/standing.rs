//! How devices stand: up, degraded, down, and why.

use super::*;
use crate::supervise::{Standing, State};

/// Two groups of one device, in two requests.
const TWO: &str = r#"
timeout = "30 s"
[[device]]
name = "boiler"
unit = 7
[[device.group]]
interval = "20 ms"
signals = [{ name = "a", table = "holding", address = 0 }]
[[device.group]]
interval = "20 ms"
signals = [{ name = "b", table = "holding", address = 500 }]
"#;

/// How a device stands, where that is known, and why.
type Known = (Option<Standing>, String);

/// Of the device `boiler`.
fn boiler(states: &tokio::sync::watch::Receiver<State>) -> Known {
    let state = states.borrow();
    let known = state.devices.get("boiler");
    known.map(|device| (Some(device.standing), device.reason.clone())).unwrap_or_default()
}

fn unknown() -> Known {
    Known::default()
}

fn up() -> Known {
    (Some(Standing::Up), String::new())
}

fn down(why: &str) -> Known {
    (Some(Standing::Down), why.to_owned())
}

fn degraded(why: &str) -> Known {
    (Some(Standing::Degraded), why.to_owned())
}

const NO_ANSWER: &str = "exception 0B (gateway target failed to respond) for unit 7";

#[tokio::test]
async fn a_device_is_down_once_all_of_it_is_silent_and_up_once_all_of_it_was_read_again() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, TWO);
    let states = bench.link.watch();
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        let mut after = async |code: Option<u8>| {
            let asked = wire.asked().await;
            match code {
                Some(code) => wire.exception(asked, code).await,
                None => wire.answer(asked, 5).await,
            }
            commits.event().await;
            boiler(&states)
        };
        assert_eq!(after(Some(0x0B)).await, unknown(), "the other group may be answered");
        assert_eq!(after(Some(0x0B)).await, down(NO_ANSWER));
        assert_eq!(after(None).await, down(NO_ANSWER), "the other group is asked next");
        assert_eq!(after(None).await, up());
        let ill = "exception 04 (device failure) on reading holding";
        // The two take turns, whichever is first.
        let (_, why) = after(Some(4)).await;
        assert!(why.starts_with("group ") && why.contains(ill), "{why}");
        assert_eq!(after(None).await, degraded(&why), "for a minute at least");
    };
    assert!(bench.run(script).await.0.is_ok());
}

#[tokio::test]
async fn while_a_part_of_it_is_answered_a_device_is_degraded() {
    let (listener, address) = listen().await;
    let (mut bench, _commits) = bench(&address, TWO);
    let states = bench.link.watch();
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        while boiler(&states) != degraded(NO_ANSWER) {
            assert!([unknown(), up()].contains(&boiler(&states)));
            let asked = wire.asked().await;
            match asked.address {
                500 => wire.exception(asked, 0x0B).await,
                _ => wire.answer(asked, 5).await,
            }
        }
    };
    assert!(bench.run(script).await.0.is_ok());
}

#[tokio::test]
async fn what_is_read_seldom_makes_no_silent_device_better() {
    let (listener, address) = listen().await;
    let devices = TWO.replacen("20 ms", "1 h", 2).replacen("1 h", "20 ms", 1);
    let (mut bench, mut commits) = bench(&address, &devices);
    let states = bench.link.watch();
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        let often = wire.asked().await;
        wire.exception(often, 0x0B).await;
        commits.event().await;
        assert_eq!(boiler(&states), down(NO_ANSWER));
        let seldom = wire.asked().await;
        assert_eq!(seldom.address, 500);
        wire.answer(seldom, 5).await;
        commits.event().await;
        assert_eq!(boiler(&states), down(NO_ANSWER));
    };
    assert!(bench.run(script).await.0.is_ok());
}

#[tokio::test]
async fn a_peer_that_is_not_there_has_all_its_devices_down() {
    let (listener, address) = listen().await;
    drop(listener);
    let (mut bench, _commits) = bench(&address, ONE);
    let error = bench.source.run(&mut bench.intake, &mut bench.link, &bench.stop).await;
    let (standing, why) = boiler(&bench.link.watch());
    assert_eq!(standing, Some(Standing::Down));
    assert!(why.starts_with(&format!("{}: ", error.unwrap_err())), "with the cause: {why}");
}

#[tokio::test]
async fn a_peer_that_closes_connections_and_answers_nothing_has_all_its_devices_down() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, TWO);
    let states = bench.link.watch();
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        for _ in 0..2 {
            let asked = wire.asked().await;
            wire.answer(asked, 5).await;
            commits.event().await;
        }
        assert_eq!(boiler(&states), up());
        drop(wire);
        // It has restarted, and is not ready yet.
        Wire::accept(&listener).await.asked().await;
    };
    let run = bench.source.run(&mut bench.intake, &mut bench.link, &bench.stop);
    let (end, ()) = tokio::join!(run, script);
    assert_eq!(end.unwrap_err().to_string(), format!("{address} closed the connection"));
    // One request may be at fault, until another one has no answer either.
    assert_eq!(boiler(&states), up());
    let script = async { Wire::accept(&listener).await.asked().await };
    let run = bench.source.run(&mut bench.intake, &mut bench.link, &bench.stop);
    let (end, _) = tokio::join!(run, script);
    assert_eq!(end.unwrap_err().to_string(), format!("{address} closed the connection"));
    let (standing, why) = boiler(&states);
    assert_eq!(standing, Some(Standing::Down));
    assert!(why.starts_with(&format!("{address} closed the connection")), "{why}");
    let (first, second) = (commits.event().await, commits.event().await);
    assert_eq!((first.quality, second.quality), (Quality::Timeout, Quality::Timeout));
}

/// A device that is well, and one that the peer closes the connection on.
const WELL_AND_ILL: &str = r#"
timeout = "30 s"
[[device]]
name = "boiler"
unit = 7
group = [{ interval = "20 ms", signals = [{ name = "a", table = "holding", address = 0 }] }]
[[device]]
name = "pump"
unit = 9
group = [{ interval = "20 ms", signals = [{ name = "b", table = "holding", address = 0 }] }]
"#;

#[tokio::test]
async fn a_device_on_whose_requests_the_peer_closes_is_down_alone() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, WELL_AND_ILL);
    let states = bench.link.watch();
    for _ in 0..3 {
        let peer = async {
            loop {
                let mut wire = Wire::accept(&listener).await;
                let mut asked = wire.asked().await;
                while asked.unit == 7 {
                    wire.answer(asked, 5).await;
                    asked = wire.asked().await;
                }
            }
        };
        let run = bench.source.run(&mut bench.intake, &mut bench.link, &bench.stop);
        let end = tokio::select! { biased; end = run => end, () = peer => unreachable!() };
        assert_eq!(end.unwrap_err().to_string(), format!("{address} closed the connection"));
        assert_eq!(boiler(&states), up());
        let pump = states.borrow().devices.get("pump").map(|device| device.standing);
        assert_eq!(pump, Some(Standing::Down));
        while let Ok((ticket, delivery)) = commits.deliveries.try_recv() {
            commits.commit(ticket);
            for event in delivery.events {
                assert_eq!(event.quality == Quality::Good, &*event.device == "boiler");
            }
        }
        tokio::time::pause();
        tokio::time::advance(std::time::Duration::from_secs(30)).await;
        tokio::time::resume();
    }
}

#[tokio::test]
async fn exceptions_that_take_turns_are_told_once_each_until_one_has_gone() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, ONE);
    let states = bench.link.watch();
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        let mut after = async |wire: &mut Wire, code: u8| {
            let asked = wire.asked().await;
            wire.exception(asked, code).await;
            commits.event().await;
            boiler(&states)
        };
        let said =
            |known: Known, what| known.0 == Some(Standing::Degraded) && known.1.contains(what);
        assert!(said(after(&mut wire, 4).await, "exception 04"));
        for _ in 0..9 {
            assert!(said(after(&mut wire, 6).await, "exception 06"));
            assert!(said(after(&mut wire, 4).await, "exception 06"), "it comes and goes");
        }
        tokio::time::pause();
        tokio::time::advance(std::time::Duration::from_mins(1)).await;
        tokio::time::resume();
        // One that was idle for so long is not trusted.
        let mut wire = Wire::accept(&listener).await;
        assert!(said(after(&mut wire, 4).await, "exception 04"), "the other one has gone");
    };
    assert!(bench.run(script).await.0.is_ok());
}

#[tokio::test]
async fn a_device_that_lacks_an_address_is_degraded_and_says_which() {
    let (listener, address) = listen().await;
    let (mut bench, _commits) = bench(&address, ONE);
    let states = bench.link.watch();
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        loop {
            if let (Some(Standing::Degraded), why) = boiler(&states) {
                return why;
            }
            let asked = wire.asked().await;
            match asked.address + asked.count {
                12.. => wire.exception(asked, 2).await,
                _ => wire.answer(asked, 5).await,
            }
        }
    };
    let (end, why) = bench.run(script).await;
    assert!(end.is_ok());
    assert!(why.starts_with("group 0: the device refuses holding 11: "), "{why}");
}
