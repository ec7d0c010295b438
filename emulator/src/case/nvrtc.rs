//! CUDA C++ to PTX through NVRTC, which is loaded when it is first needed.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::PathBuf;
use std::sync::OnceLock;

use libloading::Library;

use crate::toolkit;

type Program = *mut c_void;
type Create = unsafe extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type Fetch = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;

/// The functions of NVRTC that are needed here; they stay valid because the library is never unloaded.
struct Nvrtc {
    create: Create,
    compile: Compile,
    ptx_size: Size,
    ptx: Fetch,
    log_size: Size,
    log: Fetch,
    destroy: Destroy,
    path: PathBuf,
    _library: Library,
}

fn open() -> Result<Nvrtc, String> {
    let candidates = toolkit::nvrtc_candidates();
    for path in &candidates {
        // SAFETY: NVRTC's initialisers have no preconditions.
        let Ok(library) = (unsafe { Library::new(path) }) else {
            continue;
        };
        macro_rules! symbol {
            ($name:literal) => {
                // SAFETY: the type is the function's in nvrtc.h, unchanged since CUDA 8.
                *unsafe { library.get(concat!($name, "\0")) }
                    .map_err(|e| format!("{}: {e}", path.display()))?
            };
        }
        return Ok(Nvrtc {
            create: symbol!("nvrtcCreateProgram"),
            compile: symbol!("nvrtcCompileProgram"),
            ptx_size: symbol!("nvrtcGetPTXSize"),
            ptx: symbol!("nvrtcGetPTX"),
            log_size: symbol!("nvrtcGetProgramLogSize"),
            log: symbol!("nvrtcGetProgramLog"),
            destroy: symbol!("nvrtcDestroyProgram"),
            path: path.clone(),
            _library: library,
        });
    }
    let tried: Vec<String> = candidates.iter().map(|p| p.display().to_string()).collect();
    Err(format!(
        "NVRTC was not found (tried {}): run `cargo xtask setup`, or name the library in MEDFUSION_NVRTC",
        tried.join(", ")
    ))
}

fn nvrtc() -> Result<&'static Nvrtc, String> {
    static NVRTC: OnceLock<Result<Nvrtc, String>> = OnceLock::new();
    NVRTC.get_or_init(open).as_ref().map_err(String::clone)
}

/// Where NVRTC was loaded from.
///
/// # Errors
/// Says where it was looked for and how to get it.
pub fn path() -> Result<&'static std::path::Path, String> {
    nvrtc().map(|n| n.path.as_path())
}

/// A program that is destroyed in the end.
struct Owned<'a>(&'a Nvrtc, Program);

impl Drop for Owned<'_> {
    fn drop(&mut self) {
        // SAFETY: a program that was created and not destroyed.
        unsafe { (self.0.destroy)(&mut self.1) };
    }
}

impl Owned<'_> {
    fn fetch(&self, size: Size, fetch: Fetch) -> String {
        let mut bytes = 0;
        // SAFETY: a living program and a place for the size.
        if unsafe { size(self.1, &mut bytes) } != 0 || bytes == 0 {
            return String::new();
        }
        let mut text = vec![0u8; bytes];
        // SAFETY: the buffer has the size that NVRTC asked for.
        if unsafe { fetch(self.1, text.as_mut_ptr().cast()) } != 0 {
            return String::new();
        }
        CStr::from_bytes_until_nul(&text).map_or_else(
            |_| String::from_utf8_lossy(&text).into_owned(),
            |text| text.to_string_lossy().into_owned(),
        )
    }
}

/// Compiles a source for compute capability 8.6 with line information; CUDA's headers are on the path if installed.
///
/// # Errors
/// Where NVRTC is missing, or the compiler's messages.
pub fn compile(source: &str, name: &str, options: &[String]) -> Result<String, String> {
    let nvrtc = nvrtc()?;
    let c_text = |text: &str| CString::new(text).map_err(|_| format!("{name}: holds a NUL"));
    let (source, c_name) = (c_text(source)?, c_text(name)?);
    let mut all = vec![
        c_text("--gpu-architecture=compute_86")?,
        c_text("--generate-line-info")?,
    ];
    for folder in toolkit::include_folders() {
        all.push(c_text(&format!("--include-path={}", folder.display()))?);
    }
    for option in options {
        all.push(c_text(option)?);
    }
    let pointers: Vec<*const c_char> = all.iter().map(|option| option.as_ptr()).collect();
    let mut program = std::ptr::null_mut();
    // SAFETY: NUL-terminated texts that outlive the call; no headers are given.
    let created = unsafe {
        (nvrtc.create)(
            &mut program,
            source.as_ptr(),
            c_name.as_ptr(),
            0,
            std::ptr::null(),
            std::ptr::null(),
        )
    };
    if created != 0 {
        return Err(format!("{name}: NVRTC error {created}"));
    }
    let program = Owned(nvrtc, program);
    // SAFETY: a living program and as many NUL-terminated options as announced.
    let compiled =
        unsafe { (nvrtc.compile)(program.1, pointers.len() as c_int, pointers.as_ptr()) };
    if compiled != 0 {
        let log = program.fetch(nvrtc.log_size, nvrtc.log);
        return Err(format!(
            "{name}: NVRTC error {compiled}:\n{}",
            log.trim_end()
        ));
    }
    let ptx = program.fetch(nvrtc.ptx_size, nvrtc.ptx);
    if ptx.is_empty() {
        return Err(format!("{name}: NVRTC gave no PTX"));
    }
    Ok(ptx)
}
