//! What is wrong with a configuration is told with its place.

use super::*;

/// The keys that are told, for a source with these.
fn told(keys: &str) -> Vec<String> {
    let text = format!("name = \"line\"\nstream = \"plant\"\n{keys}");
    let config = parse(&text).unwrap_or_else(|error| panic!("{keys}: {error}"));
    config.check().into_iter().map(|(key, _)| key).collect()
}

const PORT: &str = "address = \"/dev/ttyS1\"\n";

#[test]
fn the_least_that_is_said_reads_lines() {
    let config = parse(&format!("name = \"line\"\nstream = \"plant\"\n{PORT}")).unwrap();
    assert_eq!(config.check(), []);
    assert_eq!(config.port(), Some("/dev/ttyS1"));
    let setting = config.serial.unwrap_or_default().setting();
    assert_eq!((setting.baud, setting.data_bits, setting.stop_bits), (9_600, 8, 1));
    assert_eq!(setting.parity, crate::source::port::Parity::None);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (keys, wrong) in [
        ("address = \"10.0.0.7:4001\"", &[][..]),
        ("address = \"10.0.0.7\"", &["address"]),
        ("address = \"tty/S1\"", &["address"]),
        ("address = \"a b:1\"", &["address"]),
        ("address = \"10.0.0.7:4001\"\nserial = {}", &["serial"]),
    ] {
        assert_eq!(told(keys), wrong, "{keys}");
    }
    for (keys, wrong) in [
        (
            "serial = { baud = 1, data_bits = 9, stop_bits = 3 }",
            &["serial.baud", "serial.data_bits", "serial.stop_bits"][..],
        ),
        ("device = \"\"", &["device"]),
        ("timeout = \"0 s\"\nidle = \"0 s\"", &["timeout", "idle"]),
        ("request = \"S\"", &["interval"]),
        ("interval = \"1 s\"", &["interval"]),
        ("request = \"\"\ninterval = \"1 s\"", &["request"]),
        ("request = \"S\"\ninterval = \"0 s\"", &["interval"]),
        ("unmatched = { keep = \"raw\" }", &["unmatched.stream"]),
        ("unmatched = { keep = \"raw\", stream = \"plant\" }", &["unmatched.stream"]),
        ("unmatched = { stream = \"odd\" }", &["unmatched.stream"]),
        ("split = { by = \"delimiter\", end = \"\" }", &["split.end"]),
        ("split = { by = \"delimiter\", max_frame = \"1 MiB\" }", &["split.max_frame"]),
        ("split = { by = \"length\", bytes = 0 }", &["split.bytes"]),
        ("split = { by = \"length\", bytes = 1, start = \"ab\" }", &["split.start"]),
        ("split = { by = \"length\", bytes = 1, pause = \"0 s\" }", &["split.pause"]),
        ("split = { by = \"delimiter\", pause = \"0 s\" }", &["split.pause"]),
        ("split = { by = \"delimiter\", start = \"ab\", max_frame = \"1 B\" }", &["split.start"]),
        ("split = { by = \"length_field\", at = 1, start = \"ab\" }", &["split.at"]),
        ("split = { by = \"length_field\", at = 9, max_frame = \"9 B\" }", &["split.at"]),
        ("split = { by = \"length_field\", at = 0, add = -255 }", &["split.add"]),
        (
            "split = { by = \"length_field\", at = 0, add = 10, max_frame = \"9 B\" }",
            &["split.add"],
        ),
        (
            "split = { by = \"delimiter\", tail = 1 }\nchecksum = { kind = \"crc16_arc\" }",
            &["split.tail"],
        ),
        (
            "split = { by = \"length\", bytes = 4 }\nchecksum = { kind = \"sum8\", from = 3, gap = 1 }",
            &["checksum"],
        ),
        (
            "split = { by = \"length\", bytes = 3 }\nparse = { as = \"binary\", fields = [{ name = \"a\", at = 2, type = \"u16\" }] }",
            &["parse.fields[0].at"],
        ),
        ("request = \"S\"\ninterval = \"10 s\"\nidle = \"9 s\"", &["idle"]),
        ("split = { by = \"length_field\", at = 0, size = 3 }", &["split.size"]),
        ("split = { by = \"silence\", silence = \"1 ms\" }", &["split.silence"]),
        ("parse = { as = \"scalar\", field = \"\" }", &["parse.field"]),
        ("parse = { as = \"pattern\", patterns = [\"x\"] }", &["parse.patterns[0]"]),
        ("parse = { as = \"columns\", fields = [] }", &["parse.fields"]),
        ("parse = { as = \"binary\", fields = [] }", &["parse.fields"]),
        ("parse = { as = \"columns\", header = true }", &["parse.header"]),
        ("parse = { as = \"columns\", rows = true, fields = [{ name = \"a\" }] }", &["parse.rows"]),
        (
            "parse = { as = \"protobuf\", descriptor = \"/nowhere/a.pb\", message = \"a\" }",
            &["parse.descriptor"],
        ),
        ("parse = { as = \"nmea\", sentences = [\"\"] }", &["parse.sentences[0]"]),
    ] {
        assert_eq!(told(&format!("{PORT}{keys}")), wrong, "{keys}");
    }
}

#[test]
fn an_escape_that_is_none_is_refused() {
    let text = format!("name = \"line\"\nstream = \"plant\"\n{PORT}request = '\\q'");
    let error = parse(&text).unwrap_err().to_string();
    assert!(error.contains("begins no escape"), "{error}");
}
