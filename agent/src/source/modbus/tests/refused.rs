//! Devices that refuse addresses: found once, told once, remembered.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::timeout;

use super::*;

/// Registers 0 to 7, each of which holds its address.
const EIGHT: &str = r#"
timeout = "30 s"
device = [{ name = "boiler", unit = 7, group = [{ interval = "5 ms", signals = [
  { name = "0", table = "holding", address = 0 },
  { name = "1", table = "holding", address = 1 },
  { name = "2", table = "holding", address = 2 },
  { name = "3", table = "holding", address = 3 },
  { name = "4", table = "holding", address = 4 },
  { name = "5", table = "holding", address = 5 },
  { name = "6", table = "holding", address = 6 },
  { name = "7", table = "holding", address = 7 },
] }] }]
"#;

/// Two registers with a hole between them that is read along.
const A_HOLE: &str = r#"
timeout = "30 s"
device = [{ name = "boiler", group = [{ interval = "5 ms", signals = [
  { name = "a", table = "holding", address = 0 },
  { name = "b", table = "holding", address = 10 },
] }] }]
"#;

/// Long for a test, and less than what was refused rests.
const SOON: Duration = Duration::from_secs(30);

/// A device whose registers hold their addresses, and that lacks some.
struct Picky {
    lacks: RefCell<BTreeSet<u16>>,
    /// What it says to those.
    refusal: u8,
    /// Address and number of each request.
    asked: RefCell<Vec<(u16, u16)>>,
    /// What it says instead of an answer.
    says: RefCell<Option<u8>>,
}

impl Picky {
    fn lacking(addresses: impl IntoIterator<Item = u16>) -> Self {
        Self {
            lacks: RefCell::new(addresses.into_iter().collect()),
            refusal: 2,
            asked: RefCell::default(),
            says: RefCell::default(),
        }
    }

    async fn serve(&self, listener: &TcpListener) {
        let mut wire = Wire::accept(listener).await;
        loop {
            let asked = wire.asked().await;
            self.asked.borrow_mut().push((asked.address, asked.count));
            let mut range = asked.address..asked.address + asked.count;
            let code = *self.says.borrow();
            let code = code.or_else(|| {
                range.any(|address| self.lacks.borrow().contains(&address)).then_some(self.refusal)
            });
            match code {
                Some(code) => wire.exception(asked, code).await,
                None => wire.answer(asked, asked.address).await,
            }
        }
    }

    /// Plays the device until `script` is done.
    async fn run<T>(
        &self,
        bench: &mut Bench,
        listener: &TcpListener,
        script: impl Future<Output = T>,
    ) -> T {
        bench.stop = CancellationToken::new();
        let stop = bench.stop.clone();
        let script = async {
            let result = script.await;
            stop.cancel();
            result
        };
        let run = bench.source.run(&mut bench.intake, &mut bench.link, &bench.stop);
        // It serves until the source has ended, which would else connect again.
        tokio::select! {
            () = self.serve(listener) => unreachable!("it serves for ever"),
            (end, result) = async { tokio::join!(run, script) } => {
                assert!(end.is_ok());
                result
            }
        }
    }
}

/// Which fields of an event have values, which are of a refused address.
fn state(event: &Event) -> (Vec<u64>, Vec<&str>) {
    let values = event.fields.iter().filter_map(|field| match field.value {
        Value::U64(value) => Some(value),
        _ => None,
    });
    let bad = |quality: Option<Quality>| quality.unwrap_or(event.quality) == Quality::BadAddress;
    let names = event.fields.iter().filter(|field| bad(field.quality)).map(|field| &*field.name);
    (values.collect(), names.collect())
}

/// Events until one is as wanted; gives the checkpoints on the way.
async fn until(commits: &mut TestCommits, values: &[u64], bad: &[&str]) -> Vec<Checkpoint> {
    let mut checkpoints = Vec::new();
    loop {
        let (event, checkpoint) = commits.event_and_checkpoint().await;
        checkpoints.extend(checkpoint);
        if state(&event) == (values.to_vec(), bad.to_vec()) {
            return checkpoints;
        }
    }
}

fn bytes(checkpoint: &Checkpoint) -> &[u8] {
    let Checkpoint::Session(bytes) = checkpoint else { panic!("{checkpoint:?}") };
    bytes
}

const SAID: &str = "the device refuses holding 5: check table, address and type in its \
                    manual; what is refused is asked again, each hour at the latest";

const ALL_BUT_5: [u64; 7] = [0, 1, 2, 3, 4, 6, 7];

#[tokio::test]
async fn an_address_that_is_refused_is_found_and_its_neighbours_go_on() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, EIGHT);
    let picky = Picky::lacking([5]);
    let script = async {
        let event = commits.event().await;
        let (values, _) = state(&event);
        assert_eq!(values, [0, 1, 2, 3, 6, 7], "good parts have values in the first cycle");
        assert_eq!(event.fields[4].quality, Some(Quality::DeviceError), "not known yet");
        let found = until(&mut commits, &ALL_BUT_5, &["5"]).await;
        assert_eq!(found.len(), 1, "what was found is saved with the events that show it");
        picky.asked.borrow_mut().clear();
        for _ in 0..3 {
            let (event, checkpoint) = commits.event_and_checkpoint().await;
            assert_eq!(state(&event), (ALL_BUT_5.to_vec(), vec!["5"]));
            assert_eq!(checkpoint, None, "nothing has changed");
        }
    };
    picky.run(&mut bench, &listener, script).await;
    let asked = picky.asked.take();
    assert!(asked.iter().all(|range| [(0, 5), (6, 2)].contains(range)), "{asked:?}");
    assert_eq!(bench.faults(), [("boiler group 0 addresses".to_owned(), SAID.to_owned())]);
}

#[tokio::test]
async fn what_was_found_is_remembered_over_a_restart() {
    let (listener, address) = listen().await;
    let (mut first, mut commits) = bench(&address, EIGHT);
    let picky = Picky::lacking([5]);
    let found = until(&mut commits, &ALL_BUT_5, &["5"]);
    let saved = picky.run(&mut first, &listener, found).await.pop().unwrap();
    picky.asked.take();
    let (mut second, mut commits) = bench_with(&address, EIGHT, Some(bytes(&saved)));
    let script = async {
        for _ in 0..3 {
            let (event, checkpoint) = commits.event_and_checkpoint().await;
            assert_eq!(state(&event), (ALL_BUT_5.to_vec(), vec!["5"]));
            assert_eq!(checkpoint, None, "nothing has changed");
        }
    };
    picky.run(&mut second, &listener, script).await;
    let asked = picky.asked.take();
    assert!(asked.iter().all(|range| [(0, 5), (6, 2)].contains(range)), "{asked:?}");
    assert_eq!(second.faults(), [("boiler group 0 addresses".to_owned(), SAID.to_owned())]);

    let renamed = EIGHT.replace("unit = 7", "unit = 8");
    let (mut third, mut commits) = bench_with(&address, &renamed, Some(bytes(&saved)));
    let first_event = picky.run(&mut third, &listener, commits.event()).await;
    assert_ne!(state(&first_event).0, ALL_BUT_5);
    assert_eq!(picky.asked.take()[0], (0, 8), "another unit is another device");
}

#[tokio::test]
async fn a_refused_hole_is_remembered_and_no_fault() {
    let (listener, address) = listen().await;
    let picky = Picky { refusal: 3, ..Picky::lacking([4]) };
    let (mut first, mut commits) = bench(&address, A_HOLE);
    let found = picky.run(&mut first, &listener, until(&mut commits, &[0, 10], &[])).await;
    assert_eq!(picky.asked.take()[..3], [(0, 11), (10, 1), (0, 1)]);
    assert_eq!(first.faults(), []);
    let (mut second, mut commits) = bench_with(&address, A_HOLE, Some(bytes(&found[0])));
    let event = picky.run(&mut second, &listener, commits.event()).await;
    assert_eq!(state(&event), (vec![0, 10], vec![]));
    assert_eq!(picky.asked.take()[..2], [(0, 1), (10, 1)]);
}

#[tokio::test]
async fn what_is_asked_besides_spoils_no_value_that_was_read() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, A_HOLE);
    let picky = Picky { refusal: 3, ..Picky::lacking([4]) };
    picky.run(&mut bench, &listener, until(&mut commits, &[0, 10], &[])).await;
    while commits.deliveries.try_recv().is_ok() {}
    // Asked again for both at once, it says that it is ill.
    let ill = Picky { refusal: 4, ..Picky::lacking([4]) };
    bench.source.groups[0].doubt();
    let script = async {
        for _ in 0..3 {
            let event = commits.event().await;
            assert_eq!((event.quality, fields(&event)), (Quality::Good, good(0, 10)));
        }
    };
    ill.run(&mut bench, &listener, script).await;
    assert!(ill.asked.take().contains(&(0, 11)));
    assert_eq!(bench.faults(), []);
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_read_stops_nothing() {
    let (listener, address) = listen().await;
    for saved in [b"".as_slice(), b"\xff", b"\x82\x02\x80", b"some other source's"] {
        let (mut bench, mut commits) = bench_with(&address, EIGHT, Some(saved));
        let event = Picky::lacking([]).run(&mut bench, &listener, commits.event()).await;
        assert_eq!(state(&event).0, [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}

#[tokio::test]
async fn an_address_that_is_answered_again_is_read_again() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, EIGHT);
    let picky = Picky::lacking([5]);
    picky.run(&mut bench, &listener, until(&mut commits, &ALL_BUT_5, &["5"])).await;
    // Another firmware, and as if the time to ask again had come.
    picky.lacks.take();
    picky.asked.take();
    bench.source.groups[0].doubt();
    while commits.deliveries.try_recv().is_ok() {}
    let all = [0, 1, 2, 3, 4, 5, 6, 7];
    let found = picky.run(&mut bench, &listener, until(&mut commits, &all, &[])).await;
    assert_eq!(picky.asked.take()[..3], [(0, 5), (6, 2), (5, 1)]);
    assert_eq!(found.len(), 1, "and so it is saved");
    assert_eq!(bench.faults(), []);
    let (mut restarted, mut commits) = bench_with(&address, EIGHT, Some(bytes(&found[0])));
    picky.run(&mut restarted, &listener, commits.event()).await;
    assert_eq!(picky.asked.take()[0], (0, 8));
}

#[tokio::test]
async fn a_device_that_comes_back_is_asked_again_at_once_for_what_it_refused() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, EIGHT);
    let picky = Picky::lacking([7]);
    let script = async {
        until(&mut commits, &[0, 1, 2, 3, 4, 5, 6], &["7"]).await;
        // Its gateway says that it is gone; then it is back with another firmware.
        *picky.says.borrow_mut() = Some(0x0B);
        until(&mut commits, &[], &["7"]).await;
        picky.lacks.take();
        picky.says.take();
        until(&mut commits, &[0, 1, 2, 3, 4, 5, 6, 7], &[]).await;
    };
    timeout(SOON, picky.run(&mut bench, &listener, script)).await.unwrap();
    assert_eq!(bench.faults(), []);
}

#[tokio::test]
async fn a_peer_that_was_gone_is_asked_again_at_once_for_what_it_refused() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, EIGHT);
    let picky = Picky::lacking([5]);
    picky.run(&mut bench, &listener, until(&mut commits, &ALL_BUT_5, &["5"])).await;
    drop(listener);
    bench.stop = CancellationToken::new();
    assert!(bench.source.run(&mut bench.intake, &mut bench.link, &bench.stop).await.is_err());
    let listener = TcpListener::bind(&address).await.unwrap();
    picky.lacks.take();
    until(&mut commits, &[], &[]).await;
    let all = [0, 1, 2, 3, 4, 5, 6, 7];
    let read = picky.run(&mut bench, &listener, until(&mut commits, &all, &[]));
    timeout(SOON, read).await.unwrap();
}

/// The events of others while the pump gives ten.
async fn told_beside_the_pump(commits: &mut TestCommits) -> Vec<Event> {
    let (mut told, mut pump) = (Vec::new(), 0);
    while pump < 10 {
        let event = commits.event().await;
        match &*event.device {
            "pump" => pump += 1,
            _ => told.push(event),
        }
    }
    told
}

#[tokio::test]
async fn a_group_that_is_refused_whole_says_so_once_and_costs_no_more_requests() {
    let (listener, address) = listen().await;
    let other = r#"
        [[device]]
        name = "pump"
        unit = 2
        group = [{ interval = "5 ms", signals = [{ name = "a", table = "holding", address = 90 }] }]
    "#;
    let devices = r#"
        timeout = "30 s"
        [[device]]
        name = "boiler"
        unit = 7
        group = [{ interval = "5 ms", signals = [
          { name = "a", table = "holding", address = 0 },
          { name = "b", table = "holding", address = 1 },
        ] }]
    "#;
    let devices = [devices, other].concat();
    let (mut bench, mut commits) = bench(&address, &devices);
    let picky = Picky::lacking([0, 1]);
    let told = picky.run(&mut bench, &listener, told_beside_the_pump(&mut commits)).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].quality, fields(&told[0])), (Quality::BadAddress, nothing()));
    let boilers: Vec<_> = picky.asked.take().into_iter().filter(|asked| asked.0 < 90).collect();
    assert_eq!(boilers, [(0, 2), (1, 1), (0, 1)]);
    assert_eq!(bench.faults().len(), 1);
    bench.source.groups[0].doubt();
    let told = picky.run(&mut bench, &listener, told_beside_the_pump(&mut commits)).await;
    assert_eq!(told, [], "it was asked again and is refused as before");
    let again: Vec<_> = picky.asked.take().into_iter().filter(|asked| asked.0 < 90).collect();
    assert_eq!(again, [(0, 1), (1, 1)]);
    let saved = bench.source.checkpoint().unwrap();
    let (mut restarted, mut commits) = bench_with(&address, &devices, Some(bytes(&saved)));
    let told = picky.run(&mut restarted, &listener, told_beside_the_pump(&mut commits)).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].quality, fields(&told[0])), (Quality::BadAddress, nothing()));
    assert!(picky.asked.take().iter().all(|asked| asked.0 == 90), "nothing else is asked");
    assert_eq!(restarted.faults().len(), 1);
}

/// Read so seldom that no test sees a second cycle.
fn seldom() -> String {
    EIGHT.replace("5 ms", "1 h")
}

#[tokio::test]
async fn of_a_group_that_is_read_seldom_the_search_ends_before_its_next_cycle() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, &seldom());
    let picky = Picky::lacking([1, 3, 5]);
    let (good, bad) = ([0, 2, 4, 6, 7], ["1", "3", "5"]);
    let script = timeout(SOON, until(&mut commits, &good, &bad));
    let found = picky.run(&mut bench, &listener, script).await.expect("it is read at once");
    assert_eq!(found.len(), 1, "what was found is saved with the events that show it");
    // A module is plugged in again, and it is as if the time to ask had come.
    picky.lacks.take();
    bench.source.groups[0].doubt();
    let script = timeout(SOON, until(&mut commits, &[0, 1, 2, 3, 4, 5, 6, 7], &[]));
    picky.run(&mut bench, &listener, script).await.expect("all of it is back together");
}

#[tokio::test]
async fn a_search_takes_no_time_that_another_group_may_need() {
    let (listener, address) = listen().await;
    // There is never as long until it is due as an answer may take.
    let pump = r#"] }] }, { name = "pump", unit = 2, group = [{ interval = "20 ms", signals = [
        { name = "a", table = "holding", address = 90 },
    ] }] }]"#;
    let (mut bench, mut commits) = bench(&address, &seldom().replace("] }] }]", pump));
    let picky = Picky::lacking([1, 3, 5]);
    picky.run(&mut bench, &listener, told_beside_the_pump(&mut commits)).await;
    let boilers = picky.asked.take().into_iter().filter(|asked| asked.0 < 90).count();
    assert_eq!(boilers, 5, "its cycle, and in it four requests of the search");
}

#[tokio::test]
async fn silence_in_a_search_holds_the_others_up_once_too() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, &seldom());
    let picky = Picky::lacking([1, 3, 5]);
    picky.run(&mut bench, &listener, commits.event()).await;
    assert_eq!(bench.source.schedule.last_silence(), None);
    picky.says.replace(Some(0x0B));
    tokio::select! {
        () = picky.serve(&listener) => unreachable!("it serves for ever"),
        end = bench.source.search(&mut bench.link) => end.unwrap(),
    }
    assert!(bench.source.schedule.last_silence().is_some());
}
