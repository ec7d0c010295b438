//! A module placed in a device's memory.

use std::sync::Arc;

use crate::ir::{GlobalSpace, Module};
use crate::memory::{AllocationKind, CODE_WINDOW, DeviceMemory, OutOfMemory};

/// Where a module's variables are placed in one device's memory. Dropping it frees nothing: call
/// [`Instance::unload`].
pub struct Instance {
    module: Arc<Module>,
    addresses: Vec<u64>,
}

impl Instance {
    /// Places variables and constants and resolves the addresses in their initialisers.
    ///
    /// # Errors
    /// When the variables don't fit.
    pub fn new(module: &Arc<Module>, memory: &DeviceMemory) -> Result<Instance, OutOfMemory> {
        let mut addresses: Vec<u64> = Vec::new();
        if module.uses_heap() {
            memory.make_heap()?;
        }
        for g in module.globals() {
            let kind = match g.space {
                GlobalSpace::Global => AllocationKind::Global,
                GlobalSpace::Const => AllocationKind::Const,
            };
            match memory.alloc_kind(g.size, &g.name, kind) {
                Ok(a) => addresses.push(a),
                Err(e) => {
                    Instance {
                        module: module.clone(),
                        addresses,
                    }
                    .unload(memory);
                    return Err(e);
                }
            }
        }
        let instance = Instance {
            module: module.clone(),
            addresses,
        };
        for (g, address) in module.globals().iter().zip(&instance.addresses) {
            let mut bytes = g.bytes.clone();
            bytes.resize(g.size as usize, 0);
            for r in &g.relocations {
                let value = instance.symbol(&r.symbol).wrapping_add(r.addend as u64) >> r.shift;
                let (at, width) = (r.offset as usize, r.width.min(8) as usize);
                if let Some(field) = bytes.get_mut(at..at + width) {
                    field.copy_from_slice(&value.to_le_bytes()[..width]);
                }
            }
            // The allocation was made for exactly these bytes.
            let _ = memory.write(*address, &bytes);
        }
        Ok(instance)
    }

    /// The address of a variable or function; 0 for a name that the module doesn't define, which
    /// compiling has excluded.
    fn symbol(&self, name: &str) -> u64 {
        if let Some(at) = self.module.globals().iter().position(|g| g.name == name) {
            return self.addresses[at];
        }
        self.module
            .function_index(name)
            .map_or(0, |i| CODE_WINDOW + 16 * u64::from(i))
    }

    /// The address of a module variable by its index.
    pub(super) fn address(&self, index: u32) -> u64 {
        self.addresses[index as usize]
    }

    /// The module.
    pub fn module(&self) -> &Arc<Module> {
        &self.module
    }

    /// Address and size in bytes of a module variable.
    pub fn global(&self, name: &str) -> Option<(u64, u64)> {
        let at = self.module.globals().iter().position(|g| g.name == name)?;
        Some((*self.addresses.get(at)?, self.module.globals()[at].size))
    }

    /// Frees the variables.
    pub fn unload(self, memory: &DeviceMemory) {
        for address in self.addresses {
            // A variable that is already gone was freed by the host program: nothing is left to do.
            let _ = memory.free(address);
        }
    }
}
