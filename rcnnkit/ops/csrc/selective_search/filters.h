// Rows and columns for the 9-tap filters, with the picture's border repeated.
#pragma once
#include "colour.h"
#include "kernels.h"

namespace rcnnkit::search {

// A row as floats, its ends repeated kRadius times.
inline void pad_row(const uint8_t* row, int width, float* padded) {
  for (int x = 0; x < width; ++x) padded[x + kRadius] = row[x];
  for (int i = 0; i < kRadius; ++i) {
    padded[i] = row[0];
    padded[width + kRadius + i] = row[width - 1];
  }
}

// The kTaps rows around row y, those beyond the border replaced by the last one.
inline void around(const float* plane, Size size, int y, const float** rows) {
  for (int i = 0; i < kTaps; ++i)
    rows[i] = plane + int64_t(std::clamp(y + i - kRadius, 0, size.height - 1)) * size.width;
}

}  // namespace rcnnkit::search
