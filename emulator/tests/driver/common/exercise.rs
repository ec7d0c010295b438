//! Compiles a text as PTX and launches what is in it with hostile arguments: nothing may panic or crash.

use std::sync::Arc;

use cuda_emulator::{DeviceMemory, Instance, LaunchConfig, Module, Options, launch};

/// How often launches run and with what.
pub struct Hostility {
    /// Source of sizes, pointers and the schedule.
    pub seed: u64,
}

impl Hostility {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Mostly small numbers, sometimes the edges.
    fn size(&mut self) -> u32 {
        match self.next() % 16 {
            0 => 0,
            1 => u32::MAX,
            2 => 1025,
            3 => 1024,
            n => 1 + (n as u32 * 7) % 40,
        }
    }

    /// An argument's eight bytes: a buffer, its edge, null, noise.
    fn argument(&mut self, buffer: u64) -> u64 {
        match self.next() % 8 {
            0 => 0,
            1 => self.next(),
            2 => buffer + 1 + self.next() % 64,
            3 => u64::MAX,
            4 => self.next() % 128,
            _ => buffer,
        }
    }
}

/// Compiles `text` and launches every kernel a few times. Returns how many launches ended without a report.
pub fn exercise(text: &str, mut hostility: Hostility) -> usize {
    let Ok(module) = Module::compile(text, "hostile.ptx") else {
        return 0;
    };
    let module = Arc::new(module);
    let Ok(memory) = DeviceMemory::new(64 << 20) else {
        return 0;
    };
    let Ok(instance) = Instance::new(&module, &memory) else {
        return 0;
    };
    let Ok(buffer) = memory.alloc(4096, "buffer") else {
        return 0;
    };
    let mut clean = 0;
    for kernel in module.kernels().iter().take(4) {
        for _ in 0..2 {
            let mut params = Vec::new();
            while params.len() < kernel.parameter_bytes as usize {
                params.extend(hostility.argument(buffer).to_le_bytes());
            }
            if !hostility.next().is_multiple_of(16) {
                params.truncate(kernel.parameter_bytes as usize);
            }
            // Grids are kept small: a large one is slow, not dangerous.
            let mut grid = [0; 3].map(|_: u32| hostility.size());
            if grid.iter().all(|n| (1..=1024).contains(n)) {
                grid = [1 + grid[0] % 3, 1, 1];
            }
            let threads = hostility.size();
            let config = LaunchConfig {
                kernel: &kernel.name,
                grid,
                block: if hostility.next().is_multiple_of(4) {
                    [threads, hostility.size(), 1]
                } else {
                    [threads, 1, 1]
                },
                dynamic_shared_bytes: hostility.size(),
                params: &params,
                cooperative: hostility.next().is_multiple_of(8),
            };
            let options = Options {
                seed: hostility.next(),
                threads: 1,
                counters: hostility.next().is_multiple_of(2),
                max_warp_instructions_per_block: 2_000,
                ..Options::default()
            };
            clean += usize::from(launch(&memory, &instance, &config, &options).is_ok());
        }
    }
    clean
}
