//! Special registers.

use super::running::Run;
use crate::ir::code::Special;
use crate::ir::regs::Reg;
use crate::limits;

impl Run<'_, '_> {
    /// Writes a special register's value to the lanes of `mask`.
    pub fn special(&mut self, d: Reg, special: Special, mask: u32) {
        let [bx, by, bz] = self.launch.config.block;
        let first = self.warp.index * 32;
        let mut out = [0u64; 32];
        let lanes = |f: &dyn Fn(u32) -> u64| -> [u64; 32] { std::array::from_fn(|l| f(l as u32)) };
        let time = self.warp.instructions * 4 + self.block.instructions;
        match special {
            Special::Tid(0) => out = lanes(&|l| u64::from((first + l) % bx)),
            Special::Tid(1) => out = lanes(&|l| u64::from((first + l) / bx % by)),
            Special::Tid(2) => out = lanes(&|l| u64::from((first + l) / bx / by)),
            Special::Ntid(axis) => {
                out = [u64::from(*[bx, by, bz].get(axis as usize).unwrap_or(&0)); 32]
            }
            Special::Ctaid(axis) => {
                out = [u64::from(*self.block.coordinates.get(axis as usize).unwrap_or(&0)); 32];
            }
            Special::Nctaid(axis) => {
                out = [u64::from(*self.launch.config.grid.get(axis as usize).unwrap_or(&0)); 32];
            }
            Special::LaneId => out = lanes(&u64::from),
            Special::WarpId => out = [u64::from(self.warp.index); 32],
            Special::NWarpId => out = [48; 32],
            Special::SmId => out = [self.block.linear % u64::from(limits::SMS); 32],
            Special::NSmId => out = [u64::from(limits::SMS); 32],
            Special::GridId => out = [self.launch.grid_id; 32],
            Special::LaneMaskEq => out = lanes(&|l| 1 << l),
            Special::LaneMaskLt => out = lanes(&|l| (1u64 << l) - 1),
            Special::LaneMaskLe => out = lanes(&|l| (2u64 << l) - 1),
            Special::LaneMaskGt => out = lanes(&|l| !((2u64 << l) - 1) & 0xffff_ffff),
            Special::LaneMaskGe => out = lanes(&|l| !((1u64 << l) - 1) & 0xffff_ffff),
            Special::Clock | Special::Clock64 => out = [time; 32],
            Special::ClockHi => out = [time >> 32; 32],
            Special::GlobalTimer | Special::GlobalTimerLo => out = [time; 32],
            Special::GlobalTimerHi => out = [time >> 32; 32],
            Special::DynamicSharedSize => {
                out = [u64::from(self.launch.config.dynamic_shared_bytes); 32]
            }
            Special::TotalSharedSize => out = [u64::from(self.launch.shared_bytes); 32],
            // The driver's convention, which cooperative groups read: the address of the grid's barrier.
            Special::EnvReg(1) => out = [self.launch.grid_workspace >> 32; 32],
            Special::EnvReg(2) => out = [self.launch.grid_workspace & 0xffff_ffff; 32],
            Special::Tid(_) | Special::EnvReg(_) | Special::Zero => {}
        }
        d.store_wide(&mut self.warp.regs, &out, mask);
    }
}
