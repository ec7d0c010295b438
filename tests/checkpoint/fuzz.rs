//! Damaged and hostile files end in one error: no panic, no endless loop, and no wrong tensor from a checked format.

use crate::memory;
use crate::pickled::{
    Py, archive, checkpoint, numpy_array, numpy_scalar, text, tuple, without_checksums,
};
use crate::places::Places;
use crate::support::{name, torch_files};
use medfusion::checkpoint::pickle::Pickle;
use medfusion::checkpoint::{
    Problem, TorchFile, hashed_parameters, read_safetensors, write_safetensors,
};
use medfusion::tensor::TensorMap;

fn read(bytes: Vec<u8>) -> Result<TensorMap, Problem> {
    let file = TorchFile::from_bytes(bytes)?;
    // What `inspect` would show has to survive as well.
    let _ = file.hyper_parameters();
    let _ = file.top_level_keys();
    file.state_dict()
}

/// Rounds of a loop: `default`, times `MEDFUSION_FUZZ_FACTOR` where that is set.
fn rounds(default: usize) -> usize {
    let factor = std::env::var("MEDFUSION_FUZZ_FACTOR").ok();
    default * factor.map_or(1, |text| text.parse().expect("a factor"))
}

#[test]
fn truncated_files_are_errors() {
    for path in torch_files() {
        let whole = std::fs::read(&path).unwrap();
        let mut places = Places(1);
        let step = (whole.len() / 40).max(1);
        let ends = (0..whole.len())
            .step_by(step)
            .chain(whole.len() - 40..whole.len());
        for end in ends.chain(
            (0..20)
                .map(|_| places.below(whole.len()))
                .collect::<Vec<_>>(),
        ) {
            let error = match read(whole[..end].to_vec()) {
                Err(error) => error.to_string(),
                Ok(_) => panic!("{} cut at {end} of {} was read", name(&path), whole.len()),
            };
            assert!(!error.is_empty());
        }
    }
}

#[test]
fn flipped_bits_are_noticed_or_harmless() {
    for path in torch_files() {
        let whole = std::fs::read(&path).unwrap();
        let good = read(whole.clone()).unwrap();
        let is_zip = whole.starts_with(b"PK");
        let flips = if whole.len() < 100_000 { 4000 } else { 150 };
        let mut places = Places(2);
        let (mut errors, mut harmless) = (0, 0);
        for _ in 0..rounds(flips) {
            let (at, bit) = (places.below(whole.len()), places.below(8));
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            match read(bytes) {
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    errors += 1;
                }
                Ok(found) => {
                    // The stream format has no checksum: a flip in its raw data cannot be seen.
                    assert!(
                        !is_zip || found == good,
                        "{}: bit {bit} of {at}",
                        name(&path)
                    );
                    harmless += 1;
                }
            }
        }
        println!("{}: {errors} noticed, {harmless} read", name(&path));
    }
}

#[test]
fn several_flips_at_once_are_survived() {
    for path in torch_files() {
        let whole = std::fs::read(&path).unwrap();
        let damaged = if whole.len() < 100_000 { 3000 } else { 40 };
        let mut places = Places(3);
        for _ in 0..rounds(damaged) {
            let mut bytes = whole.clone();
            for _ in 0..1 + places.below(20) {
                let at = places.below(bytes.len());
                bytes[at] = places.below(256) as u8;
            }
            let _ = read(bytes);
        }
    }
}

#[test]
fn random_pickles_are_survived() {
    let opcodes = b".(012NIJKMFGSVTUXBC)t]lae}dsughjpqrcRiobPQ\x80\x81\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96";
    let mut places = Places(4);
    let mut finished = 0;
    for _ in 0..rounds(200_000) {
        let bytes: Vec<u8> = (0..1 + places.below(40))
            .map(|_| match places.below(4) {
                0 => places.below(256) as u8,
                1 => places.below(4) as u8,
                _ => opcodes[places.below(opcodes.len())],
            })
            .chain([b'.'])
            .collect();
        if let Ok((pickle, length)) = Pickle::parse(&bytes) {
            assert!(length <= bytes.len());
            let _ = pickle.repr(pickle.root());
            let _ = pickle.json(pickle.root());
            finished += 1;
        }
    }
    assert!(finished > 500, "only {finished} streams were whole");
}

#[test]
fn damaged_safetensors_are_survived() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let parameters: Vec<_> = (0..20)
        .map(|i| (format!("block.{i}.weight"), vec![4, i + 1]))
        .collect();
    write_safetensors(
        &path,
        &hashed_parameters(&parameters, 1.0),
        &Default::default(),
    )
    .unwrap();
    let whole = std::fs::read(&path).unwrap();
    let damaged = dir.path().join("damaged");
    for end in (0..whole.len()).step_by(7) {
        std::fs::write(&damaged, &whole[..end]).unwrap();
        assert!(read_safetensors(&damaged).is_err(), "cut at {end}");
    }
    let mut places = Places(5);
    for _ in 0..rounds(800) {
        let mut bytes = whole.clone();
        for _ in 0..1 + places.below(3) {
            let at = places.below(bytes.len().min(1800));
            bytes[at] ^= 1 << places.below(8);
        }
        std::fs::write(&damaged, &bytes).unwrap();
        let _ = read_safetensors(&damaged);
    }
}

/// `{name: _rebuild_tensor_v2(storage '0' of `class` with `count` elements, offset, size, stride, False, {})}`
fn tensor_pickle(class: &str, count: i64, offset: i64, size: &[i64], stride: &[i64]) -> Vec<u8> {
    let mut bytes = b"\x80\x02}".to_vec();
    bytes.extend(text("weight"));
    bytes.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    bytes.extend(text("storage"));
    bytes.extend(format!("ctorch\n{class}\n").bytes());
    bytes.extend(text("0"));
    bytes.extend(text("cuda:0"));
    bytes.extend(b"\x8a\x08");
    bytes.extend(count.to_le_bytes());
    bytes.extend(b"tQ\x8a\x08");
    bytes.extend(offset.to_le_bytes());
    bytes.extend(tuple(size));
    bytes.extend(tuple(stride));
    bytes.extend(b"\x89}tRs.");
    bytes
}

#[test]
fn views_stay_inside_their_storage() {
    let data: Vec<u8> = (0..6u8).flat_map(|v| f32::from(v).to_le_bytes()).collect();
    let tensor = |offset, size: &[i64], stride: &[i64]| {
        let pickle = tensor_pickle("FloatStorage", 6, offset, size, stride);
        read(archive(&pickle, &[("data/0", &data)], false)).map(|map| map["weight"].clone())
    };
    let values = |offset, size: &[i64], stride: &[i64]| {
        tensor(offset, size, stride)
            .unwrap()
            .to_f32()
            .unwrap()
            .into_owned()
    };
    assert_eq!(values(0, &[2, 3], &[3, 1]), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(values(0, &[3, 2], &[1, 3]), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(values(1, &[2, 2], &[3, 1]), [1.0, 2.0, 4.0, 5.0]);
    assert_eq!(values(5, &[1, 3], &[7, 0]), [5.0, 5.0, 5.0]);
    assert_eq!(values(2, &[], &[]), [2.0]);
    assert_eq!(values(100, &[0, 9], &[9, 1]), [0.0; 0]);
    for (offset, size, stride) in [
        (1, &[2, 3][..], &[3, 1][..]),
        (0, &[2, 3], &[4, 1]),
        (6, &[1], &[1]),
        (-1, &[1], &[1]),
        (0, &[-1], &[1]),
        (0, &[2], &[-1]),
        (0, &[2, 2], &[1]),
        (0, &[i64::MAX, i64::MAX], &[i64::MAX, 1]),
        (i64::MAX, &[2], &[i64::MAX]),
        // A few bytes that claim to be a terabyte, or more than any machine has.
        (0, &[1 << 20, 1 << 20], &[0, 0]),
        (0, &[i64::MAX, 4], &[0, 0]),
    ] {
        let error = tensor(offset, size, stride).unwrap_err().to_string();
        assert!(error.starts_with("tensor `weight`: "), "{error}");
    }
}

#[test]
fn packed_archives_are_read_and_lies_about_them_noticed() {
    let data: Vec<u8> = (0..64u8).flat_map(|v| f32::from(v).to_le_bytes()).collect();
    let pickle = tensor_pickle("FloatStorage", 64, 0, &[64], &[1]);
    let packed = archive(&pickle, &[("data/0", &data)], true);
    let stored = archive(&pickle, &[("data/0", &data)], false);
    assert_eq!(read(packed).unwrap(), read(stored).unwrap());
    let missing = read(archive(&pickle, &[], false)).unwrap_err().to_string();
    assert!(missing.contains("`archive/data/0` is missing"), "{missing}");
    let short = read(archive(&pickle, &[("data/0", &data[..100])], false));
    let short = short.unwrap_err().to_string();
    assert!(short.contains("holds 100 bytes"), "{short}");
    let big = read(archive(
        &pickle,
        &[("data/0", &data), ("byteorder", b"big")],
        false,
    ));
    let big = big.unwrap_err().to_string();
    assert!(big.contains("big-endian"), "{big}");
    let script = read(archive(&pickle, &[("constants.pkl", b"")], false)).unwrap_err();
    assert!(script.to_string().contains("TorchScript"), "{script}");
}

#[test]
fn unusual_tensors_are_named() {
    let complex = tensor_pickle("ComplexFloatStorage", 1, 0, &[1], &[1]);
    let error = read(archive(&complex, &[("data/0", &[0; 8])], false)).unwrap_err();
    assert!(
        error.to_string().contains("`torch.ComplexFloatStorage`"),
        "{error}"
    );
    for (call, expected) in [
        ("ctorch._utils\n_rebuild_sparse_tensor\n)R", ".to_dense()"),
        ("ctorch._utils\n_rebuild_qtensor\n)R", ".dequantize()"),
        ("cevil.module\nmake_tensor\n)R", "`evil.module.make_tensor`"),
        ("ctorch._utils\n_rebuild_tensor_v2\n)R", "arguments"),
        ("ctorch._utils\n_rebuild_parameter\n)R", "without a tensor"),
    ] {
        let mut pickle = b"\x80\x02}".to_vec();
        pickle.extend(text("state_dict"));
        pickle.push(b'}');
        pickle.extend(text("layer.weight"));
        pickle.extend(call.bytes());
        pickle.extend(b"ss.");
        let error = read(archive(&pickle, &[], false)).unwrap_err().to_string();
        assert!(
            error.contains("`layer.weight`") && error.contains(expected),
            "{error}"
        );
    }
    // A whole pickled module.
    let module = read(archive(b"cmy.model\nNet\n)R.", &[], false)).unwrap_err();
    assert!(
        module.to_string().contains("class `my.model.Net`"),
        "{module}"
    );
}

#[test]
fn hostile_pickles_are_refused_by_name() {
    let shell = b"\x80\x02cposix\nsystem\nX\x02\0\0\0id\x85R.";
    let error = read(archive(shell, &[], false)).unwrap_err().to_string();
    assert!(error.contains("`posix.system`"), "{error}");
    // As a bare pickle file, which torch.load of old would have run.
    let error = read(shell.to_vec()).unwrap_err().to_string();
    assert!(error.contains("`posix.system`"), "{error}");
    // Hidden among hyper-parameters, behind a good state dict.
    let mut hidden = b"\x80\x02}(".to_vec();
    hidden.extend(text("state_dict"));
    hidden.push(b'}');
    hidden.extend(text("hyper_parameters"));
    hidden.extend(b"cbuiltins\neval\n");
    hidden.extend(text("1"));
    hidden.extend(b"\x85Ru.");
    let error = read(archive(&hidden, &[], false)).unwrap_err().to_string();
    assert!(error.contains("`builtins.eval`"), "{error}");
}

/// One pickle of the stream format: protocol 2 around `body`.
fn pickled(body: &[u8]) -> Vec<u8> {
    [b"\x80\x02", body, b"."].concat()
}

/// A stream checkpoint with one storage, `key` "7", of six floats 0 to 5, around a value.
fn stream(value: &[u8]) -> Vec<u8> {
    let mut bytes = pickled(b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19");
    bytes.extend(pickled(b"M\xe9\x03"));
    bytes.extend(pickled(b"}"));
    bytes.extend(pickled(value));
    bytes.extend(pickled(&[b"]".to_vec(), text("7"), b"a".to_vec()].concat()));
    bytes.extend(6i64.to_le_bytes());
    bytes.extend((0..6u8).flat_map(|v| f32::from(v).to_le_bytes()));
    bytes
}

/// `_rebuild_tensor(storage '7' seen through a view of 3 elements from `first`, offset 1, (2,), (1,))`
fn view_of_storage(first: i64) -> Vec<u8> {
    let mut value = b"ctorch._utils\n_rebuild_tensor\n((".to_vec();
    value.extend(text("storage"));
    value.extend(b"ctorch\nFloatStorage\n");
    value.extend(text("7"));
    value.extend(text("cpu"));
    value.extend(b"K\x06(");
    value.extend(text("8"));
    value.extend(b"\x8a\x08");
    value.extend(first.to_le_bytes());
    value.extend(b"K\x03ttQK\x01K\x02\x85K\x01\x85tR");
    value
}

#[test]
fn views_of_storages_in_the_stream_format() {
    let tensor = read(stream(&view_of_storage(2))).unwrap();
    assert_eq!(*tensor["tensor"].to_f32().unwrap(), [3.0, 4.0]);
    for first in [4, -1, i64::MAX] {
        assert!(read(stream(&view_of_storage(first))).is_err(), "{first}");
    }
    let mut longer = stream(&view_of_storage(2));
    longer.push(0);
    let error = read(longer).unwrap_err().to_string();
    assert!(error.contains("1 bytes follow"), "{error}");
}

#[test]
fn odd_shapes_never_confuse_the_inference() {
    use medfusion::checkpoint::{Facts, ParameterMismatch, Shapes, infer_unet, infer_vae};
    use medfusion::checkpoint::{unet_parameters, vae_parameters};
    let published = Facts {
        published: true,
        norm_groups: Some(1),
        vae_norm_groups: Some(1),
        ..Facts::default()
    };
    let mut bases: Vec<Shapes> = Vec::new();
    for path in crate::support::cases(|name| {
        (name.starts_with("unet_") || name.starts_with("vae_")) && name.ends_with(".safetensors")
    }) {
        let tensors = read_safetensors(&path).unwrap().tensors;
        let shapes: Shapes = tensors
            .iter()
            .filter_map(|(name, tensor)| {
                Some((
                    name.strip_prefix("weights.")?.to_owned(),
                    tensor.shape().to_vec(),
                ))
            })
            .collect();
        if !shapes.is_empty() {
            bases.push(shapes);
        }
    }
    if bases.is_empty() {
        let vae = crate::support::golden().join("checkpoint_vae_expected.safetensors");
        let tensors = read_safetensors(vae).unwrap().tensors;
        bases.push(medfusion::checkpoint::shapes_of(&tensors));
    }
    let mut places = Places(6);
    let (mut inferred, mut refused) = (0, 0);
    for round in 0..rounds(6000) {
        let mut shapes = bases[round % bases.len()].clone();
        for _ in 0..1 + places.below(4) {
            let index = places.below(shapes.len());
            let name = shapes.keys().nth(index).unwrap().clone();
            let mut shape = shapes.remove(&name).unwrap();
            match places.below(5) {
                0 => {}
                1 => {
                    shapes.insert(name, Vec::new());
                }
                2 => {
                    shapes.insert(name.replace(['0', '1'], "4095"), shape);
                }
                3 => {
                    shapes.insert(name.replace('0', "99999999999999999999"), shape);
                }
                _ => {
                    if let Some(extent) = shape.first_mut() {
                        *extent = [0, 1, 7, usize::MAX][places.below(4)];
                    }
                    shapes.insert(name, shape);
                }
            }
        }
        let checked = [
            infer_unet(&shapes, None, &published).map(|config| {
                unet_parameters(&config)
                    .is_ok_and(|needed| ParameterMismatch::check("unet", &needed, &shapes).is_ok())
            }),
            infer_vae(&shapes, None, &published).map(|config| {
                vae_parameters(&config)
                    .is_ok_and(|needed| ParameterMismatch::check("vae", &needed, &shapes).is_ok())
            }),
        ];
        for result in checked {
            match result {
                Ok(_) => inferred += 1,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    refused += 1;
                }
            }
        }
    }
    assert!(inferred > 100 && refused > 100, "{inferred} {refused}");
}

#[test]
fn a_damaged_model_json_is_survived() {
    use medfusion::checkpoint::{MODEL_JSON, load_folder};
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/cells64");
    let text = std::fs::read(shipped.join(MODEL_JSON)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut places = Places(7);
    for _ in 0..rounds(500) {
        let mut bytes = text.clone();
        for _ in 0..1 + places.below(3) {
            let at = places.below(bytes.len());
            bytes[at] = b"0123456789-{}[]\",:.eE nt"[places.below(24)];
        }
        std::fs::write(dir.path().join(MODEL_JSON), &bytes).unwrap();
        // There are no tensors, so nothing can load; what matters is that it ends in an error.
        assert!(load_folder(dir.path()).is_err());
    }
}

/// A checkpoint with everything that is read past: wrappers, foreign and unreadable tensors, objects, NumPy's values.
fn crowded_checkpoint() -> Vec<u8> {
    use crate::model::{pipeline_state, small_model};
    let mut state = pipeline_state(&small_model(), true);
    state = state
        .into_iter()
        .map(|(name, tensor)| (format!("module._orig_mod.{name}"), tensor))
        .collect();
    let small = |values: &[f32]| medfusion::tensor::Tensor::from_f32([values.len()], values);
    state.insert("val_fid.real_sum".into(), small(&[1.0, 2.0]));
    let quantised = Py::Raw(b"ctorch._utils\n_rebuild_qtensor\n)R".to_vec());
    let attribute = b"c__builtin__\ngetattr\n(cmy.losses\nLoss\n)\x81Vforward\ntR";
    let hyper = Py::dict([
        ("loss", Py::Raw(attribute.to_vec())),
        ("groups", numpy_scalar("core", "i8", &[4; 8])),
        ("strides", numpy_array("_core", "f4", &[2, 3], &[7; 24])),
        ("empty", numpy_array("core", "f4", &[1 << 40, 0], &[])),
    ]);
    let state = Py::state(&state).with("module.metric", quantised);
    checkpoint(&Py::dict([
        ("state_dict", Py::dict([])),
        ("module", Py::dict([("state_dict", state)])),
        ("hyper_parameters", hyper),
    ]))
}

/// Without checksums damage reaches what is behind them: names, objects, the inference of an architecture.
#[test]
fn damaged_checkpoints_without_checksums_are_survived() {
    use crate::model::small_overrides;
    use medfusion::checkpoint::{Model, inspect};
    let whole = without_checksums(crowded_checkpoint(), true);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.ckpt");
    std::fs::write(&path, &whole).unwrap();
    let good = Model::open_with(&path, &small_overrides()).unwrap();
    assert_eq!(good.source.notes.len(), 2, "{:?}", good.source.notes);
    let pickle = whole.windows(4).position(|b| b == b"\x80\x02}(").unwrap();
    let pickle_end = whole
        .windows(14)
        .position(|b| b == b"archive/data/0")
        .unwrap();
    let mut places = Places(8);
    let (mut read, mut refused) = (0, 0);
    for round in 0..rounds(1500) {
        let mut bytes = whole.clone();
        for _ in 0..1 + places.below(6) {
            // Most of the damage to the pickle, which is a small part of the file.
            let at = match round % 3 {
                0 => places.below(bytes.len()),
                _ => pickle + places.below(pickle_end - pickle),
            };
            bytes[at] = places.below(256) as u8;
        }
        std::fs::write(&path, &bytes).unwrap();
        match Model::open_with(&path, &small_overrides()) {
            Ok(model) => {
                assert!(
                    model
                        .source
                        .notes
                        .iter()
                        .all(|note| !note.to_string().is_empty())
                );
                read += 1;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
        if round % 10 == 0 {
            let _ = inspect(&path, &small_overrides()).map(|report| report.to_string());
        }
    }
    println!("{read} read, {refused} refused");
    assert!(read > 50 && refused > 50, "{read} {refused}");
    // Cut anywhere, the directory at its end is gone.
    for end in (0..whole.len()).step_by(whole.len() / 200) {
        std::fs::write(&path, &whole[..end]).unwrap();
        assert!(
            Model::open_with(&path, &small_overrides()).is_err(),
            "{end}"
        );
    }
}

/// Calls of what is read as a value or stays opaque, in any combination, and never more memory than they justify.
#[test]
fn random_objects_are_survived_in_little_memory() {
    let raw = |py: Py| match py {
        Py::Raw(bytes) => bytes,
        _ => unreachable!("instructions"),
    };
    let huge = [
        [1 << 40, 0],
        [1 << 32, 1 << 32],
        [-1, 4],
        [0, 1 << 62],
        [1 << 20, 1],
    ];
    let mut pieces: Vec<Vec<u8>> = [
        &b"c__builtin__\ngetattr\n"[..],
        b"cnumpy\ndtype\n",
        b"cnumpy.core.multiarray\nscalar\n",
        b"cnumpy._core.multiarray\n_reconstruct\n",
        b"cnumpy._core.numeric\n_frombuffer\n",
        b"cnumpy\nndarray\n",
        b"cfunctools\npartial\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"Vf8\n",
        b"VU4611686018427387904\n",
        b"V>\n",
        b"I-5\n",
        b"C\x08\0\0\0\0\0\0\xf0?",
        b"(",
        b")",
        b"]",
        b"}",
        b"t",
        b"R",
        b"\x81",
        b"b",
        b"e",
        b"u",
        b"2",
        b"0",
        b"q\x01",
        b"h\x01",
        b"\x85",
        b"\x86",
        b"\x87",
    ]
    .map(<[u8]>::to_vec)
    .into();
    pieces.push(raw(numpy_scalar("core", "f4", &[1; 4])));
    pieces.push(raw(numpy_scalar("_core", "f8", &[1; 4])));
    pieces.extend(huge.map(|shape| raw(numpy_array("core", "i2", &shape, &[1; 12]))));
    pieces.extend(huge.map(|shape| tuple(&shape)));
    let mut places = Places(9);
    let mut finished = 0;
    for _ in 0..rounds(60_000) {
        let count = 1 + places.below(24);
        let mut bytes: Vec<u8> = Vec::new();
        for _ in 0..count {
            bytes.extend(&pieces[places.below(pieces.len())]);
        }
        bytes.push(b'.');
        let largest = memory::largest_allocation(|| {
            if let Ok((pickle, _)) = Pickle::parse(&bytes) {
                let _ = pickle.repr(pickle.root());
                let _ = pickle.json(pickle.root());
                finished += 1;
            }
            let _ = read(archive(&bytes, &[], false));
        });
        // The zip's writer and the buffers of its reader take some tens of KiB.
        let justified = (1 << 18) + 64 * bytes.len();
        assert!(largest <= justified, "{largest} bytes for {bytes:?}");
    }
    assert!(finished > 1000, "only {finished} streams were whole");
}

/// Names of any components, in any order: taken apart, put together, counted.
#[test]
fn random_names_are_survived() {
    use medfusion::checkpoint::{Facts, ParameterMismatch, Weights, infer_model, split};
    let parts = [
        "module",
        "_orig_mod",
        "_forward_module",
        "model",
        "noise_estimator",
        "latent_embedder",
        "ema_model",
        "averaged_model",
        "noise_scheduler",
        "betas",
        "perceiver",
        "in_conv",
        "inc",
        "inc_dec",
        "out_enc",
        "conv",
        "weight",
        "0",
        "",
        "é",
    ];
    let facts = Facts {
        published: true,
        ..Facts::default()
    };
    let tensor = medfusion::tensor::Tensor::from_f32([1], &[1.0]);
    let mut places = Places(10);
    let (mut split_up, mut refused) = (0, 0);
    for _ in 0..rounds(20_000) {
        let mut state = TensorMap::new();
        for _ in 0..1 + places.below(6) {
            let count = 1 + places.below(6);
            let name: Vec<&str> = (0..count)
                .map(|_| parts[places.below(parts.len())])
                .collect();
            state.insert(name.join("."), tensor.clone());
        }
        let weights = [Weights::Auto, Weights::Raw, Weights::Ema][places.below(3)];
        match split(state, None, weights) {
            Ok(found) => {
                let _ = infer_model(&found, None, None, &facts);
                let shapes = medfusion::checkpoint::shapes_of(&found.unet);
                let _ = ParameterMismatch::check("unet", &[], &shapes);
                split_up += 1;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    assert!(split_up > 1000 && refused > 1000, "{split_up} {refused}");
}

/// Folders of any names: never a model, never a panic.
#[test]
fn random_folders_are_survived() {
    use medfusion::checkpoint::{Facts, Model, inspect};
    let names = [
        ".metadata",
        "__0_0.distcp",
        "latest",
        "global_step1",
        "checkpoint",
        "zero_to_fp32.py",
        "mp_rank_00_model_states.pt",
        "zero_pp_rank_0_mp_rank_00_optim_states.pt",
        "model.safetensors.index.json",
        "a-00001-of-00002.safetensors",
        "-of-.bin",
        "00001-of-00002.bin",
        "é-0000é-of-00002.bin",
        "model_index.json",
        "model",
        "x.ckpt",
    ];
    let mut places = Places(11);
    for _ in 0..rounds(300) {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            match places.below(6) {
                0 => std::fs::write(path, "{").unwrap(),
                1 => std::fs::create_dir(path).unwrap(),
                2 => std::os::unix::fs::symlink("nowhere", path).unwrap(),
                _ => {}
            }
        }
        let error = Model::open(dir.path()).unwrap_err();
        assert!(!error.to_string().is_empty());
        for name in names {
            assert!(inspect(dir.path().join(name), &Facts::default()).is_err());
        }
    }
}
