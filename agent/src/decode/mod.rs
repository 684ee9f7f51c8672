//! Bytes, registers or a row → fields. Pure: no I/O, no clock, no panic; any
//! bytes give `Ok` or `Err`.

pub mod json;
pub mod names;
pub mod number;
pub mod registers;
pub mod row;
pub mod scalar;
pub mod time;
pub mod topic;
