//! The service manager's watchdog: fed while every thread gets on, starved when
//! one hangs. The test is the service manager.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use tidegate_e2e::agent::Agent;
use tidegate_e2e::folder;
use tidegate_e2e::thread::Held;

/// Longer than the longest call that the forwarder makes, 4 s.
const SILENCE: Duration = Duration::from_secs(6);

/// Longest that anything here waits before it fails; nothing depends on it.
const PATIENCE: Duration = Duration::from_mins(1);

struct Manager(UnixDatagram);

impl Manager {
    fn next(&self, within: Duration) -> Option<String> {
        self.0.set_read_timeout(Some(within)).expect("it is no zero");
        let mut said = [0; 128];
        let length = self.0.recv(&mut said).ok()?;
        Some(String::from_utf8_lossy(said.get(..length)?).into_owned())
    }

    fn is_fed(&self) {
        assert_eq!(self.next(PATIENCE).as_deref(), Some("WATCHDOG=1"));
    }

    fn is_starved(&self) {
        while self.next(Duration::from_millis(1)).is_some() {}
        assert_eq!(self.next(SILENCE), None);
    }
}

/// An agent without a Kafka and without sources, under a watchdog.
fn watched(name: &str) -> (Agent, Manager) {
    let folder = folder(name);
    let socket = folder.join("notify");
    let manager = Manager(UnixDatagram::bind(&socket).expect("the folder is empty"));
    let buffer = folder.join("buffer.db");
    let config = format!(
        "[gateway]\nid = \"gw1\"\n[buffer]\npath = \"{}\"\n[kafka]\nbrokers = \"localhost:1\"\n",
        buffer.display()
    );
    let mut agent = Agent::new(&folder, &config);
    agent.environment("NOTIFY_SOCKET", &socket.display().to_string());
    agent.environment("WATCHDOG_USEC", &SILENCE.as_micros().to_string());
    agent.start();
    assert_eq!(manager.next(PATIENCE).as_deref(), Some("READY=1"));
    for _ in 0..3 {
        manager.is_fed();
    }
    (agent, manager)
}

fn a_stage_that_hangs_starves_it(stage: &str) {
    let (mut agent, manager) = watched(&format!("watchdog_{stage}"));
    let held = Held::new(agent.process().id(), stage);
    agent.wait_line(&["a stage hangs", stage], PATIENCE);
    manager.is_starved();
    drop(held);
    agent.wait_line(&["every stage gets on again"], PATIENCE);
    manager.is_fed();
    agent.stop();
}

#[test]
fn a_writer_that_hangs_starves_the_watchdog() {
    a_stage_that_hangs_starves_it("buffer");
}

#[test]
fn a_forwarder_that_hangs_starves_the_watchdog() {
    a_stage_that_hangs_starves_it("forward");
}

#[test]
fn a_runtime_that_hangs_starves_the_watchdog() {
    let (mut agent, manager) = watched("watchdog_main");
    let held = Held::new(agent.process().id(), "tidegate");
    manager.is_starved();
    drop(held);
    manager.is_fed();
    agent.stop();
}
