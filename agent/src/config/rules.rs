//! What no schema can say: names that Kafka takes, names that are used once,
//! and limits over the whole file.

use std::collections::{BTreeMap, BTreeSet};

use super::document::{Document, Kind, Node};
use super::problem::{KeyPath, Problem};
use super::{Gateway, Stream};
use crate::flow::Create;
use crate::{buffer, forward, source};

/// The sections that could be made, with the places of those that repeat.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) gateway: Option<Gateway>,
    pub(crate) buffer: Option<buffer::Config>,
    pub(crate) kafka: Option<forward::Config>,
    pub(crate) sources: Vec<(KeyPath, source::Config)>,
    pub(crate) streams: Vec<(KeyPath, Stream)>,
}

/// The positions of all flows stand in one offset's metadata, which holds
/// 4,096 bytes (SAFETY.md).
const MOST_FLOWS: usize = 200;

/// An id stands in every record and in Kafka's names for this gateway.
const LONGEST_ID: usize = 64;

/// Kafka's own limit, so that a partition's folder has a legal name.
const LONGEST_TOPIC: usize = 249;

/// Names of the record's own fields; a label must not hide one.
const RESERVED: &[&str] =
    &["gateway", "epoch", "seq", "device", "ts", "ts_ns", "month", "quality", "clock"];

pub(crate) fn check(parts: &Parts, document: &Document, problems: &mut Vec<Problem>) {
    let root = KeyPath::root();
    if let Some(gateway) = &parts.gateway {
        gateway.check(&root.key("gateway"), problems);
    }
    if let Some(kafka) = &parts.kafka {
        kafka.check(&root.key("kafka"), problems);
    }
    if let Some(buffer) = &parts.buffer {
        buffer.check(&root.key("buffer"), problems);
    }
    for (at, source) in &parts.sources {
        source.check(at, problems);
    }
    for (at, stream) in &parts.streams {
        stream.check(at, problems);
    }
    source_names(&document.root, problems);
    stream_names(&document.root, problems);
    flows(&document.root, problems);
}

impl Gateway {
    fn check(&self, at: &KeyPath, problems: &mut Vec<Problem>) {
        name(&at.key("id"), &self.id, problems);
        for label in self.labels.keys() {
            check_label(&at.key("labels").key(label), label, problems);
        }
    }
}

impl Stream {
    fn check(&self, at: &KeyPath, problems: &mut Vec<Problem>) {
        name_of_topic(&at.key("name"), &self.name, problems);
        if let Some(topic) = &self.topic {
            name_of_topic(&at.key("topic"), topic, problems);
        }
        if let Some(Create { partitions, replication, .. }) = &self.create {
            let at = at.key("create");
            if *partitions < 1 {
                let what = format!("{partitions} partitions cannot be made");
                problems.push(Problem::new(&at.key("partitions"), what, "write 1 or more"));
            }
            if *replication != -1 && !(1..=i32::from(i16::MAX)).contains(replication) {
                let what = format!("{replication} replicas cannot be made");
                let remedy = "write 1 or more, or -1 for the broker's default";
                problems.push(Problem::new(&at.key("replication"), what, remedy));
            }
        }
    }
}

/// A name of a gateway or a source.
pub fn name(at: &KeyPath, name: &str, problems: &mut Vec<Problem>) {
    characters(at, name, LONGEST_ID, problems);
}

/// A name of a topic, and of a stream, which is its topic's by default.
pub fn name_of_topic(at: &KeyPath, name: &str, problems: &mut Vec<Problem>) {
    if matches!(name, "." | "..") {
        problems.push(Problem::new(at, format!("`{name}` is no name for a topic"), ""));
    }
    characters(at, name, LONGEST_TOPIC, problems);
}

fn characters(at: &KeyPath, name: &str, longest: usize, problems: &mut Vec<Problem>) {
    let remedy = format!("1 to {longest} letters (a-z, A-Z), digits, `-`, `_` or `.`");
    if name.is_empty() {
        problems.push(Problem::new(at, "is empty", remedy));
    } else if name.chars().count() > longest {
        let what = format!("has {} characters", name.chars().count());
        problems.push(Problem::new(at, what, remedy));
    } else if let Some(wrong) =
        name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.'))
    {
        problems.push(Problem::new(at, format!("`{name}` contains {wrong:?}"), remedy));
    }
}

/// A static label: a field of every record.
pub fn check_label(at: &KeyPath, label: &str, problems: &mut Vec<Problem>) {
    if label.is_empty() {
        problems.push(Problem::new(at, "a label needs a name", ""));
    } else if RESERVED.contains(&label) {
        let what = format!("`{label}` is a field of every record already");
        problems.push(Problem::new(at, what, "choose another name"));
    }
}

/// The texts under `key` in the entries of `[[list]]`.
fn texts<'n>(root: &'n Node, list: &str, key: &str) -> Vec<(KeyPath, &'n str)> {
    let entries = root.get(list).map_or(&[][..], Node::items).iter().enumerate();
    entries
        .filter_map(|(index, entry)| {
            Some((KeyPath::root().key(list).index(index).key(key), entry.get(key)?.text()?))
        })
        .collect()
}

fn source_names(root: &Node, problems: &mut Vec<Problem>) {
    let names = texts(root, "source", "name");
    for (at, given) in &names {
        name(at, given, problems);
    }
    repeated(names, "source", problems);
    for (index, source) in root.get("source").map_or(&[][..], Node::items).iter().enumerate() {
        let at = KeyPath::root().key("source").index(index).key("labels");
        for label in source.get("labels").map_or(&[][..], Node::entries) {
            check_label(&at.key(&label.key), &label.key, problems);
        }
    }
}

fn stream_names(root: &Node, problems: &mut Vec<Problem>) {
    let names = texts(root, "stream", "name");
    repeated(names.clone(), "stream", problems);
    // A topic that is not named is the stream's name: two streams in one topic
    // would be two schemas in one table.
    let topics = root.get("stream").map_or(&[][..], Node::items).iter().enumerate();
    let topics = topics.filter_map(|(index, stream)| {
        let key = if stream.get("topic").is_some() { "topic" } else { "name" };
        Some((KeyPath::root().key("stream").index(index).key(key), stream.get(key)?.text()?))
    });
    let mut seen = BTreeMap::new();
    for (at, topic) in topics {
        if let Some(first) = seen.insert(topic, at.clone()) {
            let streams_differ = !names.iter().any(|(path, _)| *path == at)
                || names.iter().all(|(path, _)| *path != first);
            if streams_differ {
                let what = format!("the topic `{topic}` belongs to {first} already");
                problems.push(Problem::new(&at, what, "a stream has a topic of its own"));
            }
        }
    }
}

fn repeated(names: Vec<(KeyPath, &str)>, noun: &str, problems: &mut Vec<Problem>) {
    let mut seen = BTreeMap::new();
    for (at, given) in names {
        if let Some(first) = seen.get(given) {
            let what = format!("the name `{given}` belongs to {first} already");
            problems.push(Problem::new(&at, what, format!("a {noun} has a name of its own")));
        } else {
            seen.insert(given, at);
        }
    }
}

/// Every pair of a stream and a lane that a source names is a flow.
fn flows(root: &Node, problems: &mut Vec<Problem>) {
    let mut flows = BTreeSet::new();
    if let Some(sources) = root.get("source") {
        gather(sources, &mut flows);
    }
    if flows.len() > MOST_FLOWS {
        let what = format!("{} streams and lanes are used", flows.len());
        let remedy = format!("at most {MOST_FLOWS}: join streams");
        problems.push(Problem::new(&KeyPath::root().key("source"), what, remedy));
    }
}

fn gather<'n>(node: &'n Node, flows: &mut BTreeSet<(&'n str, &'n str)>) {
    if let Some(stream) = node.get("stream").and_then(Node::text) {
        let lane = node.get("lane").and_then(Node::text).unwrap_or("live");
        flows.insert((stream, lane));
    }
    match &node.kind {
        Kind::Table(entries) => entries.iter().for_each(|entry| gather(&entry.node, flows)),
        Kind::Array(items) => items.iter().for_each(|item| gather(item, flows)),
        _ => {}
    }
}
