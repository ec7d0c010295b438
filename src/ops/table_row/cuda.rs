//! Launches `kernels/table_row.cu`.

use super::TableRow;
use crate::kernel::Unsupported;
use crate::kernel::cuda::{CudaCall, CudaOperator, Kernel, params::TableRowParams};
use crate::ops::cuda::check_len;
use crate::ops::strides::narrow;

const THREADS: usize = 256;

impl CudaOperator for TableRow {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let (table, y) = (call.in_type(0), call.out_type(0));
        check_len(call, y.len())?;
        let rows = table.shape[0];
        let width = table.len() / rows;
        let (entry, vector) = match width.is_multiple_of(4) {
            true => ("table_row_16", 4),
            false => ("table_row_4", 1),
        };
        let params = TableRowParams {
            table: call.input(0),
            counter: call.input(1),
            y: call.output(0),
            rows: narrow(rows),
            width: narrow(width / vector),
            repeat: narrow(self.repeat.unwrap_or(1)),
        };
        let blocks = (y.len() / vector).div_ceil(THREADS);
        let kernel = Kernel::new("table_row.cu", entry);
        call.launch(kernel, [blocks, 1, 1], [THREADS, 1, 1], 0, &params);
        Ok(())
    }
}
