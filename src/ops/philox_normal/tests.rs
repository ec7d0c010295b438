use std::collections::HashMap;

use crate::compile::PlanOptions;
use crate::device::Executable;
use crate::device::cpu::CpuDevice;
use crate::graph::Graph;
use crate::kernel::reference::Array;
use crate::tensor::philox::{RandomStream, fill_normal, seed_words, stream_key};
use crate::tensor::{DType, TensorMap};
use crate::testing::{check_updates, emulated_gpu};

const SEED: u64 = 0xfedc_ba98_7654_3210;

fn graph(images: usize, shape: &[usize]) -> Graph {
    let mut g = Graph::new();
    add(&mut g, images, shape).unwrap();
    g
}

fn add(g: &mut Graph, images: usize, shape: &[usize]) -> Result<(), crate::graph::GraphError> {
    let seed = g.input("seed", [2], DType::I32)?;
    let index = g.input("images", [images], DType::I32)?;
    let step = g.state("step", [1], DType::I32)?;
    let y = g.philox_normal(RandomStream::SamplerNoise, seed, index, step, shape)?;
    g.output("y", y);
    Ok(())
}

fn run(images: &[i32], step: i32, shape: &[usize]) -> Vec<f32> {
    let g = graph(images.len(), shape);
    let device = CpuDevice::new(Some(2)).unwrap();
    let plan = device.plan(&g, PlanOptions::default());
    let mut exe = device.load(plan, &TensorMap::new()).unwrap();
    exe.write_i32("seed", &seed_words(SEED)).unwrap();
    exe.write_i32("images", images).unwrap();
    exe.write_i32("step", &[step]).unwrap();
    exe.poison();
    exe.run();
    exe.output("y").unwrap().to_vec()
}

#[test]
fn matches_the_formula_in_f64() {
    for shape in [vec![1], vec![5], vec![3, 7, 5], vec![64, 64, 4]] {
        let words = seed_words(SEED).map(f64::from).to_vec();
        let leaves = HashMap::from([
            ("seed".to_owned(), Array::new([2], words)),
            ("images".to_owned(), Array::new([3], vec![0.0, 7.0, -1.0])),
            ("step".to_owned(), Array::new([1], vec![3.0])),
        ]);
        // The angle is cut to 26 bits and the f32 series are good to a few ulp.
        check_updates(|g| add(g, 3, &shape), &leaves, 1e-6);
    }
}

#[test]
fn an_image_does_not_depend_on_its_batch() {
    let shape = [33, 40, 3];
    let len: usize = shape.iter().product();
    let many = run(&[4, 9, 2_000_000], 6, &shape);
    assert_eq!(many[len..2 * len], run(&[9], 6, &shape));
    assert_ne!(many[len..2 * len], run(&[9], 7, &shape));
    let mut host = vec![0.0; len];
    fill_normal(
        stream_key(SEED, RandomStream::SamplerNoise),
        9,
        6,
        &mut host,
    );
    assert_eq!(many[len..2 * len], host);
}

#[test]
fn a_gpu_gives_the_bits_of_the_host() {
    let Some(gpu) = emulated_gpu() else { return };
    for shape in [vec![1], vec![5], vec![33, 40, 3], vec![64, 64, 4]] {
        let g = graph(2, &shape);
        let plan = gpu.plan(&g, PlanOptions::default());
        let mut exe = gpu.load(plan, &TensorMap::new()).unwrap();
        exe.write_i32("seed", &seed_words(SEED)).unwrap();
        exe.write_i32("images", &[9, -2]).unwrap();
        exe.write_i32("step", &[6]).unwrap();
        exe.run().unwrap();
        let got = exe.output("y").unwrap();
        let len: usize = shape.iter().product();
        let key = stream_key(SEED, RandomStream::SamplerNoise);
        for (image, got) in [9u64, 0xffff_fffe].into_iter().zip(got.chunks(len)) {
            let mut host = vec![0.0; len];
            fill_normal(key, image, 6, &mut host);
            assert!(
                got.iter()
                    .zip(&host)
                    .all(|(a, b)| a.to_bits() == b.to_bits())
            );
        }
    }
}
