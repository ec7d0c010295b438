//! Images from disk to batches: readers for the usual layouts, transforms, a resumable loader.
//!
//! [`Dataset::open`] indexes a folder or an `.npz` file into samples with a class and a split, [`Loader`] turns them
//! into normalised `[B, H, W, C]` batches in an order that depends only on the seed and the epoch, and
//! [`DatasetReport`] says what was found.

mod array;
mod dataset;
mod decode;
mod error;
mod glance;
mod holdout;
mod left_out;
mod loader;
mod names;
mod open;
mod order;
mod patterns;
mod pixels;
mod readers;
mod report;
mod split;
mod transform;

pub use array::{Element, ImageArray};
pub use dataset::{
    DataFormat, Dataset, LabelColumns, OnMismatch, OpenOptions, PixelSource, Sample, UnknownPolicy,
};
pub use decode::{DecodedImage, ImageFacts, ValueKind, ValueRange, decode};
pub use error::{DataError, DataProblem};
pub use glance::Glance;
pub use left_out::{LeftOutByReason, LeftOutFiles, LeftOutReason};
pub use loader::{Batch, Loader, LoaderOptions, OnCorrupt, Position};
pub use order::{Entry, epoch_order};
pub use pixels::{PixelValues, Pixels};
pub use report::{DatasetReport, SeenValues, contact_sheet};
pub use split::Split;
pub use transform::{Augment, Orientation, Transform};
