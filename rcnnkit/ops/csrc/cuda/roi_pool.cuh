// RoI max pooling (Fast R-CNN, section 2.1). See ../geometry.h.
#pragma once

#include "common.cuh"

namespace rcnnkit {

// `argmax` (as `output`, contiguous) or null: the cell y * width + x of the first largest value, -1 without one.
template <class S, class T>
__global__ void roi_pool_forward(Map<const S> input, const T* rois, T scale, Map<S> output, int32_t* argmax) {
  const bool along_channels = input.along_channels();
  for (int64_t i = first_index(); i < output.cells(); i += index_step()) {
    const Place p = output.place(i, along_channels);
    const T* roi = rois + 5 * p.n;
    const int64_t picture = picture_of(roi, input);
    T best = 0;
    int32_t best_cell = -1;
    if (picture >= 0) {
      const PoolBin rows = pool_bin<T>(pool_axis(roi[2], roi[4], scale), int(p.y), output.height(), input.height());
      const PoolBin columns = pool_bin<T>(pool_axis(roi[1], roi[3], scale), int(p.x), output.width(), input.width());
      const S* plane = input.plane(picture, p.c);
      if (rows.first < rows.last && columns.first < columns.last) best = -T(__builtin_huge_val());
      for (int y = rows.first; y < rows.last; ++y)
        for (int x = columns.first; x < columns.last; ++x) {
          const T value = T(plane[y * input.stride[2] + x * input.stride[3]]);
          if (value > best) best = value, best_cell = y * input.width() + x;
        }
    }
    output.at(p) = S(best);
    if (argmax) argmax[&output.at(p) - output.data] = best_cell;
  }
}

// A thread for each bin adds to the cell that won it. `into` is zero before; the order of the sums varies.
template <class S, class T>
__global__ void roi_pool_scatter(Map<const S> grad, const T* rois, const int32_t* argmax, Map<T> into) {
  const bool along_channels = into.along_channels();
  for (int64_t i = first_index(); i < grad.cells(); i += index_step()) {
    const Place p = grad.place(i, along_channels);
    const int64_t picture = picture_of(rois + 5 * p.n, into);
    const int32_t cell = argmax[((p.n * grad.size[1] + p.c) * grad.size[2] + p.y) * grad.size[3] + p.x];
    if (picture >= 0 && cell >= 0)
      atomicAdd(&into.at({picture, p.c, cell / into.width(), cell % into.width()}), T(grad.at(p)));
  }
}

// Deterministic: a thread for each plane of the result takes the bins in order, and nobody else adds to its plane.
template <class S, class T>
__global__ void roi_pool_in_order(Map<const S> grad, const T* rois, const int32_t* argmax, Map<T> into) {
  const int64_t bins = grad.size[2] * grad.size[3];
  for (int64_t i = first_index(); i < into.planes(); i += index_step()) {
    const int64_t n = i / into.size[1], c = i % into.size[1];
    for (int64_t r = 0; r < grad.size[0]; ++r) {
      if (picture_of(rois + 5 * r, into) != n) continue;
      const int32_t* cells = argmax + (r * grad.size[1] + c) * bins;
      for (int64_t b = 0; b < bins; ++b)
        if (const int32_t cell = cells[b]; cell >= 0)
          into.at({n, c, cell / into.width(), cell % into.width()}) +=
              T(grad.at({r, c, b / grad.size[3], b % grad.size[3]}));
    }
  }
}

}  // namespace rcnnkit
