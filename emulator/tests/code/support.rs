//! What the tests of real CUDA code share: compile with NVRTC, place arrays, launch with every checker on, read back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytemuck::{NoUninit, Pod, Zeroable};
use cuda_emulator::case::nvrtc;
use cuda_emulator::{DeviceMemory, Instance, LaunchConfig, Module, Options, launch};

/// A compiled program on a device of its own.
pub struct Program {
    name: String,
    module: Arc<Module>,
    memory: DeviceMemory,
    instance: Instance,
}

/// A kernel argument.
pub enum Arg {
    /// A device address.
    Address(u64),
    /// Any scalar or structure, as its bytes.
    Bytes(Vec<u8>),
}

/// A scalar argument.
pub fn scalar<T: NoUninit>(value: T) -> Arg {
    Arg::Bytes(bytemuck::bytes_of(&value).to_vec())
}

/// An array on the device.
#[derive(Clone, Copy)]
pub struct Buffer {
    /// Its address.
    pub address: u64,
    bytes: u64,
}

impl From<&Buffer> for Arg {
    fn from(buffer: &Buffer) -> Arg {
        Arg::Address(buffer.address)
    }
}

impl Program {
    /// Compiles CUDA C++. `None`, with a line on stderr, where NVRTC isn't installed; but in CI that fails the test.
    pub fn cuda(name: &str, source: &str, options: &[&str]) -> Option<Program> {
        if let Err(missing) = nvrtc::path() {
            assert!(
                std::env::var_os("CI").is_none_or(|ci| ci != "true"),
                "CI must not skip this test: {missing}"
            );
            eprintln!("NOT TESTED ({name}): {missing}");
            return None;
        }
        // Several tests share a source, and compiling the larger headers takes seconds.
        static COMPILED: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        let ptx = compiled
            .entry(format!("{name} {options:?}"))
            .or_insert_with(|| {
                let options: Vec<String> =
                    options.iter().map(|&option| option.to_owned()).collect();
                nvrtc::compile(source, name, &options).unwrap_or_else(|log| panic!("{log}"))
            });
        let ptx = ptx.clone();
        drop(compiled);
        Some(Program::ptx(name, &ptx))
    }

    /// Loads PTX.
    pub fn ptx(name: &str, ptx: &str) -> Program {
        let module =
            Arc::new(Module::compile(ptx, name).unwrap_or_else(|error| panic!("{name}: {error}")));
        let memory = DeviceMemory::new(24 << 30).expect("address space");
        let instance = Instance::new(&module, &memory).expect("room for the module's variables");
        Program {
            name: name.to_owned(),
            module,
            memory,
            instance,
        }
    }

    /// The value of a module variable.
    pub fn variable<T: Pod + Zeroable>(&self, name: &str) -> T {
        let (address, size) = self
            .instance
            .global(name)
            .unwrap_or_else(|| panic!("{}: no variable {name}", self.name));
        assert_eq!(size as usize, size_of::<T>(), "size of {name}");
        let mut value = T::zeroed();
        self.memory
            .read(address, bytemuck::bytes_of_mut(&mut value))
            .expect("a read inside the variable");
        value
    }

    /// An array with the host's values.
    pub fn upload<T: NoUninit>(&self, values: &[T]) -> Buffer {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let buffer = self.uninit_bytes(bytes.len());
        self.memory
            .write(buffer.address, bytes)
            .expect("a write inside the array");
        buffer
    }

    /// An array that nobody has written.
    pub fn uninit<T>(&self, len: usize) -> Buffer {
        self.uninit_bytes(len * size_of::<T>())
    }

    fn uninit_bytes(&self, bytes: usize) -> Buffer {
        let address = self
            .memory
            .alloc(bytes as u64, "test array")
            .expect("memory");
        Buffer {
            address,
            bytes: bytes as u64,
        }
    }

    /// The array's values, all of which must have been written.
    pub fn download<T: Pod + Zeroable>(&self, buffer: &Buffer) -> Vec<T> {
        assert_eq!(
            self.memory.first_uninit(buffer.address, buffer.bytes),
            None,
            "{}: an element was never written",
            self.name
        );
        let mut values = vec![T::zeroed(); buffer.bytes as usize / size_of::<T>()];
        self.memory
            .read(buffer.address, bytemuck::cast_slice_mut(&mut values))
            .expect("a read inside the array");
        values
    }

    /// Frees an array.
    pub fn free(&self, buffer: Buffer) {
        self.memory.free(buffer.address).expect("a living array");
    }

    /// Runs a kernel with all checkers; any report of theirs fails the test.
    pub fn launch(&self, kernel: &str, grid: [u32; 3], block: [u32; 3], args: &[Arg]) {
        self.launch_with(kernel, grid, block, 0, false, args);
    }

    /// Runs a kernel with dynamic shared memory, perhaps cooperatively.
    pub fn launch_with(
        &self,
        kernel: &str,
        grid: [u32; 3],
        block: [u32; 3],
        dynamic_shared_bytes: u32,
        cooperative: bool,
        args: &[Arg],
    ) {
        let description = self
            .module
            .kernel(kernel)
            .unwrap_or_else(|| panic!("{}: no kernel {kernel}", self.name));
        assert_eq!(
            description.parameters.len(),
            args.len(),
            "{kernel}: parameters"
        );
        let mut params = vec![0u8; description.parameter_bytes as usize];
        for (parameter, arg) in description.parameters.iter().zip(args) {
            let bytes = match arg {
                Arg::Address(address) => address.to_le_bytes().to_vec(),
                Arg::Bytes(bytes) => bytes.clone(),
            };
            assert_eq!(
                bytes.len(),
                parameter.size as usize,
                "{kernel}: size of {}",
                parameter.name
            );
            params[parameter.offset as usize..][..bytes.len()].copy_from_slice(&bytes);
        }
        let config = LaunchConfig {
            kernel,
            grid,
            block,
            dynamic_shared_bytes,
            params: &params,
            cooperative,
        };
        // Another schedule in another run: EMULATOR_SEED repeats one, and a failure prints its own.
        let seed = std::env::var("EMULATOR_SEED")
            .map_or(0, |seed| seed.parse().expect("EMULATOR_SEED is a number"));
        let options = Options {
            seed,
            ..Options::default()
        };
        if let Err(error) = launch(&self.memory, &self.instance, &config, &options) {
            panic!("{} {kernel}: {error}", self.name);
        }
    }

    /// Runs `kernel(inputs…, output)` with one thread per element in blocks of 256; the length must be a multiple.
    pub fn map<T: Pod + Zeroable>(
        &self,
        kernel: &str,
        inputs: &[Buffer],
        threads: usize,
    ) -> Vec<T> {
        self.map_with(kernel, inputs, threads, &mut |_| {})
    }

    /// [`Program::map`] with further arguments after the output.
    pub fn map_with<T: Pod + Zeroable>(
        &self,
        kernel: &str,
        inputs: &[Buffer],
        threads: usize,
        more: &mut dyn FnMut(&mut Vec<Arg>),
    ) -> Vec<T> {
        assert_eq!(threads % 256, 0);
        let output = self.uninit::<T>(threads);
        let mut args: Vec<Arg> = inputs.iter().map(Arg::from).collect();
        args.push(Arg::from(&output));
        more(&mut args);
        self.launch(kernel, [(threads / 256) as u32, 1, 1], [256, 1, 1], &args);
        let values = self.download(&output);
        self.free(output);
        values
    }
}

/// A small generator with good bits (SplitMix64), so that tests repeat.
pub struct Random(pub u64);

impl Random {
    /// 64 random bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [low, high).
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Roughly standard normal.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform(0.0, 1.0)).sum::<f64>() - 6.0
    }
}
