//! Rewrites chains of ops into fused ones.
//!
//! A rewrite changes a node in place (its op and operands, never its result), so whatever used
//! the result is untouched; producers that nobody uses any more are dropped when the plan is
//! made. A value that is an output of the graph is never fused away.

use std::collections::BTreeMap;
use std::fmt;

use super::{Graph, Node, Source, Value};
use crate::ops::{
    Binary, Conv2d, Conv2dInputGrad, Conv2dWeightGrad, GroupNorm, GroupNormGradSums,
    GroupNormInputGrad, Linear, LinearInputGrad, Op, Unary, UnaryGrad, Upsample, UpsampleGrad,
};

/// How often each rewrite applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FusionReport {
    pub rewrites: BTreeMap<&'static str, usize>,
}

impl fmt::Display for FusionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rewrites.is_empty() {
            return f.write_str("nothing fused");
        }
        let rows: Vec<String> = self
            .rewrites
            .iter()
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        write!(f, "fused: {}", rows.join(", "))
    }
}

/// The graph with chains of ops replaced by fused ops, and what was fused.
///
/// In order along the graph:
/// - `swish(group_norm(x))` → one op, forward and in the gradients (which recompute the
///   activation from `x`, so that the normalised map need not be kept);
/// - `group_norm(…) + r` → residual in the same pass; `… + e` per sample and channel likewise;
/// - `conv2d(upsample(x))` → one op, forward, weight gradient and input gradient;
/// - `conv2d(…) + r`, `linear(…) + r` → residual in the epilogue, and so for the gradients of their inputs where a value
///   has several users.
pub fn fuse(graph: &Graph) -> (Graph, FusionReport) {
    let mut fuser = Fuser {
        users: users(graph),
        graph: graph.clone(),
        report: FusionReport::default(),
    };
    for index in 0..fuser.graph.nodes.len() {
        for rewrite in [
            Fuser::group_norm_swish,
            Fuser::group_norm_swish_gradient,
            Fuser::group_norm_add,
            Fuser::upsampled_convolution,
            Fuser::upsampled_input_gradient,
            Fuser::residual_product,
        ] {
            if let Some((name, op, inputs)) = rewrite(&fuser, index) {
                fuser.replace(index, op, inputs);
                *fuser.report.rewrites.entry(name).or_default() += 1;
            }
        }
    }
    (fuser.graph, fuser.report)
}

type Rewrite = Option<(&'static str, Op, Vec<Value>)>;

struct Fuser {
    graph: Graph,
    /// Nodes that read each value; `usize::MAX` stands for an output of the graph.
    users: Vec<Vec<usize>>,
    report: FusionReport,
}

fn users(graph: &Graph) -> Vec<Vec<usize>> {
    let mut users = vec![Vec::new(); graph.value_count()];
    for (index, node) in graph.nodes().iter().enumerate() {
        for input in &node.inputs {
            users[input.index()].push(index);
        }
    }
    for (_, value) in graph.outputs() {
        users[value.index()].push(usize::MAX);
    }
    users
}

impl Fuser {
    fn node(&self, index: usize) -> &Node {
        &self.graph.nodes[index]
    }

    fn producer(&self, value: Value) -> Option<(usize, &Node)> {
        match self.graph.info(value).source {
            Source::Node { node, .. } => Some((node, self.node(node))),
            _ => None,
        }
    }

    fn single_use(&self, value: Value) -> bool {
        self.users[value.index()].len() == 1
    }

    /// Gives node `index` another op and operands. A producer that loses its last user through
    /// this is dead, so its own operands lose it as a user too.
    fn replace(&mut self, index: usize, op: Op, inputs: Vec<Value>) {
        let old = std::mem::replace(&mut self.graph.nodes[index].inputs, inputs.clone());
        self.graph.nodes[index].op = op;
        for value in inputs {
            self.users[value.index()].push(index);
        }
        for value in old {
            self.release(value, index);
        }
    }

    fn release(&mut self, value: Value, user: usize) {
        let users = &mut self.users[value.index()];
        if let Some(position) = users.iter().position(|&u| u == user) {
            users.swap_remove(position);
        }
        let Some((producer, node)) = self.producer(value) else {
            return;
        };
        let dead = node
            .outputs
            .iter()
            .all(|v| self.users[v.index()].is_empty())
            && node.op.operator().updates().is_empty();
        if dead {
            for operand in node.inputs.clone() {
                self.release(operand, producer);
            }
        }
    }

    /// The plain group norm that computes `value`, if that is what computes it.
    fn plain_group_norm(&self, value: Value) -> Option<(&GroupNorm, &Node)> {
        let (_, node) = self.producer(value)?;
        match &node.op {
            Op::GroupNorm(norm) if !(norm.swish || norm.residual || norm.embed) => {
                Some((norm, node))
            }
            _ => None,
        }
    }

    /// Whether all users of a normalised map are its Swish and that Swish's gradient, so that
    /// fusing them makes the map unnecessary.
    fn only_swished(&self, normalised: Value) -> bool {
        self.users[normalised.index()].iter().all(|&user| {
            user != usize::MAX
                && matches!(
                    &self.node(user).op,
                    Op::Unary(Unary::Swish) | Op::UnaryGrad(UnaryGrad { of: Unary::Swish })
                )
        })
    }

    fn group_norm_swish(&self, index: usize) -> Rewrite {
        let node = self.node(index);
        let Op::Unary(Unary::Swish) = node.op else {
            return None;
        };
        let (norm, producer) = self.plain_group_norm(node.inputs[0])?;
        self.only_swished(node.inputs[0]).then(|| {
            let fused = GroupNorm {
                swish: true,
                ..*norm
            };
            ("group_norm + swish", fused.into(), producer.inputs.clone())
        })
    }

    /// Both gradient ops of a group norm read the gradient through the Swish that follows it.
    fn group_norm_swish_gradient(&self, index: usize) -> Rewrite {
        let node = self.node(index);
        let op = match &node.op {
            Op::GroupNormGradSums(op) if !op.swish => {
                Op::from(GroupNormGradSums { swish: true, ..*op })
            }
            Op::GroupNormInputGrad(op) if !op.swish => {
                Op::from(GroupNormInputGrad { swish: true, ..*op })
            }
            _ => return None,
        };
        // Operands: x, stats, gamma, beta, dy, …
        let (_, swish_grad) = self.producer(node.inputs[4])?;
        let Op::UnaryGrad(UnaryGrad { of: Unary::Swish }) = swish_grad.op else {
            return None;
        };
        let (normalised, dy) = (swish_grad.inputs[0], swish_grad.inputs[1]);
        let (_, norm) = self.plain_group_norm(normalised)?;
        if norm.inputs[..4] != node.inputs[..4] || !self.only_swished(normalised) {
            return None;
        }
        let mut inputs = node.inputs.clone();
        inputs[4] = dy;
        Some(("group_norm gradient + swish gradient", op, inputs))
    }

    /// `group_norm(…) + residual` and `group_norm(…) + embedding[n, c]`.
    fn group_norm_add(&self, index: usize) -> Rewrite {
        let node = self.node(index);
        let Op::Binary(Binary::Add) = node.op else {
            return None;
        };
        let result = self.graph.shape(node.outputs[0]);
        for (normed, other) in [
            (node.inputs[0], node.inputs[1]),
            (node.inputs[1], node.inputs[0]),
        ] {
            let Some((_, producer)) = self.producer(normed) else {
                continue;
            };
            let Op::GroupNorm(norm) = &producer.op else {
                continue;
            };
            // The residual is operand 4, the embedding comes after it, so it is fused last.
            if !self.single_use(normed) || norm.embed || self.graph.shape(normed) != result {
                continue;
            }
            let mut inputs = producer.inputs.clone();
            if self.graph.shape(other) == result && !norm.residual && normed != other {
                inputs.push(other);
                let fused = GroupNorm {
                    residual: true,
                    ..*norm
                };
                return Some(("group_norm + residual", fused.into(), inputs));
            }
            if let Some(embedding) = self.per_sample_channels(other, result) {
                inputs.push(embedding);
                let fused = GroupNorm {
                    embed: true,
                    ..*norm
                };
                return Some(("group_norm + embedding", fused.into(), inputs));
            }
        }
        None
    }

    /// The `[N, C]` value behind `value` if that is its reshape to `[N, 1, …, 1, C]`.
    fn per_sample_channels(&self, value: Value, full: &[usize]) -> Option<Value> {
        let (_, node) = self.producer(value)?;
        let Op::Reshape(_) = node.op else { return None };
        let source = node.inputs[0];
        let &[n, c] = self.graph.shape(source) else {
            return None;
        };
        let [first, middle @ .., last] = self.graph.shape(value) else {
            return None;
        };
        let fits = (*first, *last) == (n, c)
            && middle.iter().all(|&extent| extent == 1)
            && full.first() == Some(&n)
            && full.last() == Some(&c);
        fits.then_some(source)
    }

    /// The source of a nearest ×2 upsampling.
    fn upsampled(&self, value: Value) -> Option<Value> {
        let (_, node) = self.producer(value)?;
        match node.op {
            Op::Upsample(Upsample { factor: 2 }) => Some(node.inputs[0]),
            _ => None,
        }
    }

    fn upsampled_convolution(&self, index: usize) -> Rewrite {
        let node = self.node(index);
        let (name, op) = match &node.op {
            Op::Conv2d(op) if !op.upsample => (
                "upsample + conv2d",
                Op::from(Conv2d {
                    upsample: true,
                    ..*op
                }),
            ),
            Op::Conv2dWeightGrad(op) if !op.upsample => (
                "upsample + conv2d_weight_grad",
                Op::from(Conv2dWeightGrad {
                    upsample: true,
                    ..*op
                }),
            ),
            _ => return None,
        };
        let mut inputs = node.inputs.clone();
        inputs[0] = self.upsampled(inputs[0])?;
        Some((name, op, inputs))
    }

    fn upsampled_input_gradient(&self, index: usize) -> Rewrite {
        let node = self.node(index);
        let Op::UpsampleGrad(UpsampleGrad { factor: 2 }) = node.op else {
            return None;
        };
        if !self.single_use(node.inputs[0]) {
            return None;
        }
        let (_, producer) = self.producer(node.inputs[0])?;
        let Op::Conv2dInputGrad(op) = &producer.op else {
            return None;
        };
        if op.upsample || op.residual {
            return None;
        }
        let fused = Conv2dInputGrad {
            upsample: true,
            height: op.height / 2,
            width: op.width / 2,
            ..*op
        };
        Some((
            "conv2d_input_grad + upsample gradient",
            fused.into(),
            producer.inputs.clone(),
        ))
    }

    fn residual_product(&self, index: usize) -> Rewrite {
        let node = self.node(index);
        let Op::Binary(Binary::Add) = node.op else {
            return None;
        };
        let result = self.graph.shape(node.outputs[0]);
        let mut pairs = [
            (node.inputs[0], node.inputs[1]),
            (node.inputs[1], node.inputs[0]),
        ];
        // The later of two products moves less far, so its operands need not be kept as long.
        pairs.sort_by_key(|&(product, _)| {
            std::cmp::Reverse(self.producer(product).map(|(at, _)| at))
        });
        for (product, other) in pairs {
            let same = self.graph.shape(product) == result && self.graph.shape(other) == result;
            if !same || !self.single_use(product) || product == other {
                continue;
            }
            let Some((_, producer)) = self.producer(product) else {
                continue;
            };
            let (name, op) = match &producer.op {
                Op::Conv2d(op) if !op.residual => (
                    "product + residual",
                    Op::from(Conv2d {
                        residual: true,
                        ..*op
                    }),
                ),
                Op::Linear(op) if !op.residual => (
                    "product + residual",
                    Op::from(Linear {
                        residual: true,
                        ..*op
                    }),
                ),
                Op::Conv2dInputGrad(op) if !op.residual => (
                    "input gradient + gradient",
                    Op::from(Conv2dInputGrad {
                        residual: true,
                        ..*op
                    }),
                ),
                Op::LinearInputGrad(op) if !op.residual => (
                    "input gradient + gradient",
                    Op::from(LinearInputGrad { residual: true }),
                ),
                _ => continue,
            };
            let mut inputs = producer.inputs.clone();
            inputs.push(other);
            return Some((name, op, inputs));
        }
        None
    }
}
