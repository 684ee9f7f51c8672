//! Which devices stand otherwise than was told last, each at most once in a second, and
//! which of two ways leads to them.
//!
//! What changes to and fro meanwhile is counted in the next event and not told step by
//! step; how it stands in the end always is. Of a source that begins, with the agent or
//! with another configuration, nothing was told yet: the first that is known of each of
//! its devices is told, whatever an earlier run has said.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{Notice, text};
use crate::event::{Timestamp, Value};
use crate::supervise::{Device, State, Way};

/// Each event is part of a write; a device that comes and goes faster than this is
/// understood by its count.
const BETWEEN: Duration = Duration::from_secs(1);

/// Where each source tells how it stands.
pub(super) type Links = Vec<watch::Receiver<State>>;

/// A change that is waited for; false: there will be none.
type Change<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// What was told of all devices.
#[derive(Debug)]
pub(super) struct Devices {
    /// Another with each change of the configuration.
    links: watch::Receiver<Links>,
    sources: Vec<Source>,
    /// When something may be told again.
    next: Instant,
}

#[derive(Debug)]
struct Source {
    link: watch::Receiver<State>,
    told: BTreeMap<String, Device>,
    told_way: Option<Way>,
}

impl Devices {
    pub(super) fn new(links: watch::Receiver<Links>) -> Self {
        let mut devices = Self { links, sources: Vec::new(), next: Instant::now() };
        devices.follow();
        devices
    }

    /// Waits until it is worth a look. May be dropped at any time.
    pub(super) async fn changed(&mut self) {
        sleep_until(self.next).await;
        let Self { links, sources, .. } = self;
        let of_links: Change<'_> = Box::pin(async { links.changed().await.is_ok() });
        let of_sources = sources.iter_mut().map(|source| -> Change<'_> {
            Box::pin(async { source.link.changed().await.is_ok() })
        });
        let mut changes: Vec<Change<'_>> = of_sources.chain([of_links]).collect();
        poll_fn(|context| {
            let mut is_one = false;
            // Of a source that has ended nothing comes any more.
            changes.retain_mut(|change| match change.as_mut().poll(context) {
                Poll::Ready(is_change) => {
                    is_one |= is_change;
                    false
                }
                Poll::Pending => true,
            });
            if is_one { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// An event for each device that stands otherwise than was told; none within a
    /// second of the last. `now` is the time on the clock.
    pub(super) fn look(&mut self, now: Timestamp) -> Vec<Notice> {
        if Instant::now() < self.next {
            return Vec::new();
        }
        self.follow();
        let notices: Vec<Notice> =
            self.sources.iter_mut().flat_map(|source| source.look(now)).collect();
        if !notices.is_empty() {
            self.next = Instant::now() + BETWEEN;
        }
        notices
    }

    /// Takes over which sources there are. One that goes on keeps what was told of it.
    fn follow(&mut self) {
        let links = self.links.borrow_and_update();
        let mut pairs = links.iter().zip(&self.sources);
        let same = pairs.all(|(link, source)| source.link.same_channel(link));
        if same && links.len() == self.sources.len() {
            return;
        }
        let mut known = std::mem::take(&mut self.sources);
        let source = |link: &watch::Receiver<State>| match known
            .iter()
            .position(|known| known.link.same_channel(link))
        {
            Some(index) => known.swap_remove(index),
            None => Source { link: link.clone(), told: BTreeMap::new(), told_way: None },
        };
        self.sources = links.iter().map(source).collect();
    }
}

impl Source {
    fn look(&mut self, now: Timestamp) -> Vec<Notice> {
        let state = self.link.borrow_and_update();
        let mut notices = Vec::new();
        if self.told_way != state.way {
            notices.extend(state.way.as_ref().map(|way| notice_of_way(&state.source, way)));
            self.told_way.clone_from(&state.way);
        }
        for (name, device) in &state.devices {
            let before = self.told.get(name);
            if before == Some(device) {
                continue;
            }
            notices.push(notice(&state.source, name, device, before, now));
            self.told.insert(name.clone(), device.clone());
        }
        notices
    }
}

fn notice_of_way(source: &str, way: &Way) -> Notice {
    Notice::new("address")
        .with("source", text(source))
        .with("address", text(&way.address))
        .with("fallback", Value::Bool(way.fallback.is_some()))
        .with("reason", way.fallback.as_deref().map_or(Value::Null, text))
}

/// The event is the device's own, of the moment at which it came to stand so.
fn notice(
    source: &str,
    name: &str,
    device: &Device,
    before: Option<&Device>,
    now: Timestamp,
) -> Notice {
    let ago = i64::try_from(device.since.elapsed().as_nanos()).unwrap_or(i64::MAX);
    let lasted = |before: &Device| {
        let lasted = device.since.saturating_duration_since(before.since).as_millis();
        Value::U64(u64::try_from(lasted).unwrap_or(u64::MAX))
    };
    let reason = if device.reason.is_empty() { Value::Null } else { text(&device.reason) };
    let counted = before.map_or(0, |before| before.changes);
    let mut notice = Notice::new("device")
        .with("source", text(source))
        .with("state", text(device.standing.as_str()))
        .with("reason", reason)
        .with("previous", before.map_or(Value::Null, |before| text(before.standing.as_str())))
        .with("previous_ms", before.map_or(Value::Null, lasted))
        .with("changes", Value::U64(device.changes.saturating_sub(counted)));
    notice.of = Some((Arc::from(name), Timestamp(now.0.saturating_sub(ago))));
    notice
}
