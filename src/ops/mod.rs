pub mod conv2d;
pub mod linear;
