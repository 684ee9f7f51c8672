//! The cursor: how far a table has been read, as a tuple of typed values that
//! only the database compares.
//!
//! It is saved in the commit that holds the rows it covers. A hash of the
//! definition (table or query, cursor columns) travels with it, because a
//! place in one query means nothing in another.

use std::fmt;

use ciborium::Value as Cbor;

/// One value of the tuple, as the database gave it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Key {
    I64(i64),
    F64(f64),
    /// As stored: a database may hold text that is not UTF-8, and it must be
    /// compared as text all the same.
    Text(Vec<u8>),
    Bytes(Vec<u8>),
}

/// Where reading goes on.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Place {
    /// At the first row.
    Start,
    /// Behind the last row that stands there when it is looked at first.
    End,
    /// Behind this tuple.
    After(Vec<Key>),
}

/// Why a saved cursor cannot be used. In both cases reading on would skip or
/// repeat rows without a word, so that the source stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error(
        "the table, query or cursor columns have changed since the last row was read: change them \
         back, or give the source a new name to begin by `from`"
    )]
    OtherDefinition,
    #[error("the saved cursor cannot be read: give the source a new name to begin by `from`")]
    Damaged,
    #[error(
        "the buffer was damaged and how far this source was read is lost with it: give the source \
         a new name to begin by `from`"
    )]
    Lost,
}

/// Marks text that is not UTF-8; CBOR's own text must be. From the range that
/// is free for private use.
const RAW_TEXT: u64 = 80_001;

/// What is written first, so that a later form can be told from this one.
const VERSION: i64 = 1;

/// A hash of what a cursor belongs to.
pub(super) fn definition<'a>(parts: impl IntoIterator<Item = &'a str>) -> u64 {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(part.as_bytes());
        bytes.push(0);
    }
    twox_hash::XxHash3_64::oneshot(&bytes)
}

impl Place {
    /// With the database that it was read from, where that is known.
    pub(super) fn save(&self, definition: u64, database: Option<u64>) -> Vec<u8> {
        let after = match self {
            Self::Start => Cbor::Null,
            Self::End => Cbor::Bool(true),
            Self::After(keys) => Cbor::Array(keys.iter().map(Key::to_cbor).collect()),
        };
        let mut parts = vec![VERSION.into(), definition.into(), after];
        parts.extend(database.map(Cbor::from));
        let whole = Cbor::Array(parts);
        let mut bytes = Vec::new();
        ciborium::into_writer(&whole, &mut bytes).expect("writing to memory does not fail");
        bytes
    }

    /// The place and the database that it was read from.
    pub(super) fn load(bytes: &[u8], definition: u64) -> Result<(Self, Option<u64>), Unusable> {
        let whole: Cbor = ciborium::from_reader(bytes).map_err(|_| Unusable::Damaged)?;
        let Cbor::Array(parts) = whole else { return Err(Unusable::Damaged) };
        let [Cbor::Integer(version), Cbor::Integer(of), after, database @ ..] = parts.as_slice()
        else {
            return Err(Unusable::Damaged);
        };
        let database = match database {
            [] => None,
            [Cbor::Integer(mark)] => Some(u64::try_from(*mark).map_err(|_| Unusable::Damaged)?),
            _ => return Err(Unusable::Damaged),
        };
        if i128::from(*version) != i128::from(VERSION) {
            return Err(Unusable::Damaged);
        }
        if i128::from(*of) != i128::from(definition) {
            return Err(Unusable::OtherDefinition);
        }
        let place = match after {
            Cbor::Null => Self::Start,
            Cbor::Bool(true) => Self::End,
            Cbor::Array(keys) => {
                let keys: Option<_> = keys.iter().map(Key::from_cbor).collect();
                keys.map(Self::After).ok_or(Unusable::Damaged)?
            }
            _ => return Err(Unusable::Damaged),
        };
        Ok((place, database))
    }
}

impl Key {
    fn to_cbor(&self) -> Cbor {
        match self {
            Self::I64(number) => (*number).into(),
            Self::F64(number) => Cbor::Float(*number),
            Self::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Cbor::Text(text.to_owned()),
                Err(_) => Cbor::Tag(RAW_TEXT, Box::new(Cbor::Bytes(bytes.clone()))),
            },
            Self::Bytes(bytes) => Cbor::Bytes(bytes.clone()),
        }
    }

    fn from_cbor(value: &Cbor) -> Option<Self> {
        Some(match value {
            Cbor::Integer(number) => Self::I64(i64::try_from(*number).ok()?),
            Cbor::Float(number) => Self::F64(*number),
            Cbor::Text(text) => Self::Text(text.clone().into_bytes()),
            Cbor::Bytes(bytes) => Self::Bytes(bytes.clone()),
            Cbor::Tag(RAW_TEXT, inner) => Self::Text(inner.as_bytes()?.clone()),
            _ => return None,
        })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::I64(number) => write!(f, "{number}"),
            Self::F64(number) => write!(f, "{number:?}"),
            Self::Text(bytes) => write!(f, "'{}'", String::from_utf8_lossy(bytes)),
            Self::Bytes(bytes) => {
                f.write_str("x'")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str("'")
            }
        }
    }
}

/// The tuple as a person writes it: `(7, 'abc')`.
pub(super) fn tuple(keys: &[Key]) -> String {
    let keys: Vec<String> = keys.iter().map(Key::to_string).collect();
    format!("({})", keys.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_key_comes_back_as_it_was() {
        let place = Place::After(vec![
            Key::I64(i64::MIN),
            Key::F64(0.1),
            Key::F64(1.0),
            Key::Text("ä".into()),
            Key::Text(vec![0xff]),
            Key::Bytes(vec![0, 255]),
        ]);
        for place in [place, Place::Start, Place::End] {
            for database in [None, Some(u64::MAX)] {
                let saved = place.save(7, database);
                assert_eq!(Place::load(&saved, 7), Ok((place.clone(), database)));
            }
        }
    }

    #[test]
    fn a_cursor_of_another_definition_is_refused() {
        let one = definition(["table", "readings", "id"]);
        let other = definition(["table", "readings", "ts"]);
        assert_eq!(
            Place::load(&Place::Start.save(one, None), other),
            Err(Unusable::OtherDefinition)
        );
    }

    #[test]
    fn damaged_bytes_are_refused_and_never_panic() {
        let whole = Place::After(vec![Key::I64(5), Key::Text("x".into())]).save(9, Some(1));
        for end in 0..whole.len() {
            assert_eq!(Place::load(&whole[..end], 9), Err(Unusable::Damaged));
        }
        assert_eq!(Place::load(b"\xf6", 9), Err(Unusable::Damaged));
    }

    #[test]
    fn a_tuple_prints_as_a_person_writes_it() {
        let keys = [Key::I64(7), Key::F64(1.0), Key::Text("abc".into()), Key::Bytes(vec![10])];
        assert_eq!(tuple(&keys), "(7, 1.0, 'abc', x'0a')");
    }
}
