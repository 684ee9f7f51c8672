//! The promises of the position and of the file.

mod histories;
mod model;
mod position;
mod requeue;
