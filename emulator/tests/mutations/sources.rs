//! The PTX of the mutation library is what NVRTC makes of its sources. `UPDATE_MUTATIONS=1` writes it anew.

use std::path::{Path, PathBuf};

use cuda_emulator::case::nvrtc;

fn sources() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mutations");
    let mut sources: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the library")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "cu"))
        .collect();
    sources.sort();
    sources
}

/// The text without what names the compiler's build and this machine's folders.
fn portable(ptx: &str) -> String {
    ptx.lines()
        .filter(|line| !line.starts_with("//"))
        .map(
            |line| match (line.find(".file"), line.find('"'), line.rfind('/')) {
                (Some(_), Some(quote), Some(slash)) => {
                    format!("{}{}\n", &line[..=quote], &line[slash + 1..])
                }
                _ => format!("{line}\n"),
            },
        )
        .collect::<String>()
        .trim_start()
        .to_string()
}

#[test]
fn the_stored_ptx_is_what_the_sources_compile_to() {
    let update = std::env::var_os("UPDATE_MUTATIONS").is_some();
    let mut changed = Vec::new();
    for source in sources() {
        let text = std::fs::read_to_string(&source).expect("a source");
        let name = source
            .file_name()
            .expect("a file")
            .to_string_lossy()
            .into_owned();
        for (variant, options) in [("bug", vec!["-DBUG".to_string()]), ("fixed", Vec::new())] {
            let ptx = nvrtc::compile(&text, &name, &options)
                .unwrap_or_else(|e| panic!("{e}\n(this test needs NVRTC: cargo xtask setup)"));
            let ptx = portable(&ptx);
            let stored = source.with_extension(format!("{variant}.ptx"));
            if update {
                std::fs::write(&stored, &ptx).expect("the library can be written");
            }
            let found = std::fs::read_to_string(&stored).unwrap_or_default();
            if found != ptx {
                changed.push(stored.display().to_string());
            }
        }
    }
    assert!(
        changed.is_empty(),
        "run with UPDATE_MUTATIONS=1 and look at the difference: {changed:?}"
    );
}
