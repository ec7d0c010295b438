//! Which instruction forms exist: what the assembler takes for sm_86 loads, what it refuses doesn't, and forms that are
//! rarely seen mean what their machine code does.

use cuda_emulator::Module;
use medfusion_toolkit::{Ptxas, ToolkitError};

use crate::lab::Arg::Ptr;
use crate::lab::Lab;

/// A module with one instruction in a kernel that has registers, variables and labels of every kind.
fn module(instruction: &str) -> String {
    format!(
        ".version 8.8\n.target sm_86\n.address_size 64
.global .align 16 .b8 gv[256];
.shared .align 16 .b8 sv[256];
.visible .entry k(.param .align 16 .b8 par[64])
{{
.reg .pred %p<8>; .reg .b16 %h<64>; .reg .b32 %r<64>; .reg .b64 %rd<64>; .reg .b128 %q<8>;
.local .align 16 .b8 lv[256];
{instruction}
ret;
}}\n"
    )
}

/// Neighbours: the first is a form of sm_86, the second differs from it in what the assembler refuses.
const PAIRS: &[(&str, &str)] = &[
    ("ld.global.b16 %h1, [%rd1];", "ld.global.f16 %h1, [%rd1];"),
    (
        "ld.acquire.gpu.u32 %r1, [%rd1];",
        "ld.release.gpu.u32 %r1, [%rd1];",
    ),
    (
        "st.release.gpu.u32 [%rd1], %r1;",
        "st.acquire.gpu.u32 [%rd1], %r1;",
    ),
    (
        "ld.volatile.shared.u32 %r1, [sv];",
        "ld.volatile.local.u32 %r1, [lv];",
    ),
    (
        "ld.mmio.relaxed.sys.global.u32 %r1, [%rd1];",
        "ld.mmio.relaxed.sys.shared.u32 %r1, [sv];",
    ),
    (
        "ld.mmio.relaxed.sys.u32 %r1, [%rd1];",
        "ld.mmio.relaxed.sys.v2.u32 {%r1,%r2}, [%rd1];",
    ),
    ("ld.global.nc.u32 %r1, [%rd1];", "ld.nc.u32 %r1, [%rd1];"),
    (
        "ld.L1::evict_last.u32 %r1, [%rd1];",
        "ld.L2::evict_last.u32 %r1, [%rd1];",
    ),
    (
        "ld.global.L2::128B.u32 %r1, [%rd1];",
        "st.global.L2::128B.u32 [%rd1], %r1;",
    ),
    (
        "ld.global.L1::no_allocate.u32 %r1, [%rd1];",
        "ld.shared.L1::no_allocate.u32 %r1, [sv];",
    ),
    (
        "ld.global.cg.nc.u32 %r1, [%rd1];",
        "ld.global.cg.nc.L1::evict_first.u32 %r1, [%rd1];",
    ),
    ("ldu.global.u32 %r1, [%rd1];", "ldu.shared.u32 %r1, [sv];"),
    (
        "ld.global.v2.u32 {_,%r1}, [%rd1];",
        "ld.global.u32 _, [%rd1];",
    ),
    (
        "st.global.f32 [%rd1], 0f00000000;",
        "st.global.f32 [%rd1], 0;",
    ),
    ("ld.local.u32 %r1, [16];", "ld.global.u32 %r1, [16];"),
    (
        "atom.global.add.noftz.f16 %h1, [%rd1], %h2;",
        "atom.global.add.f16 %h1, [%rd1], %h2;",
    ),
    (
        "atom.global.add.f32 %r1, [%rd1], %r2;",
        "atom.global.add.noftz.f32 %r1, [%rd1], %r2;",
    ),
    (
        "red.release.gpu.global.add.u32 [%rd1], %r2;",
        "red.acquire.gpu.global.add.u32 [%rd1], %r2;",
    ),
    (
        "atom.global.add.L2::cache_hint.u32 %r1, [%rd1], %r2, %rd9;",
        "atom.shared.add.L2::cache_hint.u32 %r1, [sv], %r2, %rd9;",
    ),
    ("cvt.rzi.ftz.s32.f32 %r1, %r2;", "cvt.ftz.s32.s16 %r1, %h2;"),
    ("cvt.rzi.s32.f16 %r1, %h2;", "cvt.rzi.ftz.s32.f16 %r1, %h2;"),
    ("cvt.sat.u8.s32 %h1, %r2;", "cvt.sat.u32.u8 %r1, %h2;"),
    ("cvt.u8.s32 %h1, %r2;", "cvt.rn.u8.s32 %h1, %r2;"),
    ("cvt.rni.f32.f32 %r1, %r2;", "cvt.rn.f32.f32 %r1, %r2;"),
    (
        "cvt.rn.relu.f16.f32 %h1, %r2;",
        "cvt.rm.relu.f16.f32 %h1, %r2;",
    ),
    ("cvt.rn.bf16.f32 %h1, %r2;", "cvt.rn.sat.bf16.f32 %h1, %r2;"),
    ("cvt.rn.f32.s32 %r1, %r2;", "cvt.rn.relu.f32.s32 %r1, %r2;"),
    (
        "cvt.rz.f16x2.f32 %r1, %r2, %r3;",
        "cvt.rm.f16x2.f32 %r1, %r2, %r3;",
    ),
    (
        "cvt.rna.satfinite.tf32.f32 %r1, %r2;",
        "cvt.rna.relu.tf32.f32 %r1, %r2;",
    ),
    (
        "cvt.pack.sat.u8.s32.b32 %r1, %r2, %r3, %r4;",
        "cvt.pack.sat.u8.s32 %r1, %r2, %r3;",
    ),
    (
        "setp.lt.ftz.f32 %p1, %r2, %r3;",
        "setp.lt.ftz.s32 %p1, %r2, %r3;",
    ),
    ("setp.ne.b32 %p1, %r2, %r3;", "setp.lt.b32 %p1, %r2, %r3;"),
    ("setp.hi.u32 %p1, %r2, %r3;", "setp.hi.s32 %p1, %r2, %r3;"),
    (
        "setp.lt.f16x2 %p1|%p2, %r2, %r3;",
        "setp.lt.f16 %p1|%p2, %h2, %h3;",
    ),
    (
        "set.lt.u16.f16 %h1, %h2, %h3;",
        "set.lt.u16.f32 %h1, %r2, %r3;",
    ),
    ("mov.b16 %h1, %h2;", "mov.f16 %h1, %h2;"),
    ("mov.b64 %rd1, {%r1,%r2};", "mov.u64 %rd1, {%r1,%r2};"),
    ("selp.u32 %r1, 1, 0, %p1;", "selp.f32 %r1, 1, 0, %p1;"),
    (
        "slct.ftz.u32.f32 %r1, %r2, %r3, %r4;",
        "slct.ftz.u32.s32 %r1, %r2, %r3, %r4;",
    ),
    ("mov.u32 %r1, %tid.x;", "add.u32 %r1, %tid.x, %r2;"),
    ("add.u32 %r1, %r2, %r3;", "add.b32 %r1, %r2, %r3;"),
    ("mul.lo.s32 %r1, %r2, %r3;", "mul.lo.sat.s32 %r1, %r2, %r3;"),
    (
        "mad.hi.sat.s32 %r1, %r2, %r3, %r4;",
        "mad.wide.sat.s32 %rd1, %r2, %r3, %rd4;",
    ),
    ("add.cc.u32 %r1, %r2, %r3;", "add.cc.u16 %h1, %h2, %h3;"),
    (
        "fma.rn.relu.f16 %h1, %h2, %h3, %h4;",
        "fma.rn.sat.relu.f16 %h1, %h2, %h3, %h4;",
    ),
    (
        "fma.rn.f16 %h1, %h2, %h3, %h4;",
        "fma.f16 %h1, %h2, %h3, %h4;",
    ),
    ("min.ftz.f16 %h1, %h2, %h3;", "min.ftz.bf16 %h1, %h2, %h3;"),
    ("tanh.approx.f32 %r1, %r2;", "tanh.approx.ftz.f32 %r1, %r2;"),
    ("shl.b32 %r1, %r2, %r3;", "shl.u32 %r1, %r2, %r3;"),
    (
        "bmsk.clamp.b32 %r1, %r2, %r3;",
        "bmsk.clamp.u32 %r1, %r2, %r3;",
    ),
    ("bfind.u32 %r1, %r2;", "bfind.b32 %r1, %r2;"),
    (
        "lop3.or.b32 %r1|%p1, %r2, %r3, %r4, 0x3f, %p2;",
        "lop3.xor.b32 %r1|%p1, %r2, %r3, %r4, 0x3f, %p2;",
    ),
    (
        "vadd2.s32.s32.s32.add %r1, %r2, %r3, %r4;",
        "vadd2.s32.s32.s32.sat.add %r1, %r2, %r3, %r4;",
    ),
    (
        "vshl.u32.u32.u32.clamp %r1, %r2, %r3;",
        "vshl.u32.u32.u32 %r1, %r2, %r3;",
    ),
    (
        "vshr.s32.s32.u32.wrap %r1, %r2, %r3;",
        "vshr.s32.s32.s32.wrap %r1, %r2, %r3;",
    ),
    ("barrier.sync.aligned 0;", "bar.sync.aligned 0;"),
    ("bar.warp.sync 0xffffffff;", "barrier.warp.sync 0xffffffff;"),
    ("fence.acq_rel.gpu;", "fence.acq_rel;"),
    ("membar.gl;", "membar.gpu;"),
    ("activemask.b32 %r1;", "activemask.u32 %r1;"),
    (
        "shfl.sync.up.b32 %r1|_, %r2, 1, 31, 0xffffffff;",
        "shfl.sync.up.b32 _|%p1, %r2, 1, 31, 0xffffffff;",
    ),
    (
        "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r1}, [%r9];",
        "ldmatrix.sync.aligned.m8n8.x1.shared.b16 %r1, [%r9];",
    ),
    (
        "mbarrier.arrive.release.cta.shared.b64 %rd1, [sv];",
        "mbarrier.arrive.release.shared.b64 %rd1, [sv];",
    ),
    (
        "mbarrier.test_wait.acquire.cta.shared.b64 %p1, [sv], %rd2;",
        "mbarrier.test_wait.release.cta.shared.b64 %p1, [sv], %rd2;",
    ),
    (
        "cp.async.mbarrier.arrive.shared.b64 [sv];",
        "cp.async.mbarrier.arrive.shared [sv];",
    ),
    (
        "cp.async.ca.shared.global [sv], [%rd1], 8, 4;",
        "cp.async.ca.shared.global [sv], [%rd1], 4, 8;",
    ),
    ("prefetch.global.L2 [%rd1];", "prefetch.global [%rd1];"),
    (
        "discard.global.L2 [%rd1], 128;",
        "discard.global.L2 [%rd1], 64;",
    ),
    (
        "mma.sync.aligned.m8n8k16.row.col.satfinite.s32.s8.s8.s32 {%r1,%r2},{%r3},{%r4},{%r5,%r6};",
        "mma.sync.aligned.m8n8k128.row.col.satfinite.s32.b1.b1.s32.xor.popc {%r1,%r2},{%r3},{%r4},{%r5,%r6};",
    ),
    (
        "wmma.mma.sync.aligned.row.col.m8n8k32.s32.s4.s4.s32 {%r1,%r2},{%r3},{%r4},{%r5,%r6};",
        "wmma.mma.sync.aligned.col.col.m8n8k32.s32.s4.s4.s32 {%r1,%r2},{%r3},{%r4},{%r5,%r6};",
    ),
    (
        "wmma.load.b.sync.aligned.col.m8n8k128.shared.b1 {%r1}, [sv];",
        "wmma.load.b.sync.aligned.row.m8n8k128.shared.b1 {%r1}, [sv];",
    ),
];

/// What the assembler takes although its machine code doesn't do what the text says (README, "What it doesn't model").
const NOT_FOLLOWED: &[&str] = &[
    "fma.rz.bf16 %h1, %h2, %h3, %h4;",
    "fma.rm.relu.bf16 %h1, %h2, %h3, %h4;",
    "fma.rp.bf16x2 %r1, %r2, %r3, %r4;",
    "wmma.mma.sync.aligned.row.col.m16n16k8.s32.s4.s4.s32 {%r1,%r2,%r3,%r4,%r5,%r6,%r7,%r8},{%r9},{%r10},{%r11,%r12,%r13,%r14,%r15,%r16,%r17,%r18};",
    "wmma.mma.sync.aligned.row.col.m16n16k8.rn.f64.f64.f64.f64 {%rd1,%rd2,%rd3,%rd4,%rd5,%rd6,%rd7,%rd8},{%rd9,%rd10,%rd11,%rd12},{%rd13,%rd14,%rd15,%rd16},{%rd1,%rd2,%rd3,%rd4,%rd5,%rd6,%rd7,%rd8};",
];

#[test]
fn neighbours_of_existing_forms_are_refused_by_name() {
    for (good, bad) in PAIRS {
        if let Err(e) = Module::compile(&module(good), "good") {
            panic!("{good}: {e}");
        }
        let Err(e) = Module::compile(&module(bad), "bad") else {
            panic!("{bad}: accepted");
        };
        let name = bad.split([' ', ';']).next().expect("has a name");
        assert!(e.message.contains(name), "{bad}: {e}");
    }
    for text in NOT_FOLLOWED {
        assert!(
            Module::compile(&module(text), "m").is_err(),
            "{text}: accepted"
        );
    }
}

#[test]
fn the_assembler_draws_the_same_line() {
    let Ok(ptxas) = Ptxas::find() else {
        println!("NOT TESTED: ptxas is not installed (cargo xtask setup)");
        return;
    };
    let takes = |instruction: &str| match ptxas.assemble(&module(instruction), (8, 6)) {
        Ok(_) => true,
        Err(ToolkitError::PtxasRefused { .. }) => false,
        Err(error) => panic!("{error}"),
    };
    for (good, bad) in PAIRS {
        assert!(takes(good), "refused by ptxas: {good}");
        assert!(!takes(bad), "taken by ptxas: {bad}");
    }
    for text in NOT_FOLLOWED {
        assert!(takes(text), "refused by ptxas: {text}");
    }
}

/// What 32 threads leave in `%rd1` after the statements.
fn lanes(statements: &str, input: &[u64]) -> Vec<u64> {
    let lab = Lab::ptx(&format!(
        ".global .align 16 .b8 gv[64];
.visible .entry k(.param .u64 out, .param .u64 in) {{
    .reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .b128 %q<2>;
    .shared .align 16 .b8 sv[256];
    ld.param.u64 %rd7, [in]; ld.param.u64 %rd8, [out];
    mov.u32 %r0, %tid.x;
    mad.wide.u32 %rd7, %r0, 8, %rd7;
    mad.wide.u32 %rd8, %r0, 8, %rd8;
    ld.global.u64 %rd0, [%rd7];
    {statements}
    st.global.u64 [%rd8], %rd1;
    ret;
}}"
    ));
    let (out, input) = (lab.room::<u64>(32), lab.put(input));
    lab.run("k", 1, 32, &[Ptr(out), Ptr(input)]);
    lab.get(out, 32)
}

#[test]
fn reciprocals_of_f64_keep_subnormal_numbers_with_ftz_too() {
    let edges = [
        1.0,
        -3.0,
        0.0,
        -0.0,
        f64::INFINITY,
        5e-324,
        -1e-310,
        1e308,
        1.7e308,
    ];
    let input: Vec<u64> = (0..32)
        .map(|l| {
            edges
                .get(l)
                .copied()
                .unwrap_or(1.0 + l as f64 / 7.0)
                .to_bits()
        })
        .collect();
    let want: Vec<u64> = input
        .iter()
        .map(|x| (1.0 / f64::from_bits(*x)).to_bits())
        .collect();
    assert_eq!(lanes("rcp.rn.ftz.f64 %rd1, %rd0;", &input), want);
    // Rounded down and up, the two enclose the exact value, at most one step apart.
    let down = lanes("rcp.rm.ftz.f64 %rd1, %rd0;", &input);
    let up = lanes("rcp.rp.ftz.f64 %rd1, %rd0;", &input);
    for ((down, up), near) in down.iter().zip(&up).zip(&want) {
        let (down, up) = (f64::from_bits(*down), f64::from_bits(*up));
        assert!(
            near == &down.to_bits() || near == &up.to_bits(),
            "{down} {up}"
        );
        assert!(down == up || down.next_up() == up, "{down} {up}");
    }
}

#[test]
fn numbers_may_start_with_their_point() {
    for (text, value) in [
        (".5", 0.5),
        (".25e1", 2.5),
        (".125E-2", 0.00125),
        ("-.5", -0.5),
    ] {
        let got = lanes(&format!("mov.f64 %rd1, {text};"), &[0; 32]);
        assert_eq!(got, [f64::to_bits(value); 32], "{text}");
    }
}

#[test]
fn addresses_are_zero_extended_to_128_bits() {
    let got = lanes(
        "mov.b128 %q0, gv+8; mov.b128 {%rd1, %rd2}, %q0; mov.u64 %rd3, gv;
    sub.u64 %rd1, %rd1, %rd3; shl.b64 %rd2, %rd2, 8; or.b64 %rd1, %rd1, %rd2;",
        &[0; 32],
    );
    assert_eq!(got, [8; 32]);
}

#[test]
fn fragments_of_four_bytes_load_as_floats_too() {
    // Row g, columns 2t and 2t + 1 of an 8×8 matrix (PTX ISA, "Matrix Fragments for wmma").
    for shape in ["m8n8k32", "m8n8k128"] {
        for (layout, row, col) in [("row", 8, 1), ("col", 1, 8)] {
            let got = lanes(
                &format!(
                    "ld.param.u64 %rd5, [in];
    wmma.load.c.sync.aligned.{layout}.{shape}.global.f32 {{%r1, %r2}}, [%rd5];
    wmma.store.d.sync.aligned.{layout}.{shape}.shared.f32 [sv], {{%r1, %r2}};
    bar.sync 0;
    mov.u32 %r3, sv; mad.lo.u32 %r3, %r0, 8, %r3; ld.shared.b64 %rd2, [%r3];
    mov.b64 %rd1, {{%r1, %r2}};
    setp.eq.u64 %p1, %rd2, %rd0; @!%p1 mov.u64 %rd1, 0;"
                )
                .replace("setp", ".reg .pred %p<2>; setp"),
                &(0..32)
                    .map(|i| (2 * i + 1000) | (2 * i + 1001) << 32)
                    .collect::<Vec<u64>>(),
            );
            let element = |r: u64, c: u64| 1000 + r * row + c * col;
            let want: Vec<u64> = (0..32)
                .map(|l| {
                    let (g, t) = (l / 4, l % 4);
                    element(g, 2 * t) | element(g, 2 * t + 1) << 32
                })
                .collect();
            assert_eq!(got, want, "{shape} {layout}");
        }
    }
}

#[test]
fn m8n8k4_of_four_bit_integers_is_m8n8k32() {
    // A row's 32 elements lie in four lanes, eight in each; B's columns likewise.
    let word = |l: u64, salt: u64| (l + 1).wrapping_mul(0x9e37_79b9 + salt) as u32;
    let input: Vec<u64> = (0..32)
        .map(|l| u64::from(word(l, 0)) | u64::from(word(l, 4)) << 32)
        .collect();
    for (ty, signed) in [("s4", true), ("u4", false)] {
        let got = lanes(
            &format!(
                "mov.b64 {{%r1, %r2}}, %rd0; mov.b32 %r3, 7;
    wmma.mma.sync.aligned.col.row.m8n8k4.s32.{ty}.{ty}.s32 {{%r4, %r5}}, {{%r1}}, {{%r2}}, {{%r3, %r0}};
    mov.b64 %rd1, {{%r4, %r5}};"
            ),
            &input,
        );
        let number = |word: u32, n: u64| {
            let bits = (word >> (4 * n) & 15) as i32;
            if signed && bits > 7 { bits - 16 } else { bits }
        };
        let product = |row: u64, col: u64| -> i32 {
            (0..32)
                .map(|k| {
                    number(word(4 * row + k / 8, 0), k % 8)
                        * number(word(4 * col + k / 8, 4), k % 8)
                })
                .sum()
        };
        for (l, got) in (0..32).zip(got) {
            let (row, col) = (l / 4, 2 * (l % 4));
            let want = [product(row, col) + 7, product(row, col + 1) + l as i32];
            assert_eq!([got as i32, (got >> 32) as i32], want, "{ty}, lane {l}");
        }
    }
}
