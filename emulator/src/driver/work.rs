//! Running a piece of work: a kernel, a copy, a fill, a host function, a graph.

use std::collections::HashMap;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::abi::Handle;
use super::error::{CudaError, Result};
use super::objects::{
    CopyEnd, CopyWork, ExecNode, FillWork, HostCall, KernelWork, Recording, Work,
};
use super::process::Driver;
use super::thread::in_callback;
use crate::check::{Fault, FaultKind};
use crate::exec::{ConfigError, LaunchConfig, LaunchError, launch};

/// Runs a piece of work on this thread.
///
/// # Errors
/// The error that stays with the context: a fault of a kernel, or an address that is not allocated any more.
pub fn run(driver: &'static Driver, work: &Work) -> Result<()> {
    catch_unwind(AssertUnwindSafe(|| run_unguarded(driver, work))).unwrap_or_else(|_| {
        eprintln!("cuda-emulator: internal error while running stream work; the context is lost");
        Err(CudaError::UNKNOWN)
    })
}

fn run_unguarded(driver: &'static Driver, work: &Work) -> Result<()> {
    match work {
        Work::Empty | Work::RecordNode(_) | Work::WaitNode(_) | Work::GraphFree(_) => Ok(()),
        Work::Kernel(kernel) => run_kernel(driver, kernel),
        Work::Copy(copy) => run_copy(driver, copy),
        Work::Fill(fill) => run_fill(driver, fill),
        Work::Host(call) => {
            run_host(*call);
            Ok(())
        }
        Work::Record(recording) => {
            let _ = recording.time.set(Instant::now());
            Ok(())
        }
        Work::Free(address) => lost(driver.memory.free(*address)),
        Work::GraphAlloc(memory) => lost(
            driver
                .memory
                .mark_uninit(memory.address, memory.bytes as u64),
        ),
        Work::Child(nodes) => run_graph(driver, nodes, &HashMap::new(), 0),
        Work::Graph(nodes, recordings, seed) => run_graph(driver, nodes, recordings, *seed),
        Work::WriteValue(address, value, bytes) => {
            let bytes = usize::from(*bytes).min(8);
            lost(driver.memory.write(*address, &value.to_le_bytes()[..bytes]))
        }
    }
}

/// Runs a kernel; the error is the one that a fault leaves in the context.
fn run_kernel(driver: &Driver, work: &KernelWork) -> Result<()> {
    let options = driver.lock().settings.options();
    let config = LaunchConfig {
        kernel: work.name(),
        grid: work.grid,
        block: work.block,
        dynamic_shared_bytes: work.shared_bytes,
        params: &work.params,
        cooperative: work.cooperative,
    };
    match launch(
        &driver.memory,
        work.function.module.instance()?,
        &config,
        &options,
    ) {
        Ok(report) => {
            if let Some(counters) = report.counters {
                let mut state = driver.lock();
                state.settings.count(&work.function.module.ptx, counters);
            }
            Ok(())
        }
        Err(LaunchError::Config(error)) => {
            eprintln!(
                "cuda-emulator: launch of `{}` refused: {error}",
                work.name()
            );
            Err(config_code(&error))
        }
        Err(LaunchError::Fault(fault)) => {
            let mut state = driver.lock();
            state.settings.report_fault(&fault);
            Err(fault_code(&fault))
        }
    }
}

fn config_code(error: &ConfigError) -> CudaError {
    match error {
        ConfigError::NoSuchKernel(_) => CudaError::NOT_FOUND,
        ConfigError::Registers { .. } => CudaError::LAUNCH_OUT_OF_RESOURCES,
        ConfigError::Cooperative { .. } => CudaError::COOPERATIVE_LAUNCH_TOO_LARGE,
        _ => CudaError::INVALID_VALUE,
    }
}

/// The code that the real device gives for this fault, or the closest for what it does not notice.
fn fault_code(fault: &Fault) -> CudaError {
    match fault.kind {
        FaultKind::OutOfBounds | FaultKind::UseAfterFree | FaultKind::ReadOnly => {
            CudaError::ILLEGAL_ADDRESS
        }
        FaultKind::Misaligned => CudaError::MISALIGNED_ADDRESS,
        FaultKind::Unsupported | FaultKind::BadTarget => CudaError::ILLEGAL_INSTRUCTION,
        FaultKind::Trap if fault.message.contains("assert") => CudaError::ASSERT,
        FaultKind::Deadlock => CudaError::LAUNCH_TIMEOUT,
        _ => CudaError::LAUNCH_FAILED,
    }
}

/// The error of work whose memory was freed after it was submitted.
fn lost<T, E: std::fmt::Display>(result: std::result::Result<T, E>) -> Result<()> {
    result.map(|_| ()).map_err(|error| {
        eprintln!("cuda-emulator: a copy, fill or free ran after its memory was gone: {error}");
        CudaError::ILLEGAL_ADDRESS
    })
}

fn run_copy(driver: &Driver, copy: &CopyWork) -> Result<()> {
    let mut row_bytes = Vec::new();
    for slice in 0..copy.depth {
        for row in 0..copy.height {
            let to_offset = slice * copy.to_pitch[1] + row * copy.to_pitch[0];
            let from_offset = slice * copy.from_pitch[1] + row * copy.from_pitch[0];
            match (&copy.to, &copy.from) {
                (CopyEnd::Device(to), CopyEnd::Device(from)) => lost(driver.memory.copy(
                    to + to_offset as u64,
                    from + from_offset as u64,
                    copy.width as u64,
                ))?,
                (CopyEnd::Device(to), CopyEnd::Staged(bytes)) => {
                    let bytes = bytes
                        .get(from_offset..from_offset + copy.width)
                        .ok_or(CudaError::INVALID_VALUE)?;
                    lost(driver.memory.write(to + to_offset as u64, bytes))?;
                }
                (CopyEnd::Device(to), CopyEnd::Host(from)) => {
                    row_bytes.resize(copy.width, 0);
                    read_host(from + from_offset, &mut row_bytes);
                    lost(driver.memory.write(to + to_offset as u64, &row_bytes))?;
                }
                (CopyEnd::Host(to), CopyEnd::Device(from)) => {
                    row_bytes.resize(copy.width, 0);
                    lost(
                        driver
                            .memory
                            .read(from + from_offset as u64, &mut row_bytes),
                    )?;
                    write_host(to + to_offset, &row_bytes);
                }
                (CopyEnd::Host(to), CopyEnd::Host(from)) => {
                    row_bytes.resize(copy.width, 0);
                    read_host(from + from_offset, &mut row_bytes);
                    write_host(to + to_offset, &row_bytes);
                }
                (CopyEnd::Host(to), CopyEnd::Staged(bytes)) => {
                    let bytes = bytes
                        .get(from_offset..from_offset + copy.width)
                        .ok_or(CudaError::INVALID_VALUE)?;
                    write_host(to + to_offset, bytes);
                }
                (CopyEnd::Staged(_), _) => return Err(CudaError::INVALID_VALUE),
            }
        }
    }
    Ok(())
}

/// Reads host memory.
pub fn read_host(address: usize, bytes: &mut [u8]) {
    // SAFETY: a copy's host range is promised by the caller of the driver API to be readable until the copy is done;
    // null was refused when the copy was submitted. `bytes` is a separate buffer.
    unsafe { std::ptr::copy(address as *const u8, bytes.as_mut_ptr(), bytes.len()) };
}

fn write_host(address: usize, bytes: &[u8]) {
    // SAFETY: as in `read_host`, for writing.
    unsafe { std::ptr::copy(bytes.as_ptr(), address as *mut u8, bytes.len()) };
}

fn run_fill(driver: &Driver, fill: &FillWork) -> Result<()> {
    let pattern = fill.value.to_le_bytes();
    for row in 0..fill.height {
        lost(driver.memory.fill(
            fill.to + (row * fill.pitch) as u64,
            &pattern[..fill.element],
            fill.width as u64,
        ))?;
    }
    Ok(())
}

fn run_host(call: HostCall) {
    in_callback(|| match call {
        HostCall::Plain { function, data } => {
            // SAFETY: the program handed over the function to be called with this data.
            unsafe { function(data as *mut c_void) };
        }
        HostCall::WithStatus {
            callback,
            stream,
            data,
        } => {
            // SAFETY: as above.
            unsafe { callback(stream, 0, data as *mut c_void) };
        }
    });
}

/// Runs the nodes in a random order that respects the edges, drawn from the seed, so that a missing edge shows.
fn run_graph(
    driver: &'static Driver,
    nodes: &[ExecNode],
    recordings: &HashMap<Handle, Arc<Recording>>,
    seed: u64,
) -> Result<()> {
    let mut missing: Vec<usize> = nodes.iter().map(|node| node.after.len()).collect();
    let mut ready: Vec<usize> = (0..nodes.len()).filter(|&i| missing[i] == 0).collect();
    let mut random = seed;
    while !ready.is_empty() {
        random = random
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        let node = ready.swap_remove((random >> 33) as usize % ready.len());
        if nodes[node].enabled {
            match &nodes[node].work {
                Work::RecordNode(_) => {
                    if let Some(recording) = recordings.get(&nodes[node].source) {
                        let _ = recording.time.set(Instant::now());
                    }
                }
                work => run_unguarded(driver, work)?,
            }
        }
        for (next, follower) in nodes.iter().enumerate() {
            let edges = follower
                .after
                .iter()
                .filter(|&&after| after == node)
                .count();
            if edges > 0 {
                missing[next] -= edges;
                if missing[next] == 0 {
                    ready.push(next);
                }
            }
        }
    }
    Ok(())
}
