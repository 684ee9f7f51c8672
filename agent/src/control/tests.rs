//! The socket and the file at rest, with real ones.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::words::{Answer, Imported, Letters, Moved, Stats};
use super::*;
use crate::buffer::{Demand, File, Foreign, Pins, Reason, verify};
use crate::collect::{self, Buffer, DeadLetter, Delivery, SourceInfo};
use crate::event::{Event, Quality, Timestamp};
use crate::flow::{Flows, Hash, Lane};

fn config(folder: &Path, gateway: &str) -> crate::config::Config {
    let path = folder.join("gateway.toml");
    let text = format!(
        "[gateway]\nid = \"{gateway}\"\n[buffer]\npath = \"{}\"\n[kafka]\nbrokers = \"localhost:1\"\n",
        folder.join("buffer.db").display()
    );
    std::fs::write(&path, text).unwrap();
    crate::config::load(&path).unwrap().config
}

/// A file with so many events of `plant`, one batch each, and one dead letter of
/// a source.
fn fill(config: &crate::config::Config, events: i64) {
    let mut flows = Flows::default();
    let flow = flows.id("plant", Lane::Live);
    let file = Buffer::open(&config.buffer, &config.gateway.id, crate::clock::Clock::system());
    let source = SourceInfo { name: "s".into(), labels: Vec::new() };
    let (collector, mut intakes) = collect::start(file.unwrap(), vec![source], flows).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for time in 0..events {
            let event = Event {
                flow,
                device: "d".into(),
                time: Timestamp(time),
                read_at: None,
                quality: Quality::Good,
                fields: Vec::new(),
            };
            let delivery = Delivery { events: vec![event], urgent: true, ..Delivery::default() };
            let ticket = intakes[0].deliver(delivery).await.unwrap();
            intakes[0].wait_committed(ticket).await.unwrap();
        }
    });
    let dead = DeadLetter {
        reason: "no JSON".into(),
        origin: "topic".into(),
        payload: vec![0xff],
        length: 1,
    };
    collector.store().bury(vec![dead]).unwrap();
    collector.close();
}

fn asked<T: serde::de::DeserializeOwned>(config: &crate::config::Config, request: &Request) -> T {
    serde_json::from_str(put(config, request).unwrap().get()).unwrap()
}

#[test]
fn the_socket_is_where_it_was_configured_else_in_the_services_own_directory() {
    let (buffer, runtime) = (Path::new("/var/buffer.db"), Path::new("/run/tidegate"));
    let own = Config { socket: Some("/tmp/s".into()) };
    assert_eq!(own.socket_in(buffer, Some(runtime)), Path::new("/tmp/s"));
    let none = Config::default();
    assert_eq!(none.socket_in(buffer, Some(runtime)), Path::new("/run/tidegate/tidegate.sock"));
    assert_eq!(none.socket_in(buffer, None), Path::new("/var/buffer.db.sock"));
}

#[tokio::test]
async fn a_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    // As a killed agent leaves it.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let first = listen(&path).unwrap();
    assert_eq!(listen(&path).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    drop(first);
    assert!(!path.try_exists().unwrap());
    std::fs::write(&path, "a file of somebody's").unwrap();
    listen(&path).unwrap_err();
    assert!(path.is_file());
}

/// Says these lines to a socket that serves, and gives what comes back.
fn talk(said: Vec<Vec<u8>>) -> Vec<Option<String>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let desk = Desk { buffer: folder.path().join("none.db"), store: None, live: None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let served = listen(&path).unwrap().serve(Arc::new(desk));
        let talked = tokio::task::spawn_blocking(move || {
            let each = |line: &Vec<u8>| {
                let mut stream = UnixStream::connect(&path).unwrap();
                // A line that is too long may be hung up on before its end.
                drop(stream.write_all(line));
                let mut text = String::new();
                BufReader::new(stream).read_line(&mut text).ok().map(|_| text)
            };
            said.iter().map(each).collect()
        });
        tokio::select! {
            () = served => unreachable!("it serves until it is dropped"),
            heard = talked => heard.unwrap(),
        }
    })
}

#[test]
fn whatever_is_said_is_answered_or_hung_up_on() {
    let too_long = vec![b'x'; usize::try_from(serve::MOST_REQUEST).unwrap() + 10];
    let heard = talk(vec![
        b"{}\n".to_vec(),
        b"\xff\xfe\n".to_vec(),
        b"{\"ask\":\"letters\",\"before\":null,\"limit\":4294967295}\n".to_vec(),
        too_long,
    ]);
    for text in &heard[..3] {
        let answer: Answer = serde_json::from_str(text.as_ref().unwrap()).unwrap();
        assert!(answer.ok.is_none() && answer.error.is_some(), "{answer:?}");
    }
}

#[test]
fn without_an_agent_a_command_works_on_the_file_itself() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "gw1");
    fill(&config, 3);
    let Letters { letters, total } = asked(&config, &Request::Letters { before: None, limit: 9 });
    assert_eq!((letters.len(), total, letters[0].stream.clone()), (1, 1, None));
    let requeued: Moved = asked(&config, &Request::Requeue { which: Which::Ids(vec![1]) });
    assert_eq!((requeued.done, requeued.skipped.len(), requeued.left), (0, 1, 1));
    let dropped: Moved = asked(&config, &Request::Drop { which: Which::All });
    assert_eq!((dropped.done, dropped.left), (1, 0));
    let stats: Stats = asked(&config, &Request::Stats);
    assert_eq!((stats.pid, stats.flows[0].events, stats.flows[0].batches), (None, 3, 3));
    let peek = Request::Peek { stream: Some("plant".into()), events: 2, newest: true };
    let peeked: words::Peek = asked(&config, &peek);
    let seqs: Vec<i64> = peeked
        .events
        .iter()
        .map(|peeked| {
            let event: serde_json::Value = serde_json::from_str(peeked.event.get()).unwrap();
            event["seq"].as_i64().unwrap()
        })
        .collect();
    assert_eq!(seqs, [2, 3]);
}

#[test]
fn what_was_dropped_is_shown_by_stream_and_reason_and_bytes_as_a_share_counts_them() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "gw1");
    fill(&config, 3);
    let mut file = File::open(&config.buffer.path, "gw1").unwrap();
    let plant = Hash::of("plant", Lane::Live);
    let whole = file.usage(plant);
    let of = vec![vec![(plant, "plant".to_owned())]];
    file.evict(&Demand { reason: Reason::Share, bytes: 1, of }, &Pins::default()).unwrap();
    let bytes = file.usage(plant);
    drop(file);
    let stats: Stats = asked(&config, &Request::Stats);
    assert_eq!((stats.flows[0].batches, stats.flows[0].bytes), (2, bytes));
    let (stream, reason) = ("plant".to_owned(), "share".to_owned());
    let dropped = words::Dropped { stream, reason, events: 1, bytes: whole - bytes };
    assert_eq!(stats.dropped, [dropped]);
}

#[test]
fn looking_begins_no_epoch_and_makes_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "gw1");
    let error = put(&config, &Request::Stats).unwrap_err();
    assert!(error.to_string().starts_with("there is no buffer at "), "{error}");
    assert!(!config.buffer.path.try_exists().unwrap());
    fill(&config, 1);
    let before: Stats = asked(&config, &Request::Stats);
    let after: Stats = asked(&config, &Request::Stats);
    assert_eq!((before.epochs.len(), after.epochs.len()), (1, 1));
}

#[test]
fn an_agent_that_takes_no_command_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "gw1");
    let _agent = Buffer::open(&config.buffer, "gw1", crate::clock::Clock::system()).unwrap();
    let error = put(&config, &Request::Stats).unwrap_err().to_string();
    assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
}

#[test]
fn a_buffer_is_carried_elsewhere_once_with_its_ids() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let from = config(here.path(), "gw1");
    let to = config(there.path(), "gw2");
    fill(&from, 3);
    fill(&to, 2);
    let copy = here.path().join("copy.db");
    buffer::export(&from.buffer.path, &copy).unwrap();
    buffer::export(&from.buffer.path, &copy).unwrap_err();
    assert_eq!(Foreign::open(&copy).unwrap().batches().unwrap(), 3);

    let import = Request::Import { file: copy.clone() };
    let first: Imported = asked(&to, &import);
    assert_eq!((first.batches, first.skipped, first.dead_letters), (3, 0, 1));
    let second: Imported = asked(&to, &import);
    assert_eq!((second.batches, second.skipped), (0, 3));
    let back: Imported = asked(&from, &import);
    assert_eq!((back.batches, back.skipped), (0, 3), "a file takes nothing of its own in");

    let all = Request::Peek { stream: None, events: 9, newest: false };
    let ids = |config| {
        let peeked: words::Peek = asked(config, &all);
        let id = |peeked: &words::Peeked| {
            let event: serde_json::Value = serde_json::from_str(peeked.event.get()).unwrap();
            format!("{}/{}/{}", event["gateway"], event["epoch"], event["seq"])
        };
        peeked.events.iter().map(id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&to)[2..], ids(&from));
    let verified = verify(&to.buffer.path, |_, _| {}).unwrap();
    assert_eq!((verified.events, verified.wrong), (5, Vec::new()));
}

#[test]
fn what_is_wrong_with_a_file_is_found() {
    for (damage, expected) in [
        ("UPDATE batch SET data = x'00' WHERE id & 255 = 2", "batch 2 of epoch"),
        ("UPDATE batch SET first_seq = 1 WHERE id & 255 = 2", "event 1 is in two batches"),
        ("DELETE FROM batch WHERE id & 255 = 1", "2 batches are there, the totals say 3"),
        ("DELETE FROM stream", "have no definition"),
        ("UPDATE batch SET oldest = 9 WHERE id & 255 = 3", "batch 3 of epoch"),
        ("DELETE FROM epoch", "the file does not know its epoch"),
        ("UPDATE state SET value = x'7b7d' WHERE key = 'usage'", "the bytes of each flow"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), "gw1");
        fill(&config, 3);
        let path = &config.buffer.path;
        assert_eq!(verify(path, |_, _| {}).unwrap().wrong, Vec::<String>::new());
        rusqlite::Connection::open(path).unwrap().execute_batch(damage).unwrap();
        let wrong = verify(path, |_, _| {}).unwrap().wrong;
        assert!(wrong.iter().any(|found| found.contains(expected)), "{damage}: {wrong:?}");
    }
}
