//! The channel-wise and image ops on CUDA over one list of awkward shapes, forward and backward, in every type: odd
//! heights and widths, single pixels, batches of 1 and 3, channels that no vector divides or that no tile holds.

use super::check_outputs_on_cuda;
use crate::graph::{Graph, GraphError, Value};

/// Batch, height and width.
const MAPS: [[usize; 3]; 3] = [[1, 1, 1], [3, 5, 3], [1, 4, 7]];
const CHANNELS: [usize; 5] = [3, 8, 20, 96, 1000];
const GROUPS: [usize; 3] = [1, 8, 32];

/// A graph in which every op has a result, and the gradients of that result's weighted sum.
struct Sweep {
    graph: Graph,
    shape: [usize; 4],
}

impl Sweep {
    fn run(build: impl Fn(&mut Self, Value) -> Result<(), GraphError>) {
        for [n, h, w] in MAPS {
            for channels in CHANNELS {
                let mut sweep = Self {
                    graph: Graph::new(),
                    shape: [n, h, w, channels],
                };
                let x = sweep.graph.parameter("x", sweep.shape).unwrap();
                build(&mut sweep, x).unwrap();
                if !sweep.graph.outputs().is_empty() {
                    check_outputs_on_cuda(&sweep.graph);
                }
            }
        }
    }

    fn parameter(&mut self, name: &str, shape: &[usize]) -> Result<Value, GraphError> {
        self.graph.parameter(name, shape)
    }

    /// Adds `y`, computed from `operands`, to the results, with its gradients.
    fn add(&mut self, name: &str, y: Value, operands: &[Value]) -> Result<(), GraphError> {
        let shape = self.graph.shape(y).to_vec();
        let weights = self.graph.parameter(&format!("{name}.dy"), shape)?;
        let product = self.graph.mul(y, weights)?;
        let loss = self.graph.sum_to(product, &[])?;
        self.graph.output(name, y);
        let gradients = self.graph.gradients(loss, operands)?;
        for (index, gradient) in gradients.into_iter().enumerate() {
            if let Some(gradient) = gradient {
                self.graph.output(&format!("{name}.d{index}"), gradient);
            }
        }
        Ok(())
    }
}

#[test]
fn norms() {
    Sweep::run(|sweep, x| {
        let [_, h, w, channels] = sweep.shape;
        let gamma = sweep.parameter("gamma", &[channels])?;
        let beta = sweep.parameter("beta", &[channels])?;
        for groups in GROUPS {
            // The gradient of one or two elements that are normalised among themselves is 0 but for rounding.
            if channels.is_multiple_of(groups) && h * w * channels / groups > 2 {
                let y = sweep.graph.group_norm(x, gamma, beta, groups, 1e-5)?;
                let y = sweep.graph.swish(y)?;
                sweep.add(&format!("group_norm.{groups}"), y, &[x, gamma, beta])?;
            }
        }
        let y = sweep.graph.layer_norm(x, gamma, beta, 1e-5)?;
        sweep.add("layer_norm", y, &[x, gamma, beta])?;
        let y = sweep.graph.softmax(x)?;
        sweep.add("softmax", y, &[x])
    });
}

#[test]
fn elementwise_and_sums() {
    Sweep::run(|sweep, x| {
        let [n, h, w, channels] = sweep.shape;
        let other = sweep.parameter("other", &[n, h, w, channels])?;
        let shift = sweep.parameter("shift", &[n, channels])?;
        let y = sweep.graph.add(x, other)?;
        sweep.add("add", y, &[x, other])?;
        let y = sweep.graph.mul(x, other)?;
        sweep.add("mul", y, &[x, other])?;
        let y = sweep.graph.add_channels(x, shift)?;
        sweep.add("add_channels", y, &[x, shift])?;
        let y = sweep.graph.sum_to(x, &[n, 1, 1, channels])?;
        sweep.add("sum_to", y, &[x])?;
        let y = sweep.graph.concat(&[x, other])?;
        sweep.add("concat", y, &[x, other])?;
        let y = sweep.graph.slice(x, 1, channels - 2)?;
        sweep.add("slice", y, &[x])?;
        if channels.is_multiple_of(2) {
            let y = sweep.graph.geglu(x)?;
            sweep.add("geglu", y, &[x])?;
        }
        Ok(())
    });
}

#[test]
fn pools_and_resizes() {
    Sweep::run(|sweep, x| {
        let [_, h, w, _] = sweep.shape;
        let y = sweep.graph.upsample(x, 2)?;
        sweep.add("upsample", y, &[x])?;
        let y = sweep.graph.resize_nearest(x, 3, 2)?;
        sweep.add("resize_nearest", y, &[x])?;
        let y = sweep.graph.resize_area(x, 2, 3)?;
        sweep.add("resize_area", y, &[x])?;
        if h > 1 && w > 1 {
            let y = sweep.graph.avg_pool(x, 2, 2, 0)?;
            sweep.add("avg_pool", y, &[x])?;
            let y = sweep.graph.max_pool(x, 3, 2, 1)?;
            sweep.add("max_pool", y, &[x])?;
        }
        Ok(())
    });
}

#[test]
fn products() {
    const RESULTS: usize = 20;
    Sweep::run(|sweep, x| {
        let [_, h, w, channels] = sweep.shape;
        let bias = sweep.parameter("bias", &[RESULTS])?;
        let weight = sweep.parameter("weight", &[RESULTS, channels])?;
        let y = sweep.graph.linear(x, weight, Some(bias))?;
        sweep.add("linear", y, &[x, weight, bias])?;
        for (kernel, stride) in [(1, 1), (3, 1), (3, 2)] {
            let name = format!("conv2d.{kernel}.{stride}");
            let weight = sweep.parameter(
                &format!("{name}.weight"),
                &[RESULTS, channels, kernel, kernel],
            )?;
            let y = sweep
                .graph
                .conv2d(x, weight, Some(bias), stride, kernel / 2)?;
            sweep.add(&name, y, &[x, weight, bias])?;
        }
        // Tokens of two heads.
        if channels.is_multiple_of(2) && channels <= 256 {
            let tokens = sweep.graph.reshape(x, [sweep.shape[0], h * w, channels])?;
            let y = sweep.graph.attention(tokens, tokens, tokens, 2, 0.5)?;
            sweep.add("attention", y, &[x])?;
        }
        Ok(())
    });
}
