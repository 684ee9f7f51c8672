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
    assert_eq!((device.max_hole, device.order), (16, Order::Abcd));
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
        "device[0].max_registers 126 is not within 1 to 125".to_owned(),
        "device[0].max_bits 0 is not within 1 to 2000".to_owned(),
        "device[0].group is empty: add a [[source.device.group]]".to_owned(),
        "device[1].name `boiler` is already a device of this source".to_owned(),
        "device[1].group[0].interval is zero: at least 1 ms".to_owned(),
        "device[1].group[0].stream is empty: name a stream or leave the key out".to_owned(),
        "device[1].group[0].signals is empty: name what is to be read".to_owned(),
        "device[1].group[1].name `g` is already a group of this device".to_owned(),
        format!("{signals}[0].address 65535 and 2 registers go beyond 65535"),
        format!("{signals}[1].name `a` is already a signal of this group"),
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
