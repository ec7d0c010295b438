use std::collections::HashMap;

use crate::compile::PlanOptions;
use crate::device::cpu::CpuDevice;
use crate::graph::{Graph, GraphError};
use crate::kernel::reference::Array;
use crate::tensor::{DType, TensorMap};
use crate::testing::{check_updates, hashed};

fn build(g: &mut Graph, max_norm: f32) -> Result<(), GraphError> {
    let a = g.input("a", [3, 5, 7], DType::F32)?;
    let b = g.input("b", [70_001], DType::F32)?;
    let c = g.input("c", [], DType::F32)?;
    let norms = g.global_norm(&[a, b, c], max_norm)?;
    g.output("total", norms.total);
    g.output("factor", norms.clip_factor);
    g.output("finite", norms.finite);
    g.output("each", norms.each);
    Ok(())
}

#[test]
fn norms_and_factors() {
    for max_norm in [0.5, 1e6, f32::INFINITY] {
        check_updates(|g| build(g, max_norm), &HashMap::new(), 1e-6);
    }
    let tiny = HashMap::from([("c".to_owned(), Array::scalar(1e-30))]);
    check_updates(|g| build(g, 1.0), &tiny, 1e-6);
}

/// A scale is removed from norms and gradients alike.
#[test]
fn a_scale_is_taken_off() {
    let scale = HashMap::from([("scale".to_owned(), Array::scalar(1024.0))]);
    for max_norm in [1e-3, f32::INFINITY] {
        check_updates(
            |g| {
                let a = g.input("a", [3, 5, 7], DType::F32)?;
                let b = g.input("b", [1001], DType::F32)?;
                let scale = g.input("scale", [], DType::F32)?;
                let norms = g.scaled_global_norm(&[a, b], scale, max_norm)?;
                g.output("total", norms.total);
                g.output("factor", norms.clip_factor);
                g.output("finite", norms.finite);
                g.output("each", norms.each);
                Ok(())
            },
            &scale,
            1e-6,
        );
    }
}

/// Squares beyond the range of f32.
#[test]
fn huge_and_tiny_gradients_count() {
    for size in [1e-30, 1e-18, 1e17, 1e30] {
        let values = hashed("b", 5000);
        let values = values
            .iter()
            .map(|v| f64::from((size * v) as f32))
            .collect();
        let leaves = HashMap::from([("b".to_owned(), Array::new([5000], values))]);
        check_updates(
            |g| {
                let b = g.input("b", [5000], DType::F32)?;
                let norms = g.global_norm(&[b], f32::INFINITY)?;
                g.output("total", norms.total);
                Ok(())
            },
            &leaves,
            1e-6,
        );
    }
}

#[test]
fn the_array_that_is_not_finite_is_found() {
    let mut g = Graph::new();
    build(&mut g, 1.0).unwrap();
    let device = CpuDevice::new(Some(2)).unwrap();
    let plan = device.plan(&g, PlanOptions::default());
    let mut exe = device.load(plan, &TensorMap::new()).unwrap();
    let mut b = vec![1e-3; 70_001];
    for bad in [f32::NAN, f32::INFINITY] {
        b[70_000] = bad;
        exe.write("b", &b).unwrap();
        exe.run();
        assert_eq!(exe.output("finite").unwrap(), [0.0]);
        let finite = exe.output("each").unwrap().iter().map(|v| v.is_finite());
        assert!(finite.eq([true, false, true]));
    }
}
