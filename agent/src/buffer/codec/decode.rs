//! Bytes → events, borrowed.

use ciborium_ll::{Decoder, Header, simple};

use super::{
    BIG_NEGATIVE, BIG_POSITIVE, DATE, DECIMAL, JSON, LOCAL, MAX_DEPTH, TIME, U64, UUID, VERSION,
    ZONED,
};
use crate::buffer::{ArrayRef, Damaged, EventRef, FieldRef, ValueRef};
use crate::event::{Decimal, Quality, Timestamp};

/// Walks the events of a batch whose first has the number `first_seq`.
pub(in crate::buffer) fn walk(
    bytes: &[u8],
    first_seq: u64,
    mut each: impl FnMut(EventRef<'_>) -> Result<(), Damaged>,
) -> Result<(), Damaged> {
    let mut bytes = Bytes(bytes);
    if bytes.array()? != 4 || bytes.unsigned()? != VERSION {
        return Err(damaged("another form"));
    }
    let mut origins = Vec::new();
    for _ in 0..bytes.array()? {
        bytes.pair()?;
        let device = bytes.text()?;
        let mut labels = Vec::new();
        for _ in 0..bytes.array()? {
            bytes.pair()?;
            labels.push((bytes.text()?, bytes.text()?));
        }
        origins.push((device, labels));
    }
    let mut names = Vec::new();
    for _ in 0..bytes.array()? {
        bytes.pair()?;
        let name = bytes.text()?;
        bytes.text_or_null()?;
        names.push(name);
    }
    let mut time = 0_i64;
    let mut fields = Vec::new();
    for index in 0..bytes.array()? {
        let (device, labels) = origins
            .get(bytes.index()?)
            .ok_or_else(|| damaged("an origin that is not in the dictionary"))?;
        time = time.wrapping_add(bytes.signed()?);
        let read_at = bytes.signed_or_null()?.map(|after| Timestamp(time.wrapping_add(after)));
        let quality = bytes.quality()?;
        fields.clear();
        for _ in 0..bytes.unsigned()? {
            let (name_index, own) = bytes.name()?;
            let name = names
                .get(name_index)
                .ok_or_else(|| damaged("a name that is not in the dictionary"))?;
            let value = bytes.value(0)?;
            let quality = if own { Some(bytes.quality()?) } else { None };
            fields.push(FieldRef { name_index, name, value, quality });
        }
        each(EventRef {
            seq: first_seq.wrapping_add(index as u64),
            device,
            time: Timestamp(time),
            read_at,
            quality,
            labels,
            fields: &fields,
        })?;
    }
    if bytes.0.is_empty() { Ok(()) } else { Err(damaged("bytes behind the last event")) }
}

/// The next element of an array that the walk over its event went through
/// before; `None` at the end.
pub(in crate::buffer) fn element<'a>(rest: &mut &'a [u8]) -> Option<ValueRef<'a>> {
    let mut bytes = Bytes(rest);
    let value = bytes.value(1).ok()?;
    *rest = bytes.0;
    Some(value)
}

fn damaged(what: &str) -> Damaged {
    Damaged(what.to_owned())
}

#[cold]
fn unexpected(header: Header) -> Damaged {
    Damaged(format!("unexpected {header:?}"))
}

/// What is not read yet.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    #[inline]
    fn head(&mut self) -> Result<Header, Damaged> {
        // The decoder stands on the stack and moves the slice on.
        Decoder::from(&mut self.0).pull().map_err(|_| damaged("no head of an item"))
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) =
            self.0.split_at_checked(length).ok_or_else(|| damaged("it ends within an item"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array(&mut self) -> Result<usize, Damaged> {
        match self.head()? {
            // Each element is a byte at least: a count that cannot be is found
            // before anything is done for it.
            Header::Array(Some(count)) if count <= self.0.len() => Ok(count),
            other => Err(unexpected(other)),
        }
    }

    fn pair(&mut self) -> Result<(), Damaged> {
        if self.array()? == 2 { Ok(()) } else { Err(damaged("not a pair")) }
    }

    fn str(&mut self, length: usize) -> Result<&'a str, Damaged> {
        str::from_utf8(self.take(length)?).map_err(|_| damaged("text that is not UTF-8"))
    }

    fn text(&mut self) -> Result<&'a str, Damaged> {
        match self.head()? {
            Header::Text(Some(length)) => self.str(length),
            other => Err(unexpected(other)),
        }
    }

    fn text_or_null(&mut self) -> Result<Option<&'a str>, Damaged> {
        match self.head()? {
            Header::Text(Some(length)) => self.str(length).map(Some),
            Header::Simple(simple::NULL) => Ok(None),
            other => Err(unexpected(other)),
        }
    }

    fn bytes(&mut self) -> Result<&'a [u8], Damaged> {
        match self.head()? {
            Header::Bytes(Some(length)) => self.take(length),
            other => Err(unexpected(other)),
        }
    }

    fn unsigned(&mut self) -> Result<u64, Damaged> {
        match self.head()? {
            Header::Positive(number) => Ok(number),
            other => Err(unexpected(other)),
        }
    }

    fn index(&mut self) -> Result<usize, Damaged> {
        usize::try_from(self.unsigned()?).map_err(|_| damaged("an index beyond memory"))
    }

    fn signed(&mut self) -> Result<i64, Damaged> {
        signed(self.head()?)
    }

    fn signed_or_null(&mut self) -> Result<Option<i64>, Damaged> {
        match self.head()? {
            Header::Simple(simple::NULL) => Ok(None),
            other => signed(other).map(Some),
        }
    }

    fn quality(&mut self) -> Result<Quality, Damaged> {
        u8::try_from(self.unsigned()?)
            .ok()
            .and_then(Quality::from_u8)
            .ok_or_else(|| damaged("an unknown quality"))
    }

    /// Index of a name, and whether the field has a quality of its own.
    fn name(&mut self) -> Result<(usize, bool), Damaged> {
        let (index, own) = match self.head()? {
            Header::Positive(index) => (index, false),
            Header::Negative(index) => (index, true),
            other => return Err(unexpected(other)),
        };
        Ok((usize::try_from(index).map_err(|_| damaged("an index beyond memory"))?, own))
    }

    #[inline]
    fn value(&mut self, depth: usize) -> Result<ValueRef<'a>, Damaged> {
        Ok(match self.head()? {
            Header::Simple(simple::NULL) => ValueRef::Null,
            Header::Simple(simple::FALSE) => ValueRef::Bool(false),
            Header::Simple(simple::TRUE) => ValueRef::Bool(true),
            Header::Float(number) => ValueRef::F64(number),
            number @ (Header::Positive(_) | Header::Negative(_)) => ValueRef::I64(signed(number)?),
            Header::Text(Some(length)) => ValueRef::Text(self.str(length)?),
            Header::Bytes(Some(length)) => ValueRef::Bytes(self.take(length)?),
            Header::Tag(tag) => self.tagged(tag)?,
            Header::Array(Some(len)) if depth < MAX_DEPTH && len <= self.0.len() => {
                let all = self.0;
                for _ in 0..len {
                    self.value(depth + 1)?;
                }
                let used = all.len() - self.0.len();
                ValueRef::Array(ArrayRef { bytes: all.get(..used).unwrap_or_default(), len })
            }
            other => return Err(unexpected(other)),
        })
    }

    fn tagged(&mut self, tag: u64) -> Result<ValueRef<'a>, Damaged> {
        Ok(match tag {
            U64 => ValueRef::U64(self.unsigned()?),
            ZONED | LOCAL => {
                ValueRef::Timestamp { time: Timestamp(self.signed()?), zoned: tag == ZONED }
            }
            DATE => ValueRef::Date(
                i32::try_from(self.signed()?).map_err(|_| damaged("a date beyond 32 bits"))?,
            ),
            TIME => ValueRef::Time(self.unsigned()?),
            UUID => ValueRef::Uuid(
                self.bytes()?.try_into().map_err(|_| damaged("a UUID of another length"))?,
            ),
            JSON => ValueRef::Json(
                str::from_utf8(self.bytes()?).map_err(|_| damaged("JSON that is not UTF-8"))?,
            ),
            DECIMAL => ValueRef::Decimal(self.decimal()?),
            other => return Err(unexpected(Header::Tag(other))),
        })
    }

    fn decimal(&mut self) -> Result<Decimal, Damaged> {
        self.pair()?;
        let scale = self
            .signed()?
            .checked_neg()
            .and_then(|scale| u8::try_from(scale).ok())
            .ok_or_else(|| damaged("a decimal's scale beyond 8 bits"))?;
        let unscaled = match self.head()? {
            Header::Tag(tag @ (BIG_POSITIVE | BIG_NEGATIVE)) => {
                let bytes = <[u8; 16]>::try_from(self.bytes()?)
                    .map_err(|_| damaged("a decimal of another length"))?;
                let magnitude = i128::from_be_bytes(bytes);
                if tag == BIG_NEGATIVE { !magnitude } else { magnitude }
            }
            other => i128::from(signed(other)?),
        };
        Ok(Decimal { unscaled, scale })
    }
}

fn signed(header: Header) -> Result<i64, Damaged> {
    let beyond = |_| damaged("an integer beyond 64 bits");
    match header {
        Header::Positive(number) => i64::try_from(number).map_err(beyond),
        Header::Negative(number) => i64::try_from(number).map(|n| !n).map_err(beyond),
        other => Err(unexpected(other)),
    }
}
