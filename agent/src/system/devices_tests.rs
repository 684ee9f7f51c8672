//! What is told of devices, in virtual time.

use super::devices::{Devices, Links};
use super::*;
use crate::supervise::{Link, Standing};
use tokio::time::{Instant, advance, timeout};

const SECOND: Duration = Duration::from_secs(1);
const NOW: Timestamp = Timestamp(1_767_225_600_000_000_000);

/// Device, state, previous state, changes.
type Told = (String, String, String, u64);

struct Bench {
    devices: Devices,
    links: watch::Sender<Links>,
}

impl Bench {
    fn of(links: &[&Link]) -> Self {
        let links = watch::Sender::new(links.iter().map(|link| link.watch()).collect());
        Self { devices: Devices::new(links.subscribe()), links }
    }

    fn look(&mut self) -> Vec<Told> {
        self.devices.look(NOW).iter().map(words).collect()
    }

    /// What is told next, and how long that takes.
    async fn next(&mut self) -> (Vec<Told>, Duration) {
        let began = Instant::now();
        loop {
            self.devices.changed().await;
            let told = self.look();
            if !told.is_empty() {
                return (told, began.elapsed());
            }
        }
    }
}

fn field(notice: &Notice, name: &str) -> Value {
    let found = notice.fields.iter().find(|field| &*field.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {notice:?}")).value.clone()
}

fn words(notice: &Notice) -> Told {
    let text = |name| match field(notice, name) {
        Value::Text(text) => text.to_string(),
        _ => String::new(),
    };
    let Value::U64(changes) = field(notice, "changes") else { panic!("{notice:?}") };
    let device = notice.of.as_ref().unwrap().0.to_string();
    (device, text("state"), text("previous"), changes)
}

fn told(device: &str, state: &str, previous: &str, changes: u64) -> Told {
    (device.to_owned(), state.to_owned(), previous.to_owned(), changes)
}

#[tokio::test(start_paused = true)]
async fn each_change_is_told_with_its_time_and_what_was_before() {
    let mut link = Link::new("bus".into());
    let mut bench = Bench::of(&[&link]);
    assert_eq!(bench.look(), [], "nothing is known yet");
    link.device("boiler", Standing::Up, "");
    link.device("pump", Standing::Up, "");
    let both = [told("boiler", "up", "", 1), told("pump", "up", "", 1)];
    assert_eq!(bench.next().await, (both.to_vec(), Duration::ZERO));
    advance(90 * SECOND).await;
    link.device("pump", Standing::Down, "no answer from unit 7 in time");
    advance(SECOND / 4).await;
    let notices = bench.devices.look(NOW);
    let [notice] = notices.as_slice() else { panic!("{notices:?}") };
    assert_eq!(words(notice), told("pump", "down", "up", 1));
    assert_eq!(notice.of, Some(("pump".into(), Timestamp(NOW.0 - 250_000_000))));
    assert_eq!(field(notice, "source"), text("bus"));
    assert_eq!(field(notice, "reason"), text("no answer from unit 7 in time"));
    assert_eq!(field(notice, "previous_ms"), Value::U64(90_000));
}

#[tokio::test(start_paused = true)]
async fn one_that_flaps_is_told_once_a_second_with_its_changes_and_how_it_stands_in_the_end() {
    let mut link = Link::new("bus".into());
    let mut bench = Bench::of(&[&link]);
    link.device("pump", Standing::Up, "");
    assert_eq!(bench.next().await.0, [told("pump", "up", "", 1)]);
    for _ in 0..3 {
        link.device("pump", Standing::Down, "no answer");
        link.device("pump", Standing::Up, "");
    }
    link.device("pump", Standing::Degraded, "no answer");
    assert_eq!(bench.look(), [], "not within a second");
    assert_eq!(bench.next().await, (vec![told("pump", "degraded", "up", 7)], SECOND));
    link.device("pump", Standing::Up, "");
    link.device("pump", Standing::Degraded, "no answer");
    assert_eq!(bench.next().await, (vec![told("pump", "degraded", "degraded", 2)], SECOND));
    let nothing = timeout(3600 * SECOND, bench.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_goes_on_is_not_told_again_and_one_that_begins_anew_is() {
    let (mut kept, mut gone) = (Link::new("kept".into()), Link::new("bus".into()));
    let mut bench = Bench::of(&[&kept, &gone]);
    kept.device("boiler", Standing::Up, "");
    gone.device("pump", Standing::Down, "no answer");
    assert_eq!(bench.next().await.0.len(), 2);
    drop(gone);
    let nothing = timeout(60 * SECOND, bench.next()).await;
    assert!(nothing.is_err(), "of a source that has ended nothing is told: {nothing:?}");
    let mut new = Link::new("bus".into());
    new.device("pump", Standing::Down, "no answer");
    bench.links.send_replace(vec![new.watch(), kept.watch()]);
    assert_eq!(bench.next().await.0, [told("pump", "down", "", 1)]);
    kept.device("boiler", Standing::Down, "no answer");
    assert_eq!(bench.next().await.0, [told("boiler", "down", "up", 1)]);
}

#[tokio::test(start_paused = true)]
async fn which_of_two_ways_is_taken_is_told_at_first_and_when_it_is_another() {
    let mut link = Link::new("bus".into());
    let mut bench = Bench::of(&[&link]);
    let mut told = |link: &mut Link, address, why| {
        link.way(address, why);
        let notices = bench.devices.look(NOW);
        let fields = |notice: &Notice| {
            let of = ["kind", "source", "address", "fallback", "reason"];
            of.map(|name| field(notice, name)).to_vec()
        };
        notices.iter().map(fields).collect::<Vec<_>>()
    };
    let (kind, source) = (text("address"), text("bus"));
    let [first, second] = ["10.0.0.5:502", "10.0.0.6:502"];
    let of_first = vec![kind.clone(), source.clone(), text(first), Value::Bool(false), Value::Null];
    assert_eq!(told(&mut link, first, None), [of_first]);
    advance(SECOND).await;
    assert!(told(&mut link, first, None).is_empty());
    let away = "cannot connect to 10.0.0.5:502";
    let of_second = vec![kind, source, text(second), Value::Bool(true), text(away)];
    assert_eq!(told(&mut link, second, Some(away)), [of_second]);
    assert_eq!(link.faults()["address"], format!("{away}: the fallback {second} is in use"));
    link.way(first, None);
    assert!(link.faults().is_empty());
}
