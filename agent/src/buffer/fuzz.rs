//! What stands in the file, and what Kafka gives back, under any bytes (`crate::fuzz`).

use super::Position;
use super::codec::{extract, walk};
use crate::fuzz::{check, text};

#[test]
fn batches() {
    check("batches", |bytes| {
        drop(walk(bytes, 1, |event| {
            assert!(event.fields.iter().all(|field| !format!("{field:?}").is_empty()));
            Ok(())
        }));
        drop(extract(bytes, 0));
        drop(extract(bytes, 1));
    });
}

#[test]
fn positions() {
    check("positions", |bytes| {
        if let Ok(position) = Position::parse(&text(bytes)) {
            // What does not fit is left out, and then it stays as it is.
            let short = Position::parse(&position.encode()).unwrap();
            assert_eq!(Position::parse(&short.encode()).unwrap(), short);
        }
    });
}
