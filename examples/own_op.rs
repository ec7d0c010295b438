//! An op of one's own, composed of ops that are there, and how to test it: against a naive definition, the `f64` oracle and
//! finite differences, on every device of this machine.
//!
//! ```sh
//! cargo run --release --example own_op
//! ```
//! The op is hard swish, `x clamp(x + 3, 0, 6) / 6` (Howard et al., "Searching for MobileNetV3", ICCV 2019). An op with
//! kernels of its own is a folder in `src/ops`: see `ARCHITECTURE.md`.

use std::collections::HashMap;
use std::error::Error;

use medfusion::compile::Precision;
use medfusion::device::reference::{Array, Evaluation};
use medfusion::graph::{Graph, GraphError, Value};
use medfusion::ops::Unary;
use medfusion::tensor::DType;
use medfusion::{Device, DeviceChoice};

/// Values from -5 to 5, off the corners at -3 and 3 by more than the finite difference.
const LEN: usize = 64;

fn hard_swish(g: &mut Graph, x: Value) -> Result<Value, GraphError> {
    let shifted = Unary::Affine {
        scale: 1.0,
        shift: 3.0,
    };
    let clamp = Unary::Clamp {
        low: 0.0,
        high: 6.0,
    };
    let gate = g.apply(shifted, &[x])?;
    let gate = g.apply(clamp, &[gate])?;
    let gate = g.scale(gate, 1.0 / 6.0)?;
    g.mul(x, gate)
}

/// The definition, in `f64` and without any of the above.
fn defined(x: f64) -> f64 {
    x * (x + 3.0).clamp(0.0, 6.0) / 6.0
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut g = Graph::new();
    let x = g.input("x", [LEN], DType::F32)?;
    let y = hard_swish(&mut g, x)?;
    let loss = g.sum_to(y, &[])?;
    let gradient = g.gradients(loss, &[x])?[0].ok_or("the loss depends on x")?;
    g.output("y", y);
    g.output("gradient", gradient);

    let values: Vec<f32> = (0..LEN)
        .map(|i| -5.0 + 10.0 * (i as f32 + 0.37) / LEN as f32)
        .collect();
    let exact: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();

    // The oracle against the definition, and its gradient against central differences.
    let leaves = HashMap::from([("x".to_owned(), Array::new(vec![LEN], exact.clone()))]);
    let oracle = Evaluation::run(&g, &leaves);
    for (index, &x) in exact.iter().enumerate() {
        let h = 1e-4;
        let slope = (defined(x + h) - defined(x - h)) / (2.0 * h);
        let (y, gradient) = (oracle.get(y).data[index], oracle.get(gradient).data[index]);
        // The oracle has 1/6 as an f32; the difference is exact for a parabola.
        assert!((y - defined(x)).abs() < 1e-6, "{x}: {y}");
        assert!((gradient - slope).abs() < 1e-6, "{x}: {gradient}");
    }
    println!("the oracle agrees with the definition and its slope");

    // Every device against the oracle.
    for choice in [
        DeviceChoice::Cpu,
        DeviceChoice::Cuda(0),
        DeviceChoice::Emulated,
    ] {
        let builder = Device::builder().choice(choice).precision(Precision::F32);
        let device = match builder.open() {
            Ok(device) => device,
            Err(error) => {
                println!("{choice} not tested: {error}");
                continue;
            }
        };
        let mut executable = device.load(device.compile(&g), &Default::default())?;
        executable.write("x", &values)?;
        executable.run()?;
        for (name, value) in [("y", y), ("gradient", gradient)] {
            let worst = executable
                .output(name)?
                .iter()
                .zip(&oracle.get(value).data)
                .map(|(&got, &want)| (f64::from(got) - want).abs())
                .fold(0.0, f64::max);
            // Four roundings of values up to 5 and 6.
            assert!(worst < 4e-6, "{name} on {device}: {worst:e}");
        }
        println!("{choice} agrees with the oracle");
    }
    Ok(())
}
