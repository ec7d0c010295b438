//! What the assembler allots to the kernels of a PTX text.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{ToolkitError, find};

/// What ptxas allots to a kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Resources {
    /// Registers per thread.
    pub registers: u32,
    /// Bytes stored to the stack for want of registers, in the code.
    pub spill_store_bytes: u32,
    /// Bytes loaded back, in the code.
    pub spill_load_bytes: u32,
    /// Stack bytes per thread.
    pub stack_bytes: u32,
    /// Static shared memory in bytes.
    pub shared_bytes: u32,
}

/// The assembler.
#[derive(Clone, Debug)]
pub struct Ptxas {
    path: PathBuf,
}

impl Ptxas {
    /// The assembler that is installed.
    ///
    /// # Errors
    /// [`ToolkitError::ToolMissing`] with the places that were tried.
    pub fn find() -> Result<Self, ToolkitError> {
        find::ptxas().map(|path| Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Assembles a PTX text for a compute capability such as (8, 6): what each kernel is allotted, by its name. The machine
    /// code is thrown away.
    ///
    /// # Errors
    /// [`ToolkitError::PtxasRefused`] with its messages; [`ToolkitError::DoesNotRun`].
    pub fn assemble(
        &self,
        ptx: &str,
        capability: (u32, u32),
    ) -> Result<BTreeMap<String, Resources>, ToolkitError> {
        let does_not_run = |error: std::io::Error| ToolkitError::DoesNotRun {
            tool: self.path.clone(),
            why: error.to_string(),
        };
        let mut child = Command::new(&self.path)
            .arg("-v")
            .arg(format!("-arch=sm_{}{}", capability.0, capability.1))
            .args(["-o", "/dev/null", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(does_not_run)?;
        // ptxas reads all of its input before it writes, so the pipes cannot block each other. Where it ends early, its
        // messages say more than the broken pipe.
        let written = child
            .stdin
            .take()
            .map_or(Ok(()), |mut stdin| stdin.write_all(ptx.as_bytes()));
        let output = child.wait_with_output().map_err(does_not_run)?;
        let mut report = String::from_utf8_lossy(&output.stdout).into_owned();
        report += &String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(ToolkitError::PtxasRefused {
                capability,
                log: report.trim_end().to_owned(),
            });
        }
        written.map_err(does_not_run)?;
        Ok(parse_report(&report))
    }
}

/// Reads the lines of `ptxas -v`: which entry, its stack and spills, its registers and shared memory.
fn parse_report(report: &str) -> BTreeMap<String, Resources> {
    let mut kernels = BTreeMap::new();
    let mut current: Option<(String, Resources)> = None;
    for line in report.lines() {
        if let Some(rest) = line.split("entry function '").nth(1) {
            kernels.extend(current.take());
            let name = rest.split('\'').next().unwrap_or_default().to_string();
            current = Some((name, Resources::default()));
        } else if let Some((_, kernel)) = &mut current {
            for part in line.split([',', ':']) {
                let words: Vec<&str> = part.split_whitespace().collect();
                let (number, what) = match words.as_slice() {
                    ["Used", number, rest @ ..] => (number, rest.join(" ")),
                    [number, rest @ ..] => (number, rest.join(" ")),
                    [] => continue,
                };
                let Ok(number) = number.parse() else { continue };
                match what.as_str() {
                    "registers" => kernel.registers = number,
                    "bytes stack frame" => kernel.stack_bytes = number,
                    "bytes spill stores" => kernel.spill_store_bytes = number,
                    "bytes spill loads" => kernel.spill_load_bytes = number,
                    "bytes smem" => kernel.shared_bytes = number,
                    _ => {}
                }
            }
        }
    }
    kernels.extend(current);
    kernels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_report_is_read() {
        let report = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'scale' for 'sm_86'
ptxas info    : Function properties for scale
    16 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 16 bytes cumulative stack size, 2048 bytes smem, 380 bytes cmem[0]
ptxas info    : Compiling entry function 'copy' for 'sm_86'
ptxas info    : Used 8 registers, 372 bytes cmem[0]
";
        let kernels = parse_report(report);
        assert_eq!(
            kernels["scale"],
            Resources {
                registers: 40,
                spill_store_bytes: 12,
                spill_load_bytes: 8,
                stack_bytes: 16,
                shared_bytes: 2048,
            }
        );
        assert_eq!(kernels["copy"].registers, 8);
    }

    const COPY: &str = "\
.version 7.0
.target sm_80
.address_size 64
.visible .entry copy(.param .u64 x) {
    .reg .b64 %rd<2>;
    ld.param.u64 %rd1, [x];
    ret;
}
";

    #[test]
    fn the_assembler_reports_kernels_and_refuses_nonsense() {
        let ptxas = match Ptxas::find() {
            Ok(ptxas) => ptxas,
            Err(missing) => {
                assert!(
                    std::env::var_os("CI").is_none_or(|ci| ci != "true"),
                    "CI must not skip this test: {missing}"
                );
                eprintln!("NOT TESTED: {missing}");
                return;
            }
        };
        let kernels = ptxas.assemble(COPY, (8, 6)).expect("assembles");
        assert!(kernels["copy"].registers > 0);
        let wrong = COPY.replace("ld.param", "ld.nowhere");
        let error = ptxas.assemble(&wrong, (8, 6)).expect_err("refused");
        assert!(
            matches!(&error, ToolkitError::PtxasRefused { capability: (8, 6), log } if log.contains("nowhere")),
            "{error}"
        );
    }

    #[test]
    fn a_program_that_does_not_start_is_named() {
        let nowhere = Ptxas {
            path: "/nowhere/ptxas".into(),
        };
        let error = nowhere.assemble(COPY, (8, 6)).expect_err("no such file");
        assert!(error.to_string().starts_with("/nowhere/ptxas does not run"));
    }
}
