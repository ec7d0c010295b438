//! A sampling step as part of a graph: running the plan once per row of the table leads from
//! noise to a sample without a decision of the host.
//!
//! The state `x_t` and the step counter live on the device; time steps, coefficients and the
//! noise stream are looked up at the counter. The number of steps, the method, `eta` and the
//! guidance scale are table contents, so one plan serves them all.

use super::config::Objective;
use super::{DiffusionError, SamplerTable};
use crate::graph::{Graph, GraphError, Value};
use crate::ops::sampler::{COEFFICIENTS, Estimates, FreshNoise, Prediction, SamplerStep};
use crate::tensor::DType;
use crate::tensor::philox::{RandomStream, fill_normal, seed_words, stream_key};

/// Names of the bindings that a sampling step adds to a graph.
pub mod names {
    /// State `[N, …, C]`: the sample on its way. Written with noise before the first step.
    pub const X_T: &str = "sampler.x_t";
    /// State `i32[1]`: steps done. Written with 0 before the first step.
    pub const COUNTER: &str = "sampler.counter";
    /// Input `[rows, COEFFICIENTS]`.
    pub const TABLE: &str = "sampler.table";
    /// Input `i32[rows]`.
    pub const TIMESTEPS: &str = "sampler.timesteps";
    /// Input `[rows]`: 0 for the first step, 1 for the others.
    pub const CONTINUES: &str = "sampler.continues";
    /// Input `i32[N]`, under guidance `i32[2N]`: classes, -1 for none.
    pub const LABELS: &str = "sampler.labels";
    /// Input `i32[2]`: low and high word of the seed.
    pub const SEED: &str = "sampler.seed";
    /// Input `i32[N]`: index of each image under the seed.
    pub const IMAGES: &str = "sampler.images";
    /// Input `[rows, N, …, C]`: recorded noise.
    pub const NOISE: &str = "sampler.noise";
}

/// Where the noise of a step comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoiseSource {
    /// Nowhere: a deterministic sampler.
    None,
    /// The stream (seed, [`RandomStream::SamplerNoise`]) of each image, at the step counter.
    Philox,
    /// [`names::NOISE`].
    Recorded,
}

/// What a sampling step is built for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamplingSpec {
    /// Samples at once, `N`.
    pub batch: usize,
    /// Shape of one sample, `[H, W, C]`.
    pub shape: Vec<usize>,
    /// Largest number of steps that the tables hold.
    pub rows: usize,
    /// What the network predicts.
    pub objective: Objective,
    /// Clamp estimates of `x_0` to [-1, 1].
    pub clip_x0: bool,
    /// The network emits a variance behind the prediction.
    pub learned_variance: bool,
    /// Evaluate with and without condition in one batch of `2N`.
    pub guidance: bool,
    /// The network takes labels.
    pub labels: bool,
    /// Where fresh noise comes from.
    pub noise: NoiseSource,
}

/// What the network's builder gets; `M` is `N`, or `2N` under guidance, conditional half first.
#[derive(Clone, Copy, Debug)]
pub struct StepInputs {
    /// `[M, …, C]`.
    pub x_t: Value,
    /// Time steps `i32[M]`.
    pub t: Value,
    /// Classes `i32[M]`, -1 for none.
    pub labels: Option<Value>,
    /// Scalar: 0 in the first step of a trajectory, 1 later. Self-conditioning multiplies its input by
    /// it: the first step has none.
    pub continues: Value,
}

/// What a sampling step adds to the graph.
#[derive(Clone, Copy, Debug)]
pub struct SamplingStep {
    /// What the network was given.
    pub inputs: StepInputs,
    /// The state; a trajectory's result after its last step.
    pub x_t: Value,
    /// The step's estimates of `x_0` and of the noise, `[N, …, C]`.
    pub estimates: Estimates,
}

/// Adds one step: looks up the time step, evaluates `predict`, updates the state and the counter.
/// `predict` returns `[M, …, C]`, or `[M, …, 2C]` with a learned variance.
///
/// # Errors
/// If `predict` fails or its result has another shape.
pub fn sampling_step(
    g: &mut Graph,
    spec: &SamplingSpec,
    predict: impl FnOnce(&mut Graph, StepInputs) -> Result<Value, GraphError>,
) -> Result<SamplingStep, GraphError> {
    let (n, rows) = (spec.batch, spec.rows);
    let evaluated = n * (1 + usize::from(spec.guidance));
    let batch = |n: usize| -> Vec<usize> { [&[n], spec.shape.as_slice()].concat() };
    let x_t = g.state(names::X_T, batch(n), DType::F32)?;
    let counter = g.state(names::COUNTER, [1], DType::I32)?;
    let table = g.input(names::TABLE, [rows, COEFFICIENTS], DType::F32)?;
    let timesteps = g.input(names::TIMESTEPS, [rows], DType::I32)?;
    let continues = g.input(names::CONTINUES, [rows], DType::F32)?;

    let inputs = StepInputs {
        x_t: match spec.guidance {
            true => twice(g, x_t, batch(evaluated))?,
            false => x_t,
        },
        t: g.table_row_repeated(timesteps, counter, evaluated)?,
        labels: match spec.labels {
            true => Some(g.input(names::LABELS, [evaluated], DType::I32)?),
            false => None,
        },
        continues: g.table_row(continues, counter)?,
    };
    let prediction = predict(g, inputs)?;

    let (noise, noise_inputs) = match spec.noise {
        NoiseSource::None => (FreshNoise::None, vec![]),
        NoiseSource::Philox => {
            let seed = g.input(names::SEED, [2], DType::I32)?;
            let images = g.input(names::IMAGES, [n], DType::I32)?;
            let noise = FreshNoise::Philox(RandomStream::SamplerNoise);
            (noise, vec![seed, images])
        }
        NoiseSource::Recorded => {
            let noise = [&[rows, n], spec.shape.as_slice()].concat();
            let noise = g.input(names::NOISE, noise, DType::F32)?;
            (FreshNoise::Given, vec![g.table_row(noise, counter)?])
        }
    };
    let step = SamplerStep {
        prediction: match spec.objective {
            Objective::Noise => Prediction::Noise,
            Objective::Sample => Prediction::Sample,
        },
        clip: spec.clip_x0,
        guidance: spec.guidance,
        learned_variance: spec.learned_variance,
        noise,
    };
    let estimates = g.sampler_step(step, x_t, prediction, table, counter, &noise_inputs)?;
    Ok(SamplingStep {
        inputs,
        x_t,
        estimates,
    })
}

/// `x` behind itself along the batch axis.
fn twice(g: &mut Graph, x: Value, shape: Vec<usize>) -> Result<Value, GraphError> {
    let len = g.ty(x).len();
    let row = g.reshape(x, [1, len])?;
    let zeros = g.constant([2, 1], &[0.0; 2])?;
    let both = g.add(row, zeros)?;
    g.reshape(both, shape)
}

/// Values for a binding.
#[derive(Clone, Debug, PartialEq)]
pub enum HostValues {
    /// For an `f32` binding.
    F32(Vec<f32>),
    /// For an `i32` binding.
    I32(Vec<i32>),
}

/// What one trajectory starts from.
#[derive(Clone, Debug)]
pub struct RunInputs<'a> {
    /// The trajectory.
    pub table: &'a SamplerTable,
    /// Noise to start from, `[N, …, C]`; [`initial_noise`] makes it.
    pub x_t: &'a [f32],
    /// Class of each image; -1 or an empty slice for none.
    pub labels: &'a [i32],
    /// Class of each image in the unconditional half under guidance; an empty slice for none.
    pub opposite_labels: &'a [i32],
    /// Seed of the noise.
    pub seed: u64,
    /// Index of each image under the seed.
    pub images: &'a [u32],
    /// Recorded noise `[steps or fewer, N, …, C]`, zero beyond its end.
    pub noise: &'a [f32],
}

impl SamplingSpec {
    /// The bindings to write before a trajectory of `run.table.steps()` runs of the plan. Some may be
    /// unknown to a plan whose network does not read them.
    ///
    /// # Errors
    /// If a slice has the wrong length or the table is longer than `rows`.
    pub fn bindings(
        &self,
        run: &RunInputs<'_>,
    ) -> Result<Vec<(&'static str, HostValues)>, DiffusionError> {
        let (n, rows, steps) = (self.batch, self.rows, run.table.steps());
        if !(1..=rows).contains(&steps) {
            return Err(DiffusionError::Steps {
                found: steps,
                most: rows,
            });
        }
        let sample: usize = self.shape.iter().product();
        let length = |name, found: usize, expected: usize| match found == expected {
            true => Ok(()),
            false => Err(DiffusionError::Length {
                name,
                expected,
                found,
            }),
        };
        let mut coefficients = run.table.coefficients.clone();
        coefficients.resize(rows * COEFFICIENTS, 0.0);
        let mut timesteps = run.table.timesteps.clone();
        timesteps.resize(rows, 0);
        let mut continues = vec![1.0; rows];
        continues[0] = 0.0;
        length(names::X_T, run.x_t.len(), n * sample)?;
        let mut bindings = vec![
            (names::X_T, HostValues::F32(run.x_t.to_vec())),
            (names::COUNTER, HostValues::I32(vec![0])),
            (names::TABLE, HostValues::F32(coefficients)),
            (names::TIMESTEPS, HostValues::I32(timesteps)),
            (names::CONTINUES, HostValues::F32(continues)),
        ];
        if self.labels {
            let mut labels = Vec::new();
            let halves = [run.labels, run.opposite_labels];
            for half in &halves[..1 + usize::from(self.guidance)] {
                if half.is_empty() {
                    labels.resize(labels.len() + n, -1);
                } else {
                    length(names::LABELS, half.len(), n)?;
                    labels.extend(*half);
                }
            }
            bindings.push((names::LABELS, HostValues::I32(labels)));
        }
        match self.noise {
            NoiseSource::None => {}
            NoiseSource::Philox => {
                length(names::IMAGES, run.images.len(), n)?;
                let images = run.images.iter().map(|&image| image as i32).collect();
                bindings.push((names::IMAGES, HostValues::I32(images)));
                let seed = seed_words(run.seed).to_vec();
                bindings.push((names::SEED, HostValues::I32(seed)));
            }
            NoiseSource::Recorded => {
                let whole = run.noise.len().is_multiple_of((n * sample).max(1));
                if !whole || run.noise.len() > rows * n * sample {
                    length(names::NOISE, run.noise.len(), steps * n * sample)?;
                }
                let mut noise = run.noise.to_vec();
                noise.resize(rows * n * sample, 0.0);
                bindings.push((names::NOISE, HostValues::F32(noise)));
            }
        }
        Ok(bindings)
    }
}

/// The noise `[N, len]` that the images `images` of `seed` start from: the stream
/// [`RandomStream::InitialNoise`] at step 0.
pub fn initial_noise(seed: u64, images: &[u32], len: usize) -> Vec<f32> {
    let key = stream_key(seed, RandomStream::InitialNoise);
    let mut noise = vec![0.0; images.len() * len];
    for (&image, sample) in images.iter().zip(noise.chunks_exact_mut(len.max(1))) {
        fill_normal(key, u64::from(image), 0, sample);
    }
    noise
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::PlanOptions;
    use crate::device::cpu::{CpuDevice, CpuExecutable};
    use crate::diffusion::{BetaSchedule, NoiseConfig};
    use crate::diffusion::{Method, NoiseSchedule};
    use crate::ops::{Binary, Unary};
    use crate::tensor::TensorMap;

    const SHAPE: [usize; 3] = [5, 7, 4];
    const SEED: u64 = 0x8000_0001_ffff_fff7;

    fn spec(batch: usize, guidance: bool) -> SamplingSpec {
        SamplingSpec {
            batch,
            shape: SHAPE.to_vec(),
            rows: 12,
            objective: Objective::Noise,
            clip_x0: false,
            learned_variance: true,
            guidance,
            labels: true,
            noise: NoiseSource::Philox,
        }
    }

    fn schedule() -> NoiseSchedule {
        NoiseSchedule::new(&NoiseConfig {
            timesteps: 60,
            betas: BetaSchedule::Cosine,
        })
        .unwrap()
    }

    /// A network of a few elementwise ops that mixes in label and time step, and predicts a
    /// variance behind the noise.
    fn predict(g: &mut Graph, step: StepInputs) -> Result<Value, GraphError> {
        let n = g.shape(step.x_t)[0];
        let by_class = g.parameter("by_class", [3, 1])?;
        let by_time = g.parameter("by_time", [60, 1])?;
        let labels = step.labels.expect("the network takes labels");
        let class = g.embedding(by_class, labels)?;
        let time = g.embedding(by_time, step.t)?;
        let shift = g.add(class, time)?;
        let shift = g.reshape(shift, [n, 1, 1, 1])?;
        let x = g.add(step.x_t, shift)?;
        let previous = g.apply(Binary::Mul, &[step.x_t, step.continues])?;
        let y = g.add(x, previous)?;
        let y = g.swish(y)?;
        let variance = g.apply(
            Unary::Clamp {
                low: -1.0,
                high: 1.0,
            },
            &[x],
        )?;
        g.concat(&[y, variance])
    }

    fn trajectory(images: &[u32], labels: &[i32], guidance: f64, method: Method) -> Vec<f32> {
        let guided = guidance != 1.0;
        let spec = spec(images.len(), guided);
        let mut g = Graph::new();
        sampling_step(&mut g, &spec, predict).unwrap();
        let device = CpuDevice::new(Some(2)).unwrap();
        let plan = device.plan(&g, PlanOptions::default());
        let weights = |name: &str, len: usize| {
            let values: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin()).collect();
            let tensor = crate::tensor::Tensor::from_f32([len, 1], &values);
            (name.to_owned(), tensor)
        };
        let weights = TensorMap::from([weights("by_class", 3), weights("by_time", 60)]);
        let mut exe: CpuExecutable = device.load(plan, &weights).unwrap();
        let table = SamplerTable::new(&schedule(), method, 9, guidance, true).unwrap();
        let len = SHAPE.iter().product();
        let bindings = spec.bindings(&RunInputs {
            table: &table,
            x_t: &initial_noise(SEED, images, len),
            labels,
            opposite_labels: &[],
            seed: SEED,
            images,
            noise: &[],
        });
        for (name, values) in bindings.unwrap() {
            match values {
                HostValues::F32(values) => exe.write(name, &values).unwrap(),
                HostValues::I32(values) => exe.write_i32(name, &values).unwrap(),
            }
        }
        exe.poison();
        for _ in 0..table.steps() {
            exe.run();
        }
        assert_eq!(exe.read_i32(names::COUNTER).unwrap(), [9]);
        exe.read(names::X_T).unwrap().to_vec()
    }

    #[test]
    fn an_image_does_not_depend_on_its_batch() {
        let len: usize = SHAPE.iter().product();
        for method in [Method::default(), Method::Ancestral] {
            for guidance in [1.0, 3.5] {
                let many = trajectory(&[3, 8, u32::MAX], &[0, 2, 1], guidance, method);
                assert!(many.iter().all(|v| v.is_finite()));
                let alone = trajectory(&[8], &[2], guidance, method);
                assert_eq!(many[len..2 * len], alone, "{method:?} {guidance}");
                assert_ne!(alone, trajectory(&[8], &[1], guidance, method));
                assert_ne!(alone, trajectory(&[9], &[2], guidance, method));
            }
        }
    }

    /// Guidance between a prediction and itself changes nothing but rounding.
    #[test]
    fn guidance_extrapolates_from_the_unconditional_half() {
        let without = trajectory(&[1], &[-1], 1.0, Method::default());
        let guided = trajectory(&[1], &[-1], 7.0, Method::default());
        assert_eq!(without, guided);
    }

    #[test]
    fn wrong_lengths_are_named() {
        let table = SamplerTable::new(&schedule(), Method::Ancestral, 9, 1.0, true).unwrap();
        let x_t = vec![0.0; 2 * SHAPE.iter().product::<usize>()];
        let run = RunInputs {
            table: &table,
            x_t: &x_t,
            labels: &[1],
            opposite_labels: &[],
            seed: 0,
            images: &[0, 1],
            noise: &[],
        };
        let error = |run: &RunInputs<'_>| spec(2, false).bindings(run).unwrap_err().to_string();
        assert_eq!(error(&run), "'sampler.labels' takes 2 values, found 1");
        let few = RunInputs {
            labels: &[],
            images: &[0],
            ..run.clone()
        };
        assert_eq!(error(&few), "'sampler.images' takes 2 values, found 1");
        let long = SamplerTable::new(&schedule(), Method::Ancestral, 13, 1.0, true).unwrap();
        let long = RunInputs {
            table: &long,
            ..run
        };
        assert!(error(&long).contains("1 to 12, found 13"));
    }
}
