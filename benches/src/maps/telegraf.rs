//! Telegraf reads a map once, with each way that it has to make requests.

use std::fmt::{Display, Formatter};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tidegate_e2e::process::Process;

use super::device::{Device, Polled};
use super::map::Case;
use crate::telegraf::program;

/// Many times what the longest list takes.
const READING: Duration = Duration::from_mins(1);

/// `optimization` of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Optimization {
    None,
    Shrink,
    Rearrange,
    /// With `optimization_max_register_fill`.
    MaxInsert(u16),
}

impl Display for Optimization {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Shrink => f.write_str("shrink"),
            Self::Rearrange => f.write_str("rearrange"),
            Self::MaxInsert(fill) => write!(f, "max_insert {fill}"),
        }
    }
}

impl Optimization {
    fn text(self) -> String {
        match self {
            Self::MaxInsert(fill) => {
                format!("optimization = \"max_insert\"\noptimization_max_register_fill = {fill}")
            }
            other => format!("optimization = \"{other}\""),
        }
    }
}

/// All that can make a difference: `max_insert` fills holes up to a width, and so gives
/// another list only at the width of one. It takes no more than 125.
pub(crate) fn settings(case: &Case) -> Vec<Optimization> {
    let fills = case.holes().into_iter().filter(|hole| *hole <= 125);
    let plain = [Optimization::None, Optimization::Shrink, Optimization::Rearrange];
    plain.into_iter().chain(fills.map(Optimization::MaxInsert)).collect()
}

pub(crate) fn read(case: &Case, optimization: Optimization, folder: &Path) -> Polled {
    let device = Device::start(folder);
    let config = folder.join("telegraf.conf");
    let text = case.telegraf(device.path(), &optimization.text());
    std::fs::write(&config, text).expect("it is writable");
    let mut command = Command::new(program());
    // Reads once, and ends.
    command.arg("--test").arg("--config").arg(config);
    let mut telegraf = Process::start("telegraf", &command);
    let status = telegraf.wait(READING);
    assert!(status.success(), "Telegraf has not read it: {}", telegraf.log.tail());
    device.polled().expect("it has asked")
}

/// By its folder: as `scripts/setup.sh` builds it, it does not know itself.
pub(crate) fn version() -> String {
    let path = program();
    let mut folders = path.ancestors().filter_map(|folder| folder.file_name()?.to_str());
    let version = folders.find_map(|folder| folder.strip_prefix("telegraf-"));
    version.expect("it lies in a folder of its version").to_owned()
}
