//! `demo devices FILE`: simulated devices alone, for an agent that runs elsewhere.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Context as _;
use tidegate_demo::devices::{Devices, File, Talk};
use tokio::runtime::Runtime;

use super::LOOK;

#[derive(Debug, clap::Args)]
pub(crate) struct Work {
    /// What there is: docs/devices.md explains the file.
    file: PathBuf,
    /// Show each request and each message.
    #[arg(long)]
    verbose: bool,
}

/// Until somebody ends it.
pub(crate) fn run(work: &Work, runtime: &Runtime, stop: &AtomicBool) -> anyhow::Result<()> {
    let file = File::load(&work.file)?;
    let talk = if work.verbose { Talk::All } else { Talk::Nothing };
    let devices = runtime.block_on(Devices::start(&file, talk))?;
    let text = devices.configuration();
    let mut out = std::io::stdout();
    write!(out, "# For a gateway's configuration; ^C ends the devices.\n\n{text}")
        .and_then(|()| out.flush())
        .context("cannot print")?;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(LOOK);
    }
    Ok(())
}
