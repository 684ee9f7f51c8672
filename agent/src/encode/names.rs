//! Field names that a record cannot carry as they are, and what becomes of
//! them.
//!
//! One pure rule, so that the same name is the same column for ever:
//! 1. each character that `CrateDB` refuses (`.`, `[`, `]`, `"`, a control
//!    character) becomes `_`;
//! 2. a name that is then empty or begins with `_` gets an `f` in front;
//! 3. what is longer than [`LONGEST`] bytes is cut there;
//! 4. a reserved name, or one that ends in `_q` (which is a field's quality),
//!    gets a `_` behind it.
//!
//! Two names of one event may meet in one (`a.b` and `a_b`): the record then
//! numbers the later one (`a_b_2`). `check` reports labels that are renamed.

use std::borrow::Cow;

/// Members of the record that the agent itself writes.
pub const RESERVED: &[&str] =
    &["gateway", "epoch", "seq", "device", "ts", "ts_ns", "month", "quality", "read_ts", "clock"];

/// `CrateDB` takes 255 bytes; the rest is room for `_q` and a number.
pub const LONGEST: usize = 240;

/// The name that stands in the record; the same one where nothing is wrong
/// with it.
pub fn rename(name: &str) -> Cow<'_, str> {
    let refused = |c: char| matches!(c, '.' | '[' | ']' | '"') || c.is_control();
    let mut new = Cow::Borrowed(name);
    if name.contains(refused) {
        new = Cow::Owned(name.replace(refused, "_"));
    }
    if new.is_empty() || new.starts_with('_') {
        new.to_mut().insert(0, 'f');
    }
    if new.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|&at| new.is_char_boundary(at)).unwrap_or(0);
        new.to_mut().truncate(end);
    }
    if new.ends_with("_q") || RESERVED.contains(&new.as_ref()) {
        new.to_mut().push('_');
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_refused_is_renamed() {
        for (name, expected) in [
            ("temp", "temp"),
            ("Temp °C", "Temp °C"),
            ("boiler.temp", "boiler_temp"),
            ("bits[3]", "bits_3_"),
            ("_id", "f_id"),
            (".x", "f_x"),
            ("", "f"),
            ("ts", "ts_"),
            ("gateway", "gateway_"),
            ("pressure_q", "pressure_q_"),
        ] {
            assert_eq!(rename(name), expected, "{name}");
        }
    }

    #[test]
    fn a_renamed_name_is_never_renamed_again() {
        let long = "ä".repeat(300);
        for name in ["", "_", "a.b", "ts", "x_q", "[", long.as_str()] {
            let once = rename(name).into_owned();
            assert_eq!(rename(&once), once, "{name}");
            assert!(once.len() <= LONGEST + 1);
        }
    }

    #[test]
    fn a_good_name_costs_no_allocation() {
        assert!(matches!(rename("temperature"), Cow::Borrowed(_)));
    }
}
