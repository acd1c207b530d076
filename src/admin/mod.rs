//! The HTTP face: health and metrics.
