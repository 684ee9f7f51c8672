//! A source's part of the configuration, kept small while it is not wanted. As it was read
//! it takes two kilobytes a signal; it is needed again where the source is made, and where a
//! damaged file makes all of them anew.

use std::sync::Arc;

use crate::source::Config;

/// zstd's quickest: lines of signals are much alike.
const LEVEL: i32 = 1;

#[derive(Debug, Clone)]
pub(super) struct Packed(Arc<Kept>);

#[derive(Debug)]
enum Kept {
    /// As JSON of this length, compressed.
    Small { bytes: Box<[u8]>, length: usize },
    /// What would not come out as it went in: a number whose last bit its digits lose.
    Whole(Box<Config>),
}

impl Packed {
    pub(super) fn new(config: Config) -> Self {
        Self(Arc::new(small(&config).unwrap_or_else(|| Kept::Whole(Box::new(config)))))
    }

    pub(super) fn config(&self) -> Config {
        match &*self.0 {
            Kept::Small { bytes, length } => {
                unpack(bytes, *length).expect("it was unpacked when it was packed")
            }
            Kept::Whole(config) => Config::clone(config),
        }
    }
}

fn small(config: &Config) -> Option<Kept> {
    let text = serde_json::to_vec(config).ok()?;
    let bytes = zstd::bulk::compress(&text, LEVEL).ok()?.into_boxed_slice();
    let again = unpack(&bytes, text.len())?;
    let same = serde_json::to_vec(&again).is_ok_and(|again| again == text);
    same.then_some(Kept::Small { bytes, length: text.len() })
}

/// By the same way as from the file: another deserialiser would be as much code again.
fn unpack(bytes: &[u8], length: usize) -> Option<Config> {
    let text = zstd::bulk::decompress(bytes, length).ok()?;
    let value: ::config::Value = serde_json::from_slice(&text).ok()?;
    value.try_deserialize().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config;

    /// The sources of all examples.
    fn examples() -> Vec<Config> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let of_file = |file: std::path::PathBuf| {
            let text = std::fs::read_to_string(&file).unwrap();
            config::load_str(&text, "gateway.toml", std::iter::empty()).unwrap().config.sources
        };
        files.flat_map(of_file).collect()
    }

    #[test]
    fn each_example_comes_out_as_it_went_in_and_smaller() {
        let examples = examples();
        assert!(examples.len() > 5);
        for config in examples {
            let text = serde_json::to_string(&config).unwrap();
            let packed = Packed::new(config);
            let Kept::Small { bytes, .. } = &*packed.0 else { panic!("kept whole: {text}") };
            assert!(bytes.len() < text.len());
            assert_eq!(serde_json::to_string(&packed.config()).unwrap(), text);
        }
    }

    proptest! {
        #[test]
        fn any_number_comes_out_to_its_last_bit(offset in any::<f64>().prop_filter("checked", |it| it.is_finite())) {
            let modbus = examples().into_iter().find_map(|config| match config {
                Config::Modbus(modbus) => Some(modbus),
                _ => None,
            });
            let mut config = modbus.unwrap();
            config.devices[0].groups[0].signals[0].offset = Some(offset);
            let Config::Modbus(again) = Packed::new(Config::Modbus(config)).config() else {
                panic!("another source")
            };
            let again = again.devices[0].groups[0].signals[0].offset.unwrap();
            prop_assert_eq!(again.to_bits(), offset.to_bits());
        }
    }
}
