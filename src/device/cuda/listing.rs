//! The launches of a plan, without memory or a GPU: for the explanation of a plan, for the table of registers, for counting.

use super::addresses::{Addresses, Arena};
use super::code::Code;
use super::lower::Lowering;
use super::{CudaDevice, CudaError, nvrtc};
use crate::compile::Plan;
use crate::device::DeviceError;
use crate::kernel::cuda::launch::{Kernel, Launch, source, sources};
use crate::kernel::cuda::{ConstantPool, LaunchWork, Target};

/// One kernel launch of a plan.
#[derive(Clone, Debug)]
pub struct PlannedLaunch {
    kernel: Kernel,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block, in bytes.
    pub shared_bytes: u32,
    /// What it does.
    pub work: LaunchWork,
    /// The plan's step it belongs to, of several that it computes the first; `None` for what packs weights.
    pub step: Option<usize>,
}

impl PlannedLaunch {
    fn new(launch: Launch, step: Option<usize>) -> Self {
        Self {
            kernel: launch.kernel,
            grid: launch.grid,
            block: launch.block,
            shared_bytes: launch.shared_bytes,
            work: launch.work,
            step,
        }
    }

    /// Name of the kernel's entry point.
    pub fn entry(&self) -> &'static str {
        self.kernel.entry
    }

    /// The file below `kernels/` and the constants it is compiled with.
    pub fn program(&self) -> String {
        self.kernel.program.to_string()
    }

    /// What NVRTC makes of the program for a compute capability such as (8, 6).
    ///
    /// # Errors
    /// If NVRTC is missing or refuses the program.
    pub fn ptx(&self, capability: (u32, u32)) -> Result<String, CudaError> {
        let bytes = nvrtc::compile(&self.kernel.program, Code::Ptx(capability))?;
        String::from_utf8(bytes).map_err(|error| CudaError::Compile {
            program: self.program(),
            log: format!("NVRTC's PTX is not text: {error}"),
        })
    }

    /// Registers per thread that the kernel's header allows: the number behind `Registers <=` in the comment in front
    /// of the entry point.
    pub fn register_budget(&self) -> Option<u32> {
        let entry = format!(" {}(", self.kernel.entry);
        // A kernel that several files share lies in a header of theirs.
        let own = source(self.kernel.program.file).into_iter();
        let headers = sources().iter().filter(|(name, _)| name.ends_with(".cuh"));
        let mut texts = own.chain(headers.map(|(_, text)| text.as_str()));
        let before = texts.find_map(|text| text.find(&entry).map(|at| &text[..at]))?;
        let after = &before[before.rfind("// Registers ")? + "// Registers ".len()..];
        let after = after.trim_start().strip_prefix("<=")?;
        let digits: String = after
            .trim_start()
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        digits.parse().ok()
    }

    /// Registers per thread, as far as the source tells: what the header allows, and no more than the blocks that
    /// `__launch_bounds__` promises to a multiprocessor of `registers` registers leave it.
    pub fn registers(&self, registers: u32) -> Option<u32> {
        /// Registers of a warp are given out in units of 256.
        const UNIT: u32 = 8;
        let budget = self.register_budget()?;
        let constant = |wanted: &str| {
            let constants = self.kernel.program.constants.iter();
            let (_, value) = constants.into_iter().find(|(name, _)| *name == wanted)?;
            value.parse::<u32>().ok()
        };
        let threads: u32 = self.block.iter().product();
        let bound = constant("MIN_BLOCKS").map_or(budget, |blocks| {
            registers / (blocks * threads) / UNIT * UNIT
        });
        Some(budget.min(bound))
    }
}

impl CudaDevice {
    /// The launches of each run of `plan`, in order.
    ///
    /// # Errors
    /// If no kernel takes a step.
    pub fn launches(&self, plan: &Plan) -> Result<Vec<PlannedLaunch>, DeviceError> {
        let (_, each) = self.lowered_launches(plan)?;
        Ok(each)
    }

    /// The launches that pack weights once, when `plan` is loaded.
    ///
    /// # Errors
    /// If no kernel takes a step.
    pub fn loading_launches(&self, plan: &Plan) -> Result<Vec<PlannedLaunch>, DeviceError> {
        let (once, _) = self.lowered_launches(plan)?;
        Ok(once)
    }

    fn lowered_launches(
        &self,
        plan: &Plan,
    ) -> Result<(Vec<PlannedLaunch>, Vec<PlannedLaunch>), DeviceError> {
        planned_launches(&self.target, plan)
    }
}

/// The launches of `plan` on a GPU that need not be there: those that run once, when the plan is loaded, and those of each
/// run.
///
/// # Errors
/// If no kernel takes a step.
pub fn planned_launches(
    target: &Target,
    plan: &Plan,
) -> Result<(Vec<PlannedLaunch>, Vec<PlannedLaunch>), DeviceError> {
    let nowhere = Addresses {
        bindings: plan.bindings.iter().map(|_| None).collect(),
        arena: Arena::Isolated(std::collections::HashMap::new()),
        prepacked: plan.packing.prepacked.iter().map(|_| None).collect(),
    };
    let mut lowering = Lowering {
        target,
        plan,
        addresses: &nowhere,
        constants: ConstantPool::default(),
        once: Vec::new(),
        each: Vec::new(),
        owners: Vec::new(),
    };
    lowering.run()?;
    let once = lowering.once.into_iter();
    let each = lowering.each.into_iter().zip(lowering.owners);
    Ok((
        once.map(|launch| PlannedLaunch::new(launch, None))
            .collect(),
        each.map(|(launch, step)| PlannedLaunch::new(launch, step))
            .collect(),
    ))
}
