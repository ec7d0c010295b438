//! Naive definitions in `f64`.

use super::{Attention, AttentionGrad};
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

/// Row `t` of head `h` of sample `n`.
fn head(x: &Array, heads: usize, n: usize, h: usize, t: usize) -> &[f64] {
    let start = head_start(&x.shape, heads, n, h, t);
    &x.data[start..][..x.channels() / heads]
}

fn head_start(shape: &[usize], heads: usize, n: usize, h: usize, t: usize) -> usize {
    (n * shape[1] + t) * shape[2] + h * (shape[2] / heads)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Probabilities of query `t`, and the logarithm of the sum of exponentials.
fn probabilities(
    (q, k): (&Array, &Array),
    (heads, scale): (usize, f32),
    (n, h, t): (usize, usize, usize),
) -> (Vec<f64>, f64) {
    let keys = 0..k.dim(1);
    let scores: Vec<f64> = keys
        .map(|j| f64::from(scale) * dot(head(q, heads, n, h, t), head(k, heads, n, h, j)))
        .collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
    (
        scores.iter().map(|s| (s - largest).exp() / sum).collect(),
        largest + sum.ln(),
    )
}

impl ReferenceOperator for Attention {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let (q, k, v) = (inputs[0], inputs[1], inputs[2]);
        let heads = self.heads;
        let mut y = Array::zeros(outputs[0].shape.clone());
        let mut lse = Array::zeros(outputs[1].shape.clone());
        for n in 0..q.dim(0) {
            for h in 0..heads {
                for t in 0..q.dim(1) {
                    let (p, total) = probabilities((q, k), (heads, self.scale), (n, h, t));
                    lse.data[(n * heads + h) * q.dim(1) + t] = total;
                    let start = head_start(&q.shape, heads, n, h, t);
                    for (j, p) in p.iter().enumerate() {
                        for (i, v) in head(v, heads, n, h, j).iter().enumerate() {
                            y.data[start + i] += p * v;
                        }
                    }
                }
            }
        }
        vec![y, lse]
    }
}

impl ReferenceOperator for AttentionGrad {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let (q, k, v, dy) = (inputs[0], inputs[1], inputs[2], inputs[5]);
        let heads = self.heads;
        let mut grads: Vec<Array> = outputs
            .iter()
            .map(|ty| Array::zeros(ty.shape.clone()))
            .collect();
        for n in 0..q.dim(0) {
            for h in 0..heads {
                for t in 0..q.dim(1) {
                    let (p, _) = probabilities((q, k), (heads, self.scale), (n, h, t));
                    let dy = head(dy, heads, n, h, t);
                    // y_t = sum_j p_j v_j and p = softmax(s), so ds_j = p_j (dy·v_j - sum_l p_l dy·v_l).
                    let dp: Vec<f64> = (0..p.len())
                        .map(|j| dot(dy, head(v, heads, n, h, j)))
                        .collect();
                    let mean = dot(&p, &dp);
                    let query = head_start(&q.shape, heads, n, h, t);
                    for j in 0..p.len() {
                        let ds = p[j] * (dp[j] - mean) * f64::from(self.scale);
                        let key = head_start(&k.shape, heads, n, h, j);
                        for (i, dy) in dy.iter().enumerate() {
                            grads[0].data[query + i] += ds * k.data[key + i];
                            grads[1].data[key + i] += ds * q.data[query + i];
                            grads[2].data[key + i] += p[j] * dy;
                        }
                    }
                }
            }
        }
        grads
    }
}
