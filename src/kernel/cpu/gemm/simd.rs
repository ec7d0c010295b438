//! The vector instructions the CPU kernels are written in, and the three instruction sets that provide them.
//!
//! A kernel is generic over [`Simd`] and `#[inline(always)]` from its outermost loop to the last intrinsic; it is
//! compiled once per instruction set by running it as a [`SimdJob`] through [`Isa::run`], whose three entry points
//! carry the target features.

use std::sync::OnceLock;

/// An instruction set that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// 16 lanes and 32 registers: AVX-512 F, VL, DQ and BW, which every processor has together but Xeon Phi.
    Avx512,
    /// 8 lanes and 16 registers, with fused multiply-add: AVX2 and FMA.
    Avx2,
    /// Four lanes of plain Rust, left to the compiler.
    Portable,
}

impl Isa {
    /// The widest instruction set of this processor.
    pub fn detect() -> Isa {
        static DETECTED: OnceLock<Isa> = OnceLock::new();
        *DETECTED.get_or_init(|| Isa::available()[0])
    }

    /// Every instruction set that this processor can run, widest first.
    pub fn available() -> &'static [Isa] {
        static ALL: [Isa; 3] = [Isa::Avx512, Isa::Avx2, Isa::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw");
            &ALL[match (avx512, avx2) {
                (true, _) => 0,
                (false, true) => 1,
                (false, false) => 2,
            }..]
        }
        #[cfg(not(target_arch = "x86_64"))]
        &ALL[2..]
    }

    /// Runs `job` compiled for this instruction set.
    ///
    /// # Safety
    /// The processor must have this instruction set (it is in [`Isa::available`]), and whatever `job` itself asks for.
    pub unsafe fn run<J: SimdJob>(self, job: J) {
        // SAFETY: the caller vouches for the instruction set and for the job.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => x86::run_avx512(job),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => x86::run_avx2(job),
                _ => job.run::<Portable>(),
            }
        }
    }
}

/// A kernel that can be compiled for any instruction set.
pub trait SimdJob {
    /// The kernel. Implementations are `#[inline(always)]`, or the intrinsics become calls.
    ///
    /// # Safety
    /// As the implementation documents; the processor must have the instruction set of `S`.
    unsafe fn run<S: Simd>(self);
}

/// Asks for `len` floats from `start` on to be brought into L2. Any address will do; nothing is read.
#[inline(always)]
pub fn prefetch(start: *const f32, len: usize) {
    /// Floats of a cache line.
    const LINE: usize = 16;
    for at in (0..len).step_by(LINE) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: prefetching has no effect that a program can see, whatever the address.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(at).cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (start, at);
    }
}

/// One vector of `f32` lanes.
///
/// # Safety
/// All methods need the instruction set that implements them, and pointers that are valid for what is read or
/// written: [`Simd::LANES`] floats, or `count` of them where a method takes `count < LANES`.
#[allow(clippy::missing_safety_doc)]
pub trait Simd: Copy + 'static {
    /// A vector register.
    type V: Copy;
    /// Floats in a vector.
    const LANES: usize;
    /// Rows of the register tile of the product kernel.
    const MR: usize;
    /// Vectors per row of the register tile.
    const NV: usize;
    /// All lanes zero.
    unsafe fn zero() -> Self::V;
    /// All lanes `x`.
    unsafe fn splat(x: f32) -> Self::V;
    /// [`Simd::LANES`] floats from memory; any alignment.
    unsafe fn load(p: *const f32) -> Self::V;
    /// The first `count` lanes from memory, zeros in the others.
    unsafe fn load_head(p: *const f32, count: usize) -> Self::V;
    /// Stores all lanes; any alignment.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// Stores the first `count` lanes.
    unsafe fn store_head(p: *mut f32, v: Self::V, count: usize);
    /// `a + b`.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`.
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`.
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The sum of the lanes, in an order fixed per instruction set.
    unsafe fn sum(v: Self::V) -> f32;
}

/// The instruction set of [`Isa::Portable`].
#[derive(Clone, Copy)]
pub struct Portable;

impl Simd for Portable {
    type V = [f32; 4];
    const LANES: usize = 4;
    const MR: usize = 4;
    const NV: usize = 2;
    #[inline(always)]
    unsafe fn zero() -> [f32; 4] {
        [0.0; 4]
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; 4] {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> [f32; 4] {
        // SAFETY: four floats are readable at `p` (trait contract); an array of f32 has the alignment of f32.
        unsafe { p.cast::<[f32; 4]>().read() }
    }
    #[inline(always)]
    unsafe fn load_head(p: *const f32, count: usize) -> [f32; 4] {
        let mut v = [0.0; 4];
        for (i, lane) in v.iter_mut().enumerate().take(count) {
            // SAFETY: `count` floats are readable at `p`.
            *lane = unsafe { *p.add(i) };
        }
        v
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: [f32; 4]) {
        // SAFETY: four floats are writable at `p`.
        unsafe { p.cast::<[f32; 4]>().write(v) }
    }
    #[inline(always)]
    unsafe fn store_head(p: *mut f32, v: [f32; 4], count: usize) {
        for (i, lane) in v.iter().enumerate().take(count) {
            // SAFETY: `count` floats are writable at `p`.
            unsafe { *p.add(i) = *lane };
        }
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        // Two roundings: without the instruction, `f32::mul_add` is a library call.
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn sum(v: [f32; 4]) -> f32 {
        (v[0] + v[1]) + (v[2] + v[3])
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use super::{Simd, SimdJob};
    use std::arch::x86_64::*;

    /// The instruction set of [`super::Isa::Avx512`].
    #[derive(Clone, Copy)]
    pub struct Avx512;

    /// The instruction set of [`super::Isa::Avx2`].
    #[derive(Clone, Copy)]
    pub struct Avx2;

    #[target_feature(enable = "avx512f,avx2,fma")]
    pub(super) unsafe fn run_avx512<J: SimdJob>(job: J) {
        // SAFETY: the caller's contract.
        unsafe { job.run::<Avx512>() }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn run_avx2<J: SimdJob>(job: J) {
        // SAFETY: the caller's contract.
        unsafe { job.run::<Avx2>() }
    }

    #[inline(always)]
    fn mask512(count: usize) -> __mmask16 {
        ((1u32 << count) - 1) as __mmask16
    }

    // SAFETY (all methods): the trait's contract is the intrinsics' own: instruction set present, pointers valid.
    #[expect(
        clippy::undocumented_unsafe_blocks,
        reason = "one comment covers all methods"
    )]
    impl Simd for Avx512 {
        type V = __m512;
        const LANES: usize = 16;
        const MR: usize = 8;
        const NV: usize = 3;
        #[inline(always)]
        unsafe fn zero() -> __m512 {
            unsafe { _mm512_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> __m512 {
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m512 {
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn load_head(p: *const f32, count: usize) -> __m512 {
            unsafe { _mm512_maskz_loadu_ps(mask512(count), p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m512) {
            unsafe { _mm512_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn store_head(p: *mut f32, v: __m512, count: usize) {
            unsafe { _mm512_mask_storeu_ps(p, mask512(count), v) }
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn sum(v: __m512) -> f32 {
            unsafe { _mm512_reduce_add_ps(v) }
        }
    }

    /// Lane masks for `count` in 0..8: eight floats from `MASKS[8 - count]` have `count` leading sign bits set.
    static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

    #[inline(always)]
    unsafe fn mask256(count: usize) -> __m256i {
        // SAFETY: `count <= 8`, so eight integers from `8 - count` lie inside the table.
        unsafe { _mm256_loadu_si256(MASKS.as_ptr().add(8 - count).cast()) }
    }

    // SAFETY (all methods): as for Avx512.
    #[expect(
        clippy::undocumented_unsafe_blocks,
        reason = "one comment covers all methods"
    )]
    impl Simd for Avx2 {
        type V = __m256;
        const LANES: usize = 8;
        const MR: usize = 4;
        const NV: usize = 3;
        #[inline(always)]
        unsafe fn zero() -> __m256 {
            unsafe { _mm256_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> __m256 {
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m256 {
            unsafe { _mm256_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn load_head(p: *const f32, count: usize) -> __m256 {
            unsafe { _mm256_maskload_ps(p, mask256(count)) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m256) {
            unsafe { _mm256_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn store_head(p: *mut f32, v: __m256, count: usize) {
            unsafe { _mm256_maskstore_ps(p, mask256(count), v) }
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn sum(v: __m256) -> f32 {
            unsafe {
                let half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
                let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
                _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)))
            }
        }
    }
}
