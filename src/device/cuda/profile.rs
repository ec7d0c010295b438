//! Where the time of a plan goes: its launches one by one, between events on the device.

use super::CudaExecutable;
use super::context::GpuEvent;
use crate::device::{DeviceError, Executable};

/// A launch of a run and its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimedLaunch {
    /// The kernel's entry point.
    pub entry: &'static str,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// The plan's step it belongs to, of several that it computes the first; `None` for what packs weights.
    pub step: Option<usize>,
    /// Seconds on the device from the end of the launch before to its own end. On an emulated GPU this is the
    /// emulator's time, which says nothing about a GPU.
    pub seconds: f64,
}

impl CudaExecutable {
    /// Executes all launches one by one, not as a captured graph, and tells the time of each. Results and states are
    /// those of [`Executable::run`]. The sum is more than what a captured run takes, by the gaps between launches.
    ///
    /// # Errors
    /// As [`Executable::run`].
    pub fn run_timed(&mut self, mut observe: impl FnMut(&TimedLaunch)) -> Result<(), DeviceError> {
        self.deliver()?;
        let context = &self.device.context;
        let stream = context.stream();
        let mark = || -> Result<GpuEvent, DeviceError> {
            let event = context.timing_event()?;
            event.record(stream)?;
            Ok(event)
        };
        let mut marks = vec![mark()?];
        for bound in &self.launches {
            // SAFETY: all addresses lead into memory that this executable owns.
            unsafe { context.launch(stream, bound.function, &bound.launch)? };
            marks.push(mark()?);
        }
        context.synchronize()?;
        for (bound, between) in self.launches.iter().zip(marks.windows(2)) {
            observe(&TimedLaunch {
                entry: bound.launch.kernel.entry,
                grid: bound.launch.grid,
                block: bound.launch.block,
                step: bound.step,
                seconds: between[0].seconds_until(&between[1])?,
            });
        }
        Ok(())
    }

    /// Seconds of `runs` runs one behind the other, each as [`Executable::run`] does it.
    ///
    /// # Errors
    /// As [`Executable::run`].
    pub fn time_runs(&mut self, runs: usize) -> Result<f64, DeviceError> {
        let context = self.device.context.clone();
        let [before, after] = [context.timing_event()?, context.timing_event()?];
        before.record(context.stream())?;
        for _ in 0..runs {
            self.run()?;
        }
        after.record(context.stream())?;
        context.synchronize()?;
        Ok(before.seconds_until(&after)?)
    }
}

#[cfg(test)]
mod tests {
    use crate::compile::PlanOptions;
    use crate::device::Executable;
    use crate::graph::Graph;
    use crate::tensor::{DType, TensorMap};
    use crate::testing::emulated_gpu;

    #[test]
    fn every_launch_is_timed_and_the_results_are_the_same() {
        let Some(gpu) = emulated_gpu() else { return };
        let mut graph = Graph::new();
        let x = graph.input("x", [2, 4, 4, 8], DType::F32).unwrap();
        let y = graph.swish(x).unwrap();
        let sum = graph.sum_to(y, &[8]).unwrap();
        graph.output("sum", sum);
        let plan = gpu.plan(&graph, PlanOptions::default());
        let steps: Vec<_> = plan.steps.iter().map(|s| s.op.operator().name()).collect();
        let mut executable = gpu.load(plan, &TensorMap::new()).unwrap();
        let values: Vec<f32> = (0..256).map(|i| i as f32 / 64.0 - 2.0).collect();
        executable.write("x", &values).unwrap();
        executable.run().unwrap();
        let want = executable.output("sum").unwrap();
        executable.poison().unwrap();

        let mut timed = Vec::new();
        executable.run_timed(|launch| timed.push(*launch)).unwrap();
        assert_eq!(executable.output("sum").unwrap(), want);
        assert_eq!(timed.len(), executable.launch_count());
        assert!(timed.iter().all(|launch| launch.seconds >= 0.0));
        let of_step = |step: usize| {
            let own = timed.iter().filter(|launch| launch.step == Some(step));
            own.map(|launch| launch.entry).collect::<Vec<_>>()
        };
        for (index, &name) in steps.iter().enumerate() {
            let expected = if name == "sum_to" { "sum_" } else { "unary" };
            let entries = of_step(index);
            assert!(
                !entries.is_empty() && entries.iter().all(|e| e.starts_with(expected)),
                "{name}: {entries:?}"
            );
        }
        assert!(executable.time_runs(2).unwrap() > 0.0);
        assert_eq!(executable.output("sum").unwrap(), want);
    }
}
