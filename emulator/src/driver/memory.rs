//! Device memory, stream-ordered memory and its pools, pinned, registered and managed host memory.

use std::ffi::c_void;
use std::sync::Arc;

use super::abi::{DevicePtr, Handle, HostPtr, In, MemLocation, MemPoolProps, Out};
use super::capture;
use super::device;
use super::entry::api;
use super::error::{CudaError, Result};
use super::objects::{DeviceAllocation, GraphMemory, HostRange, Pool, Purpose, Work};
use super::process::{Driver, check_context, in_context};
use super::state::{DriverState, HandleKind};
use crate::limits;
use crate::memory::AllocationKind;

/// Row pitch granularity of `cuMemAllocPitch`, in bytes.
const PITCH: usize = 512;

/// Allocates and notes the owner. If the device is full, runs the pending work, which may free memory, and tries again.
fn allocate(out: Out<DevicePtr>, bytes: usize, purpose: Purpose, label: &str) -> Result<()> {
    if out.is_null() || bytes == 0 {
        return Err(CudaError::INVALID_VALUE);
    }
    let (driver, state, ctx) = in_context()?;
    drop(state);
    let kind = if purpose == Purpose::Managed {
        AllocationKind::Host
    } else {
        AllocationKind::Device
    };
    let request = bytes as u64;
    let address = driver
        .memory
        .alloc_kind(request, label, kind)
        .or_else(|_| {
            driver.drain(ctx);
            driver.memory.alloc_kind(request, label, kind)
        })
        .map_err(|_| CudaError::OUT_OF_MEMORY)?;
    let mut state = driver.lock();
    state.allocations.insert(
        address,
        DeviceAllocation {
            bytes,
            ctx,
            purpose,
        },
    );
    if let Purpose::Pooled(pool) = purpose
        && let Some(pool) = state.pools.get_mut(&pool)
    {
        pool.used += request;
        pool.used_high = pool.used_high.max(pool.used);
    }
    out.set(address)
}

fn refuse_in_capture() -> Result<()> {
    let (_, mut state, _) = in_context()?;
    capture::check_synchronous(&mut state, None)
}

/// Takes an allocation out of the driver's table.
fn forget(state: &mut DriverState, address: DevicePtr) -> Option<DeviceAllocation> {
    let allocation = state.allocations.remove(&address)?;
    if let Purpose::Pooled(pool) = allocation.purpose
        && let Some(pool) = state.pools.get_mut(&pool)
    {
        pool.used = pool.used.saturating_sub(allocation.bytes as u64);
    }
    Some(allocation)
}

fn free_now(address: DevicePtr) -> Result<()> {
    if address == 0 {
        return Ok(());
    }
    let (driver, mut state, ctx) = in_context()?;
    capture::check_synchronous(&mut state, None)?;
    match state.allocations.get(&address) {
        Some(a) if !matches!(a.purpose, Purpose::Global(_)) => {}
        _ => return Err(CudaError::INVALID_VALUE),
    }
    drop(state);
    // As on the real device, a free waits for the work that may use the memory.
    driver.drain(ctx);
    let mut state = driver.lock();
    state.current()?;
    let Some(allocation) = forget(&mut state, address) else {
        return Err(CudaError::INVALID_VALUE);
    };
    drop(state);
    if allocation.purpose == Purpose::Graph {
        return Ok(());
    }
    driver
        .memory
        .free(address)
        .map_err(|_| CudaError::INVALID_VALUE)
}

fn alloc_async(
    out: Out<DevicePtr>,
    bytes: usize,
    pool: Option<Handle>,
    stream: Handle,
) -> Result<()> {
    let (driver, mut state, ctx) = in_context()?;
    if bytes == 0 {
        // Unlike `cuMemAlloc`, an empty allocation is a null pointer.
        return out.set(0);
    }
    let pool = pool.unwrap_or(state.current_pool);
    if !state.pools.contains_key(&pool) {
        return Err(CudaError::INVALID_VALUE);
    }
    let stream = state.stream_of(ctx, stream)?;
    let capturing = state.stream(stream)?.capture.is_some();
    drop(state);
    if !capturing {
        // The memory is allocated at once. Its users come later in the stream, so that is early enough.
        return allocate(out, bytes, Purpose::Pooled(pool), "cuMemAllocAsync");
    }
    let memory = graph_memory(driver, ctx, bytes)?;
    let mut state = driver.lock();
    out.set(memory.address)?;
    state
        .submit(driver, stream, Work::GraphAlloc(memory))
        .map(|_| ())
}

/// Memory for a graph's allocation node.
///
/// # Errors
/// `OUT_OF_MEMORY`.
pub fn graph_memory(
    driver: &'static Driver,
    ctx: Handle,
    bytes: usize,
) -> Result<Arc<GraphMemory>> {
    let address = driver
        .memory
        .alloc(bytes as u64, "graph allocation")
        .map_err(|_| CudaError::OUT_OF_MEMORY)?;
    let memory = Arc::new(GraphMemory {
        address,
        bytes,
        device: &driver.memory,
    });
    let mut state = driver.lock();
    state.allocations.insert(
        address,
        DeviceAllocation {
            bytes,
            ctx,
            purpose: Purpose::Graph,
        },
    );
    state.graph_memory.push((address, Arc::downgrade(&memory)));
    Ok(memory)
}

fn free_async(address: DevicePtr, stream: Handle) -> Result<()> {
    let (driver, mut state, ctx) = in_context()?;
    if address == 0 {
        return Ok(());
    }
    let stream = state.stream_of(ctx, stream)?;
    let allocation = state
        .allocations
        .get_mut(&address)
        .filter(|a| {
            matches!(
                a.purpose,
                Purpose::Plain | Purpose::Pooled(_) | Purpose::Graph
            )
        })
        .ok_or(CudaError::INVALID_VALUE)?;
    if allocation.purpose == Purpose::Graph {
        return state
            .submit(driver, stream, Work::GraphFree(address))
            .map(|_| ());
    }
    if state.stream(stream)?.capture.is_some() {
        return Err(CudaError::INVALID_VALUE);
    }
    capture::check_implicit(&mut state, stream)?;
    forget(&mut state, address);
    drop(state);
    driver.enqueue(stream, Work::Free(address))
}

fn host_alloc(out: Out<*mut c_void>, bytes: usize, flags: u32) -> Result<()> {
    // PORTABLE, DEVICEMAP, WRITECOMBINED.
    if out.is_null() || bytes == 0 || flags & !7 != 0 {
        return Err(CudaError::INVALID_VALUE);
    }
    refuse_in_capture()?;
    let (driver, mut state, ctx) = in_context()?;
    let address = driver
        .memory
        .alloc_kind(bytes as u64, "pinned host memory", AllocationKind::Host)
        .map_err(|_| CudaError::OUT_OF_MEMORY)?;
    state.host_ranges.insert(
        address as usize,
        HostRange {
            bytes,
            ctx,
            flags,
            allocated: true,
        },
    );
    out.set(address as *mut c_void)
}

fn host_free(address: usize) -> Result<()> {
    let (driver, state, ctx) = in_context()?;
    if !state.host_ranges.get(&address).is_some_and(|r| r.allocated) {
        return Err(CudaError::INVALID_VALUE);
    }
    drop(state);
    driver.drain(ctx);
    driver.lock().host_ranges.remove(&address);
    driver
        .memory
        .free(address as u64)
        .map_err(|_| CudaError::INVALID_VALUE)
}

/// Frees what a context still holds, and reports what the program should have freed.
pub fn release_context(driver: &'static Driver, state: &mut DriverState, ctx: Handle) {
    let leaked: Vec<_> = state
        .allocations
        .iter()
        .filter(|(_, a)| a.ctx == ctx)
        .map(|(address, a)| (*address, *a))
        .collect();
    let mut reports = Vec::new();
    for (address, allocation) in leaked {
        forget(state, address);
        // Graphs and modules free what is theirs.
        if matches!(allocation.purpose, Purpose::Graph | Purpose::Global(_)) {
            continue;
        }
        let label = driver
            .memory
            .find(address)
            .map_or(String::new(), |found| found.describe(address));
        let _ = driver.memory.free(address);
        reports.push(label);
    }
    let pinned: Vec<_> = state
        .host_ranges
        .iter()
        .filter(|(_, r)| r.ctx == ctx)
        .map(|(address, r)| (*address, *r))
        .collect();
    for (address, range) in pinned {
        state.host_ranges.remove(&address);
        if range.allocated {
            reports.push(format!(
                "pinned host memory of {} bytes at {address:#x}",
                range.bytes
            ));
            let _ = driver.memory.free(address as u64);
        }
    }
    state.settings.report_leaks(&reports);
}

/// `CUpointer_attribute`s of an address.
fn pointer_attribute(out: Out<u8>, attribute: u32, address: DevicePtr) -> Result<()> {
    let (_, state, _) = in_context()?;
    let device = state.device_range(address, 0).ok();
    let host = state.host_range(address as usize, 0);
    let (base, bytes, ctx) = match (device, host) {
        (Some((base, a)), _) => (base, a.bytes, a.ctx),
        (None, Some((base, r))) => (base as u64, r.bytes, r.ctx),
        (None, None) => return Err(CudaError::INVALID_VALUE),
    };
    let managed = device.is_some_and(|(_, a)| a.purpose == Purpose::Managed);
    let on_host = host.is_some() || managed;
    match attribute {
        1 => out.cast::<Handle>().set(ctx),
        2 => out.cast::<u32>().set(if device.is_some() { 2 } else { 1 }),
        3 => out.cast::<u64>().set(address),
        4 if on_host => out.cast::<u64>().set(address),
        4 => Err(CudaError::INVALID_VALUE),
        6 => out.cast::<u32>().set(0),
        7 => out.cast::<u64>().set(base >> 9),
        8 => out.cast::<u32>().set(u32::from(managed)),
        9 => out.cast::<i32>().set(0),
        10 => out.cast::<u32>().set(0),
        11 => out.cast::<u64>().set(base),
        12 => out.cast::<usize>().set(bytes),
        13 => out.cast::<u32>().set(1),
        14 | 15 => out.cast::<u32>().set(0),
        16 => out.cast::<u32>().set(3),
        17 => out.cast::<Handle>().set(match device {
            Some((
                _,
                DeviceAllocation {
                    purpose: Purpose::Pooled(pool),
                    ..
                },
            )) => pool,
            _ => 0,
        }),
        _ => Err(CudaError::NOT_SUPPORTED),
    }
}

fn pool_attribute(pool: Handle, attribute: u32, value: Out<u8>, write: bool) -> Result<()> {
    let driver = Driver::get()?;
    let mut state = driver.lock();
    let pool = state.pools.get_mut(&pool).ok_or(CudaError::INVALID_VALUE)?;
    let value64 = value.cast::<u64>();
    match (attribute, write) {
        (1..=3, true) => pool.reuse[attribute as usize - 1] = value.cast::<u32>().get()?,
        (1..=3, false) => value
            .cast::<u32>()
            .set(pool.reuse[attribute as usize - 1])?,
        (4, true) => pool.release_threshold = value64.get()?,
        (4, false) => value64.set(pool.release_threshold)?,
        (5 | 7, false) => value64.set(pool.used)?,
        (6 | 8, false) => value64.set(pool.used_high)?,
        // The high-water marks can only be reset.
        (6 | 8, true) if value64.get()? == 0 => pool.used_high = pool.used,
        _ => return Err(CudaError::INVALID_VALUE),
    }
    Ok(())
}

api! {
    fn cuMemAlloc_v2(address: Out<DevicePtr>, bytes: usize) {
        refuse_in_capture()?;
        allocate(address, bytes, Purpose::Plain, "cuMemAlloc")
    }

    fn cuMemAllocPitch_v2(
        address: Out<DevicePtr>,
        pitch: Out<usize>,
        width: usize,
        height: usize,
        element: u32,
    ) {
        if !matches!(element, 4 | 8 | 16) || width == 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        refuse_in_capture()?;
        let row = width.checked_next_multiple_of(PITCH).ok_or(CudaError::OUT_OF_MEMORY)?;
        let bytes = row.checked_mul(height).ok_or(CudaError::OUT_OF_MEMORY)?;
        pitch.set(row)?;
        allocate(address, bytes, Purpose::Plain, "cuMemAllocPitch")
    }

    fn cuMemAllocManaged(address: Out<DevicePtr>, bytes: usize, flags: u32) {
        // CU_MEM_ATTACH_GLOBAL, _HOST.
        if !matches!(flags, 1 | 2) {
            return Err(CudaError::INVALID_VALUE);
        }
        refuse_in_capture()?;
        allocate(address, bytes, Purpose::Managed, "cuMemAllocManaged")
    }

    fn cuMemFree_v2(address: DevicePtr) {
        free_now(address)
    }

    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) {
        let memory = &in_context()?.0.memory;
        free.set_if_wanted(memory.capacity().saturating_sub(memory.used()) as usize);
        total.set_if_wanted(limits::TOTAL_MEMORY as usize);
        Ok(())
    }

    fn cuMemGetAddressRange_v2(base: Out<DevicePtr>, size: Out<usize>, address: DevicePtr) {
        let (_, state, _) = in_context()?;
        let (start, allocation) = state.device_range(address, 0).map_err(|_| CudaError::NOT_FOUND)?;
        base.set_if_wanted(start);
        size.set_if_wanted(allocation.bytes);
        Ok(())
    }

    fn cuMemAllocAsync(address: Out<DevicePtr>, bytes: usize, stream: Handle) {
        alloc_async(address, bytes, None, stream)
    }

    fn cuMemAllocFromPoolAsync(address: Out<DevicePtr>, bytes: usize, pool: Handle, stream: Handle) {
        alloc_async(address, bytes, Some(pool), stream)
    }

    fn cuMemFreeAsync(address: DevicePtr, stream: Handle) {
        free_async(address, stream)
    }

    fn cuMemAllocHost_v2(address: Out<*mut c_void>, bytes: usize) {
        host_alloc(address, bytes, 0)
    }

    fn cuMemHostAlloc(address: Out<*mut c_void>, bytes: usize, flags: u32) {
        host_alloc(address, bytes, flags)
    }

    fn cuMemFreeHost(address: HostPtr) {
        host_free(address.address())
    }

    fn cuMemHostGetDevicePointer_v2(device: Out<DevicePtr>, host: HostPtr, flags: u32) {
        let (_, state, _) = in_context()?;
        match state.host_range(host.address(), 0) {
            Some((_, range)) if flags == 0 && range.allocated => device.set(host.address() as u64),
            // Registered memory is not in the device's address space: kernels here cannot reach it.
            Some(_) if flags == 0 => Err(CudaError::NOT_SUPPORTED),
            _ => Err(CudaError::INVALID_VALUE),
        }
    }

    fn cuMemHostGetFlags(flags: Out<u32>, host: HostPtr) {
        let (_, state, _) = in_context()?;
        match state.host_range(host.address(), 0) {
            // With unified addressing all pinned memory is mapped.
            Some((_, range)) => flags.set(range.flags | 2),
            None => Err(CudaError::INVALID_VALUE),
        }
    }

    fn cuMemHostRegister_v2(host: HostPtr, bytes: usize, flags: u32) {
        let (_, mut state, ctx) = in_context()?;
        let address = host.address();
        if address == 0 || bytes == 0 || address.checked_add(bytes).is_none() || flags & !0xf != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        let overlaps = state
            .host_ranges
            .range(..address + bytes)
            .next_back()
            .is_some_and(|(base, range)| base + range.bytes > address);
        if overlaps {
            return Err(CudaError::HOST_MEMORY_ALREADY_REGISTERED);
        }
        state.host_ranges.insert(address, HostRange { bytes, ctx, flags, allocated: false });
        Ok(())
    }

    fn cuMemHostUnregister(host: HostPtr) {
        let (driver, state, ctx) = in_context()?;
        if state.host_ranges.get(&host.address()).is_none_or(|r| r.allocated) {
            return Err(CudaError::HOST_MEMORY_NOT_REGISTERED);
        }
        drop(state);
        driver.drain(ctx);
        driver.lock().host_ranges.remove(&host.address());
        Ok(())
    }

    fn cuMemAdvise(address: DevicePtr, bytes: usize, _advice: u32, _device: i32) {
        managed_range(address, bytes)
    }

    fn cuMemAdvise_v2(address: DevicePtr, bytes: usize, _advice: u32, _location: MemLocation) {
        managed_range(address, bytes)
    }

    fn cuMemPrefetchAsync(address: DevicePtr, bytes: usize, _device: i32, stream: Handle) {
        managed_range(address, bytes)?;
        Driver::get()?.enqueue(stream, Work::Empty)
    }

    fn cuMemPrefetchAsync_v2(
        address: DevicePtr,
        bytes: usize,
        _location: MemLocation,
        _flags: u32,
        stream: Handle,
    ) {
        managed_range(address, bytes)?;
        Driver::get()?.enqueue(stream, Work::Empty)
    }

    fn cuPointerGetAttribute(data: Out<u8>, attribute: u32, address: DevicePtr) {
        pointer_attribute(data, attribute, address)
    }

    fn cuPointerGetAttributes(count: u32, attributes: In<u32>, data: In<Out<u8>>, address: DevicePtr) {
        check_context()?;
        for i in 0..count as usize {
            let out = data.get_at(i)?;
            // An attribute that the address does not have is left 0, as documented; all are at least one word.
            if pointer_attribute(out, attributes.get_at(i)?, address).is_err() {
                out.cast::<u32>().set(0)?;
            }
        }
        Ok(())
    }

    fn cuDeviceGetDefaultMemPool(pool: Out<Handle>, device: i32) {
        device::check(device)?;
        pool.set(Driver::get()?.lock().default_pool)
    }

    fn cuDeviceGetMemPool(pool: Out<Handle>, device: i32) {
        device::check(device)?;
        pool.set(Driver::get()?.lock().current_pool)
    }

    fn cuDeviceSetMemPool(device: i32, pool: Handle) {
        device::check(device)?;
        let mut state = Driver::get()?.lock();
        if !state.pools.contains_key(&pool) {
            return Err(CudaError::INVALID_VALUE);
        }
        state.current_pool = pool;
        Ok(())
    }

    fn cuMemPoolCreate(pool: Out<Handle>, properties: In<MemPoolProps>) {
        let properties = properties.get()?;
        let driver = Driver::get()?;
        // CU_MEM_ALLOCATION_TYPE_PINNED on CU_MEM_LOCATION_TYPE_DEVICE 0, not shared with other processes.
        if pool.is_null() || properties.alloc_type != 1 || properties.location.kind != 1 {
            return Err(CudaError::INVALID_VALUE);
        }
        device::check(properties.location.id)?;
        if properties.handle_types != 0 {
            return Err(CudaError::NOT_SUPPORTED);
        }
        let mut state = driver.lock();
        let handle = state.new_handle(HandleKind::Pool);
        state.pools.insert(handle, Pool::default());
        pool.set(handle)
    }

    fn cuMemPoolDestroy(pool: Handle) {
        let mut state = Driver::get()?.lock();
        if pool == state.default_pool || state.pools.remove(&pool).is_none() {
            return Err(CudaError::INVALID_VALUE);
        }
        if state.current_pool == pool {
            state.current_pool = state.default_pool;
        }
        Ok(())
    }

    fn cuMemPoolTrimTo(pool: Handle, _keep: usize) {
        // Freed memory is never kept, so there is nothing to give back.
        match Driver::get()?.lock().pools.get(&pool) {
            Some(_) => Ok(()),
            None => Err(CudaError::INVALID_VALUE),
        }
    }

    fn cuMemPoolGetAttribute(pool: Handle, attribute: u32, value: Out<u8>) {
        pool_attribute(pool, attribute, value, false)
    }

    fn cuMemPoolSetAttribute(pool: Handle, attribute: u32, value: Out<u8>) {
        pool_attribute(pool, attribute, value, true)
    }
}

fn managed_range(address: DevicePtr, bytes: usize) -> Result<()> {
    let (_, state, _) = in_context()?;
    match state.device_range(address, bytes) {
        Ok((_, a)) if a.purpose == Purpose::Managed => Ok(()),
        _ => Err(CudaError::INVALID_VALUE),
    }
}
