//! Matrix instructions: rows and fragments between memory and registers, products.

use super::access::{Words, bytes_at, lanes};
use super::running::{Result, Run, classify};
use super::warp::Group;
use crate::arith::Lanes;
use crate::arith::matrix;
use crate::check::race::Access;
use crate::counters::tally;
use crate::ir::code::{AccessSpace, FragmentMove, LoadMatrix, MatrixMultiply, MmaKind, Order};
use crate::ir::regs::{Reg, Regs, S32};
use crate::memory::SHARED_WINDOW;

/// The registers of an operand as one slice: in place if they are consecutive, otherwise copied to `room`.
fn operand<'a>(regs: &'a Regs, list: &[Reg], room: &'a mut [Lanes; 8]) -> &'a [Lanes] {
    if let Some(Reg::W(first)) = list.first() {
        let in_order = |(n, r): (usize, &Reg)| *r == Reg::W(S32(first.0 + n as u32));
        if list.iter().enumerate().all(in_order) {
            return regs.side_by_side(*first, list.len());
        }
    }
    for (slot, reg) in room.iter_mut().zip(list) {
        if let Reg::W(s) = reg {
            *slot = *regs.get32(*s);
        }
    }
    &room[..list.len().min(8)]
}

impl Run<'_, '_> {
    pub fn load_matrix(&mut self, g: &Group, l: &LoadMatrix) -> Result<()> {
        let a = self.addresses(&l.address);
        let rows = 8 * l.d.len();
        let active = if rows == 32 {
            u32::MAX
        } else {
            (1 << rows) - 1
        };
        let generic = l.space == AccessSpace::Generic;
        let mut offsets = a;
        if generic {
            for lane in lanes(active) {
                if classify(a[lane]) == AccessSpace::Shared {
                    offsets[lane] = a[lane] - SHARED_WINDOW;
                }
            }
        }
        self.check_offsets(
            g,
            &offsets,
            active,
            16,
            AccessSpace::Shared,
            u64::from(self.block.shared_bytes),
        )?;
        if self.launch.shadow_shared {
            let w = self.warp.index as usize;
            for lane in lanes(active) {
                let block = &mut *self.block;
                let v = block.shadow.read(
                    &block.clocks,
                    offsets[lane] as u32,
                    16,
                    w,
                    None,
                    Access::default(),
                );
                self.judge(g, v, lane, offsets[lane], "read")?;
            }
        }
        if self.block.tally.is_some() {
            let site = self.launch.functions[g.function as usize].insts[g.pc as usize].site;
            let (real, ideal) = tally::wavefronts(&offsets.map(|x| x as u32), active, 16);
            self.count(g.function, site, |c| {
                c.shared_requests += 1;
                c.shared_wavefronts += real;
                c.shared_wavefronts_ideal += ideal;
                c.shared_bytes += 16 * rows as u64;
            });
        }
        for (m, d) in l.d.iter().enumerate() {
            let memory = self.block.shared_slice();
            let mut out: Lanes = [0; 32];
            if l.transpose {
                let mut tile = [[0u16; 8]; 8];
                for (r, row) in tile.iter_mut().enumerate() {
                    let at = offsets[matrix::ldmatrix_row_lane(m, r)] as usize;
                    for (k, x) in row.iter_mut().enumerate() {
                        *x = u16::from_le_bytes([memory[at + 2 * k], memory[at + 2 * k + 1]]);
                    }
                }
                out = matrix::ldmatrix(&tile, true);
            } else {
                // Lane 4 r + t gets elements 2 t and 2 t + 1 of row r.
                for r in 0..8 {
                    let at = offsets[matrix::ldmatrix_row_lane(m, r)] as usize;
                    let row = &memory[at..at + 16];
                    for t in 0..4 {
                        out[4 * r + t] = bytes_at(row, 4 * t, 4);
                    }
                }
            }
            self.warp.regs.put32(*d, &out, u32::MAX);
        }
        Ok(())
    }

    pub fn multiply(&mut self, g: &Group, m: &MatrixMultiply) {
        let site = self.launch.functions[g.function as usize].insts[g.pc as usize].site;
        self.count(g.function, site, |c| c.mma_fma += m.fma);
        let regs = &mut self.warp.regs;
        if let MmaKind::F64(round) = &m.kind {
            let wide = |regs: &crate::ir::regs::Regs, r: &Reg| r.fetch_wide(regs);
            let (a, b) = (wide(regs, &m.a[0]), wide(regs, &m.b[0]));
            let c = [wide(regs, &m.c[0]), wide(regs, &m.c[1])];
            let mut d = [[0; 32]; 2];
            matrix::mma_f64(*round, &a, &b, &c, &mut d);
            for (reg, value) in m.d.iter().zip(&d) {
                reg.store_wide(regs, value, u32::MAX);
            }
            return;
        }
        let mut room = [[[0; 32]; 8]; 3];
        let [ra, rb, rc] = &mut room;
        let (a, b, c) = (
            operand(regs, &m.a, ra),
            operand(regs, &m.b, rb),
            operand(regs, &m.c, rc),
        );
        let mut d = [[0; 32]; 8];
        let d = &mut d[..m.d.len().min(8)];
        match &m.kind {
            MmaKind::Plain(mma) => mma.apply(a, b, c, d),
            MmaKind::QuadPair(mma) => mma.apply(a, b, c, d),
            MmaKind::Sparse(mma, metadata) => mma.apply(a, b, c, regs.get32(*metadata), d),
            MmaKind::F64(_) => {}
        }
        for (reg, value) in m.d.iter().zip(d.iter()) {
            if let Reg::W(s) = reg {
                *regs.at32(*s) = *value;
            }
        }
    }

    /// `wmma.load` and `wmma.store`: element by element, as the fragment's layout says.
    pub fn fragment_move(&mut self, g: &Group, m: &FragmentMove) -> Result<()> {
        let base = self.addresses(&m.address);
        let f = &m.fragment;
        let bits = f.element.bits();
        let strides = m.stride.map(|s| *self.warp.regs.get32(s));
        let natural = if m.col { f.rows } else { f.cols };
        let per = f.per_register();
        for (n, reg) in m.regs.iter().enumerate() {
            // A register is moved element by element, or as a whole if its elements are narrower than a byte.
            let piece = if bits < 8 { 32 } else { bits };
            let pieces = if bits == 64 { 1 } else { 32 / piece };
            let mut packed = reg.fetch_wide(&self.warp.regs);
            for k in 0..pieces {
                let mut a = [0u64; 32];
                for (lane, slot) in a.iter_mut().enumerate() {
                    let index = if bits < 8 { 0 } else { k };
                    let (row, col) = f.position(n as u32, index.min(per - 1), lane as u32);
                    let stride = u64::from(strides.map_or(natural, |s| s[lane]));
                    let element = if m.col {
                        u64::from(col) * stride + u64::from(row)
                    } else {
                        u64::from(row) * stride + u64::from(col)
                    };
                    *slot = base[lane].wrapping_add(element * u64::from(bits) / 8);
                }
                let unit = (piece / 8).min(4);
                let count = (piece / 8 / unit) as usize;
                let shift = k * piece;
                if m.store {
                    let mut value: (Words, u32) = ([[0; 32]; 4], unit);
                    for (w, words) in value.0.iter_mut().enumerate().take(count) {
                        *words = std::array::from_fn(|l| {
                            (packed[l] >> (shift + 32 * w as u32)) as u32
                                & (u32::MAX >> (32 - 8 * unit))
                        });
                    }
                    self.by_space(m.space, &a, u32::MAX, |this, space, a, part| {
                        this.write_words(g, space, a, part, unit, count, Order::default(), &value)
                    })?;
                } else {
                    let mut words: Words = [[0; 32]; 4];
                    self.by_space(m.space, &a, u32::MAX, |this, space, a, part| {
                        this.read_words(
                            g,
                            space,
                            a,
                            part,
                            unit,
                            count,
                            Order::default(),
                            &mut words,
                        )
                    })?;
                    for lane in 0..32 {
                        let value = u64::from(words[0][lane]) | u64::from(words[1][lane]) << 32;
                        packed[lane] = if k == 0 {
                            value
                        } else {
                            packed[lane] | value << shift
                        };
                    }
                }
            }
            if !m.store {
                reg.store_wide(&mut self.warp.regs, &packed, u32::MAX);
            }
        }
        Ok(())
    }
}
