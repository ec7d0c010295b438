//! What the blocks of a launch share: the device, the code, the checkers, the values of constant slots.

use std::sync::Arc;

use super::config::{LaunchConfig, Options};
use super::instance::Instance;
use crate::check::race::{GlobalRace, SyncTable};
use crate::counters::tally::{Cache, Tally};
use crate::ir::code::{Constant, Function};
use crate::ir::regs::{Regs, S32, S64};
use crate::ir::{Kernel, Module};
use crate::memory::{CODE_WINDOW, DeviceMemory, Snapshot};

/// A constant slot's value: fixed for the launch, or relative to the frame in local memory.
#[derive(Clone, Copy)]
enum ConstantValue {
    Fixed(u64),
    Frame(i64),
}

/// The values of a function's constant slots.
#[derive(Default)]
pub(super) struct Constants {
    r32: Vec<(S32, ConstantValue)>,
    r64: Vec<(S64, ConstantValue)>,
}

/// What all blocks of a launch share.
pub(super) struct Launch<'a> {
    pub memory: &'a DeviceMemory,
    pub snapshot: Arc<Snapshot>,
    pub module: &'a Module,
    pub kernel: &'a Kernel,
    pub functions: &'a [Function],
    pub config: &'a LaunchConfig<'a>,
    pub options: &'a Options,
    pub shared_bytes: u32,
    pub block_threads: u32,
    /// Whether shared memory has shadow state.
    pub shadow_shared: bool,
    pub race: Option<GlobalRace<'a>>,
    pub table: &'a SyncTable,
    pub cache: Option<Cache>,
    pub grid_id: u64,
    /// Address of a cooperative grid's barrier, else 0.
    pub grid_workspace: u64,
    /// One per function of the module.
    pub constants: Vec<Constants>,
}

impl<'a> Launch<'a> {
    /// Fills the constant slots of a frame for the lanes of `mask`.
    pub fn fill_constants(&self, regs: &mut Regs, function: u32, frame: u32, mask: u32) {
        let constants = &self.constants[function as usize];
        let value = |v: ConstantValue| match v {
            ConstantValue::Fixed(bits) => bits,
            ConstantValue::Frame(at) => (i64::from(frame) + at) as u64,
        };
        for (s, v) in &constants.r32 {
            regs.put32(*s, &[value(*v) as u32; 32], mask);
        }
        for (s, v) in &constants.r64 {
            regs.put64(*s, &[value(*v); 32], mask);
        }
        for (s, v) in &self.functions[function as usize].constants_pred {
            regs.put_pred(*s, if *v { u32::MAX } else { 0 }, mask);
        }
    }

    pub fn new_tally(&self) -> Option<Tally> {
        self.options.counters.then(|| Tally::new(self.functions))
    }
}

/// The values that the constant slots of all functions have in a launch.
pub(super) fn resolve(instance: &Instance, kernel: &Kernel) -> Vec<Constants> {
    let value = |c: &Constant| match c {
        Constant::Bits(bits) => ConstantValue::Fixed(*bits),
        Constant::Global(index, offset) => {
            ConstantValue::Fixed(instance.address(*index).wrapping_add(*offset as u64))
        }
        Constant::Shared(index, offset) => ConstantValue::Fixed(
            u64::from(kernel.shared_offsets[*index as usize]).wrapping_add(*offset as u64),
        ),
        Constant::Frame(at, offset) => ConstantValue::Frame(i64::from(*at) + offset),
        Constant::Function(index) => ConstantValue::Fixed(CODE_WINDOW + 16 * u64::from(*index)),
    };
    instance
        .module()
        .functions()
        .iter()
        .map(|f| Constants {
            r32: f.constants32.iter().map(|(s, c)| (*s, value(c))).collect(),
            r64: f.constants64.iter().map(|(s, c)| (*s, value(c))).collect(),
        })
        .collect()
}
