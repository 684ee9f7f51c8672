//! A request → its answer.

use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, sleep_until};

use super::health::{self, Reason};
use super::{Board, metrics};

/// The next text is begun this many times as long after one as that took to make:
/// however often it is asked for, it costs a tenth of a core at most.
const REST: u32 = 9;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

const WHAT_THERE_IS: &str = "here are /metrics, /healthz and /readyz\n";

/// Where requests are answered.
#[derive(Debug)]
pub(super) struct Desk {
    board: Arc<Board>,
    /// Held while a text is made, by the thread that makes it: whoever asked may hang up
    /// meanwhile. When the next one may be.
    next_text: Arc<Mutex<Instant>>,
}

impl Desk {
    pub(super) fn new(board: Arc<Board>) -> Self {
        Self { board, next_text: Arc::new(Mutex::new(Instant::now())) }
    }

    /// A thread makes a text.
    #[cfg(test)]
    pub(super) fn is_at_work(&self) -> bool {
        self.next_text.try_lock().is_err()
    }

    /// One that has made a text a while ago.
    #[cfg(test)]
    pub(super) fn resting(board: Arc<Board>, until: Instant) -> Self {
        Self { board, next_text: Arc::new(Mutex::new(until)) }
    }

    /// The head is all that is looked at of a request.
    pub(super) async fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if !matches!(path, "/metrics" | "/healthz" | "/readyz") {
            return response(StatusCode::NOT_FOUND, TEXT, WHAT_THERE_IS);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refused =
                response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD are answered\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        match path {
            "/healthz" => verdict("ok", "failing", health::ailing(&self.board), Vec::new()),
            "/readyz" => {
                let unready = health::unready(&self.board);
                verdict("ready", "not ready", unready, health::worth_a_look(&self.board))
            }
            _ => match self.text().await {
                Some(text) => response(StatusCode::OK, OPEN_METRICS, text),
                None => response(
                    StatusCode::SERVICE_UNAVAILABLE,
                    TEXT,
                    "no thread could be started for it\n",
                ),
            },
        }
    }

    /// One at a time, each on a thread of its own: that of the runtime reads the
    /// sources, and a thousand devices are half a megabyte of text. `None` where
    /// the system gives no thread.
    async fn text(&self) -> Option<String> {
        let mut next = Arc::clone(&self.next_text).lock_owned().await;
        sleep_until(*next).await;
        let began = Instant::now();
        let (done, made) = oneshot::channel();
        let board = Arc::clone(&self.board);
        let thread = std::thread::Builder::new().name("status".to_owned()).spawn(move || {
            // The kernel's clock: that of the runtime is not at hand here.
            let start = std::time::Instant::now();
            let text = metrics::text(&board);
            *next = began + start.elapsed() * (REST + 1);
            drop(next);
            // Who asked may have gone away.
            drop(done.send(text));
        });
        thread.ok()?;
        made.await.ok()
    }
}

/// One line of JSON; 503 where there are reasons. What else is worth a look stands behind
/// them, and is none.
fn verdict(
    well: &str,
    unwell: &str,
    mut reasons: Vec<Reason>,
    more: Vec<Reason>,
) -> Response<Full<Bytes>> {
    let (status, word) = if reasons.is_empty() {
        (StatusCode::OK, well)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, unwell)
    };
    reasons.extend(more);
    let line = json!({ "status": word, "reasons": reasons }).to_string();
    response(status, JSON, line + "\n")
}

fn response(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
