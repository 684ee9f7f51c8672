//! What registers mean: numbers of manuals, markers, names of values and bits.

use super::*;

/// The source that reads these signals in one group.
fn reading(signals: &str) -> Config {
    let text = format!(
        r#"
        name = "bus"
        stream = "plant"
        address = "plc"
        [[device]]
        name = "boiler"
        [[device.group]]
        interval = "1 s"
        signals = [{signals}]
        "#
    );
    parse(&text).unwrap()
}

/// The mistakes of these signals.
fn told(signals: &str) -> Vec<String> {
    let wrong = reading(signals).check().into_iter();
    wrong
        .map(|(key, what)| {
            let key = key.strip_prefix("device[0].group[0].signals").unwrap();
            format!("{key} {what}")
        })
        .collect()
}

#[track_caller]
fn check(keys: &str, expected: &[&str]) {
    let signal = format!("{{ name = \"a\", table = \"holding\", address = 0, {keys} }}");
    let told = told(&signal);
    let told: Vec<&str> = told.iter().map(|what| what.strip_prefix("[0].").unwrap()).collect();
    assert_eq!(told, expected, "{keys}");
}

#[track_caller]
fn check_place(keys: &str, expected: &[&str]) {
    let told = told(&format!("{{ name = \"a\", {keys} }}"));
    let told: Vec<&str> = told.iter().map(|what| what.strip_prefix("[0].").unwrap()).collect();
    assert_eq!(told, expected, "{keys}");
}

/// A group of these signals, read once from registers that hold `words`; the
/// one request that is sent, and the event.
async fn read(signals: &str, words: &[u16]) -> (Asked, Event) {
    let (listener, address) = listen().await;
    let devices = format!(
        "device = [{{ name = \"boiler\", group = [{{ interval = \"20 ms\", signals = [{signals}] \
         }}] }}]"
    );
    let (mut bench, mut commits) = bench(&address, &devices);
    let script = async {
        let mut wire = Wire::accept(&listener).await;
        let asked = wire.asked().await;
        let mut pdu = vec![asked.function, u8::try_from(words.len() * 2).unwrap()];
        pdu.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        wire.frame(asked.transaction, asked.unit, &pdu).await;
        (asked, commits.event().await)
    };
    let (end, result) = bench.run(script).await;
    assert!(end.is_ok());
    result
}

fn text(text: &str) -> Value {
    Value::Text(Arc::from(text))
}

#[tokio::test]
async fn one_read_of_a_register_gives_the_number_its_name_and_its_bits() {
    let signals = r#"
        { name = "status", register = 40108, bits = { 9 = "door_open", 0 = "hot", "0xF" = "on" } },
        { name = "status", table = "holding", address = 107 },
        { name = "state", register = 40108, values = { 0x8001 = "heating" } },
        { name = "energy", register = 400109, type = "bcd32", order = "cdab", scale = 0.1 },
    "#;
    let (asked, event) = read(signals, &[0x8001, 0x4567, 0x0123]).await;
    assert_eq!((asked.function, asked.address, asked.count), (3, 107, 3));
    let expected = [
        ("status_hot", Value::Bool(true), None),
        ("status_door_open", Value::Bool(false), None),
        ("status_on", Value::Bool(true), None),
        ("status", Value::U64(0x8001), None),
        ("state", text("heating"), None),
        ("energy", Value::F64(123_456.7), None),
    ];
    assert_eq!(fields(&event), expected);
    assert_eq!(event.quality, Quality::Good);
}

#[tokio::test]
async fn what_a_device_marks_as_not_there_is_null_like_an_address_that_it_refuses() {
    let signals = r#"
        { name = "temp", register = 30001, type = "i16", invalid = -32768, scale = 0.1 },
        { name = "power", register = 30002, invalid = [0xFFFF, 0xFFFE] },
        { name = "alarm", register = 30002, invalid = 0xFFFE, bits = { 0 = "a", 1 = "b" } },
        { name = "state", register = 30003, invalid = 0xFFFF, values = { 0 = "off" } },
        { name = "count", register = 30004, type = "bcd16", invalid = 0xFFFF },
        { name = "total", register = 30005, type = "bcd16", invalid = 0xFFFF },
        { name = "flow", register = 30006, type = "f32", invalid = 0xFF7FFFFF },
        { name = "level", register = 30008, type = "u64", invalid = -1 },
    "#;
    let words = [0x8000, 0xFFFE, 7, 0xFFFF, 0xFFFE, 0xFF7F, 0xFFFF];
    let (asked, event) = read(signals, &[&words[..], &[0xFFFF; 4]].concat()).await;
    assert_eq!((asked.function, asked.address, asked.count), (4, 0, 11));
    let absent = Some(Quality::BadAddress);
    let expected = [
        ("temp", Value::Null, absent),
        ("power", Value::Null, absent),
        ("alarm_a", Value::Null, absent),
        ("alarm_b", Value::Null, absent),
        ("state", text("7"), None),
        ("count", Value::Null, absent),
        ("total", Value::Null, Some(Quality::BadPayload)),
        ("flow", Value::Null, absent),
        ("level", Value::Null, absent),
    ];
    assert_eq!(fields(&event), expected);
}

#[test]
fn a_place_is_said_in_one_of_two_ways() {
    for right in [
        "table = \"coil\", address = 9999",
        "register = 1",
        "register = 10001",
        "register = 30001",
        "register = 40001",
        "register = 465536",
        // Somebody may mean the address 40001, as SunSpec does.
        "table = \"holding\", address = 40001",
    ] {
        check_place(right, &[]);
    }
    check_place(
        "type = \"u16\"",
        &["address is missing: `table` and `address`, from 0, or instead of both `register` as \
           in a manual (40001 is holding 0)"],
    );
    check_place(
        "table = \"input\"",
        &["address is missing: from 0; or instead of both keys `register` as in a manual \
           (`register = 30001` is input 0)"],
    );
    check_place(
        "address = 107",
        &["table is missing: `coil`, `discrete`, `input` or `holding`; or instead of both keys \
           `register` as in a manual (`register = 40108` is holding 107)"],
    );
    let both = "register 40108 says `table = \"holding\"` and `address = 107` already: leave \
                these two out, or this";
    check_place("register = 40108, table = \"holding\", address = 107", &[both]);
    check_place("register = 40108, address = 40108", &[both]);
    let none = "is no manual's number: 1 to 9999 are coils, 10001 to 19999 discrete inputs, \
                30001 to 39999 input and 40001 to 49999 holding registers, and with six digits \
                100001 to 165536, 300001 to 365536 and 400001 to 465536; or give `table` and \
                `address`, from 0";
    check_place("register = 40000", &[&format!("register 40000 {none}")]);
    check_place("register = 0, table = \"coil\"", &[&format!("register 0 {none}")]);
    check_place(
        "register = 465536, type = \"f32\"",
        &["register 65535 and 2 registers go beyond 65535"],
    );
    check_place(
        "register = 7, type = \"u16\"",
        &["type `u16` does not fit table `coil`: use `bool`"],
    );
    check_place(
        "register = 10007, order = \"badc\"",
        &["order has no meaning in table `discrete`"],
    );
}

#[test]
fn coils_and_registers_have_their_types_by_either_way() {
    let kinds = |signals: &str| {
        let config = reading(signals);
        let signals = config.devices[0].groups[0].signals.iter();
        signals.map(|signal| (signal.place().unwrap(), signal.kind())).collect::<Vec<_>>()
    };
    let numbered = r#"
        { name = "a", register = 1 }, { name = "b", register = 10008 },
        { name = "c", register = 30001 }, { name = "d", register = 40001 },
    "#;
    let said = r#"
        { name = "a", table = "coil", address = 0 },
        { name = "b", table = "discrete", address = 7 },
        { name = "c", table = "input", address = 0 },
        { name = "d", table = "holding", address = 0 },
    "#;
    let expected = [
        ((Table::Coil, 0), Type::Bool),
        ((Table::Discrete, 7), Type::Bool),
        ((Table::Input, 0), Type::U16),
        ((Table::Holding, 0), Type::U16),
    ];
    assert_eq!(kinds(numbered), expected);
    assert_eq!(kinds(said), expected);
}

#[test]
fn markers_that_cannot_come_are_told() {
    check("invalid = [0x8000, -1, 65535]", &[]);
    check("type = \"u64\", invalid = -1", &[]);
    check("type = \"i8\", invalid = [-128, 255]", &[]);
    check("type = \"bit\", bit = 3, invalid = 0xFFFF", &[]);
    check("invalid = 65536", &["invalid 65536 does not fit the 16 bits of `u16`"]);
    check("invalid = [0, -32769]", &["invalid -32769 does not fit the 16 bits of `u16`"]);
    check("type = \"i8\", invalid = 256", &["invalid 256 does not fit the 8 bits of `i8`"]);
    check("invalid = []", &["invalid is empty: name a raw value, as in 0x8000, or leave it out"]);
    check(
        "type = \"string\", length = 2, invalid = 0",
        &["invalid has no meaning for type `string`"],
    );
    assert_eq!(
        told("{ name = \"a\", register = 1, invalid = 0 }"),
        ["[0].invalid has no meaning for type `bool`"]
    );
}

#[test]
fn a_floats_marker_is_its_bits_and_not_its_number() {
    for right in ["0", "-1", "0x7FC00000", "0xC61C3C00", "0xFF7FFFFF"] {
        check(&format!("type = \"f32\", invalid = {right}"), &[]);
    }
    check("type = \"f64\", invalid = [0x7FF8000000000000, -4556649414143246336]", &[]);
    let taken = "is taken as bits: write those of the number";
    check(
        "type = \"f32\", invalid = [-9999, 9999]",
        &[
            &format!("invalid -9999 {taken} -9999, 0xC61C3C00"),
            &format!("invalid 9999 {taken} 9999, 0x461C3C00"),
        ],
    );
    let bits = (-9999_f64).to_bits().cast_signed();
    check("type = \"f64\", invalid = -9999", &[&format!("invalid -9999 {taken} -9999, {bits}")]);
    check("type = \"f16\", invalid = -999", &[&format!("invalid -999 {taken} -999")]);
}

#[test]
fn names_of_values_that_cannot_be_are_told() {
    check("values = { 0 = \"off\", 0x1F = \"on\" }", &[]);
    check("type = \"i16\", values = { -1 = \"lost\" }", &[]);
    check("type = \"u64\", values = { 18446744073709551615 = \"lost\" }", &[]);
    check("values = { 5 = \"5\" }", &[]);
    let no = "is no whole number: write it as `values = { 0 = \"off\", 1 = \"heating\" }`";
    for key in ["off", "\"+1\"", "\"-\"", "\"\"", "\"0x\"", "\"1.5\"", "\"- 1\"", "1f"] {
        let bare = key.trim_matches('"');
        check(&format!("values = {{ {key} = \"a\" }}"), &[&format!("values `{bare}` {no}")]);
    }
    check("values = { off = \"0\" }", &[&format!("values `off` {no}")]);
    check("values = { -1 = \"lost\" }", &["values -1 is not within 0 to 65535"]);
    check(
        "type = \"bcd16\", values = { 10000 = \"a\" }",
        &["values 10000 is not within 0 to 9999"],
    );
    check("values = { 01 = \"a\", 1 = \"b\" }", &["values 1 has a name already"]);
    check("values = { 3 = \"\" }", &["values the name of 3 is empty"]);
    check("values = { 3 = \"7\" }", &["values `7` is what 7 without a name is: give 3 a word"]);
    check(
        "type = \"f32\", values = { 0 = \"off\" }",
        &["values names whole numbers, which type `f32` is not"],
    );
    let text = "has no meaning beside `values`, which makes text of the number";
    check(
        "values = { 0 = \"off\" }, scale = 0.1, offset = 1.0, unit = \"°C\"",
        &[&format!("scale {text}"), &format!("offset {text}"), &format!("unit {text}")],
    );
}

#[test]
fn names_of_bits_that_cannot_be_are_told() {
    check("bits = { 0 = \"hot\", 15 = \"open\" }", &[]);
    check("type = \"u32\", bits = { 31 = \"hot\" }", &[]);
    check("bits = { 16 = \"hot\" }", &["bits 16 is not within 0 to 15"]);
    check("type = \"u8\", bits = { 8 = \"hot\" }", &["bits 8 is not within 0 to 7"]);
    check(
        "bits = { hot = \"0\" }",
        &["bits `hot` is no whole number: write it as `bits = { 0 = \"overtemperature\", 3 = \
           \"door_open\" }`"],
    );
    check(
        "type = \"i16\", bits = { 0 = \"hot\" }",
        &["bits names bits of a register, of type `u8`, `u16`, `u32` or `u64`: `i16` is none"],
    );
    check(
        "bits = { 0 = \"hot\" }, values = { 0 = \"off\" }",
        &["bits cannot stand beside `values`: read it as two signals"],
    );
    let apart = "has no meaning beside `bits`, which takes the number apart";
    check(
        "bits = { 0 = \"hot\" }, scale = 0.1, unit = \"°C\"",
        &[&format!("scale {apart}"), &format!("unit {apart}")],
    );
}

#[test]
fn the_field_of_a_bit_is_no_other_field_of_its_group() {
    let signals = |other: &str| {
        told(&format!(
            "{{ name = \"a\", register = 40001, bits = {{ 0 = \"hot\", 1 = \"open\" }} }}, {other}"
        ))
    };
    let none: [&str; 0] = [];
    assert_eq!(signals("{ name = \"a\", register = 40001 }"), none);
    assert_eq!(signals("{ name = \"a\", register = 40002, bits = { 0 = \"on\" } }"), none);
    assert_eq!(
        signals("{ name = \"a_open\", register = 40002 }"),
        ["[1].name `a_open` is already a field of this group"]
    );
    assert_eq!(
        signals("{ name = \"a\", register = 40002, bits = { 7 = \"hot\", 8 = \"hot\" } }"),
        [
            "[1].bits `a_hot` is already a field of this group",
            "[1].bits `a_hot` is already a field of this group"
        ]
    );
}

#[test]
fn a_change_of_any_of_these_keys_is_a_change_of_the_source() {
    let told = |keys: &str| {
        let config = reading(&format!("{{ name = \"a\", register = 40001, {keys} }}"));
        // What a reload compares.
        serde_json::to_string(&config).unwrap()
    };
    let all = [
        "",
        "invalid = 1",
        "invalid = 2",
        "values = { 0 = \"off\" }",
        "values = { 1 = \"off\" }",
        "values = { 0 = \"on\" }",
        "bits = { 0 = \"off\" }",
        "bits = { 1 = \"off\" }",
    ];
    let different: std::collections::BTreeSet<String> = all.iter().map(|keys| told(keys)).collect();
    assert_eq!(different.len(), all.len());
    assert_eq!(told("invalid = 1"), told("invalid = [1]"));
}
