//! What commands print, made harmless for a terminal: names and payloads come from
//! whoever can reach a broker, and a control character in one could clear the screen,
//! rename the window or fake a line.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with its control characters escaped as JSON has them, so that a line of JSON
/// says the same as before.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            other if is_unsafe(other) => {
                write!(safe, "\\u{:04x}", u32::from(other))
                    .expect("writing to a string does not fail");
            }
            other => safe.push(other),
        }
    }
    Cow::Owned(safe)
}

/// Control characters, those of the eighth bit too, and those that turn the direction
/// of what stands behind them.
const fn is_unsafe(character: char) -> bool {
    matches!(
        character,
        '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_reaches_the_terminal() {
        for (raw, shown) in [
            ("\x1b]0;owned\x07\x1b[2J", "\\u001b]0;owned\\u0007\\u001b[2J"),
            ("a\nid      7\r\tb\0\x7f", "a\\nid      7\\r\\tb\\u0000\\u007f"),
            ("\u{9b}31m red", "\\u009b31m red"),
            ("gnp\u{202e}exe", "gnp\\u202eexe"),
        ] {
            assert_eq!(printable(raw), shown);
        }
    }

    #[test]
    fn what_is_harmless_stays_as_it_is() {
        for text in ["", "größer 温度 🙂", "{\"n\":\"a\\u001bb\"}", "C:\\new"] {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }
}
