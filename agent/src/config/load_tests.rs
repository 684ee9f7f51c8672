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
    insta::assert_snapshot!(text, @"");
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
    insta::assert_snapshot!(text, @"");
}

#[test]
fn what_is_missing_is_told_with_what_it_must_be() {
    insta::assert_snapshot!(told("", &[]), @"");
    insta::assert_snapshot!(told("[gateway]\n[kafka]\nbroker = \"a\"\n", &[]), @"");
}

#[test]
fn broken_syntax_does_not_hide_a_wrong_key() {
    let text = told(
        "[gateway]\nid = \"gw1\n[kafka]\nbrokers = \"a\"\nbrokers = \"b\"\n[log]\nlevl = \"info\"\n",
        &[],
    );
    insta::assert_snapshot!(text, @"");
}

#[test]
fn a_section_that_is_no_table_is_told() {
    let text = told("gateway = \"gw1\"\nkafka = 5\nstream = { name = \"a\" }\nsource = 1\n", &[]);
    insta::assert_snapshot!(text, @"");
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
fn more_flows_than_a_position_can_hold_are_refused() {
    use std::fmt::Write as _;
    let mut text = SMALLEST.to_owned();
    for number in 0..=200 {
        write!(text, "[[source]]\nstream = \"s{number}\"\n").unwrap();
    }
    let told = told(&text, &[]);
    assert!(told.contains("201 streams and lanes are used, at most 200"), "{told}");
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
    assert_eq!(problem.placed(place).to_string(), "");
}

#[test]
fn a_file_that_cannot_be_read_is_told_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.toml");
    let told = load(&missing).unwrap_err().to_string();
    assert!(told.contains("none.toml:1:1: cannot be read: No such file"), "{told}");
}

#[test]
fn a_file_of_megabytes_is_not_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(LARGEST_FILE + 1).unwrap();
    let told = load(file.path()).unwrap_err().to_string();
    assert!(told.contains("a configuration has at most 4194304"), "{told}");
}
