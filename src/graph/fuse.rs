//! Rewrites chains of ops into fused ones.
