//! The emulated device: initialisation, identity and attributes of one GeForce RTX 3090 (compute capability 8.6).

use std::ffi::c_char;

use super::abi::{DeviceProperties, Out, Text, Uuid};
use super::entry::api;
use super::error::{CudaError, Result};
use super::process::Driver;
use super::settings::DRIVER_VERSION;
use crate::limits;

const CLOCK_KHZ: i32 = 1_695_000;
const MAX_PITCH: i32 = 0x7fff_ffff;
const WARP: i32 = 32;

const NAME: &str = "NVIDIA GeForce RTX 3090 (emulated)";
const PCI_BUS_ID: &str = "0000:01:00.0";
const UUID: [u8; 16] = *b"emulated-sm86-00";

/// The value of a `CUdevice_attribute`, `None` for a number that is none of CUDA 12.9's.
///
/// Texture and surface limits are 0: the emulator has neither.
fn attribute(id: u32) -> Option<i32> {
    Some(match id {
        1 => limits::THREADS_PER_BLOCK as i32,
        2..=4 => limits::BLOCK_DIM[id as usize - 2] as i32,
        5..=7 => limits::GRID_DIM[id as usize - 5] as i32,
        8 => limits::STATIC_SHARED_PER_BLOCK as i32,
        9 => limits::CONSTANT_MEMORY as i32,
        10 => WARP,
        11 => MAX_PITCH,
        12 => limits::REGISTERS_PER_SM as i32,
        13 => CLOCK_KHZ,
        14 => 512, // texture alignment
        15 => 1,   // copies overlap kernels
        16 => limits::SMS as i32,
        17 => 0,         // no run-time limit on kernels
        18 => 0,         // not integrated
        19 => 1,         // maps host memory
        20 => 0,         // default compute mode
        30 => 512,       // surface alignment
        31 => 1,         // concurrent kernels
        32 => 0,         // no ECC
        33 => 1,         // PCI bus
        34 => 0,         // PCI device
        35 => 0,         // not TCC
        36 => 9_751_000, // memory clock in kHz
        37 => 384,       // memory bus in bits
        38 => 6 << 20,   // L2 cache
        39 => limits::THREADS_PER_SM as i32,
        40 => 2,  // copy engines
        41 => 1,  // unified addressing
        50 => 0,  // PCI domain
        51 => 32, // texture pitch alignment
        75 => 8,
        76 => 6,
        78 => 1,      // stream priorities
        79 | 80 => 1, // global and local L1 caching
        81 => limits::SHARED_PER_SM as i32,
        82 => limits::REGISTERS_PER_SM as i32,
        83 => 1,      // managed memory
        84 | 85 => 0, // not on a multi-GPU board
        86 => 0,      // no native host atomics
        87 => 32,     // f32 to f64 rate as the driver reports it for GA10x
        88 => 0,      // no pageable memory access
        89 => 1,      // managed memory may be shared at the same time
        90 => 1,      // compute preemption
        91 => 1,      // host pointers of registered memory work on the device
        92..=94 => 0, // stream memory operations, first version
        95 => 1,      // cooperative launch
        96 => 0,
        97 => limits::SHARED_PER_BLOCK as i32,
        98 => 0,
        99 => 1, // cuMemHostRegister
        100 | 101 => 0,
        102 => 0, // no virtual address management
        103..=105 => 0,
        106 => limits::BLOCKS_PER_SM as i32,
        107 => 0,
        108 | 109 => 0, // no persisting L2 window
        110 => 0,
        111 => limits::RESERVED_SHARED_PER_BLOCK as i32,
        112 => 0,
        113 | 114 => 0,
        115 => 1,       // memory pools
        116..=121 => 0, // no RDMA, no clusters
        122 | 123 => 1, // stream memory operations on 64 bits, NOR
        124 | 125 => 0,
        126 => 1,       // one memory synchronisation domain
        127..=148 => 0, // tensor maps, fabric, multicast, NUMA …: a 3090 has none
        21..=29 | 42..=49 | 52..=74 | 77 => 0,
        _ => return None,
    })
}

/// `INVALID_DEVICE` unless `device` is the emulated one, `NOT_INITIALIZED` before `cuInit`.
pub fn check(device: i32) -> Result<()> {
    Driver::get()?;
    if device == 0 {
        Ok(())
    } else {
        Err(CudaError::INVALID_DEVICE)
    }
}

api! {
    fn cuInit(flags: u32) {
        if flags != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        Driver::init()
    }

    fn cuDriverGetVersion(version: Out<i32>) {
        version.set(match Driver::get() {
            Ok(driver) => driver.lock().settings.driver_version_number(),
            // It may be asked before `cuInit`.
            Err(_) => DRIVER_VERSION,
        })
    }

    fn cuDeviceGetCount(count: Out<i32>) {
        Driver::get()?;
        count.set(1)
    }

    fn cuDeviceGet(device: Out<i32>, ordinal: i32) {
        check(ordinal)?;
        device.set(0)
    }

    fn cuDeviceGetName(name: Out<c_char>, len: i32, device: i32) {
        check(device)?;
        name.set_text(NAME, usize::try_from(len).unwrap_or(0))
    }

    fn cuDeviceGetUuid(uuid: Out<Uuid>, device: i32) {
        check(device)?;
        uuid.set(Uuid { bytes: UUID })
    }

    fn cuDeviceGetUuid_v2(uuid: Out<Uuid>, device: i32) {
        check(device)?;
        uuid.set(Uuid { bytes: UUID })
    }

    fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: i32) {
        check(device)?;
        bytes.set(limits::TOTAL_MEMORY as usize)
    }

    fn cuDeviceGetAttribute(value: Out<i32>, id: u32, device: i32) {
        check(device)?;
        value.set(attribute(id).ok_or(CudaError::INVALID_VALUE)?)
    }

    fn cuDeviceComputeCapability(major: Out<i32>, minor: Out<i32>, device: i32) {
        check(device)?;
        major.set(8)?;
        minor.set(6)
    }

    fn cuDeviceGetProperties(properties: Out<DeviceProperties>, device: i32) {
        check(device)?;
        properties.set(DeviceProperties {
            max_threads_per_block: limits::THREADS_PER_BLOCK as i32,
            max_threads_dim: limits::BLOCK_DIM.map(|n| n as i32),
            max_grid_size: limits::GRID_DIM.map(|n| n as i32),
            shared_per_block: limits::STATIC_SHARED_PER_BLOCK as i32,
            total_constant_memory: limits::CONSTANT_MEMORY as i32,
            simd_width: WARP,
            mem_pitch: MAX_PITCH,
            regs_per_block: limits::REGISTERS_PER_SM as i32,
            clock_rate: CLOCK_KHZ,
            texture_align: 512,
        })
    }

    fn cuDeviceGetPCIBusId(id: Out<c_char>, len: i32, device: i32) {
        check(device)?;
        id.set_text(PCI_BUS_ID, usize::try_from(len).unwrap_or(0))
    }

    fn cuDeviceGetByPCIBusId(device: Out<i32>, id: Text) {
        Driver::get()?;
        // The domain may be left out and the case of the digits is free.
        let asked = id.str()?.to_ascii_lowercase();
        if asked == PCI_BUS_ID || PCI_BUS_ID.strip_prefix("0000:") == Some(asked.as_str()) {
            device.set(0)
        } else {
            Err(CudaError::INVALID_DEVICE)
        }
    }

    fn cuDeviceCanAccessPeer(can: Out<i32>, device: i32, peer: i32) {
        check(device)?;
        check(peer)?;
        can.set(0)
    }

    fn cuDeviceGetExecAffinitySupport(supported: Out<i32>, _kind: u32, device: i32) {
        check(device)?;
        supported.set(0)
    }
}
