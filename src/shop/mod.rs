//! The shipped purchase and payment worker, on the library's public face alone.
