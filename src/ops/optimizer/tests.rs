use std::collections::HashMap;

use super::{AdamConfig, AdamOperands};
use crate::compile::PlanOptions;
use crate::device::cpu::CpuDevice;
use crate::graph::{Graph, GraphError};
use crate::kernel::reference::Array;
use crate::tensor::{DType, Tensor, TensorMap};
use crate::testing::{check_updates, hashed};

fn build(
    g: &mut Graph,
    len: usize,
    config: AdamConfig,
    clip: bool,
    gate: bool,
) -> Result<(), GraphError> {
    let parameter = g.parameter("p", [len])?;
    let average = g.state("average", [len], DType::F32)?;
    let step = g.state("step", [1], DType::I32)?;
    let scalar = |g: &mut Graph, wanted: bool, name: &str| match wanted {
        true => g.input(name, [], DType::F32).map(Some),
        false => Ok(None),
    };
    let gate = scalar(g, gate, "gate")?;
    let operands = AdamOperands {
        parameter,
        grad: g.input("grad", [len], DType::F32)?,
        moments: [
            g.state("m", [len], DType::F32)?,
            g.state("v", [len], DType::F32)?,
        ],
        learning_rate: g.input("lr", [], DType::F32)?,
        step,
        clip: scalar(g, clip, "clip")?,
        gate,
    };
    g.adam(config, operands)?;
    // Reads the weight that the step above wrote.
    g.ema(average, parameter, step, gate)?;
    match gate {
        Some(gate) => g.increment_if(step, gate),
        None => g.increment(step),
    }
}

#[test]
fn steps_match_the_formula_in_f64() {
    let len = 40_003;
    let positive = hashed("v", len)
        .iter()
        .map(|v| f64::from((0.5 * v * v) as f32))
        .collect();
    let v = Array::new([len], positive);
    let coupled = AdamConfig {
        weight_decay: 0.1,
        ..AdamConfig::ADAM
    };
    for config in [AdamConfig::ADAM, AdamConfig::ADAMW, coupled] {
        for (clip, gate) in [
            (false, None),
            (true, None),
            (true, Some(1.0)),
            (false, Some(0.0)),
        ] {
            for step in [0.0, 1.0, 7.0, 1e6] {
                let mut leaves = HashMap::from([
                    ("v".to_owned(), v.clone()),
                    ("lr".to_owned(), Array::scalar(0.125)),
                    ("clip".to_owned(), Array::scalar(0.75)),
                    ("step".to_owned(), Array::new([1], vec![step])),
                ]);
                if let Some(gate) = gate {
                    leaves.insert("gate".to_owned(), Array::scalar(gate));
                }
                // A few rounded operations; m and g of opposite sign cancel in their mean.
                check_updates(
                    |g| build(g, len, config, clip, gate.is_some()),
                    &leaves,
                    1e-6,
                );
            }
        }
    }
}

/// The same bits with one thread and with three.
#[test]
fn steps_do_not_depend_on_threads() {
    let len = 100_003;
    let run = |threads: usize| {
        let mut g = Graph::new();
        build(&mut g, len, AdamConfig::ADAMW, false, false).unwrap();
        let device = CpuDevice::new(Some(threads)).unwrap();
        let plan = device.plan(&g, PlanOptions::default());
        let values =
            |name: &str| -> Vec<f32> { hashed(name, len).iter().map(|&v| v as f32).collect() };
        let weights = Tensor::from_f32([len], &values("p"));
        let weights = TensorMap::from([("p".to_owned(), weights)]);
        let mut exe = device.load(plan, &weights).unwrap();
        exe.write("lr", &[0.01]).unwrap();
        for k in 0..3 {
            exe.write("grad", &values(&format!("grad {k}"))).unwrap();
            exe.run();
        }
        assert_eq!(exe.read_i32("step").unwrap(), [3]);
        (
            exe.read("p").unwrap().to_vec(),
            exe.read("average").unwrap().to_vec(),
        )
    };
    assert_eq!(run(1), run(3));
}
