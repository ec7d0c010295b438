//! Which vector instructions the host's processor has.
//!
//! What the emulator spends its time on is compiled twice: for any processor, and for one that [`available`] finds. The
//! results are the same bits either way.

/// Whether the processor has all of `avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c`: every x86-64 one since Haswell (2013) and
/// Zen (2017).
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn available() -> bool {
    use std::sync::LazyLock;
    static AVAILABLE: LazyLock<bool> = LazyLock::new(|| {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt")
            && is_x86_feature_detected!("f16c")
    });
    *AVAILABLE
}

/// Without vector instructions of x86-64 there is only one version.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub fn available() -> bool {
    false
}
