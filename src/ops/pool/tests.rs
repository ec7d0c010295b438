use super::{AdaptiveAvgPool, AvgPool, MaxPool};
use crate::graph::Graph;
use crate::testing::check;

const IMAGES: [[usize; 4]; 5] = [
    [1, 2, 2, 1],
    [2, 6, 8, 3],
    [3, 7, 5, 8],
    [1, 9, 8, 33],
    [2, 33, 35, 20],
];

#[test]
fn averages_and_their_gradients() {
    for (kernel, stride, padding) in [(2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 1), (1, 2, 0)] {
        for (index, shape) in IMAGES.into_iter().enumerate() {
            check(|g| {
                let x = g.parameter("x", shape)?;
                let op = AvgPool {
                    kernel,
                    stride,
                    padding,
                    count_padding: (index + kernel) % 2 == 0,
                };
                g.apply(op, &[x])
            });
        }
    }
}

#[test]
fn maxima_and_their_gradients() {
    for (kernel, stride, padding) in [(2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 1)] {
        for shape in IMAGES {
            check(|g| {
                let x = g.parameter("x", shape)?;
                g.apply(
                    MaxPool {
                        kernel,
                        stride,
                        padding,
                    },
                    &[x],
                )
            });
        }
    }
}

#[test]
fn areas_and_their_gradients() {
    for (shape, height, width) in [
        ([2, 7, 8, 3], 3, 4),
        ([1, 8, 12, 5], 4, 3),
        ([2, 5, 5, 8], 1, 1),
        ([1, 4, 6, 2], 4, 6),
        ([2, 3, 4, 3], 5, 7),
        ([3, 32, 48, 20], 8, 16),
    ] {
        check(|g| {
            let x = g.parameter("x", shape)?;
            g.apply(AdaptiveAvgPool { height, width }, &[x])
        });
    }
}

#[test]
fn ties_go_to_the_first_and_nan_wins() {
    use crate::compile::PlanOptions;
    use crate::device::Executable;
    use crate::device::cpu::CpuDevice;
    use crate::tensor::DType;
    use crate::testing::emulated_gpu;
    let mut g = Graph::new();
    let x = g.input("x", [1, 2, 4, 1], DType::F32).unwrap();
    let y = g.max_pool(x, 2, 2, 0).unwrap();
    let loss = g.sum_to(y, &[]).unwrap();
    let dx = g.gradients(loss, &[x]).unwrap()[0].unwrap();
    g.output("y", y);
    g.output("dx", dx);
    let check = |executable: &mut dyn Executable| {
        executable
            .write("x", &[1.0, 2.0, 5.0, 0.0, 2.0, 2.0, f32::NAN, 9.0])
            .unwrap();
        executable.run().unwrap();
        let y = executable.output("y").unwrap();
        assert_eq!(y[0], 2.0);
        assert!(y[1].is_nan());
        assert_eq!(
            executable.output("dx").unwrap(),
            [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        );
    };
    let device = CpuDevice::new(Some(1)).unwrap();
    let plan = device.plan(&g, PlanOptions::default());
    check(&mut device.load(plan, &Default::default()).unwrap());
    if let Some(gpu) = emulated_gpu() {
        let plan = gpu.plan(&g, PlanOptions::default());
        check(&mut gpu.load(plan, &Default::default()).unwrap());
    }
}

#[test]
fn windows_that_do_not_fit_are_refused() {
    let mut g = Graph::new();
    let x = g.parameter("x", [1, 2, 5, 3]).unwrap();
    assert_eq!(
        g.max_pool(x, 3, 2, 0).unwrap_err().to_string(),
        "max_pool at '' expects x [N,H,W,C] that windows of 3x3 fit, padding 0 smaller than they, \
         stride 2 above 0, found f32[1, 2, 5, 3]"
    );
    assert!(
        g.avg_pool(x, 2, 1, 2).is_err(),
        "a window may lie in the padding"
    );
    assert!(g.avg_pool(x, 2, 0, 0).is_err());
    assert!(g.resize_area(x, 0, 2).is_err());
}
