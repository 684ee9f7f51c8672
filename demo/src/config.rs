//! The agent's configuration for the plant, as a person would write it.

use std::net::SocketAddr;
use std::path::Path;

/// What differs from run to run.
#[derive(Debug)]
pub(crate) struct Places<'a> {
    pub(crate) id: &'a str,
    pub(crate) brokers: &'a str,
    pub(crate) buffer: &'a Path,
    pub(crate) boiler: SocketAddr,
    pub(crate) broker: SocketAddr,
    pub(crate) database: &'a Path,
}

/// The file's text.
pub(crate) fn text(places: &Places<'_>) -> String {
    let Places { id, brokers, boiler, broker, .. } = places;
    let (buffer, database) = (quoted(places.buffer), quoted(places.database));
    format!(
        r#"# The configuration of this run of the demo. A gateway's own looks the same.

[gateway]
id = "{id}"

[gateway.labels]
site = "demo"

[buffer]
path = {buffer}
commit_interval = "500 ms"

[kafka]
brokers = "{brokers}"

# The agent's own stream is not shown here.
[system]
enabled = false

# The boiler: registers over Modbus TCP, four times a second.
[[source]]
type = "modbus"
name = "boiler"
address = "{boiler}"
stream = "plant.boiler"

[[source.device]]
name = "boiler-1"

[[source.device.group]]
interval = "250 ms"
signals = [
    {{ name = "n", table = "input", address = 0, type = "u32" }},
    {{ name = "temperature", table = "input", address = 2, type = "i16", scale = 0.1, unit = "°C" }},
    {{ name = "pressure", table = "input", address = 3, scale = 0.01, unit = "bar" }},
    {{ name = "flow", table = "input", address = 4, type = "f32", unit = "m³/h" }},
    {{ name = "state", table = "input", address = 6 }},
]

# The sensors: MQTT, acknowledged once they are in the buffer's file.
[[source]]
type = "mqtt"
name = "sensors"
address = "{broker}"
protocol = "3.1.1"
stream = "plant.sensors"

[[source.subscription]]
topic = "plant/{{line}}/{{device}}/telemetry"

# The machine: new rows of its database.
[[source]]
type = "sqlite"
name = "machine"
path = {database}
table = "cycles"
cursor = ["n"]
interval = "500 ms"
stream = "plant.machine"
device_column = "machine"
time_column = "at"
time_format = "rfc3339"
"#
    )
}

/// A path as a TOML string.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_agent_takes_this_configuration_without_a_warning() {
        let places = Places {
            id: "demo",
            brokers: "127.0.0.1:9092",
            buffer: Path::new("/tmp/a \"folder\"/buffer.db"),
            boiler: (Ipv4Addr::LOCALHOST, 502).into(),
            broker: (Ipv4Addr::LOCALHOST, 1883).into(),
            database: Path::new("/tmp/machine.db"),
        };
        let loaded =
            tidegate::config::load_str(&text(&places), "gateway.toml", std::iter::empty()).unwrap();
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        let names: Vec<&str> =
            loaded.config.sources.iter().map(tidegate::source::Config::name).collect();
        assert_eq!(names, ["boiler", "sensors", "machine"]);
        assert_eq!(loaded.config.buffer.path, places.buffer);
    }
}
