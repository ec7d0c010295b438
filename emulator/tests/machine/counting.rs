//! Counters against values computed by hand.

use crate::lab::Arg::{I32, Ptr};
use crate::lab::Lab;

#[test]
fn sectors_of_strided_loads() {
    for (stride, sectors) in [(1, 4), (2, 8), (8, 32), (32, 32)] {
        let lab = Lab::new();
        let (out, input) = (lab.room::<f32>(32), lab.put(&vec![1f32; 32 * stride]));
        let c = lab
            .counters(
                "strided",
                [32, 1, 1],
                0,
                &[Ptr(out), Ptr(input), I32(stride as i32)],
            )
            .total;
        assert_eq!(
            (
                c.global_load_requests,
                c.global_load_sectors,
                c.global_load_sectors_ideal
            ),
            (1, sectors, 4)
        );
        assert_eq!(
            (
                c.global_store_requests,
                c.global_store_sectors,
                c.global_store_sectors_ideal
            ),
            (1, 4, 4)
        );
        assert_eq!(
            (c.global_load_bytes, c.dram_read_bytes, c.dram_write_bytes),
            (128, 32 * sectors, 128)
        );
    }
}

#[test]
fn sectors_of_128_bit_loads() {
    let lab = Lab::new();
    let (out, input) = (lab.room::<f32>(128), lab.put(&[1f32; 128]));
    let c = lab
        .counters("wide", [32, 1, 1], 0, &[Ptr(out), Ptr(input)])
        .total;
    assert_eq!(
        (
            c.global_load_requests,
            c.global_load_sectors,
            c.global_load_sectors_ideal
        ),
        (1, 16, 16)
    );
    assert_eq!(c.global_load_bytes, 512);
}

#[test]
fn bank_conflicts_of_strided_words() {
    for (stride, wavefronts) in [(1, 1), (2, 2), (3, 1), (4, 4), (16, 16), (32, 32)] {
        let lab = Lab::new();
        let c = lab
            .counters(
                "shared_stride",
                [32, 1, 1],
                0,
                &[Ptr(lab.room::<f32>(32)), I32(stride)],
            )
            .total;
        // One store and one load.
        assert_eq!(
            (
                c.shared_requests,
                c.shared_wavefronts,
                c.shared_wavefronts_ideal
            ),
            (2, 2 * wavefronts, 2),
            "stride {stride}"
        );
    }
}

#[test]
fn a_128_bit_access_takes_four_phases() {
    let lab = Lab::new();
    let c = lab
        .counters(
            "shared_wide",
            [32, 1, 1],
            0,
            &[Ptr(lab.room::<f32>(128)), I32(0)],
        )
        .total;
    assert_eq!(
        (
            c.shared_requests,
            c.shared_wavefronts,
            c.shared_wavefronts_ideal,
            c.shared_bytes
        ),
        (2, 8, 8, 1024)
    );
}

#[test]
fn padding_removes_a_transposes_conflicts() {
    for (pitch, loads) in [(32, 32 * 32), (33, 32)] {
        let lab = Lab::new();
        let (out, input) = (lab.room::<f32>(1024), lab.put(&[1f32; 1024]));
        let c = lab
            .counters(
                "transpose",
                [32, 8, 1],
                0,
                &[Ptr(out), Ptr(input), I32(pitch)],
            )
            .total;
        assert_eq!(
            (
                c.shared_requests,
                c.shared_wavefronts,
                c.shared_wavefronts_ideal
            ),
            (64, 32 + loads, 64)
        );
        assert_eq!(c.barriers, 8);
    }
}

#[test]
fn matrix_loads_with_and_without_conflicts() {
    // Rows of 16 bytes: side by side they fill the banks; 128 bytes apart all eight meet in the same four.
    for (pitch, wavefronts) in [(1, 4), (8, 32), (9, 4)] {
        let lab = Lab::new();
        let data: Vec<u32> = (0..128).collect();
        let (out, input) = (lab.room::<u32>(128), lab.put(&data));
        let args = [Ptr(out), Ptr(input), I32(pitch)];
        let counters = lab.counters("matrix_load", [32, 1, 1], 32 * 16 * pitch as u32, &args);
        let line = counters.ptx_lines.values().find(|c| {
            c.shared_bytes == 512 && c.global_load_requests == 0 && c.shared_requests == 1
        });
        assert!(line.is_some());
        assert_eq!(counters.classes["ldmatrix"], 1);
        let stores = wavefronts; // the rows are stored with the same pitch, 16 bytes per lane
        assert_eq!(
            counters.total.shared_wavefronts,
            wavefronts + stores,
            "pitch {pitch}"
        );
    }
}

#[test]
fn both_sides_of_a_branch_cost_and_then_meet_again() {
    let count = |n| {
        let lab = Lab::new();
        let out = lab.room::<i32>(32);
        lab.counters("lanes_apart", [32, 1, 1], 0, &[Ptr(out), I32(n)])
            .total
    };
    let (short, long) = (count(100), count(1100));
    let warp = long.warp_instructions - short.warp_instructions;
    let lanes = long.lane_instructions - short.lane_instructions;
    // Inside the loops half of the lanes run; before and after them all.
    assert_eq!(lanes, 16 * warp);
    assert!(short.lane_efficiency() > 0.5 && short.lane_efficiency() < 0.6);
    let lab = Lab::new();
    let out = lab.room::<i32>(32);
    let counters = lab.counters("lanes_apart", [32, 1, 1], 0, &[Ptr(out), I32(100)]);
    let store = counters
        .ptx_lines
        .values()
        .find(|c| c.global_store_requests > 0)
        .expect("stores");
    assert_eq!(
        (store.global_store_requests, store.global_store_sectors),
        (1, 4),
        "the lanes met before the store"
    );
}

#[test]
fn counters_know_their_source_lines_and_serialise() {
    let lab = Lab::new();
    let (out, input) = (lab.room::<f32>(4), lab.put(&[1f32; 256]));
    let c = lab.counters(
        "reduce_clean",
        [256, 1, 1],
        0,
        &[Ptr(out), Ptr(input), I32(256)],
    );
    assert_eq!(
        (c.blocks, c.threads_per_block, c.total.barriers),
        (1, 256, 8 * 9)
    );
    assert!(c.source_lines.keys().any(|k| k.contains("kernels.cu:")));
    let sum: u64 = c.ptx_lines.values().map(|c| c.warp_instructions).sum();
    assert_eq!(
        (sum, c.classes.values().sum::<u64>()),
        (c.total.warp_instructions, c.total.warp_instructions)
    );
    let json = serde_json::to_value(&c).expect("serialises");
    assert_eq!(json["total"]["barriers"], 72);
}
