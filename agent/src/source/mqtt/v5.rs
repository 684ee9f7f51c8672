//! MQTT 5: our packets to and from the codec's.

use bytes::BytesMut;
use rumqttc_v5::mqttbytes::QoS;
use rumqttc_v5::mqttbytes::v5::{
    Connect, ConnectAuth, ConnectProperties, ConnectReturnCode, LastWill, Packet as Wire,
    RetainForwardRule, Subscribe, SubscribeFilter, SubscribeReasonCode,
};

use super::config::{Config, Qos};
use super::packet::{Connected, Login, Packet};

const fn qos(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
        Qos::ExactlyOnce => QoS::ExactlyOnce,
    }
}

fn write(packet: &Wire) -> Result<BytesMut, String> {
    let mut bytes = BytesMut::new();
    packet.write(&mut bytes, None).map_err(|error| error.to_string())?;
    Ok(bytes)
}

pub(super) fn connect(config: &Config, login: Login) -> Result<BytesMut, String> {
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval = Some(config.session_expiry_secs());
    properties.receive_maximum = config.receive_maximum();
    let connect = Connect {
        keep_alive: config.keep_alive_secs(),
        client_id: login.client_id,
        clean_start: login.clean,
        properties: Some(properties),
    };
    let auth = match (login.username, login.password) {
        (Some(username), Some(password)) => {
            ConnectAuth::UsernamePassword { username, password: password.into_bytes().into() }
        }
        (Some(username), None) => ConnectAuth::Username { username },
        (None, Some(password)) => ConnectAuth::Password { password: password.into_bytes().into() },
        (None, None) => ConnectAuth::None,
    };
    let will = config.last_will.as_ref().map(|will| {
        LastWill::new(&will.topic, will.payload.as_bytes(), qos(will.qos), will.retain, None)
    });
    write(&Wire::Connect(connect, will, auth))
}

pub(super) fn subscribe(filters: &[(String, Qos)]) -> Result<BytesMut, String> {
    let filters = filters.iter().map(|(path, q)| {
        let mut filter = SubscribeFilter::new(path.clone(), qos(*q));
        // Subscribing again, after a crash between SUBACK and its commit,
        // repeats no retained message. (Refused on shared subscriptions? No:
        // they never get any.)
        filter.retain_forward_rule = RetainForwardRule::OnNewSubscribe;
        filter
    });
    let mut subscribe = Subscribe::new_many(filters, None);
    subscribe.pkid = 1;
    write(&Wire::Subscribe(subscribe))
}

pub(super) fn read(mut frame: BytesMut) -> Result<Packet, String> {
    let packet = Wire::read(&mut frame, None).map_err(|error| error.to_string())?;
    Ok(match packet {
        Wire::PubRel(release) => Packet::Release(release.pkid),
        Wire::PingResp => Packet::Pong,
        Wire::ConnAck(ack) => {
            let reason = ack.properties.as_ref().and_then(|p| p.reason_string.as_deref());
            Packet::Connected(Connected {
                refused: refusal(ack.code, reason),
                session_present: ack.session_present,
                keep_alive: ack.properties.as_ref().and_then(|p| p.server_keep_alive),
            })
        }
        Wire::SubAck(ack) => Packet::Subscribed(
            ack.return_codes
                .iter()
                .map(|code| match code {
                    SubscribeReasonCode::Success(qos) => Ok(*qos as u8),
                    SubscribeReasonCode::NotAuthorized => Err("not authorised".to_owned()),
                    other => Err(format!("{other:?}")),
                })
                .collect(),
        ),
        Wire::Disconnect(disconnect) => Packet::Closed(format!("{:?}", disconnect.reason_code)),
        _ => Packet::Other,
    })
}

/// What a whole PUBLISH says besides topic and payload, by the names of the specification
/// (3.3.2.3); nothing where the codec refuses it.
pub(super) fn properties(frame: &[u8]) -> Vec<(String, String)> {
    let Ok(Wire::Publish(publish)) = Wire::read(&mut BytesMut::from(frame), None) else {
        return Vec::new();
    };
    let Some(found) = publish.properties else { return Vec::new() };
    let named = [
        ("Payload Format Indicator", found.payload_format_indicator.map(|it| it.to_string())),
        ("Message Expiry Interval", found.message_expiry_interval.map(|it| it.to_string())),
        ("Content Type", found.content_type),
        ("Response Topic", found.response_topic),
        ("Correlation Data", found.correlation_data.map(|it| it.escape_ascii().to_string())),
    ];
    let named = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    named.chain(found.user_properties).collect()
}

fn refusal(code: ConnectReturnCode, reason: Option<&str>) -> Option<String> {
    let text = match code {
        ConnectReturnCode::Success => return None,
        ConnectReturnCode::RefusedProtocolVersion
        | ConnectReturnCode::UnsupportedProtocolVersion => {
            "it does not speak version 5: set protocol = \"3.1.1\"".to_owned()
        }
        ConnectReturnCode::BadClientId | ConnectReturnCode::ClientIdentifierNotValid => {
            "it does not take this client_id".to_owned()
        }
        ConnectReturnCode::BadUserNamePassword => "wrong user name or password".to_owned(),
        ConnectReturnCode::NotAuthorized => {
            "not authorised: wrong user name, password or client_id".to_owned()
        }
        ConnectReturnCode::Banned => "this client is banned".to_owned(),
        ConnectReturnCode::ServerBusy => "it is busy".to_owned(),
        ConnectReturnCode::ServerUnavailable | ConnectReturnCode::ServiceUnavailable => {
            "it is not available".to_owned()
        }
        other => format!("{other:?}"),
    };
    Some(match reason {
        Some(reason) => format!("{text} ({reason})"),
        None => text,
    })
}
