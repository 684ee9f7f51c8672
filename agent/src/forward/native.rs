//! The one call that the safe interface makes twenty times slower than it is.

use rdkafka::bindings;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::types::RDKafkaRespErr;
use std::time::Duration;

use super::context::Context;

/// Waits until every record that was handed over is delivered or has failed,
/// or the time is over; true when none is left. The crate's own `flush` polls
/// in steps of 100 ms (DOMAIN J.1), this one wakes with the last answer.
pub(super) fn flush(producer: &BaseProducer<Context>, at_most: Duration) -> bool {
    let millis = i32::try_from(at_most.as_millis()).unwrap_or(i32::MAX);
    #[expect(unsafe_code, reason = "librdkafka's flush has no other way in")]
    // SAFETY: the pointer belongs to `producer`, which outlives the call, and
    // librdkafka's functions may be called from any thread.
    let result = unsafe { bindings::rd_kafka_flush(producer.client().native_ptr(), millis) };
    result == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
}
