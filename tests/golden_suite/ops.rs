//! Family `ops`: single operators, results and gradients, through plans.
//!
//! The JSON beside the file says which operator each case is, shapes come from the tensors. Files
//! are NCHW, graphs NHWC.

use std::collections::BTreeMap;

use libtest_mimic::Failed;
use medfusion::device::Device;
use medfusion::graph::{Graph, GraphError, Value};
use medfusion::ops::{AvgPool, MaxPool, Unary};
use medfusion::tensor::{DType, Tensor, TensorMap, nchw_to_nhwc, nhwc_to_nchw};
use serde_json::Value as Json;

use crate::harness::{Case as File, GRADIENT, OUTPUT, device};

/// How far one tensor is from the file's.
struct Comparison {
    tensor: String,
    error: f64,
    tolerance: f64,
}

/// One case: its description and its tensors by kind (`in`, `out`, `grad`) and name.
struct Case<'a> {
    description: &'a Json,
    tensors: BTreeMap<(String, String), Tensor>,
}

impl Case<'_> {
    fn tensor(&self, kind: &str, name: &str) -> Option<&Tensor> {
        self.tensors.get(&(kind.to_owned(), name.to_owned()))
    }

    fn op(&self) -> &str {
        self.description["op"]
            .as_str()
            .expect("every case names its op")
    }

    fn number(&self, key: &str) -> f64 {
        self.description[key]
            .as_f64()
            .unwrap_or_else(|| panic!("'{}' lacks {key}", self.op()))
    }

    fn numbers(&self, key: &str) -> Vec<f32> {
        let list = self.description[key]
            .as_array()
            .unwrap_or_else(|| panic!("{key} is no list"));
        list.iter()
            .map(|v| v.as_f64().expect("a number") as f32)
            .collect()
    }

    fn is_attention(&self) -> bool {
        self.op().starts_with("q,k,v")
    }

    /// Extents `[N,C,H,W]` of an activation whose channels are not innermost in the file: images,
    /// and heads with their channels before tokens.
    fn channels_second(&self, name: &str, shape: &[usize]) -> Option<[usize; 4]> {
        match *shape {
            _ if matches!(name, "w" | "b") => None,
            [n, heads, d, tokens] if self.is_attention() => Some([n, heads * d, tokens, 1]),
            [n, c, h, w] => Some([n, c, h, w]),
            _ => None,
        }
    }

    /// Shape in the graph of a tensor of this name and shape in the file.
    fn graph_shape(&self, name: &str, shape: &[usize]) -> Vec<usize> {
        match self.channels_second(name, shape) {
            Some([n, c, tokens, _]) if self.is_attention() => vec![n, tokens, c],
            Some([n, c, h, w]) => vec![n, h, w, c],
            None => shape.to_vec(),
        }
    }

    fn to_graph(&self, name: &str, tensor: &Tensor) -> Vec<f32> {
        let values = tensor.to_f32().expect("floats");
        match self.channels_second(name, tensor.shape()) {
            Some(extents) => nchw_to_nhwc(&values, extents),
            None => values.into_owned(),
        }
    }

    fn to_file(&self, name: &str, shape: &[usize], values: &[f32]) -> Vec<f32> {
        match self.channels_second(name, shape) {
            Some([n, c, h, w]) => nhwc_to_nchw(values, [n, h, w, c]),
            None => values.to_vec(),
        }
    }

    /// Height and width of the result.
    fn result_size(&self) -> [usize; 2] {
        let shape = self.tensor("out", "y").expect("a result").shape();
        [shape[2], shape[3]]
    }

    /// Kernel, stride and padding of a pooling such as `k3 s2 p1` or `2x2`.
    fn window(&self) -> (usize, usize, usize) {
        let number = |text: &str| text.trim_end_matches(',').parse::<usize>().ok();
        let words = || self.op().split_whitespace();
        let after = |letter: char| words().find_map(|word| number(word.strip_prefix(letter)?));
        let square = || words().find_map(|word| number(word.split_once('x')?.0));
        let kernel = after('k').or_else(square).expect("a window size");
        (
            kernel,
            after('s').unwrap_or(kernel),
            after('p').unwrap_or(0),
        )
    }

    /// Rows to look up: they stand in the description, `rows [2,0,2,1]`.
    fn rows(&self) -> Option<Vec<i32>> {
        let list = self.op().strip_prefix("rows ")?.trim_matches(['[', ']']);
        Some(
            list.split(',')
                .map(|row| row.trim().parse().expect("a row number"))
                .collect(),
        )
    }

    /// Emits the operator; the leaves are in the graph already.
    fn build(&self, g: &mut Graph) -> Result<Value, GraphError> {
        let [x, w, b, q, k, v, t, index] =
            ["x", "w", "b", "q", "k", "v", "t", "index"].map(|name| g.leaf_named(name));
        let given =
            |leaf: Option<Value>| leaf.unwrap_or_else(|| panic!("'{}' lacks an input", self.op()));
        let op = self.op();
        if op == "conv2d" {
            let padding = self.numbers("padding");
            let padding = [padding[0] as usize, padding[1] as usize];
            g.conv2d_padded(
                given(x),
                given(w),
                b,
                self.number("stride") as usize,
                padding,
            )
        } else if op == "group_norm" {
            let (groups, eps) = (self.number("groups") as usize, self.number("eps") as f32);
            g.group_norm(given(x), given(w), given(b), groups, eps)
        } else if op.starts_with("layer_norm") {
            g.layer_norm(given(x), given(w), given(b), self.number("eps") as f32)
        } else if op.starts_with("x*sigmoid") {
            g.swish(given(x))
        } else if op.contains("erf") {
            g.apply(Unary::Gelu, &[given(x)])
        } else if op.starts_with("softmax") {
            g.softmax(given(x))
        } else if op.starts_with("x w^T") {
            g.linear(given(x), given(w), b)
        } else if op.starts_with("nearest x") {
            let factor = self.result_size()[0] / g.shape(given(x))[1];
            g.upsample(given(x), factor)
        } else if op.starts_with("avg pool") {
            let (kernel, stride, padding) = self.window();
            let pool = AvgPool {
                kernel,
                stride,
                padding,
                count_padding: !op.contains("not counted"),
            };
            g.apply(pool, &[given(x)])
        } else if op.starts_with("max pool") {
            let (kernel, stride, padding) = self.window();
            let pool = MaxPool {
                kernel,
                stride,
                padding,
            };
            g.apply(pool, &[given(x)])
        } else if op.starts_with("adaptive average") {
            let [height, width] = self.result_size();
            g.resize_area(given(x), height, width)
        } else if op.starts_with("nearest-exact") {
            let [height, width] = self.result_size();
            g.resize_nearest(given(x), height, width)
        } else if self.is_attention() {
            let shape = self
                .tensor("in", "q")
                .expect("queries [B,heads,d,N]")
                .shape();
            let scale = (shape[2] as f32).powf(-0.5);
            g.attention(given(q), given(k), given(v), shape[1], scale)
        } else if op.starts_with("rows") {
            g.embedding(given(w), given(index))
        } else if op.starts_with("inference batch norm") {
            // (x - mean) / sqrt(var + eps) w + b, channel by channel.
            let (mean, var) = (self.numbers("mean"), self.numbers("var"));
            let eps = self.number("eps") as f32;
            let rstd: Vec<f32> = var.iter().map(|v| 1.0 / (v + eps).sqrt()).collect();
            let mean = g.constant([mean.len()], &mean)?;
            let rstd = g.constant([rstd.len()], &rstd)?;
            let centred = g.sub(given(x), mean)?;
            let hat = g.mul(centred, rstd)?;
            let scaled = g.mul(hat, given(w))?;
            g.add(scaled, given(b))
        } else if op.starts_with("sinusoidal") {
            g.sinusoid(given(t), self.number("dim") as usize)
        } else {
            panic!("unknown operator '{op}'")
        }
    }

    /// Runs the case and compares every result and gradient that the file has for it.
    fn run(&self, device: &Device) -> Vec<Comparison> {
        let mut g = Graph::new();
        let mut floats: Vec<(String, Vec<f32>)> = Vec::new();
        let mut integers: Vec<(String, Vec<i32>)> = Vec::new();
        for ((kind, name), tensor) in &self.tensors {
            if kind != "in" || name == "dy" {
                continue;
            }
            let shape = self.graph_shape(name, tensor.shape());
            if tensor.dtype().is_float() {
                g.input(name, shape, DType::F32).expect("a new leaf");
                floats.push((name.clone(), self.to_graph(name, tensor)));
            } else {
                g.input(name, shape, DType::I32).expect("a new leaf");
                let values = tensor.to_i64().expect("integers");
                integers.push((name.clone(), values.into_iter().map(|v| v as i32).collect()));
            }
        }
        if let Some(rows) = self.rows() {
            g.input("index", [rows.len()], DType::I32)
                .expect("a new leaf");
            integers.push(("index".to_owned(), rows));
        }
        let y = self
            .build(&mut g)
            .unwrap_or_else(|e| panic!("'{}': {e}", self.op()));
        g.output("y", y);
        if let Some(dy) = self.tensor("in", "dy") {
            let weights = g
                .input("dy", g.shape(y).to_vec(), DType::F32)
                .expect("a new leaf");
            let product = g.mul(y, weights).expect("dy is like y");
            let loss = g.sum_to(product, &[]).expect("a scalar");
            let wanted = self.tensors.keys().filter(|(kind, _)| kind == "grad");
            let wanted: Vec<&str> = wanted.map(|(_, name)| name.as_str()).collect();
            let leaves: Vec<Value> = wanted
                .iter()
                .map(|name| g.leaf_named(name).expect("a leaf"))
                .collect();
            let grads = g
                .gradients(loss, &leaves)
                .expect("every op here has a gradient");
            for (name, grad) in wanted.iter().zip(grads) {
                g.output(
                    &format!("grad.{name}"),
                    grad.expect("the loss depends on it"),
                );
            }
            floats.push(("dy".to_owned(), self.to_graph("dy", dy)));
        }

        let mut executable = device
            .load(device.compile(&g), &TensorMap::new())
            .expect("a plan without weights");
        for (name, values) in &floats {
            if executable.has(name) {
                executable
                    .write(name, values)
                    .expect("the shapes of the graph");
            }
        }
        for (name, values) in &integers {
            executable
                .write_i32(name, values)
                .expect("the shapes of the graph");
        }
        executable.poison().expect("a device that answers");
        executable.run().expect("a device that answers");

        let compared = self.tensors.iter().filter_map(|((kind, name), want)| {
            let (tensor, tolerance) = match kind.as_str() {
                "out" => (name.clone(), OUTPUT),
                "grad" => (format!("grad.{name}"), GRADIENT),
                _ => return None,
            };
            let got = executable.output(&tensor).expect("an output");
            let got = self.to_file(name, want.shape(), &got);
            let error = relative_error(&got, &want.to_f32().expect("floats"));
            Some(Comparison {
                tensor,
                error,
                tolerance,
            })
        });
        compared.collect()
    }
}

/// Norm-wise; infinite if anything is not finite.
fn relative_error(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(
        &mut got
            .iter()
            .zip(want)
            .map(|(g, w)| f64::from(*g) - f64::from(*w)),
    );
    let scale = norm(&mut want.iter().map(|w| f64::from(*w)));
    match difference {
        0.0 => 0.0,
        d if d.is_finite() => d / scale.max(1e-6),
        _ => f64::INFINITY,
    }
}

/// The cases of one file, by name.
fn cases(file: &File) -> Result<BTreeMap<&str, Case<'_>>, Failed> {
    let ops = file.json["ops"].as_object().ok_or("no 'ops' in the JSON")?;
    let mut cases: BTreeMap<&str, Case<'_>> = BTreeMap::new();
    for (key, tensor) in &file.tensors {
        let [kind, case, name] = key.splitn(3, '.').collect::<Vec<_>>()[..] else {
            return Err(format!("'{key}' is not kind.case.name").into());
        };
        let Some((case, description)) = ops.get_key_value(case) else {
            return Err(format!("nothing in the JSON describes '{case}'").into());
        };
        let case = cases.entry(case).or_insert_with(|| Case {
            description,
            tensors: BTreeMap::new(),
        });
        case.tensors
            .insert((kind.to_owned(), name.to_owned()), tensor.clone());
    }
    if cases.len() != ops.len() {
        return Err("a described operator has no tensors".into());
    }
    Ok(cases)
}

pub fn run_case(file: &File) -> Result<(), Failed> {
    let device = device()?;
    let mut failures = Vec::new();
    for (name, case) in cases(file)? {
        let report = case.run(&device);
        if report.is_empty() {
            failures.push(format!("{name} has nothing to compare with"));
        }
        let worst = report.iter().map(|c| c.error).fold(0.0, f64::max);
        println!("{}/{name} → {worst:.1e}", file.name);
        let wrong = report
            .iter()
            .filter(|c| c.error.is_nan() || c.error > c.tolerance);
        failures.extend(
            wrong.map(|c| format!("{name} {}: {:.2e} > {:.0e}", c.tensor, c.error, c.tolerance)),
        );
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(failures.join("\n").into()),
    }
}
