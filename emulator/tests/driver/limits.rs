//! What a launch may ask for and what fits, by the figures of compute capability 8.6: shared memory beyond 48 KB,
//! occupancy, pools that run out, and work of several streams and graphs that has to wait.

use std::ffi::c_void;
use std::ptr::{null, null_mut};

use crate::common::driver::*;
use cudarc::driver::sys::{self, CUfunction_attribute_enum as Attribute, CUresult};

/// `edges` writes its block's number to the first and the last word of `bytes` of dynamic shared memory and adds them up
/// to out[block]; `fixed` has 16 KiB of static shared memory, and registers for a low occupancy.
const KERNELS: &str = "
.version 8.0
.target sm_86
.address_size 64
.extern .shared .align 16 .b8 dynamic[];
.visible .entry edges(.param .u64 out, .param .u32 bytes) {
    .reg .u64 %o, %w; .reg .u32 %b, %n, %a, %x, %y;
    ld.param.u64 %o, [out]; ld.param.u32 %n, [bytes];
    mov.u32 %b, %ctaid.x; mov.u32 %a, dynamic;
    st.shared.u32 [%a], %b;
    add.u32 %a, %a, %n; sub.u32 %a, %a, 4;
    st.shared.u32 [%a], %b; ld.shared.u32 %x, [%a];
    mov.u32 %a, dynamic; ld.shared.u32 %y, [%a]; add.u32 %x, %x, %y;
    mul.wide.u32 %w, %b, 4; add.u64 %o, %o, %w; st.global.u32 [%o], %x;
    ret;
}
.visible .entry fixed(.param .u64 out) {
    .shared .align 16 .b8 room[16384];
    .reg .u64 %o; .reg .u32 %a, %x;
    ld.param.u64 %o, [out]; mov.u32 %a, room;
    st.shared.u32 [%a], 7; ld.shared.u32 %x, [%a]; st.global.u32 [%o], %x;
    ret;
}
.visible .entry add(.param .u64 out, .param .u32 value) {
    .reg .u64 %o; .reg .u32 %x, %y;
    ld.param.u64 %o, [out]; ld.param.u32 %y, [value];
    ld.global.u32 %x, [%o]; mad.lo.u32 %x, %x, 10, %y; st.global.u32 [%o], %x;
    ret;
}
\0";

const MAX_DYNAMIC: Attribute = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;

fn module() -> sys::CUmodule {
    let mut module = null_mut();
    ok!(sys::cuModuleLoadData(&mut module, KERNELS.as_ptr().cast()));
    module
}

fn function(module: sys::CUmodule, name: &std::ffi::CStr) -> sys::CUfunction {
    let mut function = null_mut();
    ok!(sys::cuModuleGetFunction(
        &mut function,
        module,
        name.as_ptr()
    ));
    function
}

/// Launches with a pointer and a number as parameters.
fn launch(
    function: sys::CUfunction,
    grid: u32,
    block: u32,
    shared: u32,
    stream: sys::CUstream,
    (mut out, mut value): (u64, u32),
) -> CUresult {
    let mut params: [*mut c_void; 2] = [(&raw mut out).cast(), (&raw mut value).cast()];
    unsafe {
        sys::cuLaunchKernel(
            function,
            grid,
            1,
            1,
            block,
            1,
            1,
            shared,
            stream,
            params.as_mut_ptr(),
            null_mut(),
        )
    }
}

fn attribute(function: sys::CUfunction, which: Attribute) -> i32 {
    let mut value = -1;
    ok!(sys::cuFuncGetAttribute(&mut value, which, function));
    value
}

#[test]
fn more_than_48_kb_of_shared_memory_is_asked_for_first() {
    const MOST: u32 = 99 * 1024;
    let _context = Context::new();
    let edges = function(module(), c"edges");
    let out = upload(&[u32::MAX; 4]);
    let run = |bytes: u32| launch(edges, 4, 1, bytes, null_mut(), (out, bytes));
    assert_eq!(attribute(edges, MAX_DYNAMIC), 48 * 1024);
    assert_eq!(run(MOST), CUresult::CUDA_ERROR_INVALID_VALUE);
    ok!(sys::cuFuncSetAttribute(edges, MAX_DYNAMIC, 64 * 1024));
    assert_eq!(attribute(edges, MAX_DYNAMIC), 64 * 1024);
    assert_eq!(run(64 * 1024), CUresult::CUDA_SUCCESS);
    assert_eq!(download(out, 4), [0, 2, 4, 6]);
    assert_eq!(run(64 * 1024 + 4), CUresult::CUDA_ERROR_INVALID_VALUE);
    ok!(sys::cuFuncSetAttribute(edges, MAX_DYNAMIC, MOST as i32));
    assert_eq!(run(MOST), CUresult::CUDA_SUCCESS);
    refused!(
        CUDA_ERROR_INVALID_VALUE,
        sys::cuFuncSetAttribute(edges, MAX_DYNAMIC, MOST as i32 + 1)
    );
    refused!(
        CUDA_ERROR_INVALID_VALUE,
        sys::cuFuncSetAttribute(edges, MAX_DYNAMIC, -1)
    );
    // What is read only can't be set.
    refused!(
        CUDA_ERROR_INVALID_VALUE,
        sys::cuFuncSetAttribute(edges, Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS, 32)
    );
    ok!(sys::cuCtxSynchronize());

    // Static and dynamic memory share the 99 KB.
    let fixed = function(module(), c"fixed");
    assert_eq!(
        attribute(fixed, Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES),
        16 * 1024
    );
    refused!(
        CUDA_ERROR_INVALID_VALUE,
        sys::cuFuncSetAttribute(fixed, MAX_DYNAMIC, 84 * 1024)
    );
    ok!(sys::cuFuncSetAttribute(fixed, MAX_DYNAMIC, 83 * 1024));
    assert_eq!(
        launch(fixed, 1, 1, 83 * 1024, null_mut(), (out, 0)),
        CUresult::CUDA_SUCCESS
    );
    ok!(sys::cuCtxSynchronize());
}

#[test]
fn one_byte_beyond_the_shared_memory_of_a_launch_is_out_of_bounds() {
    let _context = Context::new();
    let edges = function(module(), c"edges");
    let out = upload(&[0u32; 4]);
    assert_eq!(
        launch(edges, 1, 1, 1024, null_mut(), (out, 1028)),
        CUresult::CUDA_SUCCESS
    );
    refused!(CUDA_ERROR_ILLEGAL_ADDRESS, sys::cuCtxSynchronize());
    assert_eq!(
        crate::common::text_of("cuEmuGetLastFaultKind").as_deref(),
        Some("oob")
    );
}

#[test]
fn blocks_per_multiprocessor_by_every_limit() {
    let _context = Context::new();
    let module = module();
    let (edges, fixed) = (function(module, c"edges"), function(module, c"fixed"));
    for f in [edges, fixed] {
        ok!(sys::cuFuncSetAttribute(f, MAX_DYNAMIC, 83 * 1024));
    }
    let registers = attribute(edges, Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS) as u32;
    assert!((1..=40).contains(&registers), "{registers}");
    let blocks = |f, threads, shared| {
        let mut blocks = -1;
        ok!(sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(
            &mut blocks,
            f,
            threads,
            shared
        ));
        blocks
    };
    // 16 blocks, 1536 threads, 48 warps.
    assert_eq!(blocks(edges, 32, 0), 16);
    assert_eq!(blocks(edges, 96, 0), 16);
    assert_eq!(blocks(edges, 128, 0), 12);
    assert_eq!(blocks(edges, 129, 0), 9, "five warps each");
    assert_eq!(blocks(edges, 512, 0), 3);
    assert_eq!(blocks(edges, 1024, 0), 1);
    // 100 KB of shared memory, of which each block reserves 1 KB, in pieces of 128 bytes.
    assert_eq!(blocks(edges, 32, 49 * 1024), 2);
    assert_eq!(blocks(edges, 32, 49 * 1024 + 1), 1);
    assert_eq!(blocks(edges, 32, 24 * 1024), 4);
    assert_eq!(blocks(edges, 32, 83 * 1024), 1);
    assert_eq!(blocks(fixed, 32, 0), 5, "17 KB each");
    assert_eq!(blocks(fixed, 32, 33 * 1024), 2);

    let mut blocks = 0;
    for threads in [0, -1] {
        refused!(
            CUDA_ERROR_INVALID_VALUE,
            sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut blocks, edges, threads, 0)
        );
    }
    let mut bytes = 0;
    ok!(sys::cuOccupancyAvailableDynamicSMemPerBlock(
        &mut bytes, edges, 2, 128
    ));
    assert_eq!(bytes, 49 * 1024);
    ok!(sys::cuOccupancyAvailableDynamicSMemPerBlock(
        &mut bytes, fixed, 1, 128
    ));
    assert_eq!(bytes, 83 * 1024);
    let (mut grid, mut block) = (0, 0);
    ok!(sys::cuOccupancyMaxPotentialBlockSize(
        &mut grid, &mut block, edges, None, 0, 0
    ));
    // The largest block with which all 1536 threads are there: 768, twice on each of 82.
    assert_eq!((grid, block), (164, 768));
    ok!(sys::cuOccupancyMaxPotentialBlockSize(
        &mut grid, &mut block, edges, None, 0, 100
    ));
    assert!(block <= 100 && block % 32 == 0, "{block}");
}

#[test]
fn a_cooperative_grid_has_to_fit_at_once() {
    let _context = Context::new();
    let edges = function(module(), c"edges");
    let out = alloc(4 * 2000);
    let run = |grid: u32, block: u32| {
        let (mut out, mut bytes) = (out, 4u32);
        let mut params: [*mut c_void; 2] = [(&raw mut out).cast(), (&raw mut bytes).cast()];
        unsafe {
            sys::cuLaunchCooperativeKernel(
                edges,
                grid,
                1,
                1,
                block,
                1,
                1,
                16,
                null_mut(),
                params.as_mut_ptr(),
            )
        }
    };
    assert_eq!(run(82 * 16, 1), CUresult::CUDA_SUCCESS);
    assert_eq!(
        run(82 * 16 + 1, 1),
        CUresult::CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE
    );
    assert_eq!(
        run(83, 1024),
        CUresult::CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE
    );
    ok!(sys::cuCtxSynchronize());
}

#[test]
fn a_pool_runs_out_and_gives_back() {
    let _context = Context::new();
    let stream = stream(1);
    let mut pool = null_mut();
    ok!(sys::cuDeviceGetDefaultMemPool(&mut pool, 0));
    let read = |which: sys::CUmemPool_attribute| {
        let mut bytes = 0u64;
        ok!(sys::cuMemPoolGetAttribute(
            pool,
            which,
            (&raw mut bytes).cast()
        ));
        bytes
    };
    use sys::CUmemPool_attribute as Pool;
    let mut keep = u64::MAX;
    ok!(sys::cuMemPoolSetAttribute(
        pool,
        Pool::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
        (&raw mut keep).cast()
    ));
    assert_eq!(read(Pool::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD), u64::MAX);
    let (mut large, mut more) = (0, 0);
    ok!(sys::cuMemAllocAsync(&mut large, 20 << 30, stream));
    refused!(
        CUDA_ERROR_OUT_OF_MEMORY,
        sys::cuMemAllocAsync(&mut more, 8 << 30, stream)
    );
    assert!(read(Pool::CU_MEMPOOL_ATTR_USED_MEM_CURRENT) >= 20 << 30);
    assert!(read(Pool::CU_MEMPOOL_ATTR_USED_MEM_HIGH) >= 20 << 30);
    ok!(sys::cuMemFreeAsync(large, stream));
    ok!(sys::cuStreamSynchronize(stream));
    assert_eq!(read(Pool::CU_MEMPOOL_ATTR_USED_MEM_CURRENT), 0);
    let mut zero = 0u64;
    ok!(sys::cuMemPoolSetAttribute(
        pool,
        Pool::CU_MEMPOOL_ATTR_USED_MEM_HIGH,
        (&raw mut zero).cast()
    ));
    assert_eq!(read(Pool::CU_MEMPOOL_ATTR_USED_MEM_HIGH), 0);
    // Only 0 resets it.
    let mut one = 1u64;
    refused!(
        CUDA_ERROR_INVALID_VALUE,
        sys::cuMemPoolSetAttribute(
            pool,
            Pool::CU_MEMPOOL_ATTR_USED_MEM_HIGH,
            (&raw mut one).cast()
        )
    );
    ok!(sys::cuMemPoolTrimTo(pool, 0));
    let (mut free, mut total) = (0, 0);
    ok!(sys::cuMemGetInfo_v2(&mut free, &mut total));
    ok!(sys::cuMemAlloc_v2(&mut large, free - (1 << 30)));
    ok!(sys::cuMemFree_v2(large));
}

#[test]
fn memory_is_freed_where_it_begins_and_in_any_context() {
    let context = Context::new();
    let address = alloc(1024);
    refused!(CUDA_ERROR_INVALID_VALUE, sys::cuMemFree_v2(address + 256));
    refused!(CUDA_ERROR_INVALID_VALUE, sys::cuMemFree_v2(0x1234));
    let mut host = 0u64;
    refused!(
        CUDA_ERROR_INVALID_VALUE,
        sys::cuMemFree_v2((&raw mut host) as u64)
    );
    let memory = pinned(&[1, 2, 3]);
    refused!(
        CUDA_ERROR_INVALID_VALUE,
        sys::cuMemFreeHost(memory.wrapping_add(1).cast())
    );
    ok!(sys::cuMemFreeHost(memory.cast()));
    refused!(CUDA_ERROR_INVALID_VALUE, sys::cuMemFreeHost(memory.cast()));
    ok!(sys::cuMemFree_v2(address));
    let (mut pitched, mut pitch) = (0, 0);
    ok!(sys::cuMemAllocPitch_v2(&mut pitched, &mut pitch, 100, 7, 4));
    assert!(pitch >= 100 && pitch % 512 == 0, "{pitch}");
    refused!(
        CUDA_ERROR_INVALID_VALUE,
        sys::cuMemAllocPitch_v2(&mut pitched, &mut pitch, 100, 7, 3)
    );
    ok!(sys::cuMemFree_v2(pitched));
    drop(context);
}

/// A copy of `rows` rows of `width` bytes between device arrays of these pitches.
fn copy_2d(from: (u64, usize), to: (u64, usize), width: usize, rows: usize) -> CUresult {
    let copy = sys::CUDA_MEMCPY2D {
        srcXInBytes: 0,
        srcY: 0,
        srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
        srcHost: null(),
        srcDevice: from.0,
        srcArray: null_mut(),
        srcPitch: from.1,
        dstXInBytes: 0,
        dstY: 0,
        dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
        dstHost: null_mut(),
        dstDevice: to.0,
        dstArray: null_mut(),
        dstPitch: to.1,
        WidthInBytes: width,
        Height: rows,
    };
    unsafe { sys::cuMemcpy2D_v2(&copy) }
}

#[test]
fn two_dimensional_copies_stay_inside_their_rows() {
    let _context = Context::new();
    let from = upload(&(0..64u32).collect::<Vec<_>>());
    let to = upload(&[u32::MAX; 64]);
    // Four rows of eight bytes, from rows of 32 to rows of 64.
    assert_eq!(copy_2d((from, 32), (to, 64), 8, 4), CUresult::CUDA_SUCCESS);
    let got = download(to, 64);
    for (index, value) in got.iter().enumerate() {
        let (row, column) = (index / 16, index % 16);
        let want = if column < 2 {
            (8 * row + column) as u32
        } else {
            u32::MAX
        };
        assert_eq!(*value, want, "word {index}");
    }
    let invalid = CUresult::CUDA_ERROR_INVALID_VALUE;
    assert_eq!(
        copy_2d((from, 4), (to, 64), 8, 4),
        invalid,
        "a pitch below the width"
    );
    assert_eq!(
        copy_2d((from, 32), (to, 64), 8, 5),
        invalid,
        "a row too many"
    );
    assert_eq!(copy_2d((from, 32), (to, 64), 0, 4), CUresult::CUDA_SUCCESS);
    // Words and half words; the last element may end with the array.
    ok!(sys::cuMemsetD2D32_v2(to, 64, 5, 2, 4));
    ok!(sys::cuMemsetD16_v2(to + 8, 0x1234, 2));
    assert_eq!(download(to, 4), [5, 5, 0x1234_1234, u32::MAX]);
    refused!(CUDA_ERROR_INVALID_VALUE, sys::cuMemsetD16_v2(to + 1, 0, 2));
    refused!(CUDA_ERROR_INVALID_VALUE, sys::cuMemsetD32_v2(to + 2, 0, 2));
    refused!(CUDA_ERROR_INVALID_VALUE, sys::cuMemsetD8_v2(to, 0, 257));
}

#[test]
fn an_event_orders_what_two_streams_do() {
    let _context = Context::new();
    let add = function(module(), c"add");
    let out = upload(&[0u32]);
    let (a, b) = (stream(1), stream(1));
    // 1 on a, then 2 on b, then 3 on a: each appends a decimal digit, so the result shows the order.
    let (first, second) = (event(), event());
    assert_eq!(launch(add, 1, 1, 0, a, (out, 1)), CUresult::CUDA_SUCCESS);
    ok!(sys::cuEventRecord(first, a));
    ok!(sys::cuStreamWaitEvent(b, first, 0));
    assert_eq!(launch(add, 1, 1, 0, b, (out, 2)), CUresult::CUDA_SUCCESS);
    ok!(sys::cuEventRecord(second, b));
    // What the event marks is fixed now: later work of b is not waited for.
    ok!(sys::cuStreamWaitEvent(a, second, 0));
    assert_eq!(launch(add, 1, 1, 0, a, (out, 3)), CUresult::CUDA_SUCCESS);
    ok!(sys::cuEventDestroy_v2(first));
    ok!(sys::cuEventDestroy_v2(second));
    ok!(sys::cuStreamSynchronize(a));
    assert_eq!(download(out, 1), [123]);
    // An event that was never recorded is no reason to wait.
    let never = event();
    ok!(sys::cuStreamWaitEvent(a, never, 0));
    ok!(sys::cuEventQuery(never));
    ok!(sys::cuStreamSynchronize(a));
    ok!(sys::cuStreamDestroy_v2(b));
    refused!(CUDA_ERROR_INVALID_HANDLE, sys::cuStreamSynchronize(b));
}

#[test]
fn the_legacy_stream_waits_for_those_that_do_not_opt_out() {
    const NON_BLOCKING: u32 = 1;
    let _context = Context::new();
    let add = function(module(), c"add");
    let out = upload(&[0u32]);
    let blocking = stream(0);
    for (stream, digit) in [(blocking, 1), (null_mut(), 2), (blocking, 3)] {
        assert_eq!(
            launch(add, 1, 1, 0, stream, (out, digit)),
            CUresult::CUDA_SUCCESS
        );
    }
    ok!(sys::cuCtxSynchronize());
    assert_eq!(download(out, 1), [123]);
    let mut flags = 9;
    ok!(sys::cuStreamGetFlags(stream(NON_BLOCKING), &mut flags));
    assert_eq!(flags, NON_BLOCKING);
}

#[test]
fn a_captured_graph_of_two_streams_runs_each_time_in_order() {
    let _context = Context::new();
    let add = function(module(), c"add");
    let out = upload(&[0u32]);
    let (a, b) = (stream(1), stream(1));
    let (fork, join) = (event(), event());
    begin(a);
    assert_eq!(launch(add, 1, 1, 0, a, (out, 1)), CUresult::CUDA_SUCCESS);
    ok!(sys::cuEventRecord(fork, a));
    ok!(sys::cuStreamWaitEvent(b, fork, 0));
    let mut status = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
    ok!(sys::cuStreamIsCapturing(b, &mut status));
    assert_eq!(
        status,
        sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE
    );
    assert_eq!(launch(add, 1, 1, 0, b, (out, 2)), CUresult::CUDA_SUCCESS);
    ok!(sys::cuEventRecord(join, b));
    ok!(sys::cuStreamWaitEvent(a, join, 0));
    assert_eq!(launch(add, 1, 1, 0, a, (out, 3)), CUresult::CUDA_SUCCESS);
    let (mut graph, mut exec) = (null_mut(), null_mut());
    ok!(sys::cuStreamEndCapture(a, &mut graph));
    let (mut nodes, mut edges) = (0, 0);
    ok!(sys::cuGraphGetNodes(graph, null_mut(), &mut nodes));
    ok!(sys::cuGraphGetEdges_v2(
        graph,
        null_mut(),
        null_mut(),
        null_mut(),
        &mut edges
    ));
    // The last waits for its stream and for the event, though the one implies the other.
    assert_eq!((nodes, edges), (3, 3));
    ok!(sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0));
    assert_eq!(download(out, 1), [0], "a capture runs nothing");
    ok!(sys::cuGraphLaunch(exec, a));
    ok!(sys::cuGraphLaunch(exec, a));
    // Destroyed while its work may still be waiting.
    ok!(sys::cuGraphExecDestroy(exec));
    ok!(sys::cuStreamSynchronize(a));
    assert_eq!(download(out, 1), [123_123]);
}

#[test]
fn the_primary_context_is_one_and_counted() {
    let _guard = crate::common::emulator();
    ok!(sys::cuInit(0));
    let (mut first, mut again) = (null_mut(), null_mut());
    ok!(sys::cuDevicePrimaryCtxRetain(&mut first, 0));
    ok!(sys::cuDevicePrimaryCtxRetain(&mut again, 0));
    assert_eq!(first, again);
    let (mut flags, mut active) = (0, 0);
    ok!(sys::cuDevicePrimaryCtxGetState(0, &mut flags, &mut active));
    assert_eq!(active, 1);
    ok!(sys::cuCtxPushCurrent_v2(first));
    let address = alloc(64);
    ok!(sys::cuMemFree_v2(address));
    let mut popped = null_mut();
    ok!(sys::cuCtxPopCurrent_v2(&mut popped));
    assert_eq!(popped, first);
    // It is not destroyed, but released as often as it was retained.
    refused!(CUDA_ERROR_INVALID_CONTEXT, sys::cuCtxDestroy_v2(first));
    ok!(sys::cuDevicePrimaryCtxRelease_v2(0));
    ok!(sys::cuDevicePrimaryCtxGetState(0, &mut flags, &mut active));
    assert_eq!(active, 1);
    ok!(sys::cuDevicePrimaryCtxRelease_v2(0));
    ok!(sys::cuDevicePrimaryCtxGetState(0, &mut flags, &mut active));
    assert_eq!(active, 0);
    refused!(
        CUDA_ERROR_INVALID_CONTEXT,
        sys::cuDevicePrimaryCtxRelease_v2(0)
    );
}
