//! A request on the socket, and an answer, of any bytes (`crate::fuzz`).

use super::{Request, words};
use crate::fuzz::check;

#[test]
fn words() {
    check("control-words", |bytes| {
        drop(serde_json::from_slice::<Request>(bytes));
        drop(serde_json::from_slice::<words::Answer>(bytes));
    });
}
