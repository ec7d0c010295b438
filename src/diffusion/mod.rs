//! The diffusion process: noise schedules, time-step grids, the coefficients of samplers, and the
//! sampling step as part of a graph. Nothing here knows the network.

mod config;
mod error;
mod grid;
mod sampling;
mod schedule;
mod table;

pub use config::{BetaSchedule, NoiseConfig, Objective};
pub use error::DiffusionError;
pub use grid::{TimestepSpacing, ancestral_timesteps, ddim_timesteps, even_timesteps};
pub use sampling::{
    HostValues, NoiseSource, RunInputs, SamplingSpec, SamplingStep, StepInputs, initial_noise,
    names, sampling_step,
};
pub use schedule::{NoiseSchedule, PosteriorStep};
pub use table::{Method, SamplerTable};
