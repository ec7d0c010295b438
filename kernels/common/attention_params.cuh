// Operands of softmax attention and of its gradient, for the plain kernels and for those on tensor cores.
//
// q, y, dy, dq are [N,Tq,heads d], k, v, dk, dv [N,Tk,heads d], channels ordered (head, d); lse and means [N,heads,Tq].
#pragma once

struct AttentionParams {
    const void *q;
    const void *k;
    const void *v;
    void *y;
    float *lse;
    int queries;
    int keys;
    int heads;
    int d;
    float scale;
};

struct AttentionGradParams {
    const void *q;
    const void *k;
    const void *v;
    const void *y;
    const float *lse;
    const void *dy;
    float *means; // [N,heads,Tq], from attention_grad_queries to attention_grad_keys
    void *dq;
    void *dk;
    void *dv;
    int queries;
    int keys;
    int heads;
    int d;
    float scale;
};
