//! Tidegate reads a map; there is no Kafka for it, as on a gateway whose uplink is down.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tidegate_e2e::process::Process;

use super::device::{Device, Polled};
use super::map::{Case, Way};
use super::{ROUNDS, bus};
use crate::bench::binary;

/// It listens for a second first, and reads every two.
const READING: Duration = Duration::from_mins(1);

pub(crate) fn read(case: &Case, folder: &Path) -> Vec<Polled> {
    let device = Device::start(folder);
    let way = Way::Line(device.path().to_owned());
    let planned = bus::requests(&case.outline(&way)).len();
    let config = folder.join("gateway.toml");
    let text = format!(
        "[gateway]\nid = \"maps\"\n[buffer]\npath = \"{}\"\n[kafka]\nbrokers = \"127.0.0.1:1\"\n\
         [system]\nenabled = false\n{}",
        folder.join("buffer.db").display(),
        case.source(&way)
    );
    std::fs::write(&config, text).expect("it is writable");
    let mut command = Command::new(binary());
    command.arg("run").arg("--config").arg(config);
    let _agent = Process::start("tidegate", &command);
    device.wait(ROUNDS, planned, READING)
}
