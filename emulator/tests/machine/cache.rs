//! DRAM bytes behind the 6 MB cache, and `discard`, against values computed by hand.

use cuda_emulator::{Counts, FaultKind};

use crate::lab::Arg::{I32, Ptr};
use crate::lab::{Arg, Lab};

const MIB: usize = 1 << 20;

/// One block of threads reads `words` words of `data` together, 16 bytes per thread and step, `passes` times, and writes
/// the sum to `out`.
const WALK: &str = "
.visible .entry walk(.param .u64 out, .param .u64 data, .param .u32 words, .param .u32 passes) {
    .reg .u64 %o, %d, %a, %w; .reg .u32 %t, %n, %p, %i, %s, %x<4>, %step; .reg .pred %q;
    ld.param.u64 %o, [out]; ld.param.u64 %d, [data]; ld.param.u32 %n, [words]; ld.param.u32 %p, [passes];
    mov.u32 %t, %tid.x; mov.u32 %step, %ntid.x; shl.b32 %step, %step, 2; mov.u32 %s, 0;
again:
    shl.b32 %i, %t, 2;
next:
    mul.wide.u32 %w, %i, 4; add.u64 %a, %d, %w;
    ld.global.v4.u32 {%x0, %x1, %x2, %x3}, [%a];
    add.u32 %s, %s, %x0; add.u32 %s, %s, %x3;
    bar.sync 0;
    add.u32 %i, %i, %step; setp.lt.u32 %q, %i, %n; @%q bra next;
    sub.u32 %p, %p, 1; setp.ne.u32 %q, %p, 0; @%q bra again;
    mul.wide.u32 %w, %t, 4; add.u64 %a, %o, %w; st.global.u32 [%a], %s;
    ret;
}";

/// Each thread writes its number `times` times to word `stride` times its number.
const WRITE: &str = "
.visible .entry write(.param .u64 out, .param .u32 stride, .param .u32 times) {
    .reg .u64 %o, %w; .reg .u32 %t, %s, %n; .reg .pred %q;
    ld.param.u64 %o, [out]; ld.param.u32 %s, [stride]; ld.param.u32 %n, [times];
    mov.u32 %t, %tid.x; mul.lo.u32 %s, %s, %t; mul.wide.u32 %w, %s, 4; add.u64 %o, %o, %w;
next:
    st.volatile.global.u32 [%o], %t;
    sub.u32 %n, %n, 1; setp.ne.u32 %q, %n, 0; @%q bra next;
    ret;
}";

fn total(lab: &Lab, kernel: &str, threads: u32, args: &[Arg]) -> Counts {
    lab.counters(kernel, [threads, 1, 1], 0, args).total
}

#[test]
fn what_fits_is_read_once_and_what_does_not_each_time() {
    // 1 MiB stays in the cache between the passes; of 24 MiB, four times the cache, nothing does.
    for (size, passes, reads) in [(1, 3, 1), (24, 1, 24), (24, 2, 48)] {
        let lab = Lab::ptx(WALK);
        let (out, data) = (lab.room::<u32>(1024), lab.put(&vec![1u32; size * MIB / 4]));
        let args = [
            Ptr(out),
            Ptr(data),
            I32((size * MIB / 4) as i32),
            I32(passes),
        ];
        let c = total(&lab, "walk", 1024, &args);
        assert_eq!(
            c.dram_read_bytes,
            (reads * MIB) as u64,
            "{size} MiB, {passes} times"
        );
        assert_eq!(c.dram_write_bytes, 4096);
    }
}

#[test]
fn a_dirty_sector_goes_back_once_and_whole() {
    for (stride, times, bytes) in [
        // 1024 words side by side, once or again and again.
        (1, 1, 4096),
        (1, 10, 4096),
        // A word of every second sector, and of every line: nothing is read to fill the rest.
        (16, 1, 32 * 1024),
        (32, 3, 32 * 1024),
    ] {
        let lab = Lab::ptx(WRITE);
        let out = lab.room::<u32>(1024 * stride as usize);
        let c = total(&lab, "write", 1024, &[Ptr(out), I32(stride), I32(times)]);
        assert_eq!(
            (c.dram_read_bytes, c.dram_write_bytes),
            (0, bytes),
            "stride {stride}, {times} times"
        );
    }
}

#[test]
fn an_eviction_writes_back() {
    // One block writes 24 MiB twice. Each time all of it goes to DRAM, as it leaves the cache or at the end.
    let body = WALK
        .replace(
            "ld.global.v4.u32 {%x0, %x1, %x2, %x3}, [%a];",
            "st.global.v4.u32 [%a], {%t, %t, %t, %t};",
        )
        .replace("add.u32 %s, %s, %x0; add.u32 %s, %s, %x3;", "");
    for passes in [1, 2] {
        let lab = Lab::ptx(&body);
        let (out, data) = (lab.room::<u32>(1024), lab.room::<u32>(24 * MIB / 4));
        let args = [Ptr(out), Ptr(data), I32((24 * MIB / 4) as i32), I32(passes)];
        let c = total(&lab, "walk", 1024, &args);
        let written = passes as u64 * 24 * MIB as u64 + 4096;
        assert_eq!((c.dram_read_bytes, c.dram_write_bytes), (0, written));
    }
}

#[test]
fn atomics_read_and_write_their_sector() {
    let lab = Lab::ptx(
        "
.visible .entry add(.param .u64 sum) {
    .reg .u64 %o; ld.param.u64 %o, [sum]; red.global.add.u32 [%o], 1; ret;
}",
    );
    let sum = lab.put(&[0u32]);
    let c = total(&lab, "add", 1024, &[Ptr(sum)]);
    assert_eq!(lab.get::<u32>(sum, 1), [1024]);
    assert_eq!(
        (c.atomics, c.dram_read_bytes, c.dram_write_bytes),
        (1024, 32, 32)
    );
}

#[test]
fn asynchronous_copies_are_loads() {
    let lab = Lab::ptx(
        "
.visible .entry copy(.param .u64 out, .param .u64 data) {
    .shared .align 16 .b8 tile[4096];
    .reg .u64 %o, %d, %w; .reg .u32 %t, %a, %x; 
    ld.param.u64 %o, [out]; ld.param.u64 %d, [data];
    mov.u32 %t, %tid.x; mul.wide.u32 %w, %t, 16; add.u64 %d, %d, %w;
    mov.u32 %a, tile; mad.lo.u32 %a, %t, 16, %a;
    cp.async.cg.shared.global [%a], [%d], 16;
    cp.async.commit_group; cp.async.wait_group 0;
    ld.shared.u32 %x, [%a];
    mul.wide.u32 %w, %t, 4; add.u64 %o, %o, %w; st.global.u32 [%o], %x;
    ret;
}",
    );
    let (out, data) = (lab.room::<u32>(256), lab.put(&[7u32; 1024]));
    let c = total(&lab, "copy", 256, &[Ptr(out), Ptr(data)]);
    assert_eq!(
        (
            c.global_load_requests,
            c.global_load_sectors,
            c.global_load_sectors_ideal
        ),
        (8, 128, 128)
    );
    assert_eq!((c.dram_read_bytes, c.dram_write_bytes), (4096, 1024));
}

#[test]
fn sectors_of_a_broadcast_and_of_a_shifted_vector() {
    let lab = |index: &str| {
        Lab::ptx(&format!(
            "
.visible .entry load(.param .u64 out, .param .u64 data) {{
    .reg .u64 %o, %d, %w; .reg .u32 %t, %i, %x<4>;
    ld.param.u64 %o, [out]; ld.param.u64 %d, [data];
    mov.u32 %t, %tid.x; {index} mul.wide.u32 %w, %i, 16; add.u64 %d, %d, %w;
    ld.global.v4.u32 {{%x0, %x1, %x2, %x3}}, [%d];
    mul.wide.u32 %w, %t, 4; add.u64 %o, %o, %w; st.global.u32 [%o], %x0;
    ret;
}}"
        ))
    };
    for (index, touched, ideal) in [
        // All lanes the same 16 bytes: half a sector.
        ("mov.u32 %i, 3;", 1, 1),
        // 512 bytes that begin in the middle of a sector.
        ("add.u32 %i, %t, 1;", 17, 16),
        // Pairs of lanes share their 16 bytes: 256 distinct bytes.
        ("shr.u32 %i, %t, 1;", 8, 8),
        // Half of each sector.
        ("shl.b32 %i, %t, 1;", 32, 16),
    ] {
        let lab = lab(index);
        let (out, data) = (lab.room::<u32>(32), lab.put(&[1u32; 1024]));
        let c = total(&lab, "load", 32, &[Ptr(out), Ptr(data)]);
        let loads = (
            c.global_load_requests,
            c.global_load_sectors,
            c.global_load_sectors_ideal,
        );
        assert_eq!(loads, (1, touched, ideal), "{index}");
        assert_eq!(c.dram_read_bytes, 32 * touched);
    }
}

/// Each thread writes four words; after a barrier the first `lines` threads discard a line each, and after another the
/// thread whose number is `reader` reads its first word.
const DISCARD: &str = "
.visible .entry discard(.param .u64 data, .param .u32 lines, .param .u32 reader, .param .u32 shift) {
    .reg .u64 %d, %w, %a, %k; .reg .u32 %t, %l, %r, %s, %x; .reg .pred %q;
    ld.param.u64 %d, [data]; ld.param.u32 %l, [lines]; ld.param.u32 %r, [reader]; ld.param.u32 %s, [shift];
    mov.u32 %t, %tid.x; mul.wide.u32 %w, %t, 16; add.u64 %a, %d, %w;
    st.global.v4.u32 [%a], {%t, %t, %t, %t};
    BARRIER
    mul.wide.u32 %w, %t, 128; add.u64 %k, %d, %w; cvt.u64.u32 %w, %s; add.u64 %k, %k, %w;
    setp.lt.u32 %q, %t, %l;
    @%q discard.global.L2 [%k], 128;
    bar.sync 0;
    setp.eq.u32 %q, %t, %r;
    @%q ld.global.u32 %x, [%a];
    @%q st.global.u32 [%a], %x;
    ret;
}";

fn discarding() -> Lab {
    Lab::ptx(&DISCARD.replace("BARRIER", "bar.sync 0;"))
}

#[test]
fn discarded_lines_never_reach_memory() {
    const NOBODY: i32 = 1 << 20;
    // 256 threads write 4 KiB, 32 lines.
    for lines in [0, 1, 20, 32] {
        let lab = discarding();
        let data = lab.room::<u32>(1024);
        let args = [Ptr(data), I32(lines), I32(NOBODY), I32(0)];
        let c = total(&lab, "discard", 256, &args);
        let left = 4096 - 128 * lines as u64;
        assert_eq!(
            (c.dram_read_bytes, c.dram_write_bytes),
            (0, left),
            "{lines} lines"
        );
        assert_eq!(
            lab.memory.first_uninit(data, 4096),
            (lines > 0).then_some(data)
        );
        let rest = data + 128 * lines as u64;
        assert_eq!(lab.memory.first_uninit(rest, left), None);
    }
}

#[test]
fn a_discarded_word_is_one_that_nobody_wrote() {
    let lab = discarding();
    let data = lab.room::<u32>(1024);
    // Thread 80 reads from line 10.
    let args = |lines| [Ptr(data), I32(lines), I32(80), I32(0)];
    let fault = lab.fault("discard", 1, 256, &args(11));
    assert_eq!(fault.kind, FaultKind::Uninitialized, "{fault}");
    lab.run("discard", 1, 256, &args(10));
}

#[test]
fn discarding_takes_whole_lines_inside_an_allocation() {
    const NOBODY: i32 = 1 << 20;
    let lab = discarding();
    let data = lab.room::<u32>(1024);
    let fault = lab.fault(
        "discard",
        1,
        256,
        &[Ptr(data), I32(1), I32(NOBODY), I32(64)],
    );
    assert_eq!(fault.kind, FaultKind::Misaligned, "{fault}");
    let fault = lab.fault(
        "discard",
        1,
        256,
        &[Ptr(data), I32(33), I32(NOBODY), I32(0)],
    );
    assert_eq!(fault.kind, FaultKind::OutOfBounds, "{fault}");
}

#[test]
fn discarding_is_a_write_to_the_race_checker() {
    const NOBODY: i32 = 1 << 20;
    for seed in 0..8 {
        let lab = Lab::ptx(&DISCARD.replace("BARRIER", "")).seed(seed);
        let data = lab.room::<u32>(1024);
        let fault = lab.fault(
            "discard",
            1,
            256,
            &[Ptr(data), I32(32), I32(NOBODY), I32(0)],
        );
        assert_eq!(fault.kind, FaultKind::Race, "seed {seed}: {fault}");
    }
}

#[test]
fn a_generic_discard_finds_global_memory_only() {
    let generic = |setup: &str| {
        Lab::ptx(&format!(
            "
.visible .entry k(.param .u64 data, .param .u32 again) {{
    .shared .align 128 .b8 tile[128];
    .reg .u64 %d, %a; .reg .u32 %n; .reg .pred %q;
    ld.param.u64 %d, [data]; ld.param.u32 %n, [again];
    st.global.u32 [%d], 1; st.global.u32 [%d+32], 1; st.global.u32 [%d+128], 1;
    {setup}
    discard.L2 [%a], 128;
    setp.ne.u32 %q, %n, 0;
    @%q st.global.u32 [%d], 2;
    ret;
}}"
        ))
    };
    // Of three sectors written, two in the first line, the last stays; what is written anew after the discard goes back.
    for (again, left) in [(0, 32), (1, 64)] {
        let lab = generic("mov.u64 %a, %d;");
        let data = lab.room::<u32>(64);
        let c = total(&lab, "k", 1, &[Ptr(data), I32(again)]);
        assert_eq!((c.dram_read_bytes, c.dram_write_bytes), (0, left));
        if again == 1 {
            assert_eq!(lab.get::<u32>(data, 1), [2]);
        }
    }
    let lab = generic("cvta.shared.u64 %a, tile;");
    let data = lab.room::<u32>(64);
    let fault = lab.fault("k", 1, 1, &[Ptr(data), I32(0)]);
    assert_eq!(fault.kind, FaultKind::OutOfBounds, "{fault}");
}

#[test]
fn every_launch_begins_with_an_empty_cache() {
    let lab = Lab::ptx(WALK);
    let (out, data) = (lab.room::<u32>(1024), lab.put(&vec![1u32; MIB / 4]));
    let args = [Ptr(out), Ptr(data), I32((MIB / 4) as i32), I32(1)];
    for _ in 0..2 {
        let c = total(&lab, "walk", 1024, &args);
        assert_eq!((c.dram_read_bytes, c.dram_write_bytes), (MIB as u64, 4096));
    }
}

/// Whether a kernel of one statement on `%d`, a pointer to global memory, loads; if not, the message.
fn loads(statement: &str) -> Result<(), String> {
    let text = format!(
        ".version 8.0\n.target sm_86\n.address_size 64\n.visible .entry k(.param .u64 data) {{ .reg .u64 %d; ld.param.u64 %d, [data]; {statement} ret; }}"
    );
    match cuda_emulator::Module::compile(&text, "test") {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn cache_hints_have_the_forms_that_ptxas_takes() {
    for statement in [
        "prefetch.L1 [%d];",
        "prefetch.global.L2 [%d+4];",
        "prefetch.local.L1 [%d];",
        "prefetch.L2::evict_last [%d];",
        "prefetch.global.L2::evict_normal [%d];",
        "prefetchu.L1 [%d];",
        "applypriority.L2::evict_normal [%d], 128;",
        "applypriority.global.L2::evict_normal [%d], 128;",
        "discard.L2 [%d], 128;",
        "discard.global.L2 [%d+128], 128;",
    ] {
        assert_eq!(loads(statement), Ok(()), "{statement}");
    }
    for statement in [
        "prefetch.global [%d];",
        "prefetch.global.L3 [%d];",
        "prefetch.global.L1.L2 [%d];",
        "prefetch.global.L2 [%d], 128;",
        "prefetch.global.L2::evict_first [%d];",
        "prefetch.local.L2::evict_last [%d];",
        "prefetch.shared.L1 [%d];",
        "prefetch.global.L1 [%nowhere];",
        "prefetchu.L2 [%d];",
        "prefetchu.L2::evict_last [%d];",
        "prefetchu.global.L1 [%d];",
        "applypriority.global.L2 [%d], 128;",
        "applypriority.global.L2::evict_last [%d], 128;",
        "applypriority.global.L2::evict_normal [%d], 64;",
        "applypriority.global.L2::evict_normal [%d];",
        "applypriority.local.L2::evict_normal [%d], 128;",
        "discard.global.L1 [%d], 128;",
        "discard.global.L2 [%d], 64;",
        "discard.global.L2 [%d];",
        "discard.global.L2.L2 [%d], 128;",
        "discard.shared.L2 [%d], 128;",
    ] {
        let error = loads(statement).expect_err(statement);
        let named = statement.split('.').next().unwrap_or_default();
        assert!(
            error.contains(named) || error.contains("nowhere"),
            "{statement}: {error}"
        );
    }
}

#[test]
fn hints_touch_nothing() {
    // An address outside all allocations is no fault, nor is memory that was never written; nothing is read.
    let lab = Lab::ptx(
        "
.visible .entry k(.param .u64 data) {
    .reg .u64 %d, %z; ld.param.u64 %d, [data]; mov.u64 %z, 64;
    prefetch.global.L2 [%z]; prefetch.L1 [%z]; prefetchu.L1 [%d];
    prefetch.global.L2::evict_last [%d]; applypriority.global.L2::evict_normal [%d], 128;
    ret;
}",
    );
    let data = lab.room::<u32>(32);
    let c = total(&lab, "k", 32, &[Ptr(data)]);
    assert_eq!((c.global_load_requests, c.dram_read_bytes), (0, 0));
    assert_eq!(c.dram_write_bytes, 0);
    assert_eq!(lab.memory.first_uninit(data, 128), Some(data));
}
