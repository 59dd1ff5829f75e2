// The inner loops of selective search, compiled once for each instruction set (kernels.cpp); free of torch and of the
// standard library, as cpu/kernels.h says why. No sum here depends on the vector width, so every level gives the same
// bits.
#pragma once
#include <cstdint>

namespace rcnnkit::search {

constexpr int kRadius = 4;  // of all filters: 9 taps
constexpr int kTaps = 2 * kRadius + 1;

struct Kernels {
  // out[x] = Σ taps[i] · from[x + i], i < kTaps; `from` has width + 2 · kRadius elements.
  void (*filter_row)(const float* from, const float* taps, int width, float* out);
  // out[x] = Σ taps[i] · rows[i][x].
  void (*filter_column)(const float* const* rows, const float* taps, int width, float* out);
  // key[x] of the edge from a[c][x] to b[c][x], summed over the planes c: see edge_key.
  void (*edge_keys)(const float* const* a, const float* const* b, int planes, int width, uint16_t* key);
  // The bins of the derivatives along 0°, 45°, 90° and 135°: magnitude bin 0 … 9, plus 10 where they are negative.
  void (*texture_bins)(const float* dx, const float* dy, int width, uint8_t* const* bins);
  // Σ min(a[i], b[i]); count is a multiple of kBinBlock.
  int32_t (*intersect)(const int16_t* a, const int16_t* b, int count);
  // out[i] = a[i] + b[i], and bins[i] = out[i] · factor rounded.
  void (*merge)(const int32_t* a, const int32_t* b, int count, float factor, int32_t* out, int16_t* bins);
};

constexpr int kBinBlock = 32;

// Edges are sorted by a 16-bit key of the squared distance d² of their ends' colours: its floating-point bits from
// 2^-14 on, cut to 9 bits of mantissa. Neighbouring keys are 0.1 % apart in d, and d = 0 has a key of its own.
constexpr int kKeyShift = 14;
constexpr float kKeyOffset = 0x1p-14f;
constexpr uint32_t kKeyBase = (127u - 14u) << 23 >> kKeyShift;
constexpr int kKeys = int(((127u + 20u) << 23 >> kKeyShift) - kKeyBase);  // d² < 2^20

}  // namespace rcnnkit::search
