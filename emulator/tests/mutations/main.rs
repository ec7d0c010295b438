//! Kernels with one planted bug each, and their corrected twins: every bug is found and named, every twin is clean.
//!
//! The sources are `mutations/*.cu`, with the bug under `#ifdef BUG`; the PTX beside them is what NVRTC makes of them
//! (`mutation_sources.rs` keeps the two together), so these tests need nothing installed.

mod sources;

use std::path::PathBuf;
use std::sync::Arc;

use cuda_emulator::counters::Counts;
use cuda_emulator::{
    DeviceMemory, Fault, Instance, LaunchConfig, LaunchError, Module, Options, launch,
};

/// Seeds of the schedule: a bug must show under each.
const SEEDS: [u64; 6] = [0, 1, 2, 3, 0xdead_beef, u64::MAX];

/// An argument.
#[derive(Clone)]
enum Arg {
    /// Words that the host wrote.
    Input(Vec<u32>),
    /// So many words that were never written.
    Fresh(usize),
    /// So many zeros.
    Zeroed(usize),
    /// A number by value.
    Word(u32),
    /// Words that the host freed again in the faulty run.
    FreedByBug(Vec<u32>),
}

/// How the bug shows.
enum Shows {
    /// A report of one of these kinds.
    Report(&'static [&'static str]),
    /// The results are wrong.
    WrongResult,
    /// The counters of the bug and of the twin.
    Counters(fn(bug: &Counts, fixed: &Counts)),
}

struct Mutation {
    name: &'static str,
    grid: u32,
    block: [u32; 3],
    shared: u32,
    args: Vec<Arg>,
    /// Argument and words that it holds in the end, in the twin.
    want: Vec<(usize, Vec<u32>)>,
    shows: Shows,
}

fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

fn ramp(n: u32) -> Vec<u32> {
    floats((0..n).map(|i| i as f32))
}

/// Sums of four: what the kernels that copy `float4` compute of element `i`.
fn sum_of_four(i: u32) -> f32 {
    (4 * i..4 * i + 4).map(|k| k as f32).sum()
}

fn mutations() -> Vec<Mutation> {
    use Arg::{FreedByBug, Fresh, Input, Word, Zeroed};
    use Shows::{Counters, Report, WrongResult};
    let m = |name, grid, threads: u32, args, want, shows| Mutation {
        name,
        grid,
        block: [threads, 1, 1],
        shared: 0,
        args,
        want,
        shows,
    };
    let integers = |n: u32| -> Vec<u32> { (0..n).map(|i| i * 7 % 64 + 1).collect() };
    let in_64 = integers(64);
    let prefix_sums: Vec<u32> = in_64
        .iter()
        .scan(0, |sum, v| {
            *sum += v;
            Some(*sum)
        })
        .collect();
    let bytes: Vec<u32> = (0..256u32).map(|i| i * i).collect();
    let bins = (0..16)
        .map(|bin| bytes.iter().filter(|v| *v & 15 == bin).count() as u32)
        .collect();
    let matrix: Vec<u32> = (0..1024).collect();
    let transposed: Vec<u32> = (0..1024).map(|i| i % 32 * 32 + i / 32).collect();
    let smoothed: Vec<u32> = (0..128u32)
        .map(|i| if i == 0 || i == 127 { 0 } else { 9 * i })
        .map(|v| (v as f32).to_bits())
        .collect();
    let products = floats((0..64).map(|c| {
        (0..128)
            .map(|k| ((k % 5) as f32) * ((k * 64 + c) % 7) as f32)
            .sum::<f32>()
    }));
    vec![
        m(
            "missing_barrier",
            1,
            64,
            vec![Input(ramp(64)), Fresh(64)],
            vec![(1, floats((0..64).rev().map(|i| i as f32)))],
            Report(&["race", "uninit"]),
        ),
        m(
            "off_by_one",
            2,
            64,
            vec![Input(ramp(100)), Fresh(100), Word(100)],
            vec![(1, floats((0..100).map(|i| 2.0 * i as f32)))],
            Report(&["oob"]),
        ),
        m(
            "before_the_start",
            1,
            64,
            vec![Input(ramp(64)), Fresh(64), Word(64)],
            vec![(1, floats((0..64).map(|i| if i == 0 { 0.0 } else { 1.0 })))],
            Report(&["oob"]),
        ),
        m(
            "global_race",
            4,
            64,
            vec![Zeroed(1)],
            vec![(0, vec![256])],
            Report(&["race"]),
        ),
        m(
            "histogram_without_atomics",
            1,
            64,
            vec![Input(bytes), Fresh(16), Word(256)],
            vec![(1, bins)],
            Report(&["race"]),
        ),
        m(
            "cp_async_without_wait",
            1,
            64,
            vec![Input(ramp(256)), Fresh(64)],
            vec![(1, floats((0..64).map(|i| sum_of_four(i ^ 1))))],
            Report(&["async_hazard"]),
        ),
        m(
            "cp_async_wait_too_shallow",
            1,
            32,
            vec![Input(ramp(384)), Fresh(32), Word(3)],
            vec![(
                1,
                floats((0..32).map(|i| (0..3).map(|k| sum_of_four(k * 32 + 31 - i)).sum())),
            )],
            Report(&["async_hazard"]),
        ),
        m(
            "cp_async_without_barrier",
            1,
            64,
            vec![Input(ramp(256)), Fresh(64)],
            vec![(1, floats((0..64).map(|i| sum_of_four(63 - i))))],
            Report(&["async_hazard", "race", "uninit"]),
        ),
        m(
            "cp_async_into_a_tile_in_use",
            1,
            64,
            vec![Input(ramp(768)), Fresh(64), Word(3)],
            vec![(
                1,
                floats((0..64).map(|i| (0..3).map(|k| sum_of_four(k * 64 + 63 - i)).sum())),
            )],
            Report(&["race", "async_hazard"]),
        ),
        Mutation {
            block: [32, 8, 1],
            ..m(
                "wrong_swizzle",
                1,
                0,
                vec![Input(matrix.clone()), Fresh(1024)],
                vec![(1, transposed.clone())],
                WrongResult,
            )
        },
        Mutation {
            block: [32, 8, 1],
            ..m(
                "missing_swizzle",
                1,
                0,
                vec![Input(matrix), Fresh(1024)],
                vec![(1, transposed)],
                Counters(|bug, fixed| {
                    assert_eq!(
                        fixed.shared_wavefronts, 64,
                        "32 stores and 32 loads, one pass each"
                    );
                    assert_eq!(
                        bug.shared_wavefronts,
                        32 + 32 * 32,
                        "a column takes 32 passes"
                    );
                    assert_eq!(bug.shared_wavefronts_ideal, 64);
                }),
            )
        },
        m(
            "strided_access",
            4,
            256,
            vec![Input(ramp(1024)), Fresh(1024)],
            vec![(1, floats((0..1024).map(|i| 2.0 * i as f32)))],
            Counters(|bug, fixed| {
                assert_eq!(
                    fixed.global_load_sectors, 128,
                    "4 sectors for each of 32 warps"
                );
                assert_eq!(bug.global_load_sectors, 1024, "a sector for each lane");
                assert_eq!(bug.global_load_sectors_ideal, 128);
            }),
        ),
        m(
            "wrong_output_coordinate",
            1,
            64,
            vec![Input(ramp(64)), Input(ramp(8)), Fresh(64), Word(8)],
            vec![(2, floats((0..64).map(|i| (i + i % 8) as f32)))],
            WrongResult,
        ),
        m(
            "uninit_shared_halo",
            1,
            64,
            vec![Input(ramp(64)), Fresh(64)],
            vec![(
                1,
                floats((0..64).map(|i| {
                    if i == 63 {
                        125.0
                    } else {
                        3.0 * i as f32 + f32::from(i == 0)
                    }
                })),
            )],
            Report(&["uninit"]),
        ),
        m(
            "uninit_global",
            1,
            32,
            vec![Input(ramp(32)), Fresh(32)],
            vec![(1, ramp(32))],
            Report(&["uninit"]),
        ),
        m(
            "uninit_tail",
            1,
            32,
            vec![Fresh(32), Fresh(32), Word(64)],
            vec![(1, (0..32).map(|i| 7 << 16 | i).collect())],
            Report(&["uninit"]),
        ),
        m(
            "uninit_local",
            1,
            1,
            vec![Fresh(1), Word(3)],
            vec![(0, vec![5])],
            Report(&["uninit"]),
        ),
        m(
            "divergent_barrier",
            1,
            64,
            vec![Fresh(80)],
            vec![(0, floats((0..64).map(|i| i as f32).chain([1.0; 16])))],
            Report(&["divergent_barrier"]),
        ),
        m(
            "barrier_in_uneven_loop",
            1,
            64,
            vec![Input(in_64.clone()), Fresh(64)],
            vec![(1, prefix_sums)],
            Report(&["divergent_barrier"]),
        ),
        m(
            "shuffle_in_a_branch",
            1,
            32,
            vec![Input(integers(32)), Fresh(32)],
            vec![(
                1,
                (0..32)
                    .map(|i| integers(32)[i] + if i < 16 { integers(32)[i + 8] } else { 0 })
                    .collect(),
            )],
            Report(&["bad_mask", "divergent_barrier"]),
        ),
        m(
            "shuffle_mask_without_caller",
            1,
            32,
            vec![Input(integers(32)), Fresh(32)],
            vec![(
                1,
                (0..32)
                    .map(|i| integers(32)[i] + integers(32)[i ^ 1])
                    .collect(),
            )],
            Report(&["bad_mask"]),
        ),
        m(
            "vote_mask_of_absent_lanes",
            1,
            32,
            vec![Input((0..32).map(|i| i % 3).collect()), Fresh(32)],
            vec![(1, {
                let votes = (0..32u32)
                    .filter(|i| i % 3 > 0 && i % 2 == 1)
                    .fold(0, |v, i| v | 1 << i);
                (0..32u32)
                    .map(|i| if i % 3 > 0 { votes } else { 0 })
                    .collect()
            })],
            Report(&["bad_mask", "divergent_barrier"]),
        ),
        m(
            "misaligned_vector_load",
            1,
            8,
            vec![Input(ramp(64)), Fresh(32), Word(1)],
            vec![(1, floats((1..33).map(|i| i as f32)))],
            Report(&["misaligned"]),
        ),
        m(
            "misaligned_ldmatrix",
            1,
            32,
            vec![Input(integers(32)), Fresh(32)],
            vec![(1, integers(32))],
            Report(&["misaligned"]),
        ),
        m(
            "use_after_free",
            1,
            32,
            vec![FreedByBug(ramp(32)), Fresh(32)],
            vec![(1, ramp(32))],
            Report(&["use_after_free"]),
        ),
        m(
            "double_write",
            1,
            64,
            vec![Input(in_64.clone()), Fresh(32)],
            vec![(1, in_64.iter().copied().step_by(2).collect())],
            Report(&["race"]),
        ),
        m(
            "store_beside_atomics",
            4,
            32,
            vec![Input(integers(128)), Zeroed(1)],
            vec![(1, vec![64])],
            Report(&["race"]),
        ),
        m(
            "missing_syncwarp",
            1,
            32,
            vec![Input(integers(32)), Fresh(32)],
            vec![(1, (0..32).map(|i| integers(32)[i ^ 1]).collect())],
            Report(&["race", "uninit"]),
        ),
        m(
            "last_block_without_fence",
            8,
            32,
            vec![Input(ramp(64)), Fresh(8), Zeroed(1), Fresh(1)],
            vec![(3, floats([2016.0]))],
            Report(&["race", "uninit"]),
        ),
        m(
            "tree_reduction_without_barrier",
            1,
            128,
            vec![Input(ramp(128)), Fresh(1)],
            vec![(1, floats([8128.0]))],
            Report(&["race"]),
        ),
        m(
            "tile_overwritten_too_early",
            1,
            64,
            vec![
                Input(floats((0..128).map(|k| (k % 5) as f32))),
                Input(floats((0..128 * 64).map(|i| (i % 7) as f32))),
                Fresh(64),
                Word(2),
            ],
            vec![(2, products)],
            Report(&["race"]),
        ),
        Mutation {
            shared: 256,
            ..m(
                "shared_out_of_bounds",
                1,
                64,
                vec![Input(ramp(64)), Fresh(64)],
                vec![(1, ramp(64))],
                Report(&["oob"]),
            )
        },
        m(
            "stencil_in_place",
            2,
            64,
            vec![
                Input(floats((0..128).map(|i| 9.0 * i as f32))),
                Zeroed(128),
                Word(128),
            ],
            vec![(1, smoothed)],
            Report(&["race"]),
        ),
        m(
            "overlapping_chunks",
            4,
            64,
            vec![Fresh(256), Word(256)],
            vec![(0, (0..256).map(|i| i / 64).collect())],
            Report(&["race"]),
        ),
        m(
            "freed_by_the_kernel",
            1,
            16,
            vec![Input(in_64.clone()), Fresh(16)],
            vec![(1, in_64.chunks(4).map(|c| c.iter().sum()).collect())],
            Report(&["use_after_free"]),
        ),
        m(
            "freed_twice",
            1,
            32,
            vec![Input(integers(32)), Fresh(32)],
            vec![(1, integers(32).into_iter().rev().collect())],
            Report(&["use_after_free"]),
        ),
        m(
            "past_the_end_of_the_heap_block",
            1,
            16,
            vec![Input(in_64.clone()), Fresh(64)],
            vec![(
                1,
                in_64
                    .chunks(4)
                    .flat_map(|c| c.iter().rev().copied())
                    .collect(),
            )],
            Report(&["oob"]),
        ),
        m(
            "bins_cleared_without_barrier",
            1,
            64,
            vec![Input(in_64.clone()), Fresh(16)],
            vec![(
                1,
                (0..16)
                    .map(|bin| in_64.iter().filter(|v| *v & 15 == bin).count() as u32)
                    .collect(),
            )],
            Report(&["race", "uninit"]),
        ),
        m(
            "first_block_resets",
            4,
            32,
            vec![Input(integers(128)), Zeroed(1)],
            vec![(1, vec![integers(128).iter().sum()])],
            Report(&["race"]),
        ),
        m(
            "named_barrier_count",
            1,
            64,
            vec![Input(integers(32)), Fresh(32)],
            vec![(1, integers(32).into_iter().rev().collect())],
            Report(&["race", "uninit"]),
        ),
        m(
            "spin_without_acquire",
            1,
            64,
            vec![Input(vec![77]), Fresh(1)],
            vec![(1, vec![77])],
            Report(&["race", "uninit"]),
        ),
    ]
}

/// The outcome of a run: the fault, or the words of the arguments to be compared, and the counters.
type Outcome = Result<(Vec<Vec<u32>>, Counts), Box<Fault>>;

fn run(mutation: &Mutation, with_bug: bool, seed: u64) -> Outcome {
    let variant = if with_bug { "bug" } else { "fixed" };
    let file = format!("{}.{variant}.ptx", mutation.name);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/mutations")
        .join(&file);
    let ptx = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let module = Arc::new(Module::compile(&ptx, &file).unwrap_or_else(|e| panic!("{e}")));
    let memory = DeviceMemory::new(1 << 30).expect("address space");
    let instance = Instance::new(&module, &memory).expect("module variables fit");
    let mut params = Vec::new();
    let mut buffers = Vec::new();
    for (index, arg) in mutation.args.iter().enumerate() {
        let (words, count) = match arg {
            Arg::Word(word) => {
                params.extend(word.to_le_bytes());
                buffers.push((0, 0));
                continue;
            }
            Arg::Input(words) | Arg::FreedByBug(words) => (Some(words.clone()), words.len()),
            Arg::Zeroed(count) => (Some(vec![0; *count]), *count),
            Arg::Fresh(count) => (None, *count),
        };
        let address = memory
            .alloc(4 * count as u64, &format!("args[{index}]"))
            .expect("memory");
        if let Some(words) = words {
            let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            memory.write(address, &bytes).expect("just allocated");
        }
        if with_bug && matches!(arg, Arg::FreedByBug(_)) {
            memory.free(address).expect("just allocated");
        }
        params.resize(params.len().next_multiple_of(8), 0);
        params.extend(address.to_le_bytes());
        buffers.push((address, count));
    }
    let config = LaunchConfig {
        kernel: "kernel",
        grid: [mutation.grid, 1, 1],
        block: mutation.block,
        dynamic_shared_bytes: mutation.shared,
        params: &params,
        cooperative: false,
    };
    let options = Options {
        seed,
        threads: 2,
        counters: true,
        // A bug may be an endless loop.
        max_warp_instructions_per_block: 1 << 20,
        ..Options::default()
    };
    match launch(&memory, &instance, &config, &options) {
        Ok(report) => {
            let words = mutation
                .want
                .iter()
                .map(|(index, _)| {
                    let (address, count) = buffers[*index];
                    let mut bytes = vec![0; 4 * count];
                    memory.read(address, &mut bytes).expect("allocated above");
                    bytes
                        .chunks_exact(4)
                        .map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]))
                        .collect()
                })
                .collect();
            Ok((words, report.counters.expect("asked for").total))
        }
        Err(LaunchError::Fault(fault)) => Err(fault),
        Err(LaunchError::Config(error)) => panic!("{}: {error}", mutation.name),
    }
}

/// A report names the kernel, the place in both languages, and a thread of the launch.
fn check_report(mutation: &Mutation, fault: &Fault) {
    assert_eq!(fault.kernel, "kernel", "{fault}");
    assert!(fault.ptx_line > 0, "{fault}");
    assert!(fault.block[0] < mutation.grid, "{fault}");
    assert!(
        fault
            .thread
            .iter()
            .zip(mutation.block)
            .all(|(at, size)| *at < size),
        "{fault}"
    );
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/mutations")
        .join(format!("{}.cu", mutation.name));
    if let Ok(text) = std::fs::read_to_string(source) {
        let (file, line) = fault
            .source
            .as_ref()
            .unwrap_or_else(|| panic!("no source line: {fault}"));
        assert!(file.ends_with(&format!("{}.cu", mutation.name)), "{fault}");
        assert!((*line as usize) <= text.lines().count(), "{fault}");
    }
}

fn check_bug(mutation: &Mutation, seed: u64) -> Result<(), String> {
    let outcome = run(mutation, true, seed);
    let name = mutation.name;
    match (&mutation.shows, outcome) {
        (Shows::Report(kinds), Err(fault)) if kinds.contains(&fault.kind.name()) => {
            check_report(mutation, &fault);
            Ok(())
        }
        (Shows::Report(kinds), Err(fault)) => {
            Err(format!("{name}: expected {kinds:?}, reported {fault}"))
        }
        (Shows::Report(kinds), Ok(_)) => {
            Err(format!("{name}: expected {kinds:?}, nothing was reported"))
        }
        (_, Err(fault)) => Err(format!("{name}: reported {fault}")),
        (Shows::WrongResult, Ok((words, _))) => {
            let right = words
                .iter()
                .zip(&mutation.want)
                .all(|(got, (_, want))| got == want);
            if right {
                Err(format!("{name}: the result is right"))
            } else {
                Ok(())
            }
        }
        (Shows::Counters(check), Ok((_, bug))) => match run(mutation, false, seed) {
            Ok((_, fixed)) => {
                check(&bug, &fixed);
                Ok(())
            }
            Err(fault) => Err(format!("{name}: the twin reported {fault}")),
        },
    }
}

fn check_twin(mutation: &Mutation, seed: u64) -> Result<(), String> {
    let name = mutation.name;
    match run(mutation, false, seed) {
        Err(fault) => Err(format!(
            "{name}: the corrected kernel was reported: {fault}"
        )),
        Ok((words, _)) => {
            for (got, (index, want)) in words.iter().zip(&mutation.want) {
                if let Some(at) = (0..want.len()).find(|&i| got[i] != want[i]) {
                    return Err(format!(
                        "{name}: args[{index}][{at}] is {:#x}, expected {:#x}",
                        got[at], want[at]
                    ));
                }
            }
            Ok(())
        }
    }
}

fn check_all(check: fn(&Mutation, u64) -> Result<(), String>) {
    let mut failures = Vec::new();
    for mutation in &mutations() {
        // The first failing seed of a kernel says enough.
        failures.extend(SEEDS.iter().find_map(|&seed| {
            check(mutation, seed)
                .err()
                .map(|failure| format!("seed {seed}: {failure}"))
        }));
    }
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn every_planted_bug_is_found_and_named() {
    check_all(check_bug);
}

#[test]
fn every_corrected_twin_is_clean_and_right() {
    check_all(check_twin);
}

#[test]
fn every_kernel_of_the_library_is_in_the_table() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/mutations");
    let known = mutations();
    let mut files = 0;
    for file in std::fs::read_dir(folder).expect("the library").flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        if let Some(kernel) = name.strip_suffix(".bug.ptx") {
            assert!(
                known.iter().any(|m| m.name == kernel),
                "{name} is not in the table"
            );
            files += 1;
        }
    }
    assert_eq!(files, known.len());
}
