//! Local memory of a warp: a stack per lane.

/// The deepest stack per thread.
pub(super) const MAX_BYTES: u32 = 512 << 10;

/// Bytes of every lane, and which were written.
#[derive(Default)]
pub(super) struct Local {
    bytes: Vec<u8>,
    written: Vec<bool>,
    stride: u32,
}

impl Local {
    /// Makes room for `bytes` per lane and keeps what was written.
    pub fn reserve(&mut self, bytes: u32) {
        if bytes <= self.stride {
            return;
        }
        let (old, new) = (
            self.stride as usize,
            bytes
                .next_multiple_of(16)
                .max(self.stride * 2)
                .min(MAX_BYTES) as usize,
        );
        let mut data = vec![0u8; new * 32];
        let mut written = vec![false; new * 32];
        for lane in 0..32 {
            data[lane * new..lane * new + old]
                .copy_from_slice(&self.bytes[lane * old..(lane + 1) * old]);
            written[lane * new..lane * new + old]
                .copy_from_slice(&self.written[lane * old..(lane + 1) * old]);
        }
        (self.bytes, self.written, self.stride) = (data, written, new as u32);
    }

    /// Bytes per lane.
    pub fn stride(&self) -> u32 {
        self.stride
    }

    /// A lane's bytes; the caller has checked the bounds.
    pub fn read(&self, lane: usize, at: u32, out: &mut [u8]) {
        let from = lane * self.stride as usize + at as usize;
        out.copy_from_slice(&self.bytes[from..from + out.len()]);
    }

    /// Whether a lane's bytes were written.
    pub fn is_written(&self, lane: usize, at: u32, length: u32) -> bool {
        let from = lane * self.stride as usize + at as usize;
        self.written[from..from + length as usize]
            .iter()
            .all(|w| *w)
    }

    /// Writes a lane's bytes; the caller has checked the bounds.
    pub fn write(&mut self, lane: usize, at: u32, bytes: &[u8]) {
        let from = lane * self.stride as usize + at as usize;
        self.bytes[from..from + bytes.len()].copy_from_slice(bytes);
        self.written[from..from + bytes.len()].fill(true);
    }

    /// Forgets that the bytes of a new frame were ever written.
    pub fn forget(&mut self, lanes: u32, at: u32, length: u32) {
        for lane in (0..32).filter(|l| lanes >> l & 1 != 0) {
            let from = lane * self.stride as usize + at as usize;
            self.written[from..from + length as usize].fill(false);
        }
    }
}
