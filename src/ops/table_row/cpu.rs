//! CPU kernel: copies.

use super::TableRow;
use crate::kernel::cpu::{CpuCall, CpuOperator};
use crate::tensor::DType;

impl CpuOperator for TableRow {
    fn run(&self, call: &CpuCall<'_>) {
        let table = call.in_type(0);
        let rows = table.shape[0];
        let len = table.len() / rows;
        if len == 0 {
            return;
        }
        let row = usize::try_from(call.i32(1)[0]).unwrap_or(0).min(rows - 1);
        if table.dtype == DType::I32 {
            let row = &call.i32(0)[row * len..][..len];
            let copies = call.out_i32(0).chunks_exact_mut(len);
            copies.for_each(|copy| copy.copy_from_slice(row));
        } else {
            let row = &call.f32(0)[row * len..][..len];
            let copies = call.out(0).chunks_exact_mut(len);
            copies.for_each(|copy| copy.copy_from_slice(row));
        }
    }
}
