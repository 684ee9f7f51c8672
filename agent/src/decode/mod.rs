//! Bytes, registers or a row → fields. Pure: no I/O, no clock, no panic; any
//! bytes give `Ok` or `Err`.

pub mod registers;
pub mod row;
