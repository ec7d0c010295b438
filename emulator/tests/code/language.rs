//! C++ and CUDA's built-ins, compiled by NVRTC: calls of every kind, control flow, wide integers, warp collectives,
//! atomics, memory order between blocks, asynchronous copies, libcu++ barriers, variables of the module.

use crate::support::{Arg, Program, Random, scalar};
use bytemuck::{Pod, Zeroable};

const COUNT: usize = 512;

fn program() -> Option<Program> {
    Program::cuda(
        "language.cu",
        include_str!("nvrtc_sources/language.cu"),
        &["-std=c++17", "--device-int128"],
    )
}

/// Runs a kernel of two blocks of 256 threads whose last argument is an array of `per_thread` results for each.
fn run<T: Pod>(program: &Program, kernel: &str, inputs: Vec<Arg>, per_thread: usize) -> Vec<T> {
    let output = program.uninit::<T>(COUNT * per_thread);
    let mut args = inputs;
    args.push((&output).into());
    program.launch(kernel, [2, 1, 1], [256, 1, 1], &args);
    program.download(&output)
}

fn small_integers(seed: u64, limit: f64) -> Vec<i32> {
    let mut random = Random(seed);
    (0..COUNT)
        .map(|_| random.uniform(0.0, limit) as i32)
        .collect()
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Big {
    values: [i32; 12],
    scale: f64,
}

#[test]
fn calls_direct_recursive_virtual_and_through_pointers() {
    let Some(program) = program() else { return };
    let fibonacci = [0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89];
    let got: Vec<i32> = run(&program, "recursion", vec![], 1);
    assert!(
        got.iter()
            .enumerate()
            .all(|(i, &y)| y == fibonacci[i % 256 % 12])
    );
    let which = small_integers(1, 6.0);
    let input = program.upload(&which);
    for (i, y) in run::<i32>(&program, "function_pointers", vec![(&input).into()], 1)
        .into_iter()
        .enumerate()
    {
        let x = i as i32;
        assert_eq!(y, [2 * x, x * x, -x][which[i] as usize % 3]);
    }
    let choice = program.upload(&which.iter().map(|x| x % 2).collect::<Vec<i32>>());
    for (i, y) in run::<f32>(&program, "virtual_calls", vec![(&choice).into()], 1)
        .into_iter()
        .enumerate()
    {
        let x = i as f32;
        assert_eq!(
            y,
            if which[i] % 2 == 1 {
                x * x
            } else {
                3.0 * x * x
            }
        );
    }
    let big = Big {
        values: std::array::from_fn(|k| 10 * k as i32 + 1),
        scale: 0.5,
    };
    for (i, y) in run::<f64>(&program, "structures_by_value", vec![scalar(big)], 1)
        .into_iter()
        .enumerate()
    {
        let by = i % 7 + 1;
        assert_eq!(
            y,
            f64::from(big.values[(i % 12 + by) % 12]) * 0.5 * by as f64
        );
    }
}

#[test]
fn switches_divergent_loops_and_local_arrays() {
    let Some(program) = program() else { return };
    let x = small_integers(2, 10.0);
    let input = program.upload(&x);
    for (i, y) in run::<i32>(&program, "switches", vec![(&input).into()], 1)
        .into_iter()
        .enumerate()
    {
        let i = i as i32;
        let want = match x[i as usize] {
            0 => 3,
            1 => i + 7,
            2 => 7,
            3 => (0..i % 5).sum(),
            4 => i ^ 21,
            5 => -i,
            6 => i / 3,
            7 => i % 3,
            8 => i << 2,
            _ => 99,
        };
        assert_eq!(y, want, "thread {i}");
    }
    for (i, y) in run::<i32>(&program, "local_arrays", vec![(&input).into()], 1)
        .into_iter()
        .enumerate()
    {
        let mut histogram = [0; 16];
        (0..64).for_each(|k| histogram[x[(i + k) % 256] as usize & 15] += 1);
        let best = (1..16).fold(0, |best, k| {
            if histogram[k] > histogram[best] {
                k
            } else {
                best
            }
        });
        assert_eq!(y, best as i32 * 1000 + histogram[best], "thread {i}");
    }
    let x: Vec<i32> = small_integers(3, 900.0).iter().map(|x| x + 1).collect();
    let input = program.upload(&x);
    for (i, y) in run::<i32>(&program, "divergent_loops", vec![(&input).into()], 1)
        .into_iter()
        .enumerate()
    {
        let (mut n, mut steps) = (x[i], 0);
        while n != 1 {
            if n & 1 == 1 {
                n = 3 * n + 1;
                if steps > 200 {
                    break;
                }
            } else {
                n /= 2;
            }
            steps += 1;
        }
        assert_eq!(y, steps, "thread {i}");
    }
}

#[test]
fn wide_integers_and_bit_intrinsics() {
    let Some(program) = program() else { return };
    let mut random = Random(4);
    let mut wide = || -> Vec<u64> { (0..COUNT).map(|i| random.next() >> (i % 50)).collect() };
    let (a, b) = (wide(), wide());
    let inputs = vec![(&program.upload(&a)).into(), (&program.upload(&b)).into()];
    for (i, y) in run::<u64>(&program, "wide_integers", inputs, 4)
        .chunks_exact(4)
        .enumerate()
    {
        let (a, b) = (a[i], b[i]);
        let product = u128::from(a) * u128::from(b);
        let quotient = ((product >> 3) as i128).wrapping_div(i128::from((b | 1) as i64));
        let ffs = if b == 0 {
            0
        } else {
            u64::from(b.trailing_zeros()) + 1
        };
        let want = [
            (product >> 64) as u64,
            quotient as u64,
            (a / (b | 1)).wrapping_add((a as i64).wrapping_rem((b | 1) as i64) as u64),
            (product >> 64) as u64
                ^ a.reverse_bits()
                ^ u64::from(b.count_ones())
                ^ u64::from(a.leading_zeros())
                ^ ffs,
        ];
        assert_eq!(y, want, "{a:#x} {b:#x}");
    }
    let (x, z): (Vec<u32>, Vec<u32>) = (
        a.iter().map(|&a| a as u32).collect(),
        b.iter().map(|&b| b as u32).collect(),
    );
    let inputs = vec![(&program.upload(&x)).into(), (&program.upload(&z)).into()];
    for (i, y) in run::<u32>(&program, "bit_intrinsics", inputs, 10)
        .chunks_exact(10)
        .enumerate()
    {
        let (x, z, n) = (x[i], z[i], i as u32);
        let (sx, sz) = (x as i32, z as i32);
        let pair = u64::from(z) << 32 | u64::from(x);
        let [bx, bz] = [x, z].map(u32::to_le_bytes);
        let signed = |b: [u8; 4]| b.map(|b| i32::from(b as i8));
        let (bytes_x, bytes_z) = (signed(bx), signed(bz));
        let dp4: i32 = (0..4).map(|k| bytes_x[k] * bytes_z[k]).sum();
        let halves = |x: u32| [i32::from(x as i16), i32::from((x >> 16) as i16)];
        let dp2 = halves(x)[0]
            .wrapping_mul(bytes_z[0])
            .wrapping_add(halves(x)[1].wrapping_mul(bytes_z[1]));
        let add4 = u32::from_le_bytes(std::array::from_fn(|k| bx[k].wrapping_add(bz[k])));
        let abs4 = u32::from_le_bytes(std::array::from_fn(|k| bx[k].abs_diff(bz[k])));
        let max2 = (0..2).fold(0, |word, k| {
            word | (halves(x)[k].max(halves(z)[k]) as u32 & 0xffff) << (16 * k)
        });
        let mean = |up: i64| ((i64::from(sx) + i64::from(sz) + up) >> 1) as u32;
        let low24 = |x: i32| x << 8 >> 8;
        let nth = (n % 32..32)
            .filter(|&bit| x >> bit & 1 == 1)
            .nth(1)
            .unwrap_or(u32::MAX);
        let want = [
            u32::from_le_bytes([bx[0], bz[0], bx[1], bz[1]]),
            ((pair << (n % 32)) >> 32) as u32,
            (pair >> n.min(32)) as u32,
            x.reverse_bits().wrapping_add(
                z.count_ones()
                    + x.leading_zeros()
                    + if z == 0 { 0 } else { z.trailing_zeros() + 1 },
            ),
            (((u64::from(x) * u64::from(z)) >> 32) as u32)
                .wrapping_add(((i64::from(sx) * i64::from(sz)) >> 32) as u32),
            dp4.wrapping_add(i as i32)
                .wrapping_add(dp2)
                .wrapping_add(i as i32) as u32,
            sx.abs_diff(sz)
                .wrapping_add(n)
                .wrapping_add(x.abs_diff(z))
                .wrapping_add(n),
            add4 ^ max2 ^ abs4,
            nth,
            mean(0)
                .wrapping_add(mean(1))
                .wrapping_add(((u64::from(x) + u64::from(z)) >> 1) as u32)
                .wrapping_add(low24(sx).wrapping_mul(low24(sz)) as u32),
        ];
        assert_eq!(y, want, "{x:#x} {z:#x} thread {i}");
    }
}

#[test]
fn warp_and_block_collectives() {
    let Some(program) = program() else { return };
    let x = small_integers(5, 100.0);
    let input = program.upload(&x);
    for (i, y) in run::<i32>(&program, "warp_collectives", vec![(&input).into()], 12)
        .chunks_exact(12)
        .enumerate()
    {
        let (lane, v) = (i % 32, x[i]);
        let warp = &x[i / 32 * 32..][..32];
        let block = &x[i / 256 * 256..][..256];
        let mask = |f: &dyn Fn(i32) -> bool| {
            (0..32).fold(0u32, |mask, k| mask | u32::from(f(warp[k])) << k) as i32
        };
        let same = warp.iter().all(|&w| w / 1000 == v / 1000);
        let odd_least = warp.iter().skip(1).step_by(2).min().unwrap();
        let counted = block.iter().filter(|&&v| v > 50).count() as i32;
        let want = [
            warp[5],
            if lane % 16 >= 3 { warp[lane - 3] } else { v },
            if lane % 8 < 6 { warp[lane + 2] } else { v },
            warp[lane ^ 9],
            i32::from(warp.iter().any(|&v| v > 95)),
            i32::from(warp.iter().all(|&v| v > 2)),
            mask(&|w| w % 2 == 1),
            mask(&|w| w % 5 == v % 5),
            // The full mask, -1, and twice the predicate.
            if same { -1 + 2 } else { 0 },
            warp.iter().sum::<i32>()
                + warp.iter().max().unwrap()
                + warp.iter().fold(0, |a, b| a ^ b),
            if lane % 2 == 1 { odd_least + 16 } else { -1 },
            warp[lane ^ 1]
                + counted
                + i32::from(block.contains(&3)) * 1000
                + i32::from(block.iter().all(|&v| v < 200)) * 2000,
        ];
        assert_eq!(y, want, "thread {i}");
    }
}

#[test]
fn atomics_of_every_operation_and_width() {
    let Some(program) = program() else { return };
    let n = COUNT as i32;
    let ints = program.upload(&[0i32, 0, 0, 0, 0]);
    let words = program.upload(&[u32::MAX, 0, 0, 0, 0, 0]);
    let wide = program.upload(&[0u64, 0, 0]);
    let floats = program.upload(&[0f32]);
    let doubles = program.upload(&[0f64]);
    let shorts = program.upload(&[0u16, 7]);
    let args = [&ints, &words, &wide, &floats, &doubles, &shorts].map(Arg::from);
    program.launch("atomics", [2, 1, 1], [256, 1, 1], &args);
    let sum = n * (n - 1) / 2;
    assert_eq!(
        program.download::<i32>(&ints),
        [sum, -sum, 1 - n, n - 1, 3 * (n - 1)]
    );
    let xor = (0..n).fold(0, |a, b| a ^ b) as u32;
    // Inc counts modulo 101; Dec goes 0 → 77 → 76 … modulo 78.
    let dec = (0..n).fold(
        0u32,
        |old, _| if old == 0 || old > 77 { 77 } else { old - 1 },
    );
    assert_eq!(
        program.download::<u32>(&words),
        [1 << 31, 0x7fff_ffff, xor, n as u32 % 101, dec, 42]
    );
    let top = (n as u64 - 1) * 0x1_0000_0001;
    assert_eq!(
        program.download::<u64>(&wide),
        [(sum as u64) << 20, top, sum as u64]
    );
    assert_eq!(program.download::<f32>(&floats), [n as f32 * 0.25]);
    assert_eq!(program.download::<f64>(&doubles), [f64::from(n) * 0.125]);
    assert_eq!(program.download::<u16>(&shorts), [n as u16, 7]);
    let x: Vec<i32> = (0..3000).map(|i| i * i % 97).collect();
    let bins = program.upload(&[0i32; 64]);
    let args = [
        (&program.upload(&x)).into(),
        (&bins).into(),
        scalar(x.len() as i32),
    ];
    program.launch("shared_histogram", [3, 1, 1], [128, 1, 1], &args);
    let mut want = [0; 64];
    x.iter().for_each(|x| want[*x as usize & 63] += 1);
    assert_eq!(program.download::<i32>(&bins), want);
}

#[test]
fn blocks_are_ordered_by_fences_flags_and_locks() {
    let Some(program) = program() else { return };
    let x: Vec<f32> = (0..8 * 256).map(|i| (i % 13) as f32).collect();
    let (partial, total, done) = (
        program.uninit::<f32>(8),
        program.uninit::<f32>(1),
        program.upload(&[0u32]),
    );
    let args = [
        (&program.upload(&x)).into(),
        (&partial).into(),
        (&total).into(),
        (&done).into(),
    ];
    program.launch("last_block", [8, 1, 1], [256, 1, 1], &args);
    assert_eq!(program.download::<f32>(&total), [x.iter().sum::<f32>()]);
    assert_eq!(program.download::<u32>(&done), [0]);
    let (values, flags) = (program.uninit::<i32>(12), program.upload(&[0i32; 12]));
    program.launch(
        "chained_blocks",
        [12, 1, 1],
        [32, 1, 1],
        &[(&values).into(), (&flags).into()],
    );
    assert_eq!(program.download::<i32>(&values)[11], 100 + 66);
    let (lock, counter) = (program.upload(&[0i32]), program.upload(&[0i32]));
    program.launch(
        "spin_lock",
        [4, 1, 1],
        [64, 1, 1],
        &[(&lock).into(), (&counter).into()],
    );
    assert_eq!(program.download::<i32>(&counter), [256]);
}

#[test]
fn asynchronous_copies_and_barriers_hand_over_data() {
    let Some(program) = program() else { return };
    let x: Vec<f32> = (0..2 * 512 * 4).map(|i| i as f32).collect();
    let y = program.uninit::<f32>(x.len());
    program.launch(
        "pipelined_copy",
        [2, 1, 1],
        [128, 1, 1],
        &[(&program.upload(&x)).into(), (&y).into()],
    );
    let got: Vec<f32> = program.download(&y);
    for (i, got) in got.chunks_exact(4).enumerate() {
        let from = i / 128 * 128 + 127 - i % 128;
        let want: Vec<f32> = x[4 * from..][..4].iter().map(|x| 2.0 * x).collect();
        assert_eq!(got, want, "element {i}");
    }
    let rounds = 5;
    let x: Vec<i32> = (0..rounds * 64).map(|i| i * 3).collect();
    let y = program.uninit::<i32>(x.len());
    program.launch(
        "producer_consumer",
        [1, 1, 1],
        [128, 1, 1],
        &[(&program.upload(&x)).into(), (&y).into(), scalar(rounds)],
    );
    for (i, got) in program.download::<i32>(&y).into_iter().enumerate() {
        assert_eq!(
            got,
            x[i / 64 * 64 + 63 - i % 64] + (i / 64) as i32,
            "element {i}"
        );
    }
    let y = program.uninit::<i32>(64);
    program.launch(
        "named_barriers",
        [1, 1, 1],
        [128, 1, 1],
        &[(&program.upload(&x[..64])).into(), (&y).into()],
    );
    for (i, got) in program.download::<i32>(&y).into_iter().enumerate() {
        assert_eq!(got, 3 * x[63 - i], "element {i}");
    }
}

#[test]
fn shared_constant_and_global_variables() {
    let Some(program) = program() else { return };
    let x = small_integers(6, 1000.0);
    let y = program.uninit::<i32>(COUNT);
    program.launch_with(
        "dynamic_shared",
        [2, 1, 1],
        [256, 1, 1],
        256 * 12,
        false,
        &[(&program.upload(&x)).into(), (&y).into()],
    );
    for (i, got) in program.download::<i32>(&y).into_iter().enumerate() {
        let block = i / 256 * 256;
        assert_eq!(
            got,
            x[block + 255 - i % 256] + x[block + (i + 1) % 256],
            "thread {i}"
        );
    }
    let (y, letters) = (program.uninit::<f32>(COUNT), program.uninit::<i32>(COUNT));
    program.launch(
        "module_variables",
        [2, 1, 1],
        [256, 1, 1],
        &[(&y).into(), (&letters).into()],
    );
    let (y, letters): (Vec<f32>, Vec<i32>) = (program.download(&y), program.download(&letters));
    for i in 0..COUNT {
        let x = i as f64 * 0.125;
        let want = 1.0 - 2.0 * x + 0.5 * x.powi(2) + 3.0 * x.powi(3) - 0.25 * x.powi(4);
        let size = 1.0 + 2.0 * x + 0.5 * x.powi(2) + 3.0 * x.powi(3) + 0.25 * x.powi(4);
        // Five terms of a few roundings each.
        assert!(
            (f64::from(y[i]) - want).abs() <= 8.0 * 2f64.powi(-24) * size,
            "thread {i}"
        );
        let name = ["even", "odd\0"][i % 2];
        assert_eq!(letters[i], i32::from(name.as_bytes()[i % 3]), "thread {i}");
    }
    assert_eq!(program.variable::<i32>("global_counter"), 7);
    for (i, got) in run::<f32>(
        &program,
        "standard_library",
        vec![(&program.upload(&x)).into()],
        1,
    )
    .into_iter()
    .enumerate()
    {
        let real = [x[i] as f32, 1.0, 2.0, 3.0][i % 4];
        assert_eq!(got, 0.25 + real * real, "thread {i}");
    }
}

#[test]
fn cache_operators_and_vector_accesses() {
    let Some(program) = program() else { return };
    let x: Vec<i32> = (0..4 * COUNT as i32).map(|i| i * 7 - 900).collect();
    let bytes: Vec<u8> = (0..COUNT).map(|i| (i * 37) as u8).collect();
    let (y, shorts) = (
        program.uninit::<i32>(4 * COUNT),
        program.uninit::<i16>(COUNT),
    );
    let args = [
        (&program.upload(&x)).into(),
        (&y).into(),
        (&program.upload(&bytes)).into(),
        (&shorts).into(),
    ];
    program.launch("cached_accesses", [2, 1, 1], [256, 1, 1], &args);
    let (y, shorts): (Vec<i32>, Vec<i16>) = (program.download(&y), program.download(&shorts));
    for i in 0..COUNT {
        let v = &x[4 * i..][..4];
        assert_eq!(
            y[4 * i..][..4],
            [v[0] + v[1], v[2], v[3], v[3]],
            "thread {i}"
        );
        assert_eq!(
            shorts[i],
            i16::from(bytes[i] as i8) - i16::from(bytes[(i + 1) % 256]),
            "thread {i}"
        );
    }
}
