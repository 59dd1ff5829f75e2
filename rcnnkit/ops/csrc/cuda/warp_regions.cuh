// R-CNN's anisotropic warp of regions with context (appendix A). See ../geometry.h.
#pragma once

#include "common.cuh"

namespace rcnnkit {

struct WarpOptions {
  int context;
  bool square;
};

struct WarpRegion {
  WarpAxis rows, columns;
};

template <class T>
RCNNKIT_BOTH WarpRegion warp_region(const T* roi, const WarpOptions& o, int high, int wide, int height, int width) {
  const double x1 = roi[1], y1 = roi[2], x2 = roi[3], y2 = roi[4];
  double half_width = (x2 - x1) / 2, half_height = (y2 - y1) / 2;
  if (o.square) half_width = half_height = at_least(half_width, half_height);
  return {warp_axis(y1, y2, half_height, high, o.context, o.square, height),
          warp_axis(x1, x2, half_width, wide, o.context, o.square, width)};
}

// Whether output pixel i shows the picture.
RCNNKIT_BOTH bool is_pasted(const WarpAxis& axis, int64_t i) {
  return i >= axis.target && i < axis.target + axis.target_size;
}

template <class S, class T>
__global__ void warp_forward(Map<const S> input, const T* rois, const T* fill, WarpOptions options,
                             Map<S> output) {
  const bool along_channels = input.along_channels();
  for (int64_t i = first_index(); i < output.cells(); i += index_step()) {
    const Place p = output.place(i, along_channels);
    const T* roi = rois + 5 * p.n;
    const int64_t picture = picture_of(roi, input);
    T value = fill[p.c];
    if (picture >= 0) {
      const WarpRegion region =
          warp_region(roi, options, output.height(), output.width(), input.height(), input.width());
      if (is_pasted(region.rows, p.y) && is_pasted(region.columns, p.x)) {
        const Sample<float> y = warp_sample(region.rows, int(p.y - region.rows.target));
        const Sample<float> x = warp_sample(region.columns, int(p.x - region.columns.target));
        const S* plane = input.plane(picture, p.c);
        const S *low = plane + y.low * input.stride[2], *high = plane + y.high * input.stride[2];
        const int64_t left = x.low * input.stride[3], right = x.high * input.stride[3];
        value = y.low_weight * (x.low_weight * T(low[left]) + x.high_weight * T(low[right])) +
                y.high_weight * (x.low_weight * T(high[left]) + x.high_weight * T(high[right]));
      }
    }
    output.at(p) = S(value);
  }
}

// A thread for each output pixel adds to the four below it. `into` is zero before; the order of the sums varies.
template <class S, class T>
__global__ void warp_scatter(Map<const S> grad, const T* rois, WarpOptions options, Map<T> into) {
  const bool along_channels = into.along_channels();
  for (int64_t i = first_index(); i < grad.cells(); i += index_step()) {
    const Place p = grad.place(i, along_channels);
    const T* roi = rois + 5 * p.n;
    const int64_t picture = picture_of(roi, into);
    if (picture < 0) continue;
    const WarpRegion region = warp_region(roi, options, grad.height(), grad.width(), into.height(), into.width());
    if (!is_pasted(region.rows, p.y) || !is_pasted(region.columns, p.x)) continue;
    const Sample<float> y = warp_sample(region.rows, int(p.y - region.rows.target));
    const Sample<float> x = warp_sample(region.columns, int(p.x - region.columns.target));
    const T value = T(grad.at(p));
    atomicAdd(&into.at({picture, p.c, y.low, x.low}), value * y.low_weight * x.low_weight);
    atomicAdd(&into.at({picture, p.c, y.low, x.high}), value * y.low_weight * x.high_weight);
    atomicAdd(&into.at({picture, p.c, y.high, x.low}), value * y.high_weight * x.low_weight);
    atomicAdd(&into.at({picture, p.c, y.high, x.high}), value * y.high_weight * x.high_weight);
  }
}

// Deterministic: a thread for each row of the result takes the regions in order, and nobody else adds to its row.
template <class S, class T>
__global__ void warp_in_order(Map<const S> grad, const T* rois, WarpOptions options, Map<T> into) {
  Map<T> lines = into;
  lines.size[3] = 1;
  for (int64_t i = first_index(); i < lines.cells(); i += index_step()) {
    const Place p = lines.place(i, into.along_channels());
    T* line = &into.at(p);
    for (int64_t r = 0; r < grad.size[0]; ++r) {
      const T* roi = rois + 5 * r;
      if (picture_of(roi, into) != p.n) continue;
      const WarpRegion region = warp_region(roi, options, grad.height(), grad.width(), into.height(), into.width());
      const WarpAxis &rows = region.rows, &columns = region.columns;
      if (p.y < rows.source || p.y >= rows.source + rows.source_size) continue;
      for (int j = 0; j < rows.target_size; ++j) {
        const Sample<float> y = warp_sample(rows, j);
        const T weight = T(y.low == p.y ? y.low_weight : 0) + T(y.high == p.y ? y.high_weight : 0);
        if (weight == 0) continue;
        for (int k = 0; k < columns.target_size; ++k) {
          const Sample<float> x = warp_sample(columns, k);
          const T value = weight * T(grad.at({r, p.c, rows.target + j, columns.target + k}));
          line[x.low * into.stride[3]] += value * x.low_weight;
          line[x.high * into.stride[3]] += value * x.high_weight;
        }
      }
    }
  }
}

}  // namespace rcnnkit
