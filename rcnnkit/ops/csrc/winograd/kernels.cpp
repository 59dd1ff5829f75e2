// See kernels.h. CMake compiles this file once a level, with RCNNKIT_LEVEL naming the level's namespace.
#include "../vector_bytes.h"
#include "kernels.h"

namespace rcnnkit::RCNNKIT_LEVEL {
namespace {

using namespace rcnnkit::winograd;

constexpr int lanes = RCNNKIT_VECTOR_BYTES / 4;
typedef float Wide __attribute__((vector_size(RCNNKIT_VECTOR_BYTES)));
typedef float Loose __attribute__((vector_size(RCNNKIT_VECTOR_BYTES), aligned(4), may_alias));  // in memory
typedef uint32_t Bits __attribute__((vector_size(RCNNKIT_VECTOR_BYTES)));
typedef uint16_t Half __attribute__((vector_size(RCNNKIT_VECTOR_BYTES / 2), aligned(2), may_alias));

inline Wide load(const float* from) { return *reinterpret_cast<const Loose*>(from); }
inline void store(float* to, Wide x) { *reinterpret_cast<Loose*>(to) = x; }
inline Wide load(const uint16_t* from) {
  return (Wide)(__builtin_convertvector(*reinterpret_cast<const Half*>(from), Bits) << 16);
}
inline void store(uint16_t* to, Wide x) {
  const Bits bits = (Bits)x, rounded = bits + 0x7fffu + ((bits >> 16) & 1);  // to nearest, ties to even
  *reinterpret_cast<Half*>(to) = __builtin_convertvector((x == x ? rounded : bits | 0x400000u) >> 16, Half);
}

// Six inputs, or as many sums of weights, to six coefficients (Bᵗ d), `step` apart.
inline void forward(const Wide* d, int step, Wide* out, int out_step) {
  const Wide d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
  const Wide even = d4 - 4.f * d2, odd = d3 - 4.f * d1, near = d4 - d2, far = 2.f * (d3 - d1);
  out[0] = 4.f * d0 - 5.f * d2 + d4;
  out[out_step] = even + odd;
  out[2 * out_step] = even - odd;
  out[3 * out_step] = near + far;
  out[4 * out_step] = near - far;
  out[5 * out_step] = 4.f * d1 - 5.f * d3 + d5;
}

// Six coefficients to four outputs (Aᵗ m).
inline void backward(const Wide* m, int step, Wide* out, int out_step) {
  const Wide s = m[step] + m[2 * step], d = m[step] - m[2 * step];
  const Wide s2 = m[3 * step] + m[4 * step], d2 = m[3 * step] - m[4 * step];
  out[0] = m[0] + s + s2;
  out[out_step] = d + 2.f * d2;
  out[2 * out_step] = s + 4.f * s2;
  out[3 * out_step] = d + 8.f * d2 + m[5 * step];
}

template <class S>
void read(Map<const S> map, int64_t top, int64_t left, float* out, int64_t stride) {
  const S* cells[kCoefficients];  // null outside the map
  for (int i = 0; i < kCoefficients; ++i) {
    const int64_t y = top + i / kInputs, x = left + i % kInputs;
    const bool inside = y >= 0 && y < map.height && x >= 0 && x < map.width;
    cells[i] = inside ? map.cells + (y * map.width + x) * map.channels : nullptr;
  }
  for (int64_t c = 0; c < map.channels; c += lanes) {
    Wide half[kCoefficients], full[kCoefficients];
    for (int i = 0; i < kInputs; ++i) {
      Wide row[kInputs];
      for (int j = 0; j < kInputs; ++j) {
        const S* cell = cells[i * kInputs + j];
        row[j] = cell ? load(cell + c) : Wide{};
      }
      forward(row, 1, half + i * kInputs, 1);
    }
    for (int j = 0; j < kInputs; ++j) forward(half + j, kInputs, full + j, kInputs);
    for (int i = 0; i < kCoefficients; ++i) store(out + i * stride + c, full[i]);
  }
}

template <class S>
void write(const float* coefficients, int64_t stride, const float* bias, float least, Map<S> map, int64_t top,
           int64_t left) {
  const int rows = int(map.height - top < kOutputs ? map.height - top : kOutputs);
  const int columns = int(map.width - left < kOutputs ? map.width - left : kOutputs);
  for (int64_t c = 0; c < map.channels; c += lanes) {
    Wide half[kInputs * kOutputs];
    for (int i = 0; i < kInputs; ++i) {
      Wide row[kInputs];
      for (int j = 0; j < kInputs; ++j) row[j] = load(coefficients + (i * kInputs + j) * stride + c);
      backward(row, 1, half + i * kOutputs, 1);
    }
    const Wide offset = load(bias + c);
    for (int j = 0; j < columns; ++j) {
      Wide column[kOutputs];
      backward(half + j, kOutputs, column, 1);
      for (int i = 0; i < rows; ++i) {
        const Wide sum = column[i] + offset, bound = Wide{} + least;
        store(map.cells + ((top + i) * map.width + left + j) * map.channels + c, sum < bound ? bound : sum);  // NaN stays
      }
    }
  }
}

// As many rows and columns of vectors as fit in the registers beside what is multiplied.
#if defined(__AVX512F__)
constexpr int kBlockRows = 12, kBlockVectors = 2;
#elif defined(__AVX__)
constexpr int kBlockRows = 6, kBlockVectors = 2;
#else
constexpr int kBlockRows = 4, kBlockVectors = 2;
#endif

void multiply(const float* tiles, int64_t tile_stride, const float* panel, int64_t channels, float* out,
              int64_t out_stride) {
  for (int row = 0; row < kRows; row += kBlockRows)
    for (int column = 0; column < kPanel; column += kBlockVectors * lanes) {
      const float* a = tiles + row * tile_stride;
      const float* b = panel + column;
      Wide sums[kBlockRows][kBlockVectors] = {};
      for (int64_t c = 0; c < channels; ++c, b += kPanel) {
        Wide weights[kBlockVectors];
#pragma GCC unroll 4
        for (int j = 0; j < kBlockVectors; ++j) weights[j] = load(b + j * lanes);
#pragma GCC unroll 16
        for (int i = 0; i < kBlockRows; ++i) {
          const float x = a[i * tile_stride + c];
#pragma GCC unroll 4
          for (int j = 0; j < kBlockVectors; ++j) sums[i][j] += x * weights[j];
        }
      }
#pragma GCC unroll 16
      for (int i = 0; i < kBlockRows; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < kBlockVectors; ++j)
          store(out + (row + i) * out_stride + column + j * lanes, sums[i][j]);
    }
}

}  // namespace

extern const winograd::Kernels winograd_kernels;
const winograd::Kernels winograd_kernels = {read<float>, read<uint16_t>, multiply, write<float>, write<uint16_t>};

}  // namespace rcnnkit::RCNNKIT_LEVEL
