// Colour spaces, each of whose channels fills 8 bits (IJCV 2013, section 3.2.1).
#pragma once
#include "memory.h"

#include <cstdint>

namespace rcnnkit::search {

// In the order of the names in selective_search.py.
enum class Colour { rgb, hsv, lab, rgi, hue, intensity };
constexpr int kColours = 6;

struct Size {
  int height, width;
  int64_t pixels() const { return int64_t(height) * width; }
};

// One or three planes of (height, width), one after the other.
struct Planes {
  int count;
  Buffer<uint8_t> values;
};

// `image` is (height, width, 3) RGB.
Planes convert(const uint8_t* image, Size size, Colour colour);

}  // namespace rcnnkit::search
