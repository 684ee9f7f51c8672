//! The maps: files of registers, and the text that makes either program read them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tidegate::source::Config;
use tidegate::source::modbus::Outline;

use super::bus::BAUD;

/// In the order of the table.
const MAPS: [&str; 3] = ["sunspec-103", "sdm630", "sun2000"];

/// A file of `benches/maps`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Map {
    name: String,
    /// `holding` or `input`.
    table: String,
    /// Most that the device takes in one request.
    max_registers: u16,
    registers: Vec<Register>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Register {
    pub(crate) address: u16,
    /// As Tidegate names it.
    r#type: String,
    name: String,
    /// One of the few that an overview shows.
    #[serde(default)]
    few: bool,
}

impl Register {
    /// Registers that it takes.
    fn width(&self) -> u16 {
        if self.r#type.ends_with("32") { 2 } else { 1 }
    }

    /// As Telegraf names its type.
    fn telegraf_type(&self) -> &'static str {
        match self.r#type.as_str() {
            "u16" => "UINT16",
            "i16" => "INT16",
            "u32" => "UINT32",
            "i32" => "INT32",
            _ => "FLOAT32",
        }
    }
}

/// What is read of a map.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    map: Map,
    is_few: bool,
    pub(crate) registers: Vec<Register>,
}

/// How the device is reached.
#[derive(Debug)]
pub(crate) enum Way {
    Tcp,
    /// The path of a port.
    Line(String),
}

impl Case {
    /// Each map whole, and the few values of it that lie apart.
    pub(crate) fn all() -> Vec<Self> {
        let both = MAPS.iter().flat_map(|file| {
            let map = load(file);
            let few = map.registers.iter().filter(|register| register.few).cloned().collect();
            let whole = map.registers.clone();
            [
                Self { map: map.clone(), is_few: false, registers: whole },
                Self { map, is_few: true, registers: few },
            ]
        });
        both.collect()
    }

    pub(crate) fn title(&self) -> String {
        let which = if self.is_few { "few" } else { "all" };
        format!("{}, {which}", self.map.name)
    }

    /// The numbers of unused registers between two values, each once.
    pub(crate) fn holes(&self) -> Vec<u16> {
        let pairs = self.registers.iter().zip(self.registers.iter().skip(1));
        let holes = pairs.map(|(one, next)| next.address - one.address - one.width());
        let mut holes: Vec<u16> = holes.filter(|hole| *hole > 0).collect();
        holes.sort_unstable();
        holes.dedup();
        holes
    }

    /// What Tidegate makes of it.
    pub(crate) fn outline(&self, way: &Way) -> Outline {
        let head = "[gateway]\nid = \"maps\"\n[kafka]\nbrokers = \"localhost:9092\"\n";
        let text = format!("{head}{}", self.source(way));
        let loaded = tidegate::config::load_str(&text, "gateway.toml", std::iter::empty());
        let config = loaded.expect("the maps are right").config;
        let Some(Config::Modbus(source)) = config.sources.first() else {
            unreachable!("the one source reads Modbus")
        };
        Outline::new(source)
    }

    /// `[[source]]` of Tidegate, read every two seconds.
    pub(crate) fn source(&self, way: &Way) -> String {
        let way = match way {
            Way::Tcp => "address = \"10.0.0.5:502\"".to_owned(),
            Way::Line(path) => format!("address = \"{path}\"\nserial = {{ baud = {BAUD} }}"),
        };
        let mut text = format!(
            "[[source]]\ntype = \"modbus\"\nname = \"line\"\n{way}\nstream = \"maps\"\n\
             [[source.device]]\nname = \"device\"\nmax_registers = {}\n\
             [[source.device.group]]\ninterval = \"2 s\"\nsignals = [\n",
            self.map.max_registers
        );
        for Register { address, r#type, name, .. } in &self.registers {
            let table = &self.map.table;
            writeln!(
                text,
                "  {{ name = \"{name}\", table = \"{table}\", address = {address}, type = \"{type}\" }},"
            )
            .expect("a string takes text");
        }
        text + "]\n"
    }

    /// `[[inputs.modbus]]` of Telegraf, for a line; `optimization` is what its request says
    /// of that.
    pub(crate) fn telegraf(&self, path: &str, optimization: &str) -> String {
        let mut text = format!(
            "[agent]\nomit_hostname = true\n[[inputs.modbus]]\nname = \"line\"\ntimeout = \"1s\"\n\
             controller = \"file://{path}\"\nbaud_rate = {BAUD}\ndata_bits = 8\nparity = \"E\"\n\
             stop_bits = 1\ntransmission_mode = \"RTU\"\nconfiguration_type = \"request\"\n\
             [inputs.modbus.workarounds]\nmax_word_registers_per_request = {}\n\
             [[inputs.modbus.request]]\nslave_id = 1\nbyte_order = \"ABCD\"\nregister = \"{}\"\n\
             {optimization}\nfields = [\n",
            self.map.max_registers, self.map.table
        );
        for register in &self.registers {
            let (kind, Register { address, name, .. }) = (register.telegraf_type(), register);
            writeln!(text, "  {{ name = \"{name}\", address = {address}, type = \"{kind}\" }},")
                .expect("a string takes text");
        }
        text + "]\n"
    }
}

/// Where the maps lie.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("maps")
}

fn load(name: &str) -> Map {
    let file = config::File::from(folder().join(format!("{name}.toml")));
    let built = config::Config::builder().add_source(file).build();
    let map = built.and_then(config::Config::try_deserialize::<Map>);
    map.expect("the maps are right")
}
