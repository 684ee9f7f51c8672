//! What a broker or a publisher does wrong, over the connection.

use super::*;

#[tokio::test]
async fn what_does_not_decode_and_what_is_too_large_are_dead_letters_and_acknowledged() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (intake, mut commits) = Intake::for_test(16);
    let script = async {
        let mut peer = Peer::accept(&listener, false).await;
        peer.subscribed().await;
        peer.publish(1, false, b"{no json").await;
        let (_, broken) = next(&mut commits, 1).await;
        // The source must read on while we write what no socket buffer holds.
        let large = vec![b'x'; 20 * 1024 * 1024];
        peer.publish(2, false, &large).await;
        peer.publish(3, false, br#"{"n":3}"#).await;
        let (ticket, deliveries) = next(&mut commits, 2).await;
        commits.commit(ticket);
        let acknowledged =
            [peer.acknowledged().await, peer.acknowledged().await, peer.acknowledged().await];
        assert_eq!(acknowledged, [1, 2, 3]);
        let dead = broken.into_iter().chain(deliveries).flat_map(|d| d.dead);
        dead.collect::<Vec<_>>()
    };
    let (dead, ends) = beside(source(&listener, None), intake, script).await;
    assert!(ends.is_empty(), "{ends:?}");
    let [broken, large] = dead.as_slice() else { panic!("{}", dead.len()) };
    assert!(broken.reason.starts_with("payload is not usable JSON"), "{}", broken.reason);
    assert_eq!(broken.origin, "m plant/l1/boiler/temp");
    assert_eq!(broken.payload, b"{no json");
    assert!(large.reason.starts_with("payload is larger than max_payload (1 MiB)"));
    assert_eq!(large.payload.len(), crate::collect::DEAD_LETTER_BYTES);
    assert!(large.length > 20 * 1024 * 1024);
}

#[tokio::test]
async fn elements_that_cannot_be_read_are_kept_whole_in_as_many_dead_letters_as_they_need() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (intake, mut commits) = Intake::for_test(16);
    let element = |n: usize| format!(r#"{{"n":{n},"x":"{}"}}"#, "x".repeat(1_000));
    let bad: Vec<String> = (0..200).map(element).collect();
    let script = async {
        let mut peer = Peer::accept(&listener, false).await;
        peer.subscribed().await;
        let payload = format!(r#"[{{"ts":1}},{}]"#, bad.join(","));
        peer.publish(1, false, payload.as_bytes()).await;
        let (ticket, deliveries) = next(&mut commits, 1).await;
        commits.commit(ticket);
        assert_eq!(peer.acknowledged().await, 1);
        deliveries.into_iter().flat_map(|d| d.dead).collect::<Vec<_>>()
    };
    let mqtt = source_with(&listener, None, |config| {
        let more = serde_json::json!({
            "topic": "plant/{line}/{device}/temp",
            "each": ".",
            "time": { "path": "ts", "format": "unix_s" },
        });
        config.subscriptions = vec![serde_json::from_value(more).unwrap()];
    });
    let (dead, ends) = beside(mqtt, intake, script).await;
    assert!(ends.is_empty(), "{ends:?}");
    assert!(dead.iter().all(|dead| dead.length == dead.payload.len() as u64), "one is cut");
    let kept: Vec<u8> = dead.iter().flat_map(|dead| dead.payload.clone()).collect();
    assert_eq!((dead.len(), String::from_utf8(kept).unwrap()), (4, bad.join("\n") + "\n"));
}

#[tokio::test]
async fn a_topic_that_is_no_text_is_a_dead_letter_and_acknowledged() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (intake, mut commits) = Intake::for_test(16);
    let script = async {
        let mut peer = Peer::accept(&listener, false).await;
        peer.subscribed().await;
        // QoS 1, a topic with a byte of Latin-1, id 7, no properties.
        let packet = b"\x32\x0A\x00\x03t/\xB0\x00\x07\x0021";
        peer.stream.write_all(packet).await.unwrap();
        let (ticket, deliveries) = next(&mut commits, 1).await;
        commits.commit(ticket);
        assert_eq!(peer.acknowledged().await, 7);
        let dead: Vec<_> = deliveries.into_iter().flat_map(|d| d.dead).collect();
        (dead[0].reason.clone(), dead[0].payload.clone())
    };
    let (dead, ends) = beside(source(&listener, None), intake, script).await;
    assert_eq!(dead, ("topic is no text".to_owned(), b"21".to_vec()));
    assert!(ends.is_empty(), "{ends:?}");
}

#[tokio::test]
async fn payloads_that_are_too_large_are_one_fault_and_good_ones_end_it_on_the_next_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (intake, mut commits) = Intake::for_test(200);
    let link = Link::new("m".into());
    let state = link.watch();
    let faults = || state.borrow().faults.clone();
    let script = async {
        let mut peer = Peer::accept(&listener, false).await;
        peer.subscribed().await;
        // When this is there the subscription is done, and faults are told.
        peer.publish(1, false, br#"{"n":1}"#).await;
        next(&mut commits, 1).await;
        peer.publish(2, false, &[b'x'; 2_000]).await;
        next(&mut commits, 1).await;
        let first = faults();
        peer.publish(3, false, &[b'y'; 2_000]).await;
        let (ticket, _) = next(&mut commits, 1).await;
        commits.commit(ticket);
        assert_eq!(first.keys().collect::<Vec<_>>(), ["plant/+/+/temp"]);
        assert_eq!(faults(), first, "the second says nothing new");
        drop(peer);
        begins_login(&mut commits).await;
        let mut peer = Peer::accept(&listener, true).await;
        for id in 4..104 {
            peer.publish(id, false, br#"{"n":1}"#).await;
        }
        next(&mut commits, 100).await;
        faults()
    };
    let mqtt = source_with(&listener, None, |config| {
        config.max_payload = "1 KiB".parse().unwrap();
    });
    let (faults, _) = beside_link(mqtt, intake, link, script).await;
    assert!(faults.is_empty(), "{faults:?}");
}

#[tokio::test]
async fn a_granted_qos_below_the_asked_one_is_a_fault() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (intake, mut commits) = Intake::for_test(16);
    let link = Link::new("m".into());
    let state = link.watch();
    let script = async {
        let mut peer = Peer::accept(&listener, false).await;
        // The script grants QoS 1.
        peer.subscribed().await;
        peer.publish(1, false, br#"{"n":1}"#).await;
        next(&mut commits, 1).await;
        peer.publish(2, false, br#"{"n":2}"#).await;
        next(&mut commits, 1).await;
        state.borrow().faults.clone()
    };
    let mqtt = source_with(&listener, None, |config| config.qos = Qos::ExactlyOnce);
    let (faults, _) = beside_link(mqtt, intake, link, script).await;
    assert_eq!(faults.get("plant/+/+/temp").unwrap(), "the broker grants QoS 1, not 2");
}

#[tokio::test]
async fn a_refused_login_is_told_with_its_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (intake, _commits) = Intake::for_test(16);
    let script = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut peer = Peer { stream, inbox: BytesMut::new() };
        peer.read().await;
        let code = ConnectReturnCode::BadUserNamePassword;
        let session_present = false;
        peer.write(&Packet::ConnAck(ConnAck { session_present, code, properties: None })).await;
        // The next attempt shows that the first has ended.
        let again = listener.accept().await.unwrap();
        drop((peer, again));
    };
    let ((), ends) = beside(source(&listener, None), intake, script).await;
    let address = listener.local_addr().unwrap();
    assert_eq!(
        ends.first().unwrap(),
        &format!("{address} refused the login: wrong user name or password")
    );
}
