//! Every kernel through the real `ptxas`: registers within the budget in the kernel's header, no spills; and every program
//! through NVRTC for the other architectures that the engine runs on. The programs are those of the published networks,
//! and for the kernels that these do not launch those of small graphs.
//!
//! `cargo test --release --test cuda kernel_table -- --nocapture` prints the table.

use std::collections::{BTreeMap, BTreeSet};

use medfusion::checkpoint::ModelConfig;
use medfusion::compile::Precision;
use medfusion::compile::{PlanOptions, fuse, reduce};
use medfusion::device::cuda::{CudaDevice, CudaOptions, PlannedLaunch};
use medfusion::graph::Graph;
use medfusion::tensor::DType;
use medfusion_toolkit::{Ptxas, Resources};
use rayon::prelude::*;

/// Architectures beside the target's.
const OTHERS: [(u32, u32); 4] = [(8, 0), (8, 9), (9, 0), (12, 0)];

/// The emulated GPU in f16; the test of registers says what is missing where there is none.
fn f16_gpu() -> Option<CudaDevice> {
    let options = CudaOptions {
        precision: Precision::F16,
        ..CudaOptions::default()
    };
    CudaDevice::emulated(options).ok()
}

fn launches(gpu: &CudaDevice, graph: &Graph) -> Vec<PlannedLaunch> {
    let plan = crate::paper_plans::plan(gpu, graph);
    let mut launches = gpu.launches(&plan).unwrap();
    launches.extend(gpu.loading_launches(&plan).unwrap());
    launches
}

/// Entry points of `kernels/`, by the sources.
fn entries() -> BTreeSet<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let mut entries = BTreeSet::new();
    for file in files.filter(|file| file.extension().is_some_and(|e| e == "cu")) {
        for line in std::fs::read_to_string(file).unwrap().lines() {
            // `extern "C" __global__ void __launch_bounds__(256) name(const Params p)`
            if line.contains("__global__")
                && let Some((before, _)) = line.rsplit_once("(const ")
                && let Some(name) = before.split([' ', ')']).next_back()
            {
                entries.insert(name.to_owned());
            }
        }
    }
    entries
}

/// One launch of every kernel and program.
fn kernels(
    gpu: &CudaDevice,
) -> BTreeMap<(String, &'static str), (PlannedLaunch, BTreeSet<Precision>)> {
    let config = ModelConfig::published(2);
    let mut graphs = vec![
        crate::paper_plans::sampling(&config, 1, false),
        crate::paper_plans::sampling(&config, 8, true),
        crate::paper_plans::decode(&config, 1),
        crate::paper_plans::decode(&config, 8),
        crate::paper_plans::encode(&config, 1),
        crate::paper_plans::train_unet(&config, 1, true).graph,
        crate::paper_plans::train_unet(&config, 8, false).graph,
        crate::paper_plans::train_vae(2).graph,
    ];
    graphs.extend(crate::every_kernel::graphs());
    let mut found: BTreeMap<_, (PlannedLaunch, BTreeSet<Precision>)> = BTreeMap::new();
    for precision in [
        Precision::F32,
        Precision::F16,
        Precision::BF16,
        Precision::F16Fast,
    ] {
        let gpu = gpu.with(CudaOptions {
            precision,
            ..CudaOptions::default()
        });
        for launch in graphs.iter().flat_map(|graph| launches(&gpu, graph)) {
            let key = (launch.program(), launch.entry());
            found
                .entry(key)
                .or_insert_with(|| (launch, BTreeSet::new()))
                .1
                .insert(precision);
        }
    }
    found
}

#[test]
fn registers_are_within_budget_and_nothing_spills() {
    let ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    let gpu = CudaDevice::emulated(CudaOptions::default());
    let (gpu, ptxas) = match (gpu, Ptxas::find()) {
        (Ok(gpu), Ok(ptxas)) => (gpu, ptxas),
        (gpu, ptxas) => {
            assert!(
                !ci,
                "CI must not skip this test: {:?}, {:?}",
                gpu.err(),
                ptxas.err()
            );
            eprintln!(
                "NOT TESTED: ptxas, NVRTC and the emulated GPU are needed: cargo xtask setup"
            );
            return;
        }
    };
    let entries = entries();
    let kernels = kernels(&gpu);
    // One compilation for all entries of a program.
    let mut programs: BTreeMap<&str, &PlannedLaunch> = BTreeMap::new();
    for ((program, _), (launch, _)) in &kernels {
        programs.insert(program, launch);
    }
    let assembled: BTreeMap<&str, BTreeMap<String, Resources>> = programs
        .par_iter()
        .map(|(&program, launch)| {
            let ptx = launch.ptx((8, 6)).unwrap_or_else(|error| panic!("{error}"));
            let report = ptxas
                .assemble(&ptx, (8, 6))
                .unwrap_or_else(|error| panic!("{program}: {error}"));
            (program, report)
        })
        .collect();

    println!(
        "{:<36} {:>9} {:>6} {:>6} {:>11} {:<20} program",
        "kernel (sm_86)", "registers", "budget", "spills", "shared KiB", "precisions"
    );
    let mut wrong = Vec::new();
    for ((program, entry), (launch, precisions)) in &kernels {
        let used = assembled[program.as_str()][*entry];
        let budget = launch.register_budget();
        let spills = used.spill_store_bytes + used.spill_load_bytes;
        let precisions: Vec<String> = precisions.iter().map(ToString::to_string).collect();
        println!(
            "{entry:<36} {:>9} {:>6} {spills:>6} {:>11.1} {:<20} {program}",
            used.registers,
            budget.map_or("none".to_owned(), |budget| budget.to_string()),
            f64::from(used.shared_bytes + launch.shared_bytes) / 1024.0,
            precisions.join(" "),
        );
        match budget {
            None => wrong.push(format!("{entry}: its header states no `Registers <= N`")),
            Some(budget) if used.registers > budget => {
                wrong.push(format!(
                    "{entry} ({program}): {} registers, its header allows {budget}",
                    used.registers
                ));
            }
            _ => {}
        }
        if spills > 0 || used.stack_bytes > 0 {
            wrong.push(format!(
                "{entry} ({program}): {spills} bytes of spills, {} of stack",
                used.stack_bytes
            ));
        }
        // What the header's budget promises about residency only holds if the launch is possible at all.
        let threads: u32 = launch.block.iter().product();
        assert!(
            used.registers * threads <= 65_536,
            "{entry}: a block of {threads} threads does not fit"
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let found: BTreeSet<String> = kernels
        .keys()
        .map(|(_, entry)| (*entry).to_owned())
        .collect();
    let missing: Vec<&String> = entries.difference(&found).collect();
    assert!(missing.is_empty(), "no graph launches {missing:?}");

    programs.par_iter().for_each(|(program, launch)| {
        for capability in OTHERS {
            if let Err(error) = launch.ptx(capability) {
                panic!("{program} for {capability:?}: {error}");
            }
        }
    });
}

/// Launches of one step by kernel.
fn counted(launches: &[PlannedLaunch]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for launch in launches {
        *counts.entry(launch.entry()).or_default() += 1;
    }
    counts
}

#[test]
fn steps_take_no_more_launches_than_known() {
    let Some(gpu) = f16_gpu() else { return };
    let config = ModelConfig::published(2);
    let [sampling, training, batch_of_8] = crate::paper_plans::KNOWN_LAUNCHES;
    let train = |batch| crate::paper_plans::train_unet(&config, batch, true).graph;
    for (step, most, graph) in [
        (
            "sampling step, batch 1",
            sampling,
            crate::paper_plans::sampling(&config, 1, false),
        ),
        ("training step, batch 1", training, train(1)),
        ("training step, batch 8", batch_of_8, train(8)),
    ] {
        let plan = crate::paper_plans::plan(&gpu, &graph);
        let launches = gpu.launches(&plan).unwrap();
        let found = format!("{} launches {:?}", launches.len(), counted(&launches));
        println!("{step}: {found}; {}", plan.memory(&gpu.backend()));
        assert!(launches.len() <= most, "{step}: {found}");
    }
}

/// The decoder's concatenations feed convolutions alone, which read both halves where they are; in training the filters'
/// gradients read them too.
#[test]
fn a_sampling_step_concatenates_nothing() {
    let Some(gpu) = f16_gpu() else { return };
    let config = ModelConfig::published(2);
    for (graph, concat) in [
        (crate::paper_plans::sampling(&config, 1, false), 18),
        (crate::paper_plans::sampling(&config, 8, true), 18),
        (crate::paper_plans::train_unet(&config, 1, true).graph, 0),
    ] {
        let launches = launches(&gpu, &graph);
        let reads_two = |l: &&PlannedLaunch| l.program().contains("CONCAT=1");
        assert_eq!(launches.iter().filter(reads_two).count(), concat);
        let copies = counted(&launches).get("copy_16").copied().unwrap_or(0);
        assert_eq!(copies == 0, concat > 0, "{copies} copies");
    }
}

/// GroupNorm's statistics of the autoencoder's maps, which are too large for blocks that hold whole groups, come from the
/// convolutions before them.
#[test]
fn the_autoencoders_convolutions_leave_the_statistics_of_their_results() {
    let Some(gpu) = f16_gpu() else { return };
    let config = ModelConfig::published(2);
    for batch in [1, 8] {
        for (graph, left, passes) in [
            (crate::paper_plans::decode(&config, batch), 8, 0),
            // The convolution of an image's three channels is no task for tensor cores.
            (crate::paper_plans::encode(&config, batch), 7, 1),
        ] {
            let launches = launches(&gpu, &graph);
            let moments = |l: &&PlannedLaunch| l.program().contains("MOMENTS=1");
            assert_eq!(
                launches.iter().filter(moments).count(),
                left,
                "batch {batch}"
            );
            let counts = counted(&launches);
            let count = |entry| counts.get(entry).copied().unwrap_or(0);
            assert_eq!(count("group_norm_stats"), passes, "batch {batch}");
            assert_eq!(count("group_norm_stats_merge"), 8, "batch {batch}");
        }
    }
}

/// What convolutions take over costs next to no memory, beside the plans that leave it to steps of their own. Until they
/// are merged 16 bytes of moments stay of 128 pixels of a group's 8 channels, or more: 1/128 of a map, and where memory is
/// short there are two maps. The slabs of a pass of its own are larger, their moments fewer.
#[test]
fn absorbing_takes_next_to_no_memory() {
    let Some(gpu) = f16_gpu() else { return };
    let config = ModelConfig::published(2);
    for (name, graph) in [
        (
            "sampling step",
            crate::paper_plans::sampling(&config, 1, false),
        ),
        (
            "guided steps",
            crate::paper_plans::sampling(&config, 8, true),
        ),
        ("decoding", crate::paper_plans::decode(&config, 8)),
        ("encoding", crate::paper_plans::encode(&config, 1)),
        ("training step", crate::paper_plans::train_vae(2).graph),
    ] {
        let (fused, _) = fuse(&graph);
        let arena = |graph: &Graph| {
            let plan = gpu.plan(graph, PlanOptions::default());
            plan.arena_bytes
        };
        let (absorbed, plain) = (
            arena(&gpu.lower(&fused)),
            arena(&reduce(&fused, DType::F16).0),
        );
        println!("{name}: {absorbed} bytes of activations, {plain} without");
        assert!(
            absorbed <= plain + plain / 256,
            "{name}: {absorbed} bytes, {plain} without"
        );
    }
}
