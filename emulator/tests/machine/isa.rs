//! The rarer corners of the instruction set: what ptxas accepts for sm_86 loads here and means the same.

use cuda_emulator::ptx::LoadErrorKind;
use cuda_emulator::{FaultKind, Module};

use crate::lab::Arg::{I32, Ptr};
use crate::lab::Lab;

/// What 32 threads leave in `%r1` after the statements; `%r0` is the thread's number.
fn lanes(statements: &str) -> Vec<u32> {
    let lab = Lab::ptx(&format!(
        ".global .align 16 .b8 table[64];
.visible .entry k(.param .u64 out) {{
    .reg .b16 %h<4>; .reg .b32 %r<9>; .reg .b64 %d<9>; .reg .b128 %q<3>; .reg .pred %p<4>;
    .shared .align 16 .b8 tile[512];
    mov.u32 %r0, %tid.x;
    {statements}
    ld.param.u64 %d8, [out];
    mad.wide.u32 %d8, %r0, 4, %d8;
    st.global.u32 [%d8], %r1;
    ret;
}}"
    ));
    let out = lab.room::<u32>(32);
    lab.run("k", 1, 32, &[Ptr(out)]);
    lab.get(out, 32)
}

fn of_lane(f: impl Fn(u32) -> u32) -> Vec<u32> {
    (0..32).map(f).collect()
}

#[test]
fn registers_of_128_bits_move_whole_and_in_parts() {
    let got = lanes(
        "cvt.u64.u32 %d1, %r0;
    mov.b64 %d2, {%r0, %r0};
    mov.b128 %q0, {%d1, %d2};
    shl.b32 %r2, %r0, 4;
    cvt.u64.u32 %d3, %r2;
    mov.u64 %d4, tile;
    add.u64 %d4, %d4, %d3;
    st.shared.b128 [%d4], %q0;
    ld.shared.b128 %q1, [%d4];
    mov.b128 %q2, %q1;
    mov.b128 {%r3, %r4, %r5, %r6}, %q2;
    mad.lo.u32 %r1, %r5, 100, %r3;
    add.u32 %r1, %r1, %r4;
    mad.lo.u32 %r1, %r6, 10000, %r1;",
    );
    assert_eq!(got, of_lane(|t| t + 100 * t + 10000 * t));
}

#[test]
fn constant_expressions_are_computed_at_load() {
    for (text, value) in [
        ("(1+2)*4", 12),
        ("((5>>1)|8)", 10),
        ("~5 & 0xff", 250),
        ("!0", 1),
        ("5 > 3 ? 7 : 9", 7),
        ("-2 + 10 / 3 - 1", 0),
        ("1 << 4 ^ 3", 19),
        ("2 == 2 && 1 != 1", 0),
    ] {
        assert_eq!(
            lanes(&format!("mov.u32 %r1, {text};")),
            of_lane(|_| value),
            "{text}"
        );
    }
    let got = lanes(
        "mov.u64 %d1, table + 4*2; mov.u64 %d2, table; sub.u64 %d1, %d1, %d2; cvt.u32.u64 %r1, %d1;",
    );
    assert_eq!(got, of_lane(|_| 8));
}

#[test]
fn alloca_gives_each_call_its_own_bytes_and_restoring_frees_them() {
    let got = lanes(
        "stacksave.u64 %d1;
    cvt.u64.u32 %d2, %r0;
    add.u64 %d2, %d2, 8;
    alloca.u64 %d3, %d2, 16;
    alloca.u64 %d4, 8;
    st.local.u32 [%d3], %r0;
    st.local.u32 [%d4], 1000;
    ld.local.u32 %r2, [%d3];
    ld.local.u32 %r3, [%d4];
    stackrestore.u64 %d1;
    alloca.u64 %d5, 8, 16;
    setp.eq.u64 %p1, %d5, %d3;
    add.u32 %r1, %r2, %r3;
    @!%p1 mov.u32 %r1, 0;",
    );
    assert_eq!(got, of_lane(|t| 1000 + t));
}

#[test]
fn what_alloca_gives_was_not_written() {
    let lab = Lab::ptx(
        ".visible .entry k() { .reg .b64 %d<2>; .reg .b32 %r<2>;
    alloca.u64 %d1, 8;
    ld.local.u32 %r1, [%d1];
    ret; }",
    );
    assert_eq!(lab.fault("k", 1, 32, &[]).kind, FaultKind::Uninitialized);
}

#[test]
fn shared_variables_are_addresses_without_a_state_space() {
    let got = lanes(
        "setp.ne.u32 %p1, %r0, 0;
    @!%p1 st.u32 [tile+4], 77;
    bar.sync 0;
    ld.u32 %r1, [tile+4];",
    );
    assert_eq!(got, of_lane(|_| 77));
}

#[test]
fn one_lane_is_elected() {
    let got = lanes("elect.sync %r2|%p1, 0xffffffff; selp.b32 %r1, 100, %r2, %p1;");
    assert_eq!(got, of_lane(|t| if t == 0 { 100 } else { 0 }));
}

#[test]
fn a_packed_comparison_with_one_predicate_is_that_of_the_low_halves() {
    // 2.0 in the low half, the lane's number as a tiny f16 in the high one.
    let got = lanes(
        "mov.b32 %r2, 0x40004000; shl.b32 %r3, %r0, 16; or.b32 %r3, %r3, 0x4000;
    setp.eq.f16x2 %p1, %r2, %r3; selp.b32 %r1, 1, 0, %p1;",
    );
    assert_eq!(got, of_lane(|_| 1));
}

#[test]
fn whole_names_of_special_registers_are_vectors() {
    let got = lanes("mov.v4.u32 {%r2,%r3,%r4,%r5}, %tid; mad.lo.u32 %r1, %r3, 7, %r2;");
    assert_eq!(got, of_lane(|t| t));
    assert_eq!(lanes("mov.u32 %r1, %pm3;"), of_lane(|_| 0));
}

#[test]
fn what_needs_sm_90_is_refused() {
    for statement in [
        "add.rn.bf16 %h1, %h2, %h3;",
        "mul.bf16x2 %r1, %r2, %r3;",
        "ex2.approx.ftz.bf16 %h1, %h2;",
        "tanh.approx.bf16x2 %r1, %r2;",
        "setp.lt.bf16 %p1, %h1, %h2;",
        "set.lt.bf16.f32 %h1, %r2, %r3;",
        "cvt.rn.bf16.s32 %h1, %r1;",
        "cvt.rzi.s32.bf16 %r1, %h1;",
        "cvt.rn.tf32.f32 %r1, %r2;",
        "ld.relaxed.cluster.global.u32 %r1, [%d1];",
        "atom.add.acq_rel.cluster.global.u32 %r1, [%d1], 1;",
        "mbarrier.arrive.expect_tx.b64 %d1, [%r1], 4;",
        "mbarrier.try_wait.b64 %p1, [%r1], %d1;",
        "prefetch.tensormap [%d1];",
        "barrier.cluster.arrive;",
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%d1, {%r2, %r3}], [%r4];",
        "mma.sp.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%r1,%r1,%r1,%r1},{%r1,%r1},{%r1,%r1},{%r1,%r1,%r1,%r1},%r1,0x2;",
    ] {
        let text = format!(
            ".version 8.8\n.target sm_86\n.address_size 64\n.visible .entry k() {{\n.reg .b16 %h<4>; .reg .b32 %r<5>; .reg .b64 %d<3>; .reg .pred %p<3>;\n{statement}\nret; }}"
        );
        match Module::compile(&text, "m") {
            Err(e) => assert_eq!(e.kind, LoadErrorKind::Unsupported, "{e}"),
            Ok(_) => panic!("accepted: {statement}"),
        }
    }
}

/// One shape of `mma.sp`: types in PTX, bits of an element, k, metadata by halves of a lane, selectors.
struct Sparse {
    types: &'static str,
    bits: u32,
    k: u32,
    halves: bool,
    selectors: u32,
}

const SPARSE: [Sparse; 8] = [
    sparse("f32.f16.f16.f32", 16, 16, true, 4),
    sparse("f32.f16.f16.f32", 16, 32, true, 2),
    sparse("f32.tf32.tf32.f32", 32, 8, true, 4),
    sparse("f32.tf32.tf32.f32", 32, 16, true, 2),
    sparse("s32.s8.s8.s32", 8, 32, false, 2),
    sparse("s32.s8.s8.s32", 8, 64, false, 1),
    sparse("s32.s4.s4.s32", 4, 64, false, 2),
    sparse("s32.s4.s4.s32", 4, 128, false, 1),
];

const fn sparse(types: &'static str, bits: u32, k: u32, halves: bool, selectors: u32) -> Sparse {
    Sparse {
        types,
        bits,
        k,
        halves,
        selectors,
    }
}

/// The bits of a small integer in an element type.
fn encode(types: &str, bits: u32, v: i32) -> u32 {
    match bits {
        32 => (v as f32).to_bits(),
        16 => u32::from(half::f16::from_f32(v as f32).to_bits()),
        _ => {
            assert!(types.starts_with("s32"));
            v as u32 & ((1 << bits) - 1)
        }
    }
}

/// The dense matrix is multiplied in integers; fragments and metadata are laid out as the figures of the PTX ISA
/// ("Matrix fragments for multiply-accumulate operation with sparse matrix A") show them.
#[test]
fn sparse_products_pick_the_elements_that_the_metadata_names() {
    let mut state = 12345u32;
    let mut random = move |n: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % n
    };
    for s in &SPARSE {
        for selector in 0..s.selectors {
            let (k, per) = (s.k as usize, (32 / s.bits) as usize);
            let packed_k = k / 2;
            // Elements of one group of the metadata's four bits, and of one index in it.
            let unit = if s.bits == 4 { 2 } else { 1 };
            let group = match s.bits {
                32 => 2,
                4 => 8,
                _ => 4,
            };
            let mut dense = vec![0i32; 16 * k];
            let mut packed = vec![0i32; 16 * packed_k];
            let mut nibbles = vec![0u32; 16 * (k / group)];
            for row in 0..16 {
                for g in 0..k / group {
                    let picks: Vec<usize> = if s.bits == 32 {
                        let second = random(2) as usize;
                        nibbles[row * (k / group) + g] = [0b0100, 0b1110][second];
                        vec![second]
                    } else {
                        let pair =
                            [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)][random(6) as usize];
                        nibbles[row * (k / group) + g] = (pair.0 | pair.1 << 2) as u32;
                        vec![pair.0, pair.1]
                    };
                    for (n, pick) in picks.iter().enumerate() {
                        for u in 0..unit {
                            let v = random(15) as i32 - 7;
                            dense[row * k + g * group + pick * unit + u] = v;
                            packed[row * packed_k + g * group / 2 + n * unit + u] = v;
                        }
                    }
                }
            }
            let b: Vec<i32> = (0..k * 8).map(|_| random(15) as i32 - 7).collect();
            let (na, nb) = (16 * packed_k / per / 32, k * 8 / per / 32);
            let mut input = Vec::new();
            for lane in 0..32 {
                let (g, t) = (lane / 4, lane % 4);
                for r in 0..na {
                    let (row, col) = (g + 8 * (r % 2), (r / 2) * 4 * per + t * per);
                    input.push((0..per).fold(0, |w, i| {
                        w | encode(s.types, s.bits, packed[row * packed_k + col + i])
                            << (i as u32 * s.bits)
                    }));
                }
                for r in 0..nb {
                    let row = r * 4 * per + t * per;
                    input.push((0..per).fold(0, |w, i| {
                        w | encode(s.types, s.bits, b[(row + i) * 8 + g]) << (i as u32 * s.bits)
                    }));
                }
                let of = |row: usize, first: usize, count: usize| {
                    (0..count).fold(0, |w, n| {
                        w | nibbles[row * (k / group) + first + n] << (4 * n)
                    })
                };
                let groups = k / group;
                input.push(if s.halves {
                    // One lane has four groups of row g below and of row g + 8 above.
                    let words = groups / 4;
                    let first = selector as usize * words;
                    if (first..first + words).contains(&t) {
                        let at = 4 * (t - first);
                        of(g, at, 4) | of(g + 8, at, 4) << 16
                    } else {
                        0xffff_ffff
                    }
                } else {
                    // Eight groups of one row in a lane: row g, row g + 8, and the next columns likewise.
                    let lanes = 2 * groups / 8;
                    let first = selector as usize * lanes;
                    if (first..first + lanes).contains(&t) {
                        let at = t - first;
                        of(g + 8 * (at % 2), 8 * (at / 2), 8)
                    } else {
                        0xffff_ffff
                    }
                });
            }
            let list = |name: &str, n: usize| {
                let names: Vec<String> = (0..n).map(|i| format!("%{name}{i}")).collect();
                format!("{{{}}}", names.join(", "))
            };
            let mut loads = String::new();
            let count = na + nb + 1;
            for (i, name) in (0..na)
                .map(|i| format!("%a{i}"))
                .chain((0..nb).map(|i| format!("%b{i}")))
                .chain([String::from("%e0")])
                .enumerate()
            {
                loads += &format!("ld.global.b32 {name}, [%d1+{}];\n", 4 * i);
            }
            let lab = Lab::ptx(&format!(
                ".visible .entry k(.param .u64 out, .param .u64 in) {{
    .reg .b32 %a<4>; .reg .b32 %b<4>; .reg .b32 %c<4>; .reg .b32 %e<1>; .reg .b32 %r<2>; .reg .b64 %d<3>;
    mov.u32 %r0, %laneid;
    ld.param.u64 %d1, [in]; mad.wide.u32 %d1, %r0, {}, %d1;
    ld.param.u64 %d2, [out]; mad.wide.u32 %d2, %r0, 16, %d2;
    {loads}
    mov.b32 %c0, 0; mov.b32 %c1, 0; mov.b32 %c2, 0; mov.b32 %c3, 0;
    mma.sp.sync.aligned.m16n8k{k}.row.col.{} {}, {}, {}, {}, %e0, {selector};
    st.global.v4.b32 [%d2], {};
    ret; }}",
                4 * count,
                s.types,
                list("c", 4),
                list("a", na),
                list("b", nb),
                list("c", 4),
                list("c", 4),
            ));
            let (out, input) = (lab.room::<u32>(128), lab.put(&input));
            lab.run("k", 1, 32, &[Ptr(out), Ptr(input)]);
            for (lane, quad) in lab.get::<u32>(out, 128).chunks(4).enumerate() {
                for (n, word) in quad.iter().enumerate() {
                    let (row, col) = (lane / 4 + 8 * (n / 2), 2 * (lane % 4) + n % 2);
                    let want: i32 = (0..k).map(|i| dense[row * k + i] * b[i * 8 + col]).sum();
                    let got = if s.types.starts_with("f32") {
                        f32::from_bits(*word) as i32
                    } else {
                        *word as i32
                    };
                    assert_eq!(
                        got, want,
                        "{} k {k} selector {selector}, row {row}, column {col}",
                        s.types
                    );
                }
            }
        }
    }
}

#[test]
fn a_read_before_its_unordered_write_is_a_race_and_not_uninitialised() {
    // Every schedule: the neighbour's write comes before the read, or after it.
    for (barrier, expected) in [("", Some(FaultKind::Race)), ("bar.sync 0;", None)] {
        for seed in 0..16 {
            let lab = Lab::ptx(&format!(
                ".visible .entry k(.param .u64 out) {{
    .reg .b32 %r<9>; .reg .b64 %d<2>;
    .shared .align 4 .b8 tile[512];
    mov.u32 %r0, %tid.x; shl.b32 %r1, %r0, 2;
    mov.u32 %r2, tile; add.u32 %r3, %r2, %r1;
    st.shared.u32 [%r3], %r0;
    {barrier}
    xor.b32 %r4, %r1, 256; add.u32 %r4, %r2, %r4;
    ld.shared.u32 %r5, [%r4];
    ld.param.u64 %d1, [out]; cvt.u64.u32 %d0, %r1; add.u64 %d1, %d1, %d0;
    st.global.u32 [%d1], %r5; ret; }}"
            ))
            .seed(seed);
            let out = lab.room::<u32>(128);
            match lab.try_launch("k", [1; 3], [128, 1, 1], 0, &[Ptr(out)]) {
                Ok(_) => assert_eq!(None, expected, "seed {seed}"),
                Err(cuda_emulator::LaunchError::Fault(f)) => {
                    assert_eq!(Some(f.kind), expected, "seed {seed}: {f}")
                }
                Err(e) => panic!("{e}"),
            }
        }
    }
}

#[test]
fn what_another_block_writes_too_late_is_a_race_and_what_nobody_writes_is_not() {
    // Each block writes its own word of a fresh buffer and reads one `step` further on.
    let text = ".visible .entry k(.param .u64 out, .param .u64 room, .param .u32 step) {
    .reg .b32 %r<9>; .reg .b64 %d<4>; .reg .pred %p<2>;
    mov.u32 %r0, %ctaid.x; ld.param.u64 %d1, [room]; ld.param.u32 %r1, [step];
    mad.wide.u32 %d2, %r0, 4, %d1; st.global.u32 [%d2], %r0;
    add.u32 %r2, %r0, %r1; mad.wide.u32 %d2, %r2, 4, %d1; ld.global.u32 %r3, [%d2];
    ld.param.u64 %d1, [out]; mad.wide.u32 %d2, %r0, 4, %d1; st.global.u32 [%d2], %r3; ret; }";
    for seed in 0..8 {
        for (step, kind) in [(1, FaultKind::Race), (8, FaultKind::Uninitialized)] {
            let lab = Lab::ptx(text).seed(seed);
            let (out, room) = (lab.room::<u32>(8), lab.room::<u32>(16));
            // The last block reads what no block writes; the other blocks race.
            let fault = lab.fault("k", 8, 1, &[Ptr(out), Ptr(room), I32(step)]);
            assert_eq!(fault.kind, kind, "seed {seed}: {fault}");
        }
    }
}

#[test]
fn a_release_covers_its_own_write_and_nothing_after_it() {
    // Warp 0 releases a flag; warp 1 acquires it and clears it with a plain store, or writes what warp 0 writes later.
    let release = [
        ("global", "st.release.gpu.global.u32 [%d1], 1;"),
        ("global", "red.release.gpu.global.add.u32 [%d1], 1;"),
        ("shared", "st.release.cta.shared.u32 [%d1], 1;"),
        ("shared", "atom.release.cta.shared.add.u32 %r1, [%d1], 1;"),
    ];
    for (space, release) in release {
        for (cleared, later) in [("[%d1]", None), ("[%d1+8]", Some(FaultKind::Race))] {
            for seed in 0..8 {
                let variable = if space == "global" { "flags" } else { "tile" };
                let lab = Lab::ptx(&format!(
                    ".global .align 16 .b8 flags[64];
.visible .entry k() {{
    .reg .b32 %r<9>; .reg .b64 %d<3>; .reg .pred %p<4>;
    .shared .align 16 .b8 tile[64];
    mov.u32 %r0, %tid.x; mov.u64 %d1, {variable};
    setp.eq.u32 %p0, %r0, 0; setp.eq.u32 %p1, %r0, 32;
    @%p0 st.{space}.u32 [%d1], 0; @%p0 st.{space}.u32 [%d1+4], 0;
    bar.sync 0;
    @%p0 bra WRITE; @%p1 bra READ; bra DONE;
WRITE: st.{space}.u32 [%d1+4], 7; {release} st.{space}.u32 [%d1+8], 5; bra DONE;
READ: ld.acquire.gpu.{space}.u32 %r2, [%d1]; setp.eq.u32 %p2, %r2, 0; @%p2 bra READ;
    ld.{space}.u32 %r3, [%d1+4]; st.{space}.u32 [%d1+4], 8; st.{space}.u32 {cleared}, 0;
DONE: ret; }}"
                ))
                .seed(seed);
                match lab.try_launch("k", [1; 3], [64, 1, 1], 0, &[]) {
                    Ok(_) => assert_eq!(None, later, "{release} seed {seed}"),
                    Err(cuda_emulator::LaunchError::Fault(f)) => {
                        assert_eq!(Some(f.kind), later, "{release} seed {seed}: {f}")
                    }
                    Err(e) => panic!("{e}"),
                }
            }
        }
    }
}
