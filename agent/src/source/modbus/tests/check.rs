//! What the configuration takes and what it says to mistakes.

use super::*;

#[test]
fn a_short_configuration_is_filled_with_the_defaults() {
    let config = parse(
        r#"
        name = "bus"
        stream = "plant"
        address = "10.0.0.5"
        [[device]]
        name = "boiler"
        [[device.group]]
        interval = "1 s"
        signals = [{ name = "a", table = "holding", address = 0 }]
        "#,
    )
    .unwrap();
    assert_eq!(config.check(), []);
    assert_eq!(config.timeout, crate::units::Period::from_secs(1));
    let device = &config.devices[0];
    assert_eq!((device.unit, device.max_registers, device.max_bits), (1, 125, 2000));
    assert_eq!((device.max_hole, device.order), (None, Order::Abcd));
    assert_eq!(device.groups[0].signals[0].kind(), Type::U16);
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let config = parse(
        r#"
        name = ""
        stream = ""
        address = "10.0.0.5:port"
        timeout = "0 s"
        [[device]]
        name = "boiler"
        max_registers = 126
        max_bits = 0
        latency = "1 ms"
        group = []
        [[device]]
        name = "boiler"
        max_registers = 3
        [[device.group]]
        name = "g"
        interval = "0 s"
        stream = ""
        signals = []
        [[device.group]]
        name = "g"
        interval = "1 s"
        signals = [
          { name = "a", table = "holding", address = 65535, type = "u32" },
          { name = "a", table = "coil", address = 0, type = "i16", order = "abcd" },
          { name = "", table = "input", address = 0, type = "bool", scale = 2.0 },
          { name = "d", table = "input", address = 0, type = "bit" },
          { name = "e", table = "input", address = 0, type = "bit", bit = 16 },
          { name = "f", table = "input", address = 0, type = "string" },
          { name = "g", table = "input", address = 0, type = "string", length = 0 },
          { name = "h", table = "input", address = 0, type = "string", length = 4 },
          { name = "i", table = "input", address = 0, type = "u64", bit = 1, length = 1 },
          { name = "j", table = "input", address = 0, type = "u16", scale = 0.0, offset = inf },
        ]
        "#,
    )
    .unwrap();
    let told: Vec<String> =
        config.check().iter().map(|(key, what)| format!("{key} {what}")).collect();
    let signals = "device[1].group[1].signals";
    let expected = [
        "name is empty: give the source a name".to_owned(),
        "stream is empty: name the stream of the events".to_owned(),
        "address `10.0.0.5:port` is not a host and a port: write it as \"10.0.0.5:502\", \
         \"plc.local\" or \"[fe80::1]:502\""
            .to_owned(),
        "timeout is zero: at least 1 ms".to_owned(),
        "device[0].latency is not below `timeout`, after which no answer is waited for".to_owned(),
        "device[0].max_registers 126 is not within 1 to 125".to_owned(),
        "device[0].max_bits 0 is not within 1 to 2000".to_owned(),
        "device[0].group is empty: add a [[source.device.group]]".to_owned(),
        "device[1].name `boiler` is already a device of this source".to_owned(),
        "device[1].group[0].interval is zero: at least 1 ms".to_owned(),
        "device[1].group[0].stream is empty: name a stream or leave the key out".to_owned(),
        "device[1].group[0].signals is empty: name what is to be read".to_owned(),
        "device[1].group[1].name `g` is already a group of this device".to_owned(),
        format!("{signals}[0].address 65535 and 2 registers go beyond 65535"),
        format!("{signals}[1].name `a` is already a field of this group"),
        format!("{signals}[1].type `i16` does not fit table `coil`: use `bool`"),
        format!("{signals}[1].order has no meaning in table `coil`"),
        format!("{signals}[2].name is empty: give the signal a name"),
        format!("{signals}[2].type `bool` does not fit table `input`: use `bit` with `bit = 0`"),
        format!("{signals}[2].scale has no meaning for type `bool`"),
        format!("{signals}[3].bit is missing: 0 (lowest) to 15"),
        format!("{signals}[4].bit 16 is not within 0 to 15"),
        format!("{signals}[5].length is missing: the length in registers"),
        format!("{signals}[6].length is zero: at least 1"),
        format!("{signals}[7].length takes 4 registers, the device gives at most 3 at once"),
        format!("{signals}[8].bit is only for `type = \"bit\"`"),
        format!("{signals}[8].length is only for `type = \"string\"`"),
        format!("{signals}[8].length takes 4 registers, the device gives at most 3 at once"),
        format!("{signals}[9].offset inf is not a finite number"),
        format!("{signals}[9].scale is zero: every value would be the offset"),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_group_without_a_name_is_called_by_its_place_which_no_other_is() {
    let config = parse(
        r#"
        name = "bus"
        stream = "plant"
        address = "10.0.0.5"
        [[device]]
        name = "boiler"
        [[device.group]]
        name = "1"
        interval = "1 s"
        signals = [{ name = "a", table = "holding", address = 0 }]
        [[device.group]]
        interval = "1 s"
        signals = [{ name = "b", table = "holding", address = 1 }]
        "#,
    );
    let told = config.unwrap().check();
    let at = "device[0].group[1].name".to_owned();
    assert_eq!(told, [(at, "`1` is already a group of this device".to_owned())]);
}

#[test]
fn an_unknown_key_is_refused() {
    let error = parse("name = \"a\"\nstream = \"s\"\naddress = \"b\"\nintervall = 1\ndevice = []");
    assert!(error.unwrap_err().to_string().contains("unknown field `intervall`"));
}

#[test]
fn addresses_have_port_502_unless_they_name_one() {
    let endpoint = |text: &str| config::endpoint(text).ok();
    let is = |host: &str, port| Some((host.to_owned(), port));
    assert_eq!(endpoint("plc.local"), is("plc.local", 502));
    assert_eq!(endpoint("10.0.0.5:1502"), is("10.0.0.5", 1502));
    assert_eq!(endpoint("[fe80::1]:1502"), is("fe80::1", 1502));
    assert_eq!(endpoint("[fe80::1]"), is("fe80::1", 502));
    assert_eq!(endpoint("fe80::1"), is("fe80::1", 502));
    for wrong in ["", ":502", "a:", "a:0", "a:70000", "a b", "[fe80::1", "[fe80::1]502"] {
        assert_eq!(endpoint(wrong), None, "{wrong}");
    }
}

/// The mistakes of a source with these keys.
fn told(keys: &str) -> Vec<String> {
    let text = format!(
        r#"
        name = "bus"
        stream = "plant"
        {keys}
        [[device]]
        name = "boiler"
        [[device.group]]
        interval = "1 s"
        signals = [{{ name = "a", table = "holding", address = 0 }}]
        "#
    );
    parse(&text).unwrap().check().iter().map(|(key, what)| format!("{key} {what}")).collect()
}

#[test]
fn a_path_is_a_serial_port_with_the_specifications_defaults() {
    let config = |keys: &str| {
        let text = format!("name = \"bus\"\nstream = \"plant\"\ndevice = []\n{keys}");
        parse(&text).unwrap()
    };
    let plain = config("address = \"/dev/ttyS1\"");
    assert_eq!(plain.framing(), Framing::Rtu);
    assert!(plain.ports().eq([("address", "/dev/ttyS1")]));
    let serial = plain.serial.unwrap_or_default();
    assert_eq!((serial.baud, serial.parity), (19_200, Parity::Even));
    let (rtu, ascii) = (serial.setting(Framing::Rtu), serial.setting(Framing::Ascii));
    assert_eq!((rtu.data_bits, rtu.stop_bits), (8, 1));
    assert_eq!((rtu.bits(), ascii.bits()), (11, 10));
    let bare = Serial { parity: Parity::None, ..serial };
    let bare = bare.setting(Framing::Rtu);
    assert_eq!((bare.stop_bits, bare.bits()), (2, 11));
    assert_eq!((config("address = \"plc\"").framing(), plain.serial), (Framing::Tcp, None));
}

#[test]
fn what_does_not_go_together_on_a_line_is_told() {
    let none: [&str; 0] = [];
    assert_eq!(told("address = \"/dev/ttyS1\"\nframing = \"ascii\""), none);
    assert_eq!(told("address = \"10.0.0.5:4001\"\nframing = \"rtu\""), none);
    assert_eq!(told("address = \"[fe80::1]:4001\"\nframing = \"rtu\""), none);
    let seven = "serial = { data_bits = 7 }";
    assert_eq!(told(&format!("address = \"/dev/ttyS1\"\nframing = \"ascii\"\n{seven}")), none);
    for (keys, expected) in [
        (
            "address = \"/dev/ttyS1\"\nframing = \"tcp\"",
            "framing `tcp` is not spoken on a serial port: `rtu` or `ascii`",
        ),
        (
            "address = \"10.0.0.5\"\nserial = { baud = 9600 }",
            "serial is for a serial port, and `10.0.0.5` is a host: leave it out, or give the \
             port's path as `address`",
        ),
        (
            "address = \"10.0.0.5\"\nframing = \"rtu\"",
            "address `10.0.0.5` names no port, and only Modbus TCP has one of its own: add it, \
             as in \"10.0.0.5:4001\"",
        ),
        (
            "address = \"dev/ttyS1\"",
            "address `dev/ttyS1` is not the whole path of a serial port: write it as \
             \"/dev/serial/by-id/…\" or \"/dev/ttyS1\"",
        ),
        (
            "address = \"/dev/ttyS1\"\nserial = { data_bits = 7 }",
            "serial.data_bits 7 does not fit framing `rtu`, whose bytes have 8 bits: 8, or \
             `ascii`",
        ),
        (
            "address = \"/dev/ttyS1\"\nserial = { data_bits = 9 }",
            "serial.data_bits 9 is neither 7 nor 8",
        ),
        (
            "address = \"/dev/ttyS1\"\nserial = { stop_bits = 0 }",
            "serial.stop_bits 0 is neither 1 nor 2",
        ),
        (
            "address = \"/dev/ttyS1\"\nserial = { baud = 0 }",
            "serial.baud 0 is not within 50 to 4000000",
        ),
    ] {
        assert_eq!(told(keys), [expected], "{keys}");
    }
}

#[test]
fn nobody_asks_all_units_of_a_line_at_once() {
    let text = r#"
        name = "bus"
        stream = "plant"
        address = "/dev/ttyS1"
        [[device]]
        name = "boiler"
        unit = 0
        [[device.group]]
        interval = "1 s"
        signals = [{ name = "a", table = "holding", address = 0 }]
    "#;
    let what = "0 is for all units at once, none of which answers: 1 to 247";
    assert_eq!(parse(text).unwrap().check(), [("device[0].unit".to_owned(), what.to_owned())]);
    assert_eq!(parse(&text.replace("/dev/ttyS1", "plc")).unwrap().check(), []);
}

#[test]
fn a_fallback_is_another_way_of_the_same_kind() {
    let check = |way: &str| {
        let text = format!("name = \"bus\"\nstream = \"plant\"\n{ONE}\n{way}");
        let told = parse(&text).unwrap().check();
        told.into_iter().map(|(key, what)| format!("{key} {what}")).collect::<Vec<_>>()
    };
    for right in [
        "address = \"10.0.0.5\"\nfallback = \"10.0.0.6\"",
        "address = \"10.0.0.5\"\nfallback = \"10.0.0.5:503\"",
        "address = \"/dev/ttyS1\"\nfallback = \"/dev/ttyS2\"",
        "address = \"10.0.0.5:4001\"\nfallback = \"plc.local:4001\"\nframing = \"rtu\"",
    ] {
        assert_eq!(check(right), [""; 0], "{right}");
    }
    let same = "fallback is `address` itself: give the other way to the devices, or leave it out";
    assert_eq!(check("address = \"10.0.0.5\"\nfallback = \"10.0.0.5:502\""), [same]);
    assert_eq!(check("address = \"/dev/ttyS1\"\nfallback = \"/dev/ttyS1\""), [same]);
    let host = "fallback `/dev/ttyS1` is another kind of way than `10.0.0.5`: a second host for a \
                host, a second serial port for a serial port";
    assert_eq!(check("address = \"10.0.0.5\"\nfallback = \"/dev/ttyS1\""), [host]);
    let port = check("address = \"10.0.0.5:4001\"\nfallback = \"10.0.0.6\"\nframing = \"rtu\"");
    assert!(port[0].starts_with("fallback `10.0.0.6` names no port"), "{port:?}");
    let path = check("address = \"/dev/ttyS1\"\nfallback = \"dev/ttyS2\"");
    assert!(path[0].starts_with("fallback `dev/ttyS2` is not the whole path"), "{path:?}");
    let named = "name = \"bus\"\nstream = \"plant\"\naddress = \"10.0.0.5\"\n";
    let named = named.to_owned() + &ONE.replace("boiler", "address");
    assert_eq!(parse(&named).unwrap().check(), [], "nothing else is called so");
    let told = parse(&format!("fallback = \"10.0.0.6\"\n{named}")).unwrap().check();
    assert_eq!(told[0].0, "device[0].name");
    assert!(told[0].1.contains("give the device another name"), "{told:?}");
}

#[test]
fn a_sunspec_group_says_what_is_wrong_with_it() {
    let check = |group: &str| {
        let config = parse(&format!(
            "name = \"bus\"\nstream = \"plant\"\naddress = \"10.0.0.5\"\n\
             device = [{{ name = \"roof\", group = [{group}] }}]"
        ));
        config.unwrap().check()
    };
    let group = |keys: &str| format!("{{ interval = \"1 s\", {keys} }}");
    assert_eq!(check(&group("sunspec = {}")), []);
    let of = |keys: &str| {
        let mut wrong = check(&group(keys));
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        wrong.remove(0)
    };
    let (key, what) = of("sunspec = { models = [103, 9] }");
    assert_eq!(key, "device[0].group[0].sunspec.models[1]");
    assert!(what.starts_with("model 9 is not known here: give its number, or one of DERCapacity"));
    let (_, what) = of("sunspec = { models = [\"invertor\", 103] }");
    assert!(what.starts_with("`invertor` is no model: "), "{what}");
    let (key, what) = of("sunspec = { models = [103], points = [\"W\", \"A_SF\"] }");
    assert_eq!(key, "device[0].group[0].sunspec.points");
    assert_eq!(what, "`A_SF` is no point of these models: names are as in W");
    let (key, _) = of("sunspec = { models = [\"common\"] }");
    assert_eq!(key, "device[0].group[0].sunspec.models");
    let (key, _) = of("sunspec = { base = 65535 }");
    assert_eq!(key, "device[0].group[0].sunspec.base");
    let signals = "signals = [{ name = \"a\", table = \"coil\", address = 0 }]";
    let (key, what) = of(&format!("sunspec = {{}}, {signals}"));
    assert_eq!(
        (key.as_str(), what.as_str()),
        ("device[0].group[0].sunspec", "stands beside `signals`: make two groups of them",)
    );
    let two = [group("name = \"a\", sunspec = { base = 0 }"), group("sunspec = {}")].join(", ");
    let wrong = check(&two);
    assert_eq!(wrong[0].0, "device[0].group");
    let number = parse(
        "name = \"b\"\nstream = \"s\"\naddress = \"h\"\n\
         device = [{ name = \"r\", group = [{ interval = \"1 s\", sunspec = { models = [0] } }] }]",
    );
    assert!(number.unwrap_err().to_string().contains("is not within 1 to 65534"));
}
