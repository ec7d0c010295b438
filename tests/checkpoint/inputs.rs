//! Checkpoints as people have them: wrapped, with other things inside, without checksums, spread over folders.

use std::fs;
use std::path::{Path, PathBuf};

use medfusion::checkpoint::{Facts, Weights};
use medfusion::checkpoint::{
    FolderKind, MODEL_JSON, Model, Note, Problem, StoredModel, inspect, save_folder,
    write_safetensors,
};
use medfusion::tensor::{DType, Tensor, TensorMap};

use crate::model::{pipeline_state, small_model, small_overrides};
use crate::pickled::{
    Py, checkpoint, numpy_array, numpy_scalar, tensor_call, text, without_checksums,
};
use crate::shared::shared;
use crate::support::golden;

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// What a pipeline's hyper-parameters say of [`small_model`].
fn hyper_parameters() -> Py {
    let group = Py::List(vec![
        Py::text("GROUP"),
        Py::dict([("num_groups", Py::Int(4)), ("affine", Py::Bool(true))]),
    ]);
    let strides = |strides: &[i64]| Py::List(strides.iter().map(|&s| Py::Int(s)).collect());
    Py::dict([
        (
            "noise_estimator_kwargs",
            Py::dict([
                ("norm_name", group.clone()),
                ("strides", strides(&[1, 2, 2])),
            ]),
        ),
        (
            "latent_embedder_kwargs",
            Py::dict([("norm_name", group), ("strides", strides(&[1, 2]))]),
        ),
        ("estimator_objective", Py::text("x_T")),
        ("use_ema", Py::Bool(false)),
    ])
}

/// What no checkpoint says.
fn other_facts() -> Facts {
    let small = small_model().config;
    Facts {
        image_size: small.image_size,
        class_names: Some(small.class_names),
        ..Facts::default()
    }
}

fn lightning(state: Py, hyper: Py) -> Py {
    Py::dict([
        ("epoch", Py::Int(3)),
        ("state_dict", state),
        ("hyper_parameters", hyper),
        ("optimizer_states", Py::List(vec![])),
    ])
}

fn open(path: &Path) -> Model {
    Model::open_with(path, &other_facts()).unwrap_or_else(|error| panic!("{error}"))
}

fn refuse(path: &Path, words: &[&str]) {
    let error = Model::open_with(path, &other_facts()).unwrap_err();
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "expected {word:?} in: {text}");
    }
}

/// Without the perceptual network that every [`pipeline_state`] has.
fn bare_state(model: &StoredModel) -> TensorMap {
    let mut state = pipeline_state(model, false);
    state.retain(|name, _| !name.contains("perceiver"));
    state
}

fn renamed(state: &TensorMap, rename: impl Fn(&str) -> String) -> TensorMap {
    let names = state.iter();
    names
        .map(|(name, tensor)| (rename(name), tensor.clone()))
        .collect()
}

fn left_out(model: &Model) -> Vec<(String, usize)> {
    let groups = model.source.notes.iter().find_map(|note| match note {
        Note::LeftOut(groups) => Some(groups),
        _ => None,
    });
    let groups = groups.into_iter().flatten();
    groups
        .map(|group| (group.name.clone(), group.tensors))
        .collect()
}

/// The examples hold the weights of the golden pipeline, so each is the same model to the last bit.
#[test]
fn the_examples_are_the_model_that_they_hold() {
    let Some(folder) = shared("inputs") else {
        return;
    };
    let golden = golden();
    for weights in [Weights::Auto, Weights::Raw, Weights::Ema] {
        let facts = Facts {
            vae: Some(golden.join("checkpoint_vae.zip.ckpt")),
            weights,
            ..Facts::default()
        };
        let whole = Model::open_with(golden.join("checkpoint_pipeline.zip.ckpt"), &facts).unwrap();
        assert_eq!(whole.source.notes, []);
        for (name, notes) in [
            ("compiled-submodules", &[][..]),
            ("compiled-ddp", &[]),
            (
                "metrics-inside",
                &["left out 2 tensors that are no part of the model: lpips (1), val_fid (1)"],
            ),
            ("bound-method", &[]),
            ("no-crc", &["without a checksum"]),
        ] {
            let path = folder.join(format!("{name}.ckpt"));
            let model = Model::open_with(&path, &facts).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(model.hash, whole.hash, "{name}");
            assert_eq!(model.to_model(), whole.to_model(), "{name}");
            let found: Vec<String> = model.source.notes.iter().map(Note::to_string).collect();
            assert_eq!(found.len(), notes.len(), "{name}: {found:?}");
            for (found, note) in found.iter().zip(notes) {
                assert!(found.contains(note), "{name}: {found}");
            }
            let report = inspect(&path, &facts).unwrap();
            assert_eq!(report.notes, model.source.notes, "{name}");
            assert_eq!(report.hash.as_ref(), Some(&whole.hash), "{name}");
            if name == "bound-method" {
                let hyper = model.source.hyper_parameters.unwrap();
                let loss = hyper["loss"].as_str().unwrap();
                assert_eq!(loss, "<attribute 'method' of <__main__.Obj object>>");
            }
        }
    }
}

/// `module.`, `_orig_mod.` and their kin before everything and inside, in any order, in both kinds of file.
#[test]
fn wrappers_are_taken_off_wherever_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let small = small_model();
    let state = bare_state(&small);
    type Rename = fn(&str) -> String;
    let inside: Rename = |name| {
        let (part, rest) = name.split_once('.').unwrap();
        format!("model._orig_mod.{part}._orig_mod.module.{rest}")
    };
    let one_part: Rename = |name| match name.strip_prefix("noise_estimator.") {
        Some(rest) => format!("noise_estimator.module.{rest}"),
        None => name.to_owned(),
    };
    let deep: Rename = |name| name.replacen(".0.", ".0._checkpoint_wrapped_module.", 1);
    let renames: [Rename; 7] = [
        |name| format!("module._orig_mod.{name}"),
        |name| format!("_orig_mod.module.{name}"),
        |name| format!("_forward_module.{name}"),
        |name| format!("_forward_module._orig_mod.pipeline.{name}"),
        inside,
        one_part,
        deep,
    ];
    for (index, rename) in renames.iter().enumerate() {
        let wrapped = renamed(&state, rename);
        assert_ne!(
            wrapped.keys().next(),
            state.keys().next().filter(|_| index < 5)
        );
        let value = lightning(Py::state(&wrapped), hyper_parameters());
        let model = open(&write(dir.path(), "a.ckpt", &checkpoint(&value)));
        assert_eq!(model.to_model(), small, "{index}");
        assert_eq!(model.source.notes, [], "{index}");
        let path = dir.path().join("a.safetensors");
        write_safetensors(&path, &wrapped, &Default::default()).unwrap();
        let model = Model::open_with(&path, &small_overrides()).unwrap();
        assert_eq!(model.to_model(), small, "{index}");
    }
    // A bare network, compiled inside of a module that holds it.
    let vae = renamed(&small.vae, |name| format!("model._orig_mod.{name}"));
    let path = dir.path().join("vae.safetensors");
    write_safetensors(&path, &vae, &Default::default()).unwrap();
    let model = Model::open_with(&path, &small_overrides()).unwrap();
    assert_eq!(model.vae, small.vae);
    // Both forms beside each other say the same, or nothing that can be told.
    let mut both = renamed(&state, |name| format!("module.{name}"));
    both.extend(state.clone());
    let value = |state: &TensorMap| checkpoint(&lightning(Py::state(state), hyper_parameters()));
    let path = write(dir.path(), "both.ckpt", &value(&both));
    assert_eq!(open(&path).to_model(), small);
    let name = "noise_estimator.in_conv.conv.bias";
    both.insert(name.to_owned(), Tensor::from_f32([8], &[9.0; 8]));
    refuse(
        &write(dir.path(), "differ.ckpt", &value(&both)),
        &["in_conv.conv.bias", "is there twice"],
    );
}

/// DeepSpeed keeps the state dict under `module`, Lightning under `state_dict`, and either in the other.
#[test]
fn dicts_around_the_state_dict_are_looked_into() {
    let dir = tempfile::tempdir().unwrap();
    let small = small_model();
    let state = || {
        Py::state(&renamed(&bare_state(&small), |name| {
            format!("_forward_module.{name}")
        }))
    };
    let hyper = hyper_parameters;
    let optimizer = || {
        let moment = Py::Tensor(Tensor::from_f32([2], &[0.5; 2]));
        Py::dict([("exp_avg", moment)])
    };
    let values = [
        Py::dict([
            ("module", state()),
            ("buffer_names", Py::List(vec![])),
            ("optimizer", optimizer()),
            ("hyper_parameters", hyper()),
        ]),
        Py::dict([
            ("state_dict", Py::dict([])),
            ("module", Py::dict([("module", state())])),
            ("hyper_parameters", hyper()),
        ]),
        Py::dict([(
            "module",
            Py::dict([("state_dict", state()), ("hyper_parameters", hyper())]),
        )]),
        Py::dict([("model", lightning(state(), hyper()))]),
    ];
    for (index, value) in values.iter().enumerate() {
        let path = write(dir.path(), "a.pt", &checkpoint(value));
        let model = open(&path);
        assert_eq!(model.to_model(), small, "{index}");
        assert_eq!(model.source.notes, [], "{index}");
    }
}

#[test]
fn foreign_tensors_are_named_and_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let small = small_model();
    let mut state = pipeline_state(&small, false);
    let small_tensor = || Tensor::from_f32([3], &[1.0, f32::NAN, 2.0]);
    for name in [
        "val_fid.real_sum",
        "val_fid.real_cov",
        "lpips.net.slice1.0.weight",
        "noise_estimator.total_ops",
        "noise_estimator.in_conv.conv.total_params",
        "latent_embedder.ssim.kernel",
        "ema_model.counter",
    ] {
        state.insert(name.into(), small_tensor());
    }
    let bytes = |state: &TensorMap| checkpoint(&lightning(Py::state(state), hyper_parameters()));
    let model = open(&write(dir.path(), "a.ckpt", &bytes(&state)));
    assert_eq!(model.to_model(), small);
    let expected = [
        ("ema_model.counter", 1),
        ("latent_embedder.perceiver", 1),
        ("latent_embedder.ssim", 1),
        ("lpips", 1),
        ("noise_estimator.in_conv", 1),
        ("noise_estimator.total_ops", 1),
        ("val_fid", 2),
    ];
    let expected = expected.map(|(name, count)| (name.to_owned(), count));
    assert_eq!(left_out(&model), expected);
    let text = model.source.notes[0].to_string();
    assert!(text.starts_with("left out 8 tensors"), "{text}");
    assert_eq!(text.lines().count(), 1);

    // A perceptual network may be larger than the model; something else may not.
    let large = Tensor::from_f32([200_000], &[0.5; 200_000]);
    for (name, is_read) in [
        ("lpips.net.weight", true),
        ("val_fid.inception.weight", true),
        ("optimizer.state.0.exp_avg", true),
        ("text_encoder.embedding.weight", false),
    ] {
        let mut state = bare_state(&small);
        let model_bytes: usize = state.values().map(|tensor| tensor.bytes().len()).sum();
        assert!(model_bytes < large.bytes().len());
        state.insert(name.into(), large.clone());
        let path = write(dir.path(), "large.ckpt", &bytes(&state));
        match is_read {
            true => assert_eq!(open(&path).to_model(), small),
            false => refuse(
                &path,
                &[
                    "most of the file",
                    "text_encoder (1)",
                    "save the model's own state dict",
                ],
            ),
        }
    }
    // Where a tensor is missing, what is unexpected tells why.
    let mut state = bare_state(&small);
    let bias = state.remove("noise_estimator.in_conv.conv.bias").unwrap();
    state.insert("noise_estimator.stem.bias".into(), bias);
    refuse(
        &write(dir.path(), "renamed.ckpt", &bytes(&state)),
        &["missing      in_conv.conv.bias", "unexpected   stem.bias"],
    );
}

/// A call in the pickle, without arguments or with one text.
fn object(class: &str, argument: Option<&str>) -> Py {
    let (module, name) = class.rsplit_once('.').unwrap();
    let mut out = format!("c{module}\n{name}\n(").into_bytes();
    if let Some(argument) = argument {
        out.extend(text(argument));
    }
    out.extend(b"tR");
    Py::Raw(out)
}

#[test]
fn objects_among_the_hyper_parameters_are_read_past() {
    let dir = tempfile::tempdir().unwrap();
    let small = small_model();
    let mut bound = b"c__builtin__\ngetattr\n(".to_vec();
    bound.extend(b"cmy.losses\nLoss\n)\x81");
    bound.extend(text("forward"));
    bound.extend(b"tR");
    let partial = b"cfunctools\npartial\n(ctorch\nclamp\ntR(ctorch\nclamp\n(t}Ntb".to_vec();
    let hyper = hyper_parameters()
        .with("loss", Py::Raw(bound))
        .with("clamp", Py::Raw(partial))
        .with("activation", Py::Raw(b"ctorch.nn\nSiLU\n".to_vec()))
        .with("kind", object("my.kinds.Kind", Some("a")))
        .with("signal", object("signal.Signals", None))
        .with("lambda", object("dill._dill._create_function", None))
        .with("dtype", object("numpy.dtype", Some("f4")));
    let state = || Py::state(&bare_state(&small));
    let path = write(
        dir.path(),
        "a.ckpt",
        &checkpoint(&lightning(state(), hyper)),
    );
    let model = open(&path);
    assert_eq!(model.to_model(), small);
    let hyper = model.source.hyper_parameters.unwrap();
    assert_eq!(
        hyper["loss"],
        "<attribute 'forward' of <my.losses.Loss object>>"
    );
    assert_eq!(hyper["kind"], "<my.kinds.Kind object>");
    // Settings that are an object say nothing, so they are asked for.
    let hyper = Py::dict([
        ("noise_estimator_kwargs", object("my.config.Settings", None)),
        ("latent_embedder_kwargs", object("my.config.Settings", None)),
        ("estimator_objective", Py::text("x_T")),
    ]);
    let path = write(
        dir.path(),
        "b.ckpt",
        &checkpoint(&lightning(state(), hyper)),
    );
    let error = Model::open_with(&path, &other_facts()).unwrap_err();
    assert!(
        matches!(*error.problem, Problem::Undetermined(_)),
        "{error}"
    );
    assert_eq!(
        Model::open_with(&path, &small_overrides())
            .unwrap()
            .to_model(),
        small
    );
    // Where a tensor is needed, an object is none.
    let name = "noise_estimator.in_conv.conv.bias";
    let mut missing = bare_state(&small);
    missing.remove(name);
    let state = Py::state(&missing).with(name, object("my.lazy.Tensor", None));
    let path = write(
        dir.path(),
        "c.ckpt",
        &checkpoint(&lightning(state, hyper_parameters())),
    );
    refuse(&path, &[name, "`my.lazy.Tensor`", "does not run"]);
}

#[test]
fn settings_that_numpy_computed_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let small = small_model();
    for core in ["core", "_core"] {
        let integer = |value: i64| numpy_scalar(core, "i8", &value.to_le_bytes());
        let group = Py::List(vec![
            Py::text("GROUP"),
            Py::dict([
                ("num_groups", integer(4)),
                ("affine", numpy_scalar(core, "b1", &[1])),
            ]),
        ]);
        let strides = |strides: &[i32]| {
            let bytes: Vec<u8> = strides.iter().flat_map(|s| s.to_le_bytes()).collect();
            numpy_array(core, "i4", &[strides.len() as i64], &bytes)
        };
        let hyper = Py::dict([
            (
                "noise_estimator_kwargs",
                Py::dict([
                    ("norm_name", group.clone()),
                    ("strides", strides(&[1, 2, 2])),
                ]),
            ),
            (
                "latent_embedder_kwargs",
                Py::dict([("norm_name", group), ("strides", strides(&[1, 2]))]),
            ),
            (
                "noise_scheduler_kwargs",
                Py::dict([
                    ("timesteps", integer(1000)),
                    (
                        "beta_start",
                        numpy_scalar(core, "f8", &0.002f64.to_le_bytes()),
                    ),
                    ("beta_end", numpy_scalar(core, "f8", &0.02f64.to_le_bytes())),
                    ("schedule_strategy", Py::text("scaled_linear")),
                ]),
            ),
            (
                "estimator_objective",
                numpy_scalar(core, "U3", b"x\0\0\0_\0\0\0T\0\0\0"),
            ),
            ("use_ema", numpy_scalar(core, "b1", &[0])),
        ]);
        let mut state = pipeline_state(&small, true);
        state.remove("noise_scheduler.betas");
        let value = lightning(Py::state(&state), hyper);
        let model = open(&write(dir.path(), "a.ckpt", &checkpoint(&value)));
        assert!(!model.source.ema, "use_ema is False");
        assert_eq!(model.to_model(), small);
    }
    // A state dict of arrays.
    let arrays = bare_state(&small).into_iter().map(|(name, tensor)| {
        let shape: Vec<i64> = tensor.shape().iter().map(|&extent| extent as i64).collect();
        (name, numpy_array("core", "f4", &shape, tensor.bytes()))
    });
    let value = lightning(Py::Dict(arrays.collect()), hyper_parameters());
    let model = open(&write(dir.path(), "arrays.ckpt", &checkpoint(&value)));
    assert_eq!(model.to_model(), small);
}

#[test]
fn archives_without_checksums_are_read_with_a_note() {
    let dir = tempfile::tempdir().unwrap();
    let small = small_model();
    let value = lightning(Py::state(&bare_state(&small)), hyper_parameters());
    let whole = checkpoint(&value);
    let model = open(&write(
        dir.path(),
        "a.ckpt",
        &without_checksums(whole.clone(), true),
    ));
    assert_eq!(model.to_model(), small);
    let [Note::NoChecksum { members, of }] = &model.source.notes[..] else {
        panic!("{:?}", model.source.notes);
    };
    assert_eq!(members, of);
    // One place that still states a checksum is believed.
    let path = write(dir.path(), "b.ckpt", &without_checksums(whole, false));
    refuse(&path, &["does not match its checksum"]);
    // In the members of PyTorch's own archives it follows the data.
    let described = fs::read(golden().join("checkpoint_vae.zip.ckpt")).unwrap();
    let path = write(dir.path(), "c.ckpt", &without_checksums(described, true));
    refuse(&path, &["does not match its checksum"]);
}

/// A tensor of a type that is not read, of 8 bytes.
fn odd_tensor(class: &str, dtype: Option<&str>) -> Py {
    let call = tensor_call(class, 0, 1, &[1]);
    Py::Raw(match dtype {
        None => call,
        // `_rebuild_tensor_v3(…, dtype)`.
        Some(dtype) => {
            let call = call.strip_suffix(b"tR").unwrap();
            let version = call.iter().position(|&byte| byte == b'2').unwrap();
            let mut call = call.to_vec();
            call[version] = b'3';
            call.extend(format!("ctorch\n{dtype}\ntR").bytes());
            call
        }
    })
}

#[test]
fn types_that_are_not_read_matter_where_they_are_needed() {
    let dir = tempfile::tempdir().unwrap();
    let small = small_model();
    let quantised = Py::Raw(b"ctorch._utils\n_rebuild_qtensor\n)R".to_vec());
    for (odd, words) in [
        (
            odd_tensor("ComplexFloatStorage", None),
            "ComplexFloatStorage",
        ),
        (odd_tensor("QUInt8Storage", None), "QUInt8Storage"),
        (
            odd_tensor("UntypedStorage", Some("float8_e4m3fn")),
            "float8_e4m3fn",
        ),
        (quantised, ".dequantize()"),
    ] {
        let state = || Py::state(&bare_state(&small));
        let value = lightning(
            state().with("metric.total", odd.clone()),
            hyper_parameters(),
        );
        let model = open(&write(dir.path(), "a.ckpt", &checkpoint(&value)));
        assert_eq!(model.to_model(), small, "{words}");
        assert_eq!(left_out(&model), [("metric".to_owned(), 1)]);
        // The label embedding is no part of every network: without this it would be an unconditional one.
        for name in [
            "noise_estimator.cond_embedder.embedding.weight",
            "latent_embedder.inc.block_seq.0.basic_block.conv.weight",
            "noise_scheduler.betas",
        ] {
            let mut state = bare_state(&small);
            state.remove(name).unwrap();
            let state = Py::state(&state).with(name, odd.clone());
            let value = lightning(state, hyper_parameters());
            let path = write(dir.path(), "b.ckpt", &checkpoint(&value));
            refuse(&path, &[name, words]);
            let report = inspect(&path, &other_facts()).unwrap().to_string();
            assert!(report.contains("1 tensors cannot be read"), "{report}");
        }
    }
    // f64 is read, also where it is needed.
    let mut wide = bare_state(&small);
    let name = "noise_estimator.in_conv.conv.bias";
    wide.insert(name.into(), wide[name].cast(DType::F64).unwrap());
    let value = lightning(Py::state(&wide), hyper_parameters());
    let model = open(&write(dir.path(), "f64.ckpt", &checkpoint(&value)));
    assert_eq!(model.unet["in_conv.conv.bias"].dtype(), DType::F64);

    // The same of safetensors: a type of 8 bits that no network here has.
    let mut state = bare_state(&small);
    for (name, is_read) in [
        ("metric.total", true),
        ("noise_estimator.cond_embedder.embedding.weight", false),
    ] {
        let replaced = state.remove(name);
        let path = dir.path().join("a.safetensors");
        write_safetensors(&path, &state, &Default::default()).unwrap();
        let bytes = with_fp8(&fs::read(&path).unwrap(), name);
        fs::write(&path, bytes).unwrap();
        let opened = Model::open_with(&path, &small_overrides());
        match is_read {
            true => assert_eq!(opened.unwrap().to_model(), small),
            false => {
                let text = opened.unwrap_err().to_string();
                assert!(text.contains(name) && text.contains("F8_E4M3"), "{text}");
            }
        }
        state.extend(replaced.map(|tensor| (name.to_owned(), tensor)));
    }
}

/// A safetensors file with another tensor, of 4 elements of 8 bits, behind the others.
fn with_fp8(file: &[u8], name: &str) -> Vec<u8> {
    let (length, rest) = file.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: serde_json::Value = serde_json::from_slice(header).unwrap();
    header[name] = serde_json::json!({
        "dtype": "F8_E4M3",
        "shape": [4],
        "data_offsets": [data.len(), data.len() + 4],
    });
    let header = header.to_string().into_bytes();
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], &header, data, &[0; 4]].concat()
}

#[test]
fn a_folder_where_a_file_is_expected_is_named_by_its_kind() {
    let dir = tempfile::tempdir().unwrap();
    let kind = |path: &Path| {
        let error = Model::open(path).unwrap_err();
        assert_eq!(error.path, path);
        let same = inspect(path, &Facts::default()).unwrap_err();
        assert_eq!(same.to_string(), error.to_string());
        match *error.problem {
            Problem::Folder { folder, kind } => (folder, kind),
            other => panic!("{}: {other}", path.display()),
        }
    };
    let folder = |name: &str, files: &[&str]| {
        let folder = dir.path().join(name);
        for file in files {
            let file = folder.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "x").unwrap();
        }
        folder
    };
    let script = FolderKind::DeepSpeed { has_script: true };
    let deep = folder(
        "deep.ckpt",
        &[
            "zero_to_fp32.py",
            "latest",
            "global_step5/mp_rank_00_model_states.pt",
            "global_step5/zero_pp_rank_0_mp_rank_00_optim_states.pt",
        ],
    );
    let step = deep.join("global_step5");
    let rank = step.join("zero_pp_rank_0_mp_rank_00_optim_states.pt");
    for path in [&deep, &step, &rank] {
        assert_eq!(kind(path), (deep.clone(), script.clone()));
    }
    let no_script = folder(
        "deep2",
        &["latest", "global_step5/mp_rank_00_model_states.pt"],
    );
    let expected = FolderKind::DeepSpeed { has_script: false };
    assert_eq!(kind(&no_script), (no_script.clone(), expected));

    let distributed = folder("dcp", &[".metadata", "__0_0.distcp", "__1_0.distcp"]);
    for path in [distributed.clone(), distributed.join("__0_0.distcp")] {
        assert_eq!(kind(&path), (distributed.clone(), FolderKind::Distributed));
    }
    let shards = folder(
        "shards",
        &[
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ],
    );
    for path in [
        shards.clone(),
        shards.join("model.safetensors.index.json"),
        shards.join("model-00002-of-00002.safetensors"),
    ] {
        assert_eq!(kind(&path), (shards.clone(), FolderKind::SafetensorsShards));
    }
    let torch = folder(
        "torch",
        &[
            "pytorch_model.bin.index.json",
            "pytorch_model-00001-of-00003.bin",
        ],
    );
    assert_eq!(kind(&torch), (torch.clone(), FolderKind::TorchShards));
    let diffusers = folder("diffusers", &["model_index.json", "unet/config.json"]);
    assert_eq!(kind(&diffusers).1, FolderKind::Diffusers);
    let some = folder("some", &["last.ckpt", "epoch=3.ckpt", "notes.txt"]);
    let names = |names: &[&str]| FolderKind::Of(names.iter().map(|&n| n.to_owned()).collect());
    assert_eq!(kind(&some).1, names(&["epoch=3.ckpt", "last.ckpt"]));

    // A run's folder, and the model folder in it, which opens.
    let run = folder("run", &["run.toml"]);
    save_folder(run.join("model"), &small_model(), None).unwrap();
    assert_eq!(kind(&run).1, names(&["model"]));
    assert!(run.join("model").join(MODEL_JSON).is_file());
    assert_eq!(
        Model::open(run.join("model")).unwrap().to_model(),
        small_model()
    );
    // The one shard of one is a file like any other.
    let alone = dir.path().join("model-00001-of-00001.safetensors");
    write_safetensors(&alone, &bare_state(&small_model()), &Default::default()).unwrap();
    let model = Model::open_with(&alone, &small_overrides()).unwrap();
    assert_eq!(model.to_model(), small_model());
}
