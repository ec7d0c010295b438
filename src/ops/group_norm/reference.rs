//! Naive definitions in `f64`.

use super::{GroupNorm, GroupNormGradSums, GroupNormInputGrad, GroupNormStats};
use crate::graph::TensorType;
use crate::kernel::reference::{Array, ReferenceOperator};

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Which channel and which group the elements of `x` `[N,…,C]` belong to.
struct GroupIndex {
    channels: usize,
    per_sample: usize,
    group_channels: usize,
    groups: usize,
}

impl GroupIndex {
    fn new(x: &Array, groups: usize) -> Self {
        Self {
            channels: x.channels(),
            per_sample: x.data.len() / x.dim(0),
            group_channels: x.channels() / groups,
            groups,
        }
    }

    /// Index of element `at` in an array `[N,C]`.
    fn channel(&self, at: usize) -> usize {
        at / self.per_sample * self.channels + at % self.channels
    }

    /// Index of element `at` in an array `[N,groups]`.
    fn group(&self, at: usize) -> usize {
        at / self.per_sample * self.groups + at % self.channels / self.group_channels
    }

    /// Elements of one group.
    fn members(&self) -> f64 {
        (self.per_sample / self.groups) as f64
    }
}

/// `x̂` and `d` (see the ops) of element `at` from the inputs `x`, stats, gamma, beta, `dy`.
fn terms(inputs: &[&Array], place: &GroupIndex, swish: bool, at: usize) -> (f64, f64) {
    let (mean, rstd) = (
        inputs[1].data[2 * place.group(at)],
        inputs[1].data[2 * place.group(at) + 1],
    );
    let hat = (inputs[0].data[at] - mean) * rstd;
    let u = inputs[2].data[at % place.channels] * hat + inputs[3].data[at % place.channels];
    let slope = if swish {
        sigmoid(u) * (1.0 + u * (1.0 - sigmoid(u)))
    } else {
        1.0
    };
    (hat, slope * inputs[4].data[at])
}

impl ReferenceOperator for GroupNormStats {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let x = inputs[0];
        let place = GroupIndex::new(x, self.groups);
        let mut stats = Array::zeros(outputs[0].shape.clone());
        for (at, value) in x.data.iter().enumerate() {
            stats.data[2 * place.group(at)] += value / place.members();
        }
        for (at, value) in x.data.iter().enumerate() {
            let difference = value - stats.data[2 * place.group(at)];
            stats.data[2 * place.group(at) + 1] += difference * difference / place.members();
        }
        for pair in stats.data.chunks_mut(2) {
            pair[1] = 1.0 / (pair[1] + f64::from(self.eps)).sqrt();
        }
        vec![stats]
    }
}

impl ReferenceOperator for GroupNorm {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let x = inputs[0];
        let place = GroupIndex::new(x, self.groups);
        let own = self.stats.map(|stats| stats.reference(&[x], &outputs[1..]));
        let stats = own.as_ref().map_or(inputs[1], |own| &own[0]);
        let gamma = self.gamma_input();
        let (gamma, beta) = (inputs[gamma], inputs[gamma + 1]);
        let data = x
            .data
            .iter()
            .enumerate()
            .map(|(at, value)| {
                let (group, channel) = (place.group(at), at % place.channels);
                let hat = (value - stats.data[2 * group]) * stats.data[2 * group + 1];
                let u = gamma.data[channel] * hat + beta.data[channel];
                let y = if self.swish { u * sigmoid(u) } else { u };
                let residual = self.residual_input().map_or(0.0, |r| inputs[r].data[at]);
                let embed = self
                    .embed_input()
                    .map_or(0.0, |e| inputs[e].data[place.channel(at)]);
                y + residual + embed
            })
            .collect();
        let y = Array::new(outputs[0].shape.clone(), data);
        std::iter::once(y)
            .chain(own.into_iter().flatten())
            .collect()
    }
}

impl ReferenceOperator for GroupNormGradSums {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let place = GroupIndex::new(inputs[0], self.groups);
        let mut sums = [0, 1].map(|i| Array::zeros(outputs[i].shape.clone()));
        for at in 0..inputs[0].data.len() {
            let (hat, d) = terms(inputs, &place, self.swish, at);
            sums[0].data[place.channel(at)] += d;
            sums[1].data[place.channel(at)] += d * hat;
        }
        sums.into()
    }
}

impl ReferenceOperator for GroupNormInputGrad {
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let place = GroupIndex::new(inputs[0], self.groups);
        let (gamma, sums) = (&inputs[2].data, [&inputs[5].data, &inputs[6].data]);
        let group_sum = |at: usize, which: usize| -> f64 {
            let first = at % place.channels / place.group_channels * place.group_channels;
            let row = at / place.per_sample * place.channels;
            let members = first..first + place.group_channels;
            members.map(|c| gamma[c] * sums[which][row + c]).sum()
        };
        let data = (0..inputs[0].data.len())
            .map(|at| {
                let (hat, d) = terms(inputs, &place, self.swish, at);
                let rstd = inputs[1].data[2 * place.group(at) + 1];
                let means = [0, 1].map(|which| group_sum(at, which) / place.members());
                rstd * (gamma[at % place.channels] * d - means[0] - hat * means[1])
            })
            .collect();
        vec![Array::new(outputs[0].shape.clone(), data)]
    }
}
