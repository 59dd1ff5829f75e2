// Convolutions of bfloat16 on CPUs that multiply in tiles.
#pragma once
#include "windows.h"

namespace rcnnkit::convolution {

// The arrays of a convolution; `added` may be null.
struct Arrays {
  const uint16_t *cells, *weights;
  const float* biases;
  const uint16_t* added;
  uint16_t* out;
};

void conv2d_by_tiles(const Tiles& tiles, const Arguments& given, const Windows& windows, const Arrays& arrays);

}  // namespace rcnnkit::convolution
