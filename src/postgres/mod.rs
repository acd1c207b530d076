//! The store for production.
