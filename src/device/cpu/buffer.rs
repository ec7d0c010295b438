//! Aligned, zero-initialised memory that steps address by byte offset.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

const ALIGNMENT: usize = 64;

/// A fixed block of bytes aligned to 64. Freshly mapped pages are only touched when used.
#[derive(Debug)]
pub(crate) struct Buffer {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the buffer is plain memory; `&Buffer` only hands out raw pointers.
unsafe impl Send for Buffer {}
// SAFETY: as above; whoever dereferences the pointers upholds aliasing.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `bytes` zeroed bytes.
    pub fn zeroed(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes.max(ALIGNMENT), ALIGNMENT)
            .expect("buffer sizes are far below isize::MAX");
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        Self { start, layout }
    }

    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.layout.size()
    }

    /// Address of byte `offset`.
    pub fn at(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset <= self.len());
        self.start.as_ptr().wrapping_add(offset)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}
