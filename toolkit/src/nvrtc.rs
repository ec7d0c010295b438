//! CUDA C++ to PTX through NVRTC, which is loaded when it is first needed.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::Library;

use crate::{ToolkitError, find};

type Handle = *mut c_void;
type Create = unsafe extern "C" fn(
    *mut Handle,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Compile = unsafe extern "C" fn(Handle, c_int, *const *const c_char) -> c_int;
type Size = unsafe extern "C" fn(Handle, *mut usize) -> c_int;
type Fetch = unsafe extern "C" fn(Handle, *mut c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut Handle) -> c_int;
type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;

/// NVRTC's functions; they are valid as long as the library that this holds is loaded.
pub struct Nvrtc {
    create: Create,
    compile: Compile,
    ptx_size: Size,
    ptx: Fetch,
    log_size: Size,
    log: Fetch,
    destroy: Destroy,
    version: (i32, i32),
    path: PathBuf,
    _library: Library,
}

/// A program to be compiled.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The name in messages and line information, such as `kernels/conv2d.cu`.
    pub name: &'a str,
    /// CUDA C++.
    pub text: &'a str,
    /// Name and text of headers that are not files: `#include "name"` finds them.
    pub headers: &'a [(&'a str, &'a str)],
    /// The compiler's options, such as `--gpu-architecture=compute_86`.
    pub options: &'a [String],
}

/// NVRTC, loaded from the first of [`find::nvrtc_candidates`] that can be, once for the process.
///
/// # Errors
/// [`ToolkitError::NvrtcMissing`] with the places that were tried.
pub fn shared() -> Result<&'static Nvrtc, ToolkitError> {
    static NVRTC: OnceLock<Result<Nvrtc, ToolkitError>> = OnceLock::new();
    let loaded = NVRTC.get_or_init(|| {
        let tried = find::nvrtc_candidates();
        let opened = tried.iter().find_map(|path| Nvrtc::open(path).ok());
        opened.ok_or(ToolkitError::NvrtcMissing { tried })
    });
    loaded.as_ref().map_err(Clone::clone)
}

impl Nvrtc {
    /// Loads the library at `path`; a bare file name is looked up by the loader.
    ///
    /// # Errors
    /// The loader's, and where a function is missing.
    pub fn open(path: &Path) -> Result<Self, libloading::Error> {
        // SAFETY: NVRTC's initialisers have no preconditions.
        let library = unsafe { Library::new(path) }?;
        macro_rules! symbol {
            ($name:literal) => {
                // SAFETY: the type is the function's in nvrtc.h, unchanged since CUDA 8.
                *unsafe { library.get(concat!($name, "\0").as_bytes()) }?
            };
        }
        let version: Version = symbol!("nvrtcVersion");
        let (mut major, mut minor) = (0, 0);
        // SAFETY: places for two integers.
        unsafe { version(&mut major, &mut minor) };
        Ok(Self {
            create: symbol!("nvrtcCreateProgram"),
            compile: symbol!("nvrtcCompileProgram"),
            ptx_size: symbol!("nvrtcGetPTXSize"),
            ptx: symbol!("nvrtcGetPTX"),
            log_size: symbol!("nvrtcGetProgramLogSize"),
            log: symbol!("nvrtcGetProgramLog"),
            destroy: symbol!("nvrtcDestroyProgram"),
            version: (major, minor),
            path: path.to_owned(),
            _library: library,
        })
    }

    /// Major and minor, such as (12, 9).
    pub const fn version(&self) -> (i32, i32) {
        self.version
    }

    /// Where the library was loaded from; a bare file name was found by the loader.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// PTX of a program.
    ///
    /// # Errors
    /// [`ToolkitError::HoldsNul`]; [`ToolkitError::Refused`] with the compiler's messages; [`ToolkitError::NoPtx`].
    pub fn compile(&self, source: &Source<'_>) -> Result<String, ToolkitError> {
        let name = || source.name.to_owned();
        let c_text = |what: &'static str, text: &str| {
            CString::new(text).map_err(|_| ToolkitError::HoldsNul { name: name(), what })
        };
        let (text, c_name) = (c_text("source", source.text)?, c_text("name", source.name)?);
        let headers: Vec<(CString, CString)> = source
            .headers
            .iter()
            .map(|(name, text)| Ok((c_text("header", name)?, c_text("header", text)?)))
            .collect::<Result<_, ToolkitError>>()?;
        let header_names: Vec<*const c_char> =
            headers.iter().map(|(name, _)| name.as_ptr()).collect();
        let header_texts: Vec<*const c_char> =
            headers.iter().map(|(_, text)| text.as_ptr()).collect();
        let options: Vec<CString> = source
            .options
            .iter()
            .map(|option| c_text("option", option))
            .collect::<Result<_, _>>()?;
        let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        let refused = |code, log: &str| ToolkitError::Refused {
            name: name(),
            code,
            log: log.trim_end().to_owned(),
        };

        let mut handle = std::ptr::null_mut();
        // SAFETY: NUL-terminated texts that outlive the program, and as many headers as announced.
        let created = unsafe {
            (self.create)(
                &mut handle,
                text.as_ptr(),
                c_name.as_ptr(),
                headers.len() as c_int,
                header_texts.as_ptr(),
                header_names.as_ptr(),
            )
        };
        if created != 0 {
            return Err(refused(created, ""));
        }
        let program = Program(self, handle);
        // SAFETY: a living program and as many NUL-terminated options as announced.
        let compiled =
            unsafe { (self.compile)(program.1, pointers.len() as c_int, pointers.as_ptr()) };
        if compiled != 0 {
            return Err(refused(compiled, &program.fetch(self.log_size, self.log)));
        }
        let ptx = program.fetch(self.ptx_size, self.ptx);
        match ptx.is_empty() {
            true => Err(ToolkitError::NoPtx { name: name() }),
            false => Ok(ptx),
        }
    }
}

/// A program that is destroyed in the end.
struct Program<'a>(&'a Nvrtc, Handle);

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // SAFETY: a program that was created and not destroyed.
        unsafe { (self.0.destroy)(&mut self.1) };
    }
}

impl Program<'_> {
    /// A text of the program; empty where NVRTC gives none.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// NVRTC, or `None` and a line on stderr; but in CI its absence fails the test.
    fn nvrtc() -> Option<&'static Nvrtc> {
        match shared() {
            Ok(nvrtc) => Some(nvrtc),
            Err(missing) => {
                assert!(
                    std::env::var_os("CI").is_none_or(|ci| ci != "true"),
                    "CI must not skip this test: {missing}"
                );
                eprintln!("NOT TESTED: {missing}");
                None
            }
        }
    }

    fn source<'a>(text: &'a str, headers: &'a [(&'a str, &'a str)]) -> Source<'a> {
        Source {
            name: "a.cu",
            text,
            headers,
            options: &[],
        }
    }

    #[test]
    fn a_program_with_a_header_becomes_ptx() {
        let Some(nvrtc) = nvrtc() else { return };
        assert!(nvrtc.version().0 >= 11, "{:?}", nvrtc.version());
        let headers = [("by.h", "#define BY 3.0f\n")];
        let text = "#include \"by.h\"\nextern \"C\" __global__ void scale(float* x) { *x *= BY; }";
        let options = ["--gpu-architecture=compute_86".to_owned()];
        let ptx = nvrtc
            .compile(&Source {
                options: &options,
                ..source(text, &headers)
            })
            .expect("compiles");
        assert!(ptx.contains(".target sm_86"), "{ptx}");
        assert!(ptx.contains(".entry scale"), "{ptx}");
    }

    #[test]
    fn a_refusal_carries_the_compilers_messages() {
        let Some(nvrtc) = nvrtc() else { return };
        let error = nvrtc.compile(&source("__global__ void f() { g(); }", &[]));
        let Err(ToolkitError::Refused { name, code, log }) = error else {
            panic!("{error:?}");
        };
        assert_eq!((name.as_str(), code), ("a.cu", 6));
        assert!(log.contains("\"g\" is undefined"), "{log}");
        assert_eq!(
            nvrtc.compile(&source("a\0b", &[])),
            Err(ToolkitError::HoldsNul {
                name: "a.cu".to_owned(),
                what: "source"
            })
        );
    }

    #[test]
    fn a_file_that_is_no_library_is_refused() {
        assert!(Nvrtc::open(Path::new("/nowhere/libnvrtc.so.12")).is_err());
    }
}
