//! CUDA C++ to PTX through NVRTC, which is looked for when it is first needed.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::Library;

use super::error::CudaError;
use crate::kernel::cuda::launch::{LAYOUT_ASSERTS, Program, source, sources};

const NAMES: [&str; 3] = ["libnvrtc.so.12", "libnvrtc.so.13", "libnvrtc.so"];

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

/// The functions of NVRTC; valid for ever, because the library is never unloaded.
pub(super) struct Nvrtc {
    create: Create,
    compile: Compile,
    ptx_size: Size,
    ptx: Fetch,
    log_size: Size,
    log: Fetch,
    destroy: Destroy,
    /// Major and minor.
    pub version: (i32, i32),
    pub path: PathBuf,
    _library: Library,
}

/// Where NVRTC may be, in the order to be tried; a bare name is the loader's to find.
fn candidates() -> Vec<PathBuf> {
    let folder_of = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    let mut found = Vec::new();
    if let Some(named) = folder_of("MEDFUSION_NVRTC") {
        if !named.is_dir() {
            // What the user names is taken or refused, never passed over.
            return vec![named];
        }
        found.extend(NAMES.iter().map(|name| named.join(name)));
        found.extend(NAMES.iter().map(|name| named.join("lib").join(name)));
    }
    for folder in ["CUDA_PATH", "CUDA_HOME"].into_iter().filter_map(folder_of) {
        for library in ["lib64", "lib", "targets/x86_64-linux/lib"] {
            found.extend(NAMES.iter().map(|name| folder.join(library).join(name)));
        }
    }
    found.retain(|path| path.is_file());
    found.extend(NAMES.iter().map(PathBuf::from));
    let starts = [std::env::current_exe().ok(), std::env::current_dir().ok()];
    let above = starts.iter().flatten().flat_map(|start| start.ancestors());
    found.extend(
        above
            .flat_map(|folder| [folder.join("nvrtc"), folder.join("target/nvrtc")])
            .flat_map(|folder| NAMES.map(|name| folder.join("nvidia/cuda_nvrtc/lib").join(name)))
            .filter(|path| path.is_file()),
    );
    found
}

fn open(path: &Path) -> Result<Nvrtc, libloading::Error> {
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
    Ok(Nvrtc {
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

/// NVRTC, loaded at the first call.
///
/// # Errors
/// Says where it was looked for and how to get it.
pub(super) fn nvrtc() -> Result<&'static Nvrtc, CudaError> {
    static NVRTC: OnceLock<Result<Nvrtc, String>> = OnceLock::new();
    let loaded = NVRTC.get_or_init(|| {
        let candidates = candidates();
        candidates
            .iter()
            .find_map(|path| open(path).ok())
            .ok_or_else(|| {
                let tried: Vec<String> =
                    candidates.iter().map(|p| p.display().to_string()).collect();
                format!("tried {}", tried.join(", "))
            })
    });
    loaded.as_ref().map_err(|tried| CudaError::NoNvrtc {
        tried: tried.clone(),
    })
}

/// A program that is destroyed in the end.
struct Owned<'a>(&'a Nvrtc, Handle);

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
            |_| String::new(),
            |text| text.to_string_lossy().into_owned(),
        )
    }
}

/// The whole text that is compiled: the file and the assertions on its parameter structs.
pub(super) fn program_text(program: &Program) -> Option<String> {
    let mut text = source(program.file)?.to_owned();
    text.push('\n');
    // A header's structs are asserted where it is included.
    for (file, asserts) in LAYOUT_ASSERTS {
        if *file == program.file || text.contains(&format!("#include \"{file}\"")) {
            text.push_str(asserts);
        }
    }
    Some(text)
}

/// Options for an architecture such as (8, 6).
pub(super) fn options(program: &Program, capability: (u32, u32)) -> Vec<String> {
    let mut options = vec![
        format!(
            "--gpu-architecture=compute_{}{}",
            capability.0, capability.1
        ),
        "--std=c++17".to_owned(),
        "--generate-line-info".to_owned(),
        "--device-as-default-execution-space".to_owned(),
    ];
    options.extend(
        program
            .constants
            .iter()
            .map(|(name, value)| format!("-D{name}={value}")),
    );
    options
}

/// Compiles a program of `kernels/` for an architecture.
///
/// # Errors
/// Where NVRTC is missing or too old, or the compiler's messages.
pub(super) fn compile(program: &Program, capability: (u32, u32)) -> Result<String, CudaError> {
    let nvrtc = nvrtc()?;
    if nvrtc.version.0 < 12 {
        return Err(CudaError::OldNvrtc {
            major: nvrtc.version.0,
            minor: nvrtc.version.1,
            path: nvrtc.path.clone(),
            capability: format!("{}.{}", capability.0, capability.1),
        });
    }
    let refused = |log: String| CudaError::Compile {
        program: program.to_string(),
        log,
    };
    let text = program_text(program)
        .ok_or_else(|| refused(format!("there is no kernels/{}", program.file)))?;
    let c_text =
        |text: &str| CString::new(text).map_err(|_| refused("the source holds a NUL".to_owned()));
    let (text, name) = (
        c_text(&text)?,
        c_text(&format!("kernels/{}", program.file))?,
    );
    let headers: Vec<(CString, CString)> = sources()
        .iter()
        .filter(|(name, _)| name.ends_with(".cuh"))
        .map(|(name, text)| Ok((c_text(name)?, c_text(text)?)))
        .collect::<Result<_, CudaError>>()?;
    let header_names: Vec<*const c_char> = headers.iter().map(|(name, _)| name.as_ptr()).collect();
    let header_texts: Vec<*const c_char> = headers.iter().map(|(_, text)| text.as_ptr()).collect();
    let all = options(program, capability);
    let all: Vec<CString> = all
        .iter()
        .map(|option| c_text(option))
        .collect::<Result<_, _>>()?;
    let pointers: Vec<*const c_char> = all.iter().map(|option| option.as_ptr()).collect();

    let mut handle = std::ptr::null_mut();
    // SAFETY: NUL-terminated texts that outlive the program, and as many headers as announced.
    let created = unsafe {
        (nvrtc.create)(
            &mut handle,
            text.as_ptr(),
            name.as_ptr(),
            headers.len() as c_int,
            header_texts.as_ptr(),
            header_names.as_ptr(),
        )
    };
    if created != 0 {
        return Err(refused(format!("NVRTC error {created}")));
    }
    let owned = Owned(nvrtc, handle);
    // SAFETY: a living program and as many NUL-terminated options as announced.
    let compiled = unsafe { (nvrtc.compile)(owned.1, pointers.len() as c_int, pointers.as_ptr()) };
    if compiled != 0 {
        let log = owned.fetch(nvrtc.log_size, nvrtc.log);
        return Err(refused(format!(
            "NVRTC error {compiled}\n{}",
            log.trim_end()
        )));
    }
    let ptx = owned.fetch(nvrtc.ptx_size, nvrtc.ptx);
    match ptx.is_empty() {
        true => Err(refused("NVRTC gave no PTX".to_owned())),
        false => Ok(ptx),
    }
}
