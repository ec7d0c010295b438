//! A network of one's own: written once as a graph, differentiated, run on any device.
//!
//! ```sh
//! cargo run --release --example custom_graph -- cpu          # or cuda, cuda:1, emulated
//! ```
//! A small convolutional network learns to tell bright images from dark ones by gradient descent on the host.

use std::error::Error;

use medfusion::graph::{Graph, GraphError, Value};
use medfusion::tensor::philox::{Philox, RandomStream, stream_key};
use medfusion::tensor::{DType, Tensor, TensorMap};
use medfusion::{Device, DeviceChoice};
use rand::RngExt;

/// Images at once, pixels of a side, channels of the hidden map.
const BATCH: usize = 8;
const SIDE: usize = 8;
const HIDDEN: usize = 4;
/// Names and shapes of the weights.
const WEIGHTS: [(&str, &[usize]); 2] = [
    ("conv.weight", &[HIDDEN, 3, 3, 1]),
    ("head.weight", &[2, HIDDEN]),
];

/// Scores `[N, 2]` of images `[N, SIDE, SIDE, 1]`.
fn network(g: &mut Graph, x: Value) -> Result<Value, GraphError> {
    let [conv, head] = WEIGHTS;
    let w = g.parameter(conv.0, conv.1)?;
    let map = g.conv2d(x, w, None, 1, 1)?;
    let map = g.swish(map)?;
    let sums = g.sum_to(map, &[BATCH, 1, 1, HIDDEN])?;
    let means = g.scale(sums, 1.0 / (SIDE * SIDE) as f32)?;
    let means = g.reshape(means, [BATCH, HIDDEN])?;
    let w = g.parameter(head.0, head.1)?;
    g.linear(means, w, None)
}

fn main() -> Result<(), Box<dyn Error>> {
    let choice: DeviceChoice = match std::env::args().nth(1) {
        Some(text) => text.parse()?,
        None => DeviceChoice::Auto,
    };
    let device = Device::builder().choice(choice).open()?;

    let mut g = Graph::new();
    let x = g.input("x", [BATCH, SIDE, SIDE, 1], DType::F32)?;
    let labels = g.input("labels", [BATCH], DType::I32)?;
    let scores = network(&mut g, x)?;
    let loss = g.cross_entropy(scores, labels)?;
    let loss = g.sum_to(loss, &[])?;
    let parameters = WEIGHTS.map(|(name, _)| g.leaf_named(name).expect("declared above"));
    let gradients = g.gradients(loss, &parameters)?;
    g.output("loss", loss);
    for ((name, _), gradient) in WEIGHTS.iter().zip(gradients) {
        g.output(name, gradient.ok_or("the loss depends on every weight")?);
    }

    // One stream of random numbers for everything that is made up here.
    let mut random = Philox::new(stream_key(7, RandomStream::Test), 0, 0);
    let mut weights: Vec<Vec<f32>> = WEIGHTS
        .iter()
        .map(|(_, shape)| {
            (0..shape.iter().product())
                .map(|_| random.random::<f32>() - 0.5)
                .collect()
        })
        .collect();
    let stored: TensorMap = WEIGHTS
        .iter()
        .zip(&weights)
        .map(|((name, shape), values)| {
            ((*name).to_owned(), Tensor::from_f32(shape.to_vec(), values))
        })
        .collect();
    let compiled = device.compile(&g);
    println!(
        "{} steps on {device}; {}",
        compiled.plan.steps.len(),
        compiled.memory
    );
    let mut executable = device.load(compiled, &stored)?;

    let mut losses = Vec::new();
    for step in 0..40 {
        let labels: Vec<i32> = (0..BATCH as i32).map(|i| i % 2).collect();
        let images: Vec<f32> = labels
            .iter()
            .flat_map(|&label| [label as f32 - 0.5; SIDE * SIDE])
            .map(|level| level + random.random::<f32>() - 0.5)
            .collect();
        executable.write("x", &images)?;
        executable.write_i32("labels", &labels)?;
        executable.run()?;
        losses.push(executable.output("loss")?[0]);
        if step % 10 == 0 {
            println!("step {step}: loss {:.4}", losses[step]);
        }
        for ((name, _), values) in WEIGHTS.iter().zip(&mut weights) {
            for (value, gradient) in values.iter_mut().zip(executable.output(name)?) {
                *value -= 0.5 * gradient;
            }
            executable.write(name, values)?;
        }
    }
    println!("loss {:.4} → {:.4}", losses[0], losses[losses.len() - 1]);
    assert!(
        losses[losses.len() - 1] < 0.5 * losses[0],
        "nothing was learned"
    );
    Ok(())
}
