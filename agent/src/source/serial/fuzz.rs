//! What comes over a line under any bytes (`crate::fuzz`).

use super::checksum;
use super::config::Config;
use super::split::{Piece, Splitter};
use crate::decode::payload::Parser;
use crate::fuzz::check;

/// A source with these keys.
fn config(keys: &str) -> Config {
    let text = format!("name = 'line'\nstream = 'plant'\naddress = '/dev/ttyS1'\n{keys}");
    let file = ::config::File::from_str(&text, ::config::FileFormat::Toml);
    let loaded = ::config::Config::builder().add_source(file).build().unwrap();
    let config: Config = loaded.try_deserialize().unwrap();
    assert_eq!(config.check(), []);
    config
}

const WAYS: [&str; 7] = [
    "split = { by = 'delimiter', end = '\\n', max_frame = '64 B' }\nparse = { as = 'json' }",
    "split = { by = 'delimiter', start = '$', end = '\\r\\n' }\nparse = { as = 'nmea' }",
    "split = { by = 'delimiter', start = '\\x02', end = '\\x03', tail = 1 }\nparse = { as = 'scalar' }",
    "split = { by = 'length', bytes = 3 }\nparse = { as = 'raw', encoding = 'hex' }",
    "split = { by = 'length', bytes = 5, start = 'ab' }\nchecksum = { kind = 'xor8', from = 1 }",
    "split = { by = 'length_field', at = 1, start = 'a', add = 0, max_frame = '64 B' }",
    "split = { by = 'silence', silence = '20 ms', max_frame = '64 B' }",
];

#[test]
fn lines() {
    let ways = WAYS.map(config);
    check("serial-lines", |bytes| {
        for way in &ways {
            let mut parser = Parser::new(&way.parse);
            let mut splitter = Splitter::new(way.split.clone(), way.checksum.clone());
            let mut take = |piece: Piece| {
                if let Piece::Frame(frame) = piece {
                    drop(parser.parse(frame.body(), &mut Vec::new()));
                }
            };
            for piece in bytes.chunks(5) {
                splitter.push(piece);
                while let Some(piece) = splitter.next() {
                    take(piece);
                }
            }
            splitter.paused().into_iter().chain(splitter.broke_off()).for_each(take);
        }
    });
}

#[test]
fn checksums() {
    let kinds = ["sum8", "xor8", "crc16_modbus", "crc16_arc", "crc16_xmodem", "crc16_ccitt_false"];
    let all = kinds.into_iter().flat_map(|kind| {
        ["binary", "hex"].map(|written| {
            let keys = serde_json::json!({"kind": kind, "written": written, "from": 1, "gap": 1});
            serde_json::from_value::<checksum::Config>(keys).unwrap()
        })
    });
    let all: Vec<checksum::Config> = all.collect();
    check("serial-checksums", |bytes| {
        for config in &all {
            config.is_right(bytes);
        }
    });
}
