//! An endpoint that gives OAUTHBEARER tokens, unsigned, as Kafka's own validator for
//! tests takes them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds for which a token holds.
const HOLDS: u64 = 300;

/// The endpoint: it answers each POST with a token for `user`.
#[derive(Debug)]
pub struct Tokens {
    port: u16,
    given: Arc<AtomicUsize>,
}

impl Tokens {
    pub fn start(user: &'static str) -> Self {
        let port = crate::ports::free();
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let given = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&given);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if answer(&stream, user).is_ok() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { port, given }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/token", self.port)
    }

    pub fn given(&self) -> usize {
        self.given.load(Ordering::Relaxed)
    }
}

fn answer(mut stream: &TcpStream, user: &str) -> std::io::Result<()> {
    let mut request = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        if request.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        }
    }
    std::io::copy(&mut std::io::Read::take(&mut request, length), &mut std::io::sink())?;
    let body = format!(
        r#"{{"access_token":"{}","token_type":"Bearer","expires_in":{HOLDS}}}"#,
        token(user)
    );
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

/// An unsigned JSON web token (RFC 7515, appendix A.5).
fn token(user: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "the agent's clock is not the harness's")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_secs();
    let claims = format!(r#"{{"sub":"{user}","iat":{now},"exp":{}}}"#, now + HOLDS);
    format!("{}.{}.", base64(br#"{"alg":"none"}"#), base64(claims.as_bytes()))
}

/// Base 64 for addresses, without padding (RFC 4648, 5).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = (0..3)
            .fold(0_usize, |bits, at| bits << 8 | chunk.get(at).copied().map_or(0, usize::from));
        for digit in 0..=chunk.len() {
            let value = bits >> (18 - 6 * digit) & 63;
            text.push(DIGITS.get(value).copied().map_or('?', char::from));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_64_is_that_of_rfc_4648() {
        let texts = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
        let coded = ["", "Zg", "Zm8", "Zm9v", "Zm9vYg", "Zm9vYmE", "Zm9vYmFy"];
        assert_eq!(texts.map(|text| base64(text.as_bytes())), coded);
    }
}
