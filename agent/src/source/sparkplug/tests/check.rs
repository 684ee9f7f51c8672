//! What is wrong with a configuration, in words.

use crate::source::sparkplug::Config;

fn config(keys: &serde_json::Value) -> Config {
    let mut config = serde_json::json!({ "name": "s", "address": "b:1883" });
    config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    serde_json::from_value(config).unwrap()
}

fn check(keys: &serde_json::Value) -> Vec<(String, String)> {
    config(keys).check()
}

#[test]
fn a_bare_host_is_right_and_listens_to_all_groups() {
    assert_eq!(check(&serde_json::json!({})), []);
    let filters = config(&serde_json::json!({})).filters();
    assert_eq!(filters.len(), 6);
    assert!(filters.contains(&"spBv1.0/+/NBIRTH/+".to_owned()), "{filters:?}");
}

#[test]
fn each_wrong_key_is_told_with_what_would_be_right() {
    for (keys, key, what) in [
        (serde_json::json!({ "address": "b" }), "address", "host:port"),
        (serde_json::json!({ "host_id": "a/b" }), "host_id", "one level of a topic"),
        (serde_json::json!({ "groups": ["a", "+"] }), "groups.1", "one level of a topic"),
        (serde_json::json!({ "groups": ["a", "a"] }), "groups.1", "twice"),
        (serde_json::json!({ "metrics": ["a**"] }), "metrics.0", "one `*`"),
        (serde_json::json!({ "metrics": [""] }), "metrics.0", "a metric's name"),
        (serde_json::json!({ "node": "n" }), "node", "must have {node}"),
        (serde_json::json!({ "node": "{node}{device}" }), "node", "{group}, {node}"),
        (serde_json::json!({ "device": "{node}" }), "device", "must have {device}"),
        (serde_json::json!({ "device": "{line}{device}" }), "device", "no other place"),
        (serde_json::json!({ "rebirth_interval": "100 ms" }), "rebirth_interval", "1 s to 1 d"),
        (serde_json::json!({ "hold": { "time": "0 s" } }), "hold.time", "longer than 0"),
        (serde_json::json!({ "hold": { "bytes": "8 MiB" } }), "hold.total_bytes", "not be less"),
        (serde_json::json!({ "max_payload": "1 B" }), "max_payload", "1 KiB"),
    ] {
        let wrong = check(&keys);
        let [(at, said)] = &wrong[..] else { panic!("{keys}: {wrong:?}") };
        assert!(at == key && said.contains(what), "{at}: {said}");
    }
}

#[test]
fn holding_shorter_than_the_interval_of_requests_is_doubtful() {
    let doubts = config(&serde_json::json!({ "rebirth_interval": "2 min" })).doubts();
    assert_eq!(doubts.len(), 1);
    let doubts = config(&serde_json::json!({ "hold": { "messages": 0, "time": "1 s" } })).doubts();
    assert!(doubts.is_empty());
}
