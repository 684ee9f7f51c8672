//! What an identity provider and Kafka give, under any bytes (`crate::fuzz`).

use super::tails::Seen;
use super::token::claims;
use crate::fuzz::{check, text};

#[test]
fn ids() {
    check("record-ids", |bytes| {
        let mut seen = Seen::default();
        text(bytes).lines().for_each(|id| seen.note(id));
    });
}

#[test]
fn tokens() {
    check("tokens", |bytes| drop(claims(&text(bytes))));
}
