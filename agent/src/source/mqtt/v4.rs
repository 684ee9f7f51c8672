//! MQTT 3.1.1: our packets to and from the codec's.

use bytes::BytesMut;
use rumqttc_v4::mqttbytes::QoS;
use rumqttc_v4::mqttbytes::v4::{
    Connect, ConnectAuth, ConnectReturnCode, LastWill, Packet as Wire, Publish, Subscribe,
    SubscribeFilter, SubscribeReasonCode,
};

use super::config::{Config, Qos};
use super::packet::{Connected, Login, Packet};
use crate::source::sparkplug::Outgoing;

const fn qos(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
        Qos::ExactlyOnce => QoS::ExactlyOnce,
    }
}

fn write(packet: &Wire) -> Result<BytesMut, String> {
    let mut bytes = BytesMut::new();
    packet.write(&mut bytes, usize::MAX).map_err(|error| error.to_string())?;
    Ok(bytes)
}

pub(super) fn connect(config: &Config, login: Login) -> Result<BytesMut, String> {
    let mut connect = Connect::new(login.client_id);
    connect.keep_alive = config.keep_alive_secs();
    connect.clean_session = login.clean;
    connect.auth = match (login.username, login.password) {
        (Some(username), Some(password)) => {
            ConnectAuth::UsernamePassword { username, password: password.into_bytes().into() }
        }
        (Some(username), None) => ConnectAuth::Username { username },
        (None, _) => ConnectAuth::None,
    };
    connect.last_will = config.last_will.as_ref().map(|will| {
        LastWill::new(&will.topic, will.payload.as_bytes(), qos(will.qos), will.retain)
    });
    write(&Wire::Connect(connect))
}

pub(super) fn subscribe(filters: &[(String, Qos)]) -> Result<BytesMut, String> {
    let filters = filters.iter().map(|(path, q)| SubscribeFilter::new(path.clone(), qos(*q)));
    let mut subscribe = Subscribe::new_many(filters);
    subscribe.pkid = 1;
    write(&Wire::Subscribe(subscribe))
}

pub(super) fn publish(message: Outgoing, id: u16) -> Result<BytesMut, String> {
    let retain = message.retain;
    let publish = Publish::new(message.topic, qos(message.qos), message.payload);
    write(&Wire::Publish(Publish { pkid: id, retain, ..publish }))
}

pub(super) fn read(mut frame: BytesMut) -> Result<Packet, String> {
    let packet = Wire::read(&mut frame, usize::MAX).map_err(|error| error.to_string())?;
    Ok(match packet {
        Wire::PubRel(release) => Packet::Release(release.pkid),
        Wire::PingResp => Packet::Pong,
        Wire::ConnAck(ack) => Packet::Connected(Connected {
            refused: refusal(ack.code),
            session_present: ack.session_present,
            keep_alive: None,
            session_expiry: None,
        }),
        Wire::SubAck(ack) => Packet::Subscribed(
            ack.return_codes
                .iter()
                .map(|code| match code {
                    SubscribeReasonCode::Success(qos) => Ok(*qos as u8),
                    SubscribeReasonCode::Failure => {
                        Err("the broker gives no reason: look at its access rules".to_owned())
                    }
                })
                .collect(),
        ),
        _ => Packet::Other,
    })
}

fn refusal(code: ConnectReturnCode) -> Option<String> {
    let text = match code {
        ConnectReturnCode::Success => return None,
        ConnectReturnCode::RefusedProtocolVersion => {
            "it does not speak version 3.1.1: set protocol = \"5\""
        }
        ConnectReturnCode::BadClientId => "it does not take this client_id",
        ConnectReturnCode::ServiceUnavailable => "it is not available",
        ConnectReturnCode::BadUserNamePassword => "wrong user name or password",
        ConnectReturnCode::NotAuthorized => {
            "not authorised: wrong user name, password or client_id"
        }
    };
    Some(text.to_owned())
}
