//! Calls, returns and the stack of a group: frames of registers and of local memory.

use super::local;
use super::running::{Result, Run};
use super::warp::{Caller, Group};
use crate::check::FaultKind;
use crate::ir::code::{Call, CallTarget, Op, PassedIn};
use crate::ir::regs::{Base, Reg};
use crate::memory::CODE_WINDOW;

/// Deepest nesting of calls.
const MAX_CALLS: usize = 4096;

impl Run<'_, '_> {
    /// Calls a function of the module.
    pub fn call(&mut self, g: &mut Group, call: &Call, active: u32) -> Result<()> {
        let mut mask = active;
        let target = match call.target {
            CallTarget::Direct(index) => index,
            CallTarget::Indirect(s) => {
                let values = *self.warp.regs.get64(s);
                let lane = active.trailing_zeros();
                let address = values[lane as usize];
                let index = address.wrapping_sub(CODE_WINDOW) / 16;
                let valid = address >= CODE_WINDOW && address.is_multiple_of(16);
                let Some(f) = self
                    .launch
                    .functions
                    .get(index as usize)
                    .filter(|f| valid && !f.is_kernel)
                else {
                    let message = format!("a call to {address:#x}, which is not a function");
                    return Err(self.trouble(g, FaultKind::BadTarget, lane, message));
                };
                if f.params.len() != call.arguments.len() || f.returns.len() != call.returns.len() {
                    let message =
                        format!("a call of `{}` with another function's prototype", f.name);
                    return Err(self.trouble(g, FaultKind::BadTarget, lane, message));
                }
                mask = (0..32)
                    .filter(|l| active >> l & 1 != 0 && values[*l] == address)
                    .fold(0, |m, l| m | 1 << l);
                index as u32
            }
            CallTarget::Builtin(_) => return Ok(()),
        };
        if g.callers.len() >= MAX_CALLS {
            let message = format!("calls are nested deeper than {MAX_CALLS}");
            return Err(self.trouble(g, FaultKind::StackOverflow, mask.trailing_zeros(), message));
        }
        if mask != g.mask {
            // Lanes with another target execute this instruction again later; lanes that don't call continue behind it.
            let again = active & !mask;
            let skip = g.mask & !active;
            if again != 0 {
                let part = g.split(again, g.pc);
                self.warp.groups.push(part);
            }
            if skip != 0 {
                let part = g.split(skip, g.pc + 1);
                self.warp.groups.push(part);
            }
            *g = g.split(mask, g.pc);
        }
        let caller = &self.launch.functions[g.function as usize];
        let callee = &self.launch.functions[target as usize];
        let frame = (g.frame + caller.frame_bytes + g.dynamic).next_multiple_of(16);
        self.grow_stack(g, mask, frame, callee.frame_bytes)?;
        let base = Base {
            r32: g.base.r32 + caller.n32,
            r64: g.base.r64 + caller.n64,
            pred: g.base.pred + caller.npred,
        };
        self.warp
            .regs
            .reserve(base, callee.n32, callee.n64, callee.npred);
        let arguments: Vec<_> = call
            .arguments
            .iter()
            .zip(&callee.params)
            .map(|(a, p)| (*a, *p))
            .collect();
        for (from, to) in arguments {
            self.pass(mask, (g.base, g.frame, from), (base, frame, to));
        }
        g.callers.push(Caller {
            function: g.function,
            back: g.pc + 1,
            base: g.base,
            frame: g.frame,
            dynamic: g.dynamic,
        });
        (g.function, g.pc, g.base, g.frame, g.dynamic) = (target, 0, base, frame, 0);
        self.warp.regs.base = base;
        self.launch
            .fill_constants(&mut self.warp.regs, target, frame, mask);
        Ok(())
    }

    /// Extends the stack by `bytes` of local memory, which count as never written.
    fn grow_stack(&mut self, g: &Group, mask: u32, at: u32, bytes: u32) -> Result<()> {
        let end = u64::from(at) + u64::from(bytes);
        if end > u64::from(local::MAX_BYTES) {
            let message = format!(
                "the stack needs {end} bytes per thread, the limit is {}",
                local::MAX_BYTES
            );
            return Err(self.trouble(g, FaultKind::StackOverflow, mask.trailing_zeros(), message));
        }
        self.warp.local.reserve(end as u32);
        self.warp.local.forget(mask, at, bytes);
        Ok(())
    }

    /// `alloca`: all lanes get the same address, with room for the largest request.
    pub fn allocate(
        &mut self,
        g: &mut Group,
        d: Reg,
        size: Reg,
        align: u32,
        active: u32,
    ) -> Result<()> {
        let sizes = size.fetch_wide(&self.warp.regs);
        let most = (0..32)
            .filter(|l| active >> l & 1 != 0)
            .map(|l| sizes[l])
            .max()
            .unwrap_or(0);
        let top = g.frame + self.launch.functions[g.function as usize].frame_bytes + g.dynamic;
        let at = top.next_multiple_of(align.max(8));
        // Clamped so that the sum below cannot overflow; beyond the limit `grow_stack` refuses any size.
        let bytes = most.min(u64::from(local::MAX_BYTES) + 1) as u32;
        self.grow_stack(g, active, at, bytes)?;
        g.dynamic += at + bytes - top;
        d.store_wide(&mut self.warp.regs, &[u64::from(at); 32], active);
        Ok(())
    }

    /// Returns to the caller.
    pub fn go_back(&mut self, g: &mut Group) -> Result<()> {
        let Some(caller) = g.callers.pop() else {
            return Err(self.trouble(
                g,
                FaultKind::BadTarget,
                g.mask.trailing_zeros(),
                String::from("a return without a call"),
            ));
        };
        let callee = &self.launch.functions[g.function as usize];
        let site = &self.launch.functions[caller.function as usize].insts[caller.back as usize - 1];
        if let Op::Call(call) = &site.op {
            for (from, to) in callee.returns.iter().zip(&call.returns) {
                self.pass(
                    g.mask,
                    (g.base, g.frame, *from),
                    (caller.base, caller.frame, *to),
                );
            }
        }
        (g.function, g.pc, g.base, g.frame) =
            (caller.function, caller.back, caller.base, caller.frame);
        g.dynamic = caller.dynamic;
        g.last = None;
        self.warp.regs.base = g.base;
        Ok(())
    }

    /// Copies an argument or a return value between frames.
    fn pass(&mut self, mask: u32, from: (Base, u32, PassedIn), to: (Base, u32, PassedIn)) {
        let size = from.2.size().min(to.2.size());
        let mut bytes = vec![0u8; size as usize];
        for lane in (0..32usize).filter(|l| mask >> l & 1 != 0) {
            self.warp.regs.base = from.0;
            let written = match from.2 {
                PassedIn::Memory(at, _) => {
                    self.warp.local.read(lane, from.1 + at, &mut bytes);
                    self.warp.local.is_written(lane, from.1 + at, size)
                }
                PassedIn::Register(Reg::W(s), _) => {
                    let v = self.warp.regs.get32(s)[lane].to_le_bytes();
                    bytes.copy_from_slice(&v[..size as usize]);
                    true
                }
                PassedIn::Register(Reg::D(s), _) => {
                    let v = self.warp.regs.get64(s)[lane].to_le_bytes();
                    bytes.copy_from_slice(&v[..size as usize]);
                    true
                }
            };
            self.warp.regs.base = to.0;
            let mut wide = [0u8; 8];
            let n = bytes.len().min(8);
            wide[..n].copy_from_slice(&bytes[..n]);
            match to.2 {
                PassedIn::Memory(at, _) => {
                    // Padding of structures is passed as it is: bytes that were never written stay so.
                    if written {
                        self.warp.local.write(lane, to.1 + at, &bytes);
                    } else {
                        for (i, byte) in bytes.iter().enumerate() {
                            let from_at = match from.2 {
                                PassedIn::Memory(a, _) => from.1 + a + i as u32,
                                PassedIn::Register(..) => 0,
                            };
                            if self.warp.local.is_written(lane, from_at, 1) {
                                self.warp.local.write(lane, to.1 + at + i as u32, &[*byte]);
                            }
                        }
                    }
                }
                PassedIn::Register(Reg::W(s), _) => {
                    let mut v = *self.warp.regs.get32(s);
                    v[lane] = u64::from_le_bytes(wide) as u32;
                    self.warp.regs.put32(s, &v, 1 << lane);
                }
                PassedIn::Register(Reg::D(s), _) => {
                    let mut v = *self.warp.regs.get64(s);
                    v[lane] = u64::from_le_bytes(wide);
                    self.warp.regs.put64(s, &v, 1 << lane);
                }
            }
        }
        self.warp.regs.base = from.0;
    }
}
