//! How fast the emulator is: lane instructions and matrix products per second, with the checkers off and on.
//!
//! Times are processor time spread over two cores, so that a busy machine doesn't blur the figures.
//!
//! `cargo bench -p cuda-emulator --bench throughput [-- NAME]`

use std::sync::Arc;

use cuda_emulator::{Checks, DeviceMemory, Instance, LaunchConfig, Module, Options, launch};

/// Seconds of processor time that this process has used so far.
fn processor_time() -> f64 {
    // SAFETY: an all-zero `rusage` is valid, and the call only fills it in.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 * 1e-6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

struct Bench {
    memory: DeviceMemory,
    instance: Instance,
}

impl Bench {
    /// The fastest of three runs, in seconds on two cores.
    fn time(&self, kernel: &str, grid: [u32; 3], block: u32, params: &[u8], checks: Checks) -> f64 {
        let config = LaunchConfig {
            kernel,
            grid,
            block: [block, 1, 1],
            dynamic_shared_bytes: 0,
            params,
            cooperative: false,
        };
        let options = Options {
            checks,
            ..Options::default()
        };
        (0..3)
            .map(|_| {
                let start = processor_time();
                if let Err(e) = launch(&self.memory, &self.instance, &config, &options) {
                    panic!("{kernel}: {e}");
                }
                (processor_time() - start) / 2.0
            })
            .fold(f64::INFINITY, f64::min)
    }

    fn lane_instructions(&self, kernel: &str, grid: [u32; 3], block: u32, params: &[u8]) -> f64 {
        let config = LaunchConfig {
            kernel,
            grid,
            block: [block, 1, 1],
            dynamic_shared_bytes: 0,
            params,
            cooperative: false,
        };
        let options = Options {
            checks: Checks::NONE,
            counters: true,
            ..Options::default()
        };
        let report = launch(&self.memory, &self.instance, &config, &options);
        report
            .ok()
            .and_then(|r| r.counters)
            .map_or(0.0, |c| c.total.lane_instructions as f64)
    }

    fn compare(&self, what: &str, unit: &str, work: f64, run: impl Fn(Checks) -> f64) {
        if std::env::args()
            .skip(1)
            .any(|a| !a.starts_with('-') && !what.contains(&a))
        {
            return;
        }
        let (off, on) = (run(Checks::NONE), run(Checks::ALL));
        println!(
            "{what:<34} {:>9.2} {unit} checks off, {:>9.2} on: {:.2} times slower",
            work / off,
            work / on,
            on / off
        );
    }
}

fn main() {
    let module = Module::compile(include_str!("kernels.ptx"), "kernels.ptx")
        .unwrap_or_else(|e| panic!("{e}"));
    let memory = DeviceMemory::new(cuda_emulator::limits::TOTAL_MEMORY).expect("address space");
    let instance = Instance::new(&Arc::new(module), &memory).expect("variables fit");
    let bench = Bench { memory, instance };
    let room = |bytes: usize| {
        let at = bench.memory.alloc(bytes as u64, "data").expect("fits");
        bench
            .memory
            .fill(at, &[0, 0x3c], bytes as u64 / 2)
            .expect("allocated");
        at
    };

    let mut params = room(4 * 64 * 256).to_le_bytes().to_vec();
    params.extend(2000i32.to_le_bytes());
    let grid = [16, 1, 1];
    let lanes = bench.lane_instructions("arithmetic", grid, 256, &params);
    bench.compare("arithmetic", "G lane instructions/s", lanes / 1e9, |c| {
        bench.time("arithmetic", grid, 256, &params, c)
    });

    let (m, n, k) = (512usize, 512usize, 1024usize);
    let mut params = Vec::new();
    for bytes in [4 * m * n, 2 * m * k, 2 * n * k] {
        params.extend(room(bytes).to_le_bytes());
    }
    params.extend((n as i32).to_le_bytes());
    params.extend((k as i32).to_le_bytes());
    let grid = [m as u32 / 64, n as u32 / 64, 1];
    bench.compare(
        "gemm (cp.async, ldmatrix, mma)",
        "GFLOP/s",
        2e-9 * (m * n * k) as f64,
        |c| bench.time("gemm", grid, 128, &params, c),
    );

    let (rows, n) = (512usize, 4096usize);
    let mut params = Vec::new();
    for _ in 0..2 {
        params.extend(room(4 * rows * n).to_le_bytes());
    }
    params.extend((n as i32).to_le_bytes());
    let lanes = bench.lane_instructions("normalise", [rows as u32, 1, 1], 256, &params);
    bench.compare(
        "normalise (streams memory)",
        "G lane instructions/s",
        lanes / 1e9,
        |c| bench.time("normalise", [rows as u32, 1, 1], 256, &params, c),
    );
}
