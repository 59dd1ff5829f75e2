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

// Backwards, the rows of the map that a region touches are taken a few at a time: their sums of the bins' gradient, which
// are spread over their cells; and for the boxes their values, which are what the rows hold for each column of bins.
constexpr int kRows = 8;

// One column of bins on `row_count` rows of the map, and `count` of its cells in each.
template <bool to_map, bool to_boxes, int count, class T>
inline void spread_column(const T* sums, T* values, bool fresh, int64_t slot_size, const int* row, int row_count,
                          const T* map, T* into, int64_t row_stride, const int* cell, const T* weight, const T* low,
                          const T* high, Wide<T>& low_side, Wide<T>& high_side) {
  constexpr int n = kBlock / Vectors<T>::lanes, lanes = Vectors<T>::lanes;
  Wide<T> even[kTogether] = {}, odd[kTogether] = {};  // products of sums and cells: derivatives by the cells' weights
  int64_t offset[kTogether];
  T share[kTogether];  // copies: what is stored could lie anywhere
  for (int i = 0; i < count; ++i) offset[i] = int64_t(cell[i]) * kBlock, share[i] = weight[i];
  for (int k = 0; k < row_count; ++k) {
    Wide<T> sum[n], value[n];
    for (int v = 0; v < n; ++v) sum[v] = load(sums + k * slot_size + v * lanes);
    if constexpr (to_boxes)
      for (int v = 0; v < n; ++v) value[v] = fresh ? Wide<T>{} : load(values + k * slot_size + v * lanes);
    for (int i = 0; i < count; ++i) {
      const int64_t at = row[k] * row_stride + offset[i];
      if constexpr (to_map)
        for (int v = 0; v < n; ++v) store(into + at + v * lanes, load(into + at + v * lanes) + sum[v] * share[i]);
      if constexpr (to_boxes)
        for (int v = 0; v < n; v += 2) {
          const Wide<T> one = load(map + at + v * lanes), other = load(map + at + (v + 1) * lanes);
          value[v] += one * share[i];
          value[v + 1] += other * share[i];
          even[i] += sum[v] * one;
          odd[i] += sum[v + 1] * other;
        }
    }
    if constexpr (to_boxes)
      for (int v = 0; v < n; ++v) store(values + k * slot_size + v * lanes, value[v]);
  }
  if constexpr (to_boxes)
    for (int i = 0; i < count; ++i) {
      low_side += (even[i] + odd[i]) * low[i];
      high_side += (even[i] + odd[i]) * high[i];
    }
}

template <bool to_map, bool to_boxes, class S, class T>
inline void spread(const S* grad, Rows<T> rows, Taps<T> columns, int row_bins, int column_bins, int channels, T* scratch,
                   const T* map, T* into, int64_t row_stride, T* sides) {
  constexpr int lanes = Vectors<T>::lanes;
  const int64_t slot_size = int64_t(column_bins) * kBlock;
  T *grads = scratch, *sums = grads + row_bins * slot_size, *values = sums + kRows * slot_size;
  to_channels_last(grad, row_bins * column_bins, channels, row_bins * column_bins, grads);
  Wide<T> side[4] = {};  // x1, y1, x2, y2
  for (int begin = 0; begin < rows.count; begin += kRows) {
    const int count = rows.count - begin < kRows ? rows.count - begin : kRows;
    const int *row = rows.row + begin, *first = rows.first + begin;
    for (int k = 0; k < count; ++k) {
      T* sum = sums + k * slot_size;
      for (int i = first[k]; i < first[k + 1]; ++i) {
        const T* bin_row = grads + rows.bin[i] * slot_size;
        const T weight = rows.weight[i];
        if (i == first[k])
          for (int64_t at = 0; at < slot_size; at += lanes) store(sum + at, load(bin_row + at) * weight);
        else
          for (int64_t at = 0; at < slot_size; at += lanes)
            store(sum + at, load(sum + at) + load(bin_row + at) * weight);
      }
    }
    for (int c = 0; c < column_bins; ++c) {
      const int64_t at = int64_t(c) * kBlock;
      const int end = columns.first[c + 1];
      int i = columns.first[c];
      bool fresh = true;
      do {  // once even where the bins have no sample: their values are then 0
        const auto some = [&]<int cells>() {
          spread_column<to_map, to_boxes, cells>(sums + at, values + at, fresh, slot_size, row, count, map, into,
                                                 row_stride, columns.cell + i, columns.weight + i, columns.low + i,
                                                 columns.high + i, side[0], side[2]);
          i += cells;
          fresh = false;
        };
        switch (end - i) {
          case 0: some.template operator()<0>(); break;
          case 1: some.template operator()<1>(); break;
          case 2: some.template operator()<2>(); break;
          case 3: some.template operator()<3>(); break;
          default: some.template operator()<4>();
        }
      } while (i < end);
    }
    if constexpr (to_boxes)
      for (int k = 0; k < count; ++k)
        for (int i = first[k]; i < first[k + 1]; ++i) {
          const T *of_bins = grads + rows.bin[i] * slot_size, *value = values + k * slot_size;
          Wide<T> even = {}, odd = {};
          for (int64_t at = 0; at < slot_size; at += 2 * lanes) {
            even += load(of_bins + at) * load(value + at);
            odd += load(of_bins + at + lanes) * load(value + at + lanes);
          }
          side[1] += (even + odd) * rows.low[i];
          side[3] += (even + odd) * rows.high[i];
        }
  }
  if constexpr (to_boxes)
    for (int s = 0; s < 4; ++s) {
      sides[s] = T(0);
      for (int lane = 0; lane < lanes; ++lane) sides[s] += side[s][lane];
    }
}

template <class S, class T>
void align_backward(const S* grad, Rows<T> rows, Taps<T> columns, int row_bins, int column_bins, int channels, T* scratch,
                    const T* map, T* into, int64_t row_stride, T* sides) {
  const auto run = [&]<bool to_map, bool to_boxes>() {
    spread<to_map, to_boxes>(grad, rows, columns, row_bins, column_bins, channels, scratch, map, into, row_stride, sides);
  };
  if (!map)
    run.template operator()<true, false>();
  else if (into)
    run.template operator()<true, true>();
  else
    run.template operator()<false, true>();
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
  return {pack<S, T>,          unpack<S, T>,        align<S, T>, align_backward<S, T>, pool<S, T>,
          pool_backward<S, T>, unpack_planes<S, T>, warp<S, T>,  warp_backward<S, T>};
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
