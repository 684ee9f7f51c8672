//! Bytes as text that a person writes and reads: `\r`, `\n`, `\t`, `\0`, `\\`, and
//! `\x02` for a byte of any value; everything else stands for itself in UTF-8.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

/// Bytes that are written so in the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Escaped(Vec<u8>);

impl Escaped {
    pub fn get(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Escaped {
    /// The bytes of the text as they are, without escapes.
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl TryFrom<String> for Escaped {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.chars();
        while let Some(character) = rest.next() {
            if character != '\\' {
                let mut utf8 = [0; 4];
                bytes.extend_from_slice(character.encode_utf8(&mut utf8).as_bytes());
                continue;
            }
            bytes.push(escape(&mut rest).ok_or_else(|| {
                format!(
                    "`{text}` has a `\\` that begins no escape: \\r, \\n, \\t, \\0, \\\\ or two hex \
                     digits, as in \\x02"
                )
            })?);
        }
        Ok(Self(bytes))
    }
}

/// The byte that stands behind a `\`.
fn escape(rest: &mut std::str::Chars<'_>) -> Option<u8> {
    Some(match rest.next()? {
        'r' => b'\r',
        'n' => b'\n',
        't' => b'\t',
        '0' => 0,
        '\\' => b'\\',
        'x' => {
            let (high, low) = (rest.next()?.to_digit(16)?, rest.next()?.to_digit(16)?);
            u8::try_from(high << 4 | low).ok()?
        }
        _ => return None,
    })
}

impl From<Escaped> for String {
    fn from(escaped: Escaped) -> Self {
        print(&escaped.0)
    }
}

impl fmt::Display for Escaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print(&self.0))
    }
}

/// The bytes as they would be written: a line that no terminal takes for more.
pub fn print(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\r' => text.push_str("\\r"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                '\\' => text.push_str("\\\\"),
                ' '..='~' => text.push(character),
                other if other.is_alphanumeric() || "°µΩ€".contains(other) => text.push(other),
                other => {
                    let mut utf8 = [0; 4];
                    push_hex(&mut text, other.encode_utf8(&mut utf8).as_bytes());
                }
            }
        }
        push_hex(&mut text, chunk.invalid());
    }
    text
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(text, "\\x{byte:02x}").expect("writing to a string does not fail");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(text: &str) -> Result<Vec<u8>, String> {
        Escaped::try_from(text.to_owned()).map(|escaped| escaped.0)
    }

    #[test]
    fn escapes_are_bytes_and_all_else_is_itself() {
        assert_eq!(bytes(r"\x02S\r\n\0\\\t°").unwrap(), "\x02S\r\n\0\\\t°".as_bytes());
        assert_eq!(bytes(r"\xff\xC3").unwrap(), [0xFF, 0xC3]);
        // As a TOML string with escapes of its own hands them over.
        assert_eq!(bytes("S\r\n").unwrap(), b"S\r\n");
        for wrong in ["\\", "\\q", "\\x1", "\\xg0"] {
            let told = bytes(wrong).unwrap_err();
            assert!(told.contains("begins no escape"), "{told}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_back_from_what_is_printed_of_them(given: Vec<u8>) {
            let text = print(&given);
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert_eq!(bytes(&text).unwrap(), given);
        }
    }
}
