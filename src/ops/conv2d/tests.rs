use super::Conv2d;
use crate::graph::{Graph, GraphError, Value};
use crate::ops::testing::{check, check_nan_shows};

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
