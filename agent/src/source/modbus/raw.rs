//! What each field of a group was made of, for a person who looks at the source alone.

use super::connection::{Failure, Reply};
use super::group::exception;
use super::plan::Request;
use crate::raw::{Note, Of, Raw};

/// What came for each signal of a request; `own` knows where in the place of one its
/// registers or bits begin, and how many they are.
pub(super) fn notes(
    request: &Request,
    answer: &Result<Reply, Failure>,
    own: impl Fn(usize) -> Option<(u16, u16)>,
) -> Vec<Note> {
    let note = |(index, offset): &(usize, u16)| {
        let (skip, width) = own(*index)?;
        let raw = raw(request, answer, offset.saturating_add(skip), width)?;
        Some(Note { of: Of::Field(*index), raw })
    };
    request.signals.iter().filter_map(note).collect()
}

fn raw(request: &Request, answer: &Result<Reply, Failure>, offset: u16, width: u16) -> Option<Raw> {
    let (table, address) = (request.table.as_str(), request.address.saturating_add(offset));
    let start = usize::from(offset);
    Some(match answer {
        Ok(Reply::Bits(bits)) => Raw::Bit { table, address, set: *bits.get(start)? },
        Ok(Reply::Words(words)) => {
            let words = words.get(start..start + usize::from(width))?.to_vec();
            Raw::Registers { table, address, words }
        }
        Err(failure) => Raw::Nothing { table, address, why: why(failure) },
    })
}

fn why(failure: &Failure) -> String {
    match failure {
        Failure::Exception(code) => exception(*code),
        Failure::Late => "no answer in time".to_owned(),
        Failure::Unexpected(what) => what.clone(),
        Failure::Closed(_) => "the connection was closed".to_owned(),
        Failure::Unreachable(_) => "there is no connection".to_owned(),
    }
}
