//! Which time steps a sampler visits.

/// The DDIM grid of `steps` time steps in `0..timesteps`, ascending; sampling walks it from the
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
/// than `T` steps the walk starts from pure noise in the middle of the process, as the reference
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
}
