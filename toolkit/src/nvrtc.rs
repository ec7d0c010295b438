//! CUDA C++ to PTX or machine code through NVRTC, which is loaded when it is first needed.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::Library;

use crate::error::{Attempt, ToolkitError};
use crate::find;

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
type CountArchitectures = unsafe extern "C" fn(*mut c_int) -> c_int;
type ListArchitectures = unsafe extern "C" fn(*mut c_int) -> c_int;

/// `NVRTC_ERROR_BUILTIN_OPERATION_FAILURE`: what NVRTC answers where `libnvrtc-builtins` cannot be loaded.
const BUILTIN_OPERATION_FAILURE: c_int = 7;

/// NVRTC's functions; they are valid as long as the library that this holds is loaded.
pub struct Nvrtc {
    create: Create,
    compile: Compile,
    ptx_size: Size,
    ptx: Fetch,
    log_size: Size,
    log: Fetch,
    destroy: Destroy,
    /// Size and text of machine code; NVRTC has them since 11.1.
    cubin: Option<(Size, Fetch)>,
    version: (i32, i32),
    architectures: Vec<(u32, u32)>,
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
    /// The compiler's options, such as `--gpu-architecture=compute_86`; a real architecture (`sm_86`) gives machine
    /// code as well as PTX.
    pub options: &'a [String],
}

/// NVRTC, loaded from the first of [`find::nvrtc_candidates`] that can be, once for the process.
///
/// # Errors
/// [`ToolkitError::NvrtcMissing`] with the places that were tried, and why a file that is there does not load.
pub fn shared() -> Result<&'static Nvrtc, ToolkitError> {
    static NVRTC: OnceLock<Result<Nvrtc, ToolkitError>> = OnceLock::new();
    let loaded = NVRTC.get_or_init(|| first_of(find::nvrtc_candidates()));
    loaded.as_ref().map_err(Clone::clone)
}

fn first_of(candidates: Vec<PathBuf>) -> Result<Nvrtc, ToolkitError> {
    let mut tried = Vec::new();
    for path in candidates {
        match Nvrtc::open(&path) {
            Ok(nvrtc) => return Ok(nvrtc),
            Err(error) => {
                // What the loader says of a bare name is that it found no such library.
                let why = path.is_file().then(|| error.to_string());
                tried.push(Attempt { path, why });
            }
        }
    }
    Err(ToolkitError::NvrtcMissing { tried })
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
        let cubin = || -> Result<(Size, Fetch), libloading::Error> {
            Ok((symbol!("nvrtcGetCUBINSize"), symbol!("nvrtcGetCUBIN")))
        };
        let architectures = || -> Result<Vec<(u32, u32)>, libloading::Error> {
            let count: CountArchitectures = symbol!("nvrtcGetNumSupportedArchs");
            let list: ListArchitectures = symbol!("nvrtcGetSupportedArchs");
            let mut len = 0;
            // SAFETY: a place for an integer.
            if unsafe { count(&mut len) } != 0 {
                return Ok(Vec::new());
            }
            let mut numbers = vec![0; usize::try_from(len).unwrap_or(0)];
            // SAFETY: as many places as NVRTC counted.
            let answer = unsafe { list(numbers.as_mut_ptr()) };
            Ok(numbers
                .iter()
                .filter(|number| answer == 0 && **number > 0)
                .map(|&number| (number as u32 / 10, number as u32 % 10))
                .collect())
        };
        Ok(Self {
            cubin: cubin().ok(),
            architectures: architectures().unwrap_or_default(),
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

    /// The compute capabilities that it compiles for, such as (8, 6), ascending; empty where it cannot tell (before 11.2).
    pub fn architectures(&self) -> &[(u32, u32)] {
        &self.architectures
    }

    /// Whether it hands out machine code, not only PTX.
    pub const fn makes_machine_code(&self) -> bool {
        self.cubin.is_some()
    }

    /// PTX of a program.
    ///
    /// # Errors
    /// [`ToolkitError::HoldsNul`]; [`ToolkitError::Refused`] with the compiler's messages; [`ToolkitError::NoBuiltins`];
    /// [`ToolkitError::NoCode`].
    pub fn compile(&self, source: &Source<'_>) -> Result<String, ToolkitError> {
        let program = self.compiled(source)?;
        let ptx = text(program.fetch(self.ptx_size, self.ptx));
        match ptx.is_empty() {
            true => Err(ToolkitError::NoCode {
                name: source.name.to_owned(),
                kind: "PTX",
            }),
            false => Ok(ptx),
        }
    }

    /// Machine code of a program whose options name a real architecture, such as `--gpu-architecture=sm_86`.
    ///
    /// # Errors
    /// As [`Nvrtc::compile`].
    pub fn compile_to_machine_code(&self, source: &Source<'_>) -> Result<Vec<u8>, ToolkitError> {
        let none = || ToolkitError::NoCode {
            name: source.name.to_owned(),
            kind: "machine code",
        };
        let (size, fetch) = self.cubin.ok_or_else(none)?;
        let code = self.compiled(source)?.fetch(size, fetch);
        match code.is_empty() {
            true => Err(none()),
            false => Ok(code),
        }
    }

    fn compiled(&self, source: &Source<'_>) -> Result<CompiledProgram<'_>, ToolkitError> {
        let name = || source.name.to_owned();
        let c_text = |what: &'static str, text: &str| {
            CString::new(text).map_err(|_| ToolkitError::HoldsNul { name: name(), what })
        };
        let (c_source, c_name) = (c_text("source", source.text)?, c_text("name", source.name)?);
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
        let refused = |code, log: &str| match code {
            BUILTIN_OPERATION_FAILURE => ToolkitError::NoBuiltins {
                version: self.version,
                beside: self.path.clone(),
                log: log.trim_end().to_owned(),
            },
            _ => ToolkitError::Refused {
                name: name(),
                code,
                log: log.trim_end().to_owned(),
            },
        };

        let mut handle = std::ptr::null_mut();
        // SAFETY: NUL-terminated texts that outlive the program, and as many headers as announced.
        let created = unsafe {
            (self.create)(
                &mut handle,
                c_source.as_ptr(),
                c_name.as_ptr(),
                headers.len() as c_int,
                header_texts.as_ptr(),
                header_names.as_ptr(),
            )
        };
        if created != 0 {
            return Err(refused(created, ""));
        }
        let program = CompiledProgram(self, handle);
        // SAFETY: a living program and as many NUL-terminated options as announced.
        let compiled =
            unsafe { (self.compile)(program.1, pointers.len() as c_int, pointers.as_ptr()) };
        if compiled != 0 {
            let log = text(program.fetch(self.log_size, self.log));
            return Err(refused(compiled, &log));
        }
        Ok(program)
    }
}

/// A program that NVRTC holds until this is dropped.
struct CompiledProgram<'a>(&'a Nvrtc, Handle);

impl Drop for CompiledProgram<'_> {
    fn drop(&mut self) {
        // SAFETY: a program that was created and not destroyed.
        unsafe { (self.0.destroy)(&mut self.1) };
    }
}

impl CompiledProgram<'_> {
    /// What NVRTC made of the program; empty where it gives none.
    fn fetch(&self, size: Size, fetch: Fetch) -> Vec<u8> {
        let mut bytes = 0;
        // SAFETY: a living program and a place for the size.
        if unsafe { size(self.1, &mut bytes) } != 0 || bytes == 0 {
            return Vec::new();
        }
        let mut result = vec![0u8; bytes];
        // SAFETY: the buffer has the size that NVRTC asked for.
        match unsafe { fetch(self.1, result.as_mut_ptr().cast()) } {
            0 => result,
            _ => Vec::new(),
        }
    }
}

/// NVRTC's texts end with a NUL.
fn text(bytes: Vec<u8>) -> String {
    CStr::from_bytes_until_nul(&bytes).map_or_else(
        |_| String::from_utf8_lossy(&bytes).into_owned(),
        |text| text.to_string_lossy().into_owned(),
    )
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
    fn machine_code_is_for_the_architecture_that_the_options_name() {
        let Some(nvrtc) = nvrtc() else { return };
        assert!(nvrtc.architectures().contains(&(8, 6)), "since CUDA 11.2");
        assert!(nvrtc.architectures().is_sorted());
        assert!(nvrtc.makes_machine_code());
        let text = "extern \"C\" __global__ void scale(float* x) { *x *= 3.0f; }";
        let of = |architecture: &str| {
            let options = [format!("--gpu-architecture={architecture}")];
            nvrtc.compile_to_machine_code(&Source {
                options: &options,
                ..source(text, &[])
            })
        };
        let code = of("sm_86").expect("compiles");
        assert!(code.starts_with(b"\x7fELF"));
        // A virtual architecture has PTX only.
        let none = ToolkitError::NoCode {
            name: "a.cu".to_owned(),
            kind: "machine code",
        };
        assert_eq!(of("compute_86"), Err(none));
    }

    /// The compiler keeps its device headers in a library of its own, which a copy of NVRTC alone lacks.
    #[test]
    fn a_compiler_without_its_builtins_is_named_as_such() {
        let Some(nvrtc) = nvrtc() else { return };
        if !nvrtc.path().is_file() {
            eprintln!("NOT TESTED: the loader found NVRTC by its name");
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let alone = folder.path().join("libnvrtc.so.12");
        std::fs::copy(nvrtc.path(), &alone).expect("copied");
        // The loader would find the builtins that the other copy has loaded; so a process of its own tries this.
        let output = std::process::Command::new(std::env::current_exe().expect("a test"))
            .args([
                "--ignored",
                "--exact",
                "nvrtc::tests::compiles_with_the_named_library",
            ])
            .arg("--nocapture")
            .env("MEDFUSION_NVRTC", &alone)
            .output()
            .expect("runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            said.contains("libnvrtc-builtins, which belongs beside"),
            "{said}"
        );
        assert!(said.contains(alone.to_str().expect("UTF-8")), "{said}");
    }

    #[test]
    #[ignore = "run by a_compiler_without_its_builtins_is_named_as_such"]
    fn compiles_with_the_named_library() {
        let nvrtc = shared().expect("loads");
        let error = nvrtc.compile(&source("__global__ void f() {}", &[]));
        let Err(error @ ToolkitError::NoBuiltins { .. }) = error else {
            panic!("{error:?}");
        };
        eprintln!("{error}");
    }

    #[test]
    fn a_file_that_is_no_library_is_refused() {
        assert!(Nvrtc::open(Path::new("/nowhere/libnvrtc.so.12")).is_err());
        let folder = tempfile::tempdir().expect("a folder");
        let (nowhere, text) = (folder.path().join("none.so"), folder.path().join("text.so"));
        std::fs::write(&text, "no library").expect("written");
        let Err(error) = first_of(vec![nowhere, text]) else {
            panic!("nothing to load");
        };
        let error = error.to_string();
        assert!(error.contains("none.so, "), "{error}");
        assert!(error.contains("text.so, which does not load: "), "{error}");
    }
}
