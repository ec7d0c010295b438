//! Which time steps a sampler visits.

/// How the time steps of a trajectory lie among those of the schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestepSpacing {
    /// Evenly over the whole process, see [`even_timesteps`]: every trajectory starts at the last time step, where `x_t`
    /// is noise.
    #[default]
    Even,
    /// As the reference implementation: [`ddim_timesteps`] and [`ancestral_timesteps`]. They differ from [`Self::Even`]
    /// for DDIM of one step and for ancestral sampling of fewer steps than the schedule has; both of these start from noise
    /// at a time step where the network expects a sample with less noise. For comparison with recorded trajectories.
    Reference,
}

/// The grid of [`TimestepSpacing::Even`], ascending: [`ddim_timesteps`], and for one step the last time step.
pub fn even_timesteps(timesteps: usize, steps: usize) -> Vec<i32> {
    match steps {
        1 => vec![timesteps.saturating_sub(1) as i32],
        _ => ddim_timesteps(timesteps, steps),
    }
}

/// The DDIM grid of `steps` time steps in `0..timesteps`, ascending; a trajectory runs through it from the
/// end.
///
/// Evenly spaced from 0 to `T - 1` with spacing `d = (T - 1) / (steps - 1)` in `f64`, truncated:
/// the lower half is `trunc(d i)`, the upper half `trunc((T - 1) - d (steps - 1 - i))`, as the
/// reference's tensor library computes it. One step visits time step 0 only.
pub fn ddim_timesteps(timesteps: usize, steps: usize) -> Vec<i32> {
    if steps < 2 || timesteps == 0 {
        return vec![0; steps];
    }
    let last = (timesteps - 1) as f64;
    let spacing = last / (steps - 1) as f64;
    (0..steps)
        .map(|i| {
            let t = if i < steps / 2 {
                spacing * i as f64
            } else {
                last - spacing * (steps - 1 - i) as f64
            };
            t as i32
        })
        .collect()
}

/// The ancestral grid: the first `steps` time steps, ascending. It is not respaced, so with fewer
/// than `T` steps the trajectory starts from pure noise in the middle of the process, as the reference
/// does.
pub fn ancestral_timesteps(steps: usize) -> Vec<i32> {
    (0..steps as i32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_end_where_the_process_ends() {
        for (timesteps, steps) in [(1000, 2), (1000, 150), (1000, 1000), (50, 7), (2, 2)] {
            let grid = ddim_timesteps(timesteps, steps);
            assert_eq!(grid.len(), steps);
            assert_eq!(grid[0], 0);
            assert_eq!(grid[steps - 1], timesteps as i32 - 1);
            assert!(grid.is_sorted());
        }
        assert_eq!(ddim_timesteps(1000, 1), [0]);
        assert_eq!(ddim_timesteps(1000, 4), [0, 333, 666, 999]);
        assert_eq!(ancestral_timesteps(3), [0, 1, 2]);
    }

    #[test]
    fn even_spacing_starts_at_the_last_time_step() {
        for timesteps in [1, 2, 50, 1000] {
            for steps in 1..=timesteps {
                let grid = even_timesteps(timesteps, steps);
                assert_eq!(grid[steps - 1], timesteps as i32 - 1, "{steps}");
                if steps > 1 {
                    assert_eq!(grid, ddim_timesteps(timesteps, steps));
                }
            }
            let all = ancestral_timesteps(timesteps);
            assert_eq!(even_timesteps(timesteps, timesteps), all);
        }
    }
}
