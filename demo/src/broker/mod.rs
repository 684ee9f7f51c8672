//! A small MQTT 3.1.1 broker for the demo and tests: `QoS` 0 and 1, persistent
//! sessions, redelivery, messages in order.
//!
//! It is not for production: no `QoS` 2, no retained messages, no wills, no
//! keep-alive, no login, and its sessions live in memory only.

mod session;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use rumqttc_v4::mqttbytes::v4::{
    ConnAck, Connect, ConnectReturnCode, Packet, PubAck, Publish, SubAck, SubscribeReasonCode,
    UnsubAck,
};
use rumqttc_v4::mqttbytes::{Error as ProtocolError, QoS};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use session::{QUEUE, Sessions, Taken, WINDOW};

/// Longest packet in either direction.
const LONGEST: usize = 32 * 1024 * 1024;

/// A running broker; its connections end when it is dropped.
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
    shared: Shared,
    _tasks: JoinSet<()>,
}

/// A way to publish from anywhere; cheap to clone.
#[derive(Debug, Clone)]
pub struct Shared {
    sessions: Arc<Mutex<Sessions>>,
    /// Changes whenever a queue did.
    news: watch::Sender<()>,
    /// Changes when all connections must end.
    cut: watch::Sender<()>,
}

impl Broker {
    /// Listens on `address`; port 0 takes a free one.
    pub async fn start(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Shared {
            sessions: Arc::default(),
            news: watch::Sender::new(()),
            cut: watch::Sender::new(()),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared, _tasks: tasks })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn shared(&self) -> Shared {
        self.shared.clone()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes as if a client had.
    pub fn publish(&self, message: &Publish) -> Taken {
        let taken = self.lock().publish(message);
        self.news.send_replace(());
        taken
    }

    /// What is published to these topics from now on, without a connection. `client` has no
    /// other session here.
    pub fn inbox(&self, client: &str, filter: &str) -> Inbox {
        let mut sessions = self.lock();
        let (connection, ..) = sessions.connect(client, true);
        sessions.subscribe(client, connection, filter, QoS::AtMostOnce);
        let (client, news) = (client.to_owned(), self.news.subscribe());
        Inbox { shared: self.clone(), client, connection, news, ready: VecDeque::new() }
    }

    /// Whether a session subscribed to this topic.
    pub fn wanted(&self, topic: &str) -> bool {
        self.lock().wanted(topic)
    }

    /// Messages that no client acknowledged yet.
    pub fn waiting(&self) -> usize {
        self.lock().waiting()
    }

    /// Ends all connections, without a word, as a pulled cable does.
    pub fn cut(&self) {
        self.cut.send_replace(());
    }
}

/// A subscription of this process's own, of `QoS` 0.
#[derive(Debug)]
pub struct Inbox {
    shared: Shared,
    client: String,
    connection: u64,
    news: watch::Receiver<()>,
    ready: VecDeque<Publish>,
}

impl Inbox {
    /// Waits for the next message; `None` when the broker is gone. Nothing is lost when this
    /// future is dropped.
    pub async fn next(&mut self) -> Option<Publish> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            self.ready.extend(self.shared.lock().next(&self.client, self.connection));
            if self.ready.is_empty() {
                self.news.changed().await.ok()?;
            }
        }
    }
}

async fn accept(listener: TcpListener, shared: Shared) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A connection that died before it was accepted concerns nobody.
                let Ok((stream, _)) = accepted else { continue };
                connections.spawn(serve(stream, shared.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(mut stream: TcpStream, shared: Shared) {
    let mut cut = shared.cut.subscribe();
    let mut input = BytesMut::new();
    let Ok(Some(Packet::Connect(connect))) = read(&mut stream, &mut input).await else { return };
    let clean = connect.clean_session;
    // The lock is held for no longer than a statement, never over an await.
    let (number, present, repeated) = shared.lock().connect(&connect.client_id, clean);
    // An error of the socket or the protocol ends the connection, which is
    // all that a broker owes to such a client.
    tokio::select! {
        _ = converse(&mut stream, input, &shared, &connect, number, present, repeated) => {}
        _ = cut.changed() => {}
    }
    shared.lock().disconnect(&connect.client_id, number, clean);
}

/// One whole packet, or `None` at the end of the stream.
async fn read(
    stream: &mut TcpStream,
    input: &mut BytesMut,
) -> Result<Option<Packet>, ProtocolError> {
    loop {
        match Packet::read(input, LONGEST) {
            Ok(packet) => return Ok(Some(packet)),
            Err(ProtocolError::InsufficientBytes(_)) => {}
            Err(error) => return Err(error),
        }
        // Nothing is lost when this future is dropped: what was read is in `input`.
        if stream.read_buf(input).await? == 0 {
            return Ok(None);
        }
    }
}

async fn converse(
    stream: &mut TcpStream,
    mut input: BytesMut,
    shared: &Shared,
    connect: &Connect,
    number: u64,
    present: bool,
    repeated: Vec<Publish>,
) -> Result<(), ProtocolError> {
    let client = connect.client_id.as_str();
    let mut news = shared.news.subscribe();
    let mut output = BytesMut::new();
    let welcome = ConnAck::new(ConnectReturnCode::Success, present);
    Packet::ConnAck(welcome).write(&mut output, LONGEST)?;
    for message in repeated {
        Packet::Publish(message).write(&mut output, LONGEST)?;
    }
    loop {
        for message in shared.lock().next(client, number) {
            Packet::Publish(message).write(&mut output, LONGEST)?;
        }
        stream.write_all_buf(&mut output).await?;
        tokio::select! {
            packet = read(stream, &mut input) => match packet? {
                Some(packet) => answer(packet, shared, client, number, &mut output)?,
                None => return Ok(()),
            },
            _ = news.changed() => if !shared.lock().owns(client, number) { return Ok(()) },
        }
        // Whatever else has come already, before the next write.
        while let Ok(packet) = Packet::read(&mut input, LONGEST) {
            answer(packet, shared, client, number, &mut output)?;
        }
    }
}

fn answer(
    packet: Packet,
    shared: &Shared,
    client: &str,
    number: u64,
    output: &mut BytesMut,
) -> Result<(), ProtocolError> {
    match packet {
        Packet::PubAck(ack) => shared.lock().acknowledge(client, number, ack.pkid),
        Packet::Publish(message) => {
            // Without an acknowledgement the publisher keeps what found no room.
            let taken = shared.publish(&message);
            if message.qos == QoS::AtLeastOnce && taken != Taken::No {
                Packet::PubAck(PubAck::new(message.pkid)).write(output, LONGEST)?;
            } else if message.qos == QoS::ExactlyOnce {
                return Err(ProtocolError::InvalidQoS(2));
            }
        }
        Packet::Subscribe(subscribe) => {
            let mut sessions = shared.lock();
            let granted = subscribe.filters.iter().map(|filter| {
                let granted = sessions.subscribe(client, number, &filter.path, filter.qos);
                SubscribeReasonCode::Success(granted)
            });
            let ack = SubAck::new(subscribe.pkid, granted.collect());
            Packet::SubAck(ack).write(output, LONGEST)?;
        }
        Packet::Unsubscribe(unsubscribe) => {
            for filter in &unsubscribe.topics {
                shared.lock().unsubscribe(client, number, filter);
            }
            Packet::UnsubAck(UnsubAck::new(unsubscribe.pkid)).write(output, LONGEST)?;
        }
        Packet::PingReq => {
            Packet::PingResp.write(output, LONGEST)?;
        }
        // DISCONNECT, and what no client may send: the connection ends.
        _ => return Err(ProtocolError::IncorrectPacketFormat),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    struct Client {
        stream: TcpStream,
        input: BytesMut,
    }

    impl Client {
        async fn connect(broker: &Broker, present: bool) -> Self {
            let stream = TcpStream::connect(broker.address()).await.unwrap();
            let mut client = Self { stream, input: BytesMut::new() };
            let mut connect = Connect::new("gw");
            connect.clean_session = false;
            client.send(Packet::Connect(connect)).await;
            let welcome = ConnAck::new(ConnectReturnCode::Success, present);
            assert_eq!(client.next().await, Packet::ConnAck(welcome));
            client
        }

        async fn send(&mut self, packet: Packet) {
            let mut output = BytesMut::new();
            packet.write(&mut output, LONGEST).unwrap();
            self.stream.write_all_buf(&mut output).await.unwrap();
        }

        async fn next(&mut self) -> Packet {
            read(&mut self.stream, &mut self.input).await.unwrap().unwrap()
        }

        async fn message(&mut self) -> Publish {
            let Packet::Publish(message) = self.next().await else { panic!("no publish") };
            message
        }
    }

    #[tokio::test]
    async fn what_a_cut_connection_left_unacknowledged_comes_again_over_the_wire() {
        let broker = Broker::start((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let shared = broker.shared();
        let mut client = Client::connect(&broker, false).await;
        let mut subscribe = rumqttc_v4::mqttbytes::v4::Subscribe::new("plant/#", QoS::AtLeastOnce);
        subscribe.pkid = 1;
        client.send(Packet::Subscribe(subscribe)).await;
        let granted = SubAck::new(1, vec![SubscribeReasonCode::Success(QoS::AtLeastOnce)]);
        assert_eq!(client.next().await, Packet::SubAck(granted));

        for text in ["one", "two"] {
            let message = Publish::new("plant/a", QoS::AtLeastOnce, text);
            assert_eq!(shared.publish(&message), Taken::By(1));
        }
        let one = client.message().await;
        let two = client.message().await;
        client.send(Packet::PubAck(PubAck::new(one.pkid))).await;
        client.send(Packet::PingReq).await;
        assert_eq!(client.next().await, Packet::PingResp);
        shared.cut();
        assert!(read(&mut client.stream, &mut client.input).await.is_ok_and(|p| p.is_none()));

        let mut client = Client::connect(&broker, true).await;
        let again = client.message().await;
        assert_eq!(again, Publish { dup: true, ..two });
        client.send(Packet::PubAck(PubAck::new(again.pkid))).await;
        client.send(Packet::PingReq).await;
        assert_eq!(client.next().await, Packet::PingResp);
        assert_eq!(shared.waiting(), 0);
    }
}
