//! What the front end takes, what it refuses, and that nothing makes it panic.

use cuda_emulator::ptx::LoadErrorKind;
use cuda_emulator::{LoadError, Module};
use proptest::prelude::*;

const HEADER: &str = ".version 8.0\n.target sm_86\n.address_size 64\n";

fn refused(body: &str) -> LoadError {
    match Module::compile(&format!("{HEADER}{body}"), "m") {
        Err(e) => e,
        Ok(_) => panic!("accepted: {body}"),
    }
}

fn kernel(statements: &str) -> String {
    format!(
        ".visible .entry k() {{\n.reg .b32 %r<5>; .reg .f32 %f<5>; .reg .b64 %d<5>; .reg .pred %p<5>;\n{statements}\nret; }}"
    )
}

#[test]
fn what_is_not_known_is_named_with_its_line() {
    for (statement, kind, word) in [
        (
            "frobnicate.u32 %r1, %r2;",
            LoadErrorKind::Unsupported,
            "frobnicate",
        ),
        (
            "add.cute.s32 %r1, %r2, %r3;",
            LoadErrorKind::Unsupported,
            ".cute",
        ),
        ("add.e4m3 %r1, %r2, %r3;", LoadErrorKind::Operand, "add"),
        ("add.s32 %r1, %r2, %r9;", LoadErrorKind::Unresolved, "%r9"),
        ("add.s32 %r1, %r2, %d1;", LoadErrorKind::Operand, "%d1"),
        ("bra NOWHERE;", LoadErrorKind::Unresolved, "NOWHERE"),
        (
            "tex.2d.v4.f32.f32 {%f1,%f2,%f3,%f4}, [%d1, {%f1,%f2}];",
            LoadErrorKind::Unsupported,
            "tex.2d.v4.f32.f32",
        ),
        (
            "wgmma.fence.sync.aligned;",
            LoadErrorKind::Unsupported,
            "wgmma",
        ),
        (
            "cp.async.bulk.commit_group;",
            LoadErrorKind::Unsupported,
            "bulk",
        ),
        (
            "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%f1,%f1,%f1,%f1},{%r1,%r1,%r1,%r1},{%r1,%r1},{%f1,%f1,%f1,%f1};",
            LoadErrorKind::Unsupported,
            "mma",
        ),
        ("min.f64 %d1, %d2;", LoadErrorKind::Operand, "min"),
        (
            "fma.f32 %f1, %f2, %f3, %f4;",
            LoadErrorKind::Operand,
            "rounding",
        ),
        ("ld.global.u32 %r1, %d1;", LoadErrorKind::Operand, "address"),
        (
            "call (%r1), missing, (%r2);",
            LoadErrorKind::Unresolved,
            "missing",
        ),
    ] {
        let e = refused(&kernel(statement));
        assert_eq!((e.kind, e.line), (kind, 6), "{e}");
        assert!(e.message.contains(word), "{e}");
    }
}

#[test]
fn newer_targets_and_32_bit_addresses_are_refused() {
    for text in [
        ".version 8.0\n.target sm_90\n",
        ".version 8.0\n.target sm_80\n.address_size 32\n",
    ] {
        assert!(
            Module::compile(text, "m").is_err_and(|e| e.kind == LoadErrorKind::Unsupported),
            "{text}"
        );
    }
    assert!(Module::compile(".version 8.0\n.target sm_89\n.address_size 64\n", "m").is_ok());
    assert!(Module::compile("", "m").is_err_and(|e| e.kind == LoadErrorKind::Syntax));
    assert!(
        Module::compile(
            ".version 7.0\n.target sm_52, debug\n.address_size 64\n",
            "m"
        )
        .is_ok()
    );
}

#[test]
fn parameters_shared_memory_and_directives_are_reported() {
    let text = format!(
        "{HEADER}.extern .shared .align 16 .b8 dynamic[];\n.const .align 4 .u32 c[3] = {{1, 2}};\n.global .f32 g = 0f3F800000;\n
        .visible .entry k(.param .u32 a, .param .align 16 .b8 b[20], .param .u64 .ptr .global .align 4 c1)
        .maxntid 128, 2, 1 .minnctapersm 2 {{ .shared .align 8 .b8 s[100]; .local .align 8 .b8 l[40]; .reg .b64 %d; .reg .b32 %r<2>;
          mov.u64 %d, s; mov.u64 %d, dynamic; mov.u64 %d, l; ret; }}"
    );
    let m = Module::compile(&text, "m").unwrap_or_else(|e| panic!("{e}"));
    let k = m.kernel("k").expect("declared");
    let params: Vec<_> = k
        .parameters
        .iter()
        .map(|p| (p.offset, p.size, p.align))
        .collect();
    assert_eq!(params, [(0, 4, 4), (16, 20, 16), (40, 8, 8)]);
    assert_eq!(
        (
            k.parameter_bytes,
            k.static_shared_bytes,
            k.local_bytes,
            k.const_bytes
        ),
        (48, 112, 48, 12)
    );
    assert_eq!(
        (k.max_threads, k.min_blocks_per_sm),
        (Some([128, 2, 1]), Some(2))
    );
    assert_eq!(m.globals()[0].bytes, [1, 0, 0, 0, 2, 0, 0, 0]);
    assert_eq!(m.globals()[1].bytes, 1f32.to_le_bytes());
}

#[test]
fn addresses_in_initialisers_are_relocated() {
    let lab = crate::lab::Lab::ptx(
        ".global .align 8 .u64 p[3] = {generic(x)+4, x, 0};
         .global .align 4 .u32 x[2] = {7, 9};
         .global .align 1 .b8 bytes[8] = {0xff(x), 0xff00(x), 0xff0000(x), 0xff000000(x), 0xff00000000(x), 0xff0000000000(x), 0, 0};
         .visible .entry k() { ret; }",
    );
    // A forward reference and byte-wise addresses.
    let address = |name| lab.instance.global(name).expect("declared").0;
    let p = lab.get::<u64>(address("p"), 3);
    assert_eq!(p, [address("x") + 4, address("x"), 0]);
    assert_eq!(lab.get::<u64>(address("bytes"), 1)[0], address("x"));
}

/// Random cases of a property: as many as a change can wait for, or what `PROPTEST_CASES` says (`cargo xtask soak`).
fn cases(usual: u32) -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(usual)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(300), ..ProptestConfig::default() })]

    /// Damaged PTX is refused or accepted, never a panic.
    #[test]
    fn damaged_text_never_panics(cuts in prop::collection::vec((0usize..76_000, 0usize..40, ".{0,6}"), 1..6), from in 0usize..60_000) {
        let whole = include_str!("kernels.ptx");
        let mut text: Vec<char> = HEADER.chars().chain(whole.chars().skip(from).take(9_000)).collect();
        for (at, length, insert) in cuts {
            let at = at % text.len();
            let end = (at + length).min(text.len());
            text.splice(at..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        let _ = Module::compile(&text, "damaged");
    }

    #[test]
    fn random_tokens_never_panic(words in prop::collection::vec(prop::sample::select(vec![
        ".entry", ".func", "k", "(", ")", "{", "}", "[", "]", ";", ",", ".reg", ".b32", "%r<", "%r1", "4", ">", "0f3F800000",
        "add", ".s32", "bra", "L:", "L", "@", "!", "%p", ".param", ".global", "=", "+", "-", "call", ".shared", ".align", "0x",
        "mov", ".u64", "|", "_", "brx", ".idx", ".branchtargets", "ld", ".v4", "mma", ".loc", "1", "\"", "wmma", "99999999999999999999",
    ]), 0..60)) {
        let _ = Module::compile(&format!("{HEADER}{}", words.join(" ")), "random");
        let _ = Module::compile(&format!("{HEADER}{}", kernel(&words.join(" "))), "random");
    }
}
