//! Bytes → events, borrowed.

mod extract;

use ciborium_ll::{Header, simple};

use super::{
    BIG_NEGATIVE, BIG_POSITIVE, DATE, DECIMAL, FORMS, JSON, LOCAL, MAX_DEPTH, POWERS, SHORT, TIME,
    U64, UUID, ZONED,
};
use crate::buffer::{ArrayRef, Damaged, EventRef, FieldRef, ValueRef};
use crate::event::{Decimal, Quality, Timestamp};

pub(in crate::buffer) use extract::extract;

/// Walks the events of a batch whose first has the number `first_seq`.
pub(in crate::buffer) fn walk(
    bytes: &[u8],
    first_seq: u64,
    mut each: impl FnMut(EventRef<'_>) -> Result<(), Damaged>,
) -> Result<(), Damaged> {
    let mut bytes = Bytes(bytes);
    if bytes.array()? != 4 || !FORMS.contains(&bytes.unsigned()?) {
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

#[cold]
fn ends() -> Damaged {
    damaged("it ends within an item")
}

#[cold]
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
    /// By hand: through `ciborium-ll`'s decoder and `std::io::Read` a walk over
    /// 1,000 events took several times as long.
    #[inline]
    fn head(&mut self) -> Result<Header, Damaged> {
        let first = self.byte()?;
        let argument = match first & 31 {
            small @ 0..24 => u64::from(small),
            24 => u64::from(self.byte()?),
            25 => u64::from(u16::from_be_bytes(self.fixed()?)),
            26 => u64::from(u32::from_be_bytes(self.fixed()?)),
            27 => u64::from_be_bytes(self.fixed()?),
            _ => return Err(damaged("a head of no definite length")),
        };
        // A length that memory cannot hold is refused where it is taken.
        let length = Some(usize::try_from(argument).unwrap_or(usize::MAX));
        Ok(match (first >> 5, first & 31) {
            (0, _) => Header::Positive(argument),
            (1, _) => Header::Negative(argument),
            (2, _) => Header::Bytes(length),
            (3, _) => Header::Text(length),
            (4, _) => Header::Array(length),
            (5, _) => Header::Map(length),
            (6, _) => Header::Tag(argument),
            (_, 27) => Header::Float(f64::from_bits(argument)),
            (_, 26) => {
                let bits = u32::try_from(argument).unwrap_or_default();
                Header::Float(f64::from(f32::from_bits(bits)))
            }
            (_, 25) => return Err(damaged("a float of 16 bits, which is never written")),
            (_, _) => Header::Simple(u8::try_from(argument).unwrap_or_default()),
        })
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Damaged> {
        let (first, rest) = self.0.split_first().ok_or_else(ends)?;
        self.0 = rest;
        Ok(*first)
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or_else(ends)?;
        self.0 = rest;
        Ok(*bytes)
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(ends)?;
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
            SHORT..32 => ValueRef::F64(self.short(tag)?),
            other => return Err(unexpected(Header::Tag(other))),
        })
    }

    fn short(&mut self, tag: u64) -> Result<f64, Damaged> {
        let power = usize::try_from(tag - SHORT).ok().and_then(|place| POWERS.get(place));
        let power = power.ok_or_else(|| unexpected(Header::Tag(tag)))?;
        #[expect(clippy::cast_precision_loss, reason = "what is written has 32 bits")]
        let digits = self.signed()? as f64;
        Ok(digits / power)
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
