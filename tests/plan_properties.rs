//! Random graphs give the same values, forward and backward, with and without fusion and with and
//! without memory reuse; plans never overlap.

use medfusion::compile::{Plan, PlanOptions, fuse, verify_disjoint};
use medfusion::device::cpu::CpuDevice;
use medfusion::graph::{Graph, GraphError, Value};
use medfusion::ops::Unary;
use medfusion::tensor::{DType, Tensor, TensorMap};
use proptest::prelude::*;

/// One random layer on top of what there is.
#[derive(Clone, Copy, Debug)]
enum Layer {
    /// 3×3 convolution, group norm, Swish, with the skip and the embedding that blocks have.
    Block {
        skip: bool,
        embed: bool,
        swish: bool,
    },
    /// 1×1 convolution added to its input.
    Residual,
    Upsample,
    Down,
    /// Concatenates an earlier value of the same map.
    Concat {
        back: usize,
    },
    /// Adds an earlier value of the same shape.
    Add {
        back: usize,
    },
    Halve,
    Scale,
    Attention,
}

fn layer() -> impl Strategy<Value = Layer> {
    prop_oneof![
        4 => (any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(skip, embed, swish)| Layer::Block { skip, embed, swish }),
        1 => Just(Layer::Residual),
        1 => Just(Layer::Upsample),
        1 => Just(Layer::Down),
        2 => (0..4usize).prop_map(|back| Layer::Concat { back }),
        2 => (0..4usize).prop_map(|back| Layer::Add { back }),
        1 => Just(Layer::Halve),
        1 => Just(Layer::Scale),
        1 => Just(Layer::Attention),
    ]
}

const BATCH: usize = 2;

fn build(layers: &[Layer]) -> Result<Graph, GraphError> {
    let mut g = Graph::new();
    let mut x = g.input("x", [BATCH, 4, 6, 8], DType::F32)?;
    let e = g.input("e", [BATCH, 16], DType::F32)?;
    let mut history: Vec<Value> = vec![x];
    for (index, layer) in layers.iter().enumerate() {
        let shape = g.shape(x).to_vec();
        let c = shape[3];
        x = g.scope(&format!("layer{index}"), |g| {
            Ok(match *layer {
                Layer::Block { skip, embed, swish } => {
                    let w = g.parameter("w", [c, c, 3, 3])?;
                    let b = g.parameter("b", [c])?;
                    let gamma = g.parameter("gamma", [c])?;
                    let beta = g.parameter("beta", [c])?;
                    let h = g.conv2d(x, w, Some(b), 1, 1)?;
                    let mut h = g.group_norm(h, gamma, beta, c / 4, 1e-5)?;
                    if swish {
                        h = g.swish(h)?;
                    }
                    if skip {
                        h = g.add(x, h)?;
                    }
                    if embed {
                        let w = g.parameter("e", [c, 16])?;
                        let shift = g.linear(e, w, None)?;
                        h = g.add_channels(h, shift)?;
                    }
                    h
                }
                Layer::Residual => {
                    let w = g.parameter("w", [c, c, 1, 1])?;
                    let h = g.conv2d(x, w, None, 1, 0)?;
                    g.add(h, x)?
                }
                Layer::Upsample if shape[1] < 16 => {
                    let w = g.parameter("w", [c, c, 3, 3])?;
                    let h = g.upsample(x, 2)?;
                    g.conv2d(h, w, None, 1, 1)?
                }
                Layer::Down if shape[1] > 1 => {
                    let w = g.parameter("w", [c, c, 3, 3])?;
                    g.conv2d(x, w, None, 2, 1)?
                }
                Layer::Concat { back } if c < 24 => {
                    let other = history[history.len() - 1 - back % history.len()];
                    if g.shape(other)[..3] == shape[..3] {
                        g.concat(&[x, other])?
                    } else {
                        x
                    }
                }
                Layer::Add { back } => {
                    let other = history[history.len() - 1 - back % history.len()];
                    if g.shape(other) == shape {
                        g.add(other, x)?
                    } else {
                        x
                    }
                }
                Layer::Halve if c > 4 && c.is_multiple_of(8) => g.slice(x, c / 4, c / 2)?,
                Layer::Scale => g.apply(
                    Unary::Affine {
                        scale: 0.5,
                        shift: 0.1,
                    },
                    &[x],
                )?,
                Layer::Attention if shape[1] * shape[2] <= 24 => {
                    let tokens = g.reshape(x, [BATCH, shape[1] * shape[2], c])?;
                    let h = g.attention(tokens, tokens, tokens, 2, 0.5)?;
                    let h = g.reshape(h, shape.clone())?;
                    g.add(x, h)?
                }
                _ => x,
            })
        })?;
        history.push(x);
    }
    let squared = g.apply(Unary::Square, &[x])?;
    let loss = g.sum_to(squared, &[])?;
    let loss = g.scale(loss, 1.0 / g.ty(x).len() as f32)?;
    g.output("y", x);
    g.output("loss", loss);
    let mut wrt: Vec<(String, Value)> = g
        .parameters()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    wrt.push(("x".to_owned(), g.leaf_named("x").expect("the input")));
    let values: Vec<Value> = wrt.iter().map(|&(_, value)| value).collect();
    for ((name, _), grad) in wrt.iter().zip(g.gradients(loss, &values)?) {
        if let Some(grad) = grad {
            g.output(&format!("grad.{name}"), grad);
        }
    }
    Ok(g)
}

/// Reproducible numbers in [-1, 1).
fn numbers(seed: usize, len: usize) -> Vec<f32> {
    let mut state = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn evaluate(graph: &Graph, options: PlanOptions) -> Vec<(String, Vec<f32>)> {
    let device = CpuDevice::new(Some(2)).unwrap();
    let plan = device.plan(graph, options);
    verify_disjoint(&plan).unwrap();
    let weights: TensorMap = graph
        .parameters()
        .enumerate()
        .map(|(index, (name, value))| {
            let shape = graph.shape(value).to_vec();
            let fan_in: usize = shape[1..].iter().product();
            let scale = 1.0 / (fan_in as f32).sqrt();
            let values: Vec<f32> = numbers(index, shape.iter().product())
                .iter()
                .map(|v| v * scale)
                .collect();
            (name.to_owned(), Tensor::from_f32(shape, &values))
        })
        .collect();
    let mut executable = device.load(plan, &weights).unwrap();
    executable
        .write("x", &numbers(1000, BATCH * 4 * 6 * 8))
        .unwrap();
    if executable.has("e") {
        executable.write("e", &numbers(1001, BATCH * 16)).unwrap();
    }
    executable.poison();
    executable.run();
    graph
        .outputs()
        .iter()
        .map(|(name, _)| (name.clone(), executable.output(name).unwrap().to_vec()))
        .collect()
}

fn norm(values: &[f32]) -> f64 {
    values
        .iter()
        .map(|&v| f64::from(v).powi(2))
        .sum::<f64>()
        .sqrt()
}

/// Random cases of a property: as many as a change can wait for, or what `PROPTEST_CASES` says (`cargo xtask soak`).
fn cases(usual: u32) -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(usual)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(48), ..ProptestConfig::default() })]

    #[test]
    fn fusion_and_memory_reuse_change_nothing(layers in prop::collection::vec(layer(), 1..9)) {
        let graph = build(&layers).unwrap();
        let plain = PlanOptions { reuse: false, in_place: false };
        let want = evaluate(&graph, plain);
        let (fused, _) = fuse(&graph);
        let reused = evaluate(&graph, PlanOptions::default());
        for ((name, want), (_, got)) in want.iter().zip(&reused) {
            prop_assert!(want == got, "{} changes with memory reuse", name);
        }
        let separate = evaluate(&fused, plain);
        let together = evaluate(&fused, PlanOptions::default());
        for ((name, want), (_, got)) in separate.iter().zip(&together) {
            prop_assert!(want == got, "{} of the fused graph changes with memory reuse", name);
        }
        // Fusion reorders additions, so results agree to rounding; gradients that are zero in
        // exact arithmetic are compared on the scale of all gradients.
        let scale = want.iter().map(|(_, v)| norm(v)).fold(0.0, f64::max);
        for ((name, want), (_, got)) in want.iter().zip(&together) {
            let difference: Vec<f32> = want.iter().zip(got).map(|(a, b)| a - b).collect();
            let error = norm(&difference);
            prop_assert!(
                error <= 2e-5 * norm(want) + 1e-6 * scale,
                "{} changes with fusion by {} of {}", name, error, norm(want)
            );
        }
    }
}

#[test]
fn blocks_are_fused_into_few_steps() {
    let block = Layer::Block {
        skip: true,
        embed: true,
        swish: true,
    };
    let (fused, report) = fuse(&build(&[block, Layer::Upsample]).unwrap());
    for rewrite in [
        "group_norm + swish",
        "group_norm + residual",
        "group_norm + embedding",
        "group_norm gradient + swish gradient",
        "upsample + conv2d",
        "upsample + conv2d_weight_grad",
        "conv2d_input_grad + upsample gradient",
    ] {
        assert!(
            report.rewrites.contains_key(rewrite),
            "{rewrite} did not apply: {report}"
        );
    }
    let plan = Plan::new(&fused, &(), PlanOptions::default());
    let swishes = plan
        .steps
        .iter()
        .filter(|s| s.op.to_string().starts_with("swish"))
        .count();
    assert_eq!(swishes, 0, "{plan}");
}

/// The gradients of a value that two products and a sum read are added where the products store them.
#[test]
fn gradients_are_added_by_the_products_that_compute_them() {
    let mut g = Graph::new();
    let x = g.input("x", [1, 4, 6, 8], DType::F32).unwrap();
    let e = g.input("e", [1, 8], DType::F32).unwrap();
    let mut weight = |name: &str, shape: &[usize]| g.parameter(name, shape).unwrap();
    let [a, b, c, d] = [
        weight("a", &[8, 8, 3, 3]),
        weight("b", &[8, 8, 1, 1]),
        weight("c", &[8, 8]),
        weight("d", &[8, 8]),
    ];
    let (p, q) = (g.conv2d(x, a, None, 1, 1), g.conv2d(x, b, None, 1, 0));
    let product = g.mul(p.unwrap(), q.unwrap()).unwrap();
    let image = g.add(product, x).unwrap();
    let (r, s) = (g.linear(e, c, None), g.linear(e, d, None));
    let vector = g.mul(r.unwrap(), s.unwrap()).unwrap();
    let [image, vector] = [image, vector].map(|y| g.sum_to(y, &[]).unwrap());
    let loss = g.add(image, vector).unwrap();
    for (name, grad) in ["x", "e"].iter().zip(g.gradients(loss, &[x, e]).unwrap()) {
        g.output(name, grad.unwrap());
    }
    let (fused, report) = fuse(&g);
    assert_eq!(report.rewrites["input gradient + gradient"], 3, "{report}");
    let plan = Plan::new(&fused, &(), PlanOptions::default());
    // Those that repeat the gradient of a sum over what was summed.
    let adds = plan.steps.iter().filter(|s| s.op.to_string() == "add");
    assert_eq!(adds.count(), 2, "{plan}");
}
