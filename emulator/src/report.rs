//! Counters of many launches, added up per kernel and written as JSON, with the assembler's register report.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use medfusion_toolkit::{Ptxas, Resources};
use serde::Serialize;

use crate::counters::LaunchCounters;

/// Counters by kernel.
#[derive(Clone, Debug, Default)]
pub struct CounterLog {
    kernels: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    ptx: Arc<str>,
    launches: u64,
    counters: LaunchCounters,
}

/// One kernel in the JSON.
#[derive(Serialize)]
struct KernelReport<'a> {
    launches: u64,
    /// Mean share of active lanes, 0 to 1.
    lane_efficiency: f64,
    #[serde(flatten)]
    counters: &'a LaunchCounters,
    /// Registers and spills as ptxas reports them; null where it is not installed.
    ptxas: Option<Resources>,
}

#[derive(Serialize)]
struct Report<'a> {
    device: &'static str,
    kernels: Vec<KernelReport<'a>>,
}

impl CounterLog {
    /// Adds a launch of a kernel from this PTX. Kernels of one name from different modules stay apart.
    pub fn add(&mut self, ptx: &Arc<str>, launch: LaunchCounters) {
        let known = self
            .kernels
            .iter_mut()
            .find(|entry| entry.counters.kernel == launch.kernel && entry.ptx == *ptx);
        match known {
            Some(entry) => {
                entry.launches += 1;
                merge(&mut entry.counters, &launch);
            }
            None => self.kernels.push(Entry {
                ptx: ptx.clone(),
                launches: 1,
                counters: launch,
            }),
        }
    }

    /// The counters as JSON: `{"device": …, "kernels": [{"kernel": …, "launches": …, "total": {…}, …}]}`.
    pub fn to_json(&self) -> String {
        let ptxas = Ptxas::find().ok();
        let mut assembled: Vec<(&Arc<str>, BTreeMap<String, Resources>)> = Vec::new();
        for entry in &self.kernels {
            if !assembled.iter().any(|(ptx, _)| **ptx == entry.ptx) {
                let report = ptxas
                    .as_ref()
                    .and_then(|ptxas| ptxas.assemble(&entry.ptx, (8, 6)).ok());
                assembled.push((&entry.ptx, report.unwrap_or_default()));
            }
        }
        let kernels = self
            .kernels
            .iter()
            .map(|entry| KernelReport {
                launches: entry.launches,
                lane_efficiency: entry.counters.total.lane_efficiency(),
                counters: &entry.counters,
                ptxas: assembled
                    .iter()
                    .find(|(ptx, _)| **ptx == entry.ptx)
                    .and_then(|(_, kernels)| kernels.get(&entry.counters.kernel).copied()),
            })
            .collect();
        let report = Report {
            device: "RTX 3090 (emulated, sm_86)",
            kernels,
        };
        serde_json::to_string_pretty(&report).unwrap_or_else(|e| format!("{{\"error\": \"{e}\"}}"))
    }

    /// Writes the JSON beside `path` and renames it, so that no half file is seen.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".tmp");
        std::fs::write(&beside, self.to_json() + "\n")?;
        std::fs::rename(&beside, path)
    }
}

fn merge(sum: &mut LaunchCounters, launch: &LaunchCounters) {
    sum.blocks += launch.blocks;
    sum.threads_per_block = launch.threads_per_block;
    sum.total.add(&launch.total);
    for (class, count) in &launch.classes {
        *sum.classes.entry(class.clone()).or_default() += count;
    }
    for (shape, count) in &launch.mma {
        *sum.mma.entry(shape.clone()).or_default() += count;
    }
    for (line, counts) in &launch.ptx_lines {
        sum.ptx_lines.entry(*line).or_default().add(counts);
    }
    for (line, counts) in &launch.source_lines {
        sum.source_lines
            .entry(line.clone())
            .or_default()
            .add(counts);
    }
}
