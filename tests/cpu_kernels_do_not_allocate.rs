//! The CPU kernels run in memory that their caller owns: no heap allocation once they are prepared.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use medfusion::device::cpu::gemm::{Strided, StridedMut, gemm, gemm_workspace_len};
use medfusion::ops::conv2d::ConvGeometry;
use medfusion::ops::conv2d::cpu::{Forward, InputGrad, WeightGrad};
use medfusion::ops::linear::cpu::{self as linear, LinearGeometry};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of `run`: the fewest of some runs, because rayon's queues grow now and then. What a
/// kernel allocates itself shows in every run.
fn allocations(mut run: impl FnMut()) -> usize {
    let counts = (0..5).map(|_| {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        run();
        ALLOCATIONS.load(Ordering::Relaxed) - before
    });
    counts.min().expect("some runs")
}

#[test]
fn kernels_do_not_allocate() {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build()
        .unwrap();
    pool.install(|| {
        assert_eq!(
            allocations(|| drop(Vec::<u8>::with_capacity(1))),
            1,
            "the counter counts"
        );
        let base = ConvGeometry {
            batch: 2,
            height: 16,
            width: 16,
            in_channels: 64,
            out_channels: 96,
            kernel: [3, 3],
            stride: 1,
            padding: [1, 1],
            upsample: false,
        };
        let geometries = [
            base,
            ConvGeometry {
                height: 64,
                width: 64,
                ..base
            },
            ConvGeometry { stride: 2, ..base },
            ConvGeometry {
                kernel: [1, 1],
                padding: [0, 0],
                upsample: true,
                ..base
            },
        ];
        for g in &geometries {
            let x = vec![1.0; g.input_len()];
            let w = vec![0.5; g.weight_len()];
            let mut y = vec![0.0; g.output_len()];
            let forward = Forward::new(g);
            let mut packed = vec![0.0; forward.packed_len()];
            let mut workspace = vec![0.0; forward.workspace_len()];
            let count = allocations(|| {
                forward.pack(&w, &mut packed);
                forward.run(&packed, &x, None, None, &mut y, &mut workspace);
            });
            assert_eq!(count, 0, "forward of {g:?}");
            let grad = InputGrad::new(g);
            let mut packed = vec![0.0; grad.packed_len()];
            let mut workspace = vec![0.0; grad.workspace_len()];
            let mut dx = vec![0.0; g.input_len()];
            let count = allocations(|| {
                grad.pack(&w, &mut packed);
                grad.run(&packed, &y, None, &mut dx, &mut workspace);
            });
            assert_eq!(count, 0, "input gradient of {g:?}");
            let grad = WeightGrad::new(g);
            let mut workspace = vec![0.0; grad.workspace_len()];
            let mut dw = vec![0.0; g.weight_len()];
            let count = allocations(|| grad.run(&x, &y, &mut dw, &mut workspace));
            assert_eq!(count, 0, "weight gradient of {g:?}");
        }
        let g = LinearGeometry {
            rows: 8,
            inputs: 512,
            outputs: 512,
        };
        let (x, w, mut y) = (vec![1.0; 8 * 512], vec![1.0; 512 * 512], vec![0.0; 8 * 512]);
        assert_eq!(
            allocations(|| linear::forward(&g, &x, &w, None, &mut y)),
            0,
            "linear"
        );
        let mut workspace = vec![0.0; gemm_workspace_len(512, 512, 512)];
        let mut c = vec![0.0; 512 * 512];
        let matrix = Strided {
            data: &w,
            row_stride: 512,
            column_stride: 1,
        };
        let count = allocations(|| {
            let c = StridedMut {
                data: &mut c,
                row_stride: 512,
                column_stride: 1,
            };
            gemm(512, 512, 512, 1.0, matrix, matrix, 0.0, c, &mut workspace);
        });
        assert_eq!(count, 0, "gemm");
    });
}
