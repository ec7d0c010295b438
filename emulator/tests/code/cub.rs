//! CUB's block and warp primitives, compiled by NVRTC from CCCL's headers.

use crate::support::{Program, Random, scalar};

const THREADS: usize = 128;
const ITEMS: usize = 4;
const BLOCKS: usize = 3;
const TILE: usize = THREADS * ITEMS;

fn program() -> Option<Program> {
    Program::cuda(
        "cub.cu",
        include_str!("nvrtc_sources/cub.cu"),
        &["-std=c++17"],
    )
}

fn integers(seed: u64) -> Vec<i32> {
    let mut random = Random(seed);
    (0..BLOCKS * TILE)
        .map(|_| random.uniform(-1000.0, 1000.0) as i32)
        .collect()
}

const GRID: [u32; 3] = [BLOCKS as u32, 1, 1];
const BLOCK: [u32; 3] = [THREADS as u32, 1, 1];

#[test]
fn block_reduce_sums_and_finds_the_largest_with_every_algorithm() {
    let Some(program) = program() else { return };
    let x = integers(1);
    for kernel in ["reduce_warps", "reduce_raking", "reduce_commutative"] {
        let total = program.uninit::<i32>(2 * BLOCKS);
        program.launch(
            kernel,
            GRID,
            BLOCK,
            &[(&program.upload(&x)).into(), (&total).into()],
        );
        let want: Vec<i32> = x
            .chunks_exact(TILE)
            .flat_map(|tile| [tile.iter().sum(), *tile.iter().max().unwrap()])
            .collect();
        assert_eq!(program.download::<i32>(&total), want, "{kernel}");
    }
}

#[test]
fn block_reduce_of_a_partial_tile_counts_only_the_valid_items() {
    let Some(program) = program() else { return };
    // Quarters: their sums are exact.
    let x: Vec<f64> = (0..THREADS).map(|i| i as f64 * 0.25).collect();
    for valid in [1usize, 31, 32, 77, 128] {
        let y = program.uninit::<f64>(1);
        program.launch(
            "reduce_double",
            [1, 1, 1],
            BLOCK,
            &[
                (&program.upload(&x)).into(),
                (&y).into(),
                scalar(valid as i32),
            ],
        );
        assert_eq!(
            program.download::<f64>(&y),
            [x[..valid].iter().sum::<f64>()],
            "{valid} valid"
        );
    }
}

#[test]
fn block_scan_gives_prefixes_with_every_algorithm() {
    let Some(program) = program() else { return };
    let x = integers(2);
    for kernel in ["scan_raking", "scan_memoize", "scan_warps"] {
        let (sums, maxima) = (
            program.uninit::<i32>(x.len()),
            program.uninit::<i32>(x.len()),
        );
        let total = program.uninit::<i32>(BLOCKS);
        program.launch(
            kernel,
            GRID,
            BLOCK,
            &[
                (&program.upload(&x)).into(),
                (&sums).into(),
                (&maxima).into(),
                (&total).into(),
            ],
        );
        let (sums, maxima): (Vec<i32>, Vec<i32>) =
            (program.download(&sums), program.download(&maxima));
        let total: Vec<i32> = program.download(&total);
        for (block, tile) in x.chunks_exact(TILE).enumerate() {
            let (mut sum, mut largest) = (0, i32::MIN);
            for (i, &value) in tile.iter().enumerate() {
                largest = largest.max(value);
                assert_eq!(sums[block * TILE + i], sum, "{kernel} {i}");
                assert_eq!(maxima[block * TILE + i], largest, "{kernel} {i}");
                sum += value;
            }
            assert_eq!(total[block], sum, "{kernel}");
        }
    }
}

#[test]
fn block_radix_sort_orders_keys_and_carries_values() {
    let Some(program) = program() else { return };
    let mut random = Random(3);
    let floats: Vec<f32> = (0..BLOCKS * TILE).map(|_| random.normal() as f32).collect();
    let keys = program.upload(&floats);
    program.launch("sort_floats", GRID, BLOCK, &[(&keys).into()]);
    let got: Vec<f32> = program.download(&keys);
    for (tile, got) in floats.chunks_exact(TILE).zip(got.chunks_exact(TILE)) {
        let mut want = tile.to_vec();
        want.sort_by(f32::total_cmp);
        assert_eq!(got, want);
    }
    // Few distinct keys, so that stability shows.
    let keys: Vec<u32> = (0..TILE)
        .map(|_| (random.next() as u32 % 50) << 24)
        .collect();
    let values: Vec<i32> = (0..TILE as i32).collect();
    let (device_keys, device_values) = (program.upload(&keys), program.upload(&values));
    program.launch(
        "sort_pairs_descending",
        [1, 1, 1],
        BLOCK,
        &[(&device_keys).into(), (&device_values).into()],
    );
    let mut want: Vec<(u32, i32)> = keys.iter().copied().zip(values).collect();
    want.sort_by_key(|pair| std::cmp::Reverse(pair.0));
    let (keys, values): (Vec<u32>, Vec<i32>) = (
        program.download(&device_keys),
        program.download(&device_values),
    );
    assert_eq!(keys.into_iter().zip(values).collect::<Vec<_>>(), want);
}

#[test]
fn warp_primitives_reduce_segments_and_scan() {
    let Some(program) = program() else { return };
    let mut random = Random(4);
    let x: Vec<f32> = (0..THREADS).map(|i| (i % 9) as f32 - 4.0).collect();
    let flags: Vec<i32> = (0..THREADS)
        .map(|_| i32::from(random.next().is_multiple_of(5)))
        .collect();
    let (sums, segments) = (
        program.uninit::<f32>(THREADS / 32),
        program.uninit::<i32>(THREADS),
    );
    program.launch(
        "warp_reduce",
        [1, 1, 1],
        BLOCK,
        &[
            (&program.upload(&x)).into(),
            (&sums).into(),
            (&segments).into(),
            (&program.upload(&flags)).into(),
        ],
    );
    let want: Vec<f32> = x.chunks_exact(32).map(|warp| warp.iter().sum()).collect();
    assert_eq!(program.download::<f32>(&sums), want);
    for (i, got) in program.download::<i32>(&segments).into_iter().enumerate() {
        let head = flags[i] != 0 || i % 32 == 0;
        let end = (i + 1..).find(|&j| j % 32 == 0 || flags[j] != 0).unwrap();
        assert_eq!(
            got,
            if head {
                (i..end).sum::<usize>() as i32
            } else {
                -1
            },
            "thread {i}"
        );
    }
    let integers: Vec<i32> = (0..THREADS as i32).map(|i| i * 7 % 31).collect();
    let output = program.uninit::<i32>(THREADS);
    program.launch(
        "warp_scan",
        [1, 1, 1],
        BLOCK,
        &[(&program.upload(&integers)).into(), (&output).into()],
    );
    for (i, got) in program.download::<i32>(&output).into_iter().enumerate() {
        assert_eq!(
            got,
            integers[i / 16 * 16..i].iter().sum::<i32>(),
            "thread {i}"
        );
    }
}
