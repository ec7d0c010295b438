//! Every planted bug is found and named; its corrected twin is clean.

use cuda_emulator::{ConfigError, FaultKind, LaunchError};

use crate::lab::Arg::{I32, Ptr};
use crate::lab::{Lab, always};

#[test]
fn a_missing_barrier_in_a_reduction_is_a_race() {
    let fault = always(FaultKind::Race, |lab| {
        let data: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        lab.fault(
            "reduce_race",
            4,
            256,
            &[Ptr(lab.room::<f32>(4)), Ptr(lab.put(&data)), I32(1000)],
        )
    });
    assert!(
        fault
            .source
            .as_ref()
            .is_some_and(|(file, line)| file.ends_with("kernels.cu") && (9..20).contains(line)),
        "{fault}"
    );
    assert!(
        fault
            .allocation
            .as_ref()
            .is_some_and(|a| a.contains("shared") && a.contains("1024 bytes")),
        "{fault}"
    );
}

#[test]
fn lanes_of_a_warp_need_a_warp_barrier() {
    always(FaultKind::Race, |lab| {
        lab.fault("warp_race", 1, 32, &[Ptr(lab.room::<i32>(32))])
    });
    let lab = Lab::new();
    let out = lab.room::<i32>(32);
    lab.run("warp_clean", 1, 32, &[Ptr(out)]);
    assert_eq!(
        lab.get::<i32>(out, 32),
        (0..32).map(|t| t ^ 1).collect::<Vec<_>>()
    );
}

#[test]
fn half_a_warps_barrier_orders_that_half_only() {
    let lab = Lab::new();
    let out = lab.room::<i32>(32);
    lab.run("warp_halves", 1, 32, &[Ptr(out), I32(0)]);
    let fault = lab.fault("warp_halves", 1, 32, &[Ptr(out), I32(1)]);
    assert_eq!(fault.kind, FaultKind::Race, "{fault}");
}

#[test]
fn writing_one_value_twice_is_no_race_but_two_values_are() {
    let lab = Lab::new();
    let out = lab.room::<i32>(64);
    lab.run("same_value", 1, 64, &[Ptr(out)]);
    assert_eq!(lab.get::<i32>(out, 64), [7; 64]);
    always(FaultKind::Race, |lab| {
        lab.fault("different_value", 1, 64, &[Ptr(lab.room::<i32>(64))])
    });
}

#[test]
fn races_between_blocks_are_found() {
    always(FaultKind::Race, |lab| {
        lab.fault("global_write_race", 4, 32, &[Ptr(lab.room::<i32>(32))])
    });
    always(FaultKind::Race, |lab| {
        let (data, out) = (lab.put(&[0i32; 128]), lab.room::<i32>(128));
        lab.fault("global_read_race", 4, 32, &[Ptr(data), Ptr(out)])
    });
}

#[test]
fn the_last_block_pattern_needs_its_fence() {
    always(FaultKind::Race, |lab| {
        let (parts, count, out) = (lab.room::<f32>(20), lab.put(&[0u32]), lab.room::<f32>(1));
        lab.fault(
            "last_block_race",
            20,
            64,
            &[Ptr(parts), Ptr(count), Ptr(out)],
        )
    });
}

#[test]
fn a_counter_in_shared_memory_needs_a_barrier_before_it_is_read() {
    let lab = Lab::new();
    let out = lab.room::<i32>(64);
    lab.run("shared_count_clean", 1, 64, &[Ptr(out)]);
    assert_eq!(lab.get::<i32>(out, 64), [64; 64]);
    always(FaultKind::Race, |lab| {
        lab.fault("shared_count_race", 1, 64, &[Ptr(lab.room::<i32>(64))])
    });
}

#[test]
fn off_by_one_is_out_of_bounds() {
    let lab = Lab::new();
    let (out, input) = (lab.room::<f32>(101), lab.put(&[1f32; 100]));
    let fault = lab.fault("copy", 4, 32, &[Ptr(out), Ptr(input), I32(100)]);
    assert_eq!(fault.kind, FaultKind::OutOfBounds, "{fault}");
    assert_eq!(
        (fault.block, fault.thread, fault.address),
        ([3, 0, 0], [4, 0, 0], Some(input + 400))
    );
    assert!(
        fault
            .allocation
            .as_ref()
            .is_some_and(|a| a.contains("`data`") && a.contains("400 bytes")),
        "{fault}"
    );
    lab.run("copy", 4, 32, &[Ptr(out), Ptr(input), I32(99)]);
}

#[test]
fn null_and_wild_pointers_are_out_of_bounds() {
    let lab = Lab::new();
    let input = lab.put(&[1f32; 32]);
    for wild in [0, 16, u64::MAX - 100, 1 << 47] {
        let fault = lab.fault("copy", 1, 32, &[Ptr(wild & !3), Ptr(input), I32(31)]);
        assert_eq!(fault.kind, FaultKind::OutOfBounds, "{fault}");
    }
}

#[test]
fn a_vector_load_off_its_alignment() {
    let lab = Lab::new();
    let (out, input) = (lab.room::<f32>(128), lab.put(&[0i32; 132]));
    assert_eq!(
        lab.fault("copy4", 1, 32, &[Ptr(out), Ptr(input), I32(1)])
            .kind,
        FaultKind::Misaligned
    );
    lab.run("copy4", 1, 32, &[Ptr(out), Ptr(input), I32(4)]);
}

#[test]
fn freed_memory_is_named() {
    let lab = Lab::new();
    let (out, input) = (lab.room::<f32>(32), lab.put(&[1f32; 32]));
    lab.memory.free(input).expect("live");
    let fault = lab.fault("copy", 1, 32, &[Ptr(out), Ptr(input), I32(31)]);
    assert_eq!(fault.kind, FaultKind::UseAfterFree, "{fault}");
    assert!(lab.memory.free(input).is_err(), "a double free");
}

#[test]
fn reads_of_what_nobody_wrote() {
    let lab = Lab::new();
    let (out, input) = (lab.room::<f32>(32), lab.room::<f32>(32));
    assert_eq!(
        lab.fault("copy", 1, 32, &[Ptr(out), Ptr(input), I32(31)])
            .kind,
        FaultKind::Uninitialized
    );
    // One byte is missing.
    lab.memory.write(input, &[0; 127]).expect("allocated");
    let fault = lab.fault("copy", 1, 32, &[Ptr(out), Ptr(input), I32(31)]);
    assert_eq!(
        (fault.kind, fault.thread),
        (FaultKind::Uninitialized, [31, 0, 0])
    );
    let out = lab.room::<i32>(64);
    assert_eq!(
        lab.fault("shared_uninit", 1, 64, &[Ptr(out), I32(63)]).kind,
        FaultKind::Uninitialized
    );
    lab.run("shared_uninit", 1, 64, &[Ptr(out), I32(64)]);
    assert_eq!(
        lab.fault("local_uninit", 1, 32, &[Ptr(out), I32(5), I32(7)])
            .kind,
        FaultKind::Uninitialized
    );
    lab.run("local_uninit", 1, 32, &[Ptr(out), I32(5), I32(9)]);
    // Without the checker the same launch goes through.
    lab_unchecked_reads();
}

fn lab_unchecked_reads() {
    let lab = Lab::new().unchecked();
    let out = lab.room::<i32>(64);
    lab.run("shared_uninit", 1, 64, &[Ptr(out), I32(1)]);
}

#[test]
fn shared_memory_ends_where_it_ends() {
    let lab = Lab::new();
    let out = lab.room::<i32>(64);
    assert_eq!(
        lab.fault("shared_out_of_bounds", 1, 64, &[Ptr(out), I32(1)])
            .kind,
        FaultKind::OutOfBounds
    );
    assert_eq!(
        lab.fault("shared_out_of_bounds", 1, 64, &[Ptr(out), I32(-1)])
            .kind,
        FaultKind::OutOfBounds
    );
    lab.run("shared_out_of_bounds", 1, 64, &[Ptr(out), I32(0)]);
}

#[test]
fn barriers_that_not_everybody_reaches() {
    for kernel in ["divergent_lanes", "divergent_warps", "divergent_branches"] {
        let fault = always(FaultKind::DivergentBarrier, |lab| {
            lab.fault(kernel, 1, 64, &[Ptr(lab.room::<i32>(64))])
        });
        assert!(fault.instruction.starts_with("bar.sync"), "{fault}");
    }
}

#[test]
fn threads_that_left_early_are_not_waited_for() {
    for (block, n) in [(64, 40), (128, 32)] {
        let lab = Lab::new();
        let out = lab.room::<i32>(n as usize);
        lab.run("early_exit", 1, block, &[Ptr(out), I32(n)]);
        assert_eq!(lab.get::<i32>(out, 3), [3; 3]);
    }
}

#[test]
fn masks_that_are_wrong() {
    for kernel in ["mask_without_caller", "mask_of_absent"] {
        always(FaultKind::BadMask, |lab| {
            lab.fault(kernel, 1, 32, &[Ptr(lab.room::<i32>(32))])
        });
    }
}

#[test]
fn copies_that_are_not_waited_for() {
    let launch = |kernel: &'static str| {
        move |lab: &Lab| {
            let data: Vec<i32> = (0..128).collect();
            lab.fault(
                kernel,
                1,
                128,
                &[Ptr(lab.room::<i32>(128)), Ptr(lab.put(&data))],
            )
        }
    };
    always(FaultKind::AsyncHazard, launch("async_early"));
    always(FaultKind::AsyncHazard, launch("async_no_wait"));
    // Waited for, but only by the thread that copied.
    for seed in 0..8 {
        let fault = launch("async_no_barrier")(&Lab::new().seed(seed));
        assert!(
            matches!(
                fault.kind,
                FaultKind::Race | FaultKind::AsyncHazard | FaultKind::Uninitialized
            ),
            "{fault}"
        );
    }
}

#[test]
fn what_never_ends_is_noticed() {
    let lab = Lab::new();
    let flag = lab.put(&[0i32]);
    assert_eq!(
        lab.fault("spin_forever", 3, 64, &[Ptr(flag)]).kind,
        FaultKind::Deadlock
    );
    assert_eq!(
        lab.fault("forever_deep", 1, 32, &[Ptr(flag), I32(0)]).kind,
        FaultKind::StackOverflow
    );
}

#[test]
fn a_trap_names_its_thread() {
    let lab = Lab::new();
    let fault = lab.fault("trap", 1, 32, &[Ptr(lab.room::<i32>(32))]);
    assert_eq!((fault.kind, fault.thread), (FaultKind::Trap, [5, 0, 0]));
}

#[test]
fn the_first_faulting_block_is_reported_whatever_the_workers_do() {
    for seed in 0..8 {
        let lab = Lab::new().seed(seed);
        let (out, input) = (lab.room::<f32>(4096), lab.put(&[1f32; 1000]));
        let fault = lab.fault("copy", 128, 32, &[Ptr(out), Ptr(input), I32(4095)]);
        assert_eq!((fault.block, fault.thread), ([31, 0, 0], [8, 0, 0]));
    }
}

#[test]
fn impossible_launches_are_refused() {
    let lab = Lab::new();
    let refused = |grid, block, shared, args: &[crate::lab::Arg]| match lab
        .try_launch("trap", grid, block, shared, args)
    {
        Err(LaunchError::Config(e)) => e,
        other => panic!("{other:?}"),
    };
    let out = || [Ptr(lab.room::<i32>(32))];
    assert!(matches!(
        refused([1, 1, 1], [1025, 1, 1], 0, &out()),
        ConfigError::Block { .. }
    ));
    assert!(matches!(
        refused([1, 1, 1], [32, 33, 1], 0, &out()),
        ConfigError::Block { .. }
    ));
    assert!(matches!(
        refused([1, 1, 1], [1, 1, 65], 0, &out()),
        ConfigError::Block { .. }
    ));
    assert!(matches!(
        refused([1, 0, 1], [1, 1, 1], 0, &out()),
        ConfigError::Grid { .. }
    ));
    assert!(matches!(
        refused([1, 65536, 1], [1, 1, 1], 0, &out()),
        ConfigError::Grid { .. }
    ));
    assert!(matches!(
        refused([1, 1, 1], [1, 1, 1], 100 << 10, &out()),
        ConfigError::Shared { .. }
    ));
    assert!(matches!(
        refused([1, 1, 1], [1, 1, 1], 0, &[]),
        ConfigError::Parameters { .. }
    ));
    let missing = lab.try_launch("nobody", [1, 1, 1], [1, 1, 1], 0, &[]);
    assert!(matches!(
        missing,
        Err(LaunchError::Config(ConfigError::NoSuchKernel(_)))
    ));
}

#[test]
fn the_last_block_may_overwrite_what_all_blocks_have_read() {
    // Each block reads the counter, arrives, and the last to arrive increments it.
    let body = |fence: &str| {
        format!(
            "
.visible .entry step(.param .u64 counter, .param .u64 arrived, .param .u64 out) {{
    .reg .u64 %c, %a, %o, %w; .reg .u32 %t, %b, %n, %x, %old; .reg .pred %p;
    ld.param.u64 %c, [counter]; ld.param.u64 %a, [arrived]; ld.param.u64 %o, [out];
    mov.u32 %t, %tid.x; mov.u32 %b, %ctaid.x; mov.u32 %n, %nctaid.x; sub.u32 %n, %n, 1;
    ld.global.u32 %x, [%c];
    mul.wide.u32 %w, %b, 4; add.u64 %o, %o, %w; st.global.u32 [%o], %x;
    bar.sync 0;
    setp.ne.u32 %p, %t, 0; @%p ret;
    {fence}
    atom.global.inc.u32 %old, [%a], %n;
    membar.gl;
    setp.ne.u32 %p, %old, %n; @%p ret;
    add.u32 %x, %x, 1; st.global.u32 [%c], %x;
    ret;
}}"
        )
    };
    for seed in 0..8 {
        let lab = Lab::ptx(&body("membar.gl;")).seed(seed);
        let (counter, arrived, out) = (lab.put(&[5u32]), lab.put(&[0u32]), lab.room::<u32>(9));
        for step in 5..8u32 {
            lab.run("step", 9, 96, &[Ptr(counter), Ptr(arrived), Ptr(out)]);
            assert_eq!(lab.get::<u32>(out, 9), [step; 9]);
        }
        assert_eq!(lab.get::<u32>(counter, 1), [8]);
    }
    always(FaultKind::Race, |_| {
        let lab = Lab::ptx(&body(""));
        let (counter, arrived, out) = (lab.put(&[5u32]), lab.put(&[0u32]), lab.room::<u32>(9));
        lab.fault("step", 9, 96, &[Ptr(counter), Ptr(arrived), Ptr(out)])
    });
}
