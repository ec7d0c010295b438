//! Images measured: a classifier and its scores, and how near they are to copies of other images.

mod classifier;
mod nearest;
mod scores;

pub use classifier::{Classifier, ClassifierError, ClassifierFile};
pub use nearest::{Match, closest_pairs, nearest};
pub use scores::Scores;
