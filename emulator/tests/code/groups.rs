//! Cooperative groups from CUDA's headers, compiled by NVRTC: tiles, partitions, reductions, scans, a grid-wide barrier.

use crate::support::{Program, Random, scalar};

const THREADS: usize = 512;

fn program() -> Option<Program> {
    Program::cuda(
        "cooperative_groups.cu",
        include_str!("nvrtc_sources/cooperative_groups.cu"),
        &["-std=c++17"],
    )
}

fn integers(seed: u64) -> Vec<i32> {
    let mut random = Random(seed);
    (0..THREADS)
        .map(|_| random.uniform(0.0, 100.0) as i32)
        .collect()
}

/// Runs a kernel over two blocks of 256 threads that each write `per_thread` integers.
fn run(program: &Program, kernel: &str, x: &[i32], per_thread: usize) -> Vec<Vec<i32>> {
    let output = program.uninit::<i32>(THREADS * per_thread);
    program.launch(
        kernel,
        [2, 1, 1],
        [256, 1, 1],
        &[(&program.upload(x)).into(), (&output).into()],
    );
    program
        .download::<i32>(&output)
        .chunks_exact(per_thread)
        .map(<[i32]>::to_vec)
        .collect()
}

/// The tile of `size` threads that thread `i` belongs to.
fn tile(x: &[i32], i: usize, size: usize) -> &[i32] {
    &x[i / size * size..][..size]
}

#[test]
fn tiles_of_every_size_sum_their_threads() {
    let Some(program) = program() else { return };
    let x = integers(1);
    for (i, got) in run(&program, "tile_sums", &x, 5).iter().enumerate() {
        let sum = |size| tile(&x, i, size).iter().sum::<i32>();
        let rank = (i % 256 / 32 * 1000 + i % 32) as i32;
        assert_eq!(got, &[sum(32), sum(16), sum(4), x[i], rank], "thread {i}");
    }
}

#[test]
fn tiles_reduce_with_every_operator() {
    let Some(program) = program() else { return };
    let mut random = Random(2);
    let x: Vec<i32> = (0..THREADS).map(|_| random.next() as i32).collect();
    let f: Vec<f32> = (0..THREADS).map(|_| random.normal() as f32).collect();
    let (y, z) = (
        program.uninit::<i32>(6 * THREADS),
        program.uninit::<f32>(2 * THREADS),
    );
    program.launch(
        "tile_operators",
        [2, 1, 1],
        [256, 1, 1],
        &[
            (&program.upload(&x)).into(),
            (&program.upload(&f)).into(),
            (&y).into(),
            (&z).into(),
        ],
    );
    let (y, z): (Vec<i32>, Vec<f32>) = (program.download(&y), program.download(&z));
    for i in 0..THREADS {
        let warp = tile(&x, i, 32);
        let fold = |f: fn(i32, i32) -> i32| warp.iter().copied().reduce(f).unwrap();
        let unsigned = warp.iter().map(|&x| x as u32).max().unwrap() as i32;
        let want = [
            fold(i32::min),
            fold(i32::max),
            fold(|a, b| a & b),
            fold(|a, b| a | b),
            fold(|a, b| a ^ b),
            unsigned,
        ];
        assert_eq!(y[6 * i..][..6], want, "thread {i}");
        let floats = &f[i / 32 * 32..][..32];
        let (sum, size) = floats.iter().fold((0.0, 0.0), |(sum, size), &x| {
            (sum + f64::from(x), size + f64::from(x.abs()))
        });
        // Five additions deep.
        assert!(
            (f64::from(z[2 * i]) - sum).abs() <= 5.0 * 2f64.powi(-24) * size,
            "thread {i}"
        );
        assert_eq!(
            z[2 * i + 1],
            floats.iter().copied().fold(f32::MIN, f32::max),
            "thread {i}"
        );
    }
}

#[test]
fn tiles_scan_their_threads() {
    let Some(program) = program() else { return };
    let x = integers(3);
    for (i, got) in run(&program, "tile_scans", &x, 4).iter().enumerate() {
        let upto = |size: usize| &tile(&x, i, size)[..i % size + 1];
        let inclusive: i32 = upto(32).iter().sum();
        let eight: i32 = upto(8).iter().sum();
        let want = [
            inclusive,
            inclusive - x[i],
            *upto(8).iter().max().unwrap(),
            eight - x[i],
        ];
        assert_eq!(got, &want, "thread {i}");
    }
}

#[test]
fn divergent_and_labelled_groups_know_their_members() {
    let Some(program) = program() else { return };
    let x = integers(4);
    for (i, got) in run(&program, "divergent_groups", &x, 5).iter().enumerate() {
        let warp = tile(&x, i, 32);
        let before = &warp[..i % 32];
        let odd = |values: &[i32]| values.iter().filter(|&&v| v & 1 == 1).count() as i32;
        let odd_sum: i32 = warp.iter().filter(|&&v| v & 1 == 1).sum();
        let first = if x[i] & 1 == 1 {
            [odd(warp), odd(before), odd_sum]
        } else {
            [-1; 3]
        };
        assert_eq!(got[..3], first, "thread {i}");
        let same: i32 = warp.iter().filter(|&&v| v % 3 == x[i] % 3).sum();
        let like = |values: &[i32]| values.iter().filter(|&&v| v & 1 == x[i] & 1).count() as i32;
        assert_eq!(
            got[3..],
            [same, like(warp) * 100 + like(before)],
            "thread {i}"
        );
    }
}

#[test]
fn tiles_shuffle_vote_and_match() {
    let Some(program) = program() else { return };
    let x = integers(5);
    for (i, got) in run(&program, "tile_collectives", &x, 8).iter().enumerate() {
        let tile = tile(&x, i, 8);
        let rank = i % 8;
        let mask = |f: &dyn Fn(i32) -> bool| {
            tile.iter()
                .enumerate()
                .filter(|&(_, &v)| f(v))
                .fold(0, |mask, (k, _)| mask | 1 << k)
        };
        let want = [
            tile[3],
            if rank >= 2 { tile[rank - 2] } else { x[i] },
            if rank < 7 { tile[rank + 1] } else { x[i] },
            tile[rank ^ 5],
            i32::from(tile.iter().any(|&v| v > 90)),
            i32::from(tile.iter().all(|&v| v > 10)),
            mask(&|v| v & 1 == 1),
            mask(&|v| v & 3 == x[i] & 3),
        ];
        assert_eq!(got, &want, "thread {i}");
    }
}

#[test]
fn a_grid_wide_barrier_orders_all_blocks() {
    let Some(program) = program() else { return };
    let x: Vec<i32> = (0..5000).map(|i| i % 17).collect();
    let (partial, total) = (program.uninit::<i32>(8), program.uninit::<i32>(1));
    program.launch_with(
        "grid_sum",
        [8, 1, 1],
        [128, 1, 1],
        0,
        true,
        &[
            (&program.upload(&x)).into(),
            (&partial).into(),
            (&total).into(),
            scalar(x.len() as i32),
        ],
    );
    assert_eq!(program.download::<i32>(&total), [x.iter().sum::<i32>()]);
}
