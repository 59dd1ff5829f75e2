// Products of bfloat16 pairs by AVX-512's own instruction; compiled for CPUs that have it. See kernels.h.
#include "kernels.h"

#include <immintrin.h>

namespace rcnnkit::winograd {

void multiply_pairs(const uint16_t* tiles, int64_t tile_stride, const uint16_t* panel, int64_t channels, float* out,
                    int64_t out_stride) {
  constexpr int kVectors = kPanel / 16;
  __m512 sums[kRows][kVectors] = {};
  for (int64_t c = 0; c < channels; c += 2, panel += 2 * kPanel) {
    __m512bh weights[kVectors];
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) weights[j] = (__m512bh)_mm512_loadu_si512(panel + 32 * j);
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i) {
      uint32_t pair;
      __builtin_memcpy(&pair, tiles + i * tile_stride + c, sizeof pair);
      const __m512bh x = (__m512bh)_mm512_set1_epi32(int(pair));
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) sums[i][j] = _mm512_dpbf16_ps(sums[i][j], x, weights[j]);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) _mm512_storeu_ps(out + i * out_stride + 16 * j, sums[i][j]);
}

}  // namespace rcnnkit::winograd
