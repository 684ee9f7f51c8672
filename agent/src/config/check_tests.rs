//! Every form that a schema can have, with types that only stand here: the
//! check must not depend on what the configuration happens to hold.

#![expect(dead_code, reason = "the types are only read as schemas")]

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;
use crate::config::Secret;

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Whole {
    #[serde(default, rename = "source")]
    sources: Vec<Source>,
    login: Option<Login>,
    #[serde(default)]
    word: Word,
    #[serde(default)]
    order: Option<Order>,
    #[serde(default)]
    numbers: BTreeMap<String, i32>,
    #[serde(default)]
    pair: Option<(u8, bool)>,
    ratio: Option<f64>,
    on: Option<bool>,
    names: Option<Vec<String>>,
    id: Option<IdOrName>,
}

/// A source.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Source {
    /// A bus.
    Modbus(Modbus),
    /// A broker.
    Mqtt(Box<Mqtt>),
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Modbus {
    name: String,
    #[serde(default)]
    interval: Option<Period>,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default, rename = "group")]
    groups: Vec<Group>,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Group {
    table: Word,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Mqtt {
    name: String,
    max_payload: Option<ByteSize>,
    password: Option<Secret>,
}

/// How to log in.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(tag = "mechanism", rename_all = "lowercase", deny_unknown_fields)]
enum Login {
    /// In clear.
    Plain { user: String, password: Secret },
    /// Not at all.
    None,
}

#[derive(Default, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Word {
    #[default]
    Holding,
    Input,
}

/// With words explained one by one, schemars writes a `oneOf`.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Order {
    /// First.
    Big,
    /// Last.
    Little,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
enum IdOrName {
    Id(u32),
    Name(String),
}

fn schema() -> Value {
    schemars::schema_for!(Whole).to_value()
}

fn told(text: &str) -> String {
    let document = Document::parse(text, "a.toml");
    assert_eq!(document.syntax, []);
    let problems = check_against(&schema(), &document);
    crate::config::Problems::new(problems).to_string()
}

/// Every key of [`Whole`], each on a line of its own.
const RIGHT: &str = r#"
word = "input"
order = "big"
numbers = { a = 1, b = -2 }
pair = [1, true]
ratio = 2
on = false
names = ["a"]
id = 7
login = { mechanism = "plain", user = "u", password = { env = "P" } }
[[source]]
type = "modbus"
name = "m"
interval = "200 ms"
port = 502
[[source.group]]
table = "holding"
[[source]]
type = "mqtt"
name = "q"
max_payload = "1 MiB"
password = { file = "/p" }
"#;

#[test]
fn what_is_right_is_taken() {
    assert_eq!(told(RIGHT), "0 errors");
}

/// What serde makes of it by way of the crate that merges.
fn taken_by_serde(text: &str) -> Result<Whole, ::config::ConfigError> {
    let file = ::config::File::from_str(text, ::config::FileFormat::Toml);
    ::config::Config::builder().add_source(file).build()?.try_deserialize()
}

#[test]
fn what_serde_refuses_the_check_has_refused() {
    let values = [
        "\"\"",
        "\"x\"",
        "\"1 s\"",
        "\"5 MiB\"",
        "\"holding\"",
        "\"mqtt\"",
        "\"-1 s\"",
        "0",
        "-1",
        "256",
        "70000",
        "5000000000",
        "1.5",
        "-0.5",
        "nan",
        "true",
        "[]",
        "[1]",
        "[1, true]",
        "[1, true, 2]",
        "[300, false]",
        "[[]]",
        "[{}]",
        "[\"a\", 1]",
        "{}",
        "{ a = 1 }",
        "{ a = 1.5 }",
        "{ env = \"X\" }",
        "{ env = 1 }",
        "{ env = \"X\", file = \"Y\" }",
        "{ mechanism = \"none\" }",
        "{ mechanism = \"plain\" }",
        "2026-01-01",
    ];
    let lines: Vec<&str> = RIGHT.lines().collect();
    let mut refused = 0;
    for (number, line) in lines.iter().enumerate() {
        let replaced: Vec<String> = match line.split_once(" = ") {
            Some((key, _)) => {
                let other_values = values.iter().map(|value| format!("{key} = {value}"));
                other_values.chain([String::new(), format!("{line}\nodd = 1")]).collect()
            }
            None => vec![String::new()],
        };
        for new in replaced {
            let mut changed = lines.clone();
            changed[number] = &new;
            let text = changed.join("\n");
            let document = Document::parse(&text, "a.toml");
            let problems = check_against(&schema(), &document);
            let unplaced = problems.iter().find(|problem| {
                !matches!(problem.place, crate::config::Place::File { line: 1.., .. })
            });
            assert_eq!(unplaced, None, "{new}");
            if let Err(error) = taken_by_serde(&text) {
                refused += 1;
                assert_ne!(problems.len() + document.syntax.len(), 0, "{new}: {error}");
            }
        }
    }
    assert!(refused > 300, "only {refused} texts were wrong");
}

#[test]
fn a_misspelt_key_is_told_with_the_right_one() {
    let text = "[[source]]\ntype = \"mqtt\"\nname = \"a\"\n\n[[source]]\ntype = \"modbus\"\nname = \"b\"\n  intervall = \"1 s\"\nzzz = 1\n";
    insta::assert_snapshot!(told(text), @r#"
    a.toml:8:3: source[1].intervall: unknown key `intervall`, did you mean `interval`?
    a.toml:9:1: source[1].zzz: unknown key `zzz`, also possible here are `group`, `interval`, `port`
    2 errors
    "#);
}

#[test]
fn a_wrong_or_missing_type_is_told_with_the_right_ones() {
    let text = "[[source]]\ntype = \"modbuss\"\n[[source]]\nname = \"x\"\n[[source]]\ntype = 5\n[login]\nmechanism = \"gssapi\"\n";
    insta::assert_snapshot!(told(text), @r#"
    a.toml:2:8: source[0].type: unknown word `modbuss`, did you mean `modbus`? possible are `modbus`, `mqtt`
    a.toml:3:1: source[1].type: missing key `type`, possible are `modbus`, `mqtt`
    a.toml:6:8: source[2].type: expected a text, found a whole number, possible are `modbus`, `mqtt`
    a.toml:8:13: login.mechanism: unknown word `gssapi`, possible are `plain`, `none`
    4 errors
    "#);
}

#[test]
fn keys_of_another_variant_are_refused() {
    let text = "[login]\nmechanism = \"none\"\nuser = \"x\"\n[[source]]\ntype = \"modbus\"\nname = \"b\"\nmax_payload = \"1 B\"\n";
    insta::assert_snapshot!(told(text), @r#"
    a.toml:3:1: login.user: unknown key `user`, remove it
    a.toml:7:1: source[0].max_payload: unknown key `max_payload`, also possible here are `group`, `interval`, `port`
    2 errors
    "#);
}

#[test]
fn wrong_values_are_told_with_how_to_write_them() {
    let text = r#"
word = "inptu"
order = "middle"
numbers = { a = "1", b = 3000000000 }
ratio = "2.5"
on = "true"
names = "a"
id = 1.5
[[source]]
type = "modbus"
name = 7
interval = 200
port = 70000
[[source]]
type = "modbus"
name = "x"
interval = "200 msec"
port = "502"
group = { table = "holding" }
[[source]]
type = "mqtt"
name = 2026-01-01
max_payload = 5
"#;
    insta::assert_snapshot!(told(text), @r#"
    a.toml:2:8: word: unknown word `inptu`, did you mean `input`? possible are `holding`, `input`
    a.toml:3:9: order: unknown word `middle`, possible are `big`, `little`
    a.toml:4:17: numbers.a: expected a whole number, found the text "1", write 1 without quotes
    a.toml:4:26: numbers.b: 3000000000 is out of range, it must be from -2147483648 to 2147483647
    a.toml:5:9: ratio: expected a number, found the text "2.5", write 2.5 without quotes
    a.toml:6:6: on: expected true or false, found the text "true", write true without quotes
    a.toml:7:9: names: expected a list, found a text, write it in brackets: [ … ]
    a.toml:8:6: id: expected a whole number, found the number 1.5
    a.toml:11:8: source[0].name: expected a text, found a whole number, write it in quotes
    a.toml:12:12: source[0].interval: expected a duration as text, found the number 200, write a number and a unit, as in "200 s" or "200 ms"
    a.toml:13:8: source[0].port: 70000 is out of range, it must be from 0 to 65535
    a.toml:17:12: source[1].interval: `200 msec` is not a number and a unit (d, h, min, s, ms), as in "200 ms"
    a.toml:18:8: source[1].port: expected a whole number, found the text "502", write 502 without quotes
    a.toml:19:9: source[1].group: expected a list, found a table, write its header as [[…]]
    a.toml:22:8: source[2].name: expected a text, found a date or time, write it in quotes
    a.toml:23:15: source[2].max_payload: expected a size as text, found the number 5, write a number and a unit, as in "5 B" or "5 MiB"
    16 errors
    "#);
}

#[test]
fn a_secret_written_in_the_file_is_refused_and_not_shown() {
    let text = r#"
[[source]]
type = "mqtt"
name = "a"
password = "hunter2"
[[source]]
type = "mqtt"
name = "b"
password = { environment = "hunter2" }
[[source]]
type = "mqtt"
name = "c"
password = { env = "A", file = "B" }
[[source]]
type = "mqtt"
name = "d"
password = {}
"#;
    let told = told(text);
    assert!(!told.contains("hunter2"), "{told}");
    insta::assert_snapshot!(told, @r#"
    a.toml:5:12: source[0].password: expected a table with one of `env`, `file`, `credential`, found a text, as in { env = "…" }
    a.toml:9:14: source[1].password.environment: unknown key `environment`, possible are `env`, `file`, `credential`
    a.toml:13:12: source[2].password: needs exactly one key, has 2, possible are `env`, `file`, `credential`
    a.toml:17:12: source[3].password: needs exactly one key, has 0, possible are `env`, `file`, `credential`
    4 errors
    "#);
}

#[test]
fn the_nearest_name_is_near() {
    assert_eq!(nearest("intervall", &["interval", "internal"]), Some("interval"));
    assert_eq!(nearest("commit-interval", &["commit_interval"]), Some("commit_interval"));
    assert_eq!(nearest("Brokers", &["brokers"]), Some("brokers"));
    assert_eq!(nearest("xyz", &["abc"]), None);
    assert_eq!(nearest("id", &["on"]), None);
}

#[test]
fn every_key_of_every_form_has_a_path() {
    insta::assert_snapshot!(crate::config::key_paths(&schema()).join("\n"), @r#"
    id
    login
    login.mechanism
    login.password
    login.password.credential
    login.password.env
    login.password.file
    login.user
    names
    numbers
    on
    order
    pair
    ratio
    source
    source[].group
    source[].group[].table
    source[].interval
    source[].max_payload
    source[].name
    source[].password
    source[].password.credential
    source[].password.env
    source[].password.file
    source[].port
    source[].type
    word
    "#);
}
