//! The rows in a page of a b-tree, and the values in a row. Pure: any bytes
//! give rows or nothing. (Format: <https://sqlite.org/fileformat2.html>,
//! sections 1.6 and 2.1.)

use super::{PAGE, be16, be32};

/// A longer row is damaged: none is ever written, SQL cursors of all sources
/// and a batch of one event of 8 MiB together stay below it.
const MOST_LENGTH: usize = 64 * 1024 * 1024;

/// A page that holds rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Rows of a table, by rowid.
    Table,
    /// Rows of an index or of a table WITHOUT ROWID.
    Index,
    /// The same above the leaves: each row has a page below it.
    Branch,
}

/// A row, perhaps only its beginning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell<'a> {
    pub(super) rowid: i64,
    /// Page of a branch that holds the rows before this one.
    pub(super) below: u32,
    /// Bytes of the whole row.
    pub(super) length: usize,
    pub(super) local: &'a [u8],
    /// Page in which it goes on, if it is longer.
    pub(super) next: u32,
}

/// One value of a row, borrowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Int(i64),
    /// No table of ours has one.
    Real,
    Text(&'a str),
    Blob(&'a [u8]),
}

/// What kind of rows the page holds, if any.
pub(super) fn kind(page: &[u8; PAGE]) -> Option<Kind> {
    match page.first()? {
        13 => Some(Kind::Table),
        10 => Some(Kind::Index),
        2 => Some(Kind::Branch),
        _ => None,
    }
}

/// The last page below a branch.
pub(super) fn rightmost(page: &[u8; PAGE]) -> u32 {
    be32(page, 8)
}

/// The rows of a page; `None` in place of one that is damaged.
pub(super) fn cells(page: &[u8; PAGE], kind: Kind) -> impl Iterator<Item = Option<Cell<'_>>> {
    let pointers = if kind == Kind::Branch { 12 } else { 8 };
    let count = usize::from(be16(page, 3));
    // A page holds no more than this, whatever it says.
    let count = count.min((PAGE - pointers) / 2);
    (0..count).map(move |index| {
        let place = usize::from(be16(page, pointers + 2 * index));
        cell(page.get(place..)?, kind)
    })
}

fn cell(mut bytes: &[u8], kind: Kind) -> Option<Cell<'_>> {
    let below = if kind == Kind::Branch {
        let (head, rest) = bytes.split_first_chunk::<4>()?;
        bytes = rest;
        u32::from_be_bytes(*head)
    } else {
        0
    };
    let length = usize::try_from(varint(&mut bytes)?).ok().filter(|l| *l <= MOST_LENGTH)?;
    let rowid = if kind == Kind::Table { varint(&mut bytes)? } else { 0 };
    let most = if kind == Kind::Table { PAGE - 35 } else { (PAGE - 12) * 64 / 255 - 23 };
    let least = (PAGE - 12) * 32 / 255 - 23;
    let here = if length <= most {
        length
    } else {
        let here = least + (length - least) % (PAGE - 4);
        if here <= most { here } else { least }
    };
    let (local, rest) = bytes.split_at_checked(here)?;
    let next = if here < length { u32::from_be_bytes(*rest.first_chunk()?) } else { 0 };
    Some(Cell { rowid, below, length, local, next })
}

/// The values of a row; `None` if its bytes are no row.
pub(super) fn values(row: &[u8]) -> Option<Vec<Value<'_>>> {
    let mut head = row;
    let length = usize::try_from(varint(&mut head)?).ok()?;
    let of_length = row.len() - head.len();
    let (mut kinds, mut body) = (head.get(..length.checked_sub(of_length)?)?, row.get(length..)?);
    let mut values = Vec::new();
    while !kinds.is_empty() {
        let kind = varint(&mut kinds)?;
        let width = match kind {
            0 | 8 | 9 => 0,
            1..=4 => usize::try_from(kind).ok()?,
            5 => 6,
            6 | 7 => 8,
            12.. => usize::try_from((kind - 12) / 2).ok()?,
            _ => return None,
        };
        let (bytes, rest) = body.split_at_checked(width)?;
        body = rest;
        values.push(match kind {
            0 => Value::Null,
            1..=6 => Value::Int(integer(bytes)),
            7 => Value::Real,
            8 | 9 => Value::Int(kind - 8),
            _ if kind % 2 == 0 => Value::Blob(bytes),
            _ => Value::Text(str::from_utf8(bytes).ok()?),
        });
    }
    body.is_empty().then_some(values)
}

fn integer(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let start = if negative { -1 } else { 0 };
    bytes.iter().fold(start, |value: i64, byte| value << 8 | i64::from(*byte))
}

/// Up to nine bytes, seven bits each, the ninth with eight.
fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for index in 0..9 {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        if index == 8 {
            value = value << 8 | u64::from(*first);
            break;
        }
        value = value << 7 | u64::from(first & 0x7f);
        if first & 0x80 == 0 {
            break;
        }
    }
    Some(value.cast_signed())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_page_gives_rows_or_nothing(
            mut page in prop::collection::vec(any::<u8>(), PAGE),
            first in prop_oneof![Just(2), Just(10), Just(13)],
        ) {
            page[0] = first;
            let page: Box<[u8; PAGE]> = page.into_boxed_slice().try_into().unwrap();
            let kind = kind(&page).unwrap();
            for cell in cells(&page, kind).flatten() {
                drop(values(cell.local));
            }
        }
    }
}
