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

// Copies `count` rows of bytes, of a map to a row without gaps. memcpy, but without a call where the rows are short.
inline void copy_rows(const char* from, int64_t from_apart, int64_t count, size_t bytes, char* to) {
  const auto by_ends = [&]<size_t half>() {  // two halves that may overlap
    for (int64_t i = 0; i < count; ++i, from += from_apart, to += bytes) {
      std::memcpy(to, from, half);
      std::memcpy(to + bytes - half, from + bytes - half, half);
    }
  };
  if (bytes <= 128 && bytes > 64) return by_ends.template operator()<64>();
  if (bytes <= 64 && bytes >= 32) return by_ends.template operator()<32>();
  for (int64_t i = 0; i < count; ++i) std::memcpy(to + i * bytes, from + i * from_apart, bytes);
}

// Copies part of the window whose first cell is (top, left); outside the map all is 0.
template <class S>
void gather(Map<const S> map, int64_t top, int64_t left, Part part, S* row) {
  const int64_t width = part.right - part.left, whole = width * map.channels, apart = map.width * map.channels;
  left += part.left;
  const int64_t first = std::clamp<int64_t>(-left, 0, width), last = std::clamp<int64_t>(map.width - left, first, width);
  const int64_t begin = top + part.top, end = top + part.bottom;
  const bool across = first == 0 && last == width;
  if (!across || begin < 0 || end > map.height) std::fill_n(row, (end - begin) * whole, S());
  const int64_t above = std::clamp<int64_t>(-begin, 0, end - begin), below = std::min(end, map.height);
  if (last == first || begin + above >= below) return;
  const S* from = map.cells + (begin + above) * apart + (left + first) * map.channels;
  S* to = row + above * whole + first * map.channels;
  const size_t bytes = (last - first) * map.channels * sizeof(S);
  if (across)
    copy_rows(reinterpret_cast<const char*>(from), apart * sizeof(S), below - begin - above, bytes,
              reinterpret_cast<char*>(to));
  else
    for (int64_t y = begin + above; y < below; ++y, from += apart, to += whole) std::memcpy(to, from, bytes);
}

}  // namespace rcnnkit::convolution
