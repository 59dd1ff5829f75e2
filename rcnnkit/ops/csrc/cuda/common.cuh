// What the kernels share: strided maps, how threads are spread over them, and which picture a region is of.
//
// These .cuh files are free of torch, and the tests also compile them for the host. Types: S as stored, T to
// compute in (float, or double for double). Indices are 64 bits wide: regions × channels × bins outgrow 32.
// Compile with -fmad=false, so that overlaps and borders round as they do on the CPU.
#pragma once

#include <cstdint>

#include "../geometry.h"

namespace rcnnkit {

struct Place {
  int64_t n, c, y, x;
};

// `along_channels`: neighbouring indices are neighbouring channels; else they are neighbours in a row.
template <class Index>
RCNNKIT_BOTH Place split(Index i, Index channels, Index height, Index width, bool along_channels) {
  Index c = 0;
  if (along_channels) c = i % channels, i /= channels;
  const Index x = i % width;
  i /= width;
  const Index y = i % height;
  i /= height;
  if (!along_channels) c = i % channels, i /= channels;
  return {int64_t(i), int64_t(c), int64_t(y), int64_t(x)};
}

// A (pictures or regions, channels, height, width) tensor with any strides.
template <class S>
struct Map {
  S* data;
  int64_t size[4], stride[4];

  RCNNKIT_BOTH int height() const { return int(size[2]); }
  RCNNKIT_BOTH int width() const { return int(size[3]); }
  RCNNKIT_BOTH int64_t planes() const { return size[0] * size[1]; }
  RCNNKIT_BOTH int64_t cells() const { return planes() * size[2] * size[3]; }
  RCNNKIT_BOTH S* plane(int64_t n, int64_t c) const { return data + n * stride[0] + c * stride[1]; }
  RCNNKIT_BOTH S& at(const Place& p) const { return plane(p.n, p.c)[p.y * stride[2] + p.x * stride[3]]; }
  // How threads should run so that neighbours read neighbouring memory.
  RCNNKIT_BOTH bool along_channels() const { return stride[1] < stride[3]; }
  RCNNKIT_BOTH Place place(int64_t i, bool along_channels) const {
    if (i >> 32) return split<int64_t>(i, size[1], size[2], size[3], along_channels);
    // 32-bit divisions take a fraction of the time
    return split(uint32_t(i), uint32_t(size[1]), uint32_t(size[2]), uint32_t(size[3]), along_channels);
  }
};

// The picture that a region (picture, x1, y1, x2, y2) is of, or -1 where nothing of it can lie on the map.
template <class T, class S>
RCNNKIT_BOTH int64_t picture_of(const T* roi, const Map<S>& map) {
  const bool there = roi[0] >= 0 && roi[0] < T(map.size[0]) && map.size[2] > 0 && map.size[3] > 0;
  return there && is_finite_region(roi) ? int64_t(roi[0]) : -1;
}

// Indices 0, 1, ... total - 1, spread over all threads of the grid.
__device__ inline int64_t first_index() { return blockIdx.x * int64_t(blockDim.x) + threadIdx.x; }
__device__ inline int64_t index_step() { return int64_t(gridDim.x) * blockDim.x; }

}  // namespace rcnnkit
