//! Running a case: compile, allocate, launch, compare.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Arg, Case, data, nvrtc};
use crate::counters::LaunchCounters;
use crate::exec::{Instance, LaunchConfig, LaunchError, Options, launch};
use crate::ir::{Kernel, Module};
use crate::limits;
use crate::memory::DeviceMemory;
use crate::ptx::LoadErrorKind;

/// The outcome of a case that passed.
#[derive(Debug)]
pub struct Passed {
    /// Largest difference to an expected float.
    pub largest_error: f64,
    /// The fault that was expected and came.
    pub fault: Option<String>,
    /// Time of the launch.
    pub time: Duration,
    /// Counters of the launch and the PTX they belong to, if they were asked for and the launch ended well.
    pub counters: Option<(Arc<str>, LaunchCounters)>,
}

/// A report of the emulator, with its name for `expect_error`.
struct Finding {
    name: &'static str,
    text: String,
}

/// Runs a case.
///
/// # Errors
/// Why the case failed: a wrong result, a fault that was not expected or not the expected one, or something that kept
/// it from running.
pub fn run(case: &Case, options: &Options) -> Result<Passed, String> {
    let ptx = read_ptx(case)?;
    let started = Instant::now();
    let outcome = execute(case, &ptx, options)?;
    let time = started.elapsed();
    match outcome {
        Ok((largest_error, counters)) if case.accepted_faults.is_empty() => Ok(Passed {
            largest_error,
            fault: None,
            time,
            counters: counters.map(|c| (ptx, c)),
        }),
        Ok(_) => Err(format!(
            "expected the report `{}`, but the launch ended without one",
            case.accepted_faults.join("` or `")
        )),
        Err(finding) if case.accepted_faults.iter().any(|name| name == finding.name) => {
            Ok(Passed {
                largest_error: 0.0,
                fault: Some(finding.text),
                time,
                counters: None,
            })
        }
        Err(finding) if case.accepted_faults.is_empty() => Err(finding.text),
        Err(finding) => Err(format!(
            "expected the report `{}`, but it was `{}`: {}",
            case.accepted_faults.join("` or `"),
            finding.name,
            finding.text
        )),
    }
}

fn read_ptx(case: &Case) -> Result<Arc<str>, String> {
    let shown = case.source.display();
    let bytes = std::fs::read(&case.source).map_err(|e| format!("could not read {shown}: {e}"))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{shown} is not text"))?;
    if case.source.extension().is_some_and(|e| e == "cu") {
        let name = case
            .source
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        return nvrtc::compile(&text, &name, &case.compiler_options).map(Arc::from);
    }
    Ok(text.trim_end_matches('\0').into())
}

type Measured = Result<(f64, Option<LaunchCounters>), Finding>;

/// What a launch gave: largest error and counters, or a report of the emulator. Where a function returns this inside a
/// `Result`, the outer error is a fault of the case itself.
fn execute(case: &Case, ptx: &str, options: &Options) -> Result<Measured, String> {
    let name = case
        .source
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let module = match Module::compile(ptx, &name) {
        Ok(module) => Arc::new(module),
        Err(error) => {
            return Ok(Err(Finding {
                name: match error.kind {
                    LoadErrorKind::Syntax | LoadErrorKind::Unresolved => "load",
                    LoadErrorKind::Unsupported | LoadErrorKind::Operand | LoadErrorKind::Limit => {
                        "unsupported"
                    }
                },
                text: error.to_string(),
            }));
        }
    };
    let kernel = module.kernel(&case.entry).ok_or_else(|| {
        let known: Vec<&str> = module.kernels().iter().map(|k| k.name.as_str()).collect();
        format!(
            "no kernel `{}`; the module has {}",
            case.entry,
            known.join(", ")
        )
    })?;
    let memory = DeviceMemory::new(limits::TOTAL_MEMORY)
        .map_err(|e| format!("could not reserve the device's address space: {e}"))?;
    let instance = Instance::new(&module, &memory).map_err(|e| e.to_string())?;
    let (params, addresses) = place(case, kernel, &memory)?;
    let config = LaunchConfig {
        kernel: &case.entry,
        grid: case.grid,
        block: case.block,
        dynamic_shared_bytes: case.shared,
        params: &params,
        cooperative: case.cooperative,
    };
    let report = match launch(&memory, &instance, &config, options) {
        Ok(report) => report,
        Err(LaunchError::Config(error)) => return Err(format!("launch refused: {error}")),
        Err(LaunchError::Fault(fault)) => {
            return Ok(Err(Finding {
                name: fault.kind.name(),
                text: format!("{fault} (seed {})", fault.seed),
            }));
        }
    };
    let mut largest = 0f64;
    for (index, (arg, address)) in case.args.iter().zip(addresses).enumerate() {
        let Arg::Buffer(buffer) = arg else { continue };
        let Some(expect) = &buffer.expect else {
            continue;
        };
        let mut got = vec![0; buffer.content.bytes.len()];
        if !got.is_empty() {
            memory
                .read(address, &mut got)
                .map_err(|e| format!("args[{index}]: {e}"))?;
        }
        let error = data::compare(buffer.dtype, &got, &expect.want, expect.rtol, expect.atol)
            .map_err(|e| format!("args[{index}]: {e}"))?;
        largest = largest.max(error);
    }
    Ok(Ok((largest, report.counters)))
}

/// Allocates the buffers and lays the arguments out; also gives each argument's address (0 for values).
fn place(
    case: &Case,
    kernel: &Kernel,
    memory: &DeviceMemory,
) -> Result<(Vec<u8>, Vec<u64>), String> {
    if case.args.len() != kernel.parameters.len() {
        return Err(format!(
            "the case gives {} arguments, kernel `{}` takes {}",
            case.args.len(),
            kernel.name,
            kernel.parameters.len()
        ));
    }
    let mut params = vec![0; kernel.parameter_bytes as usize];
    let mut addresses = Vec::new();
    for (index, (arg, parameter)) in case.args.iter().zip(&kernel.parameters).enumerate() {
        let mut address = 0;
        let bytes = match arg {
            Arg::Buffer(buffer) => {
                address =
                    allocate(memory, buffer, index).map_err(|e| format!("args[{index}]: {e}"))?;
                address.to_le_bytes().to_vec()
            }
            Arg::Scalar(dtype, bytes) => bytes[..dtype.bytes].to_vec(),
            Arg::Struct(bytes) => bytes.clone(),
            Arg::Null => vec![0; 8],
        };
        addresses.push(address);
        if bytes.len() != parameter.size as usize {
            return Err(format!(
                "args[{index}]: {} bytes, but parameter `{}` has {}",
                bytes.len(),
                parameter.name,
                parameter.size
            ));
        }
        let at = parameter.offset as usize;
        params
            .get_mut(at..at + bytes.len())
            .ok_or_else(|| {
                format!(
                    "args[{index}]: parameter `{}` is outside the buffer",
                    parameter.name
                )
            })?
            .copy_from_slice(&bytes);
    }
    Ok((params, addresses))
}

fn allocate(memory: &DeviceMemory, buffer: &super::Buffer, index: usize) -> Result<u64, String> {
    let bytes = &buffer.content.bytes;
    let address = memory
        .alloc(bytes.len() as u64, &format!("args[{index}]"))
        .map_err(|e| e.to_string())?;
    if !bytes.is_empty() {
        memory.write(address, bytes).map_err(|e| e.to_string())?;
        if buffer.uninit {
            memory
                .mark_uninit(address, bytes.len() as u64)
                .map_err(|e| e.to_string())?;
        }
    }
    if buffer.freed {
        memory.free(address).map_err(|e| e.to_string())?;
    }
    Ok(address)
}
