//! Event → Kafka record (key, headers, value). No I/O.
