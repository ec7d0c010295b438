//! Asynchronous copies: `cp.async` and the waits for it.

use super::access::{AccessKind, lanes, read_unit};
use super::running::{Result, Run, classify};
use super::warp::{Group, PendingCopy};
use crate::check::FaultKind;
use crate::check::race::Access;
use crate::ir::code::{AccessSpace, CopyAsync};
use crate::memory::SHARED_WINDOW;

impl Run<'_, '_> {
    /// `cp.async`: checks both ends and counts the copy, which stays pending until a wait completes it.
    pub fn copy_async(&mut self, g: &Group, c: &CopyAsync, active: u32) -> Result<()> {
        let to = self.addresses(&c.to).map(|a| {
            if classify(a) == AccessSpace::Shared {
                a - SHARED_WINDOW
            } else {
                a
            }
        });
        let from = self.addresses(&c.from);
        let ignored = c.ignore.map_or(0, |p| self.holds(p));
        let sizes = c.source_bytes.map(|s| *self.warp.regs.get32(s));
        let mut read_bytes = [0u8; 32];
        let mut reading = 0u32;
        for lane in lanes(active) {
            let n = sizes.map_or(c.bytes, |s| s[lane]).min(c.bytes);
            read_bytes[lane] = if ignored >> lane & 1 != 0 { 0 } else { n as u8 };
            if sizes.is_some_and(|s| s[lane] > c.bytes) {
                let message = format!(
                    "{} source bytes for a copy of {}",
                    sizes.map_or(0, |s| s[lane]),
                    c.bytes
                );
                return Err(self.trouble(g, FaultKind::OutOfBounds, lane as u32, message));
            }
            if read_bytes[lane] > 0 {
                reading |= 1 << lane;
            }
        }
        self.check_offsets(
            g,
            &to,
            active,
            c.bytes,
            AccessSpace::Shared,
            u64::from(self.block.shared_bytes),
        )?;
        // A lane that reads no source bytes may name any source address; all others are checked now.
        let full = lanes(reading)
            .filter(|l| u32::from(read_bytes[*l]) == c.bytes)
            .fold(0, |m, l| m | 1 << l);
        if full != 0 {
            self.check_global(
                g,
                &from,
                full,
                c.bytes,
                AccessKind::Read,
                false,
                AccessSpace::Global,
            )?;
        }
        for lane in lanes(reading & !full) {
            let mut one = [0; 32];
            if !from[lane].is_multiple_of(u64::from(c.bytes)) {
                let message = format!(
                    "address {:#x} is not a multiple of the copy size {}",
                    from[lane], c.bytes
                );
                return Err(self.bad_access(
                    g,
                    FaultKind::Misaligned,
                    lane,
                    AccessSpace::Global,
                    from[lane],
                    message,
                ));
            }
            for k in 0..u64::from(read_bytes[lane]) {
                one[lane] = from[lane] + k;
                self.check_global(
                    g,
                    &one,
                    1 << lane,
                    1,
                    AccessKind::Read,
                    false,
                    AccessSpace::Global,
                )?;
            }
        }
        self.count_access(
            g,
            AccessSpace::Global,
            &from,
            reading,
            c.bytes,
            AccessKind::Read,
        );
        self.count_access(
            g,
            AccessSpace::Shared,
            &to,
            active,
            c.bytes,
            AccessKind::Write,
        );
        let w = self.warp.index as usize;
        for lane in lanes(active) {
            if self.launch.shadow_shared {
                let block = &mut *self.block;
                let v = block.shadow.write(
                    &block.clocks,
                    to[lane] as u32,
                    c.bytes,
                    w,
                    lane as u32,
                    Access::default(),
                    true,
                    || false,
                );
                self.judge(g, v, lane, to[lane], "overwritten by a copy")?;
            }
            // Until the copy completes, its destination holds garbage.
            let at = to[lane] as usize;
            self.block.shared_slice_mut()[at..at + c.bytes as usize].fill(0xcd);
        }
        self.warp.copies.push(PendingCopy {
            mask: active,
            to: to.map(|a| a as u32),
            from,
            read_bytes,
            bytes: c.bytes,
            group: self.warp.committed,
        });
        Ok(())
    }

    /// `cp.async.wait_group`: completes the copies of the `active` lanes except those of the last `left` committed groups;
    /// `None` completes all.
    pub fn copy_wait(&mut self, g: &Group, left: Option<u32>, active: u32) -> Result<()> {
        let mut copies = std::mem::take(&mut self.warp.copies);
        for copy in &mut copies {
            let due = match left {
                None => active,
                Some(n) => lanes(active)
                    .filter(|l| {
                        u64::from(copy.group[*l]) + u64::from(n)
                            < u64::from(self.warp.committed[*l])
                    })
                    .fold(0, |m, l| m | 1 << l),
            };
            let landing = copy.mask & due;
            copy.mask &= !due;
            self.complete_copy(g, copy, landing);
        }
        copies.retain(|c| c.mask != 0);
        self.warp.copies = copies;
        Ok(())
    }

    /// Completes all copies of `lanes`.
    pub fn complete_copies(&mut self, g: &Group, lanes: u32) -> Result<()> {
        self.copy_wait(g, None, lanes)
    }

    fn complete_copy(&mut self, _g: &Group, copy: &PendingCopy, landing: u32) {
        let w = self.warp.index as usize;
        for lane in lanes(landing) {
            let mut bytes = [0u8; 16];
            let (n, at) = (usize::from(copy.read_bytes[lane]), copy.to[lane] as usize);
            if n % 4 == 0 {
                for k in 0..n / 4 {
                    bytes[4 * k..4 * k + 4].copy_from_slice(
                        &read_unit(copy.from[lane] + 4 * k as u64, 4).to_le_bytes(),
                    );
                }
            } else {
                for (k, b) in bytes.iter_mut().enumerate().take(n) {
                    *b = read_unit(copy.from[lane] + k as u64, 1) as u8;
                }
            }
            let size = copy.bytes as usize;
            self.block.shared_slice_mut()[at..at + size].copy_from_slice(&bytes[..size]);
            if self.launch.shadow_shared {
                let block = &mut *self.block;
                block
                    .shadow
                    .complete_copy(&block.clocks, at as u32, copy.bytes, w, lane as u32);
            }
        }
    }
}
