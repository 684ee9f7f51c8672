//! The table, the search for models, and what is laid out of them.

use proptest::prelude::*;

use super::super::config::Mistakes;
use super::*;
use crate::source::modbus::group::Factor;

fn config<T: serde::de::DeserializeOwned>(text: &str) -> T {
    let file = ::config::File::from_str(text, ::config::FileFormat::Toml);
    ::config::Config::builder().add_source(file).build().unwrap().try_deserialize().unwrap()
}

fn wanted(text: &str) -> Wanted {
    Wanted::new(&config::<Config>(text), 125)
}

fn map(base: u16, models: &[(u16, u16)]) -> Map {
    let identity = ["ACME", "X", "", "1.0", "17"].map(str::to_owned).to_vec();
    Map { base, models: models.to_vec(), identity, ends: true }
}

/// Registers of a device by their addresses, of which the others are refused.
struct Registers(std::collections::BTreeMap<u16, u16>);

impl Registers {
    fn new(base: u16, words: impl IntoIterator<Item = u16>) -> Self {
        Self((base..=u16::MAX).zip(words).collect())
    }

    fn read(&self, span: Span) -> Option<Vec<u16>> {
        (0..span.width).map(|n| self.0.get(&span.address.checked_add(n)?).copied()).collect()
    }
}

/// Asks until the search has ended; gives that, and how many questions it took.
fn ask(mut survey: Survey, device: &Registers) -> (Answer, usize) {
    for asked in 1..2_000 {
        let step = match device.read(survey.question()) {
            Some(words) => survey.answered(&words),
            None => survey.refused(),
        };
        if step != Answer::Ask {
            return (step, asked);
        }
    }
    panic!("it never ends");
}

/// `SunS`, a common model whose texts say this, and these models, without an end.
fn chain(serial: &str, models: &[(u16, u16)]) -> Vec<u16> {
    let mut words = vec![0x5375, 0x6E53, 1, 66];
    for (text, length) in [("ACME", 16), ("X", 16), ("", 8), ("1.0", 8), (serial, 16)] {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(length * 2, 0);
        words.extend(bytes.chunks(2).map(|two| u16::from_be_bytes([two[0], two[1]])));
    }
    words.extend([0, 0]);
    for (id, length) in models {
        words.extend([*id, *length]);
        words.extend(std::iter::repeat_n(7, usize::from(*length)));
    }
    words
}

const END: [u16; 2] = [0xFFFF, 0];

#[test]
fn the_table_holds_what_the_alliance_publishes() {
    let models = model::known();
    let length = |id: u16| models.iter().find(|m| m.ids.contains(&id)).map(|m| m.head.length);
    // As the specifications have it, without a register that makes the length even.
    for (id, expected) in
        [(1, 65), (101, 50), (103, 50), (111, 60), (113, 60), (120, 25), (121, 30), (160, 8)]
    {
        assert_eq!(length(id), Some(expected), "model {id}");
    }
    for (id, expected) in [(122, 44), (203, 105), (213, 124), (701, 153), (702, 50), (714, 18)] {
        assert_eq!(length(id), Some(expected), "model {id}");
    }
    let mut ids: Vec<u16> = models.iter().flat_map(|model| model.ids.iter().copied()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), count), (37, 37));
}

#[test]
fn every_line_of_the_table_is_read_whole() {
    let word = |line: &str| model::parse(&format!("model 7 pump\n{line}")).map(|_| ());
    assert!(word("St enum16 - - 0=OFF,1=RUN").is_ok());
    assert!(word("St enum16 - - 0=NO REQUEST,1=RUN").is_err(), "a blank parts the words");
    let found = wanted("models = [802]\npoints = [\"Typ\", \"State\", \"SoC\"]")
        .find(&map(40_000, &[(802, 62)]));
    let decoded = |index: usize, word| found.signals[index].decoder.decode(&[word]).unwrap();
    let text = |text: &str| crate::event::Value::Text(text.into());
    assert_eq!(decoded(1, 0), text("NOT_APPLICABLE_UNKNOWN"));
    assert_eq!(decoded(1, 4), text("LITHIUM_ION"));
    assert_eq!((decoded(2, 5), decoded(2, 99)), (text("SOC_PROTECTION"), text("FAULT")));
    assert_eq!(found.signals[0].unit.as_deref(), Some("%WHRtg"));
    for model in model::known() {
        assert_eq!(model.unscaled(), None, "model {:?}", model.ids);
        let units = model.head.points.iter().filter_map(|point| point.unit.as_deref());
        let odd: Vec<_> = units.filter(|unit| unit.contains('_') || unit.trim() != *unit).collect();
        assert_eq!(odd, [""; 0], "model {:?}", model.ids);
    }
}

#[test]
fn a_model_of_another_length_is_another_revision() {
    let models = model::known();
    let repeats = |id: u16, length: u16| {
        models.iter().find(|model| model.ids.contains(&id)).unwrap().repeats(length)
    };
    assert_eq!((repeats(103, 50), repeats(103, 51), repeats(103, 52)), (Some(0), None, None));
    assert_eq!((repeats(1, 65), repeats(1, 66), repeats(120, 26)), (Some(0), Some(0), Some(0)));
    assert_eq!((repeats(160, 48), repeats(160, 49), repeats(160, 8)), (Some(2), None, Some(0)));
    assert_eq!((repeats(705, 65), repeats(705, 5)), (Some(0), None));
}

#[test]
fn a_map_is_found_at_each_of_its_places_in_few_questions() {
    for (base, tries) in [(40_000, 1), (50_000, 2), (0, 3)] {
        let mut words = chain("17", &[(103, 50), (160, 48)]);
        words.extend(END);
        let (step, asked) = ask(Survey::new(None, 125), &Registers::new(base, words));
        assert_eq!(step, Answer::Found(map(base, &[(1, 66), (103, 50), (160, 48)]), None));
        assert_eq!(asked, tries + 1 + 1 + 3, "a header each, the texts, and the end");
    }
    let (step, _) = ask(Survey::new(Some(7), 125), &Registers::new(40_000, chain("17", &[])));
    assert_eq!(step, Answer::Nowhere, "it is looked for where it is said to be");
}

#[test]
fn texts_are_read_in_parts_where_a_device_gives_little_at_once() {
    let mut words = chain("17", &[(103, 50)]);
    words.extend(END);
    let (step, asked) = ask(Survey::new(None, 10), &Registers::new(40_000, words));
    assert_eq!(step, Answer::Found(map(40_000, &[(1, 66), (103, 50)]), None));
    assert_eq!(asked, 1 + 1 + 7 + 2);
}

#[test]
fn a_list_that_breaks_off_is_read_as_far_as_it_goes() {
    let broken = |words: Vec<u16>| match ask(Survey::new(None, 125), &Registers::new(40_000, words))
    {
        (Answer::Found(map, Some(why)), _) => (map.models, why),
        (other, _) => panic!("{other:?}"),
    };
    let (models, why) = broken(chain("17", &[(103, 50)]));
    assert_eq!(models, [(1, 66), (103, 50)]);
    assert_eq!(why, "its list of models breaks off: holding 40122 is refused");
    let mut zeros = chain("17", &[(103, 50)]);
    zeros.extend([0; 100]);
    let (_, why) = broken(zeros);
    assert!(why.ends_with("holding 40122 holds 0 and 0, which is no ID and length"), "{why}");
    let (models, why) = broken(chain("17", &[(64_001, 60_000)]));
    assert_eq!(models, [(1, 66)], "there is no room for this one");
    assert!(why.contains("holds 64001 and 60000"), "{why}");
    let (models, why) = broken(chain("17", &[(7, 1); 400]));
    assert_eq!(models.len(), 250);
    assert!(why.ends_with("comes behind 250 models"), "{why}");
}

#[test]
fn a_device_that_is_known_is_asked_once_and_another_one_is_looked_at_anew() {
    let known = map(40_000, &[(1, 66), (103, 50)]);
    let mut words = chain("17", &[(103, 50)]);
    words.extend(END);
    let same = ask(Survey::again(None, 125, known.clone()), &Registers::new(40_000, words));
    assert_eq!(same, (Answer::Found(known.clone(), None), 2), "its texts, and the end");
    let mut words = chain("18", &[(101, 50)]);
    words.extend(END);
    let (other, _) = ask(Survey::again(None, 125, known.clone()), &Registers::new(0, words));
    let Answer::Found(map, None) = other else { panic!("{other:?}") };
    assert_eq!((map.base, map.text("SN")), (0, Some("18")));
    let mut longer = chain("17", &[(103, 50), (203, 105)]);
    longer.extend(END);
    let (more, _) = ask(Survey::again(None, 125, known.clone()), &Registers::new(40_000, longer));
    let expected = self::map(40_000, &[(1, 66), (103, 50), (203, 105)]);
    assert_eq!(more, Answer::Found(expected, None), "a model was put behind the last one");
    let bare = Map { identity: Vec::new(), models: vec![(103, 50)], ends: false, ..known };
    let same =
        ask(Survey::again(None, 125, bare.clone()), &Registers::new(40_000, [0x5375, 0x6E53]));
    assert_eq!(same, (Answer::Found(bare, None), 1), "without texts its place is all there is");
}

#[test]
fn a_value_and_its_factor_are_one_place_wherever_that_fits() {
    let found = wanted("models = [103, \"mppt\"]\npoints = [\"W\", \"A\", \"DCW\"]")
        .find(&map(40_000, &[(1, 66), (103, 50), (160, 8 + 40)]));
    let names: Vec<&str> = found.signals.iter().take(found.fields).map(|s| &*s.name).collect();
    let expected =
        ["inverter_A", "inverter_W", "inverter_DCW", "mppt_module_1_DCW", "mppt_module_2_DCW"];
    assert_eq!(names, expected);
    let places: Vec<_> = found.spans.iter().map(|span| (span.address, span.width)).collect();
    // The header of 103 is at 40070, and that of 160 at 40122.
    let values = [(40_072, 5), (40_084, 2), (40_101, 2), (40_126, 18), (40_126, 38)];
    assert_eq!(places[..5], values);
    assert_eq!(places[5..], [(40_070, 2), (40_122, 2)]);
    let header = |signal, expected, fields| Header { signal, expected, fields };
    assert_eq!(found.headers, [header(5, 0x0067_0032, 0..3), header(6, 0x00A0_0030, 3..5)]);
    assert_eq!(found.signals[0].factor, Some(Factor::Beside(4)));
    assert_eq!((found.signals[4].skip, found.signals[4].factor), (37, Some(Factor::Beside(0))));
}

#[test]
fn a_factor_that_lies_too_far_is_a_signal_of_its_own() {
    let wanted = Wanted::new(&config("models = [160]\npoints = [\"DCA\", \"DCV\"]"), 20);
    let found = wanted.find(&map(0, &[(160, 8 + 40)]));
    let far: Vec<_> = found.signals.iter().map(|signal| signal.factor).collect();
    let beside = |offset| Some(Factor::Beside(offset));
    let of = |index| Some(Factor::Signal(index));
    assert_eq!(far, [beside(0), beside(0), of(4), of(5), None, None, None]);
    assert_eq!((found.spans[4].address, found.spans[5].address), (4, 5));
}

#[test]
fn a_header_that_is_none_lays_out_no_end_of_values() {
    let found = wanted("").find(&map(0, &[(160, 65_008)]));
    assert_eq!(found.signals.len(), 0);
    let Word::Fault(said) = found.word(&map(0, &[(160, 65_008)]), None) else {
        panic!("{found:?}")
    };
    assert!(said.contains("passed over: 160 (of too many values, in 65008 registers)"), "{said}");
}

#[test]
fn a_value_whose_factor_stands_nowhere_is_not_read() {
    let mut model = model::parse("model 7 pump\nW u16 W_SF\nV u16 V_SF\nV_SF sf").unwrap();
    let mut wanted = wanted("");
    wanted.define(model.remove(0));
    let found = wanted.find(&map(0, &[(7, 3)]));
    let names: Vec<&str> = found.signals.iter().take(found.fields).map(|s| &*s.name).collect();
    assert_eq!(names, ["pump_V"]);
}

#[test]
fn a_point_that_is_never_read_is_a_mistake() {
    let wrong = |points: &str| {
        let mut wrong = Mistakes::default();
        config::<Config>(&format!("points = [\"W\", {points}]")).check("sunspec", &mut wrong);
        wrong.told().len()
    };
    assert_eq!((wrong("\"SN\""), wrong("\"DA\""), wrong("\"X\"")), (0, 1, 1));
}

#[test]
fn a_model_of_the_users_own_goes_before_one_of_the_same_number() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.json");
    let text = r#"{ "group": { "name": "pump", "points": [{ "value": 103 }, {},
      { "name": "Flow", "type": "uint16", "size": 1 }] } }"#;
    std::fs::write(&file, text).unwrap();
    let text = format!("models = [103]\ndefinitions = [\"{}\"]", file.display());
    let mut wrong = Mistakes::default();
    config::<Config>(&text).check("sunspec", &mut wrong);
    assert_eq!(wrong.told(), []);
    let found = wanted(&text).find(&map(40_000, &[(1, 66), (103, 1)]));
    assert_eq!((&*found.signals[0].name, found.spans[0].address), ("pump_Flow", 40_072));
    std::fs::remove_file(file).unwrap();
    let mut wrong = Mistakes::default();
    config::<Config>(&text).check("sunspec", &mut wrong);
    assert_eq!(wrong.told()[0].0, "sunspec.definitions[0]");
}

#[test]
fn two_models_of_a_kind_are_told_apart_and_what_is_not_known_is_passed_over() {
    let models =
        [(1, 66), (103, 50), (1, 66), (203, 105), (1, 66), (203, 105), (64_001, 9), (704, 3)];
    let device = map(40_000, &models);
    let found = wanted("points = [\"W\", \"SN\"]").find(&device);
    let names: Vec<&str> = found.signals.iter().take(found.fields).map(|s| &*s.name).collect();
    assert_eq!(names, ["inverter_W", "meter_W", "meter_2_W"]);
    assert_eq!(found.texts, [("common_SN".into(), "17".into())]);
    let said = "the device is ACME X, serial number 17, its map begins at holding 40000; models \
                read: 1, 103, 203, 203; models passed over: 64001, 704 (of a length that is not \
                known, 3)";
    assert_eq!(found.word(&device, None), Word::Note(said.to_owned()));
    let none = wanted("models = [701]").find(&device);
    let Word::Fault(said) = none.word(&device, None) else { panic!("nothing is read") };
    assert!(
        said.ends_with("nothing is left to read of its models 1, 103, 1, 203, 1, 203, 64001, 704")
    );
}

/// Answers all questions until there are none, as if the gateway said nothing of what the
/// device does not have; gives what was asked, and what came of it.
fn look(sunspec: &mut Sunspec, device: &Registers, now: Instant) -> (Vec<u16>, Option<Step>) {
    let mut asked = Vec::new();
    while let Some(question) = sunspec.question() {
        asked.push(question.address);
        let step = match device.read(question) {
            Some(words) => sunspec.answered(Some(&words), now),
            None => sunspec.unheard(SILENCES, now),
        };
        if !matches!(step, Some(Step::Ask(_))) {
            return (asked, step);
        }
    }
    (asked, None)
}

fn sunspec(text: &str) -> Sunspec {
    let bus: crate::source::modbus::Config = config(
        "name = \"bus\"\nstream = \"plant\"\naddress = \"plc\"\n\
         device = [{ name = \"roof\", unit = 1, group = [] }]",
    );
    Sunspec::new(&config(text), &Limits::new(&bus, &bus.devices[0]))
}

#[test]
fn a_device_that_says_nothing_behind_its_last_model_is_read_as_far_as_it_answers() {
    let (mut sunspec, mut now) = (sunspec(""), Instant::now());
    let device = Registers::new(40_000, chain("17", &[(103, 50)]));
    let (asked, step) = look(&mut sunspec, &device, now);
    assert!(step.is_none() && asked.ends_with(&[40_122]), "once may be chance: {asked:?}");
    sunspec.doubt();
    assert_eq!(sunspec.begin(now).map(|span| span.address), Some(40_000), "it may be another");
    let (_, step) = look(&mut sunspec, &device, now);
    assert!(matches!(step, Some(Step::Read(found)) if found.fields > 30));
    let Some(Word::Note(said)) = sunspec.take_word() else { panic!("nothing is said") };
    assert!(said.ends_with("its list of models breaks off: holding 40122 is refused"), "{said}");
    // Where it broke off before, nothing is waited for.
    for rest in [1, 2, 4, 8, 16, 32, 60, 60].map(Duration::from_mins) {
        sunspec.settled(now + rest - Duration::from_secs(1));
        assert_eq!(sunspec.begin(now + rest - Duration::from_millis(1)), None);
        now += rest;
        assert!(sunspec.begin(now).is_some());
        let (_, step) = look(&mut sunspec, &device, now);
        assert!(matches!(step, Some(Step::Read(_))));
    }
    assert_eq!(sunspec.take_word(), None, "it is said once");
}

#[test]
fn what_was_short_once_is_read_again() {
    for (wanted, first) in [("", &[(103, 50)]), ("models = [203]", &[(103, 50)])] {
        let (mut sunspec, now) = (sunspec(wanted), Instant::now());
        let mut words = chain("17", first);
        if !wanted.is_empty() {
            words.extend(END);
        }
        look(&mut sunspec, &Registers::new(40_000, words.clone()), now);
        sunspec.doubt();
        sunspec.begin(now);
        look(&mut sunspec, &Registers::new(40_000, words), now);
        assert!(!sunspec.is_surveying());
        let mut words = chain("17", &[(103, 50), (203, 105)]);
        words.extend(END);
        assert!(sunspec.begin(now + Duration::from_mins(1)).is_some());
        let (_, step) = look(&mut sunspec, &Registers::new(40_000, words), now);
        assert!(matches!(step, Some(Step::Read(found)) if found.fields > 50), "{wanted}");
        assert_eq!(sunspec.map().unwrap().models.len(), 3);
        assert!(sunspec.unsaved && sunspec.map().unwrap().ends);
    }
}

#[test]
fn what_is_whole_is_compared_each_hour_and_when_it_was_not_read_for_a_minute() {
    let (mut sunspec, now) = (sunspec(""), Instant::now());
    let mut words = chain("17", &[(103, 50)]);
    words.extend(END);
    let device = Registers::new(40_000, words);
    look(&mut sunspec, &device, now);
    assert_eq!(sunspec.begin(now + Duration::from_secs(59)), None);
    let later = now + Duration::from_hours(1);
    sunspec.settled(later - Duration::from_secs(1));
    assert_eq!(sunspec.begin(later - Duration::from_millis(1)), None);
    assert!(sunspec.begin(later).is_some());
    assert_eq!(look(&mut sunspec, &device, later).0, [40_004, 40_122]);
    assert_eq!(sunspec.begin(later + Duration::from_secs(59)), None);
    assert!(sunspec.begin(later + Duration::from_mins(1)).is_some(), "a device read seldom");
}

#[test]
fn where_a_device_says_nothing_of_the_first_places_the_others_are_asked() {
    let (mut sunspec, now) = (sunspec(""), Instant::now());
    let mut words = chain("17", &[(103, 50)]);
    words.extend(END);
    let device = Registers::new(0, words);
    let mut begun = Vec::new();
    while begun.len() < 9 {
        let (asked, step) = look(&mut sunspec, &device, now);
        begun.push(asked[0]);
        if matches!(step, Some(Step::Read(_))) {
            break;
        }
        sunspec.doubt();
        sunspec.begin(now);
    }
    assert_eq!(begun, [40_000, 40_000, 50_000, 50_000, 0]);
    // One that is switched off is asked at each of them in turn, and that is said once.
    let (mut sunspec, nothing) = (self::sunspec(""), Registers::new(0, []));
    let mut said = Vec::new();
    for at in [40_000, 40_000, 50_000, 50_000, 0, 0, 40_000] {
        assert_eq!(look(&mut sunspec, &nothing, now).0, [at]);
        sunspec.doubt();
        sunspec.begin(now);
        said.extend(sunspec.take_word());
    }
    assert_eq!(said, [Word::Note(UNHEARD.to_owned())]);
    let mut known = self::sunspec("base = 7");
    for _ in 0..9 {
        assert_eq!(look(&mut known, &nothing, now).0, [7], "it is where it is said to be");
        known.begin(now);
    }
}

proptest! {
    #[test]
    fn whatever_a_device_answers_the_search_ends_and_what_is_laid_out_lies_in_it(
        words in prop::collection::vec(prop_oneof![any::<u16>(), 0_u16..200], 0..300),
        most in 1_u16..=125,
        ids in prop::collection::vec((prop_oneof![any::<u16>(), 101_u16..104, 701_u16..715], 1_u16..200), 0..9),
        known in any::<bool>(),
    ) {
        let mut all = chain("17", &ids);
        all.extend(&words);
        let survey = if known {
            Survey::again(None, most, map(40_000, &[(1, 66)]))
        } else {
            Survey::new(None, most)
        };
        let (step, _) = ask(survey, &Registers::new(40_000, all));
        if let Answer::Found(map, _) = step {
            let found = Wanted::new(&Config::default(), most).find(&map);
            prop_assert_eq!(found.signals.len(), found.spans.len());
            for (signal, span) in found.signals.iter().zip(&found.spans) {
                prop_assert!(span.address >= map.base && span.end() <= 0x1_0000);
                prop_assert!(span.width <= most.max(2));
                prop_assert!(signal.skip + signal.decoder.width() <= span.width);
            }
        }
    }
}
