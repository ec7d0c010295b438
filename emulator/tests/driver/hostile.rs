//! Damaged PTX, hostile launches and random driver calls: errors, never a panic, a crash or a hang.

#[path = "common/exercise.rs"]
mod exercise;

use std::path::Path;
use std::ptr::null_mut;
use std::sync::OnceLock;

use cudarc::driver::sys;
use proptest::prelude::*;

use exercise::{Hostility, exercise};

/// Pieces of the language, so that damage stays near what the parser and the lowering look at.
const WORDS: [&str; 64] = [
    ".version 8.8\n.target sm_86\n.address_size 64\n",
    ".visible .entry k(.param .u64 p) {",
    ".func (.reg .b32 r) f (.reg .b32 a)",
    ".reg .b32 %r<999999999>;",
    ".reg .pred %p<4>;",
    ".shared .align 16 .b8 s[4294967295];",
    ".local .align 8 .b8 l[1048576];",
    ".global .u32 g[4] = {1, 2, 3, 4};",
    ".const .align 8 .u64 c[1] = {g};",
    ".extern .shared .b8 e[];",
    "ld.param.u64 %rd1, [p];",
    "ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd1+-16];",
    "st.shared.b8 [s+99999], 1;",
    "bar.sync 0;",
    "bar.sync 17, 33;",
    "barrier.cta.arrive 15, 2048;",
    "bra.uni L;",
    "@!%p1 bra L;",
    "L:",
    "ret;",
    "exit;",
    "trap;",
    "call (%r1), f, (%r2);",
    "call.uni f;",
    "brx.idx %r1, T;",
    "T: .branchtargets L, L;",
    "mov.u32 %r1, %tid.x;",
    "mov.u64 %rd1, g;",
    "mov.b64 {%r1, %r2}, %rd1;",
    "shfl.sync.idx.b32 %r1|%p1, %r2, 99, 31, -1;",
    "vote.sync.ballot.b32 %r1, %p1, 0;",
    "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f1,%f2,%f3,%f4}, {%r1,%r2,%r3,%r4}, {%r1,%r2}, {%f1,%f2,%f3,%f4};",
    "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r1,%r2,%r3,%r4}, [%r5];",
    "cp.async.cg.shared.global [%r1], [%rd1], 16, 99;",
    "cp.async.wait_group 4294967295;",
    "div.s32 %r1, -2147483648, -1;",
    "rem.u64 %rd1, %rd1, 0;",
    "shl.b32 %r1, %r1, 4294967295;",
    "cvt.rni.sat.s8.f64 %r1, %fd1;",
    "atom.global.add.u32 %r1, [%rd1], 1;",
    "red.shared.max.s64 [%r1], %rd1;",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "<",
    ">",
    ",",
    ";",
    "|",
    "@",
    "\"",
    "/*",
    "0x",
    "0f7fc00000",
    "0d",
    "-9223372036854775808",
    "18446744073709551616",
    ".loc 1 2 3",
    ".file 1 \"x\"",
    ".pragma \"nounroll\";",
    "%",
];

fn kernels() -> &'static [String] {
    static KERNELS: OnceLock<Vec<String>> = OnceLock::new();
    KERNELS.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mutations");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .expect("the mutation library")
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "ptx"))
            .collect();
        files.sort();
        files
            .iter()
            .map(|path| std::fs::read_to_string(path).expect("text"))
            .collect()
    })
}

/// One damage to a text; positions are shares of its length.
#[derive(Clone, Debug)]
enum Damage {
    Cut(u16, u8),
    Repeat(u16, u8),
    Word(u16, usize),
    Byte(u16, u8),
    Swap(u16, u16, u8),
    Digit(u16, u8),
    End(u16),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<u16>(), any::<u8>()).prop_map(|(at, n)| Damage::Cut(at, n)),
        (any::<u16>(), any::<u8>()).prop_map(|(at, n)| Damage::Repeat(at, n)),
        (any::<u16>(), 0..WORDS.len()).prop_map(|(at, word)| Damage::Word(at, word)),
        (any::<u16>(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        (any::<u16>(), any::<u16>(), any::<u8>()).prop_map(|(a, b, n)| Damage::Swap(a, b, n)),
        (any::<u16>(), any::<u8>()).prop_map(|(at, digit)| Damage::Digit(at, digit)),
        any::<u16>().prop_map(Damage::End),
    ]
}

fn place(bytes: &[u8], at: u16) -> usize {
    bytes.len() * usize::from(at) / 65536
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    match *damage {
        Damage::Cut(at, n) => {
            let at = place(bytes, at);
            let end = (at + usize::from(n)).min(bytes.len());
            bytes.drain(at..end);
        }
        Damage::Repeat(at, n) => {
            let at = place(bytes, at);
            let end = (at + usize::from(n)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        Damage::Word(at, word) => {
            // Most insertions go between instructions, where the parser expects tokens.
            let at = place(bytes, at);
            let at = bytes[at..]
                .iter()
                .position(|b| *b == b'\n')
                .map_or(at, |n| at + n);
            bytes.splice(at..at, format!("\n{} ", WORDS[word]).into_bytes());
        }
        Damage::Byte(at, byte) => {
            let at = place(bytes, at);
            if let Some(b) = bytes.get_mut(at) {
                *b = byte;
            }
        }
        Damage::Swap(a, b, n) => {
            let (a, b) = (place(bytes, a), place(bytes, b));
            for i in 0..usize::from(n % 24) {
                if a + i < bytes.len() && b + i < bytes.len() {
                    bytes.swap(a + i, b + i);
                }
            }
        }
        Damage::Digit(at, digit) => {
            let at = place(bytes, at);
            if let Some(b) = bytes[at..].iter_mut().find(|b| b.is_ascii_digit()) {
                *b = b'0' + digit % 10;
            }
        }
        Damage::End(at) => {
            let at = place(bytes, at);
            bytes.truncate(at);
        }
    }
}

/// A call of the driver with numbers for its arguments; small numbers choose among living objects.
#[derive(Clone, Debug)]
struct Call {
    what: u8,
    a: u64,
    b: u64,
    n: usize,
}

fn call() -> impl Strategy<Value = Call> {
    let number = || prop_oneof![0u64..8, any::<u64>(), Just(0), Just(u64::MAX)];
    let size = prop_oneof![0usize..5000, Just(usize::MAX), Just(1usize << 40)];
    (any::<u8>(), number(), number(), size).prop_map(|(what, a, b, n)| Call { what, a, b, n })
}

/// Handles and addresses that the calls made so far gave.
#[derive(Default)]
struct Objects {
    streams: Vec<u64>,
    events: Vec<u64>,
    graphs: Vec<u64>,
    execs: Vec<u64>,
    memory: Vec<u64>,
}

fn pick(list: &[u64], number: u64) -> u64 {
    list.get(number as usize).copied().unwrap_or(number)
}

fn make(call: &Call, objects: &mut Objects) {
    let stream = pick(&objects.streams, call.a) as sys::CUstream;
    let event = pick(&objects.events, call.b) as sys::CUevent;
    let graph = pick(&objects.graphs, call.a) as sys::CUgraph;
    let exec = pick(&objects.execs, call.a) as sys::CUgraphExec;
    let (to, from) = (pick(&objects.memory, call.a), pick(&objects.memory, call.b));
    let mut out = 0u64;
    let slot = (&raw mut out).cast::<std::ffi::c_void>();
    // SAFETY: all pointers that the calls write through are to `out`; handles and device addresses may be anything.
    unsafe {
        match call.what % 24 {
            0 => {
                if sys::cuStreamCreate(slot.cast(), (call.b % 3) as u32) as u32 == 0 {
                    objects.streams.push(out);
                }
            }
            1 => {
                if sys::cuEventCreate(slot.cast(), (call.b % 5) as u32) as u32 == 0 {
                    objects.events.push(out);
                }
            }
            2 | 3 => {
                if sys::cuMemAlloc_v2(slot.cast(), call.n) as u32 == 0 {
                    objects.memory.push(out);
                }
            }
            4 => {
                if sys::cuMemAllocAsync(slot.cast(), call.n, stream) as u32 == 0 {
                    objects.memory.push(out);
                }
            }
            5 => drop(sys::cuMemFree_v2(to)),
            6 => drop(sys::cuMemFreeAsync(from, stream)),
            7 | 8 => drop(sys::cuMemsetD8Async(from, 1, call.n, stream)),
            9 => drop(sys::cuMemsetD2D32Async(
                to,
                call.n,
                7,
                call.n / 3,
                call.n / 5,
                null_mut(),
            )),
            10 | 11 => drop(sys::cuMemcpyDtoDAsync_v2(to, from, call.n, stream)),
            12 => drop(sys::cuEventRecord(event, stream)),
            13 => drop(sys::cuStreamWaitEvent(stream, event, 0)),
            14 => drop(sys::cuStreamSynchronize(stream)),
            15 => drop(sys::cuEventQuery(event)),
            16 => drop(sys::cuStreamBeginCapture_v2(
                stream,
                sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED,
            )),
            17 => {
                if sys::cuStreamEndCapture(stream, slot.cast()) as u32 == 0 {
                    objects.graphs.push(out);
                }
            }
            18 => {
                if sys::cuGraphInstantiateWithFlags(slot.cast(), graph, call.b) as u32 == 0 {
                    objects.execs.push(out);
                }
            }
            19 => drop(sys::cuGraphLaunch(
                exec,
                pick(&objects.streams, call.b) as sys::CUstream,
            )),
            20 => drop(sys::cuGraphDestroy(graph)),
            21 => drop(sys::cuGraphExecDestroy(exec)),
            22 => drop(sys::cuStreamDestroy_v2(stream)),
            _ => drop(sys::cuEventDestroy_v2(event)),
        }
    }
}

/// Random cases of a property: as many as a change can wait for, or what `PROPTEST_CASES` says (`cargo xtask soak`).
fn cases(usual: u32) -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(usual)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(100),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn damaged_kernels_are_refused_or_stopped(
        kernel in any::<prop::sample::Index>(),
        damages in prop::collection::vec(damage(), 1..6),
        seed in any::<u64>(),
    ) {
        let mut bytes = kernel.get(kernels()).clone().into_bytes();
        for damage in &damages {
            apply(&mut bytes, damage);
        }
        exercise(&String::from_utf8_lossy(&bytes), Hostility { seed });
    }

    #[test]
    fn words_in_any_order_are_refused_or_stopped(
        words in prop::collection::vec(0..WORDS.len(), 0..60),
        in_a_kernel in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let soup: String = words.iter().map(|word| format!("{} ", WORDS[*word])).collect();
        let text = if in_a_kernel {
            format!(
                ".version 8.8\n.target sm_86\n.address_size 64\n.shared .align 16 .b8 s[256];\n\
                 .visible .entry k(.param .u64 p) {{\n.reg .b32 %r<9>;\n.reg .b64 %rd<9>;\n.reg .f32 %f<9>;\n\
                 .reg .f64 %fd<9>;\n.reg .pred %p<4>;\n{soup}\nret;\n}}\n"
            )
        } else {
            soup
        };
        exercise(&text, Hostility { seed });
    }

    #[test]
    fn any_text_is_refused(text in any::<String>(), seed in any::<u64>()) {
        prop_assert_eq!(exercise(&text, Hostility { seed }), 0);
    }

    #[test]
    fn random_driver_calls_only_give_errors(calls in prop::collection::vec(call(), 1..60)) {
        let _guard = crate::common::emulator();
        let mut ctx = null_mut();
        // SAFETY: a place for the context.
        unsafe {
            prop_assert_eq!(sys::cuInit(0) as u32, 0);
            prop_assert_eq!(sys::cuCtxCreate_v2(&mut ctx, 0, 0) as u32, 0);
        }
        let mut objects = Objects::default();
        for call in &calls {
            make(call, &mut objects);
        }
        // SAFETY: the context made above.
        prop_assert_eq!(unsafe { sys::cuCtxDestroy_v2(ctx) } as u32, 0);
    }
}

#[test]
fn undamaged_kernels_run_under_hostile_arguments() {
    let clean: usize = kernels()
        .iter()
        .enumerate()
        .map(|(i, kernel)| exercise(kernel, Hostility { seed: i as u64 }))
        .sum();
    assert!(
        clean > 0,
        "some launches must get through, or nothing is tried here"
    );
}
