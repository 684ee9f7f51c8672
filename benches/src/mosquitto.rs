//! mosquitto as its users have it: the defaults, and a queue without a limit,
//! for the default of 1,000 messages drops what the broker has acknowledged.

use std::process::Command;
use std::time::Duration;

use tidegate_e2e::process::Process;
use tidegate_e2e::{folder, ports};

const START: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Mosquitto {
    pub(crate) port: u16,
    pub(crate) process: Process,
}

impl Mosquitto {
    pub(crate) fn start() -> Self {
        let (folder, port) = (folder("bench-mosquitto"), ports::free());
        let config = folder.join("mosquitto.conf");
        // The end-to-end tests' broker logs each message, which costs it more
        // than the message. Beside its defaults this one names subscriptions.
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nlog_dest stderr\n\
             log_type error\nlog_type warning\nlog_type notice\nlog_type information\nlog_type subscribe\n"
        );
        std::fs::write(&config, text).expect("it is writable");
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(&config);
        // Debian keeps the server out of a user's path.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin"));
        let process = Process::start("mosquitto", &command);
        process.wait_line("running", START);
        Self { port, process }
    }
}
