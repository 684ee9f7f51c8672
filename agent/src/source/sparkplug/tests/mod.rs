//! The host alone: small edge nodes, no broker, virtual time.

mod bounds;
mod check;
mod doubts;
mod edge;
mod history;
mod sessions;
mod shapes;
