//! Launch and occupancy calls. A launch is checked when it is submitted; `work` runs it later.

use std::ffi::c_void;
use std::sync::Arc;

use super::abi::{BlockToShared, Handle, In, LaunchConfigEx, Out};
use super::entry::api;
use super::error::{CudaError, Result};
use super::objects::{KernelWork, LoadedFunction, Work};
use super::process::{Driver, in_context};
use crate::exec::blocks_per_sm;
use crate::limits;

/// Markers in the `extra` array of a launch.
const PARAM_END: usize = 0;
const PARAM_BUFFER: usize = 1;
const PARAM_BUFFER_BYTES: usize = 2;

/// `CUlaunchAttributeID`s that decide something here.
mod attribute {
    pub const COOPERATIVE: u32 = 2;
    pub const CLUSTER_DIMENSION: u32 = 4;
    pub const LAST: u32 = 14;
}

/// Copies the parameters that a launch points to.
fn gather(function: &LoadedFunction, params: In<In<u8>>, extra: In<In<u8>>) -> Result<Vec<u8>> {
    let kernel = function.kernel();
    let mut buffer = vec![0u8; kernel.parameter_bytes as usize];
    if !params.is_null() && !extra.is_null() {
        return Err(CudaError::INVALID_VALUE);
    }
    if !extra.is_null() {
        let (mut from, mut bytes) = (None, None);
        let mut at = 0;
        loop {
            match extra.get_at(at)?.address() {
                PARAM_END => break,
                PARAM_BUFFER => from = Some(extra.get_at(at + 1)?),
                PARAM_BUFFER_BYTES => bytes = Some(extra.get_at(at + 1)?.cast::<usize>().get()?),
                _ => return Err(CudaError::INVALID_VALUE),
            }
            at += 2;
        }
        let (Some(from), Some(bytes)) = (from, bytes) else {
            return Err(CudaError::INVALID_VALUE);
        };
        if bytes < buffer.len() {
            return Err(CudaError::INVALID_VALUE);
        }
        buffer = from.list(buffer.len())?;
        return Ok(buffer);
    }
    for (index, parameter) in kernel.parameters.iter().enumerate() {
        let value = params.get_at(index)?.list(parameter.size as usize)?;
        let at = parameter.offset as usize;
        buffer
            .get_mut(at..at + value.len())
            .ok_or(CudaError::INVALID_VALUE)?
            .copy_from_slice(&value);
    }
    Ok(buffer)
}

/// Checks a launch and takes its parameters.
///
/// # Errors
/// `INVALID_HANDLE`, `INVALID_VALUE` for sizes that no kernel may have, `LAUNCH_OUT_OF_RESOURCES` for sizes that this
/// kernel may not have, `COOPERATIVE_LAUNCH_TOO_LARGE`.
pub fn kernel_work(
    function: Handle,
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    params: In<In<u8>>,
    extra: In<In<u8>>,
    cooperative: bool,
) -> Result<Work> {
    let (_, state, _) = in_context()?;
    let target = state.function(function)?;
    drop(state);
    check_sizes(&target, grid, block, shared_bytes, cooperative)?;
    let params = gather(&target, params, extra)?;
    let param_addresses = target
        .kernel()
        .parameters
        .iter()
        .map(|p| In::to(params.get(p.offset as usize..).unwrap_or_default()))
        .collect();
    Ok(Work::Kernel(Arc::new(KernelWork {
        function: target,
        handle: function,
        grid,
        block,
        shared_bytes,
        params,
        param_addresses,
        cooperative,
    })))
}

fn check_sizes(
    function: &LoadedFunction,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    cooperative: bool,
) -> Result<()> {
    let kernel = function.kernel();
    let outside = |size: [u32; 3], limit: [u32; 3]| {
        size.iter()
            .zip(limit)
            .any(|(n, limit)| *n == 0 || *n > limit)
    };
    if outside(grid, limits::GRID_DIM) || outside(block, limits::BLOCK_DIM) {
        return Err(CudaError::INVALID_VALUE);
    }
    let threads: u32 = block.iter().product();
    if threads > limits::THREADS_PER_BLOCK
        || kernel
            .required_threads
            .is_some_and(|required| required != block)
    {
        return Err(CudaError::INVALID_VALUE);
    }
    if threads > function.max_threads() {
        return Err(CudaError::LAUNCH_OUT_OF_RESOURCES);
    }
    if shared > function.max_dynamic_shared() {
        return Err(CudaError::INVALID_VALUE);
    }
    if cooperative {
        let resident = u64::from(blocks_per_sm(kernel, threads, shared)) * u64::from(limits::SMS);
        let blocks = grid
            .iter()
            .try_fold(1u64, |all, n| all.checked_mul(u64::from(*n)));
        if blocks.is_none_or(|blocks| blocks > resident) {
            return Err(CudaError::COOPERATIVE_LAUNCH_TOO_LARGE);
        }
    }
    Ok(())
}

fn launch_on(stream: Handle, work: Result<Work>) -> Result<()> {
    Driver::get()?.enqueue(stream, work?)
}

fn launch_ex(
    config: In<LaunchConfigEx>,
    function: Handle,
    params: In<In<u8>>,
    extra: In<In<u8>>,
) -> Result<()> {
    let config = config.get()?;
    let mut cooperative = false;
    for attr in config.attrs.list(config.num_attrs as usize)? {
        match attr.id {
            attribute::COOPERATIVE => cooperative = attr.value[0] != 0,
            // One block per cluster is no cluster.
            attribute::CLUSTER_DIMENSION if attr.value[..3].iter().any(|n| *n > 1) => {
                return Err(CudaError::INVALID_CLUSTER_SIZE);
            }
            // Scheduling hints.
            id if id <= attribute::LAST => {}
            _ => return Err(CudaError::INVALID_VALUE),
        }
    }
    launch_on(
        config.stream,
        kernel_work(
            function,
            config.grid,
            config.block,
            config.shared_bytes,
            params,
            extra,
            cooperative,
        ),
    )
}

fn function(handle: Handle) -> Result<Arc<LoadedFunction>> {
    in_context()?.1.function(handle)
}

fn active_blocks(out: Out<i32>, handle: Handle, threads: i32, shared: usize) -> Result<()> {
    let function = function(handle)?;
    let threads = u32::try_from(threads).map_err(|_| CudaError::INVALID_VALUE)?;
    if threads == 0 {
        return Err(CudaError::INVALID_VALUE);
    }
    let shared = u32::try_from(shared).unwrap_or(u32::MAX);
    let fits = threads <= function.max_threads();
    let blocks = if fits {
        blocks_per_sm(function.kernel(), threads, shared)
    } else {
        0
    };
    out.set(blocks as i32)
}

/// The block size with the most resident threads, and the grid that fills the device with such blocks.
fn potential_block(
    grid: Out<i32>,
    block: Out<i32>,
    handle: Handle,
    shared_of: Option<BlockToShared>,
    shared: usize,
    limit: i32,
) -> Result<()> {
    let function = function(handle)?;
    let kernel = function.kernel();
    let most = match u32::try_from(limit).map_err(|_| CudaError::INVALID_VALUE)? {
        0 => function.max_threads(),
        limit => limit.min(function.max_threads()),
    };
    let mut best = (0, 0, 0);
    // Of equal occupancies the largest block wins.
    for threads in (1..=most.div_ceil(32))
        .rev()
        .map(|warps| (warps * 32).min(most))
    {
        let bytes = match shared_of {
            // SAFETY: the program handed the function over to be called with block sizes.
            Some(shared_of) => unsafe { shared_of(threads as i32) },
            None => shared,
        };
        let blocks = blocks_per_sm(kernel, threads, u32::try_from(bytes).unwrap_or(u32::MAX));
        if blocks * threads > best.0 {
            best = (blocks * threads, blocks, threads);
        }
    }
    grid.set((best.1 * limits::SMS) as i32)?;
    block.set(best.2 as i32)
}

api! {
    fn cuLaunchKernel(
        function: Handle,
        grid_x: u32,
        grid_y: u32,
        grid_z: u32,
        block_x: u32,
        block_y: u32,
        block_z: u32,
        shared_bytes: u32,
        stream: Handle,
        params: In<In<u8>>,
        extra: In<In<u8>>,
    ) {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        launch_on(stream, kernel_work(function, grid, block, shared_bytes, params, extra, false))
    }

    fn cuLaunchCooperativeKernel(
        function: Handle,
        grid_x: u32,
        grid_y: u32,
        grid_z: u32,
        block_x: u32,
        block_y: u32,
        block_z: u32,
        shared_bytes: u32,
        stream: Handle,
        params: In<In<u8>>,
    ) {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        launch_on(stream, kernel_work(function, grid, block, shared_bytes, params, In::null(), true))
    }

    fn cuLaunchKernelEx(config: In<LaunchConfigEx>, function: Handle, params: In<In<u8>>, extra: In<In<u8>>) {
        launch_ex(config, function, params, extra)
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        blocks: Out<i32>,
        function: Handle,
        threads: i32,
        shared: usize,
    ) {
        active_blocks(blocks, function, threads, shared)
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        blocks: Out<i32>,
        function: Handle,
        threads: i32,
        shared: usize,
        _flags: u32,
    ) {
        active_blocks(blocks, function, threads, shared)
    }

    fn cuOccupancyMaxPotentialBlockSize(
        grid: Out<i32>,
        block: Out<i32>,
        function: Handle,
        shared_of: Option<BlockToShared>,
        shared: usize,
        limit: i32,
    ) {
        potential_block(grid, block, function, shared_of, shared, limit)
    }

    fn cuOccupancyMaxPotentialBlockSizeWithFlags(
        grid: Out<i32>,
        block: Out<i32>,
        function: Handle,
        shared_of: Option<BlockToShared>,
        shared: usize,
        limit: i32,
        _flags: u32,
    ) {
        potential_block(grid, block, function, shared_of, shared, limit)
    }

    fn cuOccupancyAvailableDynamicSMemPerBlock(
        bytes: Out<usize>,
        handle: Handle,
        blocks: i32,
        threads: i32,
    ) {
        let function = function(handle)?;
        let blocks = u32::try_from(blocks).ok().filter(|n| *n > 0).ok_or(CudaError::INVALID_VALUE)?;
        let threads = u32::try_from(threads).ok().filter(|n| *n > 0).ok_or(CudaError::INVALID_VALUE)?;
        if blocks_per_sm(function.kernel(), threads, 0) < blocks {
            return Err(CudaError::INVALID_VALUE);
        }
        let share = (limits::SHARED_PER_SM / blocks).saturating_sub(limits::RESERVED_SHARED_PER_BLOCK) / 128 * 128;
        let available = share.min(limits::SHARED_PER_BLOCK);
        bytes.set(available.saturating_sub(function.kernel().static_shared_bytes) as usize)
    }

    fn cuOccupancyMaxActiveClusters(clusters: Out<i32>, function: Handle, _config: *const c_void) {
        let _ = (clusters, function);
        Err(CudaError::INVALID_CLUSTER_SIZE)
    }

    fn cuOccupancyMaxPotentialClusterSize(size: Out<i32>, function: Handle, _config: *const c_void) {
        let _ = (size, function);
        Err(CudaError::INVALID_CLUSTER_SIZE)
    }
}
