//! What a commit writes: each page that it changes, and no more of them than it needs.

use std::sync::Arc;

use crate::buffer::{Changes, Encoder, File, Position, Sealed};
use crate::collect::Checkpoint;
use crate::event::{Event, Field, Quality, Timestamp, Value};
use crate::flow::{self, Flows, Lane};

/// One of eight fields, as the bench sends them.
fn event(flow: flow::Id, n: u32) -> Event {
    let part = |of: u32, by: f64| Value::F64(3.0 + f64::from(n % of) / by);
    let fields = [
        ("n", Value::I64(i64::from(n) + 100_000_000)),
        ("temp", part(997, 100.0)),
        ("pressure", part(9_973, 10_000.0)),
        ("flow", part(4_999, 1_000.0)),
        ("speed", Value::I64(1_400 + i64::from(n) % 200)),
        ("level", part(7_919, 10_000.0)),
        ("state", Value::Text("running, program 42b".into())),
        ("alarm", Value::Bool(false)),
    ];
    let field = |(name, value): (&str, Value)| Field {
        name: name.into(),
        unit: None,
        value,
        quality: None,
    };
    Event {
        flow,
        device: format!("device-{:02}", n % 20).into(),
        time: Timestamp(1_795_727_676_986_548_951 + i64::from(n) * 50_000_000),
        read_at: None,
        quality: Quality::Good,
        fields: fields.into_iter().map(field).collect(),
    }
}

/// Pages of the commits since the last look: a -wal that is in the file begins anew.
fn written(file: &File) -> u32 {
    let look = "PRAGMA wal_checkpoint(PASSIVE)";
    file.connection.query_row(look, [], |row| row.get(1)).unwrap()
}

#[test]
fn a_second_of_twenty_events_changes_three_pages() {
    let folder = tempfile::tempdir().unwrap();
    let mut flows = Flows::default();
    let flow = flows.id("plant", Lane::Live);
    let mut file = File::open(&folder.path().join("buffer.db"), "gw1").unwrap();
    let mut position = Position::continued(None, "gw1", "kafka", file.epochs());
    let running = file.epochs().last().unwrap().epoch;
    // A session of MQTT with 40 messages that are not proven yet.
    let session = Checkpoint::Session([7; 180].as_slice().into());
    for second in 0..60 {
        let mut events = Encoder::default();
        for n in 0..20 {
            events.add(0, &Arc::from([]), &event(flow, second * 20 + n));
        }
        // What came a second ago is in Kafka.
        position.advance(flows.get(flow).hash, running, file.newest().number());
        let changes = Changes {
            batches: vec![Sealed { flow: flows.get(flow), events: &events }],
            saved: vec![("broker", &session)],
            positions: vec![(&position, "kafka")],
            ..Changes::default()
        };
        file.commit(&changes, Timestamp(0)).unwrap();
        let pages = written(&file);
        // The first ones make room.
        assert!(second < 2 || pages == 3, "second {second}: {pages} pages");
    }
}
