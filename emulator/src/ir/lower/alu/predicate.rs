//! Lane bits of predicates: gathering them from lanes, combining them.

use super::super::names::Modifiers;
use crate::arith::WARP;

/// How a comparison's result is combined with another predicate.
#[derive(Clone, Copy)]
pub(super) enum Combine {
    And,
    Or,
    Xor,
}

/// Takes the modifier that combines a comparison with a predicate.
pub(super) fn combine(m: &mut Modifiers<'_>) -> Option<Combine> {
    m.pick(|m| {
        Some(match m {
            "and" => Combine::And,
            "or" => Combine::Or,
            "xor" => Combine::Xor,
            _ => return None,
        })
    })
}

impl Combine {
    /// Combines the bits of all lanes.
    pub(super) fn apply(self, a: u32, b: u32) -> u32 {
        match self {
            Combine::And => a & b,
            Combine::Or => a | b,
            Combine::Xor => a ^ b,
        }
    }
}

/// The lanes for which `test` holds.
pub(super) fn reduce_bits(test: impl Fn(usize) -> bool) -> u32 {
    let mut bits = 0;
    for lane in 0..WARP {
        bits |= u32::from(test(lane)) << lane;
    }
    bits
}
