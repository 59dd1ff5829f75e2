// Just enough of CUDA C++ to compile the kernels for the host and run them there: each CUDA thread is a thread,
// the blocks of a grid take turns, and what is __shared__ is static.
#pragma once

#include <atomic>
#include <barrier>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(threads)

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};

inline thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;
inline thread_local std::barrier<>* block_barrier = nullptr;
inline thread_local int barriers_met = 0;  // by this thread in this block

// RCNNKIT_DROP_BARRIER = k leaves out the k-th barrier of every block, to see that the thread sanitizer objects.
inline void __syncthreads() {
#ifdef RCNNKIT_DROP_BARRIER
  if (barriers_met++ == RCNNKIT_DROP_BARRIER) return;
#endif
  block_barrier->arrive_and_wait();
}

inline int __ffsll(unsigned long long x) { return __builtin_ffsll(x); }

template <class T>
void atomicAdd(T* to, T value) {
  std::atomic_ref<T>(*to).fetch_add(value, std::memory_order_relaxed);
}

inline void atomicOr(unsigned long long* to, unsigned long long bits) {
  std::atomic_ref<unsigned long long>(*to).fetch_or(bits, std::memory_order_relaxed);
}

// kernel<<<grid, threads>>>(arguments...)
template <class... Parameters, class... Arguments>
void launch(dim3 grid, unsigned threads, void (*kernel)(Parameters...), Arguments... arguments) {
  std::barrier<> barrier(threads);
  std::vector<std::thread> running;
  for (unsigned t = 0; t < threads; ++t)
    running.emplace_back([=, &barrier] {
      threadIdx = {t}, blockDim = {threads}, gridDim = grid, block_barrier = &barrier;
      for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
          for (unsigned x = 0; x < grid.x; ++x) {
            blockIdx = {x, y, z}, barriers_met = 0;
            kernel(arguments...);
            barrier.arrive_and_wait();
          }
    });
  for (std::thread& thread : running) thread.join();
}
