//! Launches `kernels/sum_to.cu`.

use super::SumTo;
use crate::graph::TensorType;
use crate::kernel::Unsupported;
use crate::kernel::cuda::{
    CudaCall, CudaOperator, DevicePtr, Kernel, Target, element,
    params::{SumFewRowsParams, SumToParams},
};
use crate::ops::cuda::check_len;
use crate::ops::strides::{StridedAxis, broadcast_strides, merged_axes, narrow};
use crate::tensor::DType;

const THREADS: usize = 256;
/// Fewest accesses of a thread of a split sum.
const PER_THREAD: usize = 8;
/// Most partial sums of one result.
const MAX_SPLITS: usize = 128;

/// Rows of one kind: how many, how many along the inner axis, and strides in elements.
#[derive(Clone, Copy)]
struct Rows {
    count: usize,
    inner: usize,
    strides: [usize; 2],
}

impl Rows {
    /// `None` for more than two axes.
    fn new(axes: &[StridedAxis<2>]) -> Option<Self> {
        let (count, inner, strides) = match axes {
            [] => (1, 1, [0, 0]),
            [axis] => (axis.extent, axis.extent, [axis.strides[0], 0]),
            [inner, outer] => (
                inner.extent * outer.extent,
                inner.extent,
                [inner.strides[0], outer.strides[0]],
            ),
            _ => return None,
        };
        Some(Self {
            count,
            inner,
            strides,
        })
    }
}

/// A sum as the kernels see it.
struct Walk {
    /// Neighbouring elements of a row, and whether they are kept apart or summed.
    inner: usize,
    keeps_inner: bool,
    outer: Rows,
    rows: Rows,
    outputs: usize,
}

impl Walk {
    fn new(x: &[usize], y: &[usize]) -> Option<Self> {
        let dense = broadcast_strides(x, x);
        let mut axes = merged_axes(x, [&dense, &broadcast_strides(y, x)]);
        let inner = axes.remove(0);
        // A single element counts as kept.
        let keeps_inner = inner.strides[1] != 0 || inner.extent == 1;
        let (kept, summed): (Vec<_>, Vec<_>) = axes.iter().partition(|axis| axis.strides[1] != 0);
        Some(Self {
            inner: inner.extent,
            keeps_inner,
            outer: Rows::new(&kept)?,
            rows: Rows::new(&summed)?,
            outputs: y.iter().product(),
        })
    }

    fn geometry(&self, dtype: DType) -> SumLaunch {
        let vector = 16 / dtype.size_bytes();
        let aligned = self.inner.is_multiple_of(vector);
        if self.keeps_inner {
            let width = if aligned { vector } else { 1 };
            let accesses = self.inner.div_ceil(width);
            let lanes = accesses.next_power_of_two().min(32);
            let height = THREADS / lanes;
            let per_split = height * PER_THREAD.max(self.rows.count.div_ceil(height * MAX_SPLITS));
            return SumLaunch {
                entry: if aligned {
                    "sum_columns"
                } else {
                    "sum_columns_any"
                },
                lanes,
                blocks: self.outer.count * accesses.div_ceil(lanes),
                per_split,
                splits: self.rows.count.div_ceil(per_split).max(1),
            };
        }
        // Only the last access of a single row may be short.
        let aligned = aligned || self.rows.count * self.outer.count == 1;
        let accesses = self.rows.count * self.inner.div_ceil(if aligned { vector } else { 1 });
        let whole_block = accesses >= THREADS;
        let lanes = match whole_block {
            true => THREADS,
            false => accesses.div_ceil(PER_THREAD).next_power_of_two().min(32),
        };
        let per_split = match whole_block {
            true => THREADS * PER_THREAD.max(accesses.div_ceil(THREADS * MAX_SPLITS)),
            false => accesses,
        };
        SumLaunch {
            entry: if aligned { "sum_rows" } else { "sum_rows_any" },
            lanes,
            blocks: self.outputs.div_ceil(THREADS / lanes),
            per_split,
            splits: accesses.div_ceil(per_split.max(1)).max(1),
        }
    }
}

struct SumLaunch {
    entry: &'static str,
    lanes: usize,
    blocks: usize,
    per_split: usize,
    splits: usize,
}

/// Rows up to which one thread sums a column.
const FEW_ROWS: usize = 32;

impl SumTo {
    /// Rows and columns, if the sum is over a few rows.
    fn few_rows(&self, x: &TensorType) -> Option<[usize; 2]> {
        let columns: usize = self.shape.iter().product();
        let kept = self.shape.iter().rev().zip(x.shape.iter().rev());
        let kept = kept.take_while(|(to, from)| to == from);
        let inner: usize = kept.map(|(&extent, _)| extent).product();
        let rows = x.len() / columns.max(1);
        (inner == columns && (1..=FEW_ROWS).contains(&rows)).then_some([rows, columns])
    }

    /// Blocks that share a result.
    fn splits(&self, x: &TensorType) -> usize {
        Walk::new(&x.shape, &self.shape).map_or(1, |walk| walk.geometry(x.dtype).splits)
    }
}

impl CudaOperator for SumTo {
    fn workspace_bytes(&self, inputs: &[TensorType], outputs: &[TensorType], _: &Target) -> usize {
        match self.splits(&inputs[0]) {
            _ if self.few_rows(&inputs[0]).is_some() => 0,
            1 => 0,
            splits => splits * outputs[0].len() * DType::F32.size_bytes(),
        }
    }

    fn is_job(&self, inputs: &[TensorType]) -> bool {
        self.few_rows(&inputs[0]).is_some()
    }

    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let x = call.in_type(0).clone();
        check_len(call, x.len())?;
        if let Some([rows, columns]) = self.few_rows(&x) {
            let params = SumFewRowsParams {
                x: call.input(0),
                y: call.output(0),
                rows: rows as i32,
                columns: columns as i32,
            };
            let kernel = Kernel::new("sum_to.cu", "sum_few_rows").with("T", element(x.dtype));
            call.job(kernel, columns.div_ceil(THREADS), THREADS, 0, &params);
            return Ok(());
        }
        let Some(walk) = Walk::new(&x.shape, &self.shape) else {
            return Err(call.unsupported(format!(
                "from {:?} to {:?} takes too many different axes",
                x.shape, self.shape
            )));
        };
        let geometry = walk.geometry(x.dtype);
        let (partial, arrived) = match geometry.splits {
            1 => (DevicePtr::NULL, DevicePtr::NULL),
            _ => (call.workspace(), call.counters(geometry.blocks)),
        };
        let params = SumToParams {
            x: call.input(0),
            y: call.output(0),
            partial,
            arrived,
            inner: narrow(walk.inner),
            outer: narrow(walk.outer.count),
            outer_inner: narrow(walk.outer.inner.max(1)),
            outer_strides: walk.outer.strides.map(narrow),
            rows: narrow(walk.rows.count),
            rows_inner: narrow(walk.rows.inner.max(1)),
            row_strides: walk.rows.strides.map(narrow),
            per_split: narrow(geometry.per_split),
            outputs: narrow(walk.outputs),
            lanes: narrow(geometry.lanes),
        };
        let kernel = Kernel::new("sum_to.cu", geometry.entry).with("T", element(x.dtype));
        let grid = [geometry.blocks, geometry.splits, 1];
        call.launch(kernel, grid, [THREADS, 1, 1], 0, &params);
        Ok(())
    }
}
