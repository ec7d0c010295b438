// Horizontal fusion: one launch does many independent jobs of one kind. A table holds each job's parameters, and a block
// finds its own.
#pragma once

struct JobsParams {
    const void *jobs;       // [count] parameters, one struct per job
    const unsigned *first;  // [count] each job's first block
    int count;              // jobs
};

// The parameters of this block's job, in shared memory, and the number of the block within the job. All threads of the block
// call it. Ends with a barrier.
template <typename Job> static __device__ __forceinline__ const Job &job_of_block(const JobsParams &p, unsigned &block) {
    static_assert(sizeof(Job) % 4 == 0, "jobs are copied by words");
    __shared__ unsigned words[sizeof(Job) / 4];
    int index = -1;
    // Counts the jobs whose first block is this one or one before it.
    for (int start = 0; start < p.count; start += blockDim.x) {
        const int j = start + threadIdx.x;
        index += __syncthreads_count(j < p.count && p.first[j] <= blockIdx.x);
    }
    const unsigned *job = static_cast<const unsigned *>(p.jobs) + index * (sizeof(Job) / 4);
    for (unsigned i = threadIdx.x; i < sizeof(Job) / 4; i += blockDim.x) words[i] = job[i];
    __syncthreads();
    block = blockIdx.x - p.first[index];
    return *reinterpret_cast<const Job *>(words);
}
