//! Bytes, registers or a row → fields. Pure: no I/O, no clock, no panic; any
//! bytes give `Ok` or `Err`.

pub mod columns;
pub mod escaped;
pub mod json;
pub mod layout;
pub mod names;
pub mod nmea;
pub mod number;
pub mod pattern;
pub mod registers;
pub mod row;
pub mod scalar;
pub mod sparkplug;
pub mod text;
pub mod time;
pub mod topic;
