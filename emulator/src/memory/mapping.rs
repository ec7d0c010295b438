//! Address space from the operating system.

/// A range of reserved address space; only the pages that are touched exist.
pub(super) struct Mapping {
    /// The first byte.
    pub base: *mut u8,
    /// Bytes.
    pub length: usize,
}

impl Mapping {
    /// Reserves address space; it reads as zero.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn reserve(length: u64) -> std::io::Result<Mapping> {
        let length = usize::try_from(length).map_err(std::io::Error::other)?;
        // SAFETY: an anonymous private mapping with no address asked for overlaps nothing; the
        // result is checked below.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: the range was mapped just now; keeping small pages is only advice.
        unsafe { libc::madvise(base, length, libc::MADV_NOHUGEPAGE) };
        Ok(Mapping {
            base: base.cast(),
            length,
        })
    }

    /// Gives the pages of a range back; they read as zero afterwards.
    pub fn discard(&self, offset: u64, length: u64) {
        let page = 4096;
        let start = (offset + page - 1) & !(page - 1);
        let end = (offset + length) & !(page - 1);
        if end <= start || end > self.length as u64 {
            return;
        }
        // SAFETY: the range lies inside this mapping, which nobody else owns; whoever calls this
        // holds no reference into it.
        unsafe {
            libc::madvise(
                self.base.add(start as usize).cast(),
                (end - start) as usize,
                libc::MADV_DONTNEED,
            );
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `reserve` with this length, unmapped once.
        unsafe { libc::munmap(self.base.cast(), self.length) };
    }
}
