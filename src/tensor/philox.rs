//! Counter-based random numbers: Philox4x32-10 and the exact formulas from its words to uniforms and normals.
//!
//! Every random number of the engine is a pure function of (seed, purpose, image, step, element), so it does not
//! depend on batch, shard, thread or device, and a run resumes anywhere without stored generator state.
//!
//! ```text
//! key     = first two words of philox(key = [seed lo, seed hi], counter = [purpose, 0, 0, KEY_TAG])
//! counter = [element / 4, step, image lo, image hi]
//! element = word (or normal) number `element % 4` of that block
//! ```
//!
//! The float formulas use only additions, multiplications, one division and one square root, each rounded to nearest
//! and in the order written here, and no fused multiply-add. A kernel that spells them with `__fadd_rn`, `__fmul_rn`,
//! `__fdiv_rn` and `__fsqrt_rn` therefore gives the same bits as this file.
//!
//! On the host a stream is a generator for `rand` too: [`Philox`] gives its words in order, and `rand`'s `random::<f32>()` and
//! `random::<bool>()` take one word each by the formulas here. Distributions that draw until a value fits (`random_range`,
//! `rand_distr`'s normals) give other bits than the kernels and take an unknown number of words, so no element has an
//! address of its own; what a resumed run repeats stays with [`uniform_below`] and [`BoxMuller`].
//!
//! Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.

use std::convert::Infallible;

use rand::distr::Distribution;
use rand::{Rng, TryRng};

/// What a stream of random numbers is used for. Each purpose has its own key, so streams never overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum RandomStream {
    /// `x_T` that a sampler starts from.
    InitialNoise = 1,
    /// Fresh noise that a sampler adds at each step (`eta` > 0, DDPM).
    SamplerNoise = 2,
    /// The VAE's reparameterisation noise.
    LatentNoise = 3,
    /// The noise that a diffusion training step adds and predicts.
    TrainingNoise = 4,
    /// The time step of a diffusion training sample.
    TimeStep = 5,
    /// Whether a training sample's condition is dropped.
    ConditionDropout = 6,
    /// Whether a training step conditions on its own estimate.
    SelfConditioning = 7,
    /// Initial weights.
    Weights = 8,
    /// Order of the data in an epoch.
    Shuffle = 9,
    /// Flips and other augmentation.
    Augmentation = 10,
    /// Inputs made up by tests and benchmarks.
    Test = 11,
}

/// Last counter word of the block that derives a purpose's key; keeps it apart from any image's blocks.
const KEY_TAG: u32 = 0x4b45_5921;

/// One block of four independent uniform 32-bit words.
pub const fn philox4x32_10(key: [u32; 2], counter: [u32; 4]) -> [u32; 4] {
    let [mut k0, mut k1] = key;
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    let mut round = 0;
    while round < 10 {
        let p0 = 0xD251_1F53_u64 * c0 as u64;
        let p1 = 0xCD9E_8D57_u64 * c2 as u64;
        (c0, c1, c2, c3) = (
            (p1 >> 32) as u32 ^ c1 ^ k0,
            p1 as u32,
            (p0 >> 32) as u32 ^ c3 ^ k1,
            p0 as u32,
        );
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
        round += 1;
    }
    [c0, c1, c2, c3]
}

/// The key of one purpose under a user's seed.
pub const fn stream_key(seed: u64, purpose: RandomStream) -> [u32; 2] {
    let [k0, k1, ..] = philox4x32_10(
        [seed as u32, (seed >> 32) as u32],
        [purpose as u32, 0, 0, KEY_TAG],
    );
    [k0, k1]
}

/// The two words of a seed as kernels take them: low, then high.
pub const fn seed_words(seed: u64) -> [i32; 2] {
    [seed as i32, (seed >> 32) as i32]
}

/// The counter of block `block` (elements `4 * block ..`) of image `image` at step `step`.
pub const fn stream_counter(image: u64, step: u32, block: u32) -> [u32; 4] {
    [block, step, image as u32, (image >> 32) as u32]
}

/// Uniform in [0, 1): `(word >> 8) * 2^-24`, exact.
pub const fn uniform_half_open(word: u32) -> f32 {
    (word >> 8) as f32 * TWO_POW_MINUS_24
}

/// Uniform in (0, 1]: `((word >> 8) + 1) * 2^-24`, exact; safe under a logarithm.
pub const fn uniform_positive(word: u32) -> f32 {
    ((word >> 8) + 1) as f32 * TWO_POW_MINUS_24
}

/// Uniform integer in `0..n` from two words: the high 64 bits of `(hi:lo) * n`. The bias is below `n * 2^-64`.
pub const fn uniform_below(hi: u32, lo: u32, n: u64) -> u64 {
    let word = ((hi as u64) << 32) | lo as u64;
    ((word as u128 * n as u128) >> 64) as u64
}

const TWO_POW_MINUS_24: f32 = 1.0 / 16_777_216.0;

/// Two independent standard normals from two words (Box–Muller): `[r cos θ, r sin θ]` with `r = sqrt(-2 ln u)`,
/// `u = uniform_positive(a)` and `θ = 2π b / 2^32`. The largest magnitude is `sqrt(48 ln 2)` = 5.77.
///
/// `ln u`: `u = m 2^e` with `m` in [√½, √2); `s = (m - 1) / (m + 1)`, `q = s s`,
/// `ln u = e ln 2 + (s + s) (1 + q (1/3 + q (1/5 + q (1/7 + q / 9))))`.
///
/// `θ`: the nearest quarter turn `k = (b + 2^29) >> 30` leaves `x = ((b - k 2^30) >> 6) (π / 2^25)` in [-π/4, π/4)
/// (arithmetic shift); then with `z = x x`
/// `sin x = x + (x z) (-1/6 + z (1/120 + z (-1/5040 + z / 362880)))`,
/// `cos x = 1 + z (-1/2 + z (1/24 + z (-1/720 + z (1/40320 - z / 3628800))))`, turned by `k` quarter turns.
///
/// Each `+`, `*`, `/` above is one rounded f32 operation, innermost first; constants are rounded to f32.
pub fn normal_pair(a: u32, b: u32) -> [f32; 2] {
    let radius = (-2.0 * ln_unit(uniform_positive(a))).sqrt();
    let [sin, cos] = sin_cos_turn(b);
    [radius * cos, radius * sin]
}

/// Four independent standard normals: the pairs of words (0, 1) and (2, 3).
pub fn normals(words: [u32; 4]) -> [f32; 4] {
    let [n0, n1] = normal_pair(words[0], words[1]);
    let [n2, n3] = normal_pair(words[2], words[3]);
    [n0, n1, n2, n3]
}

/// Two standard normals from the next two words: [`normal_pair`] as a distribution of `rand`. Over a whole stream they are
/// the numbers of [`fill_normal`].
#[derive(Clone, Copy, Debug)]
pub struct BoxMuller;

impl Distribution<[f32; 2]> for BoxMuller {
    fn sample<R: Rng + ?Sized>(&self, rng: &mut R) -> [f32; 2] {
        let (a, b) = (rng.next_u32(), rng.next_u32());
        normal_pair(a, b)
    }
}

/// One stream as a generator: word `n` belongs to element `n` of an image at a step. It has 2^34 words and then begins
/// again.
///
/// It is made from what names a stream, so there is no `SeedableRng`: a bare seed would leave out what keeps streams apart.
#[derive(Clone, Debug)]
pub struct Philox {
    key: [u32; 2],
    image: u64,
    step: u32,
    /// The word that comes next.
    word: u64,
    /// The block that it is in, unless it begins one.
    block: [u32; 4],
}

impl Philox {
    /// The words of image `image` at step `step` under a key of [`stream_key`].
    pub const fn new(key: [u32; 2], image: u64, step: u32) -> Self {
        Self::at(key, image, step, 0)
    }

    /// As [`Philox::new`], from element `element` on.
    pub const fn at(key: [u32; 2], image: u64, step: u32, element: u64) -> Self {
        Self {
            key,
            image,
            step,
            word: element,
            block: philox4x32_10(key, stream_counter(image, step, (element / 4) as u32)),
        }
    }

    fn next(&mut self) -> u32 {
        let place = (self.word % 4) as usize;
        if place == 0 {
            let counter = stream_counter(self.image, self.step, (self.word / 4) as u32);
            self.block = philox4x32_10(self.key, counter);
        }
        self.word = self.word.wrapping_add(1);
        self.block[place]
    }
}

impl TryRng for Philox {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.next())
    }

    /// The first word is the upper half, as for [`uniform_below`].
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let high = self.next();
        Ok(u64::from(high) << 32 | u64::from(self.next()))
    }

    /// Words in little-endian order; what is left of the last one is thrown away.
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(4) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// Fills `out` with the standard normals of image `image` at step `step`; `out[e]` is element `e`.
pub fn fill_normal(key: [u32; 2], image: u64, step: u32, out: &mut [f32]) {
    fill_normal_from(key, image, step, 0, out);
}

/// As [`fill_normal`], but `out[0]` is element `first`.
pub fn fill_normal_from(key: [u32; 2], image: u64, step: u32, first: usize, out: &mut [f32]) {
    let (mut element, mut rest) = (first, out);
    while !rest.is_empty() {
        let counter = stream_counter(image, step, (element / 4) as u32);
        let values = &normals(philox4x32_10(key, counter))[element % 4..];
        let (target, behind) = rest.split_at_mut(values.len().min(rest.len()));
        target.copy_from_slice(&values[..target.len()]);
        element += target.len();
        rest = behind;
    }
}

/// Fills `out` with uniforms in [0, 1) of image `image` at step `step`; `out[e]` is element `e`.
pub fn fill_uniform(key: [u32; 2], image: u64, step: u32, out: &mut [f32]) {
    for (block, chunk) in out.chunks_mut(4).enumerate() {
        let words = philox4x32_10(key, stream_counter(image, step, block as u32));
        for (value, word) in chunk.iter_mut().zip(words) {
            *value = uniform_half_open(word);
        }
    }
}

/// Natural logarithm of a normal float in (0, 1], see [`normal_pair`].
fn ln_unit(u: f32) -> f32 {
    // Subtracting the bits of sqrt(1/2) first makes the exponent field count from that mantissa.
    const SQRT_HALF: u32 = std::f32::consts::FRAC_1_SQRT_2.to_bits();
    let shifted = u.to_bits().wrapping_sub(SQRT_HALF) as i32;
    let exponent = shifted >> 23;
    let m = f32::from_bits((shifted & 0x007f_ffff) as u32 + SQRT_HALF);
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let series = 1.0 + q * (1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q * (1.0 / 9.0))));
    exponent as f32 * std::f32::consts::LN_2 + (s + s) * series
}

/// Sine and cosine of `2π b / 2^32`, see [`normal_pair`].
fn sin_cos_turn(b: u32) -> [f32; 2] {
    const STEP: f32 = std::f32::consts::PI / 33_554_432.0;
    let quarter = b.wrapping_add(1 << 29) >> 30;
    let x = (b.wrapping_sub(quarter << 30) as i32 >> 6) as f32 * STEP;
    let z = x * x;
    let sin =
        x + x * z * (-1.0 / 6.0 + z * (1.0 / 120.0 + z * (-1.0 / 5040.0 + z * (1.0 / 362_880.0))));
    let cos = 1.0
        + z * (-1.0 / 2.0
            + z * (1.0 / 24.0
                + z * (-1.0 / 720.0 + z * (1.0 / 40_320.0 - z * (1.0 / 3_628_800.0)))));
    match quarter {
        0 => [sin, cos],
        1 => [cos, -sin],
        2 => [-sin, -cos],
        _ => [-cos, sin],
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;

    /// The known-answer tests published with Random123 (`kat_vectors`, philox 4x32, 10 rounds).
    #[test]
    fn known_answers() {
        assert_eq!(
            philox4x32_10([0; 2], [0; 4]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox4x32_10([u32::MAX; 2], [u32::MAX; 4]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32_10(
                [0xa409_3822, 0x299f_31d0],
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn uniforms_keep_their_intervals() {
        assert_eq!(uniform_half_open(0), 0.0);
        assert!(uniform_half_open(u32::MAX) < 1.0);
        assert!(uniform_positive(0) > 0.0);
        assert_eq!(uniform_positive(u32::MAX), 1.0);
        assert_eq!(uniform_below(u32::MAX, u32::MAX, 7), 6);
        assert_eq!(uniform_below(0, 0, 7), 0);
    }

    /// The logarithm stays within 2 ulp and sine and cosine (of the angle's upper 26 bits) within 1e-7 of f64, over a sweep of every scale.
    #[test]
    fn logarithm_and_circle_match_f64() {
        for i in 0..200_000u64 {
            let word = (i * 21_475 + i % 7) as u32;
            for u in [uniform_positive(word), uniform_positive(word >> (i % 24))] {
                let exact = f64::from(u).ln();
                let error = (f64::from(ln_unit(u)) - exact).abs();
                assert!(error <= 2.4e-7 * exact.abs(), "ln {u}: error {error}");
            }
            let turn = f64::from(word & !63) / 4_294_967_296.0 * std::f64::consts::TAU;
            let [sin, cos] = sin_cos_turn(word);
            assert!(
                (f64::from(sin) - turn.sin()).abs() < 1e-7,
                "sin of word {word}"
            );
            assert!(
                (f64::from(cos) - turn.cos()).abs() < 1e-7,
                "cos of word {word}"
            );
        }
        assert_eq!(ln_unit(1.0), 0.0);
    }

    #[test]
    fn a_generator_gives_the_words_of_its_stream() {
        let key = stream_key(0x0123_4567_89ab_cdef, RandomStream::Test);
        let words: Vec<u32> = (0..5)
            .flat_map(|block| philox4x32_10(key, stream_counter(9, 2, block)))
            .collect();
        let mut stream = Philox::new(key, 9, 2);
        let drawn: Vec<u32> = (0..20).map(|_| stream.next_u32()).collect();
        assert_eq!(drawn, words);
        for element in 0..20 {
            let mut stream = Philox::at(key, 9, 2, element);
            assert_eq!(stream.next_u32(), words[element as usize], "{element}");
        }
        let mut stream = Philox::at(key, 9, 2, 3);
        assert_eq!(
            stream.next_u64(),
            u64::from(words[3]) << 32 | u64::from(words[4])
        );
        let mut bytes = [0; 7];
        stream.fill_bytes(&mut bytes);
        assert_eq!(bytes[..4], words[5].to_le_bytes());
        assert_eq!(bytes[4..], words[6].to_le_bytes()[..3]);
    }

    /// Host-side draws through `rand` are the draws of this file to the bit: uniforms, coins, normals.
    #[test]
    fn rand_draws_by_the_formulas_of_this_file() {
        let key = stream_key(5, RandomStream::Test);
        let (mut uniforms, mut normals) = ([0.0; 1000], [0.0; 1000]);
        fill_uniform(key, 3, 1, &mut uniforms);
        fill_normal(key, 3, 1, &mut normals);
        let stream = || Philox::new(key, 3, 1);
        let drawn: Vec<f32> = stream().random_iter().take(1000).collect();
        assert_eq!(drawn, uniforms);
        let coins: Vec<bool> = stream().random_iter().take(1000).collect();
        assert!(coins.iter().zip(&uniforms).all(|(&c, &u)| c == (u >= 0.5)));
        let drawn: Vec<f32> = stream()
            .sample_iter(BoxMuller)
            .take(500)
            .flatten()
            .collect();
        assert_eq!(drawn, normals);
    }

    /// Kolmogorov–Smirnov between two generators of normals on streams of their own, ours and `rand_distr`'s ziggurat:
    /// 20000 each, 0.1 % critical value 1.95 sqrt(2 / n).
    #[test]
    fn normals_are_distributed_as_those_of_rand_distr() {
        const N: usize = 20_000;
        let key = stream_key(5, RandomStream::Test);
        let mut ours = vec![0.0; N];
        fill_normal(key, 0, 0, &mut ours);
        let mut theirs: Vec<f32> = Philox::new(key, 1, 0)
            .sample_iter(rand_distr::StandardNormal)
            .take(N)
            .collect();
        ours.sort_unstable_by(f32::total_cmp);
        theirs.sort_unstable_by(f32::total_cmp);
        let largest = ours
            .iter()
            .enumerate()
            .map(|(i, value)| theirs.partition_point(|t| t <= value).abs_diff(i + 1))
            .max();
        let statistic = largest.unwrap_or(0) as f64 / N as f64;
        assert!(statistic < 1.95 * (2.0 / N as f64).sqrt(), "{statistic}");
    }

    #[test]
    fn normals_have_normal_moments() {
        let n = 400_000;
        let mut values = vec![0.0; n];
        fill_normal(stream_key(5, RandomStream::Test), 3, 0, &mut values);
        let moment = |k: i32| values.iter().map(|&v| f64::from(v).powi(k)).sum::<f64>() / n as f64;
        // Four standard errors of each moment: sqrt(var(x^k) / n).
        assert!(moment(1).abs() < 4.0 * (1.0 / n as f64).sqrt());
        assert!((moment(2) - 1.0).abs() < 4.0 * (2.0 / n as f64).sqrt());
        assert!(moment(3).abs() < 4.0 * (15.0 / n as f64).sqrt());
        assert!((moment(4) - 3.0).abs() < 4.0 * (96.0 / n as f64).sqrt());
        assert!(values.iter().all(|v| v.abs() < 5.78));
    }

    /// Pins the bits of the stream: a kernel is compared with this, and published samples depend on it.
    #[test]
    fn elements_do_not_depend_on_the_request() {
        let key = stream_key(0x0123_4567_89ab_cdef, RandomStream::InitialNoise);
        let (mut long, mut short) = ([0.0; 11], [0.0; 6]);
        fill_normal(key, 9, 2, &mut long);
        fill_normal(key, 9, 2, &mut short);
        assert_eq!(long[..6], short);
        let mut other = [0.0; 6];
        fill_normal(key, 9, 3, &mut other);
        assert_ne!(other, short);
        fill_normal(
            stream_key(0x0123_4567_89ab_cdef, RandomStream::SamplerNoise),
            9,
            2,
            &mut other,
        );
        assert_ne!(other, short);
        assert_eq!(key, [0x5ee4_bbca, 0xdf09_6610]);
        assert_eq!(
            short.map(f32::to_bits),
            [
                0x3f68_986c,
                0x3f5d_5777,
                0xbf55_5c27,
                0xc005_1ad3,
                0xbe4d_bc6a,
                0xbfa5_1b88
            ]
        );
    }
}
