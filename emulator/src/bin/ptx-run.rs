//! Runs kernel test cases on the emulated GPU.
fn main() {}
