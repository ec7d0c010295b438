//! CPU kernels on one thread, because the rows are few.

use super::{Embedding, EmbeddingGrad};
use crate::kernel::cpu::{CpuCall, CpuOperator};

impl CpuOperator for Embedding {
    fn run(&self, call: &CpuCall<'_>) {
        let (table, index, y) = (call.f32(0), call.i32(1), call.out(0));
        let channels = call.out_type(0).channels();
        if channels == 0 {
            return;
        }
        for (y, &index) in y.chunks_exact_mut(channels).zip(index) {
            let row = usize::try_from(index)
                .ok()
                .and_then(|row| table.chunks_exact(channels).nth(row));
            match row {
                Some(row) => y.copy_from_slice(row),
                None => y.fill(if index == -1 { 0.0 } else { f32::NAN }),
            }
        }
    }
}

impl CpuOperator for EmbeddingGrad {
    fn run(&self, call: &CpuCall<'_>) {
        let (index, dy, table) = (call.i32(0), call.f32(1), call.out(0));
        let channels = call.out_type(0).channels();
        table.fill(0.0);
        if channels == 0 {
            return;
        }
        for (dy, &index) in dy.chunks_exact(channels).zip(index) {
            let row = usize::try_from(index)
                .ok()
                .and_then(|row| table.chunks_exact_mut(channels).nth(row));
            if let Some(row) = row {
                row.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
            }
        }
    }
}
