//! The whole source against a scripted broker over TCP.

use std::sync::Arc;

use bytes::BytesMut;
use rumqttc_v5::mqttbytes::QoS;
use rumqttc_v5::mqttbytes::v5::{
    ConnAck, ConnectReturnCode, Packet, Publish, SubAck, SubscribeReasonCode,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::collect::{Checkpoint, Delivery, TestCommits, Ticket};
use crate::event::{Timestamp, Value};
use crate::flow::Flows;

#[path = "trouble_tests.rs"]
mod trouble;
#[path = "words_tests.rs"]
mod words;

/// The broker's side of one connection.
struct Peer {
    stream: TcpStream,
    inbox: BytesMut,
}

impl Peer {
    async fn accept(listener: &TcpListener, session_present: bool) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        Self::log_in(stream, session_present).await
    }

    async fn log_in(stream: TcpStream, session_present: bool) -> Self {
        let mut peer = Self { stream, inbox: BytesMut::new() };
        let Packet::Connect(connect, ..) = peer.read().await else { panic!("no CONNECT") };
        assert!(!connect.clean_start);
        let code = ConnectReturnCode::Success;
        peer.write(&Packet::ConnAck(ConnAck { session_present, code, properties: None })).await;
        peer
    }

    async fn subscribed(&mut self) {
        let Packet::Subscribe(subscribe) = self.read().await else { panic!("no SUBSCRIBE") };
        let return_codes =
            vec![SubscribeReasonCode::Success(QoS::AtLeastOnce); subscribe.filters.len()];
        let pkid = subscribe.pkid;
        self.write(&Packet::SubAck(SubAck { pkid, return_codes, properties: None })).await;
    }

    /// The next packet but for PINGREQs, which ask for a proof at any time.
    async fn read(&mut self) -> Packet {
        loop {
            match self.any().await {
                Packet::PingReq => {}
                packet => return packet,
            }
        }
    }

    async fn any(&mut self) -> Packet {
        loop {
            if let Ok(packet) = Packet::read(&mut self.inbox, None) {
                return packet;
            }
            assert_ne!(self.stream.read_buf(&mut self.inbox).await.unwrap(), 0, "closed");
        }
    }

    async fn write(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn publish(&mut self, id: u16, dup: bool, payload: &[u8]) {
        let mut publish =
            Publish::new("plant/l1/boiler/temp", QoS::AtLeastOnce, payload.to_vec(), None);
        publish.pkid = id;
        publish.dup = dup;
        self.write(&Packet::Publish(publish)).await;
    }

    async fn pinged(&mut self) {
        let packet = self.any().await;
        assert!(matches!(packet, Packet::PingReq), "not a PINGREQ: {packet:?}");
        self.stream.write_all(&[0xD0, 0]).await.unwrap();
    }

    async fn acknowledged(&mut self) -> u16 {
        match self.read().await {
            Packet::PubAck(ack) => ack.pkid,
            other => panic!("not a PUBACK: {other:?}"),
        }
    }
}

fn source(listener: &TcpListener, saved: Option<Arc<[u8]>>) -> Mqtt {
    source_with(listener, saved, |_| {})
}

fn source_with(
    listener: &TcpListener,
    saved: Option<Arc<[u8]>>,
    change: impl FnOnce(&mut Config),
) -> Mqtt {
    let mut config: Config = serde_json::from_value(serde_json::json!({
        "name": "m",
        "address": listener.local_addr().unwrap().to_string(),
        "subscription": [{ "topic": "plant/{line}/{device}/temp" }],
    }))
    .unwrap();
    change(&mut config);
    assert_eq!(config.check(), []);
    let clock = Clock::fixed(Timestamp(5));
    Mqtt::new(
        config,
        Setup { gateway: "gw", flows: &mut Flows::default(), clock, saved, lost: false },
    )
}

/// Runs the source beside a script, which must end first; gives how the
/// source's last connection ended.
async fn beside<T>(
    mqtt: Mqtt,
    intake: Intake,
    script: impl Future<Output = T>,
) -> (T, Vec<String>) {
    beside_link(mqtt, intake, Link::new("m".into()), script).await
}

async fn beside_link<T>(
    mut mqtt: Mqtt,
    mut intake: Intake,
    mut link: Link,
    script: impl Future<Output = T>,
) -> (T, Vec<String>) {
    let stop = CancellationToken::new();
    let ends = async {
        let mut ends = Vec::new();
        while let Err(error) = mqtt.run(&mut intake, &mut link, &stop).await {
            ends.push(error.to_string());
        }
        ends
    };
    let script = async {
        let result = script.await;
        stop.cancel();
        result
    };
    let (ends, result) = tokio::join!(ends, script);
    (result, ends)
}

/// Deliveries until `events` events or dead letters have come.
async fn next(commits: &mut TestCommits, events: usize) -> (Ticket, Vec<Delivery>) {
    let mut found = Vec::new();
    let mut count = 0;
    loop {
        let (ticket, delivery) = commits.deliveries.recv().await.unwrap();
        count += delivery.events.len() + delivery.dead.len();
        found.push(delivery);
        if count >= events {
            return (ticket, found);
        }
    }
}

/// Commits that nothing is known to be subscribed, which stands before a login.
async fn begins_login(commits: &mut TestCommits) -> Option<Arc<[u8]>> {
    loop {
        let (ticket, delivery) = commits.deliveries.recv().await.unwrap();
        assert!(delivery.events.is_empty() && delivery.dead.is_empty());
        commits.commit(ticket);
        let saved = saved(&[delivery]);
        if Session::restore(saved.as_deref()).subscribed() == 0 {
            return saved;
        }
    }
}

fn numbers(deliveries: &[Delivery]) -> Vec<i64> {
    let events = deliveries.iter().flat_map(|delivery| &delivery.events);
    let field = |event: &crate::event::Event| event.fields.last().unwrap().value.clone();
    events
        .map(|event| match field(event) {
            Value::I64(n) => n,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn saved(deliveries: &[Delivery]) -> Option<Arc<[u8]>> {
    deliveries.iter().rev().find_map(|delivery| match &delivery.checkpoint {
        Some(Checkpoint::Session(bytes)) => Some(Arc::clone(bytes)),
        _ => None,
    })
}

#[tokio::test]
async fn a_message_becomes_an_event_and_is_acknowledged_after_its_commit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (intake, mut commits) = Intake::for_test(16);
    let script = async {
        let mut peer = Peer::accept(&listener, false).await;
        peer.subscribed().await;
        peer.publish(1, false, br#"{"n":1}"#).await;
        peer.publish(2, false, br#"{"n":2}"#).await;
        let (ticket, deliveries) = next(&mut commits, 2).await;
        let event = &deliveries.iter().find_map(|d| d.events.first()).unwrap();
        assert_eq!((&*event.device, event.time), ("boiler", Timestamp(5)));
        assert_eq!(
            (&*event.fields[0].name, &event.fields[0].value),
            ("line", &Value::Text("l1".into()))
        );
        assert_eq!(numbers(&deliveries), [1, 2]);
        // The ping's answer overtakes nothing: had they been acknowledged
        // before the commit, that would stand before it.
        commits.commit(ticket);
        assert_eq!((peer.acknowledged().await, peer.acknowledged().await), (1, 2));
        peer
    };
    let (mut peer, ends) = beside(source(&listener, None), intake, script).await;
    assert!(ends.is_empty());
    assert!(matches!(peer.read().await, Packet::Disconnect(_)), "it says goodbye");
}

#[tokio::test]
async fn a_message_of_several_events_is_one_delivery_with_one_acknowledgement() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (intake, mut commits) = Intake::for_test(16);
    let each = |config: &mut Config| {
        let keys = serde_json::json!({
            "topic": "plant/{line}/{device}/temp",
            "each": "r",
            "time": { "path": "t", "format": "unix_s" },
        });
        config.subscriptions = vec![serde_json::from_value(keys).unwrap()];
    };
    let script = async {
        let mut peer = Peer::accept(&listener, false).await;
        peer.subscribed().await;
        peer.publish(1, false, br#"{"r":[{"t":1,"n":1},{"n":2},{"t":3,"n":3}]}"#).await;
        let (ticket, deliveries) = next(&mut commits, 1).await;
        assert_eq!(numbers(&deliveries), [1, 3]);
        let whole = deliveries.last().unwrap();
        assert_eq!((whole.events.len(), whole.dead.len()), (2, 1));
        assert_eq!(whole.dead[0].payload, b"{\"n\":2}\n");
        let held: usize = whole.events.iter().map(crate::event::Event::memory).sum();
        assert_eq!(whole.bytes, held + whole.dead[0].memory());
        commits.commit(ticket);
        assert_eq!(peer.acknowledged().await, 1);
        // One without events is acknowledged, too.
        peer.publish(2, false, br#"{"r":[]}"#).await;
        let acknowledged = peer.acknowledged();
        tokio::pin!(acknowledged);
        loop {
            tokio::select! {
                id = &mut acknowledged => return id,
                (ticket, empty) = next(&mut commits, 0) => {
                    assert_eq!(numbers(&empty).len(), 0);
                    commits.commit(ticket);
                }
            }
        }
    };
    let (id, ends) = beside(source_with(&listener, None, each), intake, script).await;
    assert_eq!((id, ends), (2, Vec::new()));
}

#[tokio::test]
async fn after_a_lost_connection_nothing_is_connected_before_the_commit_and_redeliveries_are_recognised()
 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (intake, mut commits) = Intake::for_test(16);
    let script = async {
        let mut peer = Peer::accept(&listener, false).await;
        peer.subscribed().await;
        peer.publish(1, false, br#"{"n":1}"#).await;
        let (first_ticket, first) = next(&mut commits, 1).await;
        // It has seen the end when it has closed its own.
        peer.stream.shutdown().await.unwrap();
        while peer.stream.read_buf(&mut peer.inbox).await.unwrap() > 0 {}
        let early = tokio::select! {
            biased;
            _ = listener.accept() => true,
            () = async { for _ in 0..100 { tokio::task::yield_now().await } } => false,
        };
        assert!(!early, "connected before the commit");
        commits.commit(first_ticket);
        // It says that its session is in question before it asks for it.
        let (stream, _) = listener.accept().await.unwrap();
        let (ticket, login) = next(&mut commits, 0).await;
        assert_eq!(Session::restore(saved(&login).as_deref()).subscribed(), 0);
        let asked = stream.try_read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(asked, Err(std::io::ErrorKind::WouldBlock), "logged in before the commit");
        commits.commit(ticket);
        let mut peer = Peer::log_in(stream, true).await;
        peer.publish(1, true, br#"{"n":1}"#).await;
        peer.publish(2, false, br#"{"n":2}"#).await;
        let (ticket, second) = next(&mut commits, 1).await;
        commits.commit(ticket);
        assert_eq!((peer.acknowledged().await, peer.acknowledged().await), (1, 2));
        (numbers(&first), numbers(&second))
    };
    let (found, ends) = beside(source(&listener, None), intake, script).await;
    assert_eq!(found, (vec![1], vec![2]));
    assert_eq!(ends.len(), 1);
}

/// What is saved after a message 6 that was committed; the messages before show
/// that the broker counts, if the peer proves that their PUBACKs arrive.
async fn saved_after_six(listener: &TcpListener, proves: bool) -> Option<Arc<[u8]>> {
    let (intake, mut commits) = Intake::for_test(16);
    let script = async {
        let mut peer = Peer::accept(listener, false).await;
        peer.subscribed().await;
        for id in 1..6 {
            peer.publish(id, false, format!(r#"{{"n":{id}}}"#).as_bytes()).await;
            let (ticket, _) = next(&mut commits, 1).await;
            commits.commit(ticket);
            assert_eq!(peer.acknowledged().await, id);
            // With the fifth it is known, and a proof not needed at once.
            if proves && id < 5 {
                peer.pinged().await;
            }
        }
        peer.publish(6, false, br#"{"n":6}"#).await;
        let (ticket, deliveries) = next(&mut commits, 1).await;
        commits.commit(ticket);
        saved(&deliveries)
    };
    beside(source(listener, None), intake, script).await.0
}

/// What is taken after a crash of a broker that delivers message 6 again and then
/// sends another.
async fn taken_after_a_crash(listener: &TcpListener, held: Option<Arc<[u8]>>) -> Vec<i64> {
    let (intake, mut commits) = Intake::for_test(16);
    let script = async {
        begins_login(&mut commits).await;
        let mut peer = Peer::accept(listener, true).await;
        let (ticket, known) = next(&mut commits, 0).await;
        assert_ne!(Session::restore(saved(&known).as_deref()).subscribed(), 0);
        commits.commit(ticket);
        peer.publish(6, true, br#"{"n":6}"#).await;
        peer.publish(7, false, br#"{"n":7}"#).await;
        let mut found = Vec::new();
        while found.last() != Some(&7) {
            let (ticket, deliveries) = next(&mut commits, 1).await;
            commits.commit(ticket);
            found.append(&mut numbers(&deliveries));
        }
        assert_eq!((peer.acknowledged().await, peer.acknowledged().await), (6, 7));
        found
    };
    beside(source(listener, held), intake, script).await.0
}

#[tokio::test]
async fn after_a_crash_the_saved_session_recognises_what_was_committed_and_subscribes_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let held = saved_after_six(&listener, true).await;
    assert_eq!(taken_after_a_crash(&listener, held).await, [7]);
}

#[tokio::test]
async fn after_a_crash_what_a_broker_that_may_reuse_its_ids_delivers_again_is_taken_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let held = saved_after_six(&listener, false).await;
    assert_eq!(taken_after_a_crash(&listener, held).await, [6, 7]);
}

#[tokio::test]
async fn a_session_that_a_lost_login_may_have_made_is_subscribed_even_after_a_crash() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (intake, mut commits) = Intake::for_test(16);
    let script = async {
        Peer::accept(&listener, false).await.subscribed().await;
        let saved = begins_login(&mut commits).await;
        // The broker has lost the session, makes another, and its CONNACK is lost.
        let (stream, _) = listener.accept().await.unwrap();
        Peer { stream, inbox: BytesMut::new() }.read().await;
        Peer::accept(&listener, true).await.subscribed().await;
        saved
    };
    let (saved, ends) = beside(source(&listener, None), intake, script).await;
    assert_eq!(ends.len(), 2, "{ends:?}");
    // Killed while that login was under way.
    let (intake, _commits) = Intake::for_test(16);
    let script = async { Peer::accept(&listener, true).await.subscribed().await };
    let _ends = beside(source(&listener, saved), intake, script).await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_not_read_is_not_taken_for_silent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (intake, mut commits) = Intake::for_test(16);
    let script = async {
        let mut peer = Peer::accept(&listener, false).await;
        peer.subscribed().await;
        peer.publish(1, false, br#"{"n":1}"#).await;
        let (ticket, _) = next(&mut commits, 1).await;
        // Without a commit there is no room to read.
        for _ in 0..5 {
            peer.pinged().await;
        }
        commits.commit(ticket);
        assert_eq!(peer.acknowledged().await, 1);
    };
    let mqtt = source_with(&listener, None, |config| config.max_unacknowledged = 1);
    let ((), ends) = beside(mqtt, intake, script).await;
    assert!(ends.is_empty(), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn no_more_bytes_wait_for_their_commit_than_may_be() {
    const BOUND: usize = 64 * 1024;
    const PAYLOAD: usize = 8 * 1024;
    const COUNT: u16 = 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (intake, mut commits) = Intake::for_test(1_000);
    let script = async {
        let mut peer = Peer::accept(&listener, false).await;
        peer.subscribed().await;
        // Until it is subscribed there is no bound.
        peer.pinged().await;
        let payload = format!(r#"{{"text":"{}"}}"#, "x".repeat(PAYLOAD));
        for id in 1..=COUNT {
            peer.publish(id, false, payload.as_bytes()).await;
        }
        // By then it stands still.
        for _ in 0..3 {
            peer.pinged().await;
        }
        let (mut waiting, mut count, mut last) = (0, 0, Ticket::default());
        while let Ok((ticket, delivery)) = commits.deliveries.try_recv() {
            waiting += delivery.bytes;
            count += delivery.events.len();
            last = ticket;
        }
        while count < usize::from(COUNT) {
            commits.commit(last);
            let (ticket, deliveries) = next(&mut commits, 1).await;
            count += deliveries.iter().map(|delivery| delivery.events.len()).sum::<usize>();
            last = ticket;
        }
        waiting
    };
    let bound = crate::units::ByteSize(BOUND as u64);
    let mqtt = source_with(&listener, None, |config| config.max_unacknowledged_bytes = bound);
    let (waiting, ends) = beside(mqtt, intake, script).await;
    assert!(ends.is_empty(), "{ends:?}");
    assert!((BOUND..BOUND + 2 * PAYLOAD).contains(&waiting), "{waiting}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_full_buffer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // It holds the subscriptions, and then nothing more.
    let (intake, _commits) = Intake::for_test(1);
    let script = async {
        let mut peer = Peer::accept(&listener, false).await;
        peer.subscribed().await;
        peer.pinged().await;
        peer.publish(1, false, br#"{"n":1}"#).await;
        // By now it holds the message, and waits.
        peer.pinged().await;
        peer
    };
    let run = beside(source(&listener, None), intake, script);
    let limit = std::time::Duration::from_mins(10);
    let (_peer, ends) = tokio::time::timeout(limit, run).await.expect("it stops");
    assert!(ends.is_empty(), "{ends:?}");
}
