//! Small graphs that between them launch the kernels which the published networks do not: attention, layer norm,
//! pooling, resizing, what trains a classifier or a perceptual loss, and the paths for counts that no vector divides.

use medfusion::checkpoint::ModelConfig;
use medfusion::diffusion::{NoiseSource, SamplingSpec};
use medfusion::graph::{Graph, GraphError, Value};
use medfusion::pipeline::sampler_graph;
use medfusion::tensor::DType;

/// A graph of one result and its gradients.
struct Small {
    g: Graph,
    inputs: Vec<Value>,
}

impl Small {
    fn new() -> Self {
        Self {
            g: Graph::new(),
            inputs: Vec::new(),
        }
    }

    fn input(&mut self, shape: &[usize]) -> Value {
        let name = format!("x{}", self.inputs.len());
        let x = self.g.input(&name, shape, DType::F32).expect("a new leaf");
        self.inputs.push(x);
        x
    }

    /// An input without a gradient.
    fn data(&mut self, name: &str, shape: &[usize]) -> Value {
        self.g.input(name, shape, DType::F32).expect("a new leaf")
    }

    fn indices(&mut self, count: usize) -> Value {
        self.g
            .input("index", [count], DType::I32)
            .expect("a new leaf")
    }

    /// The graph of `y` and of the gradients of its squares' sum.
    fn differentiated(mut self, y: Value) -> Result<Graph, GraphError> {
        let squares = self.g.mul(y, y)?;
        let loss = self.g.sum_to(squares, &[])?;
        self.g.output("y", y);
        let gradients = self.g.gradients(loss, &self.inputs)?;
        for (index, gradient) in gradients.into_iter().enumerate() {
            if let Some(gradient) = gradient {
                self.g.output(&format!("d{index}"), gradient);
            }
        }
        Ok(self.g)
    }
}

/// All of them.
pub fn graphs() -> Vec<Graph> {
    let mut graphs = vec![learned_variance()];
    for head in [3, 4, 8, 16, 20, 32, 40, 64, 80, 128] {
        graphs.push(attention(head).expect("shapes that fit"));
    }
    for channels in [3, 8, 20, 96] {
        graphs.extend(by_channels(channels).expect("shapes that fit"));
    }
    graphs
}

fn attention(head: usize) -> Result<Graph, GraphError> {
    let mut small = Small::new();
    let [q, k, v] = [70, 65, 65].map(|tokens| small.input(&[1, tokens, 2 * head]));
    let y = small.g.attention(q, k, v, 2, (head as f32).powf(-0.5))?;
    small.differentiated(y)
}

/// Ops on images whose innermost vectors are whole for 8 and 96 channels, not for 3, and in f32 alone for 20.
fn by_channels(channels: usize) -> Result<Vec<Graph>, GraphError> {
    let image = [1, 6, 6, channels];
    let mut graphs = Vec::new();
    let mut add = |build: &dyn Fn(&mut Small, Value) -> Result<Value, GraphError>| {
        let mut small = Small::new();
        // Behind a convolution, so that ops which follow their operand's type meet the reduced one.
        let (x, weight) = (
            small.input(&image),
            small.input(&[channels, channels, 1, 1]),
        );
        let x = small.g.conv2d(x, weight, None, 1, 0)?;
        let y = build(&mut small, x)?;
        graphs.push(small.differentiated(y)?);
        Ok::<(), GraphError>(())
    };
    add(&|small, x| {
        let [gamma, beta] = [(); 2].map(|()| small.input(&[channels]));
        small.g.layer_norm(x, gamma, beta, 1e-5)
    })?;
    add(&|small, x| {
        let [gamma, beta] = [(); 2].map(|()| small.input(&[channels]));
        small.g.group_norm(x, gamma, beta, 1, 1e-5)
    })?;
    add(&|small, x| small.g.softmax(x))?;
    add(&|small, x| small.g.avg_pool(x, 2, 2, 0))?;
    add(&|small, x| small.g.max_pool(x, 3, 2, 1))?;
    add(&|small, x| small.g.resize_area(x, 4, 4))?;
    add(&|small, x| small.g.resize_nearest(x, 9, 4))?;
    add(&|small, x| small.g.upsample(x, 2))?;
    add(&|small, x| small.g.geglu(x).or_else(|_| small.g.swish(x)))?;
    add(&|small, x| {
        let other = small.input(&image);
        small.g.concat(&[x, other])
    })?;
    add(&|small, x| {
        let other = small.input(&image);
        small.g.feature_distance(x, other)
    })?;
    add(&|small, x| {
        let other = small.input(&[1, channels]);
        small.g.add_channels(x, other)
    })?;
    add(&|small, x| {
        let weight = small.input(&[7, channels, 3, 3]);
        small.g.conv2d(x, weight, None, 1, 1)
    })?;
    add(&|small, x| {
        let logits = small.g.sum_to(x, &[1, 1, 1, channels])?;
        let logits = small.g.reshape(logits, [1, channels])?;
        let labels = small.indices(1);
        small.g.cross_entropy(logits, labels)
    })?;
    add(&|small, x| small.g.sum_to(x, &[1, 6, 1, 1]))?;
    add(&|small, x| {
        let estimate = small.input(&image);
        let x_0 = small.data("x_0", &image);
        let table = small.data("table", &[10, 3]);
        let t = small.indices(1);
        small.g.variance_loss(x, x_0, estimate, table, t)
    })?;

    let mut g = Graph::new();
    let table = g.input("table", [5, channels], DType::F32)?;
    let counter = g.state("counter", [1], DType::I32)?;
    let row = g.table_row(table, counter)?;
    let sum = g.state("sum", [channels], DType::F32)?;
    let keep = g.input("keep", [0; 0], DType::F32)?;
    g.accumulate(sum, row, keep, 0.5)?;
    g.output("row", row);
    graphs.push(g);
    Ok(graphs)
}

/// A sampling step on pixels of a network that also predicts its variance.
fn learned_variance() -> Graph {
    const CHANNELS: usize = 3;
    let mut config = ModelConfig::published(2);
    config.vae = None;
    let unet = config.unet.as_mut().expect("a UNet");
    (unet.in_channels, unet.out_channels) = (CHANNELS, CHANNELS);
    unet.learned_variance = true;
    let spec = SamplingSpec {
        batch: 1,
        shape: vec![32, 32, CHANNELS],
        rows: 150,
        objective: config.objective,
        clip_x0: config.clip_x0,
        learned_variance: true,
        guidance: true,
        labels: true,
        noise: NoiseSource::Philox,
    };
    sampler_graph(&config, &spec).expect("a network of the published kind")
}
