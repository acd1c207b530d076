//! The store for simulation: everything in memory.
