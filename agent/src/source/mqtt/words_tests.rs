//! What a broker says beside its messages, and what the source makes of it.

use super::*;

/// We offer no topic alias: what such a message is about nobody would know.
#[tokio::test]
async fn a_message_without_a_topic_is_an_error_and_never_acknowledged() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (intake, _commits) = Intake::for_test(16);
    let script = async {
        let mut peer = Peer::accept(&listener, false).await;
        peer.subscribed().await;
        // QoS 1, no topic, packet id 1, one property: Topic Alias 5.
        peer.stream.write_all(&[0x32, 9, 0, 0, 0, 1, 3, 0x23, 0, 5, b'1']).await.unwrap();
        let mut left = Vec::new();
        peer.stream.read_to_end(&mut left).await.ok();
        assert!(!left.contains(&0x40), "{left:?}");
    };
    let ((), ends) = beside(source(&listener, None), intake, script).await;
    assert!(ends.first().is_some_and(|end| end.contains("topic alias")), "{ends:?}");
}

/// The reason of the broker, and where it sends us.
#[tokio::test]
async fn a_goodbye_of_the_broker_and_a_session_that_it_forgets_too_soon_are_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (intake, _commits) = Intake::for_test(16);
    let link = Link::new("m".into());
    let state = link.watch();
    let script = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut peer = Peer { stream, inbox: BytesMut::new() };
        peer.read().await;
        // CONNACK with a Session Expiry Interval of an hour.
        peer.stream.write_all(&[0x20, 8, 0, 0, 5, 0x11, 0, 0, 0x0E, 0x10]).await.unwrap();
        peer.subscribed().await;
        while !state.borrow().faults.contains_key("the session") {
            tokio::task::yield_now().await;
        }
        let told = state.borrow().faults.get("the session").cloned();
        // DISCONNECT, session taken over, with a Reason String.
        peer.stream.write_all(&[0xE0, 7, 0x8E, 5, 0x1F, 0, 2, b'n', b'o']).await.unwrap();
        peer.stream.read_to_end(&mut Vec::new()).await.ok();
        told
    };
    let (told, ends) = beside_link(source(&listener, None), intake, link, script).await;
    assert!(told.is_some_and(|told| told.contains("for 1 h only")), "no hint at the hour");
    let end = ends.first().unwrap();
    assert!(end.contains("another client has logged in") && end.ends_with("(no)"), "{end}");
}

/// A broker that answers the login and delivers again what it holds of QoS 2, or nothing.
#[tokio::test]
async fn after_an_unanswered_login_a_message_of_qos_2_that_comes_again_is_known() {
    for old in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut session = Session::default();
        session.set_subscribed(9);
        session.publish(2, 7, false, 70);
        session.delivered(Some(Ticket(1)), 0);
        session.begin_login();
        let before: Option<Arc<[u8]>> = Some(session.checkpoint().into());
        let (intake, mut commits) = Intake::for_test(16);
        let script = async {
            let mut peer = Peer::accept(&listener, true).await;
            let again = [0x3C, 9, 0, 1, b'x', 0, 7, 0, b'{', b'}', b' '];
            if old {
                peer.stream.write_all(&again).await.unwrap();
            }
            peer.pinged().await;
            if old {
                peer.subscribed().await;
            } else {
                // What is forgotten is committed before anything is subscribed.
                let (ticket, deliveries) = next(&mut commits, 0).await;
                let left = Session::restore(saved(&deliveries).as_deref());
                assert!(left.idle().is_some(), "no id of QoS 2 is left");
                commits.commit(ticket);
                peer.subscribed().await;
            }
            peer
        };
        let run = beside(source(&listener, before), intake, script);
        let limit = std::time::Duration::from_secs(30);
        let (_peer, ends) = tokio::time::timeout(limit, run).await.expect("it subscribes");
        assert!(ends.is_empty(), "{ends:?}");
    }
}
