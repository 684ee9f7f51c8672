//! The broker's core: sessions, their queues and what is in flight. No socket,
//! no clock.
//!
//! A session keeps the order in which messages came: they leave the queue for
//! the window in that order, and after a reconnect the whole window goes again,
//! in that order, under the old packet ids and with DUP set (MQTT-4.4.0-1,
//! MQTT-4.6.0-1).

use std::collections::{BTreeMap, VecDeque};

use rumqttc_v4::mqttbytes::v4::Publish;
use rumqttc_v4::mqttbytes::{QoS, matches};

/// Messages that may wait for their acknowledgement: mosquitto's default.
pub const WINDOW: usize = 20;

/// Messages that a session may keep: an outage of half an hour at 50 a second.
/// Beyond it the publisher is told that its message was not taken.
pub const QUEUE: usize = 100_000;

/// What one client id has here, connected or not.
#[derive(Debug, Default)]
struct Session {
    /// The connection that owns it; 0: none.
    connection: u64,
    filters: BTreeMap<String, QoS>,
    queue: VecDeque<Publish>,
    window: VecDeque<Publish>,
    last_id: u16,
}

/// Whether a message was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// By every session that subscribed to it; possibly none did.
    By(usize),
    /// A session's queue is full; no session took it.
    No,
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    sessions: BTreeMap<String, Session>,
    last_connection: u64,
}

impl Sessions {
    /// A client connects; returns the number of its connection, whether its
    /// session was there, and what goes again at once. An older connection of
    /// the same client no longer owns the session.
    pub fn connect(&mut self, client: &str, clean: bool) -> (u64, bool, Vec<Publish>) {
        self.last_connection += 1;
        if clean {
            self.sessions.remove(client);
        }
        let present = self.sessions.contains_key(client);
        let session = self.sessions.entry(client.to_owned()).or_default();
        session.connection = self.last_connection;
        for message in &mut session.window {
            message.dup = true;
        }
        (self.last_connection, present, session.window.iter().cloned().collect())
    }

    /// The connection ended; a session that is not to be kept goes with it.
    pub fn disconnect(&mut self, client: &str, connection: u64, clean: bool) {
        let Some(session) = self.owned(client, connection) else { return };
        session.connection = 0;
        if clean {
            self.sessions.remove(client);
        }
    }

    /// Whether the connection still owns its session.
    pub fn owns(&self, client: &str, connection: u64) -> bool {
        self.sessions.get(client).is_some_and(|session| session.connection == connection)
    }

    fn owned(&mut self, client: &str, connection: u64) -> Option<&mut Session> {
        self.sessions.get_mut(client).filter(|session| session.connection == connection)
    }

    /// Subscribes; the granted level is at most 1.
    pub fn subscribe(&mut self, client: &str, connection: u64, filter: &str, qos: QoS) -> QoS {
        let granted = if qos == QoS::AtMostOnce { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        if let Some(session) = self.owned(client, connection) {
            session.filters.insert(filter.to_owned(), granted);
        }
        granted
    }

    pub fn unsubscribe(&mut self, client: &str, connection: u64, filter: &str) {
        if let Some(session) = self.owned(client, connection) {
            session.filters.remove(filter);
        }
    }

    /// Hands a message to every session that subscribed to its topic, or to
    /// none of them.
    pub fn publish(&mut self, message: &Publish) -> Taken {
        let topic = String::from_utf8_lossy(&message.topic).into_owned();
        let wanting = |session: &Session| {
            let level = session.filters.iter().filter(|(f, _)| matches(&topic, f)).map(|(_, q)| *q);
            let level = level.max_by_key(|qos| *qos as u8)?;
            let level = if message.qos == QoS::AtMostOnce { QoS::AtMostOnce } else { level };
            // Who is away gets nothing that needs no acknowledgement.
            (level != QoS::AtMostOnce || session.connection != 0).then_some(level)
        };
        let full = |s: &Session| s.queue.len() + s.window.len() >= QUEUE;
        if self.sessions.values().any(|s| wanting(s).is_some() && full(s)) {
            return Taken::No;
        }
        let mut count = 0;
        for session in self.sessions.values_mut() {
            if let Some(qos) = wanting(session) {
                let copy = Publish { qos, dup: false, retain: false, pkid: 0, ..message.clone() };
                session.queue.push_back(copy);
                count += 1;
            }
        }
        Taken::By(count)
    }

    /// What may be sent now; messages with an acknowledgement to come enter
    /// the window.
    pub fn next(&mut self, client: &str, connection: u64) -> Vec<Publish> {
        let mut ready = Vec::new();
        let Some(session) = self.owned(client, connection) else { return ready };
        while session.window.len() < WINDOW {
            let Some(mut message) = session.queue.pop_front() else { break };
            if message.qos != QoS::AtMostOnce {
                message.pkid = session.free_id();
                session.window.push_back(message.clone());
            }
            ready.push(message);
        }
        ready
    }

    /// An acknowledgement; one that is not waited for is ignored.
    pub fn acknowledge(&mut self, client: &str, connection: u64, id: u16) {
        if let Some(session) = self.owned(client, connection) {
            session.window.retain(|message| message.pkid != id);
        }
    }

    /// Whether a session subscribed to this topic.
    pub fn wanted(&self, topic: &str) -> bool {
        self.sessions.values().any(|s| s.filters.keys().any(|filter| matches(topic, filter)))
    }

    /// Messages that were not acknowledged yet, over all sessions.
    pub fn waiting(&self) -> usize {
        self.sessions.values().map(|s| s.queue.len() + s.window.len()).sum()
    }
}

impl Session {
    /// The next packet id that is not in flight. The window is far smaller
    /// than the number of ids, so there always is one.
    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self.window.iter().all(|message| message.pkid != self.last_id) {
                return self.last_id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: usize) -> Publish {
        Publish::new("plant/a", QoS::AtLeastOnce, number.to_string())
    }

    /// A subscribed session with messages 0 to `count`.
    fn with(count: usize) -> (Sessions, u64) {
        let mut sessions = Sessions::default();
        let (connection, present, _) = sessions.connect("gw", false);
        assert!(!present);
        sessions.subscribe("gw", connection, "plant/+", QoS::AtLeastOnce);
        for number in 0..count {
            assert_eq!(sessions.publish(&message(number)), Taken::By(1));
        }
        (sessions, connection)
    }

    fn contents(messages: &[Publish]) -> Vec<String> {
        messages.iter().map(|m| String::from_utf8_lossy(&m.payload).into_owned()).collect()
    }

    #[test]
    fn no_more_than_the_window_is_in_flight() {
        let (mut sessions, connection) = with(WINDOW + 5);
        let first = sessions.next("gw", connection);
        assert_eq!(first.len(), WINDOW);
        assert!(sessions.next("gw", connection).is_empty());
        sessions.acknowledge("gw", connection, first[3].pkid);
        assert_eq!(contents(&sessions.next("gw", connection)), [WINDOW.to_string()]);
        assert_eq!(sessions.waiting(), WINDOW + 4);
    }

    #[test]
    fn what_was_not_acknowledged_comes_again_in_order_with_its_id_and_dup() {
        let (mut sessions, connection) = with(4);
        let first = sessions.next("gw", connection);
        sessions.acknowledge("gw", connection, first[1].pkid);
        sessions.disconnect("gw", connection, false);

        let (again, present, repeated) = sessions.connect("gw", false);
        assert!(present);
        assert_eq!(contents(&repeated), ["0", "2", "3"]);
        assert!(repeated.iter().all(|m| m.dup));
        let ids: Vec<u16> = repeated.iter().map(|m| m.pkid).collect();
        assert_eq!(ids, [first[0].pkid, first[2].pkid, first[3].pkid]);
        assert_eq!(sessions.publish(&message(4)), Taken::By(1));
        let next = sessions.next("gw", again);
        assert_eq!(contents(&next), ["4"]);
        assert!(!next[0].dup && !ids.contains(&next[0].pkid));
    }

    #[test]
    fn what_is_published_while_the_client_is_away_waits_for_it() {
        let (mut sessions, connection) = with(0);
        sessions.disconnect("gw", connection, false);
        sessions.publish(&message(1));
        let lost = Publish::new("plant/a", QoS::AtMostOnce, "gone");
        assert_eq!(sessions.publish(&lost), Taken::By(0));
        let (again, ..) = sessions.connect("gw", false);
        assert_eq!(contents(&sessions.next("gw", again)), ["1"]);
    }

    #[test]
    fn a_clean_start_forgets_the_session() {
        let (mut sessions, connection) = with(2);
        sessions.next("gw", connection);
        let (_, present, repeated) = sessions.connect("gw", true);
        assert!(!present && repeated.is_empty());
        assert!(!sessions.wanted("plant/a"));
    }

    #[test]
    fn an_older_connection_of_the_same_client_has_nothing_more_to_say() {
        let (mut sessions, old) = with(1);
        let sent = sessions.next("gw", old);
        let (new, ..) = sessions.connect("gw", false);
        sessions.acknowledge("gw", old, sent[0].pkid);
        sessions.disconnect("gw", old, true);
        assert!(sessions.owns("gw", new) && !sessions.owns("gw", old));
        assert_eq!(sessions.waiting(), 1);
    }

    #[test]
    fn a_full_queue_takes_nothing() {
        let (mut sessions, _) = with(QUEUE);
        assert_eq!(sessions.publish(&message(0)), Taken::No);
        assert_eq!(sessions.waiting(), QUEUE);
    }
}
