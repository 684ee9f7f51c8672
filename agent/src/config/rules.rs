//! What no schema can say: names that Kafka takes, names that are used once,
//! and limits over the whole file.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::document::{Document, Kind, Node};
use super::problem::{KeyPath, Problem};
use crate::source::modbus;
use crate::units::{ByteSize, Period};
use crate::{buffer, encode, forward, source, system};

/// The sections that check themselves, with their places. A section is here
/// only if its types could be made; the rules below read the document itself,
/// so that one wrong key does not hide what is wrong beside it.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) kafka: Option<forward::Config>,
    pub(crate) sources: Vec<(KeyPath, source::Config)>,
}

/// The positions of all flows stand in one offset's metadata, which holds
/// 4,096 bytes (SAFETY.md).
const MOST_FLOWS: usize = 200;

/// Each has its own place before the buffer, which takes memory.
const MOST_SOURCES: usize = 200;

/// An id stands in every record and in Kafka's names for this gateway.
const LONGEST_ID: usize = 64;

/// Kafka's own limit, so that a partition's folder has a legal name.
const LONGEST_TOPIC: usize = 249;

pub(crate) fn check(parts: &Parts, document: &Document, problems: &mut Vec<Problem>) {
    let root = &document.root;
    gateway(root, problems);
    buffer(root, problems);
    source_names(root, problems);
    labels(root, problems);
    fields(root, problems);
    stream_names(root, problems);
    topics(root, problems);
    system(root, problems);
    replicas(root, problems);
    status(root, problems);
    flows(root, problems);
    let at = KeyPath::root().key("kafka");
    for found in parts.kafka.iter().flat_map(forward::Config::check) {
        let make = if found.warning { Problem::warning } else { Problem::new };
        problems.push(make(&at.below(&found.key), found.message, String::new()));
    }
    ports(&parts.sources, problems);
    hosts(&parts.sources, problems);
    for (at, source) in &parts.sources {
        let wrong = source.check();
        let doubts = if wrong.is_empty() { source.doubts() } else { Vec::new() };
        let wrong = wrong.into_iter().map(|(path, what)| (at.below(&path), what));
        // An empty name, say, is told once and not by each who looks at it.
        let news: Vec<Problem> = wrong
            .filter(|(at, _)| !problems.iter().any(|known| known.is_error() && known.at == *at))
            .map(|(at, what)| Problem::new(&at, what, ""))
            .collect();
        problems.extend(news);
        let doubts = doubts.into_iter();
        problems.extend(doubts.map(|(path, what)| Problem::warning(&at.below(&path), what, "")));
    }
}

fn gateway(root: &Node, problems: &mut Vec<Problem>) {
    if let Some(id) = text_at(root, "gateway", "id") {
        name(&KeyPath::root().key("gateway").key("id"), id, problems);
    }
}

fn buffer(root: &Node, problems: &mut Vec<Problem>) {
    least_size(root, "buffer", "max_size", buffer::Config::LEAST_SIZE, problems);
    least(root, "buffer", "max_age", buffer::Config::LEAST_AGE, problems);
    least_size(root, "kafka", "backfill_limit", forward::Config::LEAST_BACKFILL, problems);
}

fn least_size(root: &Node, section: &str, key: &str, least: ByteSize, problems: &mut Vec<Problem>) {
    let given = text_at(root, section, key).and_then(|text| text.parse::<ByteSize>().ok());
    if let Some(size) = given.filter(|size| *size < least) {
        let at = KeyPath::root().key(section).key(key);
        problems.push(Problem::new(
            &at,
            format!("{size} is too small"),
            format!("at least {least}"),
        ));
    }
}

fn least(root: &Node, section: &str, key: &str, least: Period, problems: &mut Vec<Problem>) {
    let given = text_at(root, section, key).and_then(|text| text.parse::<Period>().ok());
    if let Some(given) = given.filter(|given| *given < least) {
        let at = KeyPath::root().key(section).key(key);
        let what = format!("{given} is too short");
        problems.push(Problem::new(&at, what, format!("at least {least}")));
    }
}

/// The topic of the agent's own stream, unless it has none.
fn system_topic(root: &Node) -> Option<&str> {
    let off = root.get("system").and_then(|system| system.get("enabled"));
    if matches!(off, Some(Node { kind: Kind::Bool(false), .. })) {
        return None;
    }
    Some(text_at(root, "system", "topic").unwrap_or(system::STREAM))
}

/// The agent's own source, stream and topic are nobody else's.
fn system(root: &Node, problems: &mut Vec<Problem>) {
    least(root, "system", "heartbeat", system::Config::LEAST_HEARTBEAT, problems);
    if let Some(topic) = text_at(root, "system", "topic") {
        name_of_topic(&KeyPath::root().key("system").key("topic"), topic, problems);
    }
    let create = root.get("system").and_then(|system| system.get("create"));
    if let Some(Node { kind: Kind::Integer(0), .. }) = create.and_then(|c| c.get("replication")) {
        no_replicas(&KeyPath::root().key("system").key("create"), problems);
    }
    let names = texts(root, "source", "name").into_iter().map(|given| (given, system::SOURCE));
    let streams = texts(root, "stream", "name").into_iter().map(|given| (given, system::STREAM));
    for ((at, given), own) in names.chain(streams) {
        if given == own {
            let what = format!("`{own}` is the agent's own");
            problems.push(Problem::new(&at, what, "choose another name"));
        }
    }
    let Some(topic) = system_topic(root) else { return };
    for (at, stream) in entries(root, "stream") {
        let given = stream.get("topic").and_then(Node::text);
        let name = stream.get("name").and_then(Node::text);
        if given.or(name) == Some(topic) && name != Some(system::STREAM) {
            let at = at.key(if given.is_some() { "topic" } else { "name" });
            let what = format!("the topic `{topic}` belongs to the agent itself");
            let remedy = "choose another one, or another `topic` in [system]";
            problems.push(Problem::new(&at, what, remedy));
        }
    }
}

/// A name is not looked up: at the start there may be nobody to ask.
fn status(root: &Node, problems: &mut Vec<Problem>) {
    let Some(listen) = text_at(root, "status", "listen") else { return };
    let at = KeyPath::root().key("status").key("listen");
    match listen.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => {
            problems.push(Problem::new(&at, "port 0 is none", "write one from 1 to 65535"));
        }
        Ok(address) if !address.ip().is_loopback() => {
            let what = format!(
                "whoever reaches {listen} can read names of devices and streams, and what is wrong"
            );
            let remedy = "it is meant so, or write 127.0.0.1 for programs of this machine";
            problems.push(Problem::warning(&at, what, remedy));
        }
        Ok(_) => {}
        Err(_) => {
            let what = format!("`{listen}` is no address with a port");
            problems.push(Problem::new(&at, what, "as in \"127.0.0.1:9464\" or \"[::1]:9464\""));
        }
    }
}

fn text_at<'n>(root: &'n Node, section: &str, key: &str) -> Option<&'n str> {
    root.get(section)?.get(key)?.text()
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
    } else if encode::names::RESERVED.contains(&label) {
        let what = format!("`{label}` is a field of every record already");
        problems.push(Problem::new(at, what, "choose another name"));
    } else if encode::names::rename(label) != label {
        let what = format!("`{label}` becomes `{}` in the record", encode::names::rename(label));
        problems.push(Problem::warning(at, what, ""));
    }
}

/// The entries of `[[list]]` with their paths.
fn entries<'n>(root: &'n Node, list: &str) -> impl Iterator<Item = (KeyPath, &'n Node)> {
    let at = KeyPath::root().key(list);
    let items = root.get(list).map_or(&[][..], Node::items).iter().enumerate();
    items.map(move |(index, entry)| (at.index(index), entry))
}

/// The texts under `key` in the entries of `[[list]]`.
fn texts<'n>(root: &'n Node, list: &str, key: &str) -> Vec<(KeyPath, &'n str)> {
    entries(root, list)
        .filter_map(|(at, entry)| Some((at.key(key), entry.get(key)?.text()?)))
        .collect()
}

fn source_names(root: &Node, problems: &mut Vec<Problem>) {
    let names = texts(root, "source", "name");
    for (at, given) in &names {
        name(at, given, problems);
    }
    if names.len() > MOST_SOURCES {
        let what = format!("{} sources are too many", names.len());
        let remedy = format!("at most {MOST_SOURCES} are possible");
        problems.push(Problem::new(&KeyPath::root().key("source"), what, remedy));
    }
    repeated(names, "source", problems);
}

fn labels(root: &Node, problems: &mut Vec<Problem>) {
    let gateway = root.get("gateway").map(|node| (KeyPath::root().key("gateway"), node));
    let sources = entries(root, "source");
    for (at, node) in gateway.into_iter().chain(sources) {
        for label in node.get("labels").map_or(&[][..], Node::entries) {
            check_label(&at.key("labels").key(&label.key), &label.key, problems);
        }
    }
}

/// Names of fields that a source's tables give: signals and their bits, what a frame
/// holds, and placeholders of topics (`{device}` is no field). Those of rows and payloads are only seen
/// when they come.
fn fields(root: &Node, problems: &mut Vec<Problem>) {
    let mut say = |at: &KeyPath, name: &str| {
        let renamed = encode::names::rename(name);
        if renamed != name && !name.is_empty() {
            let what = format!("`{name}` becomes `{renamed}` in the record");
            problems.push(Problem::warning(at, what, ""));
        }
    };
    for (at, source) in entries(root, "source") {
        below(source, &at, &mut |at, node| {
            let listed = ["signals", "fields"].into_iter().flat_map(|list| {
                let items = node.get(list).map_or(&[][..], Node::items).iter().enumerate();
                items.map(move |(index, item)| (list, index, item))
            });
            for (list, index, signal) in listed {
                let at = at.key(list).index(index);
                let Some(name) = signal.get("name").and_then(Node::text) else { continue };
                let bits = signal.get("bits").map_or(&[][..], Node::entries);
                if bits.is_empty() {
                    say(&at.key("name"), name);
                }
                for bit in bits {
                    let field = bit.node.text().map(|bit| modbus::field_of_bit(name, bit));
                    say(&at.key("bits").key(&bit.key), &field.unwrap_or_default());
                }
            }
            for level in node.get("topic").and_then(Node::text).unwrap_or_default().split('/') {
                let name = level.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
                if let Some(name) = name.filter(|name| *name != "device") {
                    say(&at.key("topic"), name);
                }
            }
        });
    }
}

/// Shows `each` a table and all tables in it.
fn below<'n>(node: &'n Node, at: &KeyPath, each: &mut impl FnMut(&KeyPath, &'n Node)) {
    each(at, node);
    for entry in node.entries() {
        below(&entry.node, &at.key(&entry.key), each);
    }
    for (index, item) in node.items().iter().enumerate() {
        below(item, &at.index(index), each);
    }
}

fn stream_names(root: &Node, problems: &mut Vec<Problem>) {
    let names = texts(root, "stream", "name");
    for (at, given) in names.iter().chain(&texts(root, "stream", "topic")) {
        name_of_topic(at, given, problems);
    }
    repeated(names, "stream", problems);
}

/// A topic that is not named is the stream's name: two streams in one topic
/// would be two schemas in one table.
fn topics(root: &Node, problems: &mut Vec<Problem>) {
    let mut seen: BTreeMap<&str, (KeyPath, &str)> = BTreeMap::new();
    for (at, stream) in entries(root, "stream") {
        let Some(name) = stream.get("name").and_then(Node::text) else { continue };
        let topic = stream.get("topic").and_then(Node::text);
        let at = at.key(if topic.is_some() { "topic" } else { "name" });
        let topic = topic.unwrap_or(name);
        match seen.get(topic) {
            // Two streams of one name are told as such.
            Some((_, other)) if *other == name => {}
            Some((first, _)) => {
                let what = format!("the topic `{topic}` belongs to {first} already");
                problems.push(Problem::new(&at, what, "a stream has a topic of its own"));
            }
            None => {
                seen.insert(topic, (at, name));
            }
        }
    }
}

fn replicas(root: &Node, problems: &mut Vec<Problem>) {
    for (at, stream) in entries(root, "stream") {
        let replicas = stream.get("create").and_then(|create| create.get("replication"));
        if let Some(Node { kind: Kind::Integer(0), .. }) = replicas {
            no_replicas(&at.key("create"), problems);
        }
    }
}

fn no_replicas(create: &KeyPath, problems: &mut Vec<Problem>) {
    let remedy = "write 1 or more, or -1 for the broker's default";
    let at = create.key("replication");
    problems.push(Problem::new(&at, "a topic cannot have 0 replicas", remedy));
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

/// A serial port that two sources open would be one's, and the other's never.
fn ports(sources: &[(KeyPath, source::Config)], problems: &mut Vec<Problem>) {
    let mut seen: BTreeMap<&str, KeyPath> = BTreeMap::new();
    let named = sources
        .iter()
        .flat_map(|(at, source)| source.ports().into_iter().map(|(key, port)| (at.key(key), port)));
    for (at, port) in named {
        if let Some(first) = seen.get(port) {
            let what = format!("the serial port `{port}` belongs to {first} already");
            let remedy = "all devices of a port are [[source.device]] of one source";
            problems.push(Problem::new(&at, what, remedy));
        } else {
            seen.insert(port, at);
        }
    }
}

/// Two hosts of one name would each answer the other's `offline` for ever.
fn hosts(sources: &[(KeyPath, source::Config)], problems: &mut Vec<Problem>) {
    let mut seen: BTreeMap<&str, KeyPath> = BTreeMap::new();
    for (at, source) in sources {
        let source::Config::Sparkplug(host) = source else { continue };
        let Some(name) = host.host_id.as_deref() else { continue };
        let at = at.key("host_id");
        if let Some(first) = seen.get(name) {
            let what = format!("the host `{name}` is {first} already");
            let remedy =
                "a Sparkplug host has a name of its own; without one a source only listens";
            problems.push(Problem::new(&at, what, remedy));
        } else {
            seen.insert(name, at);
        }
    }
}

/// Every pair of a stream and a lane that a source names is a flow.
fn flows(root: &Node, problems: &mut Vec<Problem>) {
    let mut flows = BTreeSet::new();
    let at = KeyPath::root().key("source");
    if let Some(sources) = root.get("source") {
        gather(sources, &at, (None, None), &mut flows, problems);
    }
    // A source's lane goes before its stream's.
    let lanes: BTreeMap<&str, &str> = entries(root, "stream")
        .filter_map(|(_, stream)| Some((stream.get("name")?.text()?, stream.get("lane")?.text()?)))
        .collect();
    let mut flows: BTreeSet<(&str, &str)> = flows
        .into_iter()
        .map(|(stream, lane)| (stream, lane.or(lanes.get(stream).copied()).unwrap_or("live")))
        .collect();
    if system_topic(root).is_some() {
        flows.insert((system::STREAM, "live"));
    }
    if flows.len() > MOST_FLOWS {
        let what = format!("{} pairs of stream and lane are used", flows.len());
        let remedy = format!("at most {MOST_FLOWS} are possible: join streams");
        problems.push(Problem::new(&at, what, remedy));
    }
}

/// A part of a source takes the stream and lane of what it stands in, unless
/// it names its own. A stream that is not listed is its topic's name, so that
/// each name must be one that Kafka takes.
fn gather<'n>(
    node: &'n Node,
    at: &KeyPath,
    outer: (Option<&'n str>, Option<&'n str>),
    flows: &mut BTreeSet<(&'n str, Option<&'n str>)>,
    problems: &mut Vec<Problem>,
) {
    let own = |key| node.get(key).and_then(Node::text);
    if let Some(stream) = own("stream") {
        name_of_topic(&at.key("stream"), stream, problems);
        if stream == system::STREAM {
            let what = format!("the stream `{stream}` belongs to the agent itself");
            problems.push(Problem::new(&at.key("stream"), what, "choose another name"));
        }
    }
    let (stream, lane) = (own("stream").or(outer.0), own("lane").or(outer.1));
    if let (Some(stream), true) = (stream, own("stream").or(own("lane")).is_some()) {
        flows.insert((stream, lane));
    }
    for entry in node.entries().iter().filter(|entry| entry.key != "labels") {
        gather(&entry.node, &at.key(&entry.key), (stream, lane), flows, problems);
    }
    for (index, item) in node.items().iter().enumerate() {
        gather(item, &at.index(index), (stream, lane), flows, problems);
    }
}
