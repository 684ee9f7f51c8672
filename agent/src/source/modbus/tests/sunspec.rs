//! Devices that say themselves what their registers hold.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::*;

const INVERTER: &str = r#"
timeout = "30 s"
device = [{ name = "roof", unit = 1, group = [{ interval = "5 ms", sunspec = {
  models = ["inverter", "common", 160], points = ["A", "W", "WH", "St", "Evt1", "SN", "DCW", "IDStr"] } }] }]
"#;

/// A device whose registers can be changed while it runs; it refuses what it has not.
struct Device {
    words: RefCell<BTreeMap<u16, u16>>,
    /// Unit, address and number of each request.
    asked: RefCell<Vec<(u8, u16, u16)>>,
    delay: Cell<Duration>,
    /// With each request its current is given in another scale.
    flips: Cell<bool>,
    /// What its gateway says for it.
    says: Cell<Option<u8>>,
    /// When it is asked for this register its gateway hears nothing of it any more.
    dies_at: Cell<Option<u16>>,
    /// Nothing is heard of a request that begins at this register.
    mute_at: Cell<Option<u16>>,
    /// It says nothing of what it does not have.
    is_dumb: Cell<bool>,
}

impl Device {
    /// A three-phase inverter with two strings, whose map begins there.
    fn at(base: u16) -> Self {
        let mut device = Self::empty();
        device.put(base, &[0x5375, 0x6E53, 1, 66]);
        device.put(base + 4, &[0; 66]);
        device.text(base + 4, "ACME");
        device.text(base + 20, "X 10");
        device.text(base + 52, "S-17");
        device.put(base + 70, &[103, 50]);
        device.put(base + 72, &[0xFFFF; 50]);
        device.put(base + 122, &[160, 48, 0x8000, 0x8000, 1, 0x8000, 0, 0, 2, 0xFFFF]);
        for module in [132, 152] {
            device.put(base + module, &[0xFFFF; 20]);
            device.put(base + module + 1, &[0; 8]);
        }
        device.put(base + 172, &[0xFFFF, 0]);
        // A and W with their factors, energy, state, events, and the power of each string.
        device.put(base + 72, &[123, 41, 41, 41, 0xFFFE]);
        device.put(base + 84, &[(-15_i16).cast_unsigned(), 2]);
        // 70,000 Wh, and no power of the strings together.
        device.put(base + 94, &[1, 4_464, 0]);
        device.put(base + 101, &[0x8000]);
        device.put(base + 108, &[4]);
        device.put(base + 110, &[0, 0b1000_0001]);
        device.text(base + 133, "East");
        device.put(base + 143, &[75]);
        device.put(base + 163, &[76]);
        device
    }

    fn empty() -> Self {
        Self {
            words: RefCell::default(),
            asked: RefCell::default(),
            delay: Cell::new(Duration::ZERO),
            flips: Cell::default(),
            says: Cell::default(),
            dies_at: Cell::default(),
            mute_at: Cell::default(),
            is_dumb: Cell::default(),
        }
    }

    fn put(&self, address: u16, words: &[u16]) {
        self.words.borrow_mut().extend((address..).zip(words.iter().copied()));
    }

    fn text(&mut self, address: u16, text: &str) {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(text.len().next_multiple_of(2), 0);
        let words = bytes.chunks(2).map(|two| u16::from_be_bytes([two[0], two[1]]));
        self.put(address, &words.collect::<Vec<_>>());
    }

    async fn serve(&self, listener: &TcpListener) {
        let mut wire = Wire::accept(listener).await;
        loop {
            if !matches!(wire.0.peek(&mut [0]).await, Ok(1..)) {
                wire = Wire::accept(listener).await;
                continue;
            }
            let asked = wire.asked().await;
            self.asked.borrow_mut().push((asked.unit, asked.address, asked.count));
            if !self.delay.get().is_zero() {
                sleep(self.delay.get()).await;
            }
            if self.dies_at.get() == Some(asked.address) {
                self.dies_at.set(None);
                self.says.set(Some(0x0B));
            }
            let is_mute = self.mute_at.get() == Some(asked.address);
            if let Some(code) = self.says.get().or(is_mute.then_some(0x0B)) {
                wire.exception(asked, code).await;
                continue;
            }
            if self.flips.get() {
                let is_fine = self.words.borrow().get(&40_076) == Some(&0xFFFD);
                let (current, factor) = if is_fine { (123, 0xFFFE) } else { (1_230, 0xFFFD) };
                self.put(40_072, &[current]);
                self.put(40_076, &[factor]);
            }
            let range = asked.address..asked.address + asked.count;
            let word = |address: u16| self.words.borrow().get(&address).copied();
            let read: Option<Vec<u16>> = range.map(word).collect();
            match read {
                None => wire.exception(asked, if self.is_dumb.get() { 0x0B } else { 2 }).await,
                Some(read) => {
                    let mut pdu = vec![asked.function, u8::try_from(read.len() * 2).unwrap()];
                    pdu.extend(read.into_iter().flat_map(u16::to_be_bytes));
                    wire.frame(asked.transaction, asked.unit, &pdu).await;
                }
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
        tokio::select! {
            () = self.serve(listener) => unreachable!("it serves for ever"),
            (end, result) = async { tokio::join!(run, script) } => {
                assert!(end.is_ok());
                result
            }
        }
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// The fields of the inverter.
fn read() -> Vec<(&'static str, Value, Option<Quality>)> {
    vec![
        ("inverter_A", Value::F64(1.23), None),
        ("inverter_W", Value::F64(-1_500.0), None),
        ("inverter_WH", Value::F64(70_000.0), None),
        ("inverter_DCW", Value::Null, Some(Quality::BadAddress)),
        ("inverter_St", text("MPPT"), None),
        ("inverter_Evt1", text("GROUND_FAULT,OVER_TEMP"), None),
        ("mppt_module_1_IDStr", text("East"), None),
        ("mppt_module_1_DCW", Value::F64(750.0), None),
        ("mppt_module_2_IDStr", Value::Null, Some(Quality::BadAddress)),
        ("mppt_module_2_DCW", Value::F64(760.0), None),
        ("common_SN", text("S-17"), None),
    ]
}

#[tokio::test]
async fn models_are_found_wherever_the_map_begins_and_read_with_their_factors() {
    for base in [40_000, 50_000, 0] {
        let (listener, address) = listen().await;
        let (mut bench, mut commits) = bench(&address, INVERTER);
        let device = Device::at(base);
        let event = device.run(&mut bench, &listener, commits.event()).await;
        assert_eq!(fields(&event), read(), "at {base}");
        assert_eq!(event.fields[1].unit.as_deref(), Some("W"));
        assert_eq!(event.quality, Quality::Good);
        assert_eq!(bench.faults(), []);
        let most = device.asked.take().iter().map(|(_, _, count)| *count).max();
        assert!(most <= Some(125));
    }
}

#[tokio::test]
async fn what_is_not_implemented_has_no_value_and_costs_the_others_nothing() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, INVERTER);
    let device = Device::at(40_000);
    // No scale for the current, one of more than ten digits for the power, an energy that
    // never counted, a state without a name, and no events.
    device.put(40_076, &[0x8000]);
    device.put(40_085, &[11]);
    device.put(40_094, &[0, 0, 0]);
    device.put(40_108, &[77]);
    device.put(40_110, &[0x8000, 1]);
    let event = device.run(&mut bench, &listener, commits.event()).await;
    let mut expected = read();
    expected[0] = ("inverter_A", Value::Null, Some(Quality::BadAddress));
    expected[1] = ("inverter_W", Value::Null, Some(Quality::BadPayload));
    expected[2] = ("inverter_WH", Value::Null, Some(Quality::BadAddress));
    expected[4] = ("inverter_St", text("77"), None);
    expected[5] = ("inverter_Evt1", Value::Null, Some(Quality::BadAddress));
    assert_eq!(fields(&event), expected);
}

#[tokio::test]
async fn a_factor_that_changes_while_it_runs_goes_with_its_value() {
    let (listener, address) = listen().await;
    // Nothing that lies between is read along.
    let narrow = INVERTER.replace("unit = 1,", "unit = 1, max_hole = 0,");
    for config in [INVERTER, &narrow] {
        let (mut bench, mut commits) = bench(&address, config);
        let device = Device::at(40_000);
        device.flips.set(true);
        let script = async {
            for _ in 0..20 {
                let event = commits.event().await;
                assert_eq!(event.fields[0].value, Value::F64(1.23));
            }
        };
        device.run(&mut bench, &listener, script).await;
    }
}

/// The map as it is saved with the first event.
async fn found(device: &Device, listener: &TcpListener, address: &str) -> Vec<u8> {
    let (mut bench, mut commits) = bench(address, INVERTER);
    let (_, checkpoint) = device.run(&mut bench, listener, commits.event_and_checkpoint()).await;
    let Some(Checkpoint::Session(bytes)) = checkpoint else { panic!("{checkpoint:?}") };
    bytes.to_vec()
}

#[tokio::test]
async fn models_are_remembered_and_the_device_is_asked_once_whether_it_is_the_same() {
    let (listener, address) = listen().await;
    let mut device = Device::at(40_000);
    let saved = found(&device, &listener, &address).await;
    device.asked.take();
    let (mut same, mut commits) = bench_with(&address, INVERTER, Some(&saved));
    let (event, checkpoint) =
        device.run(&mut same, &listener, commits.event_and_checkpoint()).await;
    assert_eq!((fields(&event), checkpoint), (read(), None));
    let asked = device.asked.take();
    assert_eq!(asked[0], (1, 40_004, 64), "its texts");
    assert_eq!(asked[1], (1, 40_172, 2), "the end of its list");
    assert_eq!(asked[2], (1, 40_070, 94), "and then the values");

    device.text(40_052, "S-18");
    device.put(40_122, &[0xFFFF, 0]);
    let (mut other, mut commits) = bench_with(&address, INVERTER, Some(&saved));
    let (event, checkpoint) =
        device.run(&mut other, &listener, commits.event_and_checkpoint()).await;
    let mut expected = read();
    expected.drain(6..10);
    expected[6].1 = text("S-18");
    assert_eq!(fields(&event), expected, "it is another device");
    assert!(checkpoint.is_some(), "and that is remembered");
}

#[tokio::test]
async fn a_device_that_was_silent_is_asked_who_it_is_before_it_is_read() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, INVERTER);
    let device = Device::at(40_000);
    let script = async {
        assert_eq!(commits.event().await.fields.last().unwrap().value, text("S-17"));
        device.says.set(Some(0x0B));
        while commits.event().await.quality != Quality::Timeout {}
        // It was taken down, and another one of its kind hangs there.
        device.put(40_052, &[0x532D, 0x3138]);
        device.says.set(None);
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::time::resume();
        let event = commits.event().await;
        assert_eq!(event.quality, Quality::Good);
        assert_eq!(event.fields.last().unwrap().value, text("S-18"));
    };
    device.run(&mut bench, &listener, script).await;
}

/// Lets this time go by while nothing is asked.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_device_that_is_read_seldom_is_asked_who_it_is_in_each_cycle() {
    let (listener, address) = listen().await;
    let slow = INVERTER.replace("5 ms", "2 min");
    let (mut bench, mut commits) = bench(&address, &slow);
    let device = Device::at(40_000);
    let script = async {
        assert_eq!(fields(&commits.event().await), read());
        // Another one of its kind hangs there before it is read again.
        device.put(40_052, &[0x532D, 0x3138]);
        pass(Duration::from_mins(2)).await;
        let event = commits.event().await;
        assert_eq!(event.fields.last().unwrap().value, text("S-18"));
    };
    device.run(&mut bench, &listener, script).await;
}

#[tokio::test]
async fn a_device_that_says_nothing_behind_its_last_model_is_read() {
    let (listener, address) = listen().await;
    let slow = INVERTER.replace("5 ms", "2 min");
    let (mut bench, mut commits) = bench(&address, &slow);
    let device = Device::at(40_000);
    for address in [40_172, 40_173] {
        device.words.borrow_mut().remove(&address);
    }
    device.is_dumb.set(true);
    let cycles = bench.source.cycles();
    let end = || device.asked.borrow().iter().filter(|(_, at, _)| *at == 40_172).count();
    let script = async {
        while cycles[0].counts().failed < 1 {
            tokio::task::yield_now().await;
        }
        pass(Duration::from_mins(2)).await;
        assert_eq!(fields(&commits.event().await), read());
        assert_eq!(end(), 2);
        pass(Duration::from_mins(2)).await;
        assert_eq!(fields(&commits.event().await), read(), "nothing is missing");
        assert_eq!(end(), 3, "it is looked for again, once");
    };
    device.run(&mut bench, &listener, script).await;
}

#[tokio::test]
async fn models_that_are_put_behind_the_last_one_are_read_after_a_start() {
    let (listener, address) = listen().await;
    let device = Device::at(40_000);
    device.put(40_122, &[0xFFFF, 0]);
    let saved = found(&device, &listener, &address).await;
    device.put(40_122, &[160, 48]);
    let (mut other, mut commits) = bench_with(&address, INVERTER, Some(&saved));
    let event = device.run(&mut other, &listener, commits.event()).await;
    assert_eq!(fields(&event), read());
}

#[tokio::test]
async fn a_model_whose_header_is_not_read_has_no_values() {
    let (listener, address) = listen().await;
    // Only the current is read together with the header.
    let narrow = INVERTER.replace("unit = 1,", "unit = 1, max_hole = 0,");
    let (mut bench, mut commits) = bench(&address, &narrow);
    let device = Device::at(40_000);
    let script = async {
        assert_eq!(fields(&commits.event().await), read());
        device.mute_at.set(Some(40_070));
        let mut alone = 0;
        while alone < 3 {
            let event = commits.event().await;
            let field = |name: &str| {
                let field = event.fields.iter().find(|field| *field.name == *name).unwrap();
                (field.value.clone(), field.quality)
            };
            if field("mppt_module_1_DCW") == (Value::F64(750.0), None)
                && event.fields[0].quality.is_some()
            {
                assert_eq!(field("inverter_W"), (Value::Null, Some(Quality::Timeout)));
                alone += 1;
            }
        }
    };
    device.run(&mut bench, &listener, script).await;
}

#[tokio::test]
async fn a_device_that_cannot_say_what_it_has_is_no_silence() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, INVERTER);
    let device = Device::at(40_000);
    let script = async {
        assert_eq!(commits.event().await.quality, Quality::Good);
        device.says.set(Some(0x0B));
        while commits.event().await.quality != Quality::Timeout {}
        device.says.set(Some(0x06));
        pass(Duration::from_secs(1)).await;
        assert_eq!(commits.event().await.quality, Quality::DeviceError, "it is busy");
        device.says.set(Some(0x0B));
        while commits.event().await.quality != Quality::Timeout {}
        // It is back, without a map.
        device.words.borrow_mut().clear();
        device.says.set(None);
        pass(Duration::from_secs(1)).await;
        assert_eq!(commits.event().await.quality, Quality::DeviceError);
    };
    device.run(&mut bench, &listener, script).await;
}

#[tokio::test]
async fn a_search_that_silence_broke_off_begins_anew() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, INVERTER);
    let device = Device::at(40_000);
    device.dies_at.set(Some(40_070));
    let script = async {
        while device.says.get().is_none() {
            tokio::task::yield_now().await;
        }
        device.put(40_052, &[0x532D, 0x3138]);
        device.says.set(None);
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::time::resume();
        let event = commits.event().await;
        assert_eq!(event.fields.last().unwrap().value, text("S-18"));
    };
    device.run(&mut bench, &listener, script).await;
}

#[tokio::test]
async fn what_moves_while_it_runs_is_never_taken_for_a_value() {
    let (listener, address) = listen().await;
    let (mut bench, mut commits) = bench(&address, INVERTER);
    let device = Device::at(40_000);
    let script = async {
        assert_eq!(commits.event().await.fields[1].value, Value::F64(-1_500.0));
        // Its firmware has put a model of ten registers before the inverter.
        let old = device.words.borrow().range(40_070..).map(|(_, word)| *word).collect::<Vec<_>>();
        device.put(40_082, &old);
        device.put(40_070, &[64_001, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut before = 0;
        loop {
            let event = commits.event().await;
            match event.quality {
                Quality::Good => {
                    if event.fields[1].value == Value::F64(-1_500.0) {
                        before += 1;
                        if before > 1 {
                            return;
                        }
                    } else {
                        panic!("{event:?}");
                    }
                }
                quality => assert_eq!(quality, Quality::DeviceError),
            }
        }
    };
    device.run(&mut bench, &listener, script).await;
    let asked = device.asked.take();
    assert!(asked.contains(&(1, 40_082, 2)), "it was looked for anew: {asked:?}");
}

#[tokio::test]
async fn a_device_without_a_map_is_a_fault_and_its_other_groups_go_on() {
    let (listener, address) = listen().await;
    let two = INVERTER.replace("group = [{", "group = [{ interval = \"5 ms\", signals = [{ name = \"a\", table = \"holding\", address = 10 }] }, {");
    let (mut bench, mut commits) = bench(&address, &two);
    let device = Device::empty();
    device.put(10, &[7]);
    let script = async {
        for _ in 0..9 {
            assert_eq!(fields(&commits.event().await), [("a", Value::U64(7), None)]);
        }
    };
    device.run(&mut bench, &listener, script).await;
    let faults = bench.faults();
    let [(subject, what)] = faults.as_slice() else { panic!("{faults:?}") };
    assert_eq!(subject, "roof group 1 sunspec");
    assert!(what.starts_with("the device has no SunSpec map at holding 40000, 50000 and 0: "));
    let asked = device.asked.take();
    let looked: Vec<u16> = asked.iter().filter(|(_, a, _)| *a != 10).map(|(_, a, _)| *a).collect();
    assert_eq!(looked, [40_000, 50_000, 0], "and then it is left alone");
}

#[tokio::test]
async fn the_search_takes_turns_with_the_others_of_the_bus() {
    let (listener, address) = listen().await;
    let two = INVERTER.replace("device = [", "device = [{ name = \"pump\", unit = 2, group = [{ interval = \"1 ms\", signals = [{ name = \"a\", table = \"holding\", address = 40000 }] }] }, ");
    let (mut bench, mut commits) = bench(&address, &two);
    let device = Device::at(40_000);
    // Longer than the pump's interval, so that it waits behind each question.
    device.delay.set(Duration::from_millis(5));
    let script = async { while &*commits.event().await.device == "pump" {} };
    let all = device.run(&mut bench, &listener, script);
    timeout(Duration::from_secs(30), all).await.unwrap();
    let asked = device.asked.take();
    let units: Vec<u8> = asked.iter().map(|(unit, _, _)| *unit).collect();
    let in_a_row = units.windows(2).filter(|two| *two == [1, 1]).count();
    assert_eq!(in_a_row, 0, "{asked:?}");
}

#[tokio::test]
async fn a_silent_device_rests_while_its_models_are_looked_for() {
    let (listener, address) = listen().await;
    let impatient = INVERTER.replace("30 s", "50 ms");
    let (mut bench, mut commits) = bench(&address, &impatient);
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        assert_eq!(wire.asked().await.address, 40_000);
        wire.dropped().await;
        commits.deliveries.try_recv().is_err()
    };
    let (end, nothing) = bench.run(script).await;
    assert!(end.is_ok() && nothing, "no event without a field");
    assert_eq!(bench.faults().len(), 1);
}
