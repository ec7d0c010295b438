//! Group normalisation, fused with the activation and the additions that follow it, and its
//! gradients.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use super::{Operator, PrecisionRule, Reshape};
use crate::graph::{Gradient, Graph, GraphError, Mismatch, TensorType, Value};

/// Statistics of `x` `[N,…,C]` over each group of `C / groups` channels and all positions:
/// result `[N,groups,2]` of the mean and `1 / sqrt(variance + eps)` with the biased variance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNormStats {
    /// Groups of neighbouring channels.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
}

/// `y = act(gamma (x - mean) rstd + beta) (+ residual) (+ embed)`.
///
/// Inputs: `x` `[N,…,C]`, statistics `[N,groups,2]`, `gamma` `[C]`, `beta` `[C]`; then, where
/// their flags are set, `residual` like `x` and `embed` `[N,C]`, which repeats over all positions.
/// The gradient with respect to `x` includes the path through the statistics. With `stats` the op computes the statistics of
/// `x` itself: they are its second result, not an input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNorm {
    /// Groups of neighbouring channels, which share mean and variance.
    pub groups: usize,
    /// Whether `act` is Swish; else it is the identity.
    pub swish: bool,
    /// Whether there is a `residual`.
    pub residual: bool,
    /// Whether there is an `embed`.
    pub embed: bool,
    /// The statistics that the op computes itself. Only [`fuse_for_device`](crate::compile::fuse_for_device) sets this,
    /// after autodiff.
    pub stats: Option<GroupNormStats>,
}

/// The sums over positions that all gradients of [`GroupNorm`] share. Inputs: `x`, statistics,
/// `gamma`, `beta`, `dy`; results `[N,C]` `sum d` and `[N,C]` `sum d x̂` with
/// `d = act'(gamma x̂ + beta) dy`. Summed over `N` they are the gradients of beta and gamma.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupNormGradSums {
    /// Groups of neighbouring channels.
    pub groups: usize,
    /// Whether `act` is Swish; else it is the identity.
    pub swish: bool,
}

/// Gradient of [`GroupNorm`] with respect to `x`. Inputs: `x`, statistics, `gamma`, `beta`, `dy` and
/// the two results of [`GroupNormGradSums`]; with `m` elements per group
/// `dx = rstd (gamma d - sum_group(gamma d) / m - x̂ sum_group(gamma d x̂) / m)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupNormInputGrad {
    /// Groups of neighbouring channels.
    pub groups: usize,
    /// Whether `act` is Swish; else it is the identity.
    pub swish: bool,
}

/// The types that follow from `x`.
struct Types {
    stats: TensorType,
    channels: TensorType,
    per_sample: TensorType,
}

impl Types {
    /// `None` if `x` has no batch axis, is empty or its channels do not divide into `groups`.
    fn of(x: &TensorType, groups: usize) -> Option<Self> {
        let [n, .., c] = x.shape[..] else { return None };
        let divides = groups > 0 && c.is_multiple_of(groups);
        (divides && x.dtype.is_float() && !x.is_empty()).then(|| Self {
            stats: TensorType::f32([n, groups, 2]),
            channels: TensorType::f32([c]),
            per_sample: TensorType::f32([n, c]),
        })
    }
}

fn expected(groups: usize, rest: &str) -> String {
    format!("x [N,…,C] with C divisible by {groups}{rest}")
}

impl GroupNorm {
    /// Position of the residual among the inputs, if there is one.
    fn residual_input(&self) -> Option<usize> {
        self.residual.then_some(self.gamma_input() + 2)
    }

    /// Position of the embedding among the inputs, if there is one.
    fn embed_input(&self) -> Option<usize> {
        self.embed
            .then_some(self.gamma_input() + 2 + usize::from(self.residual))
    }

    /// Position of `gamma` among the inputs; `beta` follows it.
    fn gamma_input(&self) -> usize {
        match self.stats {
            Some(_) => 1,
            None => 2,
        }
    }
}

impl Operator for GroupNormStats {
    fn name(&self) -> &'static str {
        "group_norm_stats"
    }

    fn describe(&self) -> String {
        format!("group_norm_stats {}", self.groups)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let stats = || match inputs {
            [x] => Some(vec![Types::of(x, self.groups)?.stats]),
            _ => None,
        };
        stats().ok_or_else(|| Mismatch::inputs(expected(self.groups, ""), inputs))
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        4 * inputs[0].len() as u64
    }

    /// None: the gradient of [`GroupNorm`] covers the statistics that it uses.
    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::Reduced {
            inputs: 1,
            results: 0,
        }
    }
}

impl Operator for GroupNorm {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    fn describe(&self) -> String {
        let flags = [
            (self.swish, " +swish"),
            (self.residual, " +residual"),
            (self.embed, " +embed"),
            (self.stats.is_some(), " +stats"),
        ];
        let flags = flags
            .into_iter()
            .filter_map(|(flag, name)| flag.then_some(name));
        format!("group_norm {}{}", self.groups, flags.collect::<String>())
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let y = || {
            let (x, rest) = inputs.split_first()?;
            let types = Types::of(x, self.groups)?;
            let own = self.stats.is_some();
            if self.stats.is_some_and(|stats| stats.groups != self.groups) {
                return None;
            }
            let expected = [
                (!own).then_some(&types.stats),
                Some(&types.channels),
                Some(&types.channels),
                self.residual.then_some(x),
                self.embed.then_some(&types.per_sample),
            ];
            let results = [Some(x.clone()), own.then_some(types.stats.clone())];
            rest.iter()
                .eq(expected.into_iter().flatten())
                .then(|| results.into_iter().flatten().collect())
        };
        y().ok_or_else(|| {
            let statistics = match self.stats {
                Some(_) => String::new(),
                None => format!(", statistics [N,{},2]", self.groups),
            };
            let mut rest = format!("{statistics}, gamma [C], beta [C]");
            for (flag, name) in [
                (self.residual, ", residual like x"),
                (self.embed, ", embed [N,C]"),
            ] {
                if flag {
                    rest.push_str(name);
                }
            }
            Mismatch::inputs(expected(self.groups, &rest), inputs)
        })
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        let flags = [self.swish, self.residual, self.embed];
        let extra: u64 = flags.into_iter().map(u64::from).sum();
        let own = self.stats.map_or(0, |stats| stats.flops(inputs, &[]));
        (4 + extra) * inputs[0].len() as u64 + own
    }

    fn backward(&self, cx: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        let GroupNorm { groups, swish, .. } = *self;
        if self.stats.is_some() {
            return Ok(None);
        }
        let dy = cx.dy();
        let g = &mut *cx.graph;
        let mut grads = vec![None; cx.inputs.len()];
        if cx.wanted[0] || cx.wanted[2] || cx.wanted[3] {
            let mut inputs = cx.inputs[..4].to_vec();
            inputs.push(dy);
            let sums = g.node(GroupNormGradSums { groups, swish }, &inputs)?;
            if cx.wanted[0] {
                inputs.extend(&sums);
                grads[0] = Some(g.apply(GroupNormInputGrad { groups, swish }, &inputs)?);
            }
            // Of each sample: small, so that they can wait to be added up with those of all other layers.
            grads[2] = Some(sums[1]);
            grads[3] = Some(sums[0]);
        }
        if let Some(residual) = self.residual_input() {
            grads[residual] = Some(dy);
        }
        if let Some(embed) = self.embed_input().filter(|&embed| cx.wanted[embed]) {
            let shape = g.shape(cx.inputs[embed]).to_vec();
            let mut kept = vec![1; g.shape(dy).len()];
            (kept[0], *kept.last_mut().expect("x has a channel axis")) = (shape[0], shape[1]);
            let sum = g.sum_to(dy, &kept)?;
            grads[embed] = Some(g.apply(Reshape { shape }, &[sum])?);
        }
        Ok(Some(grads))
    }

    /// `x`, or the operand after `beta`.
    fn in_place(&self) -> &'static [(usize, usize)] {
        match self.stats {
            Some(_) => &[(0, 0), (0, 3)],
            None => &[(0, 0), (0, 4)],
        }
    }

    fn precision_rule(&self) -> PrecisionRule {
        let added = [self.residual_input(), self.embed_input()];
        let added = added.into_iter().flatten().map(|index| 1 << index);
        PrecisionRule::Reduced {
            inputs: 1 | added.sum::<u64>(),
            results: 1,
        }
    }
}

impl Operator for GroupNormGradSums {
    fn name(&self) -> &'static str {
        "group_norm_grad_sums"
    }

    fn describe(&self) -> String {
        let swish = if self.swish { " +swish" } else { "" };
        format!("group_norm_grad_sums {}{swish}", self.groups)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let sums = || {
            let (x, rest) = inputs.split_first()?;
            let types = Types::of(x, self.groups)?;
            let expected = [&types.stats, &types.channels, &types.channels, x];
            let sums = vec![types.per_sample.clone(), types.per_sample.clone()];
            rest.iter().eq(expected).then_some(sums)
        };
        sums().ok_or_else(|| {
            let rest = format!(
                ", statistics [N,{},2], gamma [C], beta [C], dy like x",
                self.groups
            );
            Mismatch::inputs(expected(self.groups, &rest), inputs)
        })
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        (5 + 5 * u64::from(self.swish)) * inputs[0].len() as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::Reduced {
            inputs: 0b1_0001,
            results: 0,
        }
    }
}

impl Operator for GroupNormInputGrad {
    fn name(&self) -> &'static str {
        "group_norm_input_grad"
    }

    fn describe(&self) -> String {
        let swish = if self.swish { " +swish" } else { "" };
        format!("group_norm_input_grad {}{swish}", self.groups)
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let dx = || {
            let (x, rest) = inputs.split_first()?;
            let types = Types::of(x, self.groups)?;
            let (channels, per_sample) = (&types.channels, &types.per_sample);
            let expected = [&types.stats, channels, channels, x, per_sample, per_sample];
            rest.iter().eq(expected).then(|| vec![x.clone()])
        };
        dx().ok_or_else(|| {
            let rest = format!(
                ", statistics [N,{},2], gamma [C], beta [C], dy like x, two sums [N,C]",
                self.groups
            );
            Mismatch::inputs(expected(self.groups, &rest), inputs)
        })
    }

    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        (8 + 5 * u64::from(self.swish)) * inputs[0].len() as u64
    }

    fn backward(&self, _: &mut Gradient<'_>) -> Result<Option<Vec<Option<Value>>>, GraphError> {
        Ok(None)
    }

    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 4), (0, 0)]
    }

    fn precision_rule(&self) -> PrecisionRule {
        PrecisionRule::Reduced {
            inputs: 0b1_0001,
            results: 1,
        }
    }
}

impl Graph {
    /// Normalises `x` `[N,…,C]` over each of `groups` groups of neighbouring channels and all
    /// positions, then scales by `gamma` `[C]` and shifts by `beta` `[C]`.
    ///
    /// # Errors
    /// If the channels do not divide into the groups or differ from those of `gamma` and `beta`.
    pub fn group_norm(
        &mut self,
        x: Value,
        gamma: Value,
        beta: Value,
        groups: usize,
        eps: f32,
    ) -> Result<Value, GraphError> {
        let stats = self.apply(GroupNormStats { groups, eps }, &[x])?;
        let op = GroupNorm {
            groups,
            swish: false,
            residual: false,
            embed: false,
            stats: None,
        };
        self.apply(op, &[x, stats, gamma, beta])
    }
}
