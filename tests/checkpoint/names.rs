//! The architecture inferred from shapes needs exactly the parameters that the reference's networks have.

use std::path::Path;

use crate::support::{cases, golden, is_complete, json, name, stem};
use medfusion::checkpoint::{
    Fact, Facts, Network as Part, ParameterMismatch, Problem, Shapes, hashed_parameter, infer_unet,
    infer_vae, read_safetensors, unet_parameters, vae_parameters,
};
use medfusion::model::config::{AttentionKind, Backbone, UnetVariant};
use serde_json::Value;

/// One network of a golden file: its name, its shapes and the reference's keyword arguments.
struct Network {
    case: String,
    shapes: Shapes,
    kwargs: Value,
}

fn weights(path: &Path, prefix: &str) -> Shapes {
    let tensors = read_safetensors(path).unwrap().tensors;
    tensors
        .iter()
        .filter_map(|(name, tensor)| {
            Some((
                name.strip_prefix(prefix)?.to_owned(),
                tensor.shape().to_vec(),
            ))
        })
        .collect()
}

fn networks(family: &str) -> Vec<Network> {
    let mut found = Vec::new();
    for path in cases(|name| name.starts_with(family) && name.ends_with(".safetensors")) {
        let facts = json(&golden().join(format!("{}.json", stem(&path))));
        let shapes = match &facts["shapes"] {
            Value::Null => weights(&path, "weights."),
            shapes => serde_json::from_value(shapes.clone()).unwrap(),
        };
        found.push(Network {
            case: name(&path),
            shapes,
            kwargs: facts["hyper"].clone(),
        });
    }
    // Every case of these families stores its weights or their shapes.
    assert!(found.iter().all(|network| !network.shapes.is_empty()));
    assert!(!found.is_empty() || !is_complete(), "no {family} cases");
    found
}

fn unets() -> Vec<Network> {
    let mut found = networks("unet_");
    for path in cases(|name| name.starts_with("ddim") && name.ends_with(".safetensors")) {
        let facts = json(&golden().join(format!("{}.json", stem(&path))));
        if facts["unet"].is_object() {
            found.push(Network {
                case: name(&path),
                shapes: weights(&path, "weights.noise_estimator."),
                kwargs: facts["unet"].clone(),
            });
        }
    }
    for path in cases(|name| name.starts_with("train_") && name.ends_with(".safetensors")) {
        let facts = json(&golden().join(format!("{}.json", stem(&path))));
        if facts["unet"].is_object() {
            found.push(Network {
                case: name(&path),
                shapes: weights(&path, "weights."),
                kwargs: facts["unet"].clone(),
            });
        }
        for (case, facts) in facts["cases"].as_object().into_iter().flatten() {
            found.push(Network {
                case: format!("{} {case}", name(&path)),
                shapes: weights(&path, &format!("weights.{case}.")),
                kwargs: facts["unet"].clone(),
            });
        }
    }
    // Some cases share the weights of another.
    found.retain(|network| !network.shapes.is_empty());
    found
}

fn numbers(value: &Value) -> Vec<usize> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_u64().unwrap() as usize)
        .collect()
}

/// Compares what was inferred with what the reference was told; `first_attention` is false where entry 0 is never used.
fn compare(case: &str, backbone: &Backbone, kwargs: &Value, first_attention: bool) {
    let flag = |key: &str| kwargs.get(key).and_then(Value::as_bool).unwrap_or(true);
    assert_eq!(
        backbone.hidden_channels,
        numbers(&kwargs["hid_chs"]),
        "{case}"
    );
    assert_eq!(
        backbone.kernel_sizes,
        numbers(&kwargs["kernel_sizes"]),
        "{case}"
    );
    assert_eq!(backbone.strides, numbers(&kwargs["strides"]), "{case}");
    assert_eq!(
        Some(backbone.norm_groups as u64),
        kwargs["norm_name"][1]["num_groups"].as_u64(),
        "{case}"
    );
    assert_eq!(backbone.residual_blocks, flag("use_res_block"), "{case}");
    assert_eq!(
        backbone.learnable_resampling,
        flag("learnable_interpolation"),
        "{case}"
    );
    for (level, &found) in backbone.attention.iter().enumerate() {
        let expected = match &kwargs["use_attention"] {
            Value::Array(list) => list[level].as_str().unwrap(),
            Value::String(one) => one,
            _ => "none",
        };
        let expected = match expected {
            "linear" => AttentionKind::Linear,
            "spatial" => AttentionKind::Spatial,
            _ => AttentionKind::None,
        };
        if level > 0 || first_attention {
            assert_eq!(found, expected, "{case} level {level}");
        }
    }
}

#[test]
fn unets_are_inferred_and_need_exactly_their_parameters() {
    let found = unets();
    assert!(
        found.len() >= 20 || !is_complete(),
        "only {} cases",
        found.len()
    );
    for Network {
        case,
        shapes,
        kwargs,
    } in found
    {
        let config = infer_unet(&shapes, Some(&kwargs), &Facts::default())
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        let legacy = config.variant == UnetVariant::Legacy;
        assert_eq!(legacy, case.contains("legacy"), "{case}");
        compare(&case, &config.backbone, &kwargs, legacy);
        assert_eq!(
            Some(config.in_channels as u64),
            kwargs["in_ch"].as_u64(),
            "{case}"
        );
        assert_eq!(
            Some(config.out_channels as u64),
            kwargs["out_ch"].as_u64(),
            "{case}"
        );
        let time = config.time_embedding.unwrap();
        let told = &kwargs["time_embedder_kwargs"];
        assert_eq!(Some(time.dim as u64), told["emb_dim"].as_u64(), "{case}");
        if let Some(dim) = told["sinusoidal_dim"].as_u64() {
            assert_eq!(time.sinusoid_dim as u64, dim, "{case}");
        }
        assert_eq!(
            config.num_classes.map(|classes| classes as u64),
            kwargs["cond_embedder_kwargs"]["num_classes"].as_u64(),
            "{case}"
        );
        if let Some(repeats) = kwargs["num_res_blocks"].as_u64() {
            assert_eq!(config.num_res_blocks as u64, repeats, "{case}");
        }
        ParameterMismatch::check("unet", &unet_parameters(&config).unwrap(), &shapes)
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        println!("{case} → {} parameters, exact", shapes.len());
    }
}

#[test]
fn vaes_are_inferred_and_need_exactly_their_parameters() {
    for Network {
        case,
        shapes,
        kwargs,
    } in networks("vae_")
    {
        let config = infer_vae(&shapes, Some(&kwargs), &Facts::default())
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        compare(&case, &config.backbone, &kwargs, true);
        assert_eq!(
            Some(config.latent_channels as u64),
            kwargs["emb_channels"].as_u64()
        );
        assert_eq!(
            Some(config.in_channels as u64),
            kwargs["in_channels"].as_u64()
        );
        assert_eq!(
            Some(config.out_channels as u64),
            kwargs["out_channels"].as_u64()
        );
        ParameterMismatch::check("vae", &vae_parameters(&config).unwrap(), &shapes)
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        println!("{case} → {} parameters, exact", shapes.len());
    }
}

#[test]
fn shapes_alone_give_all_but_what_they_cannot_tell() {
    for Network {
        case,
        shapes,
        kwargs,
    } in networks("unet_")
    {
        let told = infer_unet(&shapes, Some(&kwargs), &Facts::default()).unwrap();
        let error = infer_unet(&shapes, None, &Facts::default()).unwrap_err();
        let Problem::Undetermined(undetermined) = error else {
            panic!("{case}: {error}");
        };
        let network = Part::Unet;
        let [
            Fact::NormGroups { network: norms, .. },
            Fact::Strides {
                network: strides, ..
            },
        ] = &undetermined.missing[..]
        else {
            panic!("{case}: {undetermined}");
        };
        assert_eq!([*norms, *strides], [network; 2], "{case}");
        let overrides = Facts {
            norm_groups: Some(told.backbone.norm_groups),
            strides: Some(told.backbone.strides.clone()),
            ..Facts::default()
        };
        assert_eq!(
            infer_unet(&shapes, None, &overrides).unwrap(),
            told,
            "{case}"
        );
    }
    for Network {
        case,
        shapes,
        kwargs,
    } in networks("vae_")
    {
        let told = infer_vae(&shapes, Some(&kwargs), &Facts::default()).unwrap();
        let error = infer_vae(&shapes, None, &Facts::default()).unwrap_err();
        let Problem::Undetermined(undetermined) = error else {
            panic!("{case}: {error}");
        };
        let network = Part::Autoencoder;
        let norms = Fact::NormGroups { network, usual: 8 };
        assert!(undetermined.missing.contains(&norms), "{case}");
        let strides = |fact: &Fact| matches!(fact, Fact::Strides { network: n, usual } if *n == network && usual[..2] == [1, 2]);
        assert!(undetermined.missing.iter().any(strides), "{case}");
        let overrides = Facts {
            vae_norm_groups: Some(told.backbone.norm_groups),
            vae_strides: Some(told.backbone.strides.clone()),
            ..Facts::default()
        };
        assert_eq!(
            infer_vae(&shapes, None, &overrides).unwrap(),
            told,
            "{case}"
        );
    }
}

#[test]
fn hashed_weights_match_the_stored_samples() {
    for path in cases(|name| {
        (name.starts_with("unet_") || name.starts_with("vae_")) && name.ends_with(".safetensors")
    }) {
        let facts = json(&golden().join(format!("{}.json", stem(&path))));
        let Some(gain) = facts["gain"].as_f64() else {
            continue;
        };
        let shapes: Shapes = serde_json::from_value(facts["shapes"].clone()).unwrap();
        let total: usize = shapes.values().map(|s| s.iter().product::<usize>()).sum();
        assert_eq!(Some(total as u64), facts["n_params"].as_u64());
        let mut checked = 0;
        for (key, sample) in read_safetensors(&path).unwrap().tensors {
            let Some(name) = key.strip_prefix("weights_sample.") else {
                continue;
            };
            let tensor = hashed_parameter(name, &shapes[name], gain);
            let expected = sample.to_f32().unwrap().into_owned();
            assert_eq!(
                tensor.to_f32().unwrap()[..expected.len()],
                expected,
                "{name}"
            );
            checked += 1;
        }
        assert!(checked > 0, "{}", name(&path));
    }
}

#[test]
fn a_mismatch_is_a_table_of_what_differs() {
    let needed = [
        ("a.weight".to_owned(), vec![2, 3]),
        ("b.weight".to_owned(), vec![4]),
    ];
    let found: Shapes = [
        ("a.weight".to_owned(), vec![3, 2]),
        ("c.weight".to_owned(), vec![1]),
    ]
    .into();
    let mismatch = ParameterMismatch::check("unet", &needed, &found).unwrap_err();
    assert_eq!(
        mismatch.to_string(),
        "the tensors of `unet` do not fit its configuration: 1 missing, 1 unexpected, 1 of wrong shape\n  \
         missing      b.weight  needs [4]\n  \
         unexpected   c.weight  found [1]\n  \
         wrong shape  a.weight  needs [2, 3], found [3, 2]"
    );
    let many: Vec<_> = (0..100).map(|i| (format!("w{i:03}"), vec![i])).collect();
    let text = ParameterMismatch::check("vae", &many, &Shapes::new())
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("100 missing") && text.contains("and 88 more"),
        "{text}"
    );
    assert!(text.lines().count() < 20);
}
