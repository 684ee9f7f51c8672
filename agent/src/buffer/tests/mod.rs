//! The promises of the position, of the file and of what it drops.

mod bounds;
mod histories;
mod model;
mod position;
