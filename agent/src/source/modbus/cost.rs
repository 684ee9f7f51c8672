//! What a request costs its line: the time until the next one can be sent.
//!
//! The plan weighs holes by it, and `tidegate plan` shows it. Bytes and pauses are
//! known; how long a device thinks is `latency`, which a person can have measured.

use std::time::Duration;

use super::config::{Config, Framing, Table};
use super::frame::Query;
use super::line::Timing;

/// A device on a serial line answers after 2 to 50 ms, most in a fifth of that.
const LATENCY_OF_LINE: Duration = Duration::from_millis(10);

/// What a PLC takes for an answer over its own network port, with the way to it.
const LATENCY_OF_HOST: Duration = Duration::from_millis(2);

/// A network of 10 Mbit/s, as many devices still have. So little that only the
/// number of requests counts, and among plans of as many the one that reads less.
const BYTE_OF_NETWORK: Duration = Duration::from_micros(1);

/// Estimated time of the requests to one device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    framing: Framing,
    /// Before each request.
    silence: Duration,
    /// One byte on the line.
    byte: Duration,
    /// From the last byte of a request to the first of its answer.
    latency: Duration,
    /// Bytes of a request.
    request: usize,
}

impl Cost {
    /// For a device of this source that answers after `latency`; what is usual
    /// without it.
    pub(super) fn new(config: &Config, latency: Option<Duration>) -> Self {
        let framing = config.framing();
        let (silence, byte, usual) = if framing.is_ambiguous() || is_gateway(config) {
            // The line behind a device server or a gateway is taken for one as the
            // specification has it: nobody says how it is set.
            let serial = config.serial.unwrap_or_default();
            let timing =
                Timing::serial(serial.baud, serial.setting(framing).bits(), Duration::ZERO);
            (timing.silence(), timing.of_bytes(1), LATENCY_OF_LINE)
        } else {
            (Duration::ZERO, BYTE_OF_NETWORK, LATENCY_OF_HOST)
        };
        let request = framing.request(query(Table::Holding, 1), 0).len();
        Self { framing, silence, byte, latency: latency.unwrap_or(usual), request }
    }

    /// How long it is from one request of `count` registers or bits to the next.
    pub(super) fn of(&self, table: Table, count: u16) -> Duration {
        self.silence + self.of_bytes(table, count) + self.latency
    }

    /// How long the device has thought, where an exchange took `measured`.
    pub(super) fn latency_in(&self, table: Table, count: u16, measured: Duration) -> Duration {
        measured.saturating_sub(self.silence + self.of_bytes(table, count))
    }

    pub(super) const fn latency(&self) -> Duration {
        self.latency
    }

    fn of_bytes(&self, table: Table, count: u16) -> Duration {
        let bytes = self.request + self.framing.answer_length(query(table, count));
        self.byte.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX))
    }
}

/// There is a line behind the connection. A device with its own port is alone on it,
/// and answers to 0 or 255 (Modbus Messaging on TCP/IP 1.0b, 4.4.2), or 1.
fn is_gateway(config: &Config) -> bool {
    let own = |unit| matches!(unit, 0 | 1 | 255);
    config.devices.len() > 1 || config.devices.iter().any(|device| !own(device.unit))
}

const fn query(table: Table, count: u16) -> Query {
    Query { unit: 1, function: table.function(), address: 0, count }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn cost(way: &str) -> Cost {
        let devices = if way.contains("device") { "" } else { "device = []" };
        let text = format!("name = \"bus\"\nstream = \"plant\"\n{way}\n{devices}\n");
        let file = ::config::File::from_str(&text, ::config::FileFormat::Toml);
        let built = ::config::Config::builder().add_source(file).build().unwrap();
        Cost::new(&built.try_deserialize().unwrap(), None)
    }

    #[test]
    fn a_read_on_a_serial_line_takes_what_its_bytes_pauses_and_the_device_take() {
        let line = "address = \"/dev/ttyS1\"\nserial = { baud = 9600 }";
        // 8 bytes there, 5 and 2 for each register back, of 11 bits; t3.5 before.
        let bits = 11 * (8 + 5 + 2 * 10) * 2 + 11 * 7;
        let expected = Duration::from_secs(bits) / (2 * 9_600) + LATENCY_OF_LINE;
        let off = cost(line).of(Table::Holding, 10).abs_diff(expected);
        assert!(off < Duration::from_micros(1), "{off:?}");
    }

    #[test]
    fn one_more_request_at_9600_baud_is_worth_a_dozen_registers_and_over_tcp_all() {
        let worth = |cost: Cost| {
            let two = cost.of(Table::Input, 1) * 2;
            (1..124).take_while(|hole| cost.of(Table::Input, 2 + hole) < two).count()
        };
        let line = "address = \"/dev/ttyS1\"\nserial = { baud = 9600 }";
        assert_eq!(worth(cost(line)), 12);
        assert_eq!(worth(cost("address = \"10.0.0.5\"")), 123);
    }

    #[test]
    fn behind_a_gateway_there_is_a_line() {
        let units = |units: &[u8]| {
            let device = |unit: &u8| format!("{{ name = \"{unit}\", unit = {unit}, group = [] }}");
            let devices: Vec<String> = units.iter().map(device).collect();
            cost(&format!("address = \"10.0.0.5\"\ndevice = [{}]", devices.join(", ")))
        };
        let of = |cost: Cost| cost.of(Table::Holding, 125);
        for own in [0, 1, 255] {
            assert_eq!(of(units(&[own])), of(cost("address = \"10.0.0.5\"")));
        }
        let line = of(units(&[7]));
        assert!(line > Duration::from_millis(125 * 2 * 11) / 20, "{line:?}");
        assert_eq!(of(units(&[1, 2])), line);
    }

    #[test]
    fn bits_are_packed_and_ascii_takes_two_characters_for_a_byte() {
        let line = "address = \"/dev/ttyS1\"\nserial = { baud = 9600 }\nframing = ";
        let (rtu, ascii) = (cost(&format!("{line}\"rtu\"")), cost(&format!("{line}\"ascii\"")));
        assert_eq!(rtu.of(Table::Coil, 16), rtu.of(Table::Input, 1));
        assert_eq!(ascii.of(Table::Input, 2), ascii.of(Table::Input, 1) + ascii.byte * 4);
    }

    #[test]
    fn what_an_exchange_took_beyond_its_bytes_is_the_device() {
        let cost = cost("address = \"10.0.0.5\"");
        let measured = cost.of(Table::Input, 7) + Duration::from_millis(40);
        let latency = cost.latency_in(Table::Input, 7, measured);
        assert_eq!(latency, LATENCY_OF_HOST + Duration::from_millis(40));
        assert_eq!(cost.latency_in(Table::Input, 7, Duration::ZERO), Duration::ZERO);
    }
}
