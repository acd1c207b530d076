//! The tokio tasks that join the sides: the only place that knows all of them.
