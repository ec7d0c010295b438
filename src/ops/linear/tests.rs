use super::{Linear, LinearInputGrad, LinearWeightGrad};
use crate::graph::Graph;
use crate::testing::{check, check_outputs_on_cuda};

#[test]
fn values_and_gradients_over_awkward_shapes() {
    for (index, (x, w)) in [
        (vec![1, 1], vec![1, 1]),
        (vec![5, 13], vec![9, 13]),
        (vec![2, 3, 8], vec![20, 8, 1]),
        (vec![2, 3, 3, 20], vec![33, 20, 1, 1]),
        (vec![33], vec![7, 33]),
        (vec![3, 96], vec![64, 96]),
        (vec![1, 33], vec![96, 33]),
        (vec![3, 13, 12], vec![20, 12]),
    ]
    .into_iter()
    .enumerate()
    {
        let (bias, residual) = (index % 2 == 1, index % 3 == 0);
        check(|g| {
            let results = w[0];
            let mut inputs = vec![g.parameter("x", x.clone())?, g.parameter("w", w.clone())?];
            if bias {
                inputs.push(g.parameter("bias", [results])?);
            }
            if residual {
                let mut shape = x.clone();
                *shape.last_mut().unwrap() = results;
                inputs.push(g.parameter("residual", shape)?);
            }
            g.apply(Linear { bias, residual }, &inputs)
        });
    }
}

#[test]
fn mismatches_are_named() {
    let mut g = Graph::new();
    let x = g.parameter("x", [2, 5]).unwrap();
    let w = g.parameter("w", [7, 6]).unwrap();
    let b = g.parameter("b", [7]).unwrap();
    assert_eq!(
        g.linear(x, w, Some(b)).unwrap_err().to_string(),
        "linear at '' expects x […,I], weight [O,I], bias [O], found f32[2, 5], f32[7, 6], f32[7]"
    );
}

#[test]
fn cuda_takes_few_rows_and_many() {
    for (x, outputs) in [
        (vec![32, 260], 36),
        (vec![9, 67], 1000),
        (vec![1, 1024], 8),
        (vec![3, 5, 7, 40], 72),
        (vec![2, 100, 33], 3),
        (vec![130, 512], 20),
    ] {
        let mut g = Graph::new();
        let inputs = *x.last().unwrap();
        let y_shape: Vec<usize> = x[..x.len() - 1].iter().copied().chain([outputs]).collect();
        let x = g.parameter("x", x).unwrap();
        let w = g.parameter("w", [outputs, inputs]).unwrap();
        let bias = g.parameter("bias", [outputs]).unwrap();
        let residual = g.parameter("residual", y_shape.clone()).unwrap();
        let dy = g.parameter("dy", y_shape).unwrap();
        let op = Linear {
            bias: true,
            residual: true,
        };
        let y = g.apply(op, &[x, w, bias, residual]).unwrap();
        let [plain, sum] = [false, true].map(|residual| LinearInputGrad { residual });
        let dx = g.apply(plain, &[dy, w]).unwrap();
        let sum = g.apply(sum, &[dy, w, x]).unwrap();
        let dw = g.apply(LinearWeightGrad { ones: 0 }, &[x, dy]).unwrap();
        for (name, value) in [("y", y), ("dx", dx), ("dx + x", sum), ("dw", dw)] {
            g.output(name, value);
        }
        check_outputs_on_cuda(&g);
    }
}
