// See kernels.h. CMake compiles this file once a level, with RCNNKIT_LEVEL naming the level's namespace.
#include "../vectors.h"
#include "kernels.h"

#include <utility>

namespace rcnnkit::RCNNKIT_LEVEL {
namespace {

// --- vectors -------------------------------------------------------------------------------------------------

template <class T> struct IndexOf { using type = int32_t; };
template <> struct IndexOf<double> { using type = int64_t; };
template <> struct IndexOf<int64_t> { using type = int64_t; };
template <class T> using Index = typename IndexOf<T>::type;  // as wide as T

// a[first], b[first], a[first + 1], b[first + 1], …
template <class T, int first, int... lane>
inline Wide<T> interleave(Wide<T> a, Wide<T> b, std::integer_sequence<int, lane...>) {
  return __builtin_shufflevector(a, b, (first + lane / 2 + lane % 2 * int(sizeof...(lane)))...);
}

// --- half and bfloat16, in integer arithmetic that every level vectorises --------------------------------------

inline float as_float(uint32_t bits) { float x; __builtin_memcpy(&x, &bits, 4); return x; }
inline uint32_t as_bits(float x) { uint32_t bits; __builtin_memcpy(&bits, &x, 4); return bits; }

inline float widen(float x) { return x; }
inline double widen(double x) { return x; }
inline float widen(BFloat16 x) { return as_float(uint32_t(x.bits) << 16); }
inline float widen(Half x) {
  const uint32_t sign = uint32_t(x.bits & 0x8000u) << 16, rest = uint32_t(x.bits & 0x7fffu) << 13;
  // Exponents are rebased by a product, which also makes subnormals right; infinity and NaN keep theirs.
  const uint32_t finite = as_bits(as_float(rest) * 0x1p112f);
  return as_float(sign | (rest >= 0x0f800000u ? rest | 0x7f800000u : finite));
}

inline void narrow(float x, float* to) { *to = x; }
inline void narrow(double x, double* to) { *to = x; }
inline void narrow(int32_t x, int32_t* to) { *to = x; }
inline void narrow(int64_t x, int32_t* to) { *to = int32_t(x); }
inline void narrow(float x, BFloat16* to) {
  to->bits = uint16_t(rounded_to_bfloat16(as_bits(x), x) >> 16);
}
inline void narrow(float x, Half* to) {
  const uint32_t bits = as_bits(x), sign = (bits >> 16) & 0x8000u, size = bits & 0x7fffffffu;
  const uint32_t normal = (size - 0x38000000u + 0xfffu + ((size >> 13) & 1)) >> 13;
  // Below 2^-14 a float adder does the rounding: with 0.5 added, the last bit of the sum is half's last bit.
  const uint32_t small = as_bits(as_float(size) + 0.5f) - 0x3f000000u;
  const uint32_t finite = size < 0x38800000u ? small : normal;
  const uint32_t large = size > 0x7f800000u ? 0x7e00u : 0x7c00u;  // NaN; 65520 and more round to infinity
  to->bits = uint16_t(sign | (size >= 0x477ff000u ? large : finite));
}

// --- channels first ↔ channels last ------------------------------------------------------------------------------

template <class T, class S> inline Wide<T> load_wide(const S* from) {
  if constexpr (sizeof(S) == sizeof(T)) return load(from);
  T wide[Vectors<T>::lanes];
  for (int i = 0; i < Vectors<T>::lanes; ++i) wide[i] = widen(from[i]);
  return load(wide);
}
template <class T, class S> inline void store_narrow(S* to, Wide<T> vector) {
  if constexpr (sizeof(S) == sizeof(T)) return store(to, vector);
  T wide[Vectors<T>::lanes];
  store(wide, vector);
  for (int i = 0; i < Vectors<T>::lanes; ++i) narrow(wide[i], to + i);
}

// A square of lanes × lanes, by halves interleaved: each round rotates the bits of (row, column) by one.
template <class T> inline void transpose_square(Wide<T>* square) {
  constexpr int n = Vectors<T>::lanes;
  constexpr std::make_integer_sequence<int, n> lanes;
  for (int round = 1; round < n; round *= 2) {
    Wide<T> next[n];
    for (int i = 0; i < n / 2; ++i) {
      next[2 * i] = interleave<T, 0>(square[i], square[i + n / 2], lanes);
      next[2 * i + 1] = interleave<T, n / 2>(square[i], square[i + n / 2], lanes);
    }
    for (int i = 0; i < n; ++i) square[i] = next[i];
  }
}

// cells (count, kBlock) from `channels` rows of `count`, `stride` apart; absent channels are 0.
template <class S, class T>
inline void to_channels_last(const S* from, int64_t stride, int channels, int count, T* cells) {
  constexpr int n = Vectors<T>::lanes;
  for (int c0 = 0; c0 < kBlock; c0 += n) {
    int j = 0;
    while (j < count) {
      if (count - j < n && (count < n || count - j < n / 2)) {  // too few for a square
        for (; j < count; ++j)
          for (int c = c0; c < c0 + n; ++c)
            cells[int64_t(j) * kBlock + c] = c < channels ? T(widen(from[c * stride + j])) : T(0);
        break;
      }
      if (j > count - n) j = count - n;  // the last square may cover some cells again
      Wide<T> square[n];
      for (int i = 0; i < n; ++i)
        square[i] = c0 + i < channels ? load_wide<T>(from + (c0 + i) * stride + j) : Wide<T>{};
      transpose_square<T>(square);
      for (int i = 0; i < n; ++i) store(cells + int64_t(j + i) * kBlock + c0, square[i]);
      j += n;
    }
  }
}

// The way back.
template <class S, class T>
inline void to_channels_first(const T* cells, int channels, int count, S* to, int64_t stride) {
  constexpr int n = Vectors<T>::lanes;
  for (int c0 = 0; c0 < channels; c0 += n) {
    int j = 0;
    while (j < count) {
      if (count - j < n && (count < n || count - j < n / 2)) {
        for (int c = c0; c < channels && c < c0 + n; ++c)
          for (int k = j; k < count; ++k) narrow(cells[int64_t(k) * kBlock + c], to + c * stride + k);
        break;
      }
      if (j > count - n) j = count - n;
      Wide<T> square[n];
      for (int i = 0; i < n; ++i) square[i] = load(cells + int64_t(j + i) * kBlock + c0);
      transpose_square<T>(square);
      for (int i = 0; i < n && c0 + i < channels; ++i) store_narrow<T>(to + (c0 + i) * stride + j, square[i]);
      j += n;
    }
  }
}

// --- windows ---------------------------------------------------------------------------------------------------

template <class S, class T>
void pack(const S* map, Strides strides, Window window, int channels, T* tile) {
  for (int y = 0; y < window.height; ++y) {
    const S* row = map + (window.top + y) * strides.row + window.left * strides.column;
    T* to = tile + int64_t(y) * window.width * kBlock;
    if (strides.column == 1) {
      to_channels_last(row, strides.channel, channels, window.width, to);
      continue;
    }
    for (int x = 0; x < window.width; ++x, to += kBlock) {
      const S* cell = row + x * strides.column;
      if (strides.channel == 1)
        for (int c = 0; c < channels; ++c) to[c] = widen(cell[c]);
      else
        for (int c = 0; c < channels; ++c) to[c] = widen(cell[c * strides.channel]);
      for (int c = channels; c < kBlock; ++c) to[c] = T(0);
    }
  }
}

template <class S, class T>
void unpack(const T* tile, S* map, Strides strides, Window window, int channels) {
  for (int y = 0; y < window.height; ++y) {
    S* row = map + (window.top + y) * strides.row + window.left * strides.column;
    const T* from = tile + int64_t(y) * window.width * kBlock;
    if (strides.column == 1) {
      to_channels_first(from, channels, window.width, row, strides.channel);
      continue;
    }
    for (int x = 0; x < window.width; ++x, from += kBlock)
      for (int c = 0; c < channels; ++c) narrow(from[c], row + x * strides.column + c * strides.channel);
  }
}

// --- RoIAlign ----------------------------------------------------------------------------------------------------
// A bin is Σ over rows of weight · Σ over columns of weight · cell. The inner sums of a row serve every bin that the
// row touches, so the last rows' sums are kept in a few slots.

constexpr int kSlots = 8, kTogether = 4;  // rows kept; rows added up at a time

template <class T>
inline void sum_columns(const T* row, int64_t column_stride, Taps<T> columns, int bins, T* out) {
  constexpr int n = kBlock / Vectors<T>::lanes, lanes = Vectors<T>::lanes;
  for (int b = 0; b < bins; ++b) {
    Wide<T> sum[n] = {};
    for (int i = columns.first[b]; i < columns.first[b + 1]; ++i) {
      const T* cell = row + columns.cell[i] * column_stride;
      const T weight = columns.weight[i];
      for (int v = 0; v < n; ++v) sum[v] += load(cell + v * lanes) * weight;
    }
    for (int v = 0; v < n; ++v) store(out + b * kBlock + v * lanes, sum[v]);
  }
}

template <class S, class T>
void align(const T* cells, int64_t row_stride, int64_t column_stride, Taps<T> rows, Taps<T> columns, int row_bins,
           int column_bins, int channels, T* scratch, S* out) {
  constexpr int n = kBlock / Vectors<T>::lanes, lanes = Vectors<T>::lanes;
  const int64_t slot_size = int64_t(column_bins) * kBlock;
  T* result = scratch + kSlots * slot_size;
  int held[kSlots], used[kSlots], next = 0, turn = 0;
  for (int s = 0; s < kSlots; ++s) held[s] = used[s] = -1;
  for (int r = 0; r < row_bins; ++r) {
    T* bin_row = result + r * slot_size;
    int i = rows.first[r];
    const int end = rows.first[r + 1];
    bool fresh = true;
    do {  // once even where a bin has no sample: it is then 0
      const T* line[kTogether];
      T weight[kTogether];
      int count = 0;
      ++turn;
      for (; i < end && count < kTogether; ++i, ++count) {
        int s = 0;
        while (s < kSlots && held[s] != rows.cell[i]) ++s;
        if (s == kSlots) {
          while (used[next] == turn) next = (next + 1) % kSlots;  // never a row of this very sum
          s = next;
          next = (next + 1) % kSlots;
          held[s] = rows.cell[i];
          sum_columns(cells + rows.cell[i] * row_stride, column_stride, columns, column_bins, scratch + s * slot_size);
        }
        used[s] = turn;
        line[count] = scratch + s * slot_size;
        weight[count] = rows.weight[i];
      }
      for (int64_t at = 0; at < slot_size; at += lanes * n)
        for (int v = 0; v < n; ++v) {
          const int64_t here = at + v * lanes;
          Wide<T> sum = {};
          if (!fresh) sum = load(bin_row + here);
          for (int k = 0; k < count; ++k) sum += load(line[k] + here) * weight[k];
          store(bin_row + here, sum);
        }
      fresh = false;
    } while (i < end);
  }
  const int bins = row_bins * column_bins;
  to_channels_first(result, channels, bins, out, bins);
}

template <class T>
inline void spread_columns(const T* sums, Taps<T> columns, int bins, T* row, int64_t column_stride) {
  constexpr int n = kBlock / Vectors<T>::lanes, lanes = Vectors<T>::lanes;
  for (int b = 0; b < bins; ++b) {
    Wide<T> sum[n];
    for (int v = 0; v < n; ++v) sum[v] = load(sums + b * kBlock + v * lanes);
    for (int i = columns.first[b]; i < columns.first[b + 1]; ++i) {
      T* cell = row + columns.cell[i] * column_stride;
      const T weight = columns.weight[i];
      for (int v = 0; v < n; ++v) store(cell + v * lanes, load(cell + v * lanes) + sum[v] * weight);
    }
  }
}

template <class S, class T>
void align_backward(const S* grad, Taps<T> rows, Taps<T> columns, int row_bins, int column_bins, int channels,
                    T* scratch, T* cells, int64_t row_stride, int64_t column_stride) {
  constexpr int lanes = Vectors<T>::lanes;
  const int64_t slot_size = int64_t(column_bins) * kBlock;
  T* grads = scratch + kSlots * slot_size;
  to_channels_last(grad, row_bins * column_bins, channels, row_bins * column_bins, grads);
  int held[kSlots], next = 0;
  for (int s = 0; s < kSlots; ++s) held[s] = -1;
  for (int r = 0; r < row_bins; ++r) {
    const T* bin_row = grads + r * slot_size;
    for (int i = rows.first[r]; i < rows.first[r + 1]; ++i) {
      int s = 0;
      while (s < kSlots && held[s] != rows.cell[i]) ++s;
      const bool fresh = s == kSlots;
      if (fresh) {
        s = next;
        next = (next + 1) % kSlots;
        if (held[s] >= 0)
          spread_columns(scratch + s * slot_size, columns, column_bins, cells + held[s] * row_stride, column_stride);
        held[s] = rows.cell[i];
      }
      T* sums = scratch + s * slot_size;
      const T weight = rows.weight[i];
      for (int64_t at = 0; at < slot_size; at += lanes) {
        Wide<T> sum = load(bin_row + at) * weight;
        if (!fresh) sum += load(sums + at);
        store(sums + at, sum);
      }
    }
  }
  for (int s = 0; s < kSlots; ++s)
    if (held[s] >= 0)
      spread_columns(scratch + s * slot_size, columns, column_bins, cells + held[s] * row_stride, column_stride);
}

// The channels' products of gradient and cell first, for a few pairs of bin and cell at a time: they are by far the most
// work, and serve all four sides.
template <class S, class T>
void align_boxes(const S* grad, const T* cells, int64_t block_stride, int64_t row_stride, int64_t column_stride,
                 Taps<T> rows, Taps<T> columns, int row_bins, int column_bins, int channels, T* scratch, T* sums) {
  constexpr int n = kBlock / Vectors<T>::lanes, lanes = Vectors<T>::lanes;
  const int bins = row_bins * column_bins, blocks = (channels + kBlock - 1) / kBlock;
  const int64_t grad_stride = int64_t(bins) * kBlock;
  for (int b = 0; b < blocks; ++b)
    to_channels_last(grad + b * grad_stride, bins, channels - b * kBlock < kBlock ? channels - b * kBlock : kBlock, bins,
                     scratch + b * grad_stride);
  Wide<T> sides[4] = {};  // of x1, y1, x2, y2
  for (int r = 0; r < row_bins; ++r)
    for (int c = 0; c < column_bins; ++c) {
      const T* of_bin = scratch + int64_t(r * column_bins + c) * kBlock;
      const int first = columns.first[c], count = columns.first[c + 1] - first;
      for (int i = rows.first[r]; i < rows.first[r + 1]; ++i) {
        const T* row = cells + rows.cell[i] * row_stride;
        Wide<T> value = {}, low = {}, high = {};  // of this row: the products' sums by the columns' three weights
        for (int j = 0; j < count; j += kTogether) {
          const T* cell[kTogether];
          for (int k = 0; k < kTogether; ++k)  // the last ones may come again, and are then left out
            cell[k] = row + columns.cell[first + (j + k < count ? j + k : j)] * column_stride;
          Wide<T> even[kTogether] = {}, odd[kTogether] = {};
          for (int b = 0; b < blocks; ++b) {
            const T* here = of_bin + b * grad_stride;
            for (int v = 0; v < n; v += 2) {
              const Wide<T> one = load(here + v * lanes), other = load(here + (v + 1) * lanes);
              for (int k = 0; k < kTogether; ++k) {
                const T* at = cell[k] + b * block_stride + v * lanes;
                even[k] += one * load(at);
                odd[k] += other * load(at + lanes);
              }
            }
          }
          for (int k = 0; k < kTogether && j + k < count; ++k) {
            const Wide<T> product = even[k] + odd[k];
            value += product * columns.weight[first + j + k];
            low += product * columns.low[first + j + k];
            high += product * columns.high[first + j + k];
          }
        }
        sides[0] += low * rows.weight[i];
        sides[1] += value * rows.low[i];
        sides[2] += high * rows.weight[i];
        sides[3] += value * rows.high[i];
      }
    }
  for (int side = 0; side < 4; ++side) {
    sums[side] = T(0);
    for (int lane = 0; lane < lanes; ++lane) sums[side] += sides[side][lane];
  }
}

// --- RoI pooling -------------------------------------------------------------------------------------------------

template <class T, bool with_argmax>
inline void pool_bins(const T* cells, int64_t row_stride, int64_t column_stride, Spans rows, Spans columns,
                      int row_bins, int column_bins, int map_width, T* best_out, Index<T>* argmax_out) {
  constexpr int n = kBlock / Vectors<T>::lanes, lanes = Vectors<T>::lanes;
  for (int r = 0; r < row_bins; ++r)
    for (int b = 0; b < column_bins; ++b) {
      Wide<T> best[n];
      Wide<Index<T>> argmax[n];
      const bool empty = rows.last[r] <= rows.first[r] || columns.last[b] <= columns.first[b];
      for (int v = 0; v < n; ++v) {
        best[v] = Wide<T>{} - (empty ? T(0) : T(__builtin_inf()));
        argmax[v] = Wide<Index<T>>{} - 1;
      }
      for (int y = rows.first[r]; y < rows.last[r]; ++y) {
        const T* row = cells + y * row_stride;
        for (int x = columns.first[b]; x < columns.last[b]; ++x) {
          const Index<T> here = Index<T>(y) * map_width + x;
          for (int v = 0; v < n; ++v) {
            const Wide<T> cell = load(row + x * column_stride + v * lanes);
            const auto better = cell > best[v];  // the first of equals stays; NaN is never better
            best[v] = better ? cell : best[v];
            if constexpr (with_argmax) argmax[v] = better ? Wide<Index<T>>{} + here : argmax[v];
          }
        }
      }
      for (int v = 0; v < n; ++v) {
        const int64_t at = (int64_t(r) * column_bins + b) * kBlock + v * lanes;
        store(best_out + at, best[v]);
        if constexpr (with_argmax) store(argmax_out + at, argmax[v]);
      }
    }
}

template <class S, class T>
void pool(const T* cells, int64_t row_stride, int64_t column_stride, Spans rows, Spans columns, int row_bins,
          int column_bins, int channels, int map_width, T* scratch, S* out, int32_t* argmax) {
  const int bins = row_bins * column_bins;
  // A float's scratch may hold an index: memory of char-aligned vectors, read back through the same type only.
  auto* indices = reinterpret_cast<Index<T>*>(scratch + int64_t(bins) * kBlock);
  if (!argmax) {
    pool_bins<T, false>(cells, row_stride, column_stride, rows, columns, row_bins, column_bins, map_width, scratch,
                        indices);
  } else {
    pool_bins<T, true>(cells, row_stride, column_stride, rows, columns, row_bins, column_bins, map_width, scratch,
                       indices);
    to_channels_first(indices, channels, bins, argmax, bins);
  }
  to_channels_first(scratch, channels, bins, out, bins);
}

template <class S, class T>
void pool_backward(const S* grad, const int32_t* argmax, int64_t next, int bins, int channels, int64_t cells,
                   T* planes) {
  const int64_t count = int64_t(channels) * bins;
  for (int64_t i = 0; i < count; i += 64 / sizeof(S)) __builtin_prefetch(grad + next + i);
  for (int64_t i = 0; i < count; i += 64 / sizeof(int32_t)) __builtin_prefetch(argmax + next + i);
  for (int c = 0; c < channels; ++c, grad += bins, argmax += bins, planes += cells)
    for (int b = 0; b < bins; ++b)
      if (argmax[b] >= 0) planes[argmax[b]] += widen(grad[b]);
}

template <class S, class T>
void unpack_planes(const T* planes, S* map, Strides strides, int height, int width, int channels) {
  for (int c = 0; c < channels; ++c)
    for (int y = 0; y < height; ++y) {
      const T* from = planes + (int64_t(c) * height + y) * width;
      S* to = map + c * strides.channel + y * strides.row;
      for (int x = 0; x < width; ++x) narrow(from[x], to + x * strides.column);
    }
}

// --- warping -----------------------------------------------------------------------------------------------------

template <class S, class T>
void warp(const S* map, int64_t row_stride, int64_t column_stride, WarpTaps rows, WarpTaps columns, int height,
          int width, T fill, T* line, S* out) {
  const bool empty = rows.end <= rows.begin || columns.end <= columns.begin;
  const int left = empty ? 0 : columns.low[columns.begin], right = empty ? 0 : columns.high[columns.end - 1] + 1;
  for (int y = 0; y < height; ++y, out += width) {
    if (empty || y < rows.begin || y >= rows.end) {
      for (int x = 0; x < width; ++x) narrow(fill, out + x);
      continue;
    }
    const S *low = map + rows.low[y] * row_stride, *high = map + rows.high[y] * row_stride;
    const T low_weight = rows.low_weight[y], high_weight = rows.high_weight[y];
    if (column_stride == 1)
      for (int x = left; x < right; ++x) line[x] = low_weight * widen(low[x]) + high_weight * widen(high[x]);
    else
      for (int x = left; x < right; ++x)
        line[x] = low_weight * widen(low[x * column_stride]) + high_weight * widen(high[x * column_stride]);
    for (int x = 0; x < columns.begin; ++x) narrow(fill, out + x);
    for (int x = columns.begin; x < columns.end; ++x)
      narrow(T(columns.low_weight[x]) * line[columns.low[x]] + T(columns.high_weight[x]) * line[columns.high[x]],
             out + x);
    for (int x = columns.end; x < width; ++x) narrow(fill, out + x);
  }
}

template <class S, class T>
void warp_backward(const S* grad, WarpTaps rows, WarpTaps columns, int width, T* line, T* plane, int map_width) {
  if (rows.end <= rows.begin || columns.end <= columns.begin) return;
  const int left = columns.low[columns.begin], right = columns.high[columns.end - 1] + 1;
  for (int y = rows.begin; y < rows.end; ++y) {
    for (int x = left; x < right; ++x) line[x] = T(0);
    for (int x = columns.begin; x < columns.end; ++x) {
      const T here = widen(grad[int64_t(y) * width + x]);
      line[columns.low[x]] += T(columns.low_weight[x]) * here;
      line[columns.high[x]] += T(columns.high_weight[x]) * here;
    }
    T *low = plane + int64_t(rows.low[y]) * map_width, *high = plane + int64_t(rows.high[y]) * map_width;
    for (int x = left; x < right; ++x) low[x] += T(rows.low_weight[y]) * line[x];
    for (int x = left; x < right; ++x) high[x] += T(rows.high_weight[y]) * line[x];
  }
}

// --- suppression -------------------------------------------------------------------------------------------------

template <class T>
void suppress(BoxArrays<T> boxes, int64_t begin, int64_t end, T x1, T y1, T x2, T y2, T area, T threshold) {
  const T* __restrict bx1 = boxes.x1;
  const T* __restrict by1 = boxes.y1;
  const T* __restrict bx2 = boxes.x2;
  const T* __restrict by2 = boxes.y2;
  const T* __restrict barea = boxes.area;
  int32_t* __restrict dead = boxes.dead;
  for (int64_t j = begin; j < end; ++j) {
    const T left = bx1[j] > x1 ? bx1[j] : x1, right = bx2[j] < x2 ? bx2[j] : x2;
    const T top = by1[j] > y1 ? by1[j] : y1, bottom = by2[j] < y2 ? by2[j] : y2;
    const T width = right - left > T(0) ? right - left : T(0), height = bottom - top > T(0) ? bottom - top : T(0);
    const T shared = width * height;
    dead[j] |= shared / (area + barea[j] - shared) > threshold ? 1 : 0;
  }
}

template <class S>
constexpr Kernels<S> kernels() {
  using T = Compute<S>;
  return {pack<S, T>, unpack<S, T>,        align<S, T>,         align_backward<S, T>, align_boxes<S, T>,
          pool<S, T>, pool_backward<S, T>, unpack_planes<S, T>, warp<S, T>,           warp_backward<S, T>};
}

}  // namespace

#define RCNNKIT_NAME_OF(x) #x
#define RCNNKIT_NAME(x) RCNNKIT_NAME_OF(x)

extern const search::Kernels search_kernels;
extern const convolution::Layers convolution_layers;
extern const Level level;
const Level level = {RCNNKIT_NAME(RCNNKIT_LEVEL), kernels<float>(), kernels<double>(), kernels<Half>(),
                     kernels<BFloat16>(), suppress<float>, suppress<double>, &search_kernels, &convolution_layers};

}  // namespace rcnnkit::RCNNKIT_LEVEL
