//! Contexts: the primary one, those made by hand, and which one is current on a thread.

use std::collections::HashMap;
use std::ffi::c_void;

use super::abi::{Handle, Out};
use super::device;
use super::entry::api;
use super::error::{CudaError, Result};
use super::memory;
use super::objects::Stream;
use super::process::{Driver, check_context, in_context};
use super::queue::forget_streams;
use super::state::{Context, DriverState, HandleKind};
use super::thread::ContextStack;

/// `CU_CTX_FLAGS_MASK`.
const FLAGS: u32 = 0xff;
/// Scheduling flags exclude each other.
const SCHED_MASK: u32 = 7;
/// Stack bytes per thread, printf queue, heap, launch depth, pending launches, L2 fetch bytes: the defaults of the
/// real driver.
const LIMITS: [usize; 6] = [1024, 1 << 20, 8 << 20, 2, 2048, 64];

fn create(state: &mut DriverState, flags: u32) -> Result<Handle> {
    if flags & !FLAGS != 0 || (flags & SCHED_MASK).count_ones() > 1 {
        return Err(CudaError::INVALID_VALUE);
    }
    let ctx = state.new_handle(HandleKind::Context);
    let legacy = state.new_handle(HandleKind::Stream);
    state.streams.insert(legacy, Stream::new(ctx, 0, 0, true));
    state.contexts.insert(
        ctx,
        Context {
            flags,
            legacy,
            per_thread: HashMap::new(),
            error: None,
            cache_config: 0,
            limits: LIMITS,
        },
    );
    Ok(ctx)
}

/// Ends a context: its work is finished, what it holds is freed and reported.
fn destroy(driver: &'static Driver, ctx: Handle) {
    driver.drain(ctx);
    let mut state = driver.lock();
    memory::release_context(driver, &mut state, ctx);
    state.modules.retain(|_, module| module.ctx != ctx);
    state
        .functions
        .retain(|_, function| function.module.ctx != ctx);
    forget_streams(&mut state, ctx);
    state.contexts.remove(&ctx);
    state.settings.write_counters();
}

fn create_and_push(out: Out<Handle>, flags: u32, device: i32) -> Result<()> {
    device::check(device)?;
    if out.is_null() {
        return Err(CudaError::INVALID_VALUE);
    }
    let ctx = create(&mut Driver::get()?.lock(), flags)?;
    ContextStack::push(ctx);
    out.set(ctx)
}

fn known(ctx: Handle) -> Result<Handle> {
    if Driver::get()?.lock().contexts.contains_key(&ctx) {
        Ok(ctx)
    } else {
        Err(CudaError::INVALID_CONTEXT)
    }
}

fn set_primary_flags(device: i32, flags: u32) -> Result<()> {
    device::check(device)?;
    let mut state = Driver::get()?.lock();
    if flags & !FLAGS != 0 || (flags & SCHED_MASK).count_ones() > 1 {
        return Err(CudaError::INVALID_VALUE);
    }
    state.primary_flags = flags;
    if let Some((ctx, _)) = state.primary {
        state.context(ctx)?.flags = flags;
    }
    Ok(())
}

fn release_primary(device: i32, all: bool) -> Result<()> {
    device::check(device)?;
    let driver = Driver::get()?;
    let mut state = driver.lock();
    let Some((ctx, references)) = state.primary else {
        return if all {
            Ok(())
        } else {
            Err(CudaError::INVALID_CONTEXT)
        };
    };
    if references > 1 && !all {
        state.primary = Some((ctx, references - 1));
        return Ok(());
    }
    state.primary = None;
    drop(state);
    destroy(driver, ctx);
    Ok(())
}

api! {
    fn cuDevicePrimaryCtxRetain(ctx: Out<Handle>, device: i32) {
        device::check(device)?;
        if ctx.is_null() {
            return Err(CudaError::INVALID_VALUE);
        }
        let mut state = Driver::get()?.lock();
        let (handle, references) = match state.primary {
            Some((handle, references)) => (handle, references + 1),
            None => {
                let flags = state.primary_flags;
                (create(&mut state, flags)?, 1)
            }
        };
        state.primary = Some((handle, references));
        ctx.set(handle)
    }

    fn cuDevicePrimaryCtxRelease_v2(device: i32) {
        release_primary(device, false)
    }

    fn cuDevicePrimaryCtxReset_v2(device: i32) {
        release_primary(device, true)
    }

    fn cuDevicePrimaryCtxSetFlags_v2(device: i32, flags: u32) {
        set_primary_flags(device, flags)
    }

    fn cuDevicePrimaryCtxGetState(device: i32, flags: Out<u32>, active: Out<i32>) {
        device::check(device)?;
        let state = Driver::get()?.lock();
        flags.set_if_wanted(state.primary_flags);
        active.set_if_wanted(i32::from(state.primary.is_some()));
        Ok(())
    }

    fn cuCtxCreate_v2(ctx: Out<Handle>, flags: u32, device: i32) {
        create_and_push(ctx, flags, device)
    }

    fn cuCtxCreate_v3(ctx: Out<Handle>, _affinity: *mut c_void, affinities: i32, flags: u32, device: i32) {
        if affinities != 0 {
            return Err(CudaError::NOT_SUPPORTED);
        }
        create_and_push(ctx, flags, device)
    }

    fn cuCtxCreate_v4(ctx: Out<Handle>, params: *mut c_void, flags: u32, device: i32) {
        // Execution affinity and contexts shared with a graphics API need hardware that is not emulated.
        if !params.is_null() {
            return Err(CudaError::NOT_SUPPORTED);
        }
        create_and_push(ctx, flags, device)
    }

    fn cuCtxDestroy_v2(ctx: Handle) {
        let driver = Driver::get()?;
        known(ctx)?;
        if driver.lock().primary.is_some_and(|(primary, _)| primary == ctx) {
            return Err(CudaError::INVALID_CONTEXT);
        }
        destroy(driver, ctx);
        if ContextStack::top() == Some(ctx) {
            ContextStack::pop();
        }
        Ok(())
    }

    fn cuCtxPushCurrent_v2(ctx: Handle) {
        ContextStack::push(known(ctx)?);
        Ok(())
    }

    fn cuCtxPopCurrent_v2(ctx: Out<Handle>) {
        Driver::get()?;
        let top = ContextStack::pop().ok_or(CudaError::INVALID_CONTEXT)?;
        ctx.set_if_wanted(top);
        Ok(())
    }

    fn cuCtxSetCurrent(ctx: Handle) {
        Driver::get()?;
        ContextStack::replace(if ctx == 0 { None } else { Some(known(ctx)?) });
        Ok(())
    }

    fn cuCtxGetCurrent(ctx: Out<Handle>) {
        Driver::get()?;
        ctx.set(ContextStack::top().unwrap_or(0))
    }

    fn cuCtxGetDevice(device: Out<i32>) {
        Driver::get()?;
        ContextStack::top().ok_or(CudaError::INVALID_CONTEXT)?;
        device.set(0)
    }

    fn cuCtxGetApiVersion(ctx: Handle, version: Out<u32>) {
        if ctx != 0 {
            known(ctx)?;
        }
        version.set(3020)
    }

    fn cuCtxGetId(ctx: Handle, id: Out<u64>) {
        let ctx = if ctx == 0 { in_context()?.2 } else { known(ctx)? };
        id.set(ctx >> 4 & 0xff_ffff_ffff)
    }

    fn cuCtxGetFlags(flags: Out<u32>) {
        let (_, mut state, ctx) = in_context()?;
        flags.set(state.context(ctx)?.flags)
    }

    fn cuCtxSetFlags(flags: u32) {
        let (_, mut state, ctx) = in_context()?;
        if flags & !FLAGS != 0 || (flags & SCHED_MASK).count_ones() > 1 {
            return Err(CudaError::INVALID_VALUE);
        }
        state.context(ctx)?.flags = flags;
        Ok(())
    }

    fn cuCtxGetLimit(value: Out<usize>, limit: u32) {
        let (_, mut state, ctx) = in_context()?;
        let limits = state.context(ctx)?.limits;
        value.set(*limits.get(limit as usize).ok_or(CudaError::UNSUPPORTED_LIMIT)?)
    }

    fn cuCtxSetLimit(limit: u32, value: usize) {
        let (_, mut state, ctx) = in_context()?;
        let limits = &mut state.context(ctx)?.limits;
        *limits.get_mut(limit as usize).ok_or(CudaError::UNSUPPORTED_LIMIT)? = value;
        Ok(())
    }

    fn cuCtxGetCacheConfig(config: Out<u32>) {
        let (_, mut state, ctx) = in_context()?;
        config.set(state.context(ctx)?.cache_config)
    }

    fn cuCtxSetCacheConfig(config: u32) {
        let (_, mut state, ctx) = in_context()?;
        if config > 3 {
            return Err(CudaError::INVALID_VALUE);
        }
        state.context(ctx)?.cache_config = config;
        Ok(())
    }

    fn cuCtxGetSharedMemConfig(config: Out<u32>) {
        check_context()?;
        // Banks of four bytes, the only width of this device.
        config.set(1)
    }

    fn cuCtxSetSharedMemConfig(config: u32) {
        check_context()?;
        if config > 2 { Err(CudaError::INVALID_VALUE) } else { Ok(()) }
    }

    fn cuCtxResetPersistingL2Cache() {
        check_context()
    }

    fn cuProfilerStart() {
        check_context()
    }

    fn cuProfilerStop() {
        check_context()
    }
}
