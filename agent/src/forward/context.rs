//! What librdkafka tells us on the side: failed records, lost brokers, its
//! own log, and that it wants a token.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use tracing::debug;

use super::config::{Login, Mechanism};
use super::trouble::Refusal;
use super::{token, trouble};
use crate::clock::Clock;

/// A record that was not delivered, by its index in the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) record: usize,
    pub(super) code: Code,
}

/// Cheap to clone; all clones of one producer share what they gather.
#[derive(Debug, Clone)]
pub(super) struct Context {
    /// At most one for each record of a load.
    failures: Arc<Mutex<Vec<Failure>>>,
    /// The weightiest thing that was told since it was last well.
    told: Arc<Mutex<Option<(u8, String)>>>,
    login: Option<Arc<Login>>,
    clock: Clock,
}

impl Context {
    pub(super) fn new(login: Option<Login>, clock: Clock) -> Self {
        Self { failures: Arc::default(), told: Arc::default(), login: login.map(Arc::new), clock }
    }

    pub(super) fn failed(&self, record: usize, code: Code) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(Failure { record, code });
    }

    /// The failures gathered since the last call.
    pub(super) fn take_failures(&self) -> Vec<Failure> {
        std::mem::take(&mut *self.failures.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a record failed for a reason of its own, not only because
    /// another one did.
    pub(super) fn is_blamed(&self) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.iter().any(|failure| trouble::refusal(failure.code) != Refusal::Consequence)
    }

    /// A fresh token, where the login is one with tokens.
    pub(super) fn token(&self) -> Option<Result<OAuthToken, String>> {
        let login = self.login.as_ref()?;
        if login.mechanism != Mechanism::Oauthbearer {
            return None;
        }
        Some(token::fetch(login, self.clock.now()).map_err(|error| {
            let text = error.to_string().replace('\0', " ");
            let text = format!("no login token: {text} (see [kafka.login])");
            self.tell(3, text.clone());
            text
        }))
    }

    /// What the client said about its connections, if it said anything.
    pub(super) fn told(&self) -> Option<String> {
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|(_, text)| text.clone())
    }

    /// Something worked: what was told before is over.
    pub(super) fn well(&self) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn tell(&self, weight: u8, text: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        // "All brokers down" follows every cause and must not hide it.
        if told.as_ref().is_none_or(|(known, _)| weight > *known) {
            *told = Some((weight, text));
        }
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(target: "librdkafka", ?level, facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(target: "librdkafka", %error, reason, "librdkafka");
        if let Some((weight, text)) =
            error.rdkafka_error_code().and_then(|code| trouble::told(code, reason))
        {
            self.tell(weight, text);
        }
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        Ok(self.token().ok_or("no oauthbearer login is configured")??)
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, record: usize) {
        if let Err((error, _)) = result {
            self.failed(record, error.rdkafka_error_code().unwrap_or(Code::Unknown));
        }
    }
}
