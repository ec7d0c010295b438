//! Bars for what a device reports of its own.

use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};

use crate::device::{Progress, Stage};

/// A bar while kernels are compiled, gone afterwards.
#[derive(Default)]
pub(super) struct CompileBar(Mutex<Option<ProgressBar>>);

impl CompileBar {
    /// Shows how far the compilation is.
    pub fn show(&self, progress: Progress) {
        if progress.what != Stage::Kernels {
            return;
        }
        let Ok(mut shown) = self.0.lock() else { return };
        let bar = shown.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("compiling kernels {wide_bar} {pos}/{len}")
                .expect("a valid template");
            ProgressBar::new(progress.total).with_style(style)
        });
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        if progress.done == progress.total {
            bar.finish_and_clear();
            *shown = None;
        }
    }
}
