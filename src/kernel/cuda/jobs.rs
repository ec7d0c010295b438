//! Jobs of one kind that a single launch does: see `kernels/common/jobs.cuh`.

use super::constants::ConstantPool;
use super::launch::{Kernel, KernelParams, Launch, params::JobsParams};
use super::work::LaunchWork;

/// A part of a launch, with parameters of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub kernel: Kernel,
    pub blocks: usize,
    /// Threads of a block.
    pub threads: usize,
    /// Dynamic shared memory of a block.
    pub shared_bytes: usize,
    pub params: Vec<u8>,
    pub work: LaunchWork,
}

/// One launch for all jobs of each kernel; their parameters go to `constants`.
pub fn launches(mut jobs: Vec<Job>, constants: &mut ConstantPool) -> Vec<Launch> {
    let mut launches = Vec::new();
    while let Some(first) = jobs.first() {
        let (kernel, threads) = (first.kernel.clone(), first.threads);
        let alike = |job: &Job| job.kernel == kernel && job.threads == threads;
        let (together, others) = jobs.into_iter().partition(|job| alike(job));
        jobs = others;
        launches.push(launch(&together, constants));
    }
    launches
}

fn launch(jobs: &[Job], constants: &mut ConstantPool) -> Launch {
    let narrow = |n: usize| u32::try_from(n).expect("grids are far below 2^32 blocks");
    let (mut table, mut first, mut blocks) = (Vec::new(), Vec::<u8>::new(), 0);
    for job in jobs {
        table.extend(&job.params);
        first.extend(narrow(blocks).to_le_bytes());
        blocks += job.blocks;
    }
    let shared_bytes = jobs.iter().map(|job| job.shared_bytes).max().unwrap_or(0);
    let params = JobsParams {
        jobs: constants.add(&table),
        first: constants.add(&first),
        count: i32::try_from(jobs.len()).expect("a plan has fewer jobs"),
    };
    Launch {
        kernel: jobs[0].kernel.clone(),
        grid: [narrow(blocks), 1, 1],
        block: [narrow(jobs[0].threads), 1, 1],
        shared_bytes: narrow(shared_bytes),
        params: params.bytes(),
        work: jobs[1..]
            .iter()
            .fold(jobs[0].work, |work, job| work.beside(job.work)),
    }
}
