//! Gives the shared library the SONAME of the real driver, so that a program that asks the
//! loader for `libcuda.so` after this library was opened by path is bound to it.
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
}
