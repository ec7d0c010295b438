//! What is known of a kernel once all functions are lowered.

use super::super::code::Function;
use super::super::items::{Kernel, SharedVariable, UNUSED};
use crate::limits;

/// Fills in what depends on all functions that a kernel may call: the layout of shared memory, the narrowest accesses,
/// how threads synchronise.
pub(super) fn finish_kernel(
    k: &mut Kernel,
    functions: &[Function],
    shared: &[SharedVariable],
) -> Result<(), String> {
    let mut seen = vec![false; functions.len()];
    let mut work = vec![k.function];
    let mut used = vec![false; shared.len()];
    while let Some(at) = work.pop() {
        let Some(f) = functions.get(at as usize) else {
            continue;
        };
        if std::mem::replace(&mut seen[at as usize], true) {
            continue;
        }
        for v in &f.shared_used {
            used[*v as usize] = true;
        }
        k.narrowest_shared = k.narrowest_shared.min(f.narrowest_shared);
        k.narrowest_global = k.narrowest_global.min(f.narrowest_global);
        k.general_sync |= f.general_sync;
        work.extend(&f.calls);
        if f.calls_indirectly {
            work.extend(
                functions
                    .iter()
                    .enumerate()
                    .filter(|(_, f)| !f.is_kernel)
                    .map(|(i, _)| i as u32),
            );
        }
    }
    let mut end = 0u64;
    k.shared_offsets = vec![UNUSED; shared.len()];
    let mut dynamic_align = 16u64;
    for (n, v) in shared.iter().enumerate() {
        if !used[n] {
            continue;
        }
        if v.dynamic {
            dynamic_align = dynamic_align.max(v.align);
            continue;
        }
        end = end.next_multiple_of(v.align.max(1));
        k.shared_offsets[n] = end as u32;
        end += v.size;
        if end > u64::from(limits::STATIC_SHARED_PER_BLOCK) {
            return Err(format!(
                "kernel `{}` has more than {} bytes of static shared memory (at `{}`); use dynamic shared memory",
                k.name,
                limits::STATIC_SHARED_PER_BLOCK,
                v.name
            ));
        }
    }
    k.static_shared_bytes = end as u32;
    let dynamic_start = end.next_multiple_of(dynamic_align) as u32;
    for (n, v) in shared.iter().enumerate() {
        if v.dynamic {
            k.shared_offsets[n] = dynamic_start;
        }
    }
    if shared.iter().enumerate().any(|(n, v)| v.dynamic && used[n]) {
        k.static_shared_bytes = dynamic_start.max(end as u32);
    }
    Ok(())
}
