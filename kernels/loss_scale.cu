// Updates the scale of an f16 loss after a step (src/ops/loss_scale/mod.rs has the rule): halved if the gradient was not
// finite, doubled after `interval` good steps in a row.
//
// Shapes      scale, finite, gate, overflow: scalars; good: [1] i32. gate may be null.
// Launch      grid 1, block 1.
// Traffic     some bytes; updates scale and good in place, overwrites overflow.
// Registers <= 32
struct LossScaleParams {
    float *scale;
    int *good;            // good steps in a row
    const float *finite;  // 0 if the gradient was not finite
    const float *gate;    // 0 keeps scale and good; or null
    float *overflow;      // 1 if the gradient was not finite and the scale can still be halved
    int interval;
    float largest;  // most that the scale may be
};

extern "C" __global__ void __launch_bounds__(1) loss_scale(const LossScaleParams p) {
    const float scale = *p.scale;
    const int good = *p.good;
    const bool finite = *p.finite != 0.0f;
    *p.overflow = !finite && scale > 1.0f ? 1.0f : 0.0f;
    if (p.gate && *p.gate == 0.0f) return;
    const bool grows = finite && good + 1 >= p.interval;
    *p.good = finite && !grows ? good + 1 : 0;
    if (!finite) *p.scale = fmaxf(0.5f * scale, 1.0f);
    if (grows) *p.scale = fminf(2.0f * scale, p.largest);
}
