//! The whole chain as a program on cudarc sees it: CUDA C++ through NVRTC, the driver API, the emulated device.
//!
//! Covers what cudarc's own examples do: allocate, copy, launch, streams, structures, threads, constant memory,
//! function attributes, context configuration, graphs; and what a fault looks like from the host.

use std::sync::Arc;
use std::sync::MutexGuard;
use std::thread;

use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, DeviceRepr, DriverError, LaunchConfig,
    PushKernelArg,
};
use cudarc::nvrtc::compile_ptx;

type Outcome = Result<(), DriverError>;

/// A context, its default stream and the right to use the device.
struct Device {
    ctx: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    _guard: MutexGuard<'static, ()>,
}

fn device() -> Device {
    let guard = crate::common::emulator();
    crate::common::nvrtc();
    let ctx = CudaContext::new_non_primary(0, 0).expect("a context");
    Device {
        stream: ctx.default_stream(),
        ctx,
        _guard: guard,
    }
}

impl Device {
    fn kernel(&self, source: &str, name: &str) -> CudaFunction {
        let ptx = compile_ptx(source).expect("the source compiles");
        let module = self.ctx.load_module(ptx).expect("the module loads");
        module.load_function(name).expect("the kernel exists")
    }
}

fn one_block(threads: u32) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (1, 1, 1),
        block_dim: (threads, 1, 1),
        shared_mem_bytes: 0,
    }
}

const SCALE: &str = r#"
extern "C" __global__ void scale(float* out, const float* in, float by, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = by * in[i];
}"#;

/// Scales on a stream.
fn scale(
    stream: &Arc<CudaStream>,
    kernel: &CudaFunction,
    out: &mut CudaSlice<f32>,
    input: &CudaSlice<f32>,
    by: f32,
) -> Outcome {
    let n = input.len() as i32;
    let mut launch = stream.launch_builder(kernel);
    launch.arg(out).arg(input).arg(&by).arg(&n);
    // SAFETY: the arguments are the kernel's, and the buffers hold `n` elements.
    unsafe { launch.launch(LaunchConfig::for_num_elems(n as u32)) }.map(|_| ())
}

#[test]
fn memory_is_allocated_copied_and_cleared() -> Outcome {
    let device = device();
    let stream = &device.stream;
    let zeros = stream.alloc_zeros::<f64>(10)?;
    let mut copy = stream.clone_htod(&[1.5f64; 10])?;
    assert_eq!(stream.clone_dtoh(&zeros)?, [0.0; 10]);
    assert_eq!(stream.clone_dtoh(&copy)?, [1.5; 10]);
    stream.memcpy_dtod(&zeros, &mut copy)?;
    assert_eq!(stream.clone_dtoh(&copy)?, [0.0; 10]);
    stream.memcpy_htod(&[3.0; 4], &mut copy.slice_mut(2..6))?;
    let mut host = [9.0; 3];
    stream.memcpy_dtoh(&copy.slice(5..8), &mut host)?;
    assert_eq!(host, [3.0, 0.0, 0.0]);
    let empty = stream.null::<u32>()?;
    assert_eq!(empty.len(), 0);
    let words: CudaSlice<usize> = stream.clone_htod(&[0; 10])?;
    assert_eq!(words.num_bytes(), 80);
    Ok(())
}

#[test]
fn a_kernel_reads_its_arguments_and_writes_its_output() -> Outcome {
    let device = device();
    let kernel = device.kernel(SCALE, "scale");
    let host: Vec<f32> = (0..1000).map(|i| i as f32).collect();
    let input = device.stream.clone_htod(&host)?;
    let mut out = device.stream.alloc_zeros::<f32>(1000)?;
    scale(&device.stream, &kernel, &mut out, &input, 2.5)?;
    let want: Vec<f32> = host.iter().map(|v| 2.5 * v).collect();
    assert_eq!(device.stream.clone_dtoh(&out)?, want);
    Ok(())
}

#[test]
fn mathematics_is_as_good_as_documented() -> Outcome {
    let device = device();
    let kernel = device.kernel(
        r#"extern "C" __global__ void sines(float* out, const float* in, int n) {
            int i = blockIdx.x * blockDim.x + threadIdx.x;
            if (i < n) out[i] = sinf(in[i]);
        }"#,
        "sines",
    );
    let host: Vec<f32> = (0..512).map(|i| i as f32 * 0.37 - 90.0).collect();
    let input = device.stream.clone_htod(&host)?;
    let mut out = device.stream.alloc_zeros::<f32>(host.len())?;
    let n = host.len() as i32;
    let mut launch = device.stream.launch_builder(&kernel);
    launch.arg(&mut out).arg(&input).arg(&n);
    unsafe { launch.launch(LaunchConfig::for_num_elems(n as u32)) }?;
    for (x, got) in host.iter().zip(device.stream.clone_dtoh(&out)?) {
        let want = f64::from(*x).sin();
        // CUDA documents 2 ulp for sinf; an ulp of a result below 1 is at most 2^-24.
        assert!(
            (f64::from(got) - want).abs() <= 2.0 * 2f64.powi(-24),
            "sinf({x}) = {got}, want {want}"
        );
    }
    Ok(())
}

#[test]
fn streams_wait_for_each_other_where_cudarc_says_so() -> Outcome {
    let device = device();
    let kernel = device.kernel(SCALE, "scale");
    let input = device.stream.clone_htod(&[1.0f32, 2.0, 3.0])?;
    let mut first = device.stream.alloc_zeros::<f32>(3)?;
    let mut second = device.stream.alloc_zeros::<f32>(3)?;
    let other = device.stream.fork()?;
    scale(&other, &kernel, &mut first, &input, 2.0)?;
    // cudarc records events for `first`; the default stream waits for the other one.
    scale(&device.stream, &kernel, &mut second, &first, 10.0)?;
    assert_eq!(device.stream.clone_dtoh(&second)?, [20.0, 40.0, 60.0]);
    let third = other.clone_dtoh(&first)?;
    assert_eq!(third, [2.0, 4.0, 6.0]);
    Ok(())
}

#[test]
fn events_measure_and_pinned_memory_arrives_when_it_is_waited_for() -> Outcome {
    let device = device();
    let kernel = device.kernel(SCALE, "scale");
    let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
    let input = device.stream.clone_htod(&[4.0f32; 64])?;
    let mut out = device.stream.alloc_zeros::<f32>(64)?;
    let start = device.stream.record_event(timed)?;
    scale(&device.stream, &kernel, &mut out, &input, 0.5)?;
    let end = device.stream.record_event(timed)?;
    assert!(!end.is_complete(), "nothing has waited for the stream");
    assert!(start.elapsed_ms(&end)? >= 0.0);
    // SAFETY: written before it is read.
    let mut pinned = unsafe { device.ctx.alloc_pinned::<f32>(64) }?;
    pinned.as_mut_slice()?.fill(7.0);
    device.stream.memcpy_dtoh(&out, &mut pinned)?;
    // With a single stream cudarc records no event for the copy, so its own wait in `as_slice` waits for nothing.
    assert_eq!(pinned.as_slice()?, [7.0; 64]);
    device.stream.synchronize()?;
    assert_eq!(pinned.as_slice()?, [2.0; 64]);
    Ok(())
}

#[repr(C)]
struct Affine {
    by: f32,
    offset: f64,
    rounds: u32,
    count: usize,
}

// SAFETY: a plain C structure without padding that is read.
unsafe impl DeviceRepr for Affine {}

#[test]
fn structures_are_passed_by_value() -> Outcome {
    let device = device();
    let kernel = device.kernel(
        r#"struct Affine { float by; double offset; unsigned rounds; size_t count; };
        extern "C" __global__ void affine(double* out, const Affine p) {
            double v = threadIdx.x;
            for (unsigned i = 0; i < p.rounds; ++i) v = p.by * v + p.offset;
            if (threadIdx.x < p.count) out[threadIdx.x] = v;
        }"#,
        "affine",
    );
    let affine = Affine {
        by: 0.5,
        offset: 8.0,
        rounds: 3,
        count: 5,
    };
    let mut out = device.stream.alloc_zeros::<f64>(6)?;
    let mut launch = device.stream.launch_builder(&kernel);
    launch.arg(&mut out).arg(&affine);
    unsafe { launch.launch(one_block(32)) }?;
    let want: Vec<f64> = (0..6)
        .map(|i| {
            if i < 5 {
                f64::from(i) / 8.0 + 14.0
            } else {
                0.0
            }
        })
        .collect();
    assert_eq!(device.stream.clone_dtoh(&out)?, want);
    Ok(())
}

#[test]
fn threads_share_a_context_or_use_their_own_streams() -> Outcome {
    let device = device();
    let kernel = device.kernel(SCALE, "scale");
    let results: Vec<Vec<f32>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..8u8)
            .map(|i| {
                let (ctx, kernel) = (device.ctx.clone(), kernel.clone());
                scope.spawn(move || -> Result<Vec<f32>, DriverError> {
                    ctx.bind_to_thread()?;
                    let stream = if i % 2 == 0 {
                        ctx.new_stream()?
                    } else {
                        ctx.per_thread_stream()
                    };
                    let input = stream.clone_htod(&vec![f32::from(i); 100])?;
                    let mut out = stream.alloc_zeros::<f32>(100)?;
                    scale(&stream, &kernel, &mut out, &input, 3.0)?;
                    stream.clone_dtoh(&out)
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("no panic").expect("no error"))
            .collect()
    });
    for (i, result) in results.iter().enumerate() {
        assert_eq!(*result, vec![3.0 * i as f32; 100]);
    }
    Ok(())
}

#[test]
fn constant_and_device_variables_are_reached_from_the_host() -> Outcome {
    let device = device();
    let source = r#"
        __constant__ float coefficients[3] = {1.0f, 2.0f, 4.0f};
        __device__ int calls = 40;
        extern "C" __global__ void polynomial(float* out, const float* in) {
            float x = in[threadIdx.x];
            out[threadIdx.x] = (coefficients[2] * x + coefficients[1]) * x + coefficients[0];
            if (threadIdx.x == 0) calls += 1;
        }"#;
    let module = device
        .ctx
        .load_module(compile_ptx(source).expect("compiles"))?;
    let kernel = module.load_function("polynomial")?;
    let input = device.stream.clone_htod(&[0.0f32, 1.0, 2.0, 3.0])?;
    let run = || -> Result<Vec<f32>, DriverError> {
        let mut out = device.stream.alloc_zeros::<f32>(4)?;
        let mut launch = device.stream.launch_builder(&kernel);
        launch.arg(&mut out).arg(&input);
        unsafe { launch.launch(one_block(4)) }?;
        device.stream.clone_dtoh(&out)
    };
    assert_eq!(run()?, [1.0, 7.0, 21.0, 43.0]);
    let mut symbol = module.get_global("coefficients", &device.stream)?;
    assert_eq!(symbol.len(), 12);
    // SAFETY: twelve bytes are three floats.
    let mut view = unsafe { symbol.transmute_mut::<f32>(3) }.expect("it fits");
    device.stream.memcpy_htod(&[5.0f32, 0.0, 1.0], &mut view)?;
    assert_eq!(run()?, [5.0, 6.0, 9.0, 14.0]);
    let mut calls = module.get_global("calls", &device.stream)?;
    // SAFETY: four bytes are an int.
    let calls = unsafe { calls.transmute_mut::<i32>(1) }.expect("it fits");
    assert_eq!(device.stream.clone_dtoh(&calls)?, [42]);
    assert!(module.get_global("missing", &device.stream).is_err());
    Ok(())
}

#[test]
fn functions_tell_their_attributes_and_occupancy() -> Outcome {
    let device = device();
    let kernel = device.kernel(
        r#"extern "C" __global__ void __launch_bounds__(256) tile(float* out) {
            __shared__ float tile[1024];
            extern __shared__ float more[];
            for (int i = threadIdx.x; i < 1024; i += blockDim.x) tile[i] = i;
            more[threadIdx.x] = threadIdx.x;
            __syncthreads();
            out[threadIdx.x] = tile[1023 - threadIdx.x] + more[blockDim.x - 1 - threadIdx.x];
        }"#,
        "tile",
    );
    assert_eq!(kernel.shared_size_bytes()?, 4096);
    assert_eq!(kernel.local_size_bytes()?, 0);
    assert_eq!(kernel.max_threads_per_block()?, 256);
    assert_eq!(kernel.binary_version()?, 86);
    assert!((1..=255).contains(&kernel.num_regs()?));
    // 100 KiB hold 20 blocks of 4 KiB and the reserved one, 48 warps 6 blocks of 8.
    assert_eq!(
        kernel.occupancy_max_active_blocks_per_multiprocessor(256, 0, None)?,
        6
    );
    // 4 + 20 + 1 KiB four times.
    assert_eq!(
        kernel.occupancy_max_active_blocks_per_multiprocessor(256, 20 << 10, None)?,
        4
    );
    extern "C" fn no_shared(_threads: i32) -> usize {
        0
    }
    let (grid, block) = kernel.occupancy_max_potential_block_size(no_shared, 0, 0, None)?;
    assert_eq!((grid, block), (82 * 6, 256));
    let launch = |shared: u32, threads: u32| {
        let mut out = device.stream.alloc_zeros::<f32>(256)?;
        let mut launch = device.stream.launch_builder(&kernel);
        launch.arg(&mut out);
        let config = LaunchConfig {
            shared_mem_bytes: shared,
            ..one_block(threads)
        };
        unsafe { launch.launch(config) }?;
        device.stream.synchronize()
    };
    launch(1024, 256)?;
    assert_eq!(
        launch(1024, 512),
        Err(DriverError(CUresult::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES))
    );
    assert_eq!(
        launch(0, 2048),
        Err(DriverError(CUresult::CUDA_ERROR_INVALID_VALUE))
    );
    assert_eq!(
        launch(64 << 10, 256),
        Err(DriverError(CUresult::CUDA_ERROR_INVALID_VALUE))
    );
    let most = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    kernel.set_attribute(most, 95 << 10)?;
    launch(95 << 10, 256)?;
    assert!(kernel.set_attribute(most, 96 << 10).is_err());
    Ok(())
}

#[test]
fn contexts_are_configured() -> Outcome {
    let device = device();
    let stack = device.ctx.get_limit(sys::CUlimit::CU_LIMIT_STACK_SIZE)?;
    device
        .ctx
        .set_limit(sys::CUlimit::CU_LIMIT_STACK_SIZE, 2 * stack)?;
    assert_eq!(
        device.ctx.get_limit(sys::CUlimit::CU_LIMIT_STACK_SIZE)?,
        2 * stack
    );
    device
        .ctx
        .set_cache_config(sys::CUfunc_cache::CU_FUNC_CACHE_PREFER_SHARED)?;
    assert_eq!(
        device.ctx.get_cache_config()?,
        sys::CUfunc_cache::CU_FUNC_CACHE_PREFER_SHARED
    );
    assert_eq!(device.ctx.compute_capability()?, (8, 6));
    assert!(device.ctx.name()?.contains("3090"));
    Ok(())
}

#[test]
fn a_captured_graph_runs_again_and_again() -> Outcome {
    let device = device();
    let kernel = device.kernel(
        r#"extern "C" __global__ void step(float* x, unsigned* counter) {
            x[threadIdx.x] = 2.0f * x[threadIdx.x] + *counter;
            __syncthreads();
            if (threadIdx.x == 0) *counter += 1;
        }"#,
        "step",
    );
    let stream = device.ctx.new_stream()?;
    let mut x = stream.clone_htod(&[1.0f32; 32])?;
    let mut counter = stream.alloc_zeros::<u32>(1)?;
    // Events of single buffers have no place in a graph.
    // SAFETY: only one stream is used from here on.
    unsafe { device.ctx.disable_event_tracking() };
    stream.synchronize()?;
    stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
    for _ in 0..2 {
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&mut x).arg(&mut counter);
        unsafe { launch.launch(one_block(32)) }?;
    }
    let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let graph = stream.end_capture(flags)?.expect("a graph");
    let mut nodes = 0;
    // SAFETY: a graph that lives; only the count is asked for.
    unsafe { sys::cuGraphGetNodes(graph.cu_graph(), std::ptr::null_mut(), &mut nodes) }.result()?;
    assert_eq!(nodes, 2);
    assert_eq!(stream.clone_dtoh(&counter)?, [0], "recording runs nothing");
    let mut want = 1.0f32;
    for step in 0..10 {
        want = 2.0 * want + step as f32;
    }
    for _ in 0..5 {
        graph.launch()?;
    }
    assert_eq!(stream.clone_dtoh(&x)?, [want; 32]);
    assert_eq!(stream.clone_dtoh(&counter)?, [10]);
    Ok(())
}

#[test]
fn a_cooperative_launch_must_fit() -> Outcome {
    let device = device();
    let kernel = device.kernel(
        r#"extern "C" __global__ void all(unsigned* out) { atomicAdd(out, 1u); }"#,
        "all",
    );
    let mut out = device.stream.alloc_zeros::<u32>(1)?;
    let launch = |out: &mut CudaSlice<u32>, blocks| {
        let mut launch = device.stream.launch_builder(&kernel);
        launch.arg(out);
        let config = LaunchConfig {
            grid_dim: (blocks, 1, 1),
            ..one_block(1024)
        };
        // SAFETY: the kernel's argument.
        unsafe { launch.launch_cooperative(config) }.map(|_| ())
    };
    launch(&mut out, 82)?;
    assert_eq!(device.stream.clone_dtoh(&out)?, [82 * 1024]);
    assert_eq!(
        launch(&mut out, 83),
        Err(DriverError(
            CUresult::CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE
        ))
    );
    Ok(())
}

/// Runs a kernel of one float pointer that must fault; gives the error of the next synchronisation and the report.
fn fault(source: &str, threads: u32) -> (CUresult, String, String) {
    let device = device();
    let kernel = device.kernel(source, "kernel");
    let mut out = device.stream.alloc_zeros::<f32>(32).expect("memory");
    let mut launch = device.stream.launch_builder(&kernel);
    launch.arg(&mut out);
    unsafe { launch.launch(one_block(threads)) }.expect("the launch itself is accepted");
    let error = device.stream.synchronize().expect_err("a fault");
    // The context stays broken.
    assert_eq!(device.stream.synchronize(), Err(error));
    assert_eq!(device.stream.alloc_zeros::<f32>(1).map(|_| ()), Err(error));
    // A destructor does not report the fault a second time.
    let _ = device.ctx.check_err();
    let kind = crate::common::text_of("cuEmuGetLastFaultKind").expect("a fault");
    let report = crate::common::text_of("cuEmuGetLastFault").expect("a fault");
    assert!(report.contains("kernel `kernel`"), "{report}");
    (error.0, kind, report)
}

#[test]
fn faults_are_the_real_error_codes_and_stay() {
    let (code, kind, report) = fault(
        r#"extern "C" __global__ void kernel(float* out) { out[threadIdx.x] = 1.0f; }"#,
        64,
    );
    assert_eq!(
        (code, kind.as_str()),
        (CUresult::CUDA_ERROR_ILLEGAL_ADDRESS, "oob"),
        "{report}"
    );
    assert!(
        report.contains("cuMemAllocAsync"),
        "the allocation is named: {report}"
    );
    let (code, kind, report) = fault(
        r#"extern "C" __global__ void kernel(float* out) { *(double*)(out + 1) = 1.0; }"#,
        1,
    );
    assert_eq!(
        (code, kind.as_str()),
        (CUresult::CUDA_ERROR_MISALIGNED_ADDRESS, "misaligned"),
        "{report}"
    );
    let (code, kind, report) = fault(
        r#"extern "C" __global__ void kernel(float* out) { if (threadIdx.x == 3) __trap(); out[0] = 1.0f; }"#,
        32,
    );
    assert_eq!(
        (code, kind.as_str()),
        (CUresult::CUDA_ERROR_LAUNCH_FAILED, "trap"),
        "{report}"
    );
    let (code, kind, report) = fault(
        r#"extern "C" __global__ void kernel(float* out) { out[0] = threadIdx.x; }"#,
        64,
    );
    assert_eq!(
        (code, kind.as_str()),
        (CUresult::CUDA_ERROR_LAUNCH_FAILED, "race"),
        "{report}"
    );
    // A new context works again.
    let device = device();
    assert_eq!(
        device
            .stream
            .clone_dtoh(&device.stream.alloc_zeros::<u32>(2).unwrap()),
        Ok(vec![0; 2])
    );
}

#[test]
fn a_device_side_assert_and_printf_work() {
    let (code, kind, report) = fault(
        r#"extern "C" __global__ void kernel(float* out) { assert(threadIdx.x < 7); out[threadIdx.x] = 1.0f; }"#,
        8,
    );
    assert_eq!(
        (code, kind.as_str()),
        (CUresult::CUDA_ERROR_ASSERT, "trap"),
        "{report}"
    );
    let device = device();
    let kernel = device.kernel(
        r#"extern "C" __global__ void hello(int i) { printf("thread %d says %d\n", (int)threadIdx.x, i); }"#,
        "hello",
    );
    let mut launch = device.stream.launch_builder(&kernel);
    launch.arg(&5i32);
    unsafe { launch.launch(one_block(2)) }.unwrap();
    device.stream.synchronize().unwrap();
}

#[test]
fn work_after_the_free_of_its_memory_is_found() {
    let device = device();
    let kernel = device.kernel(SCALE, "scale");
    let input = device.stream.clone_htod(&[1.0f32; 32]).unwrap();
    let mut out = device.stream.alloc_zeros::<f32>(32).unwrap();
    // The buffer is given back to the driver behind cudarc's back.
    let address = input.leak();
    unsafe { sys::cuMemFreeAsync(address, device.stream.cu_stream()) }
        .result()
        .unwrap();
    let mut launch = device.stream.launch_builder(&kernel);
    launch.arg(&mut out).arg(&address).arg(&2.0f32).arg(&32i32);
    unsafe { launch.launch(one_block(32)) }.unwrap();
    assert_eq!(
        device.stream.synchronize(),
        Err(DriverError(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS))
    );
    assert_eq!(
        crate::common::text_of("cuEmuGetLastFaultKind").as_deref(),
        Some("use_after_free")
    );
}

#[test]
fn counters_are_given_as_json() -> Outcome {
    let device = device();
    assert_eq!(crate::common::set_option("counters", "on"), 0);
    assert_eq!(
        crate::common::set_option("nonsense", "on"),
        CUresult::CUDA_ERROR_INVALID_VALUE as u32
    );
    let kernel = device.kernel(SCALE, "scale");
    let input = device.stream.clone_htod(&[1.0f32; 1024])?;
    let mut out = device.stream.alloc_zeros::<f32>(1024)?;
    for _ in 0..2 {
        scale(&device.stream, &kernel, &mut out, &input, 2.0)?;
    }
    device.stream.synchronize()?;
    let json = crate::common::text_of("cuEmuGetCounters").expect("counters");
    assert_eq!(crate::common::set_option("counters", "off"), 0);
    let report: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let kernels = report["kernels"].as_array().expect("kernels");
    let found = kernels
        .iter()
        .find(|k| k["kernel"] == "scale")
        .expect("the kernel");
    assert_eq!(found["launches"], 2);
    assert_eq!(found["total"]["global_load_sectors"], 2 * 128, "{found}");
    assert_eq!(
        found["ptxas"]["spill_store_bytes"], 0,
        "ptxas is installed where NVRTC is: {found}"
    );
    Ok(())
}
