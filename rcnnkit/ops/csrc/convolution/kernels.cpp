// See kernels.h. CMake compiles this file once a level, with RCNNKIT_LEVEL naming the level's namespace.
#include "../vectors.h"
#include "kernels.h"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace rcnnkit::RCNNKIT_LEVEL {
namespace {

using namespace rcnnkit::convolution;

using Floats = Wide<float>;
using Bits = Wide<uint32_t>;
typedef uint32_t LooseBits __attribute__((vector_size(RCNNKIT_VECTOR_BYTES), aligned(2), may_alias));
typedef uint16_t Half __attribute__((vector_size(RCNNKIT_VECTOR_BYTES / 2), aligned(2), may_alias));
constexpr int lanes = Vectors<float>::lanes;

inline Bits widened(Half half) {
#ifdef __AVX512F__  // GCC would do it in two halves
  return (Bits)_mm512_cvtepu16_epi32((__m256i)half);
#else
  return __builtin_convertvector(half, Bits);
#endif
}
inline Half narrowed(Bits bits) {
#ifdef __AVX512F__
  return (Half)_mm512_cvtepi32_epi16((__m512i)bits);
#else
  return __builtin_convertvector(bits, Half);
#endif
}
inline Floats load(const uint16_t* from) { return (Floats)(widened(*reinterpret_cast<const Half*>(from)) << 16); }
inline void store(uint16_t* to, Floats x) {  // to nearest, ties to even
#ifdef __AVX512BF16__
  *reinterpret_cast<Half*>(to) = (Half)_mm512_cvtneps_pbh((__m512)x);
#else
  *reinterpret_cast<Half*>(to) = narrowed(rounded_to_bfloat16((Bits)x, x) >> 16);
#endif
}

// Of a value that was loaded, with nothing to round.
inline void keep(float* to, Floats x) { store(to, x); }
inline void keep(uint16_t* to, Floats x) { *reinterpret_cast<Half*>(to) = narrowed((Bits)x >> 16); }

// Six inputs to six coefficients (Bᵗ d), `step` apart.
inline void data_transform(const Floats* d, int step, Floats* out, int out_step) {
  const Floats d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
  constexpr float a2 = kInner * kInner, b2 = kOuter * kOuter;
  const Floats even = d4 - b2 * d2, odd = kInner * (d3 - b2 * d1), near = d4 - a2 * d2, far = kOuter * (d3 - a2 * d1);
  out[0] = a2 * b2 * d0 - (a2 + b2) * d2 + d4;
  out[out_step] = even + odd;
  out[2 * out_step] = even - odd;
  out[3 * out_step] = near + far;
  out[4 * out_step] = near - far;
  out[5 * out_step] = a2 * b2 * d1 - (a2 + b2) * d3 + d5;
}

// Six coefficients to four outputs (Aᵗ m).
inline void inverse_transform(const Floats* m, int step, Floats* out, int out_step) {
  const Floats s = m[step] + m[2 * step], d = m[step] - m[2 * step];
  const Floats s2 = m[3 * step] + m[4 * step], d2 = m[3 * step] - m[4 * step];
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
    Floats half[kCoefficients], full[kCoefficients];
    for (int i = 0; i < kInputs; ++i) {
      Floats row[kInputs];
      for (int j = 0; j < kInputs; ++j) {
        const S* cell = cells[i * kInputs + j];
        row[j] = cell ? load(cell + c) : Floats{};
      }
      data_transform(row, 1, half + i * kInputs, 1);
    }
    for (int j = 0; j < kInputs; ++j) data_transform(half + j, kInputs, full + j, kInputs);
    for (int i = 0; i < kCoefficients; ++i) store(out + i * stride + c, full[i]);
  }
}

template <class S>
inline void put(Floats sum, const S* residual, Floats least, S* out) {
  if (residual) sum += load(residual);
  store(out, sum < least ? least : sum);  // NaN stays
}

template <class S>
void write(const float* coefficients, int64_t stride, const float* bias, const S* residual, float least, Map<S> map,
           int channels, int64_t top, int64_t left) {
  const int rows = int(map.height - top < kOutputs ? map.height - top : kOutputs);
  const int columns = int(map.width - left < kOutputs ? map.width - left : kOutputs);
  const Floats bound = Floats{} + least;
  for (int c = 0; c < channels; c += lanes) {
    Floats half[kInputs * kOutputs];
    for (int i = 0; i < kInputs; ++i) {
      Floats row[kInputs];
      for (int j = 0; j < kInputs; ++j) row[j] = load(coefficients + (i * kInputs + j) * stride + c);
      inverse_transform(row, 1, half + i * kOutputs, 1);
    }
    const Floats offset = load(bias + c);
    for (int j = 0; j < columns; ++j) {
      Floats column[kOutputs];
      inverse_transform(half + j, kOutputs, column, 1);
      for (int i = 0; i < rows; ++i) {
        const int64_t at = ((top + i) * map.width + left + j) * map.channels + c;
        put(column[i] + offset, residual ? residual + at : nullptr, bound, map.cells + at);
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

// What a row and a panel are taken in: a channel at a time, or two of bfloat16.
struct Singles {
  using S = float;
  static constexpr int kChannels = 1;
  static constexpr int64_t at(int64_t channel, int column) { return channel * kPanel + column; }
  typedef Floats Weights;
  static Weights weights(const float* from) { return load(from); }
  static Floats add(Floats sum, const float* row, Weights weights) { return sum + row[0] * weights; }
};

struct Pairs {
  using S = uint16_t;
  static constexpr int kChannels = 2;
  static constexpr int64_t at(int64_t channel, int column) {  // of those that begin a step
    return channel * kPanel + column / kTile * (kTile * kStep) + column % kTile * 2;
  }
#ifdef __AVX512BF16__
  typedef __m512bh Weights;
  static Weights weights(const uint16_t* from) { return (__m512bh)_mm512_loadu_si512(from); }
  static Floats add(Floats sum, const uint16_t* row, Weights weights) {
    uint32_t pair;
    __builtin_memcpy(&pair, row, sizeof pair);
    return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(int(pair)), weights);
  }
#else
  struct Weights { Floats first, second; };
  static Weights weights(const uint16_t* from) {
    const Bits both = *reinterpret_cast<const LooseBits*>(from);
    return {(Floats)(both << 16), (Floats)(both & 0xffff0000u)};  // little-endian: the first lies low
  }
  static Floats add(Floats sum, const uint16_t* row, Weights weights) {
    sum += __builtin_bit_cast(float, uint32_t(row[0]) << 16) * weights.first;
    return sum + __builtin_bit_cast(float, uint32_t(row[1]) << 16) * weights.second;
  }
#endif
};

// put(row, column, sum) for every vector of the products of kRows rows with a panel, each begun at start(row, column).
template <class Kind, class S = typename Kind::S, class Start, class Put>
inline void products(const S* rows, int64_t row_stride, const S* panel, int64_t channels, Start start, Put put) {
  constexpr int kTaken = Kind::kChannels;
  for (int row = 0; row < kRows; row += kBlockRows)
    for (int column = 0; column < kPanel; column += kBlockVectors * lanes) {
      const S* a = rows + row * row_stride;
      Floats block[kBlockRows][kBlockVectors];
#pragma GCC unroll 16
      for (int i = 0; i < kBlockRows; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < kBlockVectors; ++j) block[i][j] = start(row + i, column + j * lanes);
      for (int64_t step = 0; step < channels; step += kStep) {
        const S* b = panel + Kind::at(step, column);
        const int64_t end = step + kStep < channels ? step + kStep : channels;
        for (int64_t c = step; c < end; c += kTaken, b += Kind::at(kTaken, 0) / kTaken) {
          typename Kind::Weights weights[kBlockVectors];
#pragma GCC unroll 4
          for (int j = 0; j < kBlockVectors; ++j)
            weights[j] = Kind::weights(b + Kind::at(0, j * lanes));
#pragma GCC unroll 16
          for (int i = 0; i < kBlockRows; ++i)
#pragma GCC unroll 4
            for (int j = 0; j < kBlockVectors; ++j)
              block[i][j] = Kind::add(block[i][j], a + i * row_stride + c, weights[j]);
        }
      }
#pragma GCC unroll 16
      for (int i = 0; i < kBlockRows; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < kBlockVectors; ++j) put(row + i, column + j * lanes, block[i][j]);
    }
}

template <class Kind, class S = typename Kind::S>
void multiply(const S* rows, int64_t row_stride, const S* panel, int64_t channels, bool more, float* out,
              int64_t out_stride) {
  const auto zero = [](int, int) { return Floats{}; };
  const auto before = [=](int row, int column) { return load(out + row * out_stride + column); };
  const auto keep = [=](int row, int column, Floats sum) { store(out + row * out_stride + column, sum); };
  if (more)
    products<Kind>(rows, row_stride, panel, channels, before, keep);
  else
    products<Kind>(rows, row_stride, panel, channels, zero, keep);
}

template <class Kind, class S = typename Kind::S>
void outputs(const S* rows, int64_t row_stride, const S* panel, int64_t channels, const float* sums, int count,
             int width, const float* bias, const S* residual, float least, S* out, int64_t out_stride) {
  const Floats bound = Floats{} + least;
  const auto offset = [=](int, int column) { return load(bias + column); };
  if (sums || count < kRows || width < kPanel) {
    float all[kRows * kPanel] = {};
    for (int i = 0; i < kRows; ++i)  // the bias first, as below: a row's bits must not depend on those beside it
      for (int c = 0; c < width; c += lanes)
        store(all + i * kPanel + c, sums ? load(bias + c) + load(sums + i * kPanel + c) : load(bias + c));
    multiply<Kind>(rows, row_stride, panel, channels, true, all, kPanel);
    for (int i = 0; i < count; ++i)
      for (int c = 0; c < width; c += lanes) {
        const int64_t at = i * out_stride + c;
        put(load(all + i * kPanel + c), residual ? residual + at : nullptr, bound, out + at);
      }
  } else if (residual) {
    for (int i = 0; i < kRows; ++i) __builtin_prefetch(residual + i * out_stride);
    products<Kind>(rows, row_stride, panel, channels, offset, [=](int row, int column, Floats sum) {
      const int64_t at = row * out_stride + column;
      put(sum, residual + at, bound, out + at);
    });
  } else {
    products<Kind>(rows, row_stride, panel, channels, offset, [=](int row, int column, Floats sum) {
      put<S>(sum, nullptr, bound, out + row * out_stride + column);
    });
  }
}

template <class S>
void largest(Map<const S> map, int64_t top, int64_t left, int64_t bottom, int64_t right, S* out) {
  for (int64_t c = 0; c < map.channels; c += lanes) {
    const S* first = map.cells + (top * map.width + left) * map.channels + c;
    Floats most = load(first);
    for (int64_t y = top; y < bottom; ++y, first += map.width * map.channels)
      for (int64_t x = left; x < right; ++x) {
        const Floats one = load(first + (x - left) * map.channels);
        most = ((one > most) | (one != one)) ? one : most;
      }
    keep(out + c, most);
  }
}

#ifdef __AMX_BF16__
// Tiles 0 to 3 are sums, 4 and 5 rows, 6 and 7 weights. GCC does not know what memory its instructions on tiles read, so
// that nothing they read may be written in the same function.
struct alignas(64) TileConfig {
  uint8_t palette, first_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
const TileConfig kTiles = {1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

void begin_tiles(TileState* before) {
  _tile_storeconfig(before);
  _tile_loadconfig(&kTiles);
}
void end_tiles(const TileState* before) { _tile_loadconfig(before); }

template <int whole>
inline void copy_rows(const uint16_t* from, int64_t apart, int64_t count, int64_t length, uint16_t* to) {
  constexpr int kValues = 32;
  const __mmask32 rest = __mmask32((uint64_t(1) << (length - whole * kValues)) - 1);
  for (int64_t i = 0; i < count; ++i, from += apart, to += length) {
    if constexpr (whole) _mm512_storeu_si512(to, _mm512_loadu_si512(from));
    const __m512i last = _mm512_maskz_loadu_epi16(rest, from + whole * kValues);
    if (i + 1 < count) _mm512_storeu_si512(to + whole * kValues, last);  // the next row overwrites the zeros
    else _mm512_mask_storeu_epi16(to + whole * kValues, rest, last);
  }
}

void copy_short_rows(const uint16_t* from, int64_t apart, int64_t count, int64_t length, uint16_t* to) {
  if (length <= 32) copy_rows<0>(from, apart, count, length, to);
  else copy_rows<1>(from, apart, count, length, to);
}

template <bool tall, bool wide>
inline void tile_products(const uint16_t* rows, int64_t row_stride, const Step* steps, int64_t deep,
                          const uint16_t* panel, bool more, float* sums) {
  constexpr int kBytes = kPanel * sizeof(float), kStepBytes = kStep * sizeof(uint16_t);
  const int64_t stride = row_stride * sizeof(uint16_t);
  float* const lower = sums + kTile * kPanel;
  if (more) {
    _tile_loadd(0, sums, kBytes);
    if constexpr (wide) _tile_loadd(1, sums + kTile, kBytes);
    if constexpr (tall) _tile_loadd(2, lower, kBytes);
    if constexpr (tall && wide) _tile_loadd(3, lower + kTile, kBytes);
  } else {
    _tile_zero(0);
    if constexpr (wide) _tile_zero(1);
    if constexpr (tall) _tile_zero(2);
    if constexpr (tall && wide) _tile_zero(3);
  }
  for (int64_t k = 0; k < deep; ++k) {
    const uint16_t* a = rows + steps[k].row;
    const uint16_t* b = panel + steps[k].weights;
    _tile_loadd(6, b, kStepBytes);
    _tile_loadd(4, a, stride);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (wide) {
      _tile_loadd(7, b + kTile * kStep, kStepBytes);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (tall) {
      _tile_loadd(5, a + kTile * row_stride, stride);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (wide) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, sums, kBytes);
  if constexpr (wide) _tile_stored(1, sums + kTile, kBytes);
  if constexpr (tall) _tile_stored(2, lower, kBytes);
  if constexpr (tall && wide) _tile_stored(3, lower + kTile, kBytes);
}

void tile_multiply(const uint16_t* rows, int64_t row_stride, const Step* steps, int64_t deep, const uint16_t* panel,
                   int64_t count, int64_t width, bool more, float* sums) {
  if (count > kTile && width > kTile) tile_products<true, true>(rows, row_stride, steps, deep, panel, more, sums);
  else if (count > kTile) tile_products<true, false>(rows, row_stride, steps, deep, panel, more, sums);
  else if (width > kTile) tile_products<false, true>(rows, row_stride, steps, deep, panel, more, sums);
  else tile_products<false, false>(rows, row_stride, steps, deep, panel, more, sums);
}

inline __m512 finished(__m512 sum, __m512 offset, const uint16_t* residual, __m512 least) {
  sum = _mm512_add_ps(sum, offset);
  if (residual) sum = _mm512_add_ps(sum, (__m512)load(residual));
  return _mm512_max_ps(least, sum);  // the second if one is NaN
}

template <bool wide, bool added>
inline void put_rows(const float* sums, const int64_t* places, int64_t count, const float* bias,
                     const uint16_t* residual, float least, uint16_t* out) {
  const __m512 bound = _mm512_set1_ps(least), first = _mm512_loadu_ps(bias);
  const __m512 second = wide ? _mm512_loadu_ps(bias + lanes) : first;
  for (int64_t i = 0; i < count; ++i, sums += kPanel) {
    const int64_t at = places[i];
    if (at < 0) continue;
    const uint16_t* more = added ? residual + at : nullptr;
    const __m512 low = finished(_mm512_load_ps(sums), first, more, bound);
    if constexpr (wide) {
      const __m512 high = finished(_mm512_load_ps(sums + lanes), second, added ? more + lanes : nullptr, bound);
      _mm512_storeu_si512(out + at, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    } else {
      _mm256_storeu_si256((__m256i*)(out + at), (__m256i)_mm512_cvtneps_pbh(low));
    }
  }
}

void tile_outputs(const uint16_t* rows, int64_t row_stride, const Step* steps, int64_t deep, const uint16_t* panel,
                  int64_t count, int64_t width, bool more, float* sums, const int64_t* places, int64_t next,
                  const float* bias, const uint16_t* residual, float least, uint16_t* out) {
  for (int64_t i = count; i < count + next; ++i)
    if (const int64_t at = places[i]; at >= 0) {
      if (residual) __builtin_prefetch(residual + at);
      __builtin_prefetch(out + at, 1);
    }
  tile_multiply(rows, row_stride, steps, deep, panel, count, width, more, sums);
  if (width > kTile && residual) put_rows<true, true>(sums, places, count, bias, residual, least, out);
  else if (width > kTile) put_rows<true, false>(sums, places, count, bias, residual, least, out);
  else if (residual) put_rows<false, true>(sums, places, count, bias, residual, least, out);
  else put_rows<false, false>(sums, places, count, bias, residual, least, out);
}

const Tiles kTileKernels = {begin_tiles, end_tiles, copy_short_rows, tile_multiply, tile_outputs};
constexpr const Tiles* kHasTiles = &kTileKernels;
#else
constexpr const Tiles* kHasTiles = nullptr;
#endif

}  // namespace

extern const Layers convolution_layers;
const Layers convolution_layers = {
    {read<float>, multiply<Singles>, write<float>, outputs<Singles>, largest<float>},
    {read<uint16_t>, multiply<Pairs>, write<uint16_t>, outputs<Pairs>, largest<uint16_t>},
    kHasTiles,
};

}  // namespace rcnnkit::RCNNKIT_LEVEL
