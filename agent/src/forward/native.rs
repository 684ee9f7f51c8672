//! Calls that the safe interface lacks, or makes twenty times slower than they
//! are.

use std::ffi::{CStr, CString};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings;
use rdkafka::client::{Client, OAuthToken};
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::types::RDKafkaRespErr;

use super::context::Context;

/// Waits until every record that was handed over is delivered or has failed,
/// or the time is over; true when none is left. The crate's own `flush` polls
/// in steps of 100 ms, this one wakes with the last answer.
pub(super) fn flush(producer: &BaseProducer<Context>, at_most: Duration) -> bool {
    let millis = i32::try_from(at_most.as_millis()).unwrap_or(i32::MAX);
    #[expect(unsafe_code, reason = "librdkafka's flush has no other way in")]
    // SAFETY: the pointer belongs to `producer`, which outlives the call, and
    // librdkafka's functions may be called from any thread.
    let result = unsafe { bindings::rd_kafka_flush(producer.client().native_ptr(), millis) };
    result == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// The metadata of the list's first entry. The crate's own way to it panics
/// where it is no text, and what stands there is whatever somebody wrote.
pub(super) fn first_metadata(list: &TopicPartitionList) -> Option<Vec<u8>> {
    #[expect(unsafe_code, reason = "the crate reads metadata only as text")]
    // SAFETY: the list outlives the call and has `cnt` entries; an entry's
    // metadata is null or as long as it says, and is copied.
    unsafe {
        let list = list.ptr().as_ref()?;
        let first = if list.cnt > 0 { list.elems.as_ref()? } else { return None };
        if first.metadata.is_null() {
            return Some(Vec::new());
        }
        Some(std::slice::from_raw_parts(first.metadata.cast::<u8>(), first.metadata_size).to_vec())
    }
}

/// What librdkafka says about a call fits into this.
const WORDS: usize = 512;

/// Gives a client its token. The crate does it only for clients whose events
/// are polled, and those of its admin client are not.
pub(super) fn set_token(client: &Client<Context>, token: &OAuthToken) -> Result<(), String> {
    let foreign = |_| "the login token holds a zero byte".to_owned();
    let value = CString::new(token.token.as_str()).map_err(foreign)?;
    let principal = CString::new(token.principal_name.as_str()).map_err(foreign)?;
    let mut words: [std::ffi::c_char; WORDS] = [0; WORDS];
    #[expect(unsafe_code, reason = "librdkafka's token has no other way in")]
    // SAFETY: `client` outlives the call, the strings end with a zero and are
    // copied, no extensions are given, and `words` is as long as it is said.
    let result = unsafe {
        bindings::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            token.lifetime_ms,
            principal.as_ptr(),
            std::ptr::null_mut(),
            0,
            words.as_mut_ptr(),
            WORDS,
        )
    };
    if result == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    #[expect(unsafe_code, reason = "librdkafka's words are a C string")]
    // SAFETY: librdkafka wrote a string that ends with a zero, or nothing.
    let words = unsafe { CStr::from_ptr(words.as_ptr()) };
    Err(format!("the login token is refused: {}", words.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use rdkafka::Offset;

    use super::*;

    #[test]
    fn metadata_that_is_no_text_is_read_as_bytes() {
        let mut list = TopicPartitionList::new();
        assert_eq!(first_metadata(&list), None);
        list.add_partition_offset("positions", 0, Offset::Offset(1)).unwrap();
        assert_eq!(first_metadata(&list), Some(Vec::new()));
        list.find_partition("positions", 0).unwrap().set_metadata("xy");
        #[expect(unsafe_code, reason = "the crate takes only text")]
        // SAFETY: the list has one entry, whose metadata was just set to two
        // bytes of its own.
        unsafe {
            let first = (*list.ptr()).elems;
            std::slice::from_raw_parts_mut((*first).metadata.cast::<u8>(), 2)
                .copy_from_slice(&[0xff, 0xfe]);
        }
        assert_eq!(first_metadata(&list), Some(vec![0xff, 0xfe]));
    }
}
