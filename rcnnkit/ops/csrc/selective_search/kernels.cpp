// See kernels.h. CMake compiles this file once a level, with RCNNKIT_LEVEL naming the level's namespace, and without
// fused products, so that all levels round alike.
#include "kernels.h"

namespace rcnnkit::RCNNKIT_LEVEL {
namespace {

using namespace rcnnkit::search;

void filter_row(const float* __restrict from, const float* __restrict taps, int width, float* __restrict out) {
  for (int x = 0; x < width; ++x) {
    float sum = taps[0] * from[x];
#pragma GCC unroll 8
    for (int i = 1; i < kTaps; ++i) sum += taps[i] * from[x + i];
    out[x] = sum;
  }
}

void filter_column(const float* const* rows, const float* __restrict taps, int width, float* __restrict out) {
  const float *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3], *r4 = rows[4], *r5 = rows[5], *r6 = rows[6],
              *r7 = rows[7], *r8 = rows[8];
  for (int x = 0; x < width; ++x)
    out[x] = taps[0] * r0[x] + taps[1] * r1[x] + taps[2] * r2[x] + taps[3] * r3[x] + taps[4] * r4[x] +
             taps[5] * r5[x] + taps[6] * r6[x] + taps[7] * r7[x] + taps[8] * r8[x];
}

template <int planes>
void edge_keys_of(const float* const* a, const float* const* b, int width, uint16_t* __restrict key) {
  const float *a0 = a[0], *b0 = b[0], *a1 = a[planes > 1 ? 1 : 0], *b1 = b[planes > 1 ? 1 : 0];
  const float *a2 = a[planes > 1 ? 2 : 0], *b2 = b[planes > 1 ? 2 : 0];
  for (int x = 0; x < width; ++x) {
    const float d0 = a0[x] - b0[x], d1 = a1[x] - b1[x], d2 = a2[x] - b2[x];
    // One plane stands for three equal ones, which the authors' code was fed: it takes three.
    const float square = planes > 1 ? d0 * d0 + d1 * d1 + d2 * d2 : 3 * (d0 * d0);
    const float shifted = square + kKeyOffset;
    uint32_t bits;
    __builtin_memcpy(&bits, &shifted, 4);
    key[x] = uint16_t((bits >> kKeyShift) - kKeyBase);
  }
}

void edge_keys(const float* const* a, const float* const* b, int planes, int width, uint16_t* key) {
  planes > 1 ? edge_keys_of<3>(a, b, width, key) : edge_keys_of<1>(a, b, width, key);
}

// Responses reach 255 / √(2π) = 101.7, at a full step.
inline uint8_t texture_bin(float response) {
  const float size = (response < 0 ? -response : response) * (10.f / 102.f);
  const int bin = int(size < 9.f ? size : 9.f);
  return uint8_t(response < 0 ? bin + 10 : bin);
}

void texture_bins(const float* __restrict dx, const float* __restrict dy, int width, uint8_t* const* bins) {
  uint8_t *__restrict b0 = bins[0], *__restrict b1 = bins[1], *__restrict b2 = bins[2], *__restrict b3 = bins[3];
  constexpr float half = 0.70710678f;
  for (int x = 0; x < width; ++x) {
    b0[x] = texture_bin(dx[x]);
    b1[x] = texture_bin((dx[x] + dy[x]) * half);
    b2[x] = texture_bin(dy[x]);
    b3[x] = texture_bin((dy[x] - dx[x]) * half);
  }
}

int32_t intersect(const int16_t* __restrict a, const int16_t* __restrict b, int count) {
  int32_t sum = 0;
  for (int i = 0; i < count; ++i) sum += a[i] < b[i] ? a[i] : b[i];
  return sum;
}

void merge(const int32_t* __restrict a, const int32_t* __restrict b, int count, float factor, int32_t* __restrict out,
           int16_t* __restrict bins) {
  for (int i = 0; i < count; ++i) {
    out[i] = a[i] + b[i];
    bins[i] = int16_t(int32_t(float(out[i]) * factor + 0.5f));
  }
}

}  // namespace

extern const search::Kernels search_kernels;
const search::Kernels search_kernels = {filter_row, filter_column, edge_keys, texture_bins, intersect, merge};

}  // namespace rcnnkit::RCNNKIT_LEVEL
