// The inner loops of the CPU operators, compiled once for each instruction set.
//
// Free of torch and of the standard library: an inline function that several instruction sets share would be
// merged by the linker into whichever copy it meets first, and could then not run on an older machine.
#pragma once
#include "../selective_search/kernels.h"
#include "../convolution/kernels.h"

#include <cstdint>

namespace rcnnkit {

// Storage types; half and bfloat16 are bit patterns here. All arithmetic on them is done in float.
struct Half { uint16_t bits; };
struct BFloat16 { uint16_t bits; };

template <class S> struct ComputeOf { using type = float; };
template <> struct ComputeOf<double> { using type = double; };
template <class S> using Compute = typename ComputeOf<S>::type;

// Channels are worked on in blocks of so many: a few vectors wide, and a map's block fits in the L2 cache.
constexpr int kBlock = 32;

// Where an element (channel, y, x) of one picture's map lies, in elements.
struct Strides {
  int64_t channel, row, column;
};

// Part of a map, channels last: rows [top, top + height), columns [left, left + width), kBlock channels a cell.
struct Window {
  int top, left, height, width;
};

// A region's bins along one axis: bin b is the sum of weight[i] · cell[i], first[b] <= i < first[b + 1].
template <class T>
struct Taps {
  const int* first;
  const int* cell;
  const T* weight;
  const T* low;   // the weights' derivatives with respect to the region's low and high side, where they are asked for
  const T* high;
};

// The other way round, for the rows of a region: row[k] of the map takes weight[i] · bins bin[i], first[k] <= i <
// first[k + 1].
template <class T>
struct Rows {
  int count;
  const int* row;
  const int* first;
  const int* bin;
  const T* weight;
  const T* low;   // as above
  const T* high;
};

// A region's bins along one axis for pooling: bin b has the cells [first[b], last[b]).
struct Spans {
  const int* first;
  const int* last;
};

// A picture's rows or columns for a warp: output i is low[i] and high[i], mixed; outputs outside
// [begin, end) are filled.
struct WarpTaps {
  int begin, end;
  const int* low;
  const int* high;
  const float* low_weight;
  const float* high_weight;
};

template <class S>
struct Kernels {
  using T = Compute<S>;
  // One window of `channels` channels of a map, into tile (height · width, kBlock); absent channels are 0.
  void (*pack)(const S* map, Strides strides, Window window, int channels, T* tile);
  // The same back, onto a map.
  void (*unpack)(const T* tile, S* map, Strides strides, Window window, int channels);
  // One region of `channels` <= kBlock channels. `cells` points at cell (0, 0), strides in elements;
  // `scratch` has (8 · columns + rows · columns) · kBlock elements. out is (channels, rows, columns).
  void (*align)(const T* cells, int64_t row_stride, int64_t column_stride, Taps<T> rows, Taps<T> columns, int row_bins,
                int column_bins, int channels, T* scratch, S* out);
  // One region's gradient (channels, rows, columns): added onto the cells of `into`, and its products with the values of
  // `map`, derived with respect to x1, y1, x2 and y2, as sides. Both are channels last, kBlock a cell, and point at cell
  // (0, 0); either may be null, and then nothing is made of it. `scratch` has (16 + rows) · columns · kBlock elements.
  void (*align_backward)(const S* grad, Rows<T> rows, Taps<T> columns, int row_bins, int column_bins, int channels,
                         T* scratch, const T* map, T* into, int64_t row_stride, T* sides);
  // `scratch` has 2 · rows · columns · kBlock elements; argmax (channels, rows, columns) may be null; the index
  // of cell (y, x) in it is y · map_width + x.
  void (*pool)(const T* cells, int64_t row_stride, int64_t column_stride, Spans rows, Spans columns, int row_bins,
               int column_bins, int channels, int map_width, T* scratch, S* out, int32_t* argmax);
  // planes (channels, cells) += grad (channels, bins) at argmax; what lies `next` elements on comes next.
  void (*pool_backward)(const S* grad, const int32_t* argmax, int64_t next, int bins, int channels, int64_t cells,
                        T* planes);
  // planes (channels, cells) onto a map.
  void (*unpack_planes)(const T* planes, S* map, Strides strides, int height, int width, int channels);
  // One channel of one region: out (height, width); `line` has as many elements as the map is wide.
  void (*warp)(const S* map, int64_t row_stride, int64_t column_stride, WarpTaps rows, WarpTaps columns, int height,
               int width, T fill, T* line, S* out);
  void (*warp_backward)(const S* grad, WarpTaps rows, WarpTaps columns, int width, T* line, T* plane, int map_width);
};

// dead[j] = 1 for every j in [begin, end) whose IoU with the box exceeds `threshold`.
template <class T>
struct BoxArrays {
  T *x1, *y1, *x2, *y2, *area;
  int32_t* dead;
};

template <class T>
using Suppress = void (*)(BoxArrays<T> boxes, int64_t begin, int64_t end, T x1, T y1, T x2, T y2, T area, T threshold);

struct Level {
  const char* name;
  Kernels<float> f32;
  Kernels<double> f64;
  Kernels<Half> f16;
  Kernels<BFloat16> bf16;
  Suppress<float> suppress_f32;
  Suppress<double> suppress_f64;
  const search::Kernels* search;
  const convolution::Layers* convolution;
};

template <class S> const Kernels<S>& of(const Level& level);
template <> inline const Kernels<float>& of<float>(const Level& level) { return level.f32; }
template <> inline const Kernels<double>& of<double>(const Level& level) { return level.f64; }
template <> inline const Kernels<Half>& of<Half>(const Level& level) { return level.f16; }
template <> inline const Kernels<BFloat16>& of<BFloat16>(const Level& level) { return level.bf16; }

// The best level that this machine runs, or the one that RCNNKIT_CPU_LEVEL names (level.cpp).
const Level& level();

}  // namespace rcnnkit
