// y = act(gamma (x - mean) rstd + beta) (+ residual) (+ embed), act being Swish or the identity.
//
// Shapes      x, y, residual [N,P,C] of T; stats [N,G,2] (mean, rstd), gamma, beta [C], embed [N,C] of f32. residual and
//             embed may be null. y may be the memory of x, of residual, or, where P is 1, of embed.
// Launch      grid (tiles, slabs, N), block columns lanes rounded up to 32, at most 256; no shared memory.
// Traffic     reads x and residual once, writes y; 16 bytes at a time where V is 16 bytes. Overwrites.
// Order       no reduction.
// Takes       any P and G; V divides C.
// Registers <= 64
#include "common/types.cuh"
#include "common/channel_tile.cuh"
#include "common/fast_swish.cuh"

struct GroupNormParams {
    const void *x;
    const float *stats;
    const float *gamma;
    const float *beta;
    const void *residual;
    const float *embed;
    void *y;
    int positions;
    int channels;
    int groups;
    int columns;
    int lanes;
    int span;
    int parts;
    int slab;
    int swish;
};

extern "C" __global__ void __launch_bounds__(256) group_norm(const GroupNormParams p) {
    const ChannelTile tile(p.columns, p.lanes, p.span, p.parts, p.slab, p.channels / V, p.positions);
    if (!tile.active) return;
    const int channel = tile.column * V, size = p.channels / p.groups;
    float mean[V], scale[V], shift[V], added[V];
    load_channels<V>(p.gamma + channel, scale);
    load_channels<V>(p.beta + channel, shift);
#pragma unroll
    for (int v = 0; v < V; ++v) {
        const float *stats = p.stats + 2ll * (blockIdx.z * p.groups + (channel + v) / size);
        mean[v] = stats[0];
        scale[v] *= stats[1];
        added[v] = 0.0f;
    }
    if (p.embed) load_channels<V>(p.embed + static_cast<long long>(blockIdx.z) * p.channels + channel, added);

    const long long sample = static_cast<long long>(blockIdx.z) * p.positions * p.channels + channel;
    const T *x = static_cast<const T *>(p.x) + sample;
    const T *residual = static_cast<const T *>(p.residual) + (p.residual ? sample : 0);
    T *y = static_cast<T *>(p.y) + sample;
    for (int row = tile.begin + tile.lane; row < tile.end; row += p.lanes) {
        const long long at = static_cast<long long>(row) * p.channels;
        float value[V], other[V];
        load_floats<V>(x + at, value);
        if (p.residual) load_floats<V>(residual + at, other);
#pragma unroll
        for (int v = 0; v < V; ++v) {
            // Not folded into one multiply-add with a shift: that would cancel where the mean is large.
            float u = fmaf(value[v] - mean[v], scale[v], shift[v]);
            if (p.swish) u = fast_swish(u);
            if (p.residual) u += other[v];
            value[v] = u + added[v];
        }
        store_floats<V>(y + at, value);
    }
}
