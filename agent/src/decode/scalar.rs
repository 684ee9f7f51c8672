//! A payload that is one plain value: `21.5`, `true`, `open`.

use crate::event::Value;

/// A number where it reads as one, `true` or `false`, else the text as it
/// came; surrounding blanks do not count.
pub fn decode(payload: &[u8]) -> Result<Value, NotText> {
    let text = std::str::from_utf8(payload).map_err(|_| NotText)?.trim();
    Ok(match text {
        "" | "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "NaN" | "nan" => Value::F64(f64::NAN),
        _ => super::number::parse(text).unwrap_or_else(|| Value::Text(text.into())),
    })
}

/// The bytes are no UTF-8.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("payload is not UTF-8 text")]
pub struct NotText;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_value_is_what_it_reads_as() {
        assert_eq!(decode(b" 21.50\n"), Ok(Value::F64(21.5)));
        assert_eq!(decode(b"+5"), Ok(Value::I64(5)));
        assert_eq!(decode(b"true"), Ok(Value::Bool(true)));
        assert_eq!(decode(b"open"), Ok(Value::Text("open".into())));
        assert_eq!(decode(b""), Ok(Value::Null));
        assert_eq!(decode(b"\xff"), Err(NotText));
    }
}
