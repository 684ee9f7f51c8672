//! The other of two ways, while it is on trial (`ways`).
//!
//! A trial stands between two cycles and is over before the next: one group of each
//! device is asked, the quickest, until one answers, and if none does the way before is
//! taken again. So it costs no group its reading, whatever its interval, and one dead
//! device among others decides nothing. It begins with the devices that were answered
//! last, so that a way which works is known for good after one request.
//!
//! Nothing is told of what was silent in it: by the way before, or in the next cycles
//! by this one, it is asked again.

use tokio::time::Instant;

use super::{End, Intake, Link, Source};

impl Source {
    /// Takes the other way where it is time to.
    pub(super) async fn change(&mut self, intake: &mut Intake, link: &mut Link) -> Result<(), End> {
        let was_second = self.peer.is_second();
        if self.peer.change() {
            self.connect(was_second, intake, link).await?;
        }
        if self.peer.is_trial() { self.try_out(intake, link).await } else { Ok(()) }
    }

    async fn try_out(&mut self, intake: &mut Intake, link: &mut Link) -> Result<(), End> {
        let is_second = self.peer.is_second();
        let mut left = self.one_of_each();
        left.reverse();
        while let Some(index) = left.pop() {
            let Some(group) = self.groups.get_mut(index) else { continue };
            let Some(device) = self.devices.get(group.device) else { continue };
            let reading = group.read(&mut self.peer, device.id, 1).await;
            if reading.heard {
                return self.finish(index, reading, intake, link).await;
            }
            self.schedule.silent(Instant::now());
            let end = reading.broken.and_then(|broken| broken.end);
            let fails = end.is_some();
            if let Some(end) = end {
                self.peer.give_up(&end.error);
            } else {
                self.peer.weigh(false, left.is_empty());
            }
            if fails || self.peer.change() {
                return self.connect(is_second, intake, link).await.map_err(End::from);
            }
        }
        Ok(())
    }

    /// The quickest group of each device that is asked for anything, those first that
    /// were answered last.
    fn one_of_each(&self) -> Vec<usize> {
        let quickest = (0..self.devices.len()).filter_map(|device| {
            let groups = self.groups.iter().enumerate();
            let groups = groups.filter(|(_, group)| group.device == device);
            groups.min_by_key(|(_, group)| (group.reads_nothing(), group.interval()))
        });
        let mut asked: Vec<_> = quickest.collect();
        asked.sort_by_key(|(_, group)| group.is_silent());
        asked.into_iter().map(|(index, _)| index).collect()
    }
}
