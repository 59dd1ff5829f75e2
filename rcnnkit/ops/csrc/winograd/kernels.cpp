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
typedef uint32_t LooseBits __attribute__((vector_size(RCNNKIT_VECTOR_BYTES), aligned(2), may_alias));
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
  constexpr float a2 = kInner * kInner, b2 = kOuter * kOuter;
  const Wide even = d4 - b2 * d2, odd = kInner * (d3 - b2 * d1), near = d4 - a2 * d2, far = kOuter * (d3 - a2 * d1);
  out[0] = a2 * b2 * d0 - (a2 + b2) * d2 + d4;
  out[out_step] = even + odd;
  out[2 * out_step] = even - odd;
  out[3 * out_step] = near + far;
  out[4 * out_step] = near - far;
  out[5 * out_step] = a2 * b2 * d1 - (a2 + b2) * d3 + d5;
}

// Six coefficients to four outputs (Aᵗ m).
inline void backward(const Wide* m, int step, Wide* out, int out_step) {
  const Wide s = m[step] + m[2 * step], d = m[step] - m[2 * step];
  const Wide s2 = m[3 * step] + m[4 * step], d2 = m[3 * step] - m[4 * step];
  constexpr float a = kInner, b = kOuter;
  out[0] = m[0] + s + s2;
  out[out_step] = a * d + b * d2;
  out[2 * out_step] = a * a * s + b * b * s2;
  out[3 * out_step] = a * a * a * d + b * b * b * d2 + m[5 * step];
}

template <class S>
void read(Map<const S> map, int64_t top, int64_t left, S* out, int64_t stride) {
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

// What a row of coefficients and a panel are taken in: a channel at a time, or two of bfloat16.
struct Singles {
  using S = float;
  static constexpr int kChannels = 1;
  static void weights(const float* from, Wide* into) { into[0] = load(from); }
  static float at(const float* tile, int) { return tile[0]; }
};

struct Pairs {
  using S = uint16_t;
  static constexpr int kChannels = 2;
  static void weights(const uint16_t* from, Wide* into) {
    const Bits both = *reinterpret_cast<const LooseBits*>(from);
    into[0] = (Wide)(both << 16), into[1] = (Wide)(both & 0xffff0000u);  // little-endian: the first lies low
  }
  static float at(const uint16_t* tile, int i) { return __builtin_bit_cast(float, uint32_t(tile[i]) << 16); }
};

template <class Kind, class S = typename Kind::S>
void multiply(const S* tiles, int64_t tile_stride, const S* panel, int64_t channels, float* out, int64_t out_stride) {
  constexpr int kTaken = Kind::kChannels;
  for (int row = 0; row < kRows; row += kBlockRows)
    for (int column = 0; column < kPanel; column += kBlockVectors * lanes) {
      const S* a = tiles + row * tile_stride;
      const S* b = panel + column * kTaken;
      Wide sums[kBlockRows][kBlockVectors] = {};
      for (int64_t c = 0; c < channels; c += kTaken, b += kPanel * kTaken) {
        Wide weights[kBlockVectors][kTaken];
#pragma GCC unroll 4
        for (int j = 0; j < kBlockVectors; ++j) Kind::weights(b + j * lanes * kTaken, weights[j]);
#pragma GCC unroll 16
        for (int i = 0; i < kBlockRows; ++i) {
#pragma GCC unroll 2
          for (int k = 0; k < kTaken; ++k) {
            const float x = Kind::at(a + i * tile_stride + c, k);
#pragma GCC unroll 4
            for (int j = 0; j < kBlockVectors; ++j) sums[i][j] += x * weights[j][k];
          }
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
const winograd::Kernels winograd_kernels = {read<float>,     read<uint16_t>, multiply<Singles>,
                                            multiply<Pairs>, write<float>,   write<uint16_t>};

}  // namespace rcnnkit::RCNNKIT_LEVEL
