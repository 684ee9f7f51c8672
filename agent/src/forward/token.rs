//! The token of an OAUTHBEARER login: from a secret that something else keeps
//! fresh, or from an endpoint (OAuth 2.0 client credentials, RFC 6749 § 4.4).

use std::time::Duration;

use base64::Engine as _;
use rdkafka::client::OAuthToken;
use serde::Deserialize;

use super::config::Login;
use crate::config::SecretError;
use crate::event::Timestamp;

/// Lifetime of a token that does not say one: short enough to be asked again
/// long before an hour, which is what most endpoints give.
const UNSAID_LIFETIME: Duration = Duration::from_mins(5);

/// The forward thread waits for the answer, so it is short.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(5);

/// The next refresh tries again; the login waits until then.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("the token endpoint did not answer with a token: {0}")]
    Endpoint(String),
    #[error("[kafka.login] names neither `token` nor `token_endpoint`")]
    Nothing,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<f64>,
}

pub(super) fn fetch(login: &Login, now: Timestamp) -> Result<OAuthToken, Error> {
    let (token, lasts) = if let Some(secret) = &login.token {
        (secret.read()?.trim().to_owned(), None)
    } else {
        let answer = ask(login)?;
        (answer.access_token, answer.expires_in)
    };
    let now = now.0.div_euclid(1_000_000);
    let claims = claims(&token);
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    let lifetime_ms = match (lasts, claims.as_ref().and_then(|c| c.exp)) {
        (_, Some(exp)) => (exp * 1_000.0) as i64,
        (Some(seconds), None) => now.saturating_add((seconds * 1_000.0) as i64),
        (None, None) => {
            now.saturating_add(i64::try_from(UNSAID_LIFETIME.as_millis()).unwrap_or(i64::MAX))
        }
    };
    let principal_name = claims
        .and_then(|c| c.sub)
        .or_else(|| login.client_id.clone())
        .unwrap_or_else(|| "tidegate".to_owned());
    Ok(OAuthToken { token, principal_name, lifetime_ms })
}

fn ask(login: &Login) -> Result<Answer, Error> {
    let (Some(endpoint), Some(id), Some(secret)) =
        (&login.token_endpoint, &login.client_id, &login.client_secret)
    else {
        return Err(Error::Nothing);
    };
    let secret = secret.read()?;
    let mut form = vec![
        ("grant_type", "client_credentials"),
        ("client_id", id.as_str()),
        ("client_secret", secret.as_str()),
    ];
    if let Some(scope) = &login.scope {
        form.push(("scope", scope));
    }
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(ENDPOINT_TIMEOUT)).build().into();
    let failed = |error: ureq::Error| Error::Endpoint(format!("{endpoint}: {error}"));
    let text = agent
        .post(endpoint)
        .send_form(form)
        .map_err(failed)?
        .body_mut()
        .read_to_string()
        .map_err(failed)?;
    // The text itself is never shown: it may hold a token.
    serde_json::from_str(&text)
        .map_err(|_| Error::Endpoint(format!("{endpoint}: no access_token in the answer")))
}

#[derive(Deserialize)]
pub(super) struct Claims {
    exp: Option<f64>,
    sub: Option<String>,
}

/// The claims of a JWT; they are not verified, the broker does that.
pub(super) fn claims(token: &str) -> Option<Claims> {
    let part = token.split('.').nth(1)?;
    let bytes =
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(token: &std::path::Path) -> Login {
        serde_json::from_value(
            serde_json::json!({"mechanism": "oauthbearer", "token": {"file": token}}),
        )
        .unwrap()
    }

    #[test]
    fn a_token_lasts_as_long_as_it_says_and_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for (exp, sub) in [(1_767_225_600, "edge"), (1_767_229_200, "edge2")] {
            let body = base64::engine::general_purpose::URL_SAFE_NO_PAD
                .encode(format!("{{\"exp\":{exp},\"sub\":\"{sub}\"}}"));
            std::fs::write(&path, format!("e30.{body}.sig\n")).unwrap();
            let token = fetch(&login(&path), Timestamp(0)).unwrap();
            assert_eq!(token.lifetime_ms, exp * 1_000);
            assert_eq!(token.principal_name, sub);
            assert!(!token.token.ends_with('\n'));
        }
    }

    #[test]
    fn a_token_that_says_nothing_is_asked_for_again_soon() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "opaque").unwrap();
        let token = fetch(&login(&path), Timestamp(5_000_000)).unwrap();
        assert_eq!(token.lifetime_ms, 5 + 300_000);
        assert_eq!(token.principal_name, "tidegate");
    }

    #[test]
    fn a_missing_token_is_told_without_a_content() {
        let error = fetch(&login(std::path::Path::new("/nowhere/token")), Timestamp(0));
        assert_eq!(error.err().unwrap().to_string(), "cannot read the secret from /nowhere/token");
    }
}
