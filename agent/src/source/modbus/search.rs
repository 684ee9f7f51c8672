//! Searches for what a device refuses, while no group is due.
//!
//! The few requests that a search has in each cycle find a refused place within four
//! cycles: of a group that is read each second in no time, of one that is read every ten
//! minutes after forty, and that for each place. So it goes on in between, and when it has
//! ended the group's turn comes at once. So it is when places come back, with a module that is
//! plugged in again.
//!
//! It takes nothing from anybody: a step is one request, which is begun only where it is
//! over before the next group is due, however long the device takes to say nothing; and
//! after it the bus has a rest.

use tokio::time::{Instant, sleep_until};

use super::group::Broken;
use super::{Counts, End, Link, Source};

/// So many times as long as a step took there is none: it has a quarter of the time that
/// is left. A gateway has other clients, and a device other work.
const REST: u32 = 3;

impl Source {
    /// Goes on with searches until a group is due.
    pub(super) async fn search(&mut self, link: &mut Link) -> Result<(), End> {
        while let (Some(index), Some(due)) = (self.searching(), self.schedule.due()) {
            let begin = self.search_at.max(Instant::now());
            if begin + self.peer.longest() >= due {
                break;
            }
            sleep_until(begin).await;
            self.step(index, link).await?;
        }
        Ok(())
    }

    /// A group of which something is to be found out, and whose device does not rest.
    fn searching(&self) -> Option<usize> {
        let now = Instant::now();
        self.groups.iter().position(|group| {
            let device = self.devices.get(group.device);
            group.is_searching(now) && device.is_some_and(|device| !device.health.rests(now))
        })
    }

    async fn step(&mut self, index: usize, link: &mut Link) -> Result<(), End> {
        let Some(group) = self.groups.get_mut(index) else { return Ok(()) };
        let Some(device) = self.devices.get_mut(group.device) else { return Ok(()) };
        let began = Instant::now();
        let reading = group.step(&mut self.peer, device.id).await;
        self.search_at = Instant::now() + began.elapsed() * REST;
        let silence = reading.broken.as_ref().map(Broken::reason);
        if silence.is_some() {
            self.schedule.silent(Instant::now());
        }
        group.cycles.add(Counts {
            failed: silence.is_some().into(),
            refused: reading.refusals,
            ..Counts::default()
        });
        // It is saved with the events that show it.
        self.unsaved |= group.take_unsaved();
        let (of, has_found) = (group.device, group.has_found());
        let end = reading.broken.and_then(|broken| device.tell(broken, link));
        if end.as_ref().is_none_or(|end| !end.unreachable) {
            self.judge(of, reading.heard, silence.as_deref(), link);
        }
        if has_found {
            self.schedule.hasten(index, Instant::now());
        }
        end.map_or(Ok(()), Err)
    }
}
