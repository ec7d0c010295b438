// y[n] = [sin(t[n] f_0) .., cos(t[n] f_0) .., 0 if dim is odd], f_k = exp(-k spacing), k < half = dim / 2.
//
// Every intermediate number is rounded to f32, as in the models' training: at t = 1000 the rounding of f_k shows. Angles
// reach thousands, so sine and cosine are the precise ones, whose reduction of huge angles takes a stack frame.
//
// Shapes      t: `batch` ints, y [batch, dim] of f32.
// Launch      grid ceil(batch * dim / 256), block 256, no shared memory.
// Traffic     writes y once; overwrites it.
// Registers <= 40
struct SinusoidParams {
    const int *t;
    float *y;
    unsigned batch;
    unsigned dim;
    float spacing;  // ln(10000) / (half - 1)
};

extern "C" __global__ void __launch_bounds__(256) sinusoid(const SinusoidParams p) {
    const unsigned at = blockIdx.x * 256 + threadIdx.x;
    if (at >= p.batch * p.dim) return;
    const unsigned n = at / p.dim, i = at - n * p.dim, half = p.dim / 2;
    const bool cosine = i >= half;
    const float frequency = expf((float)(cosine ? i - half : i) * -p.spacing);
    const float angle = (float)p.t[n] * frequency;
    float sine, other;
    sincosf(angle, &sine, &other);
    p.y[at] = i == 2 * half ? 0.0f : cosine ? other : sine;
}
