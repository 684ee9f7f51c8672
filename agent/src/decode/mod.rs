//! Bytes, registers or a row → fields. Pure: no I/O, no clock, no panic; any
//! bytes give `Ok` or `Err`. (Only a descriptor of Protobuf is a file: it is read when the
//! configuration is checked and when a decoder is made of it.)

pub mod cbor;
pub mod columns;
pub mod escaped;
#[cfg(test)]
mod fuzz;
pub mod json;
pub mod layout;
pub mod names;
pub mod nmea;
pub mod number;
pub mod pattern;
pub mod payload;
pub mod protobuf;
pub mod registers;
pub mod row;
pub mod scalar;
pub mod sparkplug;
pub mod text;
pub mod time;
pub mod topic;
pub mod tree;
