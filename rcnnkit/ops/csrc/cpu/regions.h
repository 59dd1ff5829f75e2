// What the CPU operators on regions share: reading their arguments, and going through maps block by block.
#pragma once
#include "fresh.h"
#include "kernels.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

namespace rcnnkit {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <class F>
auto for_dtype(ScalarType type, const char* op, F f) {
  switch (type) {
    case ScalarType::Float: return f(float{});
    case ScalarType::Double: return f(double{});
    case ScalarType::Half: return f(Half{});
    case ScalarType::BFloat16: return f(BFloat16{});
    default: STD_TORCH_CHECK(false, op, ": dtype must be float32, float64, float16 or bfloat16"); std::abort();
  }
}

template <class T> constexpr ScalarType scalar_type = ScalarType::Float;
template <> inline constexpr ScalarType scalar_type<double> = ScalarType::Double;

struct Shape {
  int64_t batch, channels, height, width;
};

inline void check_shape(Shape s, const char* op) {
  STD_TORCH_CHECK(s.height >= 0 && s.width >= 0 && s.height < (1 << 24) && s.width < (1 << 24) &&
                      s.height * s.width < (int64_t(1) << 31),
                  op, ": a map of ", s.height, " × ", s.width, " is too large");
}

inline Shape shape_of(const Tensor& input, const char* op) {
  STD_TORCH_CHECK(input.dim() == 4, op, ": input has ", input.dim(), " dimensions, expected (B, C, H, W)");
  const Shape shape = {input.size(0), input.size(1), input.size(2), input.size(3)};
  check_shape(shape, op);
  return shape;
}

// Where the elements of a map of the batch lie; any strides are read as they are.
struct Layout {
  int64_t batch;
  Strides map;
};

inline Layout layout_of(const Tensor& t) { return {t.stride(0), {t.stride(1), t.stride(2), t.stride(3)}}; }

// A zeroed or fresh gradient of a map, in the layout that the map had.
struct MapGradient {
  Tensor tensor;  // (B, C, H, W)
  Layout layout;
};

inline MapGradient map_gradient(const Tensor& like, Shape s, bool channels_last) {
  if (!channels_last) {
    Tensor t = torch::stable::new_zeros(like, {s.batch, s.channels, s.height, s.width});
    return {t, layout_of(t)};
  }
  Tensor t = torch::stable::new_zeros(like, {s.batch, s.height, s.width, s.channels});
  Tensor view = torch::stable::permute(t, {0, 3, 1, 2});
  return {view, layout_of(view)};
}

// The regions, read once: coordinates in the compute type, and for each picture the regions that name it.
template <class T>
struct Regions {
  Tensor tensor;  // holds the memory
  const T* rows;  // (R, 5): picture, x1, y1, x2, y2
  int64_t count;
  std::vector<int64_t> order, first;  // picture b's regions are order[first[b]] … order[first[b + 1] - 1]

  const T* operator[](int64_t i) const { return rows + 5 * i; }
};

template <class T>
Regions<T> read_regions(const Tensor& rois, int64_t batch, const char* op) {
  STD_TORCH_CHECK(rois.dim() == 2 && rois.size(1) == 5, op, ": rois must be (R, 5)");
  Regions<T> regions{torch::stable::contiguous(torch::stable::to(rois, scalar_type<T>)), nullptr, rois.size(0), {}, {}};
  regions.rows = static_cast<const T*>(regions.tensor.data_ptr());
  regions.first.assign(batch + 1, 0);
  for (int64_t i = 0; i < regions.count; ++i) {
    const T picture = regions[i][0];
    STD_TORCH_CHECK(picture >= T(0) && picture < T(batch), op, ": region ", i, " names picture ", picture,
                    ", but the batch has ", batch, "; the first column of rois counts from 0");
    ++regions.first[int64_t(picture) + 1];
  }
  for (int64_t b = 0; b < batch; ++b) regions.first[b + 1] += regions.first[b];
  regions.order.resize(regions.count);
  std::vector<int64_t> next(regions.first.begin(), regions.first.end() - 1);
  for (int64_t i = 0; i < regions.count; ++i) regions.order[next[int64_t(regions[i][0])]++] = i;
  return regions;
}

// Memory that is not worth zeroing.
template <class T>
struct Scratch {
  explicit Scratch(int64_t count) : memory(new (std::align_val_t(64)) T[std::max<int64_t>(count, 1)]) {}
  ~Scratch() { ::operator delete[](memory, std::align_val_t(64)); }
  Scratch(const Scratch&) = delete;
  T* get() const { return memory; }

 private:
  T* memory;
};

// The work is cut into items: a block of channels of one picture, and a share of its regions. Regions of an item
// share one packed tile, so they are only shared out where there would be too few items for the threads.
struct Items {
  int64_t block, blocks, shares, count;
};

struct Item {
  int64_t picture, channel, begin, end;  // regions order[begin … end)
  int channels;
};

// `regions` of them to be shared out; 0 where an item has to have all of its picture's.
inline Items make_items(Shape s, int64_t block, int64_t regions = 0) {
  const int64_t blocks = (s.channels + block - 1) / block, whole = blocks * s.batch;
  int64_t shares = 1;
  if (regions > 0 && whole > 0) {
    const int64_t wanted = 2 * int64_t(torch::stable::get_num_threads());
    shares = std::clamp<int64_t>((wanted + whole - 1) / whole, 1, std::max<int64_t>(1, regions / (16 * s.batch)));
  }
  return {block, blocks, shares, whole * shares};
}

template <class T>
Item item_of(const Items& items, int64_t i, Shape s, const Regions<T>& regions) {
  const int64_t share = i % items.shares, block = i / items.shares % items.blocks;
  const int64_t picture = i / items.shares / items.blocks;
  const int64_t first = regions.first[picture], count = regions.first[picture + 1] - first;
  return {picture, block * items.block, first + count * share / items.shares,
          first + count * (share + 1) / items.shares,
          int(std::min<int64_t>(items.block, s.channels - block * items.block))};
}

// The smallest window with all cells that were added.
struct Bounds {
  int top = INT32_MAX, left = INT32_MAX, bottom = 0, right = 0;

  void add(int y0, int y1, int x0, int x1) {  // half-open
    top = std::min(top, y0), bottom = std::max(bottom, y1);
    left = std::min(left, x0), right = std::max(right, x1);
  }
  bool empty() const { return bottom <= top || right <= left; }
  Window window() const { return empty() ? Window{0, 0, 0, 0} : Window{top, left, bottom - top, right - left}; }
};

// The window that an item's regions need, of those that each of all regions needs.
template <class T>
Window window_of(const std::vector<Bounds>& bounds, const Regions<T>& regions, const Item& item) {
  Bounds all;
  for (int64_t k = item.begin; k < item.end; ++k) {
    const Bounds& one = bounds[regions.order[k]];
    if (!one.empty()) all.add(one.top, one.bottom, one.left, one.right);
  }
  return all.window();
}

// The cells of one item, channels last: the map itself where it already is so, else a packed copy of the window.
template <class S>
struct Cells {
  using T = Compute<S>;
  const T* origin;  // where cell (0, 0) is or would be
  int64_t row_stride, column_stride;
};

template <class S>
Cells<S> cells_of(const S* map, Strides strides, Window window, int channels, Compute<S>* tile) {
  if constexpr (std::is_same_v<S, Compute<S>>)
    if (strides.channel == 1 && channels == kBlock) return {map, strides.row, strides.column};
  of<S>(level()).pack(map, strides, window, channels, tile);
  const int64_t row = int64_t(window.width) * kBlock;
  return {tile - window.top * row - int64_t(window.left) * kBlock, row, kBlock};
}

}  // namespace rcnnkit
