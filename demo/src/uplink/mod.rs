//! The agent's way to Kafka: a proxy whose plug can be pulled. The judge goes
//! another way, so that it sees all the time what is in Kafka.
//!
//! A Kafka tells its clients where its brokers are, so that a plain proxy would
//! be gone round. This one puts its own address for theirs into those answers
//! (Metadata and `FindCoordinator`). It speaks no TLS. The addresses that newer
//! brokers add to an error about a moved leader (KIP-951) are passed on as they
//! are: a leader that moves during a run is no part of the demo.

mod wire;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;

use wire::Answer;

/// No request or answer is longer: Kafka's own `socket.request.max.bytes`.
const LONGEST: usize = 104_857_600;

/// Brokers of one cluster that may be found at the same moment.
const FOUND: usize = 64;

/// A running uplink; its connections end when it is dropped.
#[derive(Debug)]
pub struct Uplink {
    brokers: String,
    plugged: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Clone)]
struct Way {
    plugged: watch::Receiver<bool>,
    /// Real address → port of ours.
    known: Arc<Mutex<BTreeMap<String, u16>>>,
    found: mpsc::Sender<(TcpListener, String)>,
}

impl Uplink {
    /// Stands in front of the broker at `target` and of every other one that
    /// it names.
    pub async fn start(target: &str) -> io::Result<Self> {
        let plugged = watch::Sender::new(true);
        let (found, mut new) = mpsc::channel(FOUND);
        let way = Way { plugged: plugged.subscribe(), known: Arc::default(), found };
        let port = way.port(target.to_owned()).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut doors = JoinSet::new();
            while let Some((listener, target)) = new.recv().await {
                doors.spawn(accept(listener, target, way.clone()));
            }
        });
        Ok(Self { brokers: format!("127.0.0.1:{port}"), plugged, _tasks: tasks })
    }

    /// What a client is to be given as its broker.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Pulls the plug, which ends all connections, or puts it back.
    pub fn plug(&self, plugged: bool) {
        self.plugged.send_replace(plugged);
    }

    pub fn plugged(&self) -> bool {
        *self.plugged.borrow()
    }
}

impl Way {
    /// Our port for this broker, opened on first use.
    async fn port(&self, target: String) -> io::Result<u16> {
        let mut known = self.known.lock().await;
        if let Some(port) = known.get(&target) {
            return Ok(*port);
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        known.insert(target.clone(), port);
        self.found.send((listener, target)).await.map_err(io::Error::other)?;
        Ok(port)
    }
}

async fn accept(listener: TcpListener, target: String, way: Way) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                // Dropped at once where the plug is out.
                if *way.plugged.borrow() {
                    connections.spawn(connect(client, target.clone(), way.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connect(client: TcpStream, target: String, way: Way) {
    let mut plugged = way.plugged.clone();
    let pass = async {
        let broker = TcpStream::connect(&target).await?;
        broker.set_nodelay(true)?;
        client.set_nodelay(true)?;
        let asked = Asked::default();
        let (from_client, to_client) = client.into_split();
        let (from_broker, to_broker) = broker.into_split();
        tokio::try_join!(
            requests(from_client, to_broker, &asked),
            answers(from_broker, to_client, &asked, &way)
        )
    };
    tokio::select! {
        ended = pass => if let Err(error) = ended {
            tracing::debug!(%error, %target, "uplink connection ended");
        },
        _ = plugged.wait_for(|plugged| !plugged) => {}
    }
}

/// Requests whose answers will carry addresses.
type Asked = StdMutex<HashMap<i32, Answer>>;

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: &Asked,
) -> io::Result<()> {
    loop {
        let request = frame(&mut from).await?;
        if let Some((correlation, answer)) = Answer::to(&request) {
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.insert(correlation, answer);
        }
        send(&mut to, &request).await?;
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: &Asked,
    way: &Way,
) -> io::Result<()> {
    loop {
        let answer = frame(&mut from).await?;
        let correlation = answer.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
        let kind = correlation.and_then(|correlation| {
            asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&correlation)
        });
        match kind {
            Some(kind) => send(&mut to, &changed(kind, &answer, way).await?).await?,
            None => send(&mut to, &answer).await?,
        }
    }
}

/// The answer with our addresses.
async fn changed(kind: Answer, answer: &[u8], way: &Way) -> io::Result<Vec<u8>> {
    let unknown = || io::Error::other(format!("cannot read an answer of the kind {kind:?}"));
    let addresses = kind.addresses(answer).ok_or_else(unknown)?;
    let mut ports = Vec::with_capacity(addresses.len());
    for address in &addresses {
        ports.push(match address.port {
            0 => 0,
            port => way.port(format!("{}:{port}", address.host)).await?,
        });
    }
    wire::with_ports(answer, &addresses, &ports).ok_or_else(unknown)
}

/// One request or answer, without its length.
async fn frame(from: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let length = usize::try_from(from.read_i32().await?).unwrap_or(usize::MAX);
    if length > LONGEST {
        return Err(io::Error::other(format!("{length} bytes are no Kafka frame")));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn send(to: &mut OwnedWriteHalf, bytes: &[u8]) -> io::Result<()> {
    let length = i32::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut whole = Vec::with_capacity(bytes.len() + 4);
    whole.extend_from_slice(&length.to_be_bytes());
    whole.extend_from_slice(bytes);
    to.write_all(&whole).await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rdkafka::ClientConfig;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

    use super::*;
    use crate::judge::Judge;
    use crate::kafka::Kafka;
    use crate::ledger::{Ledger, Source};

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn what_is_sent_while_the_plug_is_out_arrives_once_it_is_back_and_nothing_goes_round() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let kafka = Kafka::simulated().unwrap();
        let uplink = runtime.block_on(Uplink::start(kafka.brokers())).unwrap();
        let ledger = Ledger::new(false);
        let judge = Judge::start(kafka.brokers(), "gw", ledger.clone()).unwrap();
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", uplink.brokers())
            .set("transactional.id", "gw")
            .set("reconnect.backoff.max.ms", "100")
            .create()
            .unwrap();
        let send = || {
            let number = ledger.produce(Source::Sensors, "a");
            let payload = format!(
                r#"{{"gateway":"gw","epoch":"e","seq":{number},"device":"a","n":{number}}}"#
            );
            let record = BaseRecord::to(Source::Sensors.topic()).key("a").payload(&payload);
            producer.send(record).unwrap();
        };
        producer.init_transactions(LONG).unwrap();
        producer.begin_transaction().unwrap();
        send();
        producer.commit_transaction(LONG).unwrap();

        uplink.plug(false);
        producer.begin_transaction().unwrap();
        send();
        assert!(producer.commit_transaction(Duration::from_millis(300)).is_err());
        uplink.plug(true);
        producer.commit_transaction(LONG).unwrap();
        while judge.records() < 2 {
            std::thread::yield_now();
        }
        drop(judge);
        let end = ledger.at_end(None);
        assert_eq!((end.produced, end.delivered, end.duplicated), (2, 2, 0));
    }
}
