//! The promises of the file, on real files.
