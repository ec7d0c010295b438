//! Launches: blocks, warps, divergence, barriers and their schedule.
//!
//! | module | what |
//! |---|---|
//! | `config`, `instance`, `occupancy` | what is launched and where its variables are; resident blocks |
//! | `launch_state`, `block_state`, `warp`, `local` | what blocks share, what warps share, what lanes have |
//! | `trouble` | a fault where it happens |
//! | `running` | a warp while it runs, with its block and its launch |
//! | `access`, `copy`, `atomic`, `matrix`, `collective`, `barrier`, `call`, `builtin`, `special` | instructions by class |
//! | `interpreter`, `block`, `launch` | schedules: the groups of a warp, the warps of a block, the blocks of a launch |

mod access;
mod atomic;
mod barrier;
mod block;
mod block_state;
mod builtin;
mod call;
mod collective;
mod config;
mod copy;
mod instance;
mod interpreter;
mod launch;
mod launch_state;
mod local;
mod matrix;
mod occupancy;
mod running;
mod special;
mod trouble;
mod warp;

pub use config::{ConfigError, LaunchConfig, LaunchError, LaunchReport, Options};
pub use instance::Instance;
pub use launch::launch;
pub use occupancy::blocks_per_sm;
