#include "features.h"

#include "filters.h"

#include <cmath>

namespace rcnnkit::search {
namespace {

constexpr int up(int count) { return (count + kBinBlock - 1) / kBinBlock * kBinBlock; }

template <int channels>
void count_pixels(const uint8_t* planes, const uint8_t* texture, const int32_t* labels, int64_t n, BinLayout layout,
                  int32_t* counts) {
  for (int64_t i = 0; i < n; ++i) {
    int32_t* region = counts + int64_t(labels[i]) * layout.total;
#pragma GCC unroll 12
    for (int t = 0; t < channels * kAxes; ++t) ++region[t * kTextureBins + texture[t * n + i]];
#pragma GCC unroll 3
    for (int c = 0; c < channels; ++c) region[layout.colour + c * kColourBins + (kColourBins * planes[c * n + i] >> 8)] += 8;
  }
}

}  // namespace

BinLayout::BinLayout(int channels)
    : channels(channels), colour(up(channels * kAxes * kTextureBins)), total(colour + up(channels * kColourBins)) {}

Buffer<uint8_t> texture_planes(const Planes& planes, Size size, const Kernels& kernels) {
  const int h = size.height, w = size.width;
  const int64_t n = size.pixels();
  // The derivative's taps sum to 0 and answer a step of 1 with 1 / √(2π), as the continuous filter does.
  float smooth[kTaps], slope[kTaps];
  double total = 0;
  for (int i = 0; i < kTaps; ++i) total += std::exp(-0.5 * std::pow(i - kRadius, 2));
  for (int i = 0; i < kTaps; ++i) {
    smooth[i] = float(std::exp(-0.5 * std::pow(i - kRadius, 2)) / total);
    slope[i] = float(i - kRadius) * smooth[i];
  }
  Buffer<uint8_t> bins(planes.count * kAxes * n);
  Buffer<float> across(n), along(n), padded(w + 2 * kRadius), dx(w), dy(w);
  for (int c = 0; c < planes.count; ++c) {
    for (int y = 0; y < h; ++y) {
      const int64_t at = int64_t(y) * w;
      pad_row(planes.values.get() + c * n + at, w, padded.get());
      kernels.filter_row(padded.get(), slope, w, across.get() + at);
      kernels.filter_row(padded.get(), smooth, w, along.get() + at);
    }
    for (int y = 0; y < h; ++y) {
      const float* rows[kTaps];
      around(across.get(), size, y, rows);
      kernels.filter_column(rows, smooth, w, dx.get());
      around(along.get(), size, y, rows);
      kernels.filter_column(rows, slope, w, dy.get());
      uint8_t* out[kAxes];
      for (int a = 0; a < kAxes; ++a) out[a] = bins.get() + (c * kAxes + a) * n + int64_t(y) * w;
      kernels.texture_bins(dx.get(), dy.get(), w, out);
    }
  }
  return bins;
}

Features describe(const Planes& planes, const Buffer<uint8_t>& texture, const Segmentation& segmentation, Size size,
                  const Kernels& kernels) {
  const BinLayout layout(planes.count);
  const int64_t count = segmentation.count, n = size.pixels();
  Features features{layout, Buffer<int32_t>(count * layout.total), Buffer<int16_t>(count * layout.total)};
  int32_t* counts = features.counts.get();
  std::fill_n(counts, count * layout.total, 0);
  const auto count_all = planes.count == 3 ? count_pixels<3> : count_pixels<1>;
  count_all(planes.values.get(), texture.get(), segmentation.labels.get(), n, layout, counts);

  const Buffer<int32_t> none(layout.total);
  std::fill_n(none.get(), layout.total, 0);
  for (int64_t r = 0; r < count; ++r) {
    int32_t* region = counts + r * layout.total;
    const int32_t pixels = int32_t(segmentation.sizes[r]);
    // A response counts as 0 along the opposite orientation.
    for (int t = 0; t < layout.channels * kAxes; ++t) {
      int32_t* axis = region + t * kTextureBins;
      int32_t positive = 0;
      for (int b = 0; b < kTextureBins / 2; ++b) positive += axis[b];
      axis[0] += pixels - positive;
      axis[kTextureBins / 2] += positive;
    }
    kernels.merge(region, none.get(), layout.total, share(pixels), region, features.bins.get() + r * layout.total);
  }
  return features;
}

}  // namespace rcnnkit::search
