//! One event of a batch as a batch of its own, so that it can be sent without
//! the others.
//!
//! The bytes of its values are taken over as they stand: nothing is decoded and
//! made again, so nothing can change on the way. All names go along, which
//! costs little and keeps the indices.

use super::super::encode::single;
use super::{Bytes, Damaged, FORMS, Timestamp, damaged};

/// The event with this index, with its time.
pub(in crate::buffer) fn extract(
    whole: &[u8],
    wanted: usize,
) -> Result<(Timestamp, Vec<u8>), Damaged> {
    let mut bytes = Bytes(whole);
    if bytes.array()? != 4 || !FORMS.contains(&bytes.unsigned()?) {
        return Err(damaged("another form"));
    }
    let mut origins = Vec::new();
    for _ in 0..bytes.array()? {
        let from = bytes.0;
        bytes.pair()?;
        bytes.text()?;
        for _ in 0..bytes.array()? {
            bytes.pair()?;
            bytes.text()?;
            bytes.text()?;
        }
        origins.push(read(from, &bytes));
    }
    let from = bytes.0;
    for _ in 0..bytes.array()? {
        bytes.pair()?;
        bytes.text()?;
        bytes.text_or_null()?;
    }
    let names = read(from, &bytes);
    let mut time = 0_i64;
    for index in 0..bytes.array()? {
        let origin = bytes.index()?;
        time = time.wrapping_add(bytes.signed()?);
        let from = bytes.0;
        bytes.signed_or_null()?;
        bytes.quality()?;
        for _ in 0..bytes.unsigned()? {
            let (_, own) = bytes.name()?;
            bytes.value(0)?;
            if own {
                bytes.quality()?;
            }
        }
        if index == wanted {
            let origin = origins
                .get(origin)
                .ok_or_else(|| damaged("an origin that is not in the dictionary"))?;
            return Ok((Timestamp(time), single(origin, names, time, read(from, &bytes))));
        }
    }
    Err(damaged("it has fewer events than it should"))
}

/// What was read since `from` was all that is left.
fn read<'a>(from: &'a [u8], now: &Bytes<'_>) -> &'a [u8] {
    from.get(..from.len() - now.0.len()).unwrap_or_default()
}
