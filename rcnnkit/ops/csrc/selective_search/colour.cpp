#include "colour.h"

#include <cmath>
#include <vector>

namespace rcnnkit::search {
namespace {

inline uint8_t to_byte(float x) { return uint8_t(std::min(std::max(x, 0.f), 255.f) + 0.5f); }

// Hue as 0 … 255 for the whole circle, linear, without wrap-around; 0 for greys.
struct HueTable {
  float per[256];  // 255 / 6 / (max − min)
  HueTable() {
    per[0] = 0;
    for (int i = 1; i < 256; ++i) per[i] = 255.f / 6.f / float(i);
  }
  uint8_t operator()(int r, int g, int b, int low, int high) const {
    const float step = per[high - low];
    const float hue = high == r   ? float(g - b) * step
                      : high == g ? float(b - r) * step + 85.f
                                  : float(r - g) * step + 170.f;
    return to_byte(hue < 0 ? hue + 255.f : hue);
  }
};

// CIE L*a*b* of sRGB under D65 (IEC 61966-2-1, CIE 15): L·255/100, a + 128, b + 128.
struct LabTable {
  static constexpr int kSteps = 4096;
  float linear[256];
  float root[kSteps + 2];  // CIE's f on [0, 1], between whose entries is interpolated
  LabTable() {
    for (int i = 0; i < 256; ++i) {
      const double v = i / 255.0;
      linear[i] = float(v <= 0.04045 ? v / 12.92 : std::pow((v + 0.055) / 1.055, 2.4));
    }
    for (int i = 0; i < kSteps + 2; ++i) {
      const double t = double(i) / kSteps;
      root[i] = float(t > 216.0 / 24389 ? std::cbrt(t) : (24389.0 / 27 * t + 16) / 116);
    }
  }
  float f(float t) const {
    const float at = std::min(t, 1.f) * kSteps;
    const int i = int(at);
    return root[i] + (root[i + 1] - root[i]) * (at - float(i));
  }
  void operator()(int r8, int g8, int b8, uint8_t* lab, int64_t plane) const {
    const float r = linear[r8], g = linear[g8], b = linear[b8];
    // sRGB to XYZ, each row divided by its sum, the white point.
    const float x = f(0.4339499f * r + 0.3762098f * g + 0.1898403f * b);
    const float y = f(0.2126729f * r + 0.7151521f * g + 0.0721750f * b);
    const float z = f(0.0177566f * r + 0.1094680f * g + 0.8727755f * b);
    lab[0] = to_byte((116.f * y - 16.f) * 2.55f);
    lab[plane] = to_byte(500.f * (x - y) + 128.f);
    lab[2 * plane] = to_byte(200.f * (y - z) + 128.f);
  }
};

}  // namespace

Planes convert(const uint8_t* image, Size size, Colour colour) {
  static const HueTable hue;
  static const LabTable lab;
  const int64_t n = size.pixels();
  const int count = colour == Colour::hue || colour == Colour::intensity ? 1 : 3;
  Planes planes = {count, Buffer<uint8_t>(count * n)};
  uint8_t* out = planes.values.get();
  for (int64_t i = 0; i < n; ++i, image += 3, ++out) {
    const int r = image[0], g = image[1], b = image[2];
    const int high = std::max(r, std::max(g, b)), low = std::min(r, std::min(g, b)), sum = r + g + b;
    switch (colour) {
      case Colour::rgb:
        out[0] = uint8_t(r), out[n] = uint8_t(g), out[2 * n] = uint8_t(b);
        break;
      case Colour::hsv:
        out[0] = hue(r, g, b, low, high);
        out[n] = high ? uint8_t((255 * (high - low) + high / 2) / high) : 0;
        out[2 * n] = uint8_t(high);
        break;
      case Colour::lab:
        lab(r, g, b, out, n);
        break;
      case Colour::rgi:  // normalised red and green, and intensity; black is grey
        out[0] = sum ? uint8_t((255 * r + sum / 2) / sum) : 85;
        out[n] = sum ? uint8_t((255 * g + sum / 2) / sum) : 85;
        out[2 * n] = uint8_t((sum + 1) / 3);
        break;
      case Colour::hue:
        out[0] = hue(r, g, b, low, high);
        break;
      case Colour::intensity:
        out[0] = uint8_t((299 * r + 587 * g + 114 * b + 500) / 1000);
        break;
    }
  }
  return planes;
}

}  // namespace rcnnkit::search
