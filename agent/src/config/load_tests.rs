use super::*;
use crate::config::LogLevel;

const SMALLEST: &str = "[gateway]\nid = \"gw1\"\n[kafka]\nbrokers = \"a:9092\"\n";

fn with_env(text: &str, env: &[(&str, &str)]) -> Result<Loaded, Problems> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load_str(text, "gateway.toml", env)
}

fn told(text: &str, env: &[(&str, &str)]) -> String {
    match with_env(text, env) {
        Ok(loaded) => panic!("loaded: {loaded:?}"),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn a_gateway_and_its_brokers_are_enough() {
    let loaded = with_env(SMALLEST, &[]).unwrap();
    assert_eq!(loaded.config.gateway.id, "gw1");
    assert_eq!(loaded.config.kafka.brokers, "a:9092");
    assert_eq!(loaded.config.log.level, LogLevel::Info);
    assert_eq!(loaded.warnings, []);
}

#[test]
fn the_environment_goes_over_the_file() {
    let loaded = with_env(
        "[gateway]\nid = \"gw1\"\nlabels = { line = \"1\", site = \"x\" }\n",
        &[
            ("TIDEGATE_KAFKA__BROKERS", "b:1,c:2"),
            ("TIDEGATE_GATEWAY__LABELS__LINE", "7"),
            ("TIDEGATE_GATEWAY__SHUTDOWN_GRACE", "3 s"),
            ("TIDEGATE_LOG__LEVEL", "debug"),
            ("HOME", "/root"),
        ],
    );
    let config = loaded.unwrap().config;
    assert_eq!(config.kafka.brokers, "b:1,c:2");
    assert_eq!(config.gateway.labels["line"], "7");
    assert_eq!(config.gateway.labels["site"], "x");
    assert_eq!(config.gateway.shutdown_grace, crate::units::Period::from_secs(3));
    assert_eq!(config.log.level, LogLevel::Debug);
}

#[test]
fn a_number_in_the_environment_is_text_where_text_is_wanted() {
    let loaded = with_env(SMALLEST, &[("TIDEGATE_GATEWAY__ID", "0042")]).unwrap();
    assert_eq!(loaded.config.gateway.id, "0042");
}

#[test]
fn a_wrong_variable_is_named() {
    let text = told(
        SMALLEST,
        &[
            ("TIDEGATE_KAFKA__BROKER", "x"),
            ("TIDEGATE_KAFKA", "x"),
            ("TIDEGATE_SOURCE__0__NAME", "x"),
            ("TIDEGATE_LOG__LEVEL", "trace"),
            ("TIDEGATE_LOG__LEVEL__DEEPER", "1"),
            ("TIDEGATE_BUFFER__COMMIT_INTERVAL", "1"),
            ("TIDEGATE_", "x"),
            ("TIDEGATE_GATEWAY__LABELS__", "x"),
        ],
    );
    insta::assert_snapshot!(text, @r#"
    TIDEGATE_: the variable names the unknown key ``, possible here are `buffer`, `control`, `gateway`, `kafka`, `log`, `source`, `status`, `stream`, `system`
    TIDEGATE_BUFFER__COMMIT_INTERVAL: buffer.commit_interval: `1` is not a number and a unit (d, h, min, s, ms), as in "200 ms"
    TIDEGATE_GATEWAY__LABELS__: the variable names the unknown key ``, unset it
    TIDEGATE_KAFKA: the variable names a table, name one of its keys: `TIDEGATE_KAFKA__…`
    TIDEGATE_KAFKA__BROKER: the variable names the unknown key `broker`, did you mean `TIDEGATE_KAFKA__BROKERS`?
    TIDEGATE_LOG__LEVEL: log.level: unknown word `trace`, possible are `error`, `warn`, `info`, `debug`
    TIDEGATE_LOG__LEVEL__DEEPER: the variable names the unknown key `deeper`, unset it
    TIDEGATE_SOURCE__0__NAME: lists and their entries have no variable, set them in the file
    8 errors
    "#);
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let text = told(
        r#"
[gateway]
id = "gw 1"
shutdown_grace = "10 sec"
labels = { line = 4, seq = "x" }

[bufer]

[buffer]
comit_interval = "1 s"
max_size = 5

[kafka]
brokers = ""

[log]
level = "information"
format = true

[[stream]]
name = "a"
topic = "t"

[[stream]]
name = "b"
topic = "t"
create = { partitions = 0, replication = 99999999999, config = { "retention.ms" = "1" } }

[[stream]]
name = "a"
extra = 1

[[stream]]
topic = "ä"
"#,
        &[],
    );
    insta::assert_snapshot!(text, @r#"
    gateway.toml:3:6: gateway.id: `gw 1` contains ' ', 1 to 64 letters (a-z, A-Z), digits, `-`, `_` or `.`
    gateway.toml:4:18: gateway.shutdown_grace: `10 sec` is not a number and a unit (d, h, min, s, ms), as in "200 ms"
    gateway.toml:5:19: gateway.labels.line: expected a text, found a whole number, write it in quotes
    gateway.toml:5:28: gateway.labels.seq: `seq` is a field of every record already, choose another name
    gateway.toml:7:2: bufer: unknown key `bufer`, did you mean `buffer`?
    gateway.toml:10:1: buffer.comit_interval: unknown key `comit_interval`, did you mean `commit_interval`?
    gateway.toml:11:12: buffer.max_size: expected a size as text, found the number 5, write a number and a unit, as in "5 B" or "5 MiB"
    gateway.toml:14:11: kafka.brokers: is empty, name them as "host:port,host:port"
    gateway.toml:17:9: log.level: unknown word `information`, possible are `error`, `warn`, `info`, `debug`
    gateway.toml:18:10: log.format: expected one of `text`, `json`, found true or false
    gateway.toml:26:9: stream[1].topic: the topic `t` belongs to stream[0].topic already, a stream has a topic of its own
    gateway.toml:27:25: stream[1].create.partitions: 0 is out of range, it must be from 1 to 2147483647
    gateway.toml:27:42: stream[1].create.replication: 99999999999 is out of range, it must be from -1 to 32767
    gateway.toml:30:8: stream[2].name: the name `a` belongs to stream[0].name already, a stream has a name of its own
    gateway.toml:31:1: stream[2].extra: unknown key `extra`, also possible here are `create`, `lane`, `share`, `topic`, `when_full`
    gateway.toml:33:1: stream[3].name: missing key `name`, it must be a text
    gateway.toml:34:9: stream[3].topic: `ä` contains 'ä', 1 to 249 letters (a-z, A-Z), digits, `-`, `_` or `.`
    17 errors
    "#);
}

#[test]
fn what_is_missing_is_told_with_what_it_must_be() {
    insta::assert_snapshot!(told("", &[]), @r#"
    gateway.toml:1:1: gateway: missing key `gateway`, add a section [gateway]
    gateway.toml:1:1: kafka: missing key `kafka`, add a section [kafka]
    2 errors
    "#);
    insta::assert_snapshot!(told("[gateway]\n[kafka]\nbroker = \"a\"\n", &[]), @r#"
    gateway.toml:1:1: gateway.id: missing key `id`, it must be a text
    gateway.toml:3:1: kafka.broker: unknown key `broker`, did you mean `brokers`?
    2 errors
    "#);
}

#[test]
fn broken_syntax_does_not_hide_a_wrong_key() {
    let text = told(
        "[gateway]\nid = \"gw1\n[kafka]\nbrokers = \"a\"\nbrokers = \"b\"\n[log]\nlevl = \"info\"\n",
        &[],
    );
    insta::assert_snapshot!(text, @r#"
    gateway.toml:2:10: invalid basic string, expected `"`
    gateway.toml:5:1: duplicate key
    gateway.toml:7:1: log.levl: unknown key `levl`, did you mean `level`?
    3 errors
    "#);
}

#[test]
fn a_section_that_is_no_table_is_told() {
    let text = told("gateway = \"gw1\"\nkafka = 5\nstream = { name = \"a\" }\nsource = 1\n", &[]);
    insta::assert_snapshot!(text, @r#"
    gateway.toml:1:11: gateway: expected a table, found a text
    gateway.toml:2:9: kafka: expected a table, found a whole number
    gateway.toml:3:10: stream: expected a list, found a table, write its header as [[…]]
    gateway.toml:4:10: source: expected a list, found a whole number, write it in brackets: [ … ]
    4 errors
    "#);
}

#[test]
fn a_quoted_topic_setting_keeps_its_dots() {
    let text = format!(
        "{SMALLEST}[[stream]]\nname = \"a\"\ncreate.config = {{ \"retention.ms\" = \"1\" }}\n"
    );
    let config = with_env(&text, &[]).unwrap().config;
    let create = config.streams[0].create.as_ref().unwrap();
    assert_eq!(create.config["retention.ms"], "1");
}

#[test]
fn a_buffer_below_the_least_size_is_refused() {
    let text = |size: &str| {
        format!(
            "[gateway]\nid = \"g\"\n[buffer]\nmax_size = \"{size}\"\n[kafka]\nbrokers = \"b:9092\"\n"
        )
    };
    insta::assert_snapshot!(told(&text("15 MiB"), &[]), @"
    gateway.toml:4:12: buffer.max_size: 15 MiB is too small, at least 16 MiB
    1 error
    ");
    assert!(with_env(&text("16 MiB"), &[]).is_ok());
}

#[test]
fn more_flows_than_a_position_can_hold_are_refused() {
    use std::fmt::Write as _;
    let mut text = SMALLEST.to_owned();
    // The agent's own stream is one more.
    for number in 0..200 {
        write!(text, "[[source]]\nstream = \"s{number}\"\n").unwrap();
    }
    let told = told(&text, &[]);
    assert!(told.contains("201 pairs of stream and lane are used, at most 200"), "{told}");
}

#[test]
fn a_stream_that_a_source_names_must_be_a_topics_name() {
    let text = r#"
        [[source]]
        stream = "a"
        labels = { stream = "not one" }
        [[source.group]]
        lane = "alarm"
        [[source.group]]
        stream = "b c"
    "#;
    let document = Document::parse(text, "a.toml");
    let mut problems = Vec::new();
    rules::check(&Parts { kafka: None, sources: Vec::new() }, &document, &mut problems);
    let told = Problems::new(problems).to_string();
    insta::assert_snapshot!(told, @r#"
    source[0].group[1].stream: `b c` contains ' ', 1 to 249 letters (a-z, A-Z), digits, `-`, `_` or `.`
    1 error
    "#);
}

#[test]
fn what_serde_refuses_alone_still_has_a_place() {
    let document = Document::parse("\n[a]\nb = 1\n", "x.toml");
    let error = ConfigError::At {
        error: Box::new(ConfigError::Message("odd".into())),
        origin: None,
        key: Some("b".into()),
    };
    let problem = refused(&error, &KeyPath::root().key("a"));
    let place = document.place(&problem.at);
    assert_eq!(problem.placed(place).to_string(), "x.toml:3:5: a.b: odd");
}

#[test]
fn a_file_that_cannot_be_read_is_told_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.toml");
    let told = load(&missing).unwrap_err().to_string();
    assert!(told.contains("none.toml:1:1: cannot be read: No such file"), "{told}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_medium_that_errs_says_nothing_about_the_file_and_is_tried_again() {
    // The kernel answers a read at its beginning with EIO, also to root.
    let unread = load(Path::new("/proc/self/mem")).unwrap_err();
    assert!(unread.to_string().contains("/proc/self/mem:1:1: cannot be read: "), "{unread}");
    assert_eq!(unread.exit_code(), Problems::UNREAD);
}

#[test]
fn a_file_that_is_not_there_or_wrong_is_not_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("wrong.toml"), "[gateway").unwrap();
    std::fs::write(at("bytes.toml"), [0xff, 0xfe]).unwrap();
    for name in ["none.toml", "wrong.toml", "bytes.toml", "wrong.toml/below.toml", ""] {
        let problems = load(&at(name)).unwrap_err();
        assert_eq!(problems.exit_code(), Problems::WRONG, "{problems}");
    }
}

#[test]
fn a_file_of_megabytes_is_not_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(LARGEST_FILE + 1).unwrap();
    let told = load(file.path()).unwrap_err().to_string();
    assert!(told.contains("a configuration has at most 4194304"), "{told}");
}

proptest::proptest! {
    #[test]
    fn any_text_is_loaded_or_explained_with_a_place(
        lines in proptest::collection::vec("(\\[{1,2}(gateway|kafka|stream|source|log|a\\.b)\\]{1,2}|\
            (id|brokers|name|topic|labels|level|create|x\\.y) ?= ?\
            (\"[a-z]{0,3}\"?|[0-9]{1,25}|\\{ ?[a-z]{1,3} ?= ?1 ?\\}|\\[1,?|true|)|\\PC{0,12})", 0..12),
    ) {
        if let Err(problems) = with_env(&lines.join("\n"), &[]) {
            proptest::prop_assert!(problems.0.iter().any(Problem::is_error));
            for problem in problems.0 {
                let placed = matches!(problem.place, Place::File { line: 1.., column: 1.., .. });
                proptest::prop_assert!(placed, "{problem:?}");
            }
        }
    }
}

#[test]
fn a_field_that_gets_another_name_in_the_record_is_told() {
    let sources = r#"
[[source]]
type = "modbus"
name = "hall"
address = "10.0.0.5:502"
stream = "boiler"
[[source.device]]
name = "boiler-1"
unit = 1
[[source.device.group]]
interval = "1 s"
signals = [
  { name = "temp", table = "holding", address = 0, type = "i16" },
  { name = "ts", table = "holding", address = 1, type = "i16" },
  { name = "state", register = 40003, bits = { 0 = "hot", 3 = "q" } },
]
[[source]]
type = "mqtt"
name = "plant"
address = "10.0.0.6:1883"
[[source.subscription]]
topic = "plant/{gateway}/{device}/state"
"#;
    let warnings = with_env(&format!("{SMALLEST}{sources}"), &[]).unwrap().warnings;
    let told: Vec<String> = warnings.iter().map(|w| format!("{}: {}", w.at, w.what)).collect();
    assert_eq!(
        told,
        [
            "source[0].device[0].group[0].signals[1].name: `ts` becomes `ts_` in the record",
            "source[0].device[0].group[0].signals[2].bits.3: `state_q` becomes `state_q_` in the \
             record",
            "source[1].subscription[0].topic: `gateway` becomes `gateway_` in the record",
        ]
    );
}

#[test]
fn the_rules_of_a_full_buffer_are_read_and_wrong_ones_told() {
    let text = format!(
        "{SMALLEST}[buffer]\nmax_age = \"7 d\"\nmin_free_disk = \"512 MiB\"\n\
         [[stream]]\nname = \"a\"\nwhen_full = \"drop_newest\"\nshare = \"40 %\"\nlane = \"bulk\"\n"
    );
    let config = with_env(&text, &[]).unwrap().config;
    assert_eq!(config.buffer.max_age, Some("7 d".parse().unwrap()));
    assert_eq!(config.buffer.min_free_disk.to_string(), "512 MiB");
    let rules = config.streams[0].rules();
    assert_eq!(rules.when_full, Some(crate::flow::WhenFull::DropNewest));
    assert_eq!(rules.share.to_string(), "40 %");
    assert_eq!(rules.lane, crate::flow::Lane::Bulk);

    let text = format!(
        "{SMALLEST}[buffer]\nmax_age = \"1 s\"\nmin_free_disk = 10\n\
         [[stream]]\nname = \"a\"\nwhen_full = \"drop\"\nshare = 40\n"
    );
    let told = told(&text, &[]);
    for wrong in [
        "1 s is too short, at least 1 min",
        "as in \"10 %\" or \"512 MiB\"",
        "unknown word `drop`",
        "write \"40 %\"",
    ] {
        assert!(told.contains(wrong), "{wrong} in {told}");
    }
}

#[test]
fn the_agent_s_own_source_stream_and_topic_are_nobody_else_s() {
    let source = "[[source]]\ntype = \"mqtt\"\nname = \"tidegate\"\naddress = \"b\"\n\
                  stream = \"tidegate.system\"\n[[source.subscription]]\ntopic = \"a\"\n";
    let stream = "[[stream]]\nname = \"x\"\ntopic = \"own\"\n";
    let system = "[system]\ntopic = \"own\"\nheartbeat = \"1 ms\"\ncreate = { replication = 0 }\n";
    let told = told(&format!("{SMALLEST}{system}{source}{stream}"), &[]);
    for wrong in [
        "`tidegate` is the agent's own",
        "the stream `tidegate.system` belongs to the agent itself",
        "the topic `own` belongs to the agent itself",
        "1 ms is too short, at least 1 s",
        "a topic cannot have 0 replicas",
    ] {
        assert!(told.contains(wrong), "{wrong} in {told}");
    }
    // Without a stream of its own the topic is free.
    let off = "[system]\nenabled = false\n[[stream]]\nname = \"x\"\ntopic = \"tidegate.system\"\n";
    with_env(&format!("{SMALLEST}{off}"), &[]).unwrap();
}

#[test]
fn a_status_that_others_can_reach_is_a_warning_and_a_name_is_no_address() {
    let listen = |address: &str| format!("{SMALLEST}[status]\nlisten = \"{address}\"\n");
    for own in ["127.0.0.1:9464", "[::1]:9464"] {
        let loaded = with_env(&listen(own), &[]).unwrap();
        assert_eq!(loaded.warnings, []);
        assert_eq!(loaded.config.status.address().unwrap().port(), 9464);
    }
    for open in ["0.0.0.0:9464", "[::]:9464", "192.168.1.5:9464"] {
        let warnings = with_env(&listen(open), &[]).unwrap().warnings;
        let told: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(&format!("whoever reaches {open}")), "{told:?}");
    }
    for wrong in ["localhost:9464", "127.0.0.1", ":9464", "127.0.0.1:0", ""] {
        let text = told(&listen(wrong), &[]);
        assert!(text.contains("status.listen: "), "{wrong}: {text}");
    }
    assert_eq!(with_env(SMALLEST, &[]).unwrap().config.status.address(), None);
}

#[test]
fn two_sources_on_one_serial_port_are_told() {
    let source = |name: &str| {
        format!(
            r#"
[[source]]
type = "modbus"
name = "{name}"
address = "/dev/ttyS1"
stream = "boiler"
[[source.device]]
name = "boiler-{name}"
[[source.device.group]]
interval = "1 s"
signals = [{{ name = "a", table = "holding", address = 0 }}]
"#
        )
    };
    let text = format!("{SMALLEST}{}{}", source("a"), source("b"));
    let Err(problems) = with_env(&text, &[]) else { panic!("the port has two sources") };
    let told: Vec<String> = problems.0.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    let said = "source[1].address: the serial port `/dev/ttyS1` belongs to source[0].address \
                already, all devices of a port are [[source.device]] of one source";
    assert!(told[0].ends_with(said), "{told:?}");
}

#[test]
fn two_sparkplug_hosts_of_one_name_are_told() {
    let source = |name: &str| {
        format!(
            "\n[[source]]\ntype = \"sparkplug\"\nname = \"{name}\"\naddress = \"b:1883\"\n\
             host_id = \"tidegate\"\n"
        )
    };
    let text = format!("{SMALLEST}{}{}", source("a"), source("b"));
    let Err(problems) = with_env(&text, &[]) else { panic!("two hosts have one name") };
    let told: Vec<String> = problems.0.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("source[1].host_id: the host `tidegate` is source[0].host_id"),
        "{told:?}"
    );
}
