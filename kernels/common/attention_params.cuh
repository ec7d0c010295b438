// Operands of softmax attention and of its gradient, for the plain kernels and for those on tensor cores. Channels are
// ordered (head, d).
#pragma once

struct AttentionParams {
    const void *q;  // T [N,Tq,heads d]
    const void *k;  // T [N,Tk,heads d]
    const void *v;  // T [N,Tk,heads d]
    void *y;        // T [N,Tq,heads d]
    float *lse;     // f32 [N,heads,Tq]: logarithm of the sum of exponentials
    int queries;    // Tq
    int keys;       // Tk
    int heads;
    int d;        // channels of a head
    float scale;  // of the scores
};

struct AttentionGradParams {
    const void *q;     // T [N,Tq,heads d]
    const void *k;     // T [N,Tk,heads d]
    const void *v;     // T [N,Tk,heads d]
    const void *y;     // T [N,Tq,heads d]
    const float *lse;  // f32 [N,heads,Tq]
    const void *dy;    // T [N,Tq,heads d]
    float *means;      // f32 [N,heads,Tq], written by attention_grad_queries for attention_grad_keys
    void *dq;          // T [N,Tq,heads d]
    void *dk;          // T [N,Tk,heads d]
    void *dv;          // T [N,Tk,heads d]
    int queries;       // Tq
    int keys;          // Tk
    int heads;
    int d;        // channels of a head
    float scale;  // of the scores
};
