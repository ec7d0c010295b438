use super::{Conv2d, Conv2dInputGrad, Conv2dWeightGrad};
use crate::compile::PlanOptions;
use crate::device::Executable;
use crate::device::cuda::CudaOptions;
use crate::graph::{Graph, GraphError, Value};
use crate::ops::GroupNormStats;
use crate::tensor::Tensor;
use crate::testing::{
    check, check_nan_shows, check_outputs, check_outputs_on_cuda, emulated_gpu, hashed,
};

struct Case {
    x: [usize; 4],
    outputs: usize,
    kernel: [usize; 2],
    stride: usize,
    padding: [usize; 2],
}

fn convolution(
    g: &mut Graph,
    case: &Case,
    upsample: bool,
    bias: bool,
    residual: bool,
) -> Result<Value, GraphError> {
    let op = Conv2d {
        stride: case.stride,
        padding: case.padding,
        upsample,
        bias,
        residual,
        concat: false,
        stats: None,
    };
    let x = g.parameter("x", case.x)?;
    let [kh, kw] = case.kernel;
    let w = g.parameter("w", [case.outputs, case.x[3], kh, kw])?;
    let mut inputs = vec![x, w];
    if bias {
        inputs.push(g.parameter("bias", [case.outputs])?);
    }
    if residual {
        let [oh, ow] = op
            .windows()
            .output([case.x[1], case.x[2]], case.kernel)
            .unwrap();
        inputs.push(g.parameter("residual", [case.x[0], oh, ow, case.outputs])?);
    }
    g.apply(op, &inputs)
}

#[test]
fn values_and_gradients_over_awkward_shapes() {
    let case = |x, outputs, kernel, stride, padding| Case {
        x,
        outputs,
        kernel,
        stride,
        padding,
    };
    for (index, case) in [
        case([1, 1, 1, 1], 1, [1, 1], 1, [0, 0]),
        case([1, 1, 1, 3], 8, [3, 3], 1, [1, 1]),
        case([3, 5, 7, 3], 20, [3, 3], 1, [1, 1]),
        case([2, 9, 6, 5], 7, [3, 3], 2, [1, 1]),
        case([1, 11, 9, 3], 5, [3, 3], 2, [0, 0]),
        case([1, 6, 7, 33], 20, [1, 1], 1, [0, 0]),
        case([1, 6, 5, 4], 3, [1, 1], 2, [0, 0]),
        case([1, 6, 9, 4], 6, [1, 7], 1, [0, 3]),
        case([1, 9, 5, 4], 6, [7, 1], 1, [3, 0]),
        case([1, 8, 8, 3], 4, [5, 5], 1, [2, 2]),
        case([1, 7, 8, 3], 4, [2, 2], 2, [0, 0]),
        case([1, 9, 7, 2], 3, [3, 3], 3, [2, 2]),
        case([1, 3, 3, 96], 33, [3, 3], 1, [1, 1]),
    ]
    .iter()
    .enumerate()
    {
        let (bias, residual) = (index % 2 == 0, index % 3 == 0);
        check(|g| convolution(g, case, false, bias, residual));
        if case.kernel == [3, 3] {
            check(|g| convolution(g, case, true, !bias, !residual));
        }
    }
}

/// On the CPU and on plain kernels, where the statistics are a pass of their own; tensor cores: `cuda/tests.rs`.
#[test]
fn statistics_are_a_second_result() {
    for (x, outputs, groups, residual) in [
        ([1, 1, 1, 8], 8, 1, false),
        ([3, 5, 7, 8], 64, 8, true),
        ([2, 9, 6, 5], 32, 32, false),
        ([1, 16, 16, 16], 64, 8, true),
    ] {
        let case = Case {
            x,
            outputs,
            kernel: [3, 3],
            stride: 1,
            padding: [1, 1],
        };
        let mut g = Graph::new();
        let y = convolution(&mut g, &case, false, true, residual).unwrap();
        let node = g.producer(y).expect("a convolution");
        let (op, inputs) = (
            node.op.get::<Conv2d>().expect("a convolution"),
            &node.inputs,
        );
        let stats = GroupNormStats { groups, eps: 1e-5 };
        let (op, inputs) = (
            Conv2d {
                stats: Some(stats),
                ..*op
            },
            inputs.clone(),
        );
        let results = g.node(op, &inputs).unwrap();
        g.output("y", results[0]);
        g.output("stats", results[1]);
        check_outputs(&g);
    }
}

/// On the CPU and on plain kernels, which concatenate the channels first.
#[test]
fn the_last_channels_may_be_an_input_of_their_own() {
    for (x, channels, residual) in [
        ([1, 1, 1], [8, 8], false),
        ([3, 5, 7], [3, 6], true),
        ([2, 9, 6], [32, 16], true),
    ] {
        let mut g = Graph::new();
        let [n, h, w] = x;
        let [first, last] = channels;
        let inputs = [
            g.parameter("x", [n, h, w, first]),
            g.parameter("w", [20, first + last, 3, 3]),
            g.parameter("bias", [20]),
            g.parameter("residual", [n, h, w, 20]),
            g.parameter("rest", [n, h, w, last]),
        ];
        let mut inputs = inputs.map(Result::unwrap).to_vec();
        if !residual {
            inputs.remove(3);
        }
        let op = Conv2d {
            stride: 1,
            padding: [1, 1],
            upsample: false,
            bias: true,
            residual,
            concat: true,
            stats: None,
        };
        let y = g.apply(op, &inputs).unwrap();
        g.output("y", y);
        check_outputs(&g);
        assert!(g.apply(op, &inputs[..inputs.len() - 1]).is_err());
    }
}

#[test]
fn mismatches_are_named() {
    let mut g = Graph::new();
    let x = g.parameter("x", [1, 4, 4, 8]).unwrap();
    let w = g.parameter("w", [6, 7, 3, 3]).unwrap();
    let error = g
        .scope("in_conv", |g| g.conv2d(x, w, None, 1, 1))
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "conv2d at 'in_conv' expects x [N,H,W,I], weight [O,I,kH,kW] with kernel sides up to 7 \
         that fit stride 1 padding 1, found f32[1, 4, 4, 8], f32[6, 7, 3, 3]"
    );
    let w = g.parameter("v", [6, 8, 7, 7]).unwrap();
    assert!(
        g.conv2d(x, w, None, 1, 1).is_err(),
        "a window larger than the padded image"
    );
    assert!(g.conv2d(x, w, None, 0, 2).is_err(), "stride 0");
}

#[test]
fn nan_is_not_hidden() {
    for kernel in [1, 3] {
        check_nan_shows(|g| {
            let x = g.parameter("x", [1, 9, 9, 20])?;
            let w = g.parameter("w", [33, 20, kernel, kernel])?;
            let bias = g.parameter("bias", [33])?;
            g.conv2d(x, w, Some(bias), 1, kernel / 2)
        });
    }
}

/// Checks the convolution and its gradients on the emulated GPU, each as an output of its own, so that sizes are not
/// bounded by what finite differences take.
fn check_on_cuda(case: &Case, upsample: bool) {
    let build = || -> Result<Graph, GraphError> {
        let mut g = Graph::new();
        let y = convolution(&mut g, case, upsample, true, true)?;
        let dy = g.parameter("dy", g.shape(y).to_vec())?;
        let named = |g: &Graph, name| g.leaf_named(name).unwrap();
        let (x, w) = (named(&g, "x"), named(&g, "w"));
        let Case {
            x: [_, height, width, _],
            kernel,
            stride,
            padding,
            ..
        } = *case;
        let input_grad = Conv2dInputGrad {
            stride,
            padding,
            upsample,
            height,
            width,
            residual: false,
        };
        let sum = Conv2dInputGrad {
            residual: true,
            ..input_grad
        };
        let weight_grad = Conv2dWeightGrad {
            stride,
            padding,
            upsample,
            kernel,
        };
        let dx = g.apply(input_grad, &[dy, w])?;
        let sum = g.apply(sum, &[dy, w, x])?;
        let dw = g.apply(weight_grad, &[x, dy])?;
        for (name, value) in [("y", y), ("dx", dx), ("dx + x", sum), ("dw", dw)] {
            g.output(name, value);
        }
        Ok(g)
    };
    check_outputs_on_cuda(&build().unwrap());
}

#[test]
fn cuda_takes_every_geometry() {
    let case = |x, outputs, kernel, stride, padding| Case {
        x,
        outputs,
        kernel,
        stride,
        padding,
    };
    for case in [
        // Several tiles of rows, columns and depth, none of them full.
        case([2, 9, 11, 36], 68, [3, 3], 1, [1, 1]),
        case([1, 13, 12, 70], 65, [3, 3], 1, [1, 1]),
        // Few pixels and a long sum: split along the depth.
        case([1, 2, 2, 128], 40, [3, 3], 1, [1, 1]),
        case([1, 5, 5, 132], 72, [3, 3], 1, [1, 1]),
        case([1, 1, 1, 260], 100, [1, 1], 1, [0, 0]),
        // Many pixels and a small filter: its gradient is split.
        case([3, 31, 33, 3], 8, [3, 3], 1, [1, 1]),
        case([2, 24, 24, 8], 3, [3, 3], 1, [1, 1]),
        case([1, 17, 19, 64], 2, [3, 3], 2, [1, 1]),
        // Strides beyond the kernel, and kernels of many strides.
        case([1, 9, 10, 8], 12, [1, 1], 3, [0, 0]),
        case([1, 13, 11, 4], 12, [2, 3], 4, [1, 0]),
        case([2, 12, 13, 4], 6, [7, 5], 3, [3, 2]),
        case([1, 16, 16, 12], 20, [7, 7], 4, [3, 3]),
        case([1, 1, 1, 1000], 20, [1, 1], 1, [0, 0]),
    ] {
        check_on_cuda(&case, false);
    }
    for case in [
        case([2, 7, 5, 36], 40, [3, 3], 1, [1, 1]),
        case([1, 2, 2, 128], 72, [3, 3], 1, [1, 1]),
        case([1, 6, 7, 4], 5, [3, 3], 2, [1, 1]),
        case([1, 6, 7, 4], 8, [3, 2], 3, [1, 1]),
        case([1, 6, 7, 3], 8, [5, 4], 4, [2, 1]),
        case([1, 5, 4, 4], 8, [7, 7], 1, [3, 3]),
    ] {
        check_on_cuda(&case, true);
    }
}

#[test]
fn cuda_gives_an_image_the_same_bits_in_any_batch() {
    let Some(gpu) = emulated_gpu() else { return };
    let device = gpu.with(CudaOptions {
        deterministic: true,
        ..gpu.options()
    });
    let (extents, channels, outputs) = ([4, 5], 132, 72);
    let image = extents[0] * extents[1] * channels;
    let run = |batch: usize| -> Vec<f32> {
        let mut g = Graph::new();
        let case = Case {
            x: [batch, extents[0], extents[1], channels],
            outputs,
            kernel: [3, 3],
            stride: 1,
            padding: [1, 1],
        };
        let y = convolution(&mut g, &case, false, true, false).unwrap();
        g.output("y", y);
        let tensors = g
            .parameters()
            .map(|(name, value)| {
                let ty = g.ty(value);
                let values = hashed(name, ty.len()).into_iter().map(|v| v as f32);
                // The last image is the same in every batch.
                let mut values: Vec<f32> = values.collect();
                if name == "x" {
                    let last = hashed("last image", image);
                    for (value, last) in values[image * (batch - 1)..].iter_mut().zip(last) {
                        *value = last as f32;
                    }
                }
                (name.to_owned(), Tensor::from_f32(ty.shape.clone(), &values))
            })
            .collect();
        let plan = device.plan(&g, PlanOptions::default());
        let mut executable = device.load(plan, &tensors).unwrap();
        executable.run().unwrap();
        let y = executable.output("y").unwrap();
        y[y.len() / batch * (batch - 1)..].to_vec()
    };
    let alone = run(1);
    for batch in [3, 8] {
        let bits = |values: &[f32]| -> Vec<u32> { values.iter().map(|v| v.to_bits()).collect() };
        assert_eq!(bits(&run(batch)), bits(&alone), "batch {batch}");
    }
}
