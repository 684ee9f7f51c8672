//! The Sparkplug host over the whole connection, against a scripted broker.

use bytes::BytesMut;
use prost::Message as _;
use rumqttc_v5::mqttbytes::QoS;
use rumqttc_v5::mqttbytes::v5::{
    ConnAck, ConnectReturnCode, LastWill, Packet, Publish, SubAck, SubscribeReasonCode,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::super::*;
use crate::collect::{Delivery, TestCommits};
use crate::decode::sparkplug::proto::{DataType, Metric, MetricValue, Payload};
use crate::event::{Quality, Timestamp};
use crate::flow::Flows;
use crate::supervise::Standing;

struct Peer {
    stream: TcpStream,
    inbox: BytesMut,
    will: Option<LastWill>,
    filters: Vec<String>,
}

impl Peer {
    /// A login and its subscription, which is answered.
    async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        let mut peer = Self { stream, inbox: BytesMut::new(), will: None, filters: Vec::new() };
        let Packet::Connect(connect, will, _) = peer.read().await else { panic!("no CONNECT") };
        assert!(connect.clean_start, "a host begins anew");
        peer.will = will;
        let (code, session_present) = (ConnectReturnCode::Success, false);
        peer.write(&Packet::ConnAck(ConnAck { session_present, code, properties: None })).await;
        let Packet::Subscribe(subscribe) = peer.read().await else { panic!("no SUBSCRIBE") };
        peer.filters = subscribe.filters.iter().map(|filter| filter.path.clone()).collect();
        let return_codes =
            vec![SubscribeReasonCode::Success(QoS::AtLeastOnce); subscribe.filters.len()];
        let pkid = subscribe.pkid;
        peer.write(&Packet::SubAck(SubAck { pkid, return_codes, properties: None })).await;
        peer
    }

    async fn read(&mut self) -> Packet {
        loop {
            match Packet::read(&mut self.inbox, None) {
                Ok(Packet::PingReq) => self.stream.write_all(&[0xD0, 0]).await.unwrap(),
                Ok(packet) => return packet,
                Err(_) => {
                    assert_ne!(self.stream.read_buf(&mut self.inbox).await.unwrap(), 0, "closed");
                }
            }
        }
    }

    async fn published(&mut self) -> Publish {
        match self.read().await {
            Packet::Publish(publish) => publish,
            other => panic!("not a PUBLISH: {other:?}"),
        }
    }

    async fn write(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn say(&mut self, topic: &str, payload: Vec<u8>) {
        let publish = Publish::new(topic, QoS::AtMostOnce, payload, None);
        self.write(&Packet::Publish(publish)).await;
    }
}

fn message(seq: u64, name: Option<&str>, value: i32) -> Vec<u8> {
    let metric = Metric {
        name: name.map(str::to_owned),
        alias: Some(7),
        datatype: name.map(|_| DataType::Int32 as u32),
        value: Some(MetricValue::Int(value.cast_unsigned())),
        ..Metric::default()
    };
    let (seq, metrics) = (Some(seq), vec![metric]);
    Payload { timestamp: Some(1), metrics, seq, ..Payload::default() }.encode_to_vec()
}

fn host(listener: &TcpListener, more: &serde_json::Value) -> Mqtt {
    restored(listener, more, None)
}

fn restored(listener: &TcpListener, more: &serde_json::Value, saved: Option<Vec<u8>>) -> Mqtt {
    let mut config = serde_json::json!({
        "name": "s",
        "address": listener.local_addr().unwrap().to_string(),
        // Time is virtual, and passes while the script thinks.
        "keep_alive": "18 h",
        "connect_timeout": "18 h",
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config: sparkplug::Config = serde_json::from_value(config).unwrap();
    assert_eq!(config.check(), []);
    let clock = Clock::fixed(Timestamp(5_000_000_000));
    let saved = saved.map(Into::into);
    let setup = Setup { gateway: "gw", flows: &mut Flows::default(), clock, saved, lost: false };
    Mqtt::host(&config, setup)
}

/// Runs the host beside a script; then stops it beside another.
async fn beside<T>(
    mut mqtt: Mqtt,
    mut intake: Intake,
    script: impl AsyncFnOnce(&CancellationToken) -> T,
) -> (T, Link) {
    let mut link = Link::new("s".into());
    let stop = CancellationToken::new();
    let run = async { while mqtt.run(&mut intake, &mut link, &stop).await.is_err() {} };
    let script = async {
        let result = script(&stop).await;
        stop.cancel();
        result
    };
    let ((), result) = tokio::join!(run, script);
    (result, link)
}

/// Commits whatever comes beside a script.
async fn committed<T>(commits: &mut TestCommits, script: impl Future<Output = T>) -> T {
    tokio::pin!(script);
    loop {
        tokio::select! {
            result = &mut script => return result,
            Some((ticket, _)) = commits.deliveries.recv() => commits.commit(ticket),
        }
    }
}

async fn delivery(commits: &mut TestCommits) -> Delivery {
    loop {
        let (ticket, delivery) = commits.deliveries.recv().await.unwrap();
        commits.commit(ticket);
        if !delivery.events.is_empty() {
            return delivery;
        }
    }
}

fn told(delivery: &Delivery) -> Vec<(Quality, String)> {
    let event = |event: &crate::event::Event| {
        let field = event.fields.last().unwrap();
        (event.quality, format!("{}={:?}", field.name, field.value))
    };
    delivery.events.iter().map(event).collect()
}

#[tokio::test]
async fn a_primary_host_is_online_after_its_subscription_and_offline_before_its_goodbye() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (intake, mut commits) = Intake::for_test(16);
    let mqtt = host(&listener, &serde_json::json!({ "host_id": "h", "groups": ["g"] }));
    let script = async |stop: &CancellationToken| {
        let mut peer = Peer::accept(&listener).await;
        let will = peer.will.take().unwrap();
        let state = "spBv1.0/STATE/h";
        assert_eq!(
            (&*will.topic, will.qos, will.retain),
            (state.as_bytes(), QoS::AtLeastOnce, true)
        );
        assert_eq!(will.message, r#"{"online":false,"timestamp":5000}"#);
        assert_eq!(peer.filters.first().map(String::as_str), Some(state));
        assert!(peer.filters.contains(&"spBv1.0/g/DDATA/+/+".to_owned()));
        assert!(peer.filters.iter().all(|filter| !filter.contains("CMD")));
        let online = peer.published().await;
        assert_eq!(
            (&*online.topic, online.qos, online.retain),
            (state.as_bytes(), QoS::AtLeastOnce, true)
        );
        assert_eq!(online.payload, r#"{"online":true,"timestamp":5000}"#);
        // Somebody says that it is away.
        peer.say(state, br#"{"online":false,"timestamp":4999}"#.to_vec()).await;
        assert_eq!(peer.published().await.payload, online.payload);
        stop.cancel();
        let goodbye = async {
            assert_eq!(peer.published().await.payload, r#"{"online":false,"timestamp":5000}"#);
            assert!(matches!(peer.read().await, Packet::Disconnect(_)));
        };
        committed(&mut commits, goodbye).await;
    };
    beside(mqtt, intake, script).await;
}

#[tokio::test]
async fn data_before_its_birth_asks_for_one_and_is_decoded_by_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (intake, mut commits) = Intake::for_test(16);
    let script = async |_: &CancellationToken| {
        let mut peer = Peer::accept(&listener).await;
        assert!(peer.will.is_none());
        peer.say("spBv1.0/g/NDATA/n", message(4, None, -2)).await;
        let asked = peer.published().await;
        assert_eq!((&*asked.topic, asked.qos), (&b"spBv1.0/g/NCMD/n"[..], QoS::AtMostOnce));
        let command = Payload::decode(asked.payload).unwrap();
        assert_eq!(command.metrics[0].name.as_deref(), Some("Node Control/Rebirth"));
        assert_eq!(command.metrics[0].value, Some(MetricValue::Boolean(true)));
        peer.say("spBv1.0/g/NBIRTH/n", message(0, Some("temp"), -1)).await;
        let first = delivery(&mut commits).await;
        let good = |value: i32| (Quality::Good, format!("temp=I64({value})"));
        assert_eq!(told(&first), [good(-1), good(-2)]);
        assert_eq!(&*first.events[0].device, "n");
        peer.say("spBv1.0/g/NDATA/n", message(1, None, -3)).await;
        assert_eq!(told(&delivery(&mut commits).await), [good(-3)]);
        // A stranger's bytes are a dead letter and stop nothing.
        peer.say("spBv1.0/g/NDATA/n", vec![0xFF]).await;
        let (ticket, dead) = commits.deliveries.recv().await.unwrap();
        commits.commit(ticket);
        assert!(dead.dead[0].reason.starts_with("payload is not of Sparkplug B"));
        drop(peer);
        // The connection is lost: what was known is stale.
        let lost = delivery(&mut commits).await;
        assert_eq!(told(&lost), [(Quality::Stale, "temp=I64(-3)".to_owned())]);
        let again = async {
            let mut peer = Peer::accept(&listener).await;
            peer.published().await.topic
        };
        let topic = committed(&mut commits, again).await;
        assert_eq!(topic, "spBv1.0/g/NCMD/n", "one that was there is asked");
    };
    let mqtt = host(&listener, &serde_json::json!({ "rebirth_interval": "1 s" }));
    let ((), link) = beside(mqtt, intake, script).await;
    let device = link.watch().borrow().devices["n"].clone();
    assert_eq!(
        (device.standing, &*device.reason),
        (Standing::Down, "the connection to the broker is lost")
    );
}

#[tokio::test(start_paused = true)]
async fn what_waits_too_long_goes_out_by_itself_and_at_a_stop_all_does() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (intake, mut commits) = Intake::for_test(16);
    let script = async |stop: &CancellationToken| {
        let mut peer = Peer::accept(&listener).await;
        peer.say("spBv1.0/g/NDATA/n", message(4, None, 1)).await;
        peer.published().await;
        let began = Instant::now();
        let first = delivery(&mut commits).await;
        assert_eq!(told(&first), [(Quality::Stale, "alias_7=I64(1)".to_owned())]);
        let waited = began.elapsed().as_secs();
        assert!((85..=91).contains(&waited), "{waited} s");
        // The request was not answered, and has been repeated.
        peer.published().await;
        peer.say("spBv1.0/g/NDATA/n", message(5, None, 2)).await;
        // Another request: the message was read.
        peer.published().await;
        stop.cancel();
        let last = delivery(&mut commits).await;
        assert_eq!(told(&last), [(Quality::Stale, "alias_7=I64(2)".to_owned())]);
    };
    beside(host(&listener, &serde_json::json!({})), intake, script).await;
}

#[tokio::test]
async fn what_a_crash_left_goes_out_with_the_first_commit_that_no_longer_keeps_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (intake, mut commits) = Intake::for_test(16);
    let mut before = host(&listener, &serde_json::json!({}));
    let held = sparkplug::Arrived {
        topic: b"spBv1.0/g/NDATA/n",
        payload: &message(4, None, 1),
        retained: false,
        qos: 1,
        now: Instant::now(),
        time: Timestamp(4_000_000_000),
    };
    before.host.as_mut().unwrap().take(held).unwrap();
    let saved = before.host.as_ref().unwrap().checkpoint();
    let script = async |_: &CancellationToken| {
        let _peer = Peer::accept(&listener).await;
        let (ticket, first) = commits.deliveries.recv().await.unwrap();
        commits.commit(ticket);
        assert_eq!(told(&first), [(Quality::Stale, "alias_7=I64(1)".to_owned())]);
    };
    let mqtt = restored(&listener, &serde_json::json!({}), Some(saved));
    beside(mqtt, intake, script).await;
}

#[tokio::test]
async fn behind_a_birth_that_is_too_large_the_one_before_decodes_nothing_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (intake, mut commits) = Intake::for_test(16);
    let script = async |_: &CancellationToken| {
        let mut peer = Peer::accept(&listener).await;
        let good = |value: i32| (Quality::Good, format!("temp=I64({value})"));
        peer.say("spBv1.0/g/NBIRTH/n", message(0, Some("temp"), 1)).await;
        assert_eq!(told(&delivery(&mut commits).await), [good(1)]);
        peer.say("spBv1.0/g/NBIRTH/n", vec![0; 2_000]).await;
        peer.say("spBv1.0/g/NDATA/n", message(1, None, 2)).await;
        peer.say("spBv1.0/g/NBIRTH/n", message(0, Some("temp"), 3)).await;
        assert_eq!(told(&delivery(&mut commits).await), [good(3), good(2)]);
    };
    let mqtt = host(&listener, &serde_json::json!({ "max_payload": "1 KiB" }));
    beside(mqtt, intake, script).await;
}

#[tokio::test]
async fn who_only_looks_does_not_listen_to_what_the_host_says_of_itself() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut mqtt = host(&listener, &serde_json::json!({ "host_id": "h" }));
    mqtt.tap();
    assert_eq!(mqtt.filters.len(), 6);
    assert!(mqtt.filters.iter().all(|(filter, _)| !filter.contains("STATE")));
}
