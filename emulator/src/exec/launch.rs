//! A launch: its checks of the configuration, its blocks over worker threads, its report.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, PoisonError};

use super::block::{Block, BlockOutcome};
use super::config::{ConfigError, LaunchConfig, LaunchError, LaunchReport, Options};
use super::instance::Instance;
use super::launch_state::{Launch, resolve};
use super::occupancy::blocks_per_sm;
use super::trouble::Trouble;
use crate::check::race::{GlobalRace, MAX_LAUNCH, SyncTable};
use crate::check::{Fault, FaultKind};
use crate::counters::tally::{Cache, Tally};
use crate::counters::{Counts, LaunchCounters};
use crate::ir::Kernel;
use crate::ir::code::Op;
use crate::limits;
use crate::memory::DeviceMemory;

/// What cooperative groups find at the address in `%envreg1` and `%envreg2`: its size, and a barrier that starts at 0.
const GRID_WORKSPACE: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, 0];

/// A block counts as stuck after so many yields without any change.
const STUCK_YIELDS: u64 = 512;

fn check(kernel: &Kernel, config: &LaunchConfig<'_>) -> Result<(), ConfigError> {
    let outside =
        |v: &[u32; 3], limit: &[u32; 3]| v.iter().zip(limit).any(|(v, l)| *v == 0 || v > l);
    if outside(&config.grid, &limits::GRID_DIM) {
        return Err(ConfigError::Grid {
            grid: config.grid,
            limit: limits::GRID_DIM,
        });
    }
    let mut threads = limits::THREADS_PER_BLOCK;
    if let Some([x, y, z]) = kernel.max_threads {
        threads = threads.min(x.saturating_mul(y).saturating_mul(z));
    }
    let block = config.block;
    let too_many =
        || u64::from(block[0]) * u64::from(block[1]) * u64::from(block[2]) > u64::from(threads);
    if outside(&block, &limits::BLOCK_DIM) || too_many() {
        return Err(ConfigError::Block {
            block,
            limit: limits::BLOCK_DIM,
            threads,
        });
    }
    if let Some(required) = kernel.required_threads
        && required != block
    {
        return Err(ConfigError::RequiredBlock { block, required });
    }
    let shared = u64::from(kernel.static_shared_bytes) + u64::from(config.dynamic_shared_bytes);
    if shared > u64::from(limits::SHARED_PER_BLOCK) {
        return Err(ConfigError::Shared {
            bytes: shared,
            limit: limits::SHARED_PER_BLOCK,
        });
    }
    if config.params.len() != kernel.parameter_bytes as usize {
        return Err(ConfigError::Parameters {
            expected: kernel.parameter_bytes,
            found: config.params.len(),
        });
    }
    let threads = block[0] * block[1] * block[2];
    let per_sm = blocks_per_sm(kernel, threads, config.dynamic_shared_bytes);
    if per_sm == 0 && shared <= u64::from(limits::SHARED_PER_BLOCK) {
        // The register count is an estimate: only a kernel with `.maxntid`, which states its block size, is refused.
        if kernel.max_threads.is_some()
            && kernel.registers.saturating_mul(threads) > limits::REGISTERS_PER_SM
        {
            return Err(ConfigError::Registers {
                threads,
                registers: kernel.registers,
                limit: limits::REGISTERS_PER_SM,
            });
        }
    }
    if config.cooperative {
        let blocks: u64 = config.grid.iter().map(|g| u64::from(*g)).product();
        let limit = u64::from(per_sm.max(1)) * u64::from(limits::SMS);
        if blocks > limit {
            return Err(ConfigError::Cooperative { blocks, limit });
        }
    }
    Ok(())
}

/// The blocks in flight and their progress.
struct Queue {
    next: u64,
    total: u64,
    suspended: VecDeque<Block>,
    /// Started and not finished.
    in_flight: u64,
    /// Goes up whenever something changes that a waiting block could see.
    generation: u64,
    /// Blocks in flight that count as stuck since then.
    stuck: u64,
    fault: Option<(u64, Box<Fault>)>,
    tally: Option<Tally>,
}

/// Runs a kernel to its end.
///
/// # Errors
/// [`LaunchError::Config`] for a launch that the device refuses, [`LaunchError::Fault`] for the
/// first finding of a checker.
pub fn launch(
    memory: &DeviceMemory,
    instance: &Instance,
    config: &LaunchConfig<'_>,
    options: &Options,
) -> Result<LaunchReport, LaunchError> {
    let module = &**instance.module();
    let kernel = module
        .kernel(config.kernel)
        .ok_or_else(|| ConfigError::NoSuchKernel(config.kernel.to_owned()))?;
    check(kernel, config)?;
    if !config.cooperative {
        return run_grid(memory, instance, kernel, config, options, 0);
    }
    let workspace = memory
        .alloc(GRID_WORKSPACE.len() as u64, "grid barrier")
        .map_err(ConfigError::Workspace)?;
    // The allocation is this function's own, so neither call can fail.
    let _ = memory.write(workspace, &GRID_WORKSPACE);
    let result = run_grid(memory, instance, kernel, config, options, workspace);
    let _ = memory.free(workspace);
    result
}

/// Runs a checked launch; `grid_workspace` is the address of a cooperative grid's barrier.
fn run_grid(
    memory: &DeviceMemory,
    instance: &Instance,
    kernel: &Kernel,
    config: &LaunchConfig<'_>,
    options: &Options,
    grid_workspace: u64,
) -> Result<LaunchReport, LaunchError> {
    let module = &**instance.module();
    let table = SyncTable::default();
    let checks = options.checks;
    let running = memory.begin_launch(MAX_LAUNCH);
    let grid_id = running.number;
    let launch = Launch {
        memory,
        snapshot: memory.snapshot(),
        module,
        kernel,
        functions: module.functions(),
        config,
        options,
        shared_bytes: kernel.static_shared_bytes + config.dynamic_shared_bytes,
        block_threads: config.block[0] * config.block[1] * config.block[2],
        shadow_shared: checks.race || checks.uninit || checks.async_hazard,
        race: checks.race.then(|| {
            GlobalRace::new(
                memory.race_shadow(),
                kernel.narrowest_global,
                grid_id,
                &table,
            )
        }),
        table: &table,
        cache: options.counters.then(Cache::default),
        grid_id,
        grid_workspace,
        constants: resolve(instance, kernel),
    };
    let total: u64 = config.grid.iter().map(|g| u64::from(*g)).product();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = (if options.threads == 0 {
        cores
    } else {
        options.threads
    })
    .min(total as usize)
    .max(1);
    let resident =
        u64::from(blocks_per_sm(kernel, launch.block_threads, config.dynamic_shared_bytes).max(1))
            * u64::from(limits::SMS);
    let resident = resident.max(workers as u64);
    let queue = Mutex::new(Queue {
        next: 0,
        total,
        suspended: VecDeque::new(),
        in_flight: 0,
        generation: 0,
        stuck: 0,
        fault: None,
        tally: None,
    });
    let wake = Condvar::new();
    let first_fault = AtomicU64::new(u64::MAX);
    if workers == 1 {
        work(&launch, &queue, &wake, &first_fault, resident);
    } else {
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| work(&launch, &queue, &wake, &first_fault, resident));
            }
        });
    }
    let queue = queue.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, fault)) = queue.fault {
        return Err(LaunchError::Fault(fault));
    }
    Ok(LaunchReport {
        counters: queue.tally.map(|t| report(&launch, &t, total)),
    })
}

fn work(
    launch: &Launch<'_>,
    queue: &Mutex<Queue>,
    wake: &Condvar,
    first_fault: &AtomicU64,
    resident: u64,
) {
    let lock = || queue.lock().unwrap_or_else(PoisonError::into_inner);
    let mut spare: Option<Block> = None;
    loop {
        let mut q = lock();
        let mut block = loop {
            let limit = first_fault.load(SeqCst);
            // After a fault only blocks before it run on: the first fault in the order of blocks is reported.
            let before = q.suspended.len();
            q.suspended.retain(|b| b.state.linear < limit);
            q.in_flight -= (before - q.suspended.len()) as u64;
            if q.next < q.total.min(limit) && q.in_flight < resident {
                let linear = q.next;
                q.next += 1;
                q.in_flight += 1;
                drop(q);
                break Block::new(launch, linear, spare.take());
            }
            if let Some(block) = q.suspended.pop_front() {
                drop(q);
                break block;
            }
            if q.in_flight == 0 || q.next >= q.total.min(limit) {
                if let Some(tally) = spare.and_then(|b| b.state.tally) {
                    match &mut q.tally {
                        Some(t) => t.add(&tally),
                        none => *none = Some(tally),
                    }
                }
                wake.notify_all();
                return;
            }
            q = wake.wait(q).unwrap_or_else(PoisonError::into_inner);
        };
        let outcome = block.run(launch);
        let mut q = lock();
        match outcome {
            Ok(BlockOutcome::Done) => {
                q.in_flight -= 1;
                q.generation += 1;
                q.stuck = 0;
                // The next block of this worker adds to the same tally.
                match &mut spare {
                    Some(s) => {
                        if let (Some(a), Some(b)) = (&mut s.state.tally, &block.state.tally) {
                            a.add(b);
                        }
                    }
                    none => *none = Some(block),
                }
            }
            Ok(outcome @ (BlockOutcome::Yield | BlockOutcome::Parked)) => {
                if std::mem::take(&mut block.state.changes) > 0 {
                    q.generation += 1;
                    q.stuck = 0;
                }
                let parked = matches!(outcome, BlockOutcome::Parked);
                if block.generation != q.generation {
                    block.generation = q.generation;
                    block.yields = 0;
                } else if !parked {
                    block.yields += 1;
                    if block.yields == STUCK_YIELDS {
                        q.stuck += 1;
                    }
                }
                // Another try would change nothing.
                if parked && block.yields < STUCK_YIELDS {
                    block.yields = STUCK_YIELDS;
                    q.stuck += 1;
                }
                // After a fault no block beyond it starts any more.
                let to_start = q.total.min(first_fault.load(SeqCst));
                let all_started = q.next >= to_start || q.in_flight >= resident;
                if q.stuck > 0 && q.stuck >= q.in_flight && all_started {
                    let warp = block
                        .warps
                        .iter()
                        .position(|w| !w.groups.is_empty())
                        .unwrap_or(0);
                    let message = format!(
                        "all {} blocks in flight wait for something that nobody does ({} of {} blocks were started)",
                        q.in_flight, q.next, q.total
                    );
                    let trouble =
                        Trouble::at_warp(&block.warps[warp], FaultKind::Deadlock, message);
                    let fault = block
                        .early_fault(launch)
                        .unwrap_or_else(|| block.fault(launch, warp, &trouble));
                    q.fault.get_or_insert((block.state.linear, fault));
                    first_fault.store(0, SeqCst);
                    q.in_flight -= 1;
                } else {
                    q.suspended.push_back(block);
                }
            }
            Err(fault) => {
                q.in_flight -= 1;
                q.generation += 1;
                q.stuck = 0;
                let linear = block.state.linear;
                if q.fault.as_ref().is_none_or(|(at, _)| linear < *at) {
                    q.fault = Some((linear, fault));
                }
                first_fault.fetch_min(linear, SeqCst);
            }
        }
        wake.notify_all();
    }
}

fn report(launch: &Launch<'_>, tally: &Tally, blocks: u64) -> LaunchCounters {
    let mut out = LaunchCounters {
        kernel: launch.kernel.name.clone(),
        blocks,
        threads_per_block: launch.block_threads,
        ..LaunchCounters::default()
    };
    for (f, sites) in launch.functions.iter().zip(&tally.sites) {
        for inst in &f.insts {
            if let Op::MatrixMultiply(m) = &inst.op {
                let count = sites[inst.site as usize].warp_instructions;
                if count > 0 {
                    *out.mma.entry(m.name.clone()).or_default() += count;
                }
            }
        }
        for (site, counts) in f.sites.iter().zip(sites) {
            if *counts == Counts::default() {
                continue;
            }
            out.total.add(counts);
            *out.classes.entry(site.class.name().to_owned()).or_default() +=
                counts.warp_instructions;
            out.ptx_lines.entry(site.line).or_default().add(counts);
            if let Some((file, line)) = launch.module.source(site.location) {
                out.source_lines
                    .entry(format!("{file}:{line}"))
                    .or_default()
                    .add(counts);
            }
        }
    }
    if let Some(cache) = &launch.cache {
        out.total.dram_write_bytes += cache.flush();
    }
    out
}
