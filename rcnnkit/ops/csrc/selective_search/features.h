// What a region looks like: histograms of texture and colour (IJCV 2013, section 3.2.2).
#pragma once
#include "segment.h"

namespace rcnnkit::search {

constexpr int kAxes = 4, kTextureBins = 20, kColourBins = 25;  // an axis holds two of the paper's eight orientations

// A region's bins: texture for each channel and axis, zeros up to a multiple of kBinBlock, colour for each channel, and
// zeros again.
struct BinLayout {
  int channels, colour, total;  // where colour begins, and how many in all
  explicit BinLayout(int channels);
};

// For each channel and axis, each pixel's bin of the Gaussian derivative (sigma 1): (channels · kAxes, height, width).
Buffer<uint8_t> texture_planes(const Planes& planes, Size size, const Kernels& kernels);

struct Features {
  BinLayout layout;
  Buffer<int32_t> counts;  // (regions, layout.total); they add up exactly when regions merge
  Buffer<int16_t> bins;    // the same as shares of the region's size; unit() times the paper's L1-normalised values
};

// Texture has 8 counts a pixel and channel, colour one, which stands eightfold so that one factor makes both shares.
inline float share(int64_t size) { return float(32767.0 / (8.0 * double(size))); }
inline int unit(const BinLayout& layout) { return 32767 * layout.channels; }

Features describe(const Planes& planes, const Buffer<uint8_t>& texture, const Segmentation& segmentation, Size size,
                  const Kernels& kernels);

}  // namespace rcnnkit::search
