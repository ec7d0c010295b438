//! Pictures for people: 8-bit images, PNG files with text, many images in one.

mod font;
pub mod grid;
pub mod png;

pub use png::Image8;
