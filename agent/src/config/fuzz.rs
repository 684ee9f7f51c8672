//! A configuration of any bytes (`crate::fuzz`).

use super::load::load_str;
use crate::fuzz::{check, text};

#[test]
fn configurations() {
    check("configurations", |bytes| {
        if let Err(problems) = load_str(&text(bytes), "gateway.toml", std::iter::empty()) {
            assert!(!problems.to_string().is_empty());
        }
    });
}

#[test]
fn variables() {
    check("variables", |bytes| {
        let text = text(bytes);
        let variables = text.lines().filter_map(|line| line.split_once('='));
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        if let Err(problems) = load_str("", "gateway.toml", variables) {
            assert!(!problems.to_string().is_empty());
        }
    });
}
