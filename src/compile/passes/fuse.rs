//! Rewrites chains of ops into fused ones.
//!
//! A rewrite changes a node in place (its op and operands, never its result), so whatever used
//! the result is untouched; producers that nobody uses any more are dropped when the plan is
//! made. A value that is an output of the graph is never fused away.

use crate::compile::report::PassReport;
use crate::graph::{Editor, Graph, Node, Op, Value};
use crate::ops::{
    Binary, Conv2d, Conv2dInputGrad, Conv2dWeightGrad, GroupNorm, GroupNormGradSums,
    GroupNormInputGrad, Linear, LinearInputGrad, Reshape, Unary, UnaryGrad, Upsample, UpsampleGrad,
};

/// The graph with chains of ops replaced by fused ops, and what was fused.
///
/// In order along the graph:
/// - `swish(group_norm(x))` → one op, forward and in the gradients (which recompute the
///   activation from `x`, so that the normalised map need not be kept);
/// - `group_norm(…) + r` → residual in the same pass; `… + e` per sample and channel likewise;
/// - `conv2d(upsample(x))` → one op, forward, weight gradient and input gradient;
/// - `conv2d(…) + r`, `linear(…) + r` → residual in the epilogue, and so for the gradients of their inputs where a value
///   has several users.
pub fn fuse(graph: &Graph) -> (Graph, PassReport) {
    let mut report = PassReport::new("fuse");
    let mut fuser = Fuser {
        editor: Editor::new(graph),
    };
    for index in 0..graph.nodes().len() {
        for rewrite in [
            Fuser::group_norm_swish,
            Fuser::group_norm_swish_gradient,
            Fuser::group_norm_add,
            Fuser::upsampled_convolution,
            Fuser::upsampled_input_gradient,
            Fuser::residual_product,
        ] {
            if let Some((name, op, inputs)) = rewrite(&fuser, index) {
                fuser.editor.replace(index, op, inputs);
                report.count(name, 1);
            }
        }
    }
    let fused = fuser.editor.finish();
    report.compare(graph, &fused);
    (fused, report)
}

type Rewrite = Option<(&'static str, Op, Vec<Value>)>;

struct Fuser {
    editor: Editor,
}

impl Fuser {
    fn node(&self, index: usize) -> &Node {
        self.editor.node(index)
    }

    fn producer(&self, value: Value) -> Option<(usize, &Node)> {
        self.editor.producer(value)
    }

    fn shape(&self, value: Value) -> &[usize] {
        self.editor.graph().shape(value)
    }

    fn single_use(&self, value: Value) -> bool {
        self.editor.users(value).len() == 1
    }

    /// The plain group norm that computes `value`, if that is what computes it.
    fn plain_group_norm(&self, value: Value) -> Option<(&GroupNorm, &Node)> {
        let (_, node) = self.producer(value)?;
        let norm = node.op.get::<GroupNorm>()?;
        (!(norm.swish || norm.residual || norm.embed)).then_some((norm, node))
    }

    /// Whether all users of a normalised map are its Swish and that Swish's gradient, so that
    /// fusing them makes the map unnecessary.
    fn only_swished(&self, normalised: Value) -> bool {
        self.editor.users(normalised).iter().all(|&user| {
            user != Editor::OUTPUT
                && (self.node(user).op == Unary::Swish || self.node(user).op == SWISH_GRAD)
        })
    }

    fn group_norm_swish(&self, index: usize) -> Rewrite {
        let node = self.node(index);
        if node.op != Unary::Swish {
            return None;
        }
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
        let sums = node.op.get::<GroupNormGradSums>().filter(|op| !op.swish);
        let input = node.op.get::<GroupNormInputGrad>().filter(|op| !op.swish);
        let op = match (sums, input) {
            (Some(op), _) => Op::from(GroupNormGradSums { swish: true, ..*op }),
            (_, Some(op)) => Op::from(GroupNormInputGrad { swish: true, ..*op }),
            _ => return None,
        };
        // Operands: x, stats, gamma, beta, dy, …
        let (_, swish_grad) = self.producer(node.inputs[4])?;
        if swish_grad.op != SWISH_GRAD {
            return None;
        }
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
        if node.op != Binary::Add {
            return None;
        }
        let result = self.shape(node.outputs[0]);
        for (normed, other) in [
            (node.inputs[0], node.inputs[1]),
            (node.inputs[1], node.inputs[0]),
        ] {
            let Some((_, producer)) = self.producer(normed) else {
                continue;
            };
            let Some(norm) = producer.op.get::<GroupNorm>() else {
                continue;
            };
            // The residual is operand 4, the embedding comes after it, so it is fused last.
            if !self.single_use(normed) || norm.embed || self.shape(normed) != result {
                continue;
            }
            let mut inputs = producer.inputs.clone();
            if self.shape(other) == result && !norm.residual && normed != other {
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
        node.op.get::<Reshape>()?;
        let source = node.inputs[0];
        let &[n, c] = self.shape(source) else {
            return None;
        };
        let [first, middle @ .., last] = self.shape(value) else {
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
        (node.op == Upsample { factor: 2 }).then(|| node.inputs[0])
    }

    fn upsampled_convolution(&self, index: usize) -> Rewrite {
        let node = self.node(index);
        let forward = node.op.get::<Conv2d>().filter(|op| !op.upsample);
        let gradient = node.op.get::<Conv2dWeightGrad>().filter(|op| !op.upsample);
        let upsample = true;
        let (name, op) = match (forward, gradient) {
            (Some(op), _) => ("upsample + conv2d", Op::from(Conv2d { upsample, ..*op })),
            (_, Some(op)) => (
                "upsample + conv2d_weight_grad",
                Op::from(Conv2dWeightGrad { upsample, ..*op }),
            ),
            _ => return None,
        };
        let mut inputs = node.inputs.clone();
        inputs[0] = self.upsampled(inputs[0])?;
        Some((name, op, inputs))
    }

    fn upsampled_input_gradient(&self, index: usize) -> Rewrite {
        let node = self.node(index);
        if node.op != (UpsampleGrad { factor: 2 }) || !self.single_use(node.inputs[0]) {
            return None;
        }
        let (_, producer) = self.producer(node.inputs[0])?;
        let op = producer.op.get::<Conv2dInputGrad>()?;
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
        if node.op != Binary::Add {
            return None;
        }
        let result = self.shape(node.outputs[0]);
        let mut pairs = [
            (node.inputs[0], node.inputs[1]),
            (node.inputs[1], node.inputs[0]),
        ];
        // The later of two products moves less far, so its operands need not be kept as long.
        pairs.sort_by_key(|&(product, _)| {
            std::cmp::Reverse(self.producer(product).map(|(at, _)| at))
        });
        for (product, other) in pairs {
            let same = self.shape(product) == result && self.shape(other) == result;
            if !same || !self.single_use(product) || product == other {
                continue;
            }
            let Some((_, producer)) = self.producer(product) else {
                continue;
            };
            let Some((name, op)) = with_residual(&producer.op) else {
                continue;
            };
            let mut inputs = producer.inputs.clone();
            inputs.push(other);
            return Some((name, op, inputs));
        }
        None
    }
}

const SWISH_GRAD: UnaryGrad = UnaryGrad { of: Unary::Swish };

/// The product `op` with a residual that its epilogue adds, if it can have one and has none yet.
fn with_residual(op: &Op) -> Option<(&'static str, Op)> {
    let residual = true;
    if let Some(op) = op.get::<Conv2d>().filter(|op| !op.residual) {
        return Some(("product + residual", Conv2d { residual, ..*op }.into()));
    }
    if let Some(op) = op.get::<Linear>().filter(|op| !op.residual) {
        return Some(("product + residual", Linear { residual, ..*op }.into()));
    }
    if let Some(op) = op.get::<Conv2dInputGrad>().filter(|op| !op.residual) {
        let op = Conv2dInputGrad { residual, ..*op };
        return Some(("input gradient + gradient", op.into()));
    }
    let op = op.get::<LinearInputGrad>()?;
    (!op.residual).then(|| {
        (
            "input gradient + gradient",
            LinearInputGrad { residual }.into(),
        )
    })
}
