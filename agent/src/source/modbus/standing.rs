//! How each device stands, judged after each cycle of one of its groups.
//!
//! - **up**: all that was asked of it was answered with values;
//! - **degraded**: something of it is silent or refused, and something is answered;
//! - **down**: nothing of what is read at least every 30 s is answered, or of all, where
//!   nothing is read that often. What is read less often says nothing about the minutes
//!   in between, and so neither makes a device up nor keeps it from being down.
//!
//! Between two of them nothing is said. When a device falls silent its groups find that
//! out one after the other, and when it is back they are asked one after the other; it
//! would be degraded for a moment each time, which is true and of no use to anybody.

use super::group::Poll;
use super::{Instant, Intake, Link, Source};
use crate::source::Error;
use crate::supervise::{Standing, in_full};

impl Source {
    /// What a cycle of one of its groups says about a device: something was `heard` of
    /// it, and why the cycle `failed`, if it did.
    pub(super) fn judge(
        &mut self,
        index: usize,
        heard: bool,
        failed: Option<&str>,
        link: &mut Link,
    ) {
        self.heard |= heard;
        let Some(device) = self.devices.get_mut(index) else { return };
        if heard && device.health.is_silent() {
            device.health.answered();
            let groups = self.groups.iter_mut().filter(|group| group.device == index);
            groups.for_each(Poll::wake);
        }
        let mut groups = self.groups.iter().filter(|group| group.device == index);
        if failed.is_some() {
            if groups.all(|group| !group.is_quick() || group.is_silent()) {
                device.health.failed(Instant::now(), 1);
            }
        } else if groups.all(Poll::is_heard) {
            device.faulty = false;
            link.well(&device.name);
        }
        self.tell_standing(index, heard, failed, link);
        if heard || failed.is_some() {
            self.peer.weigh(heard, false);
            self.tell_way(link);
        }
    }

    /// Of two ways, which one is in use.
    pub(super) fn tell_way(&self, link: &mut Link) {
        if let Some((place, why)) = self.peer.way() {
            link.way(&place.to_string(), why);
        }
    }

    /// The way is another one: what is silent is asked at once.
    pub(super) fn wake(&mut self) {
        self.devices.iter_mut().for_each(|device| device.health.wake());
        self.groups.iter_mut().for_each(Poll::wake);
    }

    fn tell_standing(&mut self, index: usize, heard: bool, failed: Option<&str>, link: &mut Link) {
        // What refuses everything is not silent.
        let refuses = heard && self.read_of(index).next().is_none();
        let silent = !refuses && self.read_of(index).all(Poll::is_silent);
        let undecided = self.read_of(index).any(|group| group.is_quick() && group.is_woken());
        let trouble = self.trouble(index, link);
        let Some(device) = self.devices.get_mut(index) else { return };
        match (failed, trouble) {
            // While it stays silent, the first word about it holds.
            (Some(_), _) if silent && device.down => {}
            (Some(why), _) if silent => {
                device.down = true;
                link.device(&device.name, Standing::Down, why);
            }
            // Only what is read seldom is answered, or not all was asked again.
            _ if !heard || silent || undecided => {}
            (_, Some(why)) => {
                device.down = false;
                link.device(&device.name, Standing::Degraded, &why);
            }
            (None, None) => {
                device.down = false;
                link.device(&device.name, Standing::Up, "");
            }
            // The connection broke behind an answer: the next cycle tells more.
            (Some(_), None) => {}
        }
    }

    /// The groups that say whether a device answers: those that are read often, else all;
    /// and none of which it refuses everything, for nothing is asked there.
    fn read_of(&self, index: usize) -> impl Iterator<Item = &Poll> {
        let of_device = move |group: &&Poll| group.device == index && !group.reads_nothing();
        let any_quick = self.groups.iter().filter(of_device).any(Poll::is_quick);
        self.groups.iter().filter(of_device).filter(move |group| group.is_quick() || !any_quick)
    }

    /// What is wrong with a device, in words: one thing of all.
    fn trouble(&self, index: usize, link: &Link) -> Option<String> {
        if link.is_well() {
            return None;
        }
        let device = self.devices.get(index)?;
        let mut groups = self.groups.iter().filter(|group| group.device == index);
        link.fault_of(&device.name).or_else(|| groups.find_map(|group| group.trouble(link)))
    }

    /// The peer cannot be reached, or closes what was just opened: every group says once that
    /// it has no values, and all devices are down. When it is back, it may be another one.
    pub(super) async fn tell_unreachable(
        &mut self,
        error: &Error,
        intake: &mut Intake,
        link: &mut Link,
    ) -> Result<(), Error> {
        let reason = in_full(error);
        for device in &mut self.devices {
            device.down = false;
            link.device(&device.name, Standing::Down, &reason);
        }
        let time = self.clock.now();
        self.groups.iter_mut().for_each(Poll::doubt);
        let mut events = Vec::new();
        for group in self.groups.iter_mut().filter(|g| !g.told && g.has_fields()) {
            let Some(device) = self.devices.get(group.device) else { continue };
            group.told = true;
            events.push(group.silence(&device.name, time));
        }
        if events.is_empty() {
            return Ok(());
        }
        self.deliver(intake, events).await
    }
}
