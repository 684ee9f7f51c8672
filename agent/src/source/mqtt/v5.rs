//! MQTT 5: our packets to and from the codec's.

use bytes::BytesMut;
use rumqttc_v5::mqttbytes::QoS;
use rumqttc_v5::mqttbytes::v5::{
    Connect, ConnectAuth, ConnectProperties, ConnectReturnCode, DisconnectReasonCode, LastWill,
    Packet as Wire, Publish, RetainForwardRule, Subscribe, SubscribeFilter, SubscribeReasonCode,
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
    packet.write(&mut bytes, None).map_err(|error| error.to_string())?;
    Ok(bytes)
}

pub(super) fn connect(config: &Config, login: Login) -> Result<BytesMut, String> {
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval = Some(config.session_expiry_secs());
    properties.receive_maximum = config.receive_maximum();
    // No Topic Alias Maximum: the broker may then send no alias (3.1.2.11.5). No Maximum
    // Packet Size: it would drop what is larger without a word (3.1.2.11.4), and we make
    // a dead letter of it.
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

pub(super) fn publish(message: Outgoing, id: u16) -> Result<BytesMut, String> {
    let retain = message.retain;
    let publish = Publish::new(message.topic, qos(message.qos), message.payload, None);
    write(&Wire::Publish(Publish { pkid: id, retain, ..publish }))
}

pub(super) fn read(mut frame: BytesMut) -> Result<Packet, String> {
    let packet = Wire::read(&mut frame, None).map_err(|error| error.to_string())?;
    Ok(match packet {
        Wire::PubRel(release) => Packet::Release(release.pkid),
        Wire::PingResp => Packet::Pong,
        Wire::ConnAck(ack) => {
            let properties = ack.properties.as_ref();
            let reason = properties.and_then(|p| p.reason_string.as_deref());
            let server = properties.and_then(|p| p.server_reference.as_deref());
            Packet::Connected(Connected {
                refused: refusal(ack.code).map(|text| in_full(&text, reason, server)),
                session_present: ack.session_present,
                keep_alive: properties.and_then(|p| p.server_keep_alive),
                session_expiry: properties.and_then(|p| p.session_expiry_interval),
            })
        }
        Wire::SubAck(ack) => {
            let reason = ack.properties.as_ref().and_then(|p| p.reason_string.as_deref());
            let granted = ack.return_codes.iter().map(|code| match code {
                SubscribeReasonCode::Success(qos) => Ok(*qos as u8),
                other => Err(in_full(&words(other), reason, None)),
            });
            Packet::Subscribed(granted.collect())
        }
        Wire::Disconnect(disconnect) => {
            let properties = disconnect.properties.as_ref();
            let reason = properties.and_then(|p| p.reason_string.as_deref());
            let server = properties.and_then(|p| p.server_reference.as_deref());
            Packet::Closed(in_full(&farewell(disconnect.reason_code), reason, server))
        }
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

fn refusal(code: ConnectReturnCode) -> Option<String> {
    let text = match code {
        ConnectReturnCode::Success => return None,
        ConnectReturnCode::RefusedProtocolVersion
        | ConnectReturnCode::UnsupportedProtocolVersion => {
            "it does not speak version 5: set protocol = \"3.1.1\""
        }
        ConnectReturnCode::BadClientId | ConnectReturnCode::ClientIdentifierNotValid => {
            "it does not take this client_id"
        }
        ConnectReturnCode::BadUserNamePassword => "wrong user name or password",
        ConnectReturnCode::NotAuthorized => {
            "not authorised: wrong user name, password or client_id"
        }
        ConnectReturnCode::Banned => "this client is banned",
        ConnectReturnCode::ServerBusy => "it is busy",
        ConnectReturnCode::ServerUnavailable | ConnectReturnCode::ServiceUnavailable => {
            "it is not available"
        }
        ConnectReturnCode::QoSNotSupported => "it does not take the qos of last_will",
        ConnectReturnCode::RetainNotSupported => "it does not take the retain of last_will",
        other => return Some(words(other)),
    };
    Some(text.to_owned())
}

fn farewell(code: DisconnectReasonCode) -> String {
    match code {
        DisconnectReasonCode::SessionTakenOver => {
            "another client has logged in with its client_id: does a second agent use it?"
                .to_owned()
        }
        DisconnectReasonCode::ServerShuttingDown => "it is shutting down".to_owned(),
        other => words(other),
    }
}

/// The codec's name of a reason as words: `QuotaExceeded` is `quota exceeded`. The names
/// are those of the specification (2.4).
fn words(code: impl std::fmt::Debug) -> String {
    let mut words = String::new();
    let mut after_small = false;
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && after_small {
            words.push(' ');
        }
        after_small = letter.is_lowercase();
        words.push(letter.to_ascii_lowercase());
    }
    words
}

/// With what the broker adds: a Reason String, and the server that it refers to
/// (3.2.2.3.9, 3.2.2.3.16).
fn in_full(text: &str, reason: Option<&str>, server: Option<&str>) -> String {
    let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let server = server.map(|server| format!(", use {server}")).unwrap_or_default();
    format!("{text}{reason}{server}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_in_words_with_what_the_broker_adds() {
        let over = words(DisconnectReasonCode::QuotaExceeded);
        assert_eq!(in_full(&over, Some("100 a day"), None), "quota exceeded (100 a day)");
        let moved = refusal(ConnectReturnCode::ServerMoved).unwrap();
        assert_eq!(in_full(&moved, None, Some("b:1883")), "server moved, use b:1883");
        let shared = words(SubscribeReasonCode::SharedSubscriptionsNotSupported);
        assert_eq!(shared, "shared subscriptions not supported");
    }
}
