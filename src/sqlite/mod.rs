//! The embedded default: one file, one process.
