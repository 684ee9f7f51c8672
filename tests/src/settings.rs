//! The agent's configuration, piece by piece, as text: what a user would write.

use std::fmt::Write as _;
use std::path::Path;

use crate::certificates::{Certificates, Pair};

/// Everything before the streams and sources; `kafka` is what stands in `[kafka]`.
pub fn head(gateway: &str, folder: &Path, kafka: &str) -> String {
    format!(
        "\
[gateway]
id = \"{gateway}\"
shutdown_grace = \"20 s\"

[buffer]
path = \"{}\"
commit_interval = \"200 ms\"
min_free_disk = \"64 MiB\"

[system]
enabled = false

[log]
format = \"json\"

[kafka]
{kafka}
",
        buffer(folder).display()
    )
}

/// The same with the agent's own stream, whose topic it makes; a heartbeat each
/// second.
pub fn head_with_system(gateway: &str, folder: &Path, kafka: &str) -> String {
    let heartbeat = "[system]\nheartbeat = \"1 s\"\ncreate = { replication = 1 }\n";
    head(gateway, folder, kafka).replace("[system]\nenabled = false\n", heartbeat)
}

/// The same, written only where Kafka does not take it within the commit interval.
pub fn when_needed(head: &str) -> String {
    head.replace("[buffer]\n", "[buffer]\nwrite = \"when_needed\"\n")
}

/// The buffer's file of an agent with this folder.
pub fn buffer(folder: &Path) -> std::path::PathBuf {
    folder.join("buffer.db")
}

pub fn plain(brokers: &str) -> String {
    format!("brokers = \"{brokers}\"\n")
}

/// TLS with the authority's certificate, and a login.
pub fn login(brokers: &str, certificates: &Certificates, login: &str) -> String {
    format!(
        "brokers = \"{brokers}\"\ntls = {{ ca = \"{}\" }}\nlogin = {{ {login} }}\n",
        certificates.ca.display()
    )
}

/// A name and the password in `$KAFKA_PASSWORD`.
pub fn password(mechanism: &str) -> String {
    let user = crate::kafka::USER;
    format!(
        "mechanism = \"{mechanism}\", username = \"{user}\", password = {{ env = \"KAFKA_PASSWORD\" }}"
    )
}

/// TLS with a client's certificate.
pub fn mutual(brokers: &str, certificates: &Certificates, client: &Pair) -> String {
    format!(
        "brokers = \"{brokers}\"\ntls = {{ ca = \"{}\", certificate = \"{}\", key = \"{}\" }}\n",
        certificates.ca.display(),
        client.certificate.display(),
        client.key.display()
    )
}

/// A stream whose topic, of the same name, the agent makes.
pub fn stream(name: &str, partitions: u32) -> String {
    format!(
        "
[[stream]]
name = \"{name}\"
create = {{ partitions = {partitions}, replication = 1 }}
"
    )
}

/// A stream whose topic must be there.
pub fn stream_without_create(name: &str) -> String {
    format!("\n[[stream]]\nname = \"{name}\"\n")
}

/// JSON messages below `plant/<line>/<device>/`; `more` is what else the source says.
pub fn mqtt(name: &str, address: &str, stream: &str, more: &str) -> String {
    format!(
        "
[[source]]
type = \"mqtt\"
name = \"{name}\"
address = \"{address}\"
stream = \"{stream}\"
{more}

[[source.subscription]]
topic = \"plant/{{line}}/{{device}}/temp\"
"
    )
}

/// So many units, each with so many registers, read ten times a second.
pub fn modbus(name: &str, address: &str, stream: &str, units: u8, registers: u16) -> String {
    let mut text = format!(
        "
[[source]]
type = \"modbus\"
name = \"{name}\"
address = \"{address}\"
stream = \"{stream}\"
"
    );
    for unit in 1..=units {
        write!(
            text,
            "
[[source.device]]
name = \"unit{unit}\"
unit = {unit}

[[source.device.group]]
interval = \"100 ms\"
signals = [
"
        )
        .expect("writing to a string does not fail");
        for register in 0..registers {
            writeln!(
                text,
                "  {{ name = \"r{register}\", table = \"holding\", address = {register} }},"
            )
            .expect("writing to a string does not fail");
        }
        text.push_str("]\n");
    }
    text
}

/// A group of a Modbus device.
pub fn modbus_group(interval: &str, signals: impl IntoIterator<Item = String>) -> String {
    let mut text = format!("\n[[source.device.group]]\ninterval = \"{interval}\"\nsignals = [\n");
    for signal in signals {
        writeln!(text, "  {{ {signal} }},").expect("writing to a string does not fail");
    }
    text + "]\n"
}

/// The beginning of a Modbus signal; more may follow.
pub fn modbus_signal(name: &str, table: &str, address: u16) -> String {
    format!("name = \"{name}\", table = \"{table}\", address = {address}")
}

/// The table that a [`Table`](crate::table::Table) writes.
pub fn sqlite(name: &str, path: &Path, stream: &str) -> String {
    format!(
        "
[[source]]
type = \"sqlite\"
name = \"{name}\"
path = \"{}\"
table = \"log\"
cursor = [\"id\"]
interval = \"100 ms\"
device_column = \"device\"
stream = \"{stream}\"
",
        path.display()
    )
}
