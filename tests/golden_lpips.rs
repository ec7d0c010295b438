//! LPIPS with hashed VGG16 weights against the reference implementation: features, layers, total,
//! and the gradient with respect to the prediction.

mod support;

use medfusion::device::cpu::CpuDevice;
use medfusion::graph::{Graph, Plan, PlanOptions};
use medfusion::model::lpips;
use medfusion::tensor::{DType, Tensor, TensorMap, nchw_to_nhwc, nhwc_to_nchw};

use support::{Report, cases, hashed_parameter};

#[test]
fn distances_and_gradient() {
    let device = CpuDevice::new(None).unwrap();
    for case in cases("lpips_") {
        let mut weights = TensorMap::new();
        for (name, shape) in lpips::parameters() {
            let name = format!("{}.{name}", lpips::PATH);
            let values = hashed_parameter(&name, &shape, 2f64.sqrt());
            if let Some(sample) = case.tensors.get(&format!("weights_sample.{name}")) {
                let sample = sample.to_f32().unwrap();
                assert_eq!(values[..sample.len()], *sample, "{name}");
            }
            weights.insert(name, Tensor::from_f32(shape, &values));
        }
        let known = case.json["names_and_shapes"].as_object().unwrap();
        assert!(known.keys().all(|name| weights.contains_key(name)));
        assert_eq!(known.len(), weights.len());

        let [n, c, h, w] = case.tensors["in.pred"].shape()[..] else {
            panic!("images [N, C, H, W]")
        };
        let mut graph = Graph::new();
        let prediction = graph.input("pred", [n, h, w, c], DType::F32).unwrap();
        let target = graph.input("target", [n, h, w, c], DType::F32).unwrap();
        let total = graph
            .scope(lpips::PATH, |g| lpips::lpips(g, prediction, target))
            .unwrap();
        let loss = graph.sum_to(total, &[]).unwrap();
        let grad = graph.gradients(loss, &[prediction]).unwrap()[0].unwrap();
        graph.output("out.lpips", total);
        graph.output("grad.pred", grad);
        let labelled = |graph: &Graph, name: &str| {
            graph
                .labelled(&format!("{}.{name}", lpips::PATH))
                .unwrap_or_else(|| panic!("{}: what is {name}?", case.name))
        };
        let mut features = Vec::new();
        for key in case.tensors.keys() {
            if let Some(layer) = key.strip_prefix("out.").filter(|k| k.starts_with("layer")) {
                graph.output(key, labelled(&graph, layer));
            } else if let Some(name) = key.strip_prefix("act.") {
                let value = labelled(&graph, name.split('.').next().unwrap());
                features.push((key, graph.shape(value).to_vec()));
                graph.output(key, value);
            }
        }
        let plan = Plan::new(&graph, &device, PlanOptions::default());
        let mut exe = device.load(plan, &weights).unwrap();
        for name in ["pred", "target"] {
            let image = case.f32(&format!("in.{name}"));
            exe.write(name, &nchw_to_nhwc(&image, [n, c, h, w]))
                .unwrap();
        }
        exe.run();

        let mut report = Report::new(&case.name, 1e-4);
        for (key, shape) in features {
            let [_, height, width, channels] = shape[..] else {
                panic!("features [N, H, W, C]")
            };
            let nchw = nhwc_to_nchw(exe.output(key).unwrap(), [n, height, width, channels]);
            let planes = nchw.chunks_exact(height * width).enumerate();
            let got: Vec<f32> = if key.ends_with(".mean_c") {
                let mean = |plane: &[f32]| plane.iter().map(|&v| f64::from(v)).sum::<f64>();
                planes
                    .map(|(_, plane)| (mean(plane) / plane.len() as f64) as f32)
                    .collect()
            } else {
                assert!(key.ends_with(".corner"), "{key}");
                let corner = case.tensors[key].shape();
                planes
                    .filter(|(i, _)| i % channels < corner[1])
                    .flat_map(|(_, plane)| plane.chunks_exact(width).take(corner[2]))
                    .flat_map(|row| &row[..corner[3]])
                    .copied()
                    .collect()
            };
            report.compare(key, &got, &case.f32(key));
        }
        let outputs = case.tensors.keys().filter(|key| key.starts_with("out."));
        for key in outputs {
            report.compare(key, exe.output(key).unwrap(), &case.f32(key));
        }
        report.print();

        let mut report = Report::new(&format!("{} gradient", case.name), 1e-3);
        let grad = nhwc_to_nchw(exe.output("grad.pred").unwrap(), [n, h, w, c]);
        report.compare("grad.pred", &grad, &case.f32("grad.pred"));
        report.print();
    }
}
