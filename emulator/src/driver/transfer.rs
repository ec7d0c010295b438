//! Copies and fills: what the calls mean, checked when they are made; `work` runs them.
//!
//! An asynchronous copy from pageable host memory takes the bytes at once, one to pageable memory waits, and one from
//! or to pinned memory happens when the stream comes to it.

use std::sync::Arc;

use super::abi::{
    DevicePtr, Handle, HostPtr, In, Memcpy2d, Memcpy3d, MemsetNodeParams, memory_type,
};
use super::entry::api;
use super::error::{CudaError, Result};
use super::objects::{CopyEnd, CopyWork, FillWork, Work};
use super::process::{Driver, in_context};
use super::state::DriverState;
use super::work::read_host;

/// The default stream of the context.
const DEFAULT: Handle = 0;

/// The end of a copy at a unified address: device memory if something is allocated there, otherwise host memory.
fn unified(state: &DriverState, address: u64) -> CopyEnd {
    if state.device_range(address, 0).is_ok() {
        CopyEnd::Device(address)
    } else {
        CopyEnd::Host(address as usize)
    }
}

fn check_end(state: &DriverState, place: &CopyEnd, span: Option<usize>) -> Result<()> {
    let span = span.ok_or(CudaError::INVALID_VALUE)?;
    match place {
        // Nothing is copied, so nothing has to be there.
        _ if span == 0 => Ok(()),
        CopyEnd::Device(address) => state.reachable(*address, span),
        CopyEnd::Host(0) => Err(CudaError::INVALID_VALUE),
        _ => Ok(()),
    }
}

/// Checks both ends of a copy against what is allocated now.
fn check(state: &DriverState, copy: &CopyWork) -> Result<()> {
    check_end(state, &copy.to, copy.span(copy.to_pitch))?;
    check_end(state, &copy.from, copy.span(copy.from_pitch))
}

fn is_pageable(state: &DriverState, place: &CopyEnd, bytes: usize) -> bool {
    match place {
        CopyEnd::Host(address) => {
            state.host_range(*address, bytes).is_none()
                && state.device_range(*address as u64, bytes).is_err()
        }
        _ => false,
    }
}

/// A copy that the host waits for, on the default stream.
fn copy_now(mut copy: impl FnMut(&DriverState) -> Result<CopyWork>) -> Result<()> {
    let (driver, state, _) = in_context()?;
    let work = copy(&state)?;
    check(&state, &work)?;
    drop(state);
    if work.span(work.to_pitch) == Some(0) {
        return Ok(());
    }
    driver.run_now(DEFAULT, Work::Copy(work))
}

/// A copy in stream order.
fn copy_async(
    stream: Handle,
    mut copy: impl FnMut(&DriverState) -> Result<CopyWork>,
) -> Result<()> {
    let (driver, mut state, ctx) = in_context()?;
    let mut work = copy(&state)?;
    check(&state, &work)?;
    let internal = state.stream_of(ctx, stream)?;
    let capturing = state.stream(internal)?.capture.is_some();
    let to_bytes = work.span(work.to_pitch).unwrap_or(0);
    let from_bytes = work.span(work.from_pitch).unwrap_or(0);
    if to_bytes == 0 {
        return Ok(());
    }
    let waits = !capturing && is_pageable(&state, &work.to, to_bytes);
    if !capturing
        && is_pageable(&state, &work.from, from_bytes)
        && let CopyEnd::Host(address) = work.from
    {
        let mut bytes = vec![0; from_bytes];
        read_host(address, &mut bytes);
        work.from = CopyEnd::Staged(Arc::new(bytes));
    }
    drop(state);
    if waits {
        driver.run_now(stream, Work::Copy(work))
    } else {
        driver.enqueue(stream, Work::Copy(work))
    }
}

/// A `CUDA_MEMCPY3D` as work: ends and pitches with the offsets applied.
///
/// # Errors
/// `INVALID_VALUE` for pitches smaller than a row and for addresses that overflow, `NOT_SUPPORTED` for arrays.
pub fn copy_3d(params: Memcpy3d) -> Result<CopyWork> {
    let (_, state, _) = in_context()?;
    let work = describe_3d(&state, &params)?;
    check(&state, &work)?;
    Ok(work)
}

fn describe_3d(state: &DriverState, p: &Memcpy3d) -> Result<CopyWork> {
    let pitch = |pitch: usize, height: usize| -> Result<[usize; 2]> {
        let pitch = if pitch == 0 { p.width } else { pitch };
        let height = if height == 0 { p.height } else { height };
        if (p.height > 1 && pitch < p.width) || (p.depth > 1 && height < p.height) {
            return Err(CudaError::INVALID_VALUE);
        }
        Ok([
            pitch,
            pitch.checked_mul(height).ok_or(CudaError::INVALID_VALUE)?,
        ])
    };
    let place = |kind: u32,
                 host: usize,
                 device: u64,
                 pitch: [usize; 2],
                 at: [usize; 3]|
     -> Result<CopyEnd> {
        let offset = at[1]
            .checked_mul(pitch[0])
            .zip(at[2].checked_mul(pitch[1]))
            .and_then(|(rows, slices)| rows.checked_add(slices)?.checked_add(at[0]))
            .ok_or(CudaError::INVALID_VALUE)?;
        let shifted = |base: u64| {
            base.checked_add(offset as u64)
                .ok_or(CudaError::INVALID_VALUE)
        };
        match kind {
            memory_type::HOST if host == 0 => Err(CudaError::INVALID_VALUE),
            memory_type::HOST => Ok(CopyEnd::Host(shifted(host as u64)? as usize)),
            memory_type::DEVICE => Ok(CopyEnd::Device(shifted(device)?)),
            memory_type::UNIFIED => Ok(unified(state, shifted(device)?)),
            // Arrays belong to textures, which are not emulated.
            _ => Err(CudaError::NOT_SUPPORTED),
        }
    };
    let from_pitch = pitch(p.src_pitch, p.src_height)?;
    let to_pitch = pitch(p.dst_pitch, p.dst_height)?;
    Ok(CopyWork {
        from: place(
            p.src_type,
            p.src_host as usize,
            p.src_device,
            from_pitch,
            [p.src_x, p.src_y, p.src_z],
        )?,
        to: place(
            p.dst_type,
            p.dst_host as usize,
            p.dst_device,
            to_pitch,
            [p.dst_x, p.dst_y, p.dst_z],
        )?,
        width: p.width,
        height: p.height,
        depth: p.depth,
        from_pitch,
        to_pitch,
    })
}

fn describe_2d(state: &DriverState, p: &Memcpy2d) -> Result<CopyWork> {
    describe_3d(
        state,
        &Memcpy3d {
            src_x: p.src_x,
            src_y: p.src_y,
            src_z: 0,
            src_lod: 0,
            src_type: p.src_type,
            src_host: p.src_host,
            src_device: p.src_device,
            src_array: p.src_array,
            reserved0: std::ptr::null_mut(),
            src_pitch: p.src_pitch,
            src_height: 0,
            dst_x: p.dst_x,
            dst_y: p.dst_y,
            dst_z: 0,
            dst_lod: 0,
            dst_type: p.dst_type,
            dst_host: p.dst_host,
            dst_device: p.dst_device,
            dst_array: p.dst_array,
            reserved1: std::ptr::null_mut(),
            dst_pitch: p.dst_pitch,
            dst_height: 0,
            width: p.width,
            height: p.height,
            depth: 1,
        },
    )
}

fn fill(
    to: DevicePtr,
    pitch: usize,
    value: u32,
    element: usize,
    width: usize,
    height: usize,
) -> Result<Option<Work>> {
    let (_, state, _) = in_context()?;
    let work = FillWork {
        to,
        pitch,
        value,
        element,
        width,
        height,
    };
    let span = work.span().ok_or(CudaError::INVALID_VALUE)?;
    if span == 0 {
        return Ok(None);
    }
    let aligned =
        to.is_multiple_of(element as u64) && (height == 1 || pitch.is_multiple_of(element));
    if !aligned || (height > 1 && pitch < width * element) {
        return Err(CudaError::INVALID_VALUE);
    }
    state.reachable(to, span)?;
    Ok(Some(Work::Fill(work)))
}

/// A `CUDA_MEMSET_NODE_PARAMS` as work.
///
/// # Errors
/// `INVALID_VALUE` for an element that is not 1, 2 or 4 bytes, or a range that is not allocated.
pub fn fill_node(p: MemsetNodeParams) -> Result<Work> {
    if !matches!(p.element_size, 1 | 2 | 4) {
        return Err(CudaError::INVALID_VALUE);
    }
    let work = fill(
        p.dst,
        p.pitch,
        p.value,
        p.element_size as usize,
        p.width,
        p.height,
    )?;
    Ok(work.unwrap_or(Work::Empty))
}

/// Submits a fill. Fills of device memory do not wait, with or without `Async` in the call's name.
fn fill_on(stream: Handle, work: Option<Work>) -> Result<()> {
    match work {
        Some(work) => Driver::get()?.enqueue(stream, work),
        None => Ok(()),
    }
}

fn write_value(stream: Handle, address: DevicePtr, value: u64, bytes: u8) -> Result<()> {
    let (driver, state, _) = in_context()?;
    if !address.is_multiple_of(u64::from(bytes)) {
        return Err(CudaError::INVALID_VALUE);
    }
    state.reachable(address, usize::from(bytes))?;
    drop(state);
    driver.enqueue(stream, Work::WriteValue(address, value, bytes))
}

api! {
    fn cuMemcpyHtoD_v2(to: DevicePtr, from: HostPtr, bytes: usize) {
        copy_now(|_| Ok(CopyWork::linear(CopyEnd::Device(to), CopyEnd::Host(from.address()), bytes)))
    }

    fn cuMemcpyDtoH_v2(to: HostPtr, from: DevicePtr, bytes: usize) {
        copy_now(|_| Ok(CopyWork::linear(CopyEnd::Host(to.address()), CopyEnd::Device(from), bytes)))
    }

    fn cuMemcpyDtoD_v2(to: DevicePtr, from: DevicePtr, bytes: usize) {
        // Between device addresses the host does not wait.
        copy_async(DEFAULT, |_| Ok(CopyWork::linear(CopyEnd::Device(to), CopyEnd::Device(from), bytes)))
    }

    fn cuMemcpy(to: DevicePtr, from: DevicePtr, bytes: usize) {
        copy_now(|state| Ok(CopyWork::linear(unified(state, to), unified(state, from), bytes)))
    }

    fn cuMemcpyAsync(to: DevicePtr, from: DevicePtr, bytes: usize, stream: Handle) {
        copy_async(stream, |state| Ok(CopyWork::linear(unified(state, to), unified(state, from), bytes)))
    }

    fn cuMemcpyHtoDAsync_v2(to: DevicePtr, from: HostPtr, bytes: usize, stream: Handle) {
        copy_async(stream, |_| {
            Ok(CopyWork::linear(CopyEnd::Device(to), CopyEnd::Host(from.address()), bytes))
        })
    }

    fn cuMemcpyDtoHAsync_v2(to: HostPtr, from: DevicePtr, bytes: usize, stream: Handle) {
        copy_async(stream, |_| {
            Ok(CopyWork::linear(CopyEnd::Host(to.address()), CopyEnd::Device(from), bytes))
        })
    }

    fn cuMemcpyDtoDAsync_v2(to: DevicePtr, from: DevicePtr, bytes: usize, stream: Handle) {
        copy_async(stream, |_| Ok(CopyWork::linear(CopyEnd::Device(to), CopyEnd::Device(from), bytes)))
    }

    fn cuMemcpyPeer(to: DevicePtr, _to_ctx: Handle, from: DevicePtr, _from_ctx: Handle, bytes: usize) {
        copy_async(DEFAULT, |_| Ok(CopyWork::linear(CopyEnd::Device(to), CopyEnd::Device(from), bytes)))
    }

    fn cuMemcpyPeerAsync(
        to: DevicePtr,
        _to_ctx: Handle,
        from: DevicePtr,
        _from_ctx: Handle,
        bytes: usize,
        stream: Handle,
    ) {
        copy_async(stream, |_| Ok(CopyWork::linear(CopyEnd::Device(to), CopyEnd::Device(from), bytes)))
    }

    fn cuMemcpy2D_v2(params: In<Memcpy2d>) {
        let params = params.get()?;
        copy_now(|state| describe_2d(state, &params))
    }

    fn cuMemcpy2DUnaligned_v2(params: In<Memcpy2d>) {
        let params = params.get()?;
        copy_now(|state| describe_2d(state, &params))
    }

    fn cuMemcpy2DAsync_v2(params: In<Memcpy2d>, stream: Handle) {
        let params = params.get()?;
        copy_async(stream, |state| describe_2d(state, &params))
    }

    fn cuMemcpy3D_v2(params: In<Memcpy3d>) {
        let params = params.get()?;
        copy_now(|state| describe_3d(state, &params))
    }

    fn cuMemcpy3DAsync_v2(params: In<Memcpy3d>, stream: Handle) {
        let params = params.get()?;
        copy_async(stream, |state| describe_3d(state, &params))
    }

    fn cuMemsetD8_v2(to: DevicePtr, value: u8, count: usize) {
        fill_on(DEFAULT, fill(to, 0, u32::from(value), 1, count, 1)?)
    }

    fn cuMemsetD16_v2(to: DevicePtr, value: u16, count: usize) {
        fill_on(DEFAULT, fill(to, 0, u32::from(value), 2, count, 1)?)
    }

    fn cuMemsetD32_v2(to: DevicePtr, value: u32, count: usize) {
        fill_on(DEFAULT, fill(to, 0, value, 4, count, 1)?)
    }

    fn cuMemsetD8Async(to: DevicePtr, value: u8, count: usize, stream: Handle) {
        fill_on(stream, fill(to, 0, u32::from(value), 1, count, 1)?)
    }

    fn cuMemsetD16Async(to: DevicePtr, value: u16, count: usize, stream: Handle) {
        fill_on(stream, fill(to, 0, u32::from(value), 2, count, 1)?)
    }

    fn cuMemsetD32Async(to: DevicePtr, value: u32, count: usize, stream: Handle) {
        fill_on(stream, fill(to, 0, value, 4, count, 1)?)
    }

    fn cuMemsetD2D8_v2(to: DevicePtr, pitch: usize, value: u8, width: usize, height: usize) {
        fill_on(DEFAULT, fill(to, pitch, u32::from(value), 1, width, height)?)
    }

    fn cuMemsetD2D16_v2(to: DevicePtr, pitch: usize, value: u16, width: usize, height: usize) {
        fill_on(DEFAULT, fill(to, pitch, u32::from(value), 2, width, height)?)
    }

    fn cuMemsetD2D32_v2(to: DevicePtr, pitch: usize, value: u32, width: usize, height: usize) {
        fill_on(DEFAULT, fill(to, pitch, value, 4, width, height)?)
    }

    fn cuMemsetD2D8Async(
        to: DevicePtr, pitch: usize, value: u8, width: usize, height: usize, stream: Handle,
    ) {
        fill_on(stream, fill(to, pitch, u32::from(value), 1, width, height)?)
    }

    fn cuMemsetD2D16Async(
        to: DevicePtr, pitch: usize, value: u16, width: usize, height: usize, stream: Handle,
    ) {
        fill_on(stream, fill(to, pitch, u32::from(value), 2, width, height)?)
    }

    fn cuMemsetD2D32Async(
        to: DevicePtr, pitch: usize, value: u32, width: usize, height: usize, stream: Handle,
    ) {
        fill_on(stream, fill(to, pitch, value, 4, width, height)?)
    }

    fn cuStreamWriteValue32_v2(stream: Handle, address: DevicePtr, value: u32, _flags: u32) {
        write_value(stream, address, u64::from(value), 4)
    }

    fn cuStreamWriteValue64_v2(stream: Handle, address: DevicePtr, value: u64, _flags: u32) {
        write_value(stream, address, value, 8)
    }
}
