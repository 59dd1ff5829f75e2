// The windows of a convolution: where they lie on maps, and what they look at.
#pragma once
#include "layer.h"

#include <cstring>

namespace rcnnkit::convolution {

constexpr int64_t kTiny = 16;          // outputs of a picture, at most, that may go place by place
constexpr double kMostInside = 0.7;    // the share of the windows' cells that is on the map, at most, for that

// Cells of a window, half-open.
struct Part {
  int64_t top, left, bottom, right;
};

// Where windows lie on maps.
struct Windows {
  Shape shape;                             // of the maps
  int64_t height, width, stride, padding;  // of a window, and how they step
  int64_t rows, columns;                   // how many there are

  int64_t begin(int64_t index) const { return index * stride - padding; }
  Part whole() const { return {0, 0, height, width}; }

  // The part of the window of output (y, x) that is on the map.
  Part inside(int64_t y, int64_t x) const {
    const auto cut = [](int64_t border, int64_t size) { return std::clamp<int64_t>(border, 0, size); };
    return {cut(-begin(y), height), cut(-begin(x), width), cut(shape.height - begin(y), height),
            cut(shape.width - begin(x), width)};
  }

  // Whether little of them is on the map, and there are few of them.
  bool are_mostly_outside() const {
    if (rows * columns > kTiny) return false;
    int64_t cells = 0;
    for (int64_t y = 0; y < rows; ++y)
      for (int64_t x = 0; x < columns; ++x) {
        const Part part = inside(y, x);
        cells += (part.bottom - part.top) * (part.right - part.left);
      }
    return double(cells) < kMostInside * double(rows * columns * height * width);
  }
};

// memcpy, but without a call for the few bytes of a window's rows of pixels.
inline void copy(void* to, const void* from, size_t bytes) {
  const auto ends = [&]<size_t half>() {  // two halves that may overlap
    std::memcpy(to, from, half);
    std::memcpy(static_cast<char*>(to) + bytes - half, static_cast<const char*>(from) + bytes - half, half);
  };
  if (bytes > 128 || bytes < 32) std::memcpy(to, from, bytes);
  else if (bytes > 64) ends.template operator()<64>();
  else ends.template operator()<32>();
}

// Copies part of the window whose first cell is (top, left); outside the map all is 0.
template <class S>
void gather(Map<const S> map, int64_t top, int64_t left, Part part, S* row) {
  const int64_t width = part.right - part.left, whole = width * map.channels;
  left += part.left;
  const int64_t first = std::clamp<int64_t>(-left, 0, width), last = std::clamp<int64_t>(map.width - left, first, width);
  for (int64_t y = top + part.top; y < top + part.bottom; ++y, row += whole) {
    const bool inside = y >= 0 && y < map.height;
    if (!inside || first > 0 || last < width) std::fill_n(row, whole, S());
    if (inside && last > first)
      copy(row + first * map.channels, map.cells + (y * map.width + left + first) * map.channels,
           (last - first) * map.channels * sizeof(S));
  }
}

}  // namespace rcnnkit::convolution
