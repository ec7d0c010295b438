//! What the integration tests share: binding cudarc to the emulator's shared library.

#[macro_use]
pub mod driver;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

/// The shared library that cargo built beside this test.
pub fn library_path() -> PathBuf {
    let exe = std::env::current_exe().expect("the test's own path");
    let folder = exe.parent().expect("a folder");
    // The file one level up is a link to the newest build, the one in `deps` is what this test was built with.
    [folder, folder.parent().expect("a folder")]
        .iter()
        .map(|folder| folder.join("libcuda_emulator.so"))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("no libcuda_emulator.so beside {}", exe.display()))
}

/// Loads the emulator before cudarc looks for a driver; its SONAME makes cudarc find this one.
///
/// The guard keeps the tests of one process apart: they share the device and its primary context.
pub fn emulator() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    static LOADED: Once = Once::new();
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    LOADED.call_once(|| {
        // SAFETY: the library's initialisers have no preconditions; it is never unloaded.
        let library = unsafe { Library::open(Some(library_path()), RTLD_NOW | RTLD_GLOBAL) };
        std::mem::forget(library.expect("the emulator's library loads"));
    });
    guard
}

/// Loads NVRTC by path, so that cudarc's own lookup by name finds it.
pub fn nvrtc() {
    static LOADED: Once = Once::new();
    LOADED.call_once(|| {
        let path = cuda_emulator::case::nvrtc::path()
            .expect("these tests compile CUDA C++: run `cargo xtask setup` first");
        // SAFETY: as above.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
        std::mem::forget(library.expect("NVRTC loads"));
    });
}

/// Calls one of the emulator's own functions that give a text.
pub fn text_of(symbol: &str) -> Option<String> {
    type Give = unsafe extern "C" fn(*mut u8, usize, *mut usize) -> u32;
    // SAFETY: opened before; the symbol's type is that of the emulator's text functions.
    let give = unsafe {
        let library = Library::open(Some(library_path()), RTLD_NOW).expect("loaded");
        let give: Give = *library
            .get(symbol.as_bytes())
            .expect("a symbol of the emulator");
        std::mem::forget(library);
        give
    };
    let mut needed = 0usize;
    // SAFETY: no buffer, only the size.
    if unsafe { give(std::ptr::null_mut(), 0, &mut needed) } != 0 {
        return None;
    }
    let mut text = vec![0u8; needed];
    // SAFETY: a buffer of the size that was asked for.
    assert_eq!(unsafe { give(text.as_mut_ptr(), needed, &mut needed) }, 0);
    text.truncate(text.iter().position(|b| *b == 0).unwrap_or(text.len()));
    Some(String::from_utf8(text).expect("reports are UTF-8"))
}

/// Sets an option of the emulator.
pub fn set_option(name: &str, value: &str) -> u32 {
    type Set = unsafe extern "C" fn(*const u8, *const u8) -> u32;
    let (name, value) = (format!("{name}\0"), format!("{value}\0"));
    // SAFETY: opened before; NUL-terminated texts.
    unsafe {
        let library = Library::open(Some(library_path()), RTLD_NOW).expect("loaded");
        let set: Set = *library
            .get(b"cuEmuSetOption")
            .expect("a symbol of the emulator");
        std::mem::forget(library);
        set(name.as_ptr(), value.as_ptr())
    }
}
