//! Launches `kernels/table_gather.cu`.

use super::TableGather;
use crate::kernel::Unsupported;
use crate::kernel::cuda::{
    CudaCall, CudaOperator, Kernel, LaunchWork, element, params::TableGatherParams,
};
use crate::tensor::DType;

const THREADS: usize = 256;

impl CudaOperator for TableGather {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let (table, samples) = (call.in_type(0).shape.clone(), call.in_type(2).len());
        // Where each result lies, which of the entry's columns it takes, and whether it is rounded.
        let mut words = Vec::with_capacity(4 * self.widths.len());
        let mut reduced = DType::F32;
        let mut first = 0;
        for (index, &width) in self.widths.iter().enumerate() {
            let dtype = call.out_type(index).dtype;
            let rounded = dtype != DType::F32;
            if rounded {
                reduced = dtype;
            }
            words.extend([
                call.output(index).0,
                first as u64,
                width as u64,
                u64::from(rounded),
            ]);
            first += width;
        }
        let params = TableGatherParams {
            table: call.input(0),
            counter: call.input(1),
            label: call.input(2),
            results: call.table(&words),
            rows: table[0] as i32,
            entries: table[1] as i32,
            width: table[2] as i32,
            samples: samples as i32,
        };
        let kernel = Kernel::new("table_gather.cu", "table_gather").with("T", element(reduced));
        let widest = self.widths.iter().copied().max().unwrap_or(0);
        let grid = [widest.div_ceil(THREADS), self.widths.len(), samples];
        // A row of the table for each sample.
        let read = samples * first * size_of::<f32>();
        let written = call.outputs().iter().map(|y| y.ty.bytes()).sum();
        call.launch(kernel, grid, [THREADS, 1, 1], 0, &params)
            .doing(|| LaunchWork::of_bytes(grid.iter().product::<usize>() as u64, read, written));
        Ok(())
    }
}
