//! The driver API without kernels: handles, memory, copies, streams, events, capture and graphs.

use std::ffi::{CStr, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::common::driver::*;
use cudarc::driver::sys::{self, CUresult};

#[test]
fn the_device_is_an_rtx_3090() {
    let _context = Context::new();
    let mut name = [0i8; 64];
    ok!(sys::cuDeviceGetName(name.as_mut_ptr().cast(), 64, 0));
    let name = unsafe { CStr::from_ptr(name.as_ptr().cast()) }.to_string_lossy();
    assert!(name.contains("RTX 3090"), "{name}");
    let attribute = |id| {
        let mut value = -1;
        ok!(sys::cuDeviceGetAttribute(&mut value, id, 0));
        value
    };
    use sys::CUdevice_attribute_enum::*;
    assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR), 8);
    assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR), 6);
    assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT), 82);
    assert_eq!(
        attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN),
        101_376
    );
    assert_eq!(
        attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR),
        102_400
    );
    assert_eq!(
        attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR),
        1536
    );
    assert_eq!(attribute(CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE), 6 << 20);
    let mut bytes = 0;
    ok!(sys::cuDeviceTotalMem_v2(&mut bytes, 0));
    assert_eq!(bytes, 24 << 30);
    refused!(
        CUDA_ERROR_INVALID_DEVICE,
        sys::cuDeviceTotalMem_v2(&mut bytes, 1)
    );
    let mut device = 7;
    refused!(CUDA_ERROR_INVALID_DEVICE, sys::cuDeviceGet(&mut device, 1));
}

#[test]
fn forged_handles_and_null_pointers_are_errors() {
    let _context = Context::new();
    for number in [3usize, 0xdead_beef, 0x1000_0000_0010, usize::MAX] {
        refused!(
            CUDA_ERROR_INVALID_HANDLE,
            sys::cuStreamSynchronize(forged(number))
        );
        refused!(
            CUDA_ERROR_INVALID_HANDLE,
            sys::cuStreamDestroy_v2(forged(number))
        );
        refused!(
            CUDA_ERROR_INVALID_HANDLE,
            sys::cuEventRecord(forged(number), null_mut())
        );
        refused!(
            CUDA_ERROR_INVALID_HANDLE,
            sys::cuEventDestroy_v2(forged(number))
        );
        refused!(
            CUDA_ERROR_INVALID_HANDLE,
            sys::cuModuleUnload(forged(number))
        );
        refused!(
            CUDA_ERROR_INVALID_CONTEXT,
            sys::cuCtxSetCurrent(forged(number))
        );
        refused!(
            CUDA_ERROR_INVALID_VALUE,
            sys::cuGraphDestroy(forged(number))
        );
        refused!(
            CUDA_ERROR_INVALID_VALUE,
            sys::cuGraphLaunch(forged(number), null_mut())
        );
        refused!(CUDA_ERROR_INVALID_VALUE, sys::cuMemFree_v2(number as u64));
        refused!(
            CUDA_ERROR_INVALID_VALUE,
            sys::cuMemPoolDestroy(forged(number))
        );
        refused!(
            CUDA_ERROR_INVALID_HANDLE,
            sys::cuLaunchKernel(
                forged(number),
                1,
                1,
                1,
                1,
                1,
                1,
                0,
                null_mut(),
                null_mut(),
                null_mut()
            )
        );
    }
    // A handle of another kind is as wrong as one of none.
    let event = event();
    refused!(
        CUDA_ERROR_INVALID_HANDLE,
        sys::cuStreamSynchronize(event.cast())
    );
    refused!(CUDA_ERROR_INVALID_VALUE, sys::cuMemAlloc_v2(null_mut(), 16));
    refused!(CUDA_ERROR_INVALID_VALUE, sys::cuStreamCreate(null_mut(), 0));
    refused!(
        CUDA_ERROR_INVALID_VALUE,
        sys::cuModuleLoadData(&mut null_mut(), null())
    );
    refused!(
        CUDA_ERROR_INVALID_VALUE,
        sys::cuMemcpyHtoD_v2(alloc(8), null(), 8)
    );
    let stale = stream(0);
    ok!(sys::cuStreamDestroy_v2(stale));
    refused!(CUDA_ERROR_INVALID_HANDLE, sys::cuStreamSynchronize(stale));
}

#[test]
fn error_names_and_texts_are_those_of_the_driver() {
    let _guard = crate::common::emulator();
    let mut text = null();
    ok!(sys::cuGetErrorName(
        CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
        &mut text
    ));
    assert_eq!(
        unsafe { CStr::from_ptr(text) },
        c"CUDA_ERROR_ILLEGAL_ADDRESS"
    );
    ok!(sys::cuGetErrorString(
        CUresult::CUDA_ERROR_OUT_OF_MEMORY,
        &mut text
    ));
    assert_eq!(unsafe { CStr::from_ptr(text) }, c"out of memory");
}

#[test]
fn calls_without_a_context_are_refused() {
    let context = Context::new();
    let mut address = 0;
    ok!(sys::cuCtxPopCurrent_v2(null_mut()));
    refused!(
        CUDA_ERROR_INVALID_CONTEXT,
        sys::cuMemAlloc_v2(&mut address, 16)
    );
    ok!(sys::cuCtxPushCurrent_v2(context.ctx));
    ok!(sys::cuMemAlloc_v2(&mut address, 16));
    let mut second = null_mut();
    ok!(sys::cuCtxCreate_v2(&mut second, 0, 0));
    let mut current = null_mut();
    ok!(sys::cuCtxGetCurrent(&mut current));
    assert_eq!(current, second);
    let other = second as usize;
    std::thread::spawn(move || {
        ok!(sys::cuCtxSetCurrent(forged(other)));
        ok!(sys::cuCtxSynchronize());
    })
    .join()
    .unwrap();
    ok!(sys::cuCtxDestroy_v2(second));
    ok!(sys::cuCtxGetCurrent(&mut current));
    assert_eq!(
        current, context.ctx,
        "destroying the current context uncovers the one below"
    );
}

#[test]
fn memory_is_limited_counted_and_freed_once() {
    let _context = Context::new();
    let (mut free, mut total) = (0, 0);
    ok!(sys::cuMemGetInfo_v2(&mut free, &mut total));
    assert_eq!(total, 24 << 30);
    // Only touched pages exist, so this costs nothing.
    let large = alloc(16 << 30);
    let mut left = 0;
    ok!(sys::cuMemGetInfo_v2(&mut left, &mut total));
    assert_eq!(free - left, 16 << 30);
    let mut address = 0;
    refused!(
        CUDA_ERROR_OUT_OF_MEMORY,
        sys::cuMemAlloc_v2(&mut address, 8 << 30)
    );
    refused!(
        CUDA_ERROR_INVALID_VALUE,
        sys::cuMemAlloc_v2(&mut address, 0)
    );
    let (mut base, mut size) = (0, 0);
    ok!(sys::cuMemGetAddressRange_v2(
        &mut base,
        &mut size,
        large + 12345
    ));
    assert_eq!((base, size), (large, 16 << 30));
    ok!(sys::cuMemFree_v2(large));
    refused!(CUDA_ERROR_INVALID_VALUE, sys::cuMemFree_v2(large));
    ok!(sys::cuMemFree_v2(0));
    ok!(sys::cuMemGetInfo_v2(&mut left, &mut total));
    assert_eq!(left, free);
}

#[test]
fn leaks_are_reported_when_the_context_ends() {
    let context = Context::new();
    let kept = alloc(1000);
    let freed = alloc(2000);
    ok!(sys::cuMemFree_v2(freed));
    drop(context);
    let _guard = crate::common::emulator();
    let leaks = crate::common::text_of("cuEmuGetLastLeaks").unwrap();
    assert!(
        leaks.contains("of 1000 bytes") && !leaks.contains("of 2000 bytes"),
        "{leaks}"
    );
    assert!(leaks.contains(&format!("{kept:#x}")), "{leaks}");
}

#[test]
fn copies_and_fills_reach_what_they_should() {
    let _context = Context::new();
    let a = upload(&(0..64u32).collect::<Vec<_>>());
    let b = alloc(256);
    ok!(sys::cuMemsetD32_v2(b, 0xabcd_1234, 64));
    ok!(sys::cuMemcpyDtoD_v2(b + 16, a + 32, 64));
    let got = download(b, 64);
    assert_eq!(got[..4], [0xabcd_1234; 4]);
    assert_eq!(got[4..20], (8..24).collect::<Vec<u32>>()[..]);
    ok!(sys::cuMemsetD16_v2(b, 0x1234, 3));
    ok!(sys::cuMemsetD8_v2(b + 7, 0xee, 2));
    assert_eq!(download(b, 3), [0x1234_1234, 0xeecd_1234, 0xabcd_12ee]);
    refused!(CUDA_ERROR_INVALID_VALUE, sys::cuMemsetD32_v2(b + 2, 0, 1));
    refused!(CUDA_ERROR_INVALID_VALUE, sys::cuMemsetD32_v2(b, 0, 65));
    refused!(
        CUDA_ERROR_INVALID_VALUE,
        sys::cuMemcpyDtoD_v2(b + 200, a, 64)
    );
    refused!(
        CUDA_ERROR_INVALID_VALUE,
        sys::cuMemcpyDtoD_v2(b, usize::MAX as u64 - 8, 64)
    );

    // A 3 × 2 block of words from the middle of rows of 8 into rows of 4.
    let host: Vec<u32> = (0..32).collect();
    let mut params = sys::CUDA_MEMCPY2D {
        srcXInBytes: 8,
        srcY: 1,
        srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_HOST,
        srcHost: host.as_ptr().cast(),
        srcDevice: 0,
        srcArray: null_mut(),
        srcPitch: 32,
        dstXInBytes: 0,
        dstY: 0,
        dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
        dstHost: null_mut(),
        dstDevice: b,
        dstArray: null_mut(),
        dstPitch: 16,
        WidthInBytes: 12,
        Height: 2,
    };
    ok!(sys::cuMemsetD8_v2(b, 0, 256));
    ok!(sys::cuMemcpy2D_v2(&params));
    assert_eq!(download(b, 8), [10, 11, 12, 0, 18, 19, 20, 0]);
    params.srcPitch = 8;
    refused!(CUDA_ERROR_INVALID_VALUE, sys::cuMemcpy2D_v2(&params));

    // By address alone: both directions.
    let mut back = [0u32; 4];
    ok!(sys::cuMemcpy(back.as_mut_ptr() as u64, b, 16));
    assert_eq!(back, [10, 11, 12, 0]);
}

#[test]
fn a_host_read_without_synchronisation_sees_old_data() {
    let _context = Context::new();
    let stream = stream(1);
    let device = upload(&[1u32, 2, 3, 4]);
    let host = pinned(&[0; 4]);
    ok!(sys::cuMemcpyDtoHAsync_v2(host.cast(), device, 16, stream));
    assert_eq!(unsafe { *host }, 0, "the copy has not run yet");
    ok!(sys::cuStreamSynchronize(stream));
    assert_eq!(unsafe { *host }, 1);

    // Pinned memory is read when the stream comes to the copy, pageable memory when the call is made.
    ok!(sys::cuMemcpyHtoDAsync_v2(device, host.cast(), 16, stream));
    unsafe { *host = 77 };
    ok!(sys::cuStreamSynchronize(stream));
    assert_eq!(download(device, 1), [77]);
    let mut pageable = vec![5u32; 4];
    ok!(sys::cuMemcpyHtoDAsync_v2(
        device,
        pageable.as_ptr().cast(),
        16,
        stream
    ));
    pageable.fill(6);
    ok!(sys::cuStreamSynchronize(stream));
    assert_eq!(download(device, 1), [5]);
    // A copy to pageable memory is finished when the call returns.
    ok!(sys::cuMemcpyDtoHAsync_v2(
        pageable.as_mut_ptr().cast(),
        device,
        16,
        stream
    ));
    assert_eq!(pageable, [5; 4]);
    ok!(sys::cuMemFreeHost(host.cast()));
}

#[test]
fn streams_are_ordered_only_by_what_orders_them() {
    let _context = Context::new();
    let (first, second) = (stream(1), stream(1));
    let (a, b) = (upload(&[0u32]), upload(&[0u32]));
    let done = event();
    // No dependency: waiting for the second stream does not run the first.
    ok!(sys::cuMemsetD32Async(a, 1, 1, first));
    ok!(sys::cuMemcpyDtoDAsync_v2(b, a, 4, second));
    ok!(sys::cuStreamSynchronize(second));
    refused!(CUDA_ERROR_NOT_READY, sys::cuStreamQuery(first));
    let host = pinned(&[9]);
    ok!(sys::cuMemcpyDtoHAsync_v2(host.cast(), b, 4, second));
    ok!(sys::cuStreamSynchronize(second));
    assert_eq!(
        unsafe { *host },
        0,
        "the second stream read before the first wrote"
    );
    // With an event it does.
    ok!(sys::cuMemsetD32Async(a, 2, 1, first));
    ok!(sys::cuEventRecord(done, first));
    ok!(sys::cuStreamWaitEvent(second, done, 0));
    ok!(sys::cuMemcpyDtoHAsync_v2(host.cast(), a, 4, second));
    ok!(sys::cuStreamSynchronize(second));
    assert_eq!(unsafe { *host }, 2);
    ok!(sys::cuEventQuery(done));
    // The default stream waits for blocking streams and they for it, without events.
    let blocking = stream(0);
    ok!(sys::cuMemsetD32Async(a, 3, 1, blocking));
    ok!(sys::cuMemcpyDtoDAsync_v2(b, a, 4, null_mut()));
    ok!(sys::cuMemcpyDtoHAsync_v2(host.cast(), b, 4, blocking));
    ok!(sys::cuStreamSynchronize(blocking));
    assert_eq!(unsafe { *host }, 3);
    // The calling thread's own default stream is another one, and blocking.
    ok!(sys::cuMemsetD32Async(a, 4, 1, forged(2)));
    assert_eq!(download(a, 1), [4]);
}

#[test]
fn events_have_times() {
    let _context = Context::new();
    let (start, end) = (event(), event());
    let mut time = -1f32;
    refused!(
        CUDA_ERROR_INVALID_HANDLE,
        sys::cuEventElapsedTime_v2(&mut time, start, end)
    );
    ok!(sys::cuEventQuery(start));
    ok!(sys::cuEventRecord(start, null_mut()));
    refused!(CUDA_ERROR_NOT_READY, sys::cuEventQuery(start));
    ok!(sys::cuEventRecord(start, null_mut()));
    extern "C" fn pause(_: *mut c_void) {
        std::thread::sleep(Duration::from_millis(20));
    }
    ok!(sys::cuLaunchHostFunc(null_mut(), Some(pause), null_mut()));
    ok!(sys::cuEventRecord(end, null_mut()));
    refused!(
        CUDA_ERROR_NOT_READY,
        sys::cuEventElapsedTime_v2(&mut time, start, end)
    );
    ok!(sys::cuEventSynchronize(end));
    ok!(sys::cuEventElapsedTime_v2(&mut time, start, end));
    assert!(time >= 20.0, "{time} ms");
    let mut untimed = null_mut();
    ok!(sys::cuEventCreate(&mut untimed, 2));
    ok!(sys::cuEventRecord(untimed, null_mut()));
    ok!(sys::cuEventSynchronize(untimed));
    refused!(
        CUDA_ERROR_INVALID_HANDLE,
        sys::cuEventElapsedTime_v2(&mut time, start, untimed)
    );
}

#[test]
fn host_functions_run_in_order_and_may_not_call_back() {
    static SEEN: AtomicU32 = AtomicU32::new(0);
    static ANSWER: AtomicU32 = AtomicU32::new(0);
    extern "C" fn call(data: *mut c_void) {
        let seen = SEEN.load(Ordering::SeqCst);
        SEEN.store(seen * 10 + data as u32, Ordering::SeqCst);
        ANSWER.store(unsafe { sys::cuCtxSynchronize() } as u32, Ordering::SeqCst);
    }
    let _context = Context::new();
    let stream = stream(0);
    for digit in 1..=3 {
        ok!(sys::cuLaunchHostFunc(stream, Some(call), forged(digit)));
    }
    assert_eq!(SEEN.load(Ordering::SeqCst), 0);
    ok!(sys::cuStreamSynchronize(stream));
    assert_eq!(SEEN.load(Ordering::SeqCst), 123);
    assert_eq!(
        ANSWER.load(Ordering::SeqCst),
        CUresult::CUDA_ERROR_NOT_PERMITTED as u32
    );
    // A program that only waits for its own function makes progress too.
    ok!(sys::cuLaunchHostFunc(stream, Some(call), forged(4)));
    let started = Instant::now();
    while SEEN.load(Ordering::SeqCst) != 1234 {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "the stream never ran by itself"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_captured_graph_replays_fork_and_join() {
    let _context = Context::new();
    let (main, side) = (stream(1), stream(1));
    let (fork, join) = (event(), event());
    let (a, b) = (upload(&[0u32; 4]), upload(&[0u32; 4]));
    begin(main);
    ok!(sys::cuMemsetD32Async(a, 7, 4, main));
    ok!(sys::cuEventRecord(fork, main));
    ok!(sys::cuStreamWaitEvent(side, fork, 0));
    ok!(sys::cuMemcpyDtoDAsync_v2(b, a, 16, side));
    ok!(sys::cuMemsetD32Async(a + 4, 8, 1, main));
    ok!(sys::cuEventRecord(join, side));
    refused!(CUDA_ERROR_CAPTURED_EVENT, sys::cuEventQuery(join));
    ok!(sys::cuStreamWaitEvent(main, join, 0));
    ok!(sys::cuMemsetD32Async(b + 12, 9, 1, main));
    let mut graph = null_mut();
    ok!(sys::cuStreamEndCapture(main, &mut graph));
    assert_eq!(download(a, 4), [0; 4], "recording runs nothing");
    let mut count = 0;
    ok!(sys::cuGraphGetNodes(graph, null_mut(), &mut count));
    assert_eq!(count, 4);
    let mut nodes = vec![null_mut(); 4];
    ok!(sys::cuGraphGetNodes(graph, nodes.as_mut_ptr(), &mut count));
    let mut edges = 0;
    ok!(sys::cuGraphGetEdges(
        graph,
        null_mut(),
        null_mut(),
        &mut edges
    ));
    assert_eq!(edges, 4, "fill → copy, fill → fill, both → fill");
    let mut kind = sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_EMPTY;
    ok!(sys::cuGraphNodeGetType(nodes[1], &mut kind));
    assert_eq!(kind, sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEMCPY);
    let mut exec = null_mut();
    ok!(sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0));
    ok!(sys::cuGraphDestroy(graph));
    for _ in 0..3 {
        ok!(sys::cuMemsetD8_v2(a, 0, 16));
        ok!(sys::cuMemsetD8_v2(b, 0, 16));
        ok!(sys::cuGraphLaunch(exec, null_mut()));
        assert_eq!(download(a, 4), [7, 8, 7, 7]);
        let copied = download(b, 4);
        // The copy and the second fill are not ordered with each other.
        assert!(
            copied == [7, 7, 7, 9] || copied == [7, 8, 7, 9],
            "{copied:?}"
        );
    }
    ok!(sys::cuGraphExecDestroy(exec));
    refused!(
        CUDA_ERROR_INVALID_VALUE,
        sys::cuGraphLaunch(exec, null_mut())
    );
}

#[test]
fn captures_end_only_as_they_may() {
    let _context = Context::new();
    let (main, side) = (stream(1), stream(1));
    let fork = event();
    let a = upload(&[0u32; 4]);
    let mut graph = null_mut();
    refused!(
        CUDA_ERROR_ILLEGAL_STATE,
        sys::cuStreamEndCapture(main, &mut graph)
    );
    // Work in a stream that never came back.
    begin(main);
    ok!(sys::cuEventRecord(fork, main));
    ok!(sys::cuStreamWaitEvent(side, fork, 0));
    ok!(sys::cuMemsetD32Async(a, 1, 4, side));
    refused!(
        CUDA_ERROR_STREAM_CAPTURE_UNMATCHED,
        sys::cuStreamEndCapture(side, &mut graph)
    );
    refused!(
        CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
        sys::cuStreamEndCapture(main, &mut graph)
    );
    begin(main);
    ok!(sys::cuEventRecord(fork, main));
    ok!(sys::cuStreamWaitEvent(side, fork, 0));
    ok!(sys::cuMemsetD32Async(a, 1, 4, side));
    refused!(
        CUDA_ERROR_STREAM_CAPTURE_UNJOINED,
        sys::cuStreamEndCapture(main, &mut graph)
    );
    assert!(graph.is_null());
    // Waiting for a capturing stream.
    begin(main);
    refused!(
        CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
        sys::cuStreamSynchronize(main)
    );
    refused!(
        CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
        sys::cuMemsetD32Async(a, 1, 4, main)
    );
    refused!(
        CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
        sys::cuStreamEndCapture(main, &mut graph)
    );
    // Allocating at once.
    begin(main);
    let mut address = 0;
    refused!(
        CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
        sys::cuMemAlloc_v2(&mut address, 16)
    );
    refused!(
        CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
        sys::cuStreamEndCapture(main, &mut graph)
    );
    // The default stream would have to wait for a capturing blocking stream.
    let blocking = stream(0);
    begin(blocking);
    refused!(
        CUDA_ERROR_STREAM_CAPTURE_IMPLICIT,
        sys::cuMemsetD32Async(a, 1, 4, null_mut())
    );
    refused!(
        CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
        sys::cuStreamEndCapture(blocking, &mut graph)
    );
    // Waiting for work that is not captured.
    ok!(sys::cuEventRecord(fork, side));
    begin(main);
    refused!(
        CUDA_ERROR_STREAM_CAPTURE_ISOLATION,
        sys::cuStreamWaitEvent(main, fork, 0)
    );
    refused!(
        CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
        sys::cuStreamEndCapture(main, &mut graph)
    );
    // Two captures do not mix.
    begin(main);
    begin(side);
    ok!(sys::cuEventRecord(fork, side));
    refused!(
        CUDA_ERROR_STREAM_CAPTURE_MERGE,
        sys::cuStreamWaitEvent(main, fork, 0)
    );
    refused!(
        CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
        sys::cuStreamEndCapture(main, &mut graph)
    );
    refused!(
        CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
        sys::cuStreamEndCapture(side, &mut graph)
    );
    // The default stream cannot be captured.
    refused!(
        CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
        sys::cuStreamBeginCapture_v2(
            null_mut(),
            sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED
        )
    );
}

#[test]
fn a_graph_can_be_built_and_updated_by_hand() {
    let _context = Context::new();
    let a = upload(&[0u32; 4]);
    let build = |value| {
        let mut graph = null_mut();
        ok!(sys::cuGraphCreate(&mut graph, 0));
        let mut params: sys::CUDA_MEMSET_NODE_PARAMS = unsafe { std::mem::zeroed() };
        params.dst = a;
        params.value = value;
        params.elementSize = 4;
        params.width = 4;
        params.height = 1;
        let (mut first, mut second) = (null_mut(), null_mut());
        ok!(sys::cuGraphAddMemsetNode(
            &mut first,
            graph,
            null(),
            0,
            &params,
            null_mut()
        ));
        ok!(sys::cuGraphAddEmptyNode(&mut second, graph, &first, 1));
        (graph, first, second)
    };
    let (graph, first, second) = build(5);
    refused!(
        CUDA_ERROR_INVALID_VALUE,
        sys::cuGraphAddDependencies(graph, &first, &second, 1)
    );
    let mut exec = null_mut();
    ok!(sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0));
    ok!(sys::cuGraphLaunch(exec, null_mut()));
    assert_eq!(download(a, 4), [5; 4]);
    let (new, ..) = build(6);
    let mut info: sys::CUgraphExecUpdateResultInfo = unsafe { std::mem::zeroed() };
    ok!(sys::cuGraphExecUpdate_v2(exec, new, &mut info));
    ok!(sys::cuGraphLaunch(exec, null_mut()));
    assert_eq!(download(a, 4), [6; 4]);
    let mut third = null_mut();
    ok!(sys::cuGraphAddEmptyNode(&mut third, new, null(), 0));
    refused!(
        CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE,
        sys::cuGraphExecUpdate_v2(exec, new, &mut info)
    );
    assert_eq!(
        info.result,
        sys::CUgraphExecUpdateResult::CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED
    );
    // A cycle cannot be instantiated.
    ok!(sys::cuGraphAddDependencies(graph, &second, &first, 1));
    refused!(
        CUDA_ERROR_INVALID_VALUE,
        sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0)
    );
}

#[test]
fn stream_ordered_memory_comes_from_a_pool_and_graphs_own_theirs() {
    let _context = Context::new();
    let stream = stream(1);
    let mut pool = null_mut();
    ok!(sys::cuDeviceGetDefaultMemPool(&mut pool, 0));
    let used = |pool| {
        let mut bytes = 0u64;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT;
        ok!(sys::cuMemPoolGetAttribute(
            pool,
            attribute,
            (&raw mut bytes).cast()
        ));
        bytes
    };
    let before = used(pool);
    let mut address = 0;
    ok!(sys::cuMemAllocAsync(&mut address, 4096, stream));
    assert_eq!(used(pool), before + 4096);
    ok!(sys::cuMemsetD8Async(address, 1, 4096, stream));
    ok!(sys::cuMemFreeAsync(address, stream));
    refused!(
        CUDA_ERROR_INVALID_VALUE,
        sys::cuMemsetD8Async(address, 1, 4096, stream)
    );
    refused!(
        CUDA_ERROR_INVALID_VALUE,
        sys::cuMemFreeAsync(address, stream)
    );
    ok!(sys::cuStreamSynchronize(stream));
    assert_eq!(used(pool), before);
    // In a capture, allocation and free become nodes.
    begin(stream);
    ok!(sys::cuMemAllocAsync(&mut address, 64, stream));
    ok!(sys::cuMemsetD8Async(address, 3, 64, stream));
    ok!(sys::cuMemFreeAsync(address, stream));
    let (mut graph, mut exec) = (null_mut(), null_mut());
    ok!(sys::cuStreamEndCapture(stream, &mut graph));
    ok!(sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0));
    for _ in 0..2 {
        ok!(sys::cuGraphLaunch(exec, stream));
    }
    ok!(sys::cuStreamSynchronize(stream));
    ok!(sys::cuGraphExecDestroy(exec));
    ok!(sys::cuGraphDestroy(graph));
    let mut base = 0;
    refused!(
        CUDA_ERROR_NOT_FOUND,
        sys::cuMemGetAddressRange_v2(&mut base, null_mut(), address)
    );
}

#[test]
fn managed_memory_is_one_address_for_host_and_device() {
    let _context = Context::new();
    let mut address = 0;
    ok!(sys::cuMemAllocManaged(&mut address, 16, 1));
    let host = address as *mut u32;
    unsafe { host.write(41) };
    assert_eq!(download(address, 1), [41]);
    ok!(sys::cuMemsetD32_v2(address, 42, 4));
    ok!(sys::cuCtxSynchronize());
    assert_eq!(unsafe { host.add(3).read() }, 42);
    let mut managed = 0u32;
    let attribute = sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_IS_MANAGED;
    ok!(sys::cuPointerGetAttribute(
        (&raw mut managed).cast(),
        attribute,
        address
    ));
    assert_eq!(managed, 1);
    ok!(sys::cuMemFree_v2(address));
}

#[test]
fn symbols_are_found_by_name_and_unknown_ones_are_not() {
    let _context = Context::new();
    let mut function = null_mut();
    let mut status = sys::CUdriverProcAddressQueryResult::CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    ok!(sys::cuGetProcAddress_v2(
        c"cuMemAlloc".as_ptr(),
        &mut function,
        12090,
        0,
        &mut status
    ));
    assert_eq!(
        status,
        sys::CUdriverProcAddressQueryResult::CU_GET_PROC_ADDRESS_SUCCESS
    );
    type Alloc = unsafe extern "C" fn(*mut u64, usize) -> CUresult;
    // SAFETY: `cuMemAlloc` means `cuMemAlloc_v2`, whose type this is.
    let alloc: Alloc = unsafe { std::mem::transmute(function) };
    let mut address = 0;
    ok!(alloc(&mut address, 32));
    refused!(
        CUDA_ERROR_NOT_FOUND,
        sys::cuGetProcAddress_v2(
            c"cuNoSuchThing".as_ptr(),
            &mut function,
            12090,
            0,
            &mut status
        )
    );
    assert!(function.is_null());
}

#[test]
fn images_that_are_not_ptx_are_refused_with_a_log() {
    let _context = Context::new();
    let mut module = null_mut();
    refused!(
        CUDA_ERROR_NO_BINARY_FOR_GPU,
        sys::cuModuleLoadData(&mut module, c"\x7fELF\x02\x01\x01".as_ptr().cast())
    );
    let mut log = [0u8; 256];
    let mut options = [
        sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER,
        sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
    ];
    let mut values = [log.as_mut_ptr().cast::<c_void>(), forged(log.len())];
    let text = c".version 8.8\n.target sm_86\n.address_size 64\n.visible .entry k() {\n  frobnicate.s32 %r1;\n  ret;\n}\n";
    refused!(
        CUDA_ERROR_INVALID_PTX,
        sys::cuModuleLoadDataEx(
            &mut module,
            text.as_ptr().cast(),
            2,
            options.as_mut_ptr(),
            values.as_mut_ptr()
        )
    );
    let log = CStr::from_bytes_until_nul(&log).unwrap().to_string_lossy();
    assert!(log.contains("frobnicate") && log.contains(":5:"), "{log}");
}

/// `x[i] = a * x[i] + b`, one thread per element of a block.
const AFFINE: &CStr = c"
.version 8.8
.target sm_80
.address_size 64
.visible .global .align 4 .u32 runs = 5;
.visible .entry affine(.param .u64 x, .param .u32 a, .param .align 8 .b8 pair[16])
{
    .reg .b32 %r<6>;
    .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [x];
    ld.param.u32 %r1, [a];
    ld.param.u32 %r2, [pair+8];
    mov.u32 %r3, %tid.x;
    mul.wide.u32 %rd2, %r3, 4;
    add.s64 %rd3, %rd1, %rd2;
    ld.global.u32 %r4, [%rd3];
    mad.lo.u32 %r5, %r1, %r4, %r2;
    st.global.u32 [%rd3], %r5;
    ret;
}
.visible .entry other() { ret; }
";

fn affine() -> (sys::CUmodule, sys::CUfunction) {
    let (mut module, mut function) = (null_mut(), null_mut());
    ok!(sys::cuModuleLoadData(&mut module, AFFINE.as_ptr().cast()));
    ok!(sys::cuModuleGetFunction(
        &mut function,
        module,
        c"affine".as_ptr()
    ));
    (module, function)
}

/// Pointers to the arguments of `affine`.
struct Arguments {
    x: u64,
    a: u32,
    pair: [u64; 2],
    pointers: [*mut c_void; 3],
}

fn arguments(x: u64, a: u32, b: u32) -> Box<Arguments> {
    let mut arguments = Box::new(Arguments {
        x,
        a,
        pair: [0, b.into()],
        pointers: [null_mut(); 3],
    });
    arguments.pointers = [
        (&raw mut arguments.x).cast(),
        (&raw mut arguments.a).cast(),
        (&raw mut arguments.pair).cast(),
    ];
    arguments
}

#[test]
fn launches_take_their_parameters_in_every_form() {
    let _context = Context::new();
    let (module, function) = affine();
    let x = upload(&[1u32, 2, 3, 4]);
    let mut args = arguments(x, 10, 7);
    let launch = |params: *mut *mut c_void, extra: *mut *mut c_void| unsafe {
        sys::cuLaunchKernel(function, 1, 1, 1, 4, 1, 1, 0, null_mut(), params, extra)
    };
    assert_eq!(
        launch(args.pointers.as_mut_ptr(), null_mut()),
        CUresult::CUDA_SUCCESS
    );
    // What the arguments hold after the call does not matter.
    args.a = 0;
    assert_eq!(download(x, 4), [17, 27, 37, 47]);
    // One buffer with all of them.
    let mut buffer = [x, 2, 0, 1];
    let mut size = 32usize;
    let mut extra: [*mut c_void; 5] = [
        forged(1),
        buffer.as_mut_ptr().cast(),
        forged(2),
        (&raw mut size).cast(),
        null_mut(),
    ];
    assert_eq!(
        launch(null_mut(), extra.as_mut_ptr()),
        CUresult::CUDA_SUCCESS
    );
    assert_eq!(download(x, 4), [35, 55, 75, 95]);
    // SAFETY: `size` lives; the launch reads it through the same pointer.
    unsafe { (&raw mut size).write(8) };
    assert_eq!(
        launch(null_mut(), extra.as_mut_ptr()),
        CUresult::CUDA_ERROR_INVALID_VALUE
    );
    assert_eq!(
        launch(null_mut(), null_mut()),
        CUresult::CUDA_ERROR_INVALID_VALUE
    );
    // With a configuration.
    let mut args = arguments(x, 1, 1);
    let stream = stream(1);
    let mut config: sys::CUlaunchConfig = unsafe { std::mem::zeroed() };
    (config.gridDimX, config.gridDimY, config.gridDimZ) = (1, 1, 1);
    (config.blockDimX, config.blockDimY, config.blockDimZ) = (4, 1, 1);
    config.hStream = stream;
    ok!(sys::cuLaunchKernelEx(
        &config,
        function,
        args.pointers.as_mut_ptr(),
        null_mut()
    ));
    ok!(sys::cuStreamSynchronize(stream));
    assert_eq!(download(x, 4), [36, 56, 76, 96]);
    // What the driver tells about the function.
    let (mut offset, mut bytes) = (0, 0);
    ok!(sys::cuFuncGetParamInfo(
        function,
        2,
        &mut offset,
        &mut bytes
    ));
    assert_eq!((offset, bytes), (16, 16));
    refused!(
        CUDA_ERROR_INVALID_VALUE,
        sys::cuFuncGetParamInfo(function, 3, &mut offset, &mut bytes)
    );
    let mut version = 0;
    let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_PTX_VERSION;
    ok!(sys::cuFuncGetAttribute(&mut version, attribute, function));
    assert_eq!(version, 80);
    let mut kernels = 0;
    ok!(sys::cuModuleGetFunctionCount(&mut kernels, module));
    assert_eq!(kernels, 2);
    let mut missing = null_mut();
    refused!(
        CUDA_ERROR_NOT_FOUND,
        sys::cuModuleGetFunction(&mut missing, module, c"nothing".as_ptr())
    );
    // A module may go while its work is pending: the work is finished first.
    let mut args = arguments(x, 2, 0);
    assert_eq!(
        launch(args.pointers.as_mut_ptr(), null_mut()),
        CUresult::CUDA_SUCCESS
    );
    ok!(sys::cuModuleUnload(module));
    assert_eq!(download(x, 4), [72, 112, 152, 192]);
    refused!(
        CUDA_ERROR_INVALID_HANDLE,
        sys::cuLaunchKernel(
            function,
            1,
            1,
            1,
            4,
            1,
            1,
            0,
            null_mut(),
            args.pointers.as_mut_ptr(),
            null_mut()
        )
    );
}

#[test]
fn launch_limits_are_the_devices() {
    let _context = Context::new();
    let (_, function) = affine();
    let x = upload(&[0u32; 4]);
    let mut args = arguments(x, 1, 1);
    let mut launch = |grid: [u32; 3], block: [u32; 3], shared| unsafe {
        let (g, b) = (grid, block);
        let params = args.pointers.as_mut_ptr();
        sys::cuLaunchKernel(
            function,
            g[0],
            g[1],
            g[2],
            b[0],
            b[1],
            b[2],
            shared,
            null_mut(),
            params,
            null_mut(),
        )
    };
    let invalid = CUresult::CUDA_ERROR_INVALID_VALUE;
    assert_eq!(launch([0, 1, 1], [1, 1, 1], 0), invalid);
    assert_eq!(launch([1, 65_536, 1], [1, 1, 1], 0), invalid);
    assert_eq!(launch([1 << 31, 1, 1], [1, 1, 1], 0), invalid);
    assert_eq!(launch([1, 1, 1], [0, 1, 1], 0), invalid);
    assert_eq!(launch([1, 1, 1], [1025, 1, 1], 0), invalid);
    assert_eq!(launch([1, 1, 1], [64, 32, 1], 0), invalid);
    assert_eq!(launch([1, 1, 1], [1, 1, 65], 0), invalid);
    assert_eq!(launch([1, 1, 1], [1, 1, 1], 48 * 1024 + 1), invalid);
    assert_eq!(
        launch([1, 1, 1], [4, 1, 1], 48 * 1024),
        CUresult::CUDA_SUCCESS
    );
    assert_eq!(download(x, 4), [1; 4]);
}

#[test]
fn kernel_nodes_are_read_and_changed() {
    let _context = Context::new();
    let (_, function) = affine();
    let x = upload(&[1u32; 4]);
    let mut args = arguments(x, 3, 1);
    let mut graph = null_mut();
    ok!(sys::cuGraphCreate(&mut graph, 0));
    let mut params: sys::CUDA_KERNEL_NODE_PARAMS = unsafe { std::mem::zeroed() };
    params.func = function;
    (params.gridDimX, params.gridDimY, params.gridDimZ) = (1, 1, 1);
    (params.blockDimX, params.blockDimY, params.blockDimZ) = (4, 1, 1);
    params.kernelParams = args.pointers.as_mut_ptr();
    let (mut first, mut second) = (null_mut(), null_mut());
    ok!(sys::cuGraphAddKernelNode_v2(
        &mut first,
        graph,
        null(),
        0,
        &params
    ));
    // A node made from what another node tells of itself.
    let mut told: sys::CUDA_KERNEL_NODE_PARAMS = unsafe { std::mem::zeroed() };
    ok!(sys::cuGraphKernelNodeGetParams_v2(first, &mut told));
    assert_eq!((told.func, told.blockDimX), (function, 4));
    ok!(sys::cuGraphAddKernelNode_v2(
        &mut second,
        graph,
        &first,
        1,
        &told
    ));
    let mut exec = null_mut();
    ok!(sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0));
    ok!(sys::cuGraphLaunch(exec, null_mut()));
    assert_eq!(download(x, 4), [13; 4], "3·(3·1 + 1) + 1");
    args.a = 1;
    args.pair[1] = 100;
    ok!(sys::cuGraphExecKernelNodeSetParams_v2(
        exec, second, &params
    ));
    ok!(sys::cuGraphLaunch(exec, null_mut()));
    assert_eq!(download(x, 4), [140; 4], "1·(3·13 + 1) + 100");
    ok!(sys::cuGraphNodeSetEnabled(exec, first, 0));
    ok!(sys::cuGraphLaunch(exec, null_mut()));
    assert_eq!(download(x, 4), [240; 4]);
    // A graph in a graph.
    let (mut outer, mut child, mut outer_exec) = (null_mut(), null_mut(), null_mut());
    ok!(sys::cuGraphCreate(&mut outer, 0));
    ok!(sys::cuGraphAddChildGraphNode(
        &mut child,
        outer,
        null(),
        0,
        graph
    ));
    let mut inside = null_mut();
    ok!(sys::cuGraphChildGraphNodeGetGraph(child, &mut inside));
    refused!(CUDA_ERROR_INVALID_VALUE, sys::cuGraphDestroy(inside));
    ok!(sys::cuGraphInstantiateWithFlags(&mut outer_exec, outer, 0));
    ok!(sys::cuMemsetD32_v2(x, 1, 4));
    ok!(sys::cuGraphLaunch(outer_exec, null_mut()));
    assert_eq!(download(x, 4), [13; 4]);
    ok!(sys::cuGraphDestroy(outer));
}

#[test]
fn a_library_is_a_module_and_its_variables_have_addresses() {
    let _context = Context::new();
    let (mut library, mut kernel, mut function) = (null_mut(), null_mut(), null_mut());
    ok!(sys::cuLibraryLoadData(
        &mut library,
        AFFINE.as_ptr().cast(),
        null_mut(),
        null_mut(),
        0,
        null_mut(),
        null_mut(),
        0
    ));
    ok!(sys::cuLibraryGetKernel(
        &mut kernel,
        library,
        c"affine".as_ptr()
    ));
    ok!(sys::cuKernelGetFunction(&mut function, kernel));
    let (mut address, mut bytes) = (0, 0);
    ok!(sys::cuLibraryGetGlobal(
        &mut address,
        &mut bytes,
        library,
        c"runs".as_ptr()
    ));
    assert_eq!((download(address, 1)[0], bytes), (5, 4));
    refused!(CUDA_ERROR_INVALID_VALUE, sys::cuMemFree_v2(address));
    let mut args = arguments(address, 2, 3);
    ok!(sys::cuLaunchKernel(
        function,
        1,
        1,
        1,
        1,
        1,
        1,
        0,
        null_mut(),
        args.pointers.as_mut_ptr(),
        null_mut()
    ));
    assert_eq!(download(address, 1), [13]);
    ok!(sys::cuLibraryUnload(library));
    let mut base = 0;
    refused!(
        CUDA_ERROR_NOT_FOUND,
        sys::cuMemGetAddressRange_v2(&mut base, null_mut(), address)
    );
}

#[test]
fn a_fault_drops_the_work_behind_it_until_the_context_is_gone() {
    static CALLED: AtomicU32 = AtomicU32::new(0);
    extern "C" fn count(_: *mut c_void) {
        CALLED.fetch_add(1, Ordering::SeqCst);
    }
    let context = Context::new();
    let (_, function) = affine();
    let x = upload(&[1u32; 4]);
    let mut wild = arguments(0x1000, 1, 1);
    let stream = stream(1);
    ok!(sys::cuLaunchKernel(
        function,
        1,
        1,
        1,
        4,
        1,
        1,
        0,
        stream,
        wild.pointers.as_mut_ptr(),
        null_mut()
    ));
    ok!(sys::cuLaunchHostFunc(stream, Some(count), null_mut()));
    ok!(sys::cuMemsetD32Async(x, 9, 4, stream));
    refused!(CUDA_ERROR_ILLEGAL_ADDRESS, sys::cuStreamSynchronize(stream));
    assert_eq!(CALLED.load(Ordering::SeqCst), 0);
    let mut address = 0;
    refused!(
        CUDA_ERROR_ILLEGAL_ADDRESS,
        sys::cuMemAlloc_v2(&mut address, 16)
    );
    refused!(CUDA_ERROR_ILLEGAL_ADDRESS, sys::cuCtxSynchronize());
    refused!(CUDA_ERROR_ILLEGAL_ADDRESS, sys::cuMemsetD32_v2(x, 1, 1));
    drop(context);
    let _context = Context::new();
    ok!(sys::cuCtxSynchronize());
    // The primary context recovers when it is reset.
    let mut primary = null_mut();
    ok!(sys::cuDevicePrimaryCtxRetain(&mut primary, 0));
    ok!(sys::cuCtxPushCurrent_v2(primary));
    let (_, function) = affine();
    ok!(sys::cuLaunchKernel(
        function,
        1,
        1,
        1,
        4,
        1,
        1,
        0,
        null_mut(),
        wild.pointers.as_mut_ptr(),
        null_mut()
    ));
    refused!(CUDA_ERROR_ILLEGAL_ADDRESS, sys::cuCtxSynchronize());
    ok!(sys::cuDevicePrimaryCtxReset_v2(0));
    refused!(CUDA_ERROR_CONTEXT_IS_DESTROYED, sys::cuCtxSynchronize());
    ok!(sys::cuCtxPopCurrent_v2(null_mut()));
    ok!(sys::cuDevicePrimaryCtxRetain(&mut primary, 0));
    ok!(sys::cuCtxPushCurrent_v2(primary));
    ok!(sys::cuCtxSynchronize());
    ok!(sys::cuCtxPopCurrent_v2(null_mut()));
    ok!(sys::cuDevicePrimaryCtxRelease_v2(0));
}

#[test]
fn threads_and_streams_do_not_get_in_each_others_way() {
    let context = Context::new();
    let (_, function) = affine();
    let (ctx, function) = (context.ctx as usize, function as usize);
    std::thread::scope(|scope| {
        for number in 0..6u32 {
            scope.spawn(move || {
                ok!(sys::cuCtxSetCurrent(forged(ctx)));
                // Every other thread orders itself with the default stream.
                let (main, side) = (stream(number % 2), stream(1));
                let done = event();
                let x = upload(&[number; 4]);
                let mut want = number;
                for round in 0..40 {
                    let mut args = arguments(x, 3, round);
                    let launch = |stream, args: &mut Arguments| {
                        let params = args.pointers.as_mut_ptr();
                        ok!(sys::cuLaunchKernel(
                            forged(function),
                            1,
                            1,
                            1,
                            4,
                            1,
                            1,
                            0,
                            stream,
                            params,
                            null_mut()
                        ));
                    };
                    launch(main, &mut args);
                    ok!(sys::cuEventRecord(done, main));
                    ok!(sys::cuStreamWaitEvent(side, done, 0));
                    launch(side, &mut args);
                    ok!(sys::cuEventRecord(done, side));
                    ok!(sys::cuStreamWaitEvent(main, done, 0));
                    for _ in 0..2 {
                        want = want.wrapping_mul(3).wrapping_add(round);
                    }
                    if round % 8 == number {
                        ok!(sys::cuStreamSynchronize(main));
                    }
                    if round % 13 == number {
                        ok!(sys::cuMemsetD8Async(x, 0, 0, null_mut()));
                        let state = unsafe { sys::cuStreamQuery(side) };
                        assert!(matches!(
                            state,
                            CUresult::CUDA_SUCCESS | CUresult::CUDA_ERROR_NOT_READY
                        ));
                    }
                }
                let mut got = [0u32; 4];
                ok!(sys::cuMemcpyDtoHAsync_v2(
                    got.as_mut_ptr().cast(),
                    x,
                    16,
                    main
                ));
                assert_eq!(got, [want; 4]);
                ok!(sys::cuStreamDestroy_v2(main));
                ok!(sys::cuStreamDestroy_v2(side));
                ok!(sys::cuMemFree_v2(x));
            });
        }
    });
}
