//! What an error of Kafka's asks for, and how it is told to a person.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// What to do about a failed call. The order of the variants is that of how
/// much is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Call the same again, after a pause; nothing was decided.
    Repeat,
    /// This transaction is lost: abort it, send again.
    Abort,
    /// This producer is lost: drop it and run the whole start.
    Rebuild,
    /// Another producer has taken its place, or the broker has ended its
    /// transaction: drop it, and look who sends before the whole start.
    Fenced,
}

/// A failed call: what to do, and the words for the log.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub(super) struct Trouble {
    pub(super) class: Class,
    pub(super) code: Option<Code>,
    pub(super) text: String,
}

impl Trouble {
    pub(super) fn new(class: Class, text: impl Into<String>) -> Self {
        Self { class, code: None, text: text.into() }
    }

    /// Of a call outside of any transaction, which can only be repeated.
    pub(super) fn of_call(what: &str, error: &KafkaError) -> Self {
        let code = error.rdkafka_error_code();
        Self { class: Class::Repeat, code, text: format!("{what}: {}", words(error)) }
    }

    /// Of a transactional call, which says itself what is left of it.
    pub(super) fn of_transaction(what: &str, error: &KafkaError) -> Self {
        let class = match error {
            KafkaError::Transaction(e) if e.is_fatal() && is_fence(e.code()) => Class::Fenced,
            KafkaError::Transaction(e) if e.is_fatal() => Class::Rebuild,
            KafkaError::Transaction(e) if e.txn_requires_abort() => Class::Abort,
            KafkaError::Transaction(e) if e.is_retriable() => Class::Repeat,
            // A call that came out of turn: the state that we believe in is
            // not the producer's, only a new start brings them together.
            _ => Class::Rebuild,
        };
        let code = match error {
            KafkaError::Transaction(e) => Some(e.code()),
            other => other.rdkafka_error_code(),
        };
        Self { class, code, text: format!("{what}: {}", words(error)) }
    }
}

/// Whether the broker no longer knows a producer under its epoch.
const fn is_fence(code: Code) -> bool {
    matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
}

fn words(error: &KafkaError) -> String {
    match error {
        KafkaError::Transaction(e) => e.string(),
        other => other.rdkafka_error_code().map_or_else(|| other.to_string(), |c| c.to_string()),
    }
}

/// Why a record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// For its own content, perhaps: whole requests are refused, so only what
    /// is refused alone is to blame (SAFETY 8).
    Content,
    /// The clock's fault: stamped anew it may pass.
    Timestamp,
    /// Its topic is missing or forbidden: the flow stands aside.
    Topic,
    /// The line or the broker; nothing is wrong with the record.
    Line,
    /// Only because another one of the transaction failed.
    Consequence,
}

pub(super) fn refusal(code: Code) -> Refusal {
    match code {
        Code::MessageSizeTooLarge
        | Code::InvalidMessage
        | Code::InvalidMessageSize
        | Code::InvalidRecord
        | Code::MessageBatchTooLarge => Refusal::Content,
        Code::InvalidTimestamp => Refusal::Timestamp,
        Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicOrPartition
        | Code::InvalidTopic
        | Code::TopicAuthorizationFailed => Refusal::Topic,
        Code::PurgeQueue | Code::PurgeInflight | Code::State => Refusal::Consequence,
        _ => Refusal::Line,
    }
}

/// Whether a partition without a leader or with too few replicas may fail so,
/// while the line and the producer are well.
pub(super) const fn is_of_partition(code: Code) -> bool {
    matches!(
        code,
        Code::MessageTimedOut
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
    )
}

/// How an event of the client's own (not of a call) is told, with its remedy.
/// `None`: nothing that a person must know.
pub(super) fn told(code: Code, reason: &str) -> Option<(u8, String)> {
    Some(match code {
        Code::Authentication | Code::SaslAuthenticationFailed => {
            (3, format!("login refused: {reason} (see [kafka.login])"))
        }
        Code::SSL => (3, format!("no TLS connection: {reason} (see [kafka.tls])")),
        Code::Resolve => (2, format!("broker name not found: {reason} (see kafka.brokers)")),
        Code::BrokerTransportFailure => (1, format!("broker not reached: {reason}")),
        Code::AllBrokersDown => (0, "no broker is reachable".to_owned()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_content_can_make_a_dead_letter() {
        assert_eq!(refusal(Code::MessageSizeTooLarge), Refusal::Content);
        for code in [Code::MessageTimedOut, Code::NotEnoughReplicas, Code::Unknown] {
            assert_eq!(refusal(code), Refusal::Line, "{code:?}");
        }
        assert_eq!(refusal(Code::TopicAuthorizationFailed), Refusal::Topic);
        assert_eq!(refusal(Code::PurgeQueue), Refusal::Consequence);
    }

    #[test]
    fn a_fence_is_no_fault_of_a_partition() {
        assert!(is_of_partition(Code::MessageTimedOut));
        for code in [Code::Fenced, Code::Fatal, Code::ProducerFenced, Code::InvalidProducerEpoch] {
            assert!(!is_of_partition(code), "{code:?}");
        }
    }
}
