//! Programs that are right give the right results, under every schedule.

use crate::lab::Arg::{I32, Ptr};
use crate::lab::Lab;

#[test]
fn block_reduction_sums_under_every_seed() {
    for seed in 0..8 {
        let lab = Lab::new().seed(seed);
        let data: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        let (out, input) = (lab.room::<f32>(4), lab.put(&data));
        lab.run("reduce_clean", 4, 256, &[Ptr(out), Ptr(input), I32(1000)]);
        let want: Vec<f32> = data.chunks(256).map(|c| c.iter().sum()).collect();
        assert_eq!(lab.get::<f32>(out, 4), want);
    }
}

#[test]
fn calls_recursion_and_function_pointers() {
    let lab = Lab::new();
    let out = lab.room::<i32>(64);
    lab.run("calls", 1, 64, &[Ptr(out), I32(11)]);
    fn fibonacci(n: i32) -> i32 {
        if n < 2 {
            n
        } else {
            fibonacci(n - 1) + fibonacci(n - 2)
        }
    }
    let want: Vec<i32> = (0..64)
        .map(|t| {
            let k = t & 3;
            let (a, b, c) = (11 + k, t - k, (100.0 * 0.5 * f64::from(k)) as i32);
            let f = [fibonacci(t % 7), 2 * (t % 7), -(t % 7)][(t % 3) as usize];
            f + a + 10 * b + c
        })
        .collect();
    assert_eq!(lab.get::<i32>(out, 64), want);
}

#[test]
fn module_variables_keep_their_values_between_launches() {
    let lab = Lab::new();
    let out = lab.room::<i32>(32);
    lab.run("globals", 1, 32, &[Ptr(out)]);
    let table = [3, 1, 4, 1, 5, 9, 2, 6];
    // Lane 0 writes after the warp has read: the kernel's own order.
    assert_eq!(
        lab.get::<i32>(out, 32),
        (0..32).map(|t| table[t & 7] + 42).collect::<Vec<_>>()
    );
    let (address, size) = lab.instance.global("variable").expect("declared");
    assert_eq!((lab.get::<i32>(address, 1)[0], size), (1, 4));
    lab.run("globals", 1, 32, &[Ptr(out)]);
    assert_eq!(lab.get::<i32>(out, 1)[0], 3 + 1);
}

#[test]
fn collectives_follow_the_isa() {
    let lab = Lab::new();
    let out = lab.room::<u32>(320);
    lab.run("collectives", 1, 32, &[Ptr(out), I32(5)]);
    let got = lab.get::<u32>(out, 320);
    for t in 0..32u32 {
        let row = |r: u32| got[(32 * r + t) as usize];
        assert_eq!(row(0), if t >= 3 { t - 3 } else { t });
        assert_eq!(row(1), if t + 5 < 32 { t + 5 } else { t });
        // Lanes in segments of eight: those whose partner lies beyond their own segment keep their value.
        assert_eq!(row(2), t ^ 7);
        assert_eq!(row(3), (t & !3) + 3);
        assert_eq!(
            row(4),
            (0..32).filter(|l| l % 5 == 0).fold(0, |m, l| m | 1 << l)
        );
        assert_eq!(row(5), 3);
        assert_eq!(
            row(6),
            (0..32)
                .filter(|l| l % 5 == t % 5)
                .fold(0, |m, l| m | 1 << l)
        );
        assert_eq!(row(7), 496 + 31);
        assert_eq!(row(8), 0u32.wrapping_sub(1).wrapping_add(1));
        assert_eq!(row(9), u32::MAX);
    }
}

#[test]
fn shuffles_of_two_branches_with_their_own_masks() {
    let lab = Lab::new();
    let out = lab.room::<i32>(32);
    lab.run("mask_split", 1, 32, &[Ptr(out)]);
    assert_eq!(
        lab.get::<i32>(out, 32),
        (0..32)
            .map(|t| if t < 16 { t ^ 1 } else { t ^ 2 })
            .collect::<Vec<_>>()
    );
}

#[test]
fn barrier_reductions_count_and_vote() {
    let lab = Lab::new();
    for limit in [0, 40, 96] {
        let out = lab.room::<i32>(3 * 96);
        lab.run("barrier_votes", 1, 96, &[Ptr(out), I32(limit)]);
        for row in lab.get::<i32>(out, 3 * 96).chunks(3) {
            assert_eq!(row, [limit, i32::from(limit == 96), i32::from(limit > 0)]);
        }
    }
}

#[test]
fn named_barriers_order_a_producer_and_a_consumer() {
    for seed in 0..8 {
        let lab = Lab::new().seed(seed);
        let out = lab.room::<i32>(256);
        lab.run("pipe_clean", 1, 64, &[Ptr(out)]);
        assert_eq!(
            lab.get::<i32>(out, 256),
            (0..256)
                .map(|i| 100 * (i / 32) + 31 - i % 32)
                .collect::<Vec<_>>()
        );
    }
}

#[test]
fn lanes_that_spin_for_a_lane_of_their_warp_get_there() {
    for kernel in ["spin_lock", "spin_lock_hard"] {
        let lab = Lab::new();
        let (lock, counter) = (lab.put(&[0i32]), lab.put(&[0i32]));
        lab.run(kernel, 3, 64, &[Ptr(lock), Ptr(counter)]);
        assert_eq!(lab.get::<i32>(counter, 1), [192], "{kernel}");
    }
}

#[test]
fn a_grid_barrier_made_by_hand_works_with_more_blocks_than_workers() {
    let lab = Lab::new();
    let (data, arrived, out) = (
        lab.room::<i32>(6 * 64),
        lab.put(&[0u32]),
        lab.room::<i32>(6 * 64),
    );
    lab.run(
        "grid_barrier",
        6,
        64,
        &[Ptr(data), Ptr(arrived), Ptr(out), I32(3)],
    );
    assert_eq!(
        lab.get::<i32>(out, 384),
        (0..384).map(|i| (i + 192) % 384).collect::<Vec<_>>()
    );
}

#[test]
fn the_last_block_sees_what_all_blocks_wrote() {
    let lab = Lab::new();
    let (parts, count, out) = (lab.room::<f32>(20), lab.put(&[0u32]), lab.room::<f32>(1));
    lab.run(
        "last_block_clean",
        20,
        64,
        &[Ptr(parts), Ptr(count), Ptr(out)],
    );
    assert_eq!(lab.get::<f32>(out, 1), [210.0]);
}

#[test]
fn atomics_of_every_kind() {
    let lab = Lab::new();
    let out = lab.put(&[0i32; 9]);
    lab.run("atomics", 4, 64, &[Ptr(out)]);
    let got = lab.get::<i32>(out, 9);
    assert_eq!(&got[..6], &[512, 63, -63, -1, 6, 0]);
    assert_eq!(got[7], 512);
    assert_eq!(f32::from_bits(got[8] as u32), 128.0);
    let best = lab.put(&[0f32]);
    let data: Vec<f32> = (0..256).map(|i| ((i * 37) % 256) as f32).collect();
    lab.run("cas_max", 4, 64, &[Ptr(best), Ptr(lab.put(&data))]);
    assert_eq!(lab.get::<f32>(best, 1), [255.0]);
}

#[test]
fn copies_land_and_fill_with_zeros() {
    let lab = Lab::new();
    let data: Vec<i32> = (0..128).collect();
    let (out, input) = (lab.room::<i32>(128), lab.put(&data));
    lab.run("async_clean", 1, 128, &[Ptr(out), Ptr(input)]);
    assert_eq!(lab.get::<i32>(out, 128), (0..128).rev().collect::<Vec<_>>());
    lab.run("async_zero_fill", 1, 32, &[Ptr(out), Ptr(input), I32(20)]);
    assert_eq!(
        lab.get::<i32>(out, 128),
        (0..128)
            .map(|i| if i < 82 { i } else { 0 })
            .collect::<Vec<_>>()
    );
}

#[test]
fn lanes_that_take_both_sides_of_a_loop_are_right() {
    let lab = Lab::new();
    let out = lab.room::<i32>(32);
    lab.run("lanes_apart", 1, 32, &[Ptr(out), I32(3000)]);
    let odd = (0..3000).fold(0i32, |v, i| v.wrapping_mul(3).wrapping_add(i));
    let even = (0..3000).fold(0i32, |v, i| v.wrapping_mul(5).wrapping_sub(i));
    assert_eq!(
        lab.get::<i32>(out, 32),
        (0..32)
            .map(|t| if t % 2 == 1 { odd } else { even })
            .collect::<Vec<_>>()
    );
}

#[test]
fn mbarriers_order_a_block() {
    let lab = Lab::ptx(
        ".visible .entry k(.param .u64 out) {
            .reg .b32 %r<9>; .reg .b64 %d<9>; .reg .pred %p<3>;
            .shared .align 8 .b64 bar; .shared .align 4 .b32 s[64];
            mov.u32 %r1, %tid.x;
            setp.ne.u32 %p1, %r1, 0;
            @%p1 bra READY;
            mbarrier.init.shared.b64 [bar], 64;
        READY:
            bar.sync 0;
            mov.u32 %r2, s;
            mad.lo.u32 %r3, %r1, 4, %r2;
            st.shared.u32 [%r3], %r1;
            mbarrier.arrive.shared.b64 %d1, [bar];
        WAIT:
            mbarrier.test_wait.shared.b64 %p2, [bar], %d1;
            @!%p2 bra WAIT;
            xor.b32 %r4, %r1, 63;
            mad.lo.u32 %r5, %r4, 4, %r2;
            ld.shared.u32 %r6, [%r5];
            ld.param.u64 %d2, [out];
            cvta.to.global.u64 %d2, %d2;
            mul.wide.u32 %d3, %r1, 4;
            add.s64 %d2, %d2, %d3;
            st.global.u32 [%d2], %r6;
            ret;
        }",
    );
    let out = lab.room::<u32>(64);
    lab.run("k", 1, 64, &[Ptr(out)]);
    assert_eq!(lab.get::<u32>(out, 64), (0..64).rev().collect::<Vec<_>>());
}

#[test]
fn indexed_branches_and_scopes_that_reuse_names() {
    let lab = Lab::ptx(
        ".visible .entry k(.param .u64 out) {
            .reg .b32 %r<9>; .reg .b64 %d<4>;
            mov.u32 %r1, %laneid;
            rem.u32 %r2, %r1, 3;
            T: .branchtargets A, B, C;
            brx.idx %r2, T;
        A:  mov.u32 %r3, 10; bra END;
        B:  { .reg .b32 %r3; mov.u32 %r3, 77; { .reg .b64 %r3; mov.u64 %r3, 5; } add.u32 %r3, %r3, 1; mov.u32 %r4, %r3; }
            mov.u32 %r3, %r4; bra END;
        C:  mov.u32 %r3, 30;
        END:
            ld.param.u64 %d1, [out];
            mul.wide.u32 %d2, %r1, 4;
            add.s64 %d1, %d1, %d2;
            st.global.u32 [%d1+-0], %r3;
            ret;
        }",
    );
    let out = lab.room::<u32>(32);
    lab.run("k", 1, 32, &[Ptr(out)]);
    assert_eq!(
        lab.get::<u32>(out, 32),
        (0..32).map(|l| [10, 78, 30][l % 3]).collect::<Vec<_>>()
    );
}
