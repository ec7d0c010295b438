//! What a CPU kernel sees of the step it executes.

use std::cell::Cell;
use std::ops::Range;

use super::simd::vectorised;
use super::threads::Shared;
use crate::tensor::{DType, TensorType};

/// The CPU kernel of an op.
pub trait CpuOperator: Sync {
    /// Scratch memory in `f32`s.
    fn workspace_len(&self, inputs: &[TensorType], outputs: &[TensorType]) -> usize {
        let _ = (inputs, outputs);
        0
    }

    /// The operand, if any, that the kernel reads in a packed form. For weights that no step
    /// updates it is packed once; otherwise before each execution.
    fn packed_operand(&self, inputs: &[TensorType]) -> Option<PackedOperand> {
        let _ = inputs;
        None
    }

    /// Fills `packed` from the operand named by [`CpuOperator::packed_operand`].
    fn pack(&self, inputs: &[TensorType], operand: &[f32], packed: &mut [f32]) {
        let _ = (inputs, operand, packed);
        unreachable!("only ops with a packed operand are asked to pack")
    }

    /// Computes all results, reading inputs and overwriting outputs, whatever they held.
    fn run(&self, call: &CpuCall<'_>);
}

/// An operand that is packed before use.
#[derive(Clone, Copy, Debug)]
pub struct PackedOperand {
    /// Position among the inputs.
    pub index: usize,
    /// Length of the packed form in `f32`s.
    pub len: usize,
}

/// Memory of one operand.
#[derive(Clone, Debug)]
pub struct Operand {
    pub start: *mut u8,
    pub ty: TensorType,
}

/// The operands of a step.
///
/// The planner has proven that results, inputs and workspace do not overlap, except a result
/// that took over an operand that its op lists in `in_place`; such kernels go through
/// [`CpuCall::unary`], [`CpuCall::binary`] or raw pointers instead of slices.
pub struct CpuCall<'a> {
    pub inputs: &'a [Operand],
    pub outputs: &'a [Operand],
    pub workspace: (*mut f32, usize),
    pub packed: (*const f32, usize),
    /// Bits of results (low half) and inputs (high half) that were handed out for writing.
    pub taken: Cell<u64>,
}

impl<'a> CpuCall<'a> {
    /// Type of input `index`.
    pub fn in_type(&self, index: usize) -> &'a TensorType {
        &self.inputs[index].ty
    }

    /// Type of result `index`.
    pub fn out_type(&self, index: usize) -> &'a TensorType {
        &self.outputs[index].ty
    }

    /// Number of inputs.
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// Input `index` as `f32`s.
    pub fn f32(&self, index: usize) -> &'a [f32] {
        let operand = &self.inputs[index];
        assert_eq!(operand.ty.dtype, DType::F32);
        // SAFETY: the executable made `start` point at this many initialised f32s that nothing
        // writes while the step runs (see the type's documentation).
        unsafe { std::slice::from_raw_parts(operand.start.cast(), operand.ty.len()) }
    }

    /// Input `index` as `i32`s.
    pub fn i32(&self, index: usize) -> &'a [i32] {
        let operand = &self.inputs[index];
        assert_eq!(operand.ty.dtype, DType::I32);
        // SAFETY: as in `f32`.
        unsafe { std::slice::from_raw_parts(operand.start.cast(), operand.ty.len()) }
    }

    fn take(&self, bit: usize) {
        let mask = 1u64 << bit;
        assert_eq!(self.taken.get() & mask, 0, "operand handed out twice");
        self.taken.set(self.taken.get() | mask);
    }

    /// Result `index` for writing; may be taken once.
    #[allow(clippy::mut_from_ref)]
    pub fn out(&self, index: usize) -> &'a mut [f32] {
        self.take(index);
        let operand = &self.outputs[index];
        assert_eq!(operand.ty.dtype, DType::F32);
        // SAFETY: results overlap nothing else that the step touches (in-place kernels do not
        // use this method), and `take` hands each out once.
        unsafe { std::slice::from_raw_parts_mut(operand.start.cast(), operand.ty.len()) }
    }

    /// As [`CpuCall::out`] for `i32`s.
    #[allow(clippy::mut_from_ref)]
    pub fn out_i32(&self, index: usize) -> &'a mut [i32] {
        self.take(index);
        let operand = &self.outputs[index];
        assert_eq!(operand.ty.dtype, DType::I32);
        // SAFETY: as in `out`.
        unsafe { std::slice::from_raw_parts_mut(operand.start.cast(), operand.ty.len()) }
    }

    /// Input `index`, which the op lists in `updates`, as `f32`s for writing; may be taken once.
    #[allow(clippy::mut_from_ref)]
    pub fn update(&self, index: usize) -> &'a mut [f32] {
        self.take(32 + index);
        let operand = &self.inputs[index];
        assert_eq!(operand.ty.dtype, DType::F32);
        // SAFETY: updated operands are bindings, which overlap nothing; `take` hands it out once.
        unsafe { std::slice::from_raw_parts_mut(operand.start.cast(), operand.ty.len()) }
    }

    /// As [`CpuCall::update`] for `i32`s.
    #[allow(clippy::mut_from_ref)]
    pub fn update_i32(&self, index: usize) -> &'a mut [i32] {
        self.take(32 + index);
        let operand = &self.inputs[index];
        assert_eq!(operand.ty.dtype, DType::I32);
        // SAFETY: as in `update`.
        unsafe { std::slice::from_raw_parts_mut(operand.start.cast(), operand.ty.len()) }
    }

    /// Scratch memory of the length that the kernel asked for, with undefined contents.
    #[allow(clippy::mut_from_ref)]
    pub fn workspace(&self) -> &'a mut [f32] {
        self.take(31);
        // SAFETY: the planner gave the step this range of the arena for itself.
        unsafe { std::slice::from_raw_parts_mut(self.workspace.0, self.workspace.1) }
    }

    /// The packed form of the operand named by `packed_operand`.
    pub fn packed(&self) -> &'a [f32] {
        // SAFETY: the executable packed the operand here before the step.
        unsafe { std::slice::from_raw_parts(self.packed.0, self.packed.1) }
    }

    /// `out[i] = f(a[i])` over threads; the result may be in place.
    pub fn unary(&self, a: usize, out: usize, f: impl Fn(f32) -> f32 + Sync) {
        let (a, y) = (self.shared(a), self.shared_out(out));
        assert_eq!(a.len, y.len);
        let in_place = a.as_ptr() == y.as_ptr();
        parallel_ranges(y.len, |range| {
            // SAFETY: ranges of different threads are disjoint; the input is either the very
            // same memory, and then not borrowed beside `y`, or disjoint from it.
            let y = unsafe { y.slice_mut(range.clone()) };
            vectorised(
                #[inline(always)]
                || {
                    if in_place {
                        for y in y {
                            *y = f(*y);
                        }
                    } else {
                        // SAFETY: see above.
                        let a = unsafe { a.slice(range) };
                        for (y, &a) in y.iter_mut().zip(a) {
                            *y = f(a);
                        }
                    }
                },
            );
        });
    }

    /// `out[i] = f(a[i], b[i])` over threads; the result may be in place of either.
    pub fn binary(&self, a: usize, b: usize, out: usize, f: impl Fn(f32, f32) -> f32 + Sync) {
        let (a, b, y) = (self.shared(a), self.shared(b), self.shared_out(out));
        assert!(a.len == y.len && b.len == y.len);
        let in_place = [a.as_ptr() == y.as_ptr(), b.as_ptr() == y.as_ptr()];
        parallel_ranges(y.len, |range| {
            // SAFETY: as in `unary`.
            let y = unsafe { y.slice_mut(range.clone()) };
            // SAFETY: as in `unary`; not used where the operand is the result's memory.
            let operand = |shared: Shared| unsafe { shared.slice(range.clone()) };
            vectorised(
                #[inline(always)]
                || match in_place {
                    [true, true] => {
                        for y in y {
                            *y = f(*y, *y);
                        }
                    }
                    [true, false] => {
                        for (y, &b) in y.iter_mut().zip(operand(b)) {
                            *y = f(*y, b);
                        }
                    }
                    [false, true] => {
                        for (y, &a) in y.iter_mut().zip(operand(a)) {
                            *y = f(a, *y);
                        }
                    }
                    [false, false] => {
                        for (y, (&a, &b)) in y.iter_mut().zip(operand(a).iter().zip(operand(b))) {
                            *y = f(a, b);
                        }
                    }
                },
            );
        });
    }

    /// Input `index` as a pointer that may alias a result.
    pub fn shared(&self, index: usize) -> Shared {
        shared(&self.inputs[index])
    }

    /// Result `index` as a pointer that may alias an input.
    pub fn shared_out(&self, index: usize) -> Shared {
        shared(&self.outputs[index])
    }
}

fn shared(operand: &Operand) -> Shared {
    assert_eq!(operand.ty.dtype, DType::F32);
    Shared::at(operand.start.cast(), operand.ty.len())
}

/// Elements below which a step is not worth a second thread: about 10 µs of streaming.
pub const SERIAL_ELEMENTS: usize = 16 * 1024;

/// Splits `0..len` over the threads into fixed, cache-line-aligned ranges.
pub fn parallel_ranges(len: usize, work: impl Fn(Range<usize>) + Sync) {
    fn split(range: Range<usize>, pieces: usize, work: &(impl Fn(Range<usize>) + Sync)) {
        if pieces <= 1 || range.len() < SERIAL_ELEMENTS {
            return work(range);
        }
        let middle = range.start + (range.len() * (pieces / 2) / pieces).next_multiple_of(16);
        rayon::join(
            || split(range.start..middle, pieces / 2, work),
            || split(middle..range.end, pieces - pieces / 2, work),
        );
    }
    split(0..len, rayon::current_num_threads(), &work);
}

/// Splits `0..rows` over the threads, where a row is `row_len` elements of work.
pub fn parallel_rows(rows: usize, row_len: usize, work: impl Fn(Range<usize>) + Sync) {
    fn split(
        range: Range<usize>,
        pieces: usize,
        row_len: usize,
        work: &(impl Fn(Range<usize>) + Sync),
    ) {
        if pieces <= 1 || range.len() <= 1 || range.len() * row_len < SERIAL_ELEMENTS {
            return work(range);
        }
        let middle = range.start + range.len() * (pieces / 2) / pieces;
        rayon::join(
            || split(range.start..middle, pieces / 2, row_len, work),
            || split(middle..range.end, pieces - pieces / 2, row_len, work),
        );
    }
    split(0..rows, rayon::current_num_threads(), row_len, &work);
}
