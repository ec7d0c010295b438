//! Happens-before shadow state.
