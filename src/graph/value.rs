//! Handles of values.

/// A value of one [`Graph`](super::Graph): the result of a node or a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(u32);

impl Value {
    pub(crate) fn new(index: usize) -> Self {
        Self(u32::try_from(index).expect("fewer than 2^32 values"))
    }

    /// Position among the graph's values.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
