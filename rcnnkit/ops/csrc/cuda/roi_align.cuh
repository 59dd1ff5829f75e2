// RoIAlign (Mask R-CNN, section 3): the mean of bilinear samples in each bin. See ../geometry.h.
#pragma once

#include "common.cuh"

namespace rcnnkit {

template <class T>
struct AlignOptions {
  T scale;
  int sampling_ratio;
  bool aligned;
};

template <class T>
struct AlignRegion {
  AlignAxis<T> rows, columns;
  T samples;  // in a bin; without any, nothing visits the bin
};

template <class T>
RCNNKIT_BOTH AlignRegion<T> align_region(const T* roi, const AlignOptions<T>& o, int bins_high, int bins_wide) {
  const AlignAxis<T> rows = align_axis(roi[2], roi[4], o.scale, bins_high, o.sampling_ratio, o.aligned);
  const AlignAxis<T> columns = align_axis(roi[1], roi[3], o.scale, bins_wide, o.sampling_ratio, o.aligned);
  return {rows, columns, rows.grid * columns.grid};
}

// Calls visit(sample, its number in the bin) for a bin's samples on the map, along one axis.
template <class T, class Visit>
__device__ void visit_samples(const AlignAxis<T>& axis, int bin, int cells, Visit visit) {
  const SampleRange range = sample_range(axis, bin, cells);
  for (int i = 0; i < range.count; ++i) {
    const T number = T(range.first + i);
    const Sample<T> sample = sample_at(sample_position(axis, bin, number), cells);
    if (sample.inside) visit(sample, number);
  }
}

template <class S, class T>
__global__ void roi_align_forward(Map<const S> input, const T* rois, AlignOptions<T> options, Map<S> output) {
  const bool along_channels = input.along_channels();
  for (int64_t i = first_index(); i < output.cells(); i += index_step()) {
    const Place p = output.place(i, along_channels);
    const T* roi = rois + 5 * p.n;
    const int64_t picture = picture_of(roi, input);
    T mean = 0;
    if (picture >= 0) {
      const AlignRegion<T> region = align_region(roi, options, output.height(), output.width());
      const S* plane = input.plane(picture, p.c);
      const int64_t dy = input.stride[2], dx = input.stride[3];
      visit_samples(region.rows, int(p.y), input.height(), [&](const Sample<T>& y, T) {
        const S *low = plane + y.low * dy, *high = plane + y.high * dy;
        visit_samples(region.columns, int(p.x), input.width(), [&](const Sample<T>& x, T) {
          mean += y.low_weight * (x.low_weight * T(low[x.low * dx]) + x.high_weight * T(low[x.high * dx])) +
                  y.high_weight * (x.low_weight * T(high[x.low * dx]) + x.high_weight * T(high[x.high * dx]));
        });
      });
      mean = region.samples > 0 ? mean / region.samples : T(0);
    }
    output.at(p) = S(mean);
  }
}

// A thread for each bin adds to the cells below it. `into` is zero before; the order of the sums varies.
template <class S, class T>
__global__ void roi_align_scatter(Map<const S> grad, const T* rois, AlignOptions<T> options, Map<T> into) {
  const bool along_channels = into.along_channels();
  for (int64_t i = first_index(); i < grad.cells(); i += index_step()) {
    const Place p = grad.place(i, along_channels);
    const T* roi = rois + 5 * p.n;
    const int64_t picture = picture_of(roi, into);
    if (picture < 0) continue;
    const AlignRegion<T> region = align_region(roi, options, grad.height(), grad.width());
    const T share = T(grad.at(p)) / region.samples;
    T* plane = into.plane(picture, p.c);
    const int64_t dy = into.stride[2], dx = into.stride[3];
    visit_samples(region.rows, int(p.y), into.height(), [&](const Sample<T>& y, T) {
      T *low = plane + y.low * dy, *high = plane + y.high * dy;
      visit_samples(region.columns, int(p.x), into.width(), [&](const Sample<T>& x, T) {
        atomicAdd(low + x.low * dx, share * y.low_weight * x.low_weight);
        atomicAdd(low + x.high * dx, share * y.low_weight * x.high_weight);
        atomicAdd(high + x.low * dx, share * y.high_weight * x.low_weight);
        atomicAdd(high + x.high * dx, share * y.high_weight * x.high_weight);
      });
    });
  }
}

// The bins [first, last) with samples that may lie less than a cell from row `cell`.
template <class T>
RCNNKIT_BOTH PoolBin bins_near(const AlignAxis<T>& axis, int bins, int cell) {
  const T size = bins * axis.bin, reach = 1 + T(1e-6) * (at_least(axis.start, -axis.start) + size + cell);
  const T first = (cell - reach - axis.start) / axis.bin, last = (cell + reach - axis.start) / axis.bin;
  if (!(axis.bin > 0 && first <= last)) return {0, bins};  // an inverted region, or out of the numbers' range
  return {int(at_most(at_least(round_down(first), T(0)), T(bins))),
          int(at_least(at_most(round_down(last) + 1, T(bins)), T(0)))};
}

// Deterministic: a thread for each row of the result takes the regions in order, and nobody else adds to its row.
template <class S, class T>
__global__ void roi_align_in_order(Map<const S> grad, const T* rois, AlignOptions<T> options, Map<T> into) {
  Map<T> rows = into;
  rows.size[3] = 1;
  const int64_t dx = into.stride[3];
  for (int64_t i = first_index(); i < rows.cells(); i += index_step()) {
    const Place p = rows.place(i, into.along_channels());
    T* row = &into.at(p);
    for (int64_t r = 0; r < grad.size[0]; ++r) {
      const T* roi = rois + 5 * r;
      if (picture_of(roi, into) != p.n) continue;
      const AlignRegion<T> region = align_region(roi, options, grad.height(), grad.width());
      const PoolBin near = bins_near(region.rows, grad.height(), int(p.y));
      for (int by = near.first; by < near.last; ++by) {
        T weight = 0;  // of this row in the bin
        visit_samples(region.rows, by, into.height(), [&](const Sample<T>& y, T) {
          if (y.low == p.y) weight += y.low_weight;
          if (y.high == p.y) weight += y.high_weight;
        });
        if (weight == 0) continue;
        for (int bx = 0; bx < grad.width(); ++bx) {
          const T share = weight * T(grad.at({r, p.c, by, bx})) / region.samples;
          visit_samples(region.columns, bx, into.width(), [&](const Sample<T>& x, T) {
            row[x.low * dx] += share * x.low_weight;
            row[x.high * dx] += share * x.high_weight;
          });
        }
      }
    }
  }
}

constexpr int kBoxThreads = 128;  // in a block; a power of two

// A block of kBoxThreads for each region: its threads share the channels' bins out, and add up in one order. `into`
// (R, 5) is the gradient with respect to the regions, 0 for the pictures' numbers.
template <class S, class T>
__global__ void roi_align_boxes(Map<const S> grad, Map<const S> input, const T* rois, AlignOptions<T> options, T* into) {
  __shared__ T sums[kBoxThreads][4];
  const int bins_high = grad.height(), bins_wide = grad.width(), t = int(threadIdx.x);
  const bool along_channels = input.along_channels();
  const int64_t dy = input.stride[2], dx = input.stride[3];
  Map<const S> one = grad;  // region
  one.size[0] = 1;
  for (int64_t r = blockIdx.x; r < grad.size[0]; r += gridDim.x) {
    const T* roi = rois + 5 * r;
    const int64_t picture = picture_of(roi, input);
    T sides[4] = {T(0), T(0), T(0), T(0)};  // of x1, y1, x2, y2
    if (picture >= 0) {
      const AlignRegion<T> region = align_region(roi, options, bins_high, bins_wide);
      for (int64_t i = t; i < one.cells(); i += kBoxThreads) {
        const Place p = one.place(i, along_channels);
        const S* plane = input.plane(picture, p.c);
        T of_bin[4] = {T(0), T(0), T(0), T(0)};
        visit_samples(region.rows, int(p.y), input.height(), [&](const Sample<T>& y, T row) {
          const S *low = plane + y.low * dy, *high = plane + y.high * dy;
          const SampleMove<T> down = sample_move(region.rows, int(p.y), bins_high, row, options.scale, input.height());
          visit_samples(region.columns, int(p.x), input.width(), [&](const Sample<T>& x, T column) {
            const T a = T(low[x.low * dx]), b = T(low[x.high * dx]), c = T(high[x.low * dx]), d = T(high[x.high * dx]);
            const T right = y.low_weight * (b - a) + y.high_weight * (d - c);
            const T below = x.low_weight * (c - a) + x.high_weight * (d - b);
            const SampleMove<T> along =
                sample_move(region.columns, int(p.x), bins_wide, column, options.scale, input.width());
            of_bin[0] += along.low * right, of_bin[1] += down.low * below;
            of_bin[2] += along.high * right, of_bin[3] += down.high * below;
          });
        });
        if (region.samples > 0)
          for (int side = 0; side < 4; ++side)
            sides[side] += T(grad.at({r, p.c, p.y, p.x})) * of_bin[side] / region.samples;
      }
    }
    for (int side = 0; side < 4; ++side) sums[t][side] = sides[side];
    __syncthreads();
    for (int half = kBoxThreads / 2; half > 0; half /= 2) {
      if (t < half)
        for (int side = 0; side < 4; ++side) sums[t][side] += sums[t + half][side];
      __syncthreads();
    }
    if (t < 5) into[5 * r + t] = t > 0 ? sums[0][t - 1] : T(0);
    __syncthreads();  // before the next region's sums
  }
}

}  // namespace rcnnkit
