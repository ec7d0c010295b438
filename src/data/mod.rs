//! Images from disk to batches: readers for the usual layouts, transforms, a resumable loader, PNG output.
//!
//! [`Dataset::open`] indexes a folder or an `.npz` file into samples with a class and a split, [`Loader`] turns them
//! into normalised `[B, H, W, C]` batches in an order that depends only on the seed and the epoch, and
//! [`DatasetReport`] says what was found.

mod dataset;
mod error;
mod font;
pub mod grid;
mod loader;
mod nearest;
mod order;
mod pixels;
pub mod png;
mod readers;
mod report;
mod transform;

pub use dataset::{Dataset, Format, OnMismatch, OpenOptions, Sample, Source, Split, UnknownPolicy};
pub use error::{DataError, Problem};
pub use loader::{Batch, Loader, LoaderOptions, OnCorrupt, Position};
pub use nearest::{Match, closest_pairs, nearest};
pub use order::{Entry, epoch_order};
pub use pixels::{ImageArray, Pixels, Samples};
pub use report::{DatasetReport, contact_sheet};
pub use transform::{Augment, Orientation, Transform};
