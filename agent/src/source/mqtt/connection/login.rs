//! From the TCP connection to a session that is ours and subscribed.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::super::Mqtt;
use super::super::config::{Config, Protocol};
use super::super::frame::{Frame, Frames};
use super::super::packet::{self, Connected, Login, Packet};
use super::super::session::Session;
use super::super::stream::Stream;
use super::super::window::Window;
use super::{Batch, Connection, End, READ};
use crate::collect::{Delivery, Intake};
use crate::source::Error;
use crate::supervise::Link;
use crate::units::Period;

/// Subject of the fault that the broker forgets the session too soon, beside the filters
/// that have theirs.
const SESSION: &str = "the session";

/// Connects and logs in.
pub(super) async fn open<'a>(
    mqtt: &'a mut Mqtt,
    intake: &mut Intake,
) -> Result<Connection<'a>, End> {
    // SAFETY 18: else a redelivery could not be told from a new message.
    intake.flush();
    intake.wait_committed(mqtt.session.last()).await?;

    let limit = mqtt.config.connect_timeout.get();
    // Before the session is in question: a broker that is away changes nothing.
    let stream =
        timeout(limit, Stream::connect(&mqtt.config)).await.map_err(|_| late(&mqtt.config))??;
    if mqtt.session.begin_login() {
        let (checkpoint, idle) = mqtt.checkpoints();
        let checkpoint = Some(checkpoint);
        let ticket = intake.deliver(Delivery { checkpoint, idle, ..Delivery::default() }).await?;
        mqtt.session.delivered(Some(ticket), 0);
    }
    intake.flush();
    intake.wait_committed(mqtt.session.last()).await?;
    mqtt.session.ask();
    mqtt.make_will();
    let (stream, frames, connected) =
        timeout(limit, login(mqtt, stream)).await.map_err(|_| late(&mqtt.config))??;
    let keep_alive = connected
        .keep_alive
        .filter(|seconds| *seconds > 0)
        .map_or(Duration::from_secs(mqtt.config.keep_alive_secs().into()), |seconds| {
            Duration::from_secs(seconds.into())
        });
    if connected.session_present {
        mqtt.session.resume();
    } else {
        mqtt.session.start_anew();
    }
    if mqtt.config.protocol == Protocol::V5 {
        mqtt.session.promise(mqtt.config.receive_maximum());
    }
    let told = mqtt.session.numbering();
    let now = Instant::now();
    Ok(Connection {
        mqtt,
        stream,
        frames,
        buffer: vec![0; READ],
        out: Vec::new(),
        window: Window::default(),
        batch: Batch::default(),
        granted: Vec::new(),
        keep_alive,
        session_expiry: connected.session_expiry,
        heard: now,
        spoke: now,
        asked: now,
        answered: now,
        // Until it is subscribed: the SUBACK may stand behind more than the bound.
        bounded: false,
        told,
        told_again: false,
    })
}

fn late(config: &Config) -> Error {
    let (address, limit) = (&config.address, config.connect_timeout);
    Error::new(format!("{address} does not answer within {limit}"))
}

async fn login(mqtt: &Mqtt, mut stream: Stream) -> Result<(Stream, Frames, Connected), Error> {
    let config = &mqtt.config;
    let password = match &config.password {
        Some(secret) => {
            Some(secret.read().map_err(|error| Error::because("cannot log in", error))?)
        }
        None => None,
    };
    let login = Login {
        client_id: mqtt.client_id.clone(),
        clean: mqtt.is_clean(),
        username: config.username.clone(),
        password,
    };
    let mut out = packet::connect(config, login)
        .map_err(|error| Error::new(format!("cannot make a CONNECT: {error}")))?
        .to_vec();
    let address = &config.address;
    let lost = |error| lost_at_login(address, error);
    let max_payload = usize::try_from(config.max_payload.get()).unwrap_or(usize::MAX);
    let mut frames = Frames::new(max_payload);
    let mut buffer = vec![0; 4_096];
    loop {
        stream.write(&mut out).map_err(lost)?;
        match stream.read(&mut buffer).map_err(lost)? {
            Some(0) => {
                return Err(Error::new(format!(
                    "{address} closed the connection at login: is this an MQTT port, with TLS \
                     where the broker has it?"
                )));
            }
            Some(count) => frames.push(buffer.get(..count).unwrap_or_default()),
            None => stream.ready(true, !out.is_empty()).await.map_err(lost)?,
        }
        let frame =
            frames.next().map_err(|e| Error::because(format!("{address} is no broker"), e))?;
        let Some(Frame::Whole(frame)) = frame else { continue };
        let packet = packet::read(config.protocol, frame)
            .map_err(|error| Error::new(format!("{address} is no broker: {error}")))?;
        let Packet::Connected(connected) = packet else {
            return Err(Error::new(format!("{address} did not answer the login with a CONNACK")));
        };
        if let Some(reason) = connected.refused {
            return Err(Error::new(format!("{address} refused the login: {reason}")));
        }
        return Ok((stream, frames, connected));
    }
}

/// In TLS 1.3 a server looks at the client's certificate only after the client
/// has done its handshake, so that its alert is an answer to the login.
fn lost_at_login(address: &str, error: std::io::Error) -> Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let what = if matches!(tls, Some(rustls::Error::AlertReceived(_))) {
        format!("{address} refused the TLS login: does it trust the client's certificate?")
    } else {
        format!("lost the connection to {address} at login")
    };
    Error::because(what, error)
}

impl Connection<'_> {
    /// Makes sure that the broker's session is ours and holds our subscriptions.
    pub(super) async fn prepare(&mut self, intake: &mut Intake) -> Result<(), End> {
        if self.mqtt.session.changed() && self.mqtt.session.subscribed() == 0 {
            // The end of the old session, before anything of the new one comes.
            self.hand_over(intake).await?;
            intake.flush();
            intake.wait_committed(self.mqtt.session.last()).await?;
        }
        if self.mqtt.session.doubts() {
            self.settle_doubts(intake).await?;
        }
        if self.mqtt.session.subscribed() != self.mqtt.subscriptions {
            self.subscribe(intake).await?;
        }
        self.bounded = true;
        Ok(())
    }

    /// Waits until the broker delivers something again, or has nothing to deliver again:
    /// then no id of the old session may be left when something is subscribed.
    async fn settle_doubts(&mut self, intake: &mut Intake) -> Result<(), End> {
        self.mqtt.session.ping(&mut self.out);
        let is_settled = |session: &Session| !session.doubts() || !session.pinging();
        self.listen(intake, "a PINGREQ", |this| is_settled(&this.mqtt.session)).await?;
        self.mqtt.session.forget_doubtful();
        self.hand_over(intake).await?;
        intake.flush();
        intake.wait_committed(self.mqtt.session.last()).await?;
        Ok(())
    }

    /// Subscribes and waits for the SUBACK; messages that come before it are
    /// taken as any other.
    async fn subscribe(&mut self, intake: &mut Intake) -> Result<(), End> {
        let packet = packet::subscribe(self.mqtt.config.protocol, &self.mqtt.filters)
            .map_err(|error| Error::new(format!("cannot make a SUBSCRIBE: {error}")))?;
        self.out.extend_from_slice(&packet);
        self.listen(intake, "the subscription", |this| !this.granted.is_empty()).await?;
        // Only if all were taken the session is as configured; else the
        // next connection tries again.
        if self.granted.iter().all(Result::is_ok) {
            self.mqtt.session.set_subscribed(self.mqtt.subscriptions);
        }
        self.hand_over(intake).await
    }

    /// Takes what comes until it is `enough`, the answer to `asked`; the last of it is
    /// not handed over yet.
    async fn listen(
        &mut self,
        intake: &mut Intake,
        asked: &str,
        enough: impl Fn(&Self) -> bool,
    ) -> Result<(), End> {
        loop {
            self.stream.write(&mut self.out).map_err(|error| self.lost(error))?;
            let read = self.read(None);
            if enough(self) {
                return Ok(());
            }
            self.hand_over(intake).await?;
            if read? == 0 {
                // The broker's time alone: our buffer may be full meanwhile.
                let limit = self.mqtt.config.connect_timeout.get();
                let wait = timeout(limit, self.stream.ready(true, !self.out.is_empty())).await;
                let late = |_| {
                    let address = &self.mqtt.config.address;
                    Error::new(format!("{address} does not answer {asked} in {limit:?}"))
                };
                wait.map_err(late)?.map_err(|error| self.lost(error))?;
            }
        }
    }

    /// What comes while the agent is away for longer than that is lost.
    pub(super) fn report_expiry(&self, link: &mut Link) {
        let asked = self.mqtt.config.session_expiry_secs();
        match self.session_expiry.filter(|seconds| *seconds < asked) {
            Some(seconds) => link.fault(
                SESSION,
                &format!(
                    "the broker keeps the session for {} only, not for \
                     session_expiry_interval ({})",
                    Period::from_secs(seconds.into()),
                    self.mqtt.config.session_expiry_interval
                ),
            ),
            None => link.well(SESSION),
        }
    }

    pub(super) fn report_subscriptions(&self, link: &mut Link) {
        for ((filter, qos), granted) in self.mqtt.filters.iter().zip(&self.granted) {
            let asked = u8::from(*qos);
            match granted {
                Err(why) => link.fault(filter, &format!("the broker refused to subscribe: {why}")),
                Ok(less) if *less < asked => {
                    link.fault(filter, &format!("the broker grants QoS {less}, not {asked}"));
                }
                Ok(_) => link.well(filter),
            }
        }
    }
}
