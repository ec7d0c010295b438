//! `ptx-run` as a user calls it: cases that pass, cases that must fail, and broken case files.

use std::path::Path;
use std::process::Command;

use half::{bf16, f16};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder of case files.
struct Cases(TempDir);

/// What a run of the program gave.
struct Output {
    success: bool,
    text: String,
}

impl Cases {
    fn new() -> Cases {
        let cases = Cases(tempfile::tempdir().expect("a folder"));
        cases.write("axpy.ptx", AXPY);
        cases.npy("x", "<f4", &f32_bytes(&[1.0, 2.0, 3.0, f32::NAN]));
        cases.npy("y", "<f4", &f32_bytes(&[10.0, 20.0, 30.0, 40.0]));
        cases.npy("want", "<f4", &f32_bytes(&[12.0, 24.0, 36.0, f32::NAN]));
        cases
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).expect("written");
    }

    /// Writes a one-dimensional array.
    fn npy(&self, name: &str, dtype: &str, elements: &[u8]) {
        let width: usize = dtype[2..].parse().expect("a width");
        let mut header = format!(
            "{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({},), }}",
            elements.len() / width
        );
        while (header.len() + 11) % 64 != 0 {
            header.push(' ');
        }
        header.push('\n');
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.as_bytes());
        file.extend(elements);
        std::fs::write(self.path().join(format!("{name}.npy")), file).expect("written");
    }

    /// A case of the standard kernel with some keys replaced; `null` takes a key away.
    fn axpy(&self, name: &str, change: Value) {
        let mut case = json!({
            "about": "y = a x + y",
            "ptx": "axpy.ptx",
            "entry": "axpy",
            "grid": [1, 1, 1],
            "block": [4, 1, 1],
            "args": [
                {"kind": "buffer", "dtype": "f32", "file": "x.npy"},
                {"kind": "buffer", "dtype": "f32", "file": "y.npy", "out": true, "expect": "want.npy",
                 "rtol": 1e-6, "atol": 1e-6, "note": "read and written"},
                {"kind": "scalar", "dtype": "f32", "value": 2},
                {"kind": "scalar", "dtype": "u32", "value": 4},
            ],
        });
        for (key, value) in change.as_object().expect("an object") {
            if value.is_null() {
                case.as_object_mut().expect("an object").remove(key);
            } else {
                case[key] = value.clone();
            }
        }
        self.write(&format!("{name}.json"), &case.to_string());
    }

    fn run(&self, names: &[&str], flags: &[&str]) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_ptx-run"))
            .current_dir(self.path())
            .args(flags)
            .args(names)
            .output()
            .expect("the program starts");
        Output {
            success: output.status.success(),
            text: String::from_utf8_lossy(&output.stdout).into_owned(),
        }
    }

    fn passes(&self, name: &str) {
        let output = self.run(&[name], &[]);
        assert!(
            output.success && output.text.starts_with("pass "),
            "{}",
            output.text
        );
    }

    fn fails(&self, name: &str, why: &str) {
        let output = self.run(&[name], &[]);
        assert!(
            !output.success && output.text.starts_with("FAIL "),
            "{}",
            output.text
        );
        assert!(
            output.text.contains(why),
            "expected `{why}` in: {}",
            output.text
        );
        assert_eq!(
            output.text.lines().count(),
            2,
            "one line per case and a sum: {}",
            output.text
        );
    }
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

const AXPY: &str = r"
.version 8.8
.target sm_86
.address_size 64

.visible .entry axpy(.param .u64 x, .param .u64 y, .param .f32 a, .param .u32 n)
{
    .reg .pred %p<2>;
    .reg .b32 %r<6>;
    .reg .f32 %f<5>;
    .reg .b64 %rd<8>;

    ld.param.u64 %rd1, [x];
    ld.param.u64 %rd2, [y];
    ld.param.f32 %f1, [a];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra DONE;
    cvta.to.global.u64 %rd3, %rd1;
    cvta.to.global.u64 %rd4, %rd2;
    mul.wide.u32 %rd5, %r5, 4;
    add.s64 %rd6, %rd3, %rd5;
    add.s64 %rd7, %rd4, %rd5;
    ld.global.f32 %f2, [%rd6];
    ld.global.f32 %f3, [%rd7];
    fma.rn.f32 %f4, %f1, %f2, %f3;
    st.global.f32 [%rd7], %f4;
DONE:
    ret;
}
";

#[test]
fn a_right_result_passes_and_a_wrong_one_fails() {
    let cases = Cases::new();
    cases.axpy("right", json!({}));
    cases.passes("right.json");
    cases.npy("want", "<f4", &f32_bytes(&[12.0, 24.5, 36.0, f32::NAN]));
    cases.fails(
        "right.json",
        "1 of 4 elements differ (largest difference 5.000e-1); element 1: got 2.4e1, want 2.45e1",
    );
    let both = cases.run(
        &["right.json", "right.json"],
        &["--seed", "7", "--checks", "none"],
    );
    assert!(
        !both.success && both.text.contains("0 passed, 2 failed"),
        "{}",
        both.text
    );
}

#[test]
fn a_case_may_name_its_kernel_file_by_its_own_name() {
    let cases = Cases::new();
    cases.write("own.ptx", AXPY);
    cases.axpy("own", json!({"ptx": null}));
    cases.passes("own.json");
    cases.axpy("none", json!({"ptx": null}));
    cases.fails("none.json", "names no .ptx or .cu");
    cases.axpy("gone", json!({"ptx": "gone.ptx"}));
    cases.fails("gone.json", "gone.ptx");
}

#[test]
fn expected_reports_must_come_and_be_the_right_ones() {
    let cases = Cases::new();
    cases.axpy("clean", json!({"expect_error": "race"}));
    cases.fails("clean.json", "ended without one");
    let beyond = json!({"block": [64, 1, 1], "args": [
        {"kind": "buffer", "dtype": "f32", "file": "x.npy"},
        {"kind": "buffer", "dtype": "f32", "file": "y.npy", "out": true},
        {"kind": "scalar", "dtype": "f32", "value": 2.0},
        {"kind": "scalar", "dtype": "u32", "value": 64}]});
    cases.axpy("unexpected", beyond.clone());
    cases.fails("unexpected.json", "oob");
    let with = |name: &str, more: Value| {
        let mut change = beyond.clone();
        for (key, value) in more.as_object().expect("an object") {
            change[key] = value.clone();
        }
        cases.axpy(name, change);
    };
    with("expected", json!({"expect_error": "oob"}));
    cases.passes("expected.json");
    with("other", json!({"expect_error": "race"}));
    cases.fails("other.json", "expected the report `race`, but it was `oob`");
    with(
        "also",
        json!({"expect_error": "race", "also_accept": ["misaligned", "oob"]}),
    );
    cases.passes("also.json");
    with(
        "text",
        json!({"expect_error": "race", "also_accept": "oob"}),
    );
    cases.passes("text.json");
    cases.axpy(
        "uninit",
        json!({"expect_error": "uninit", "args": [
            {"kind": "buffer", "dtype": "f32", "file": "x.npy", "uninit": true},
            {"kind": "buffer", "dtype": "f32", "file": "y.npy", "out": true},
            {"kind": "scalar", "dtype": "f32", "value": 2.0},
            {"kind": "scalar", "dtype": "u32", "value": 4}]}),
    );
    cases.passes("uninit.json");
    let unchecked = cases.run(&["uninit.json"], &["--checks", "none"]);
    assert!(
        !unchecked.success,
        "without checks nothing is reported: {}",
        unchecked.text
    );
    cases.axpy(
        "null",
        json!({"expect_error": "oob", "args": [
            {"kind": "null"},
            {"kind": "buffer", "dtype": "f32", "file": "y.npy"},
            {"kind": "scalar", "dtype": "f32", "value": 2.0},
            {"kind": "scalar", "dtype": "u32", "value": 4}]}),
    );
    cases.passes("null.json");
    cases.write("odd.ptx", &AXPY.replace("fma.rn.f32", "fma.rn.odd.f32"));
    cases.axpy(
        "odd",
        json!({"ptx": "odd.ptx", "expect_error": "unsupported"}),
    );
    cases.passes("odd.json");
}

#[test]
fn half_precision_and_structures_are_read() {
    let cases = Cases::new();
    cases.write(
        "add.ptx",
        r"
.version 8.8
.target sm_86
.address_size 64
.visible .entry add(.param .u64 h, .param .u64 b, .param .align 4 .b8 p[8])
{
    .reg .b16 %h<4>;
    .reg .b32 %r<4>;
    .reg .f32 %f<4>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [h];
    ld.param.u64 %rd2, [b];
    ld.param.f32 %f1, [p];
    ld.param.u32 %r1, [p+4];
    ld.global.b16 %h1, [%rd1];
    cvt.f32.f16 %f2, %h1;
    add.f32 %f2, %f2, %f1;
    cvt.rn.f16.f32 %h1, %f2;
    st.global.b16 [%rd1], %h1;
    ld.global.b16 %h2, [%rd2];
    mov.b32 %r2, {0, %h2};
    mov.b32 %f3, %r2;
    cvt.rn.f32.u32 %f2, %r1;
    add.f32 %f3, %f3, %f2;
    cvt.rn.bf16.f32 %h2, %f3;
    st.global.b16 [%rd2], %h2;
    ret;
}
",
    );
    cases.npy("h", "<f2", &f16::from_f32(1.5).to_le_bytes());
    cases.npy("h_want", "<f4", &f32_bytes(&[1.75]));
    cases.npy("b", "<u2", &bf16::from_f32(2.0).to_le_bytes());
    cases.npy("b_want", "<u2", &bf16::from_f32(9.0).to_le_bytes());
    let mut parameters = 0.25f32.to_le_bytes().to_vec();
    parameters.extend(7u32.to_le_bytes());
    std::fs::write(cases.path().join("p.bin"), parameters).expect("written");
    cases.axpy(
        "add",
        json!({"ptx": "add.ptx", "entry": "add", "block": [1, 1, 1], "shared": 0, "args": [
            {"kind": "buffer", "dtype": "f16", "file": "h.npy", "out": true, "expect": "h_want.npy"},
            {"kind": "buffer", "dtype": "bf16", "file": "b.npy", "out": true, "expect": "b_want.npy"},
            {"kind": "struct", "file": "p.bin"}]}),
    );
    cases.passes("add.json");
}

#[test]
fn broken_cases_say_what_is_wrong_and_the_others_still_run() {
    let cases = Cases::new();
    cases.axpy("right", json!({}));
    cases.write("broken.json", "{\"entry\": ");
    cases.fails("broken.json", "not JSON");
    cases.fails("missing.json", "could not read the case");
    cases.axpy("entry", json!({"entry": null}));
    cases.fails("entry.json", "`entry` is missing");
    cases.axpy("wrong_entry", json!({"entry": "nothing"}));
    cases.fails(
        "wrong_entry.json",
        "no kernel `nothing`; the module has axpy",
    );
    cases.axpy("grid", json!({"grid": [1, 1]}));
    cases.fails("grid.json", "`grid`: expected three numbers");
    cases.axpy("negative", json!({"grid": [1, -1, 1]}));
    cases.fails("negative.json", "`grid`: expected a whole number");
    cases.axpy("empty_grid", json!({"grid": [0, 1, 1]}));
    cases.fails("empty_grid.json", "launch refused");
    cases.axpy("huge_block", json!({"block": [4096, 1, 1]}));
    cases.fails("huge_block.json", "launch refused");
    cases.axpy("shared", json!({"shared": 1 << 20}));
    cases.fails("shared.json", "launch refused");
    cases.axpy("args", json!({"args": []}));
    cases.fails(
        "args.json",
        "the case gives 0 arguments, kernel `axpy` takes 4",
    );
    cases.axpy("kind", json!({"args": [{"kind": "texture"}]}));
    cases.fails(
        "kind.json",
        "args[0]: `kind`: expected buffer, scalar, struct or null, found `texture`",
    );
    cases.axpy(
        "dtype",
        json!({"args": [{"kind": "scalar", "dtype": "f8", "value": 1}]}),
    );
    cases.fails("dtype.json", "args[0]: `dtype`");
    cases.axpy(
        "file",
        json!({"args": [{"kind": "buffer", "dtype": "f32", "file": "no.npy"}]}),
    );
    cases.fails("file.json", "no.npy");
    cases.axpy(
        "width",
        json!({"args": [{"kind": "buffer", "dtype": "f64", "file": "x.npy"}]}),
    );
    cases.fails("width.json", "holds Float elements of 4 bytes");
    cases.write("text.npy", "not an array");
    cases.axpy(
        "npy",
        json!({"args": [{"kind": "buffer", "dtype": "f32", "file": "text.npy"}]}),
    );
    cases.fails("npy.json", "text.npy");
    let mut cut = std::fs::read(cases.path().join("x.npy")).expect("written before");
    cut.truncate(cut.len() - 3);
    std::fs::write(cases.path().join("cut.npy"), cut).expect("written");
    cases.axpy(
        "cut",
        json!({"args": [{"kind": "buffer", "dtype": "f32", "file": "cut.npy"}]}),
    );
    cases.fails("cut.json", "shorter than its header says");
    let mixed = cases.run(&["broken.json", "right.json"], &[]);
    assert!(
        !mixed.success && mixed.text.contains("1 passed, 1 failed"),
        "{}",
        mixed.text
    );
}

#[test]
fn counters_are_written_as_json() {
    let cases = Cases::new();
    cases.axpy("right", json!({}));
    let output = cases.run(&["right.json"], &["--counters", "counters.json"]);
    assert!(output.success, "{}", output.text);
    let text = std::fs::read_to_string(cases.path().join("counters.json")).expect("written");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let kernel = &report["kernels"][0];
    assert_eq!(kernel["kernel"], "axpy");
    assert_eq!(kernel["launches"], 1);
    assert_eq!(kernel["total"]["global_load_requests"], 2);
    assert_eq!(kernel["total"]["global_store_sectors"], 1);
    // One warp issues twenty instructions with four lanes; no lane takes part in the branch past the end.
    assert_eq!(kernel["total"]["warp_instructions"], 20);
    assert_eq!(kernel["total"]["lane_instructions"], 19 * 4);
    let nowhere = cases.run(&["right.json"], &["--counters", "no/such/folder.json"]);
    assert!(!nowhere.success);
}

#[test]
fn cuda_sources_are_compiled() {
    let cases = Cases::new();
    cases.write(
        "axpy.cu",
        r#"extern "C" __global__ void axpy(const float* x, float* y, float a, unsigned n) {
            unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
            if (i < n) y[i] = a * x[i] + y[i];
        }"#,
    );
    cases.axpy("source", json!({"ptx": null, "cu": "axpy.cu"}));
    cases.passes("source.json");
    cases.write("wrong.cu", "__global__ void axpy( {");
    cases.axpy("wrong", json!({"ptx": null, "cu": "wrong.cu"}));
    cases.fails("wrong.json", "wrong.cu(1): error");
}
