// RoIAlign on the CPU: every region's taps first, then all channels, a block at a time.
#include "../geometry.h"
#include "regions.h"

namespace rcnnkit {
namespace {

constexpr const char* kOp = "roi_align";

// All regions' taps along both axes (0: y, 1: x), and the window that each region needs.
template <class T>
class AllTaps {
 public:
  AllTaps(const Regions<T>& regions, Shape shape, T scale, int row_bins, int column_bins, int ratio, bool aligned,
          bool with_sides = false)
      : bins_{row_bins, column_bins}, scale_(scale), with_sides_(with_sides) {
    const int cells[2] = {int(shape.height), int(shape.width)};
    first_.reserve(regions.count * (row_bins + column_bins + 2));
    bounds.resize(regions.count);
    for (int64_t i = 0; i < regions.count; ++i) {
      const T* roi = regions[i];
      const bool finite = is_finite_region(roi) && cells[0] > 0 && cells[1] > 0;
      int low[2] = {INT32_MAX, INT32_MAX}, high[2] = {0, 0};
      for (int a = 0; a < 2; ++a) {
        const auto axis = align_axis(roi[2 - a], roi[4 - a], scale, bins_[a], ratio, aligned);
        first_.push_back(int(cell_.size()));
        for (int b = 0; b < bins_[a]; ++b) {
          if (finite) add_bin(axis, a, b, cells[a]);
          for (size_t t = first_.back(); t < cell_.size(); ++t)
            low[a] = std::min(low[a], cell_[t]), high[a] = std::max(high[a], cell_[t] + 1);
          STD_TORCH_CHECK(cell_.size() < (size_t(1) << 30), kOp, ": too many samples; lower sampling_ratio");
          first_.push_back(int(cell_.size()));
        }
      }
      if (high[0] > 0 && high[1] > 0) bounds[i].add(low[0], high[0], low[1], high[1]);
    }
  }

  Taps<T> get(int64_t region, int axis) const {
    const int64_t at = region * (bins_[0] + bins_[1] + 2) + (axis ? bins_[0] + 1 : 0);
    return {first_.data() + at, cell_.data(), weight_.data(), low_.data(), high_.data()};
  }

  std::vector<Bounds> bounds;  // of each region

 private:
  void add_bin(const AlignAxis<T>& axis, int axis_number, int bin, int cells) {
    const size_t begin = cell_.size();
    const auto range = sample_range(axis, bin, cells);
    const T share = T(1) / axis.grid;
    for (int s = 0; s < range.count; ++s) {
      const T number = T(range.first + s);
      const auto sample = sample_at(sample_position(axis, bin, number), cells);
      if (!sample.inside) continue;
      SampleMove<T> move = {T(0), T(0)};
      if (with_sides_) move = sample_move(axis, bin, bins_[axis_number], number, scale_, cells);
      add(begin, sample.low, sample.low_weight * share, -move.low * share, -move.high * share);
      if (sample.high != sample.low)
        add(begin, sample.high, sample.high_weight * share, move.low * share, move.high * share);
    }
  }

  // Samples come in order, so only the last two cells can come again.
  void add(size_t begin, int cell, T weight, T low, T high) {
    size_t at = cell_.size();
    for (size_t back = 1; back <= 2 && begin + back <= cell_.size(); ++back)
      if (cell_[cell_.size() - back] == cell) {
        at = cell_.size() - back;
        break;
      }
    if (at == cell_.size()) {
      cell_.push_back(cell);
      weight_.push_back(T(0));
      if (with_sides_) low_.push_back(T(0)), high_.push_back(T(0));
    }
    weight_[at] += weight;
    if (with_sides_) low_[at] += low, high_[at] += high;
  }

  int bins_[2];
  T scale_;
  bool with_sides_;
  std::vector<int> first_, cell_;
  std::vector<T> weight_, low_, high_;
};

inline int64_t scratch_size(int64_t row_bins, int64_t column_bins) { return (8 + row_bins) * column_bins * kBlock; }

void check_bins(int64_t rows, int64_t columns) {
  STD_TORCH_CHECK(rows > 0 && columns > 0 && rows < 4096 && columns < 4096, kOp, ": output_size is (", rows, ", ",
                  columns, "); both must be between 1 and 4095");
}

Tensor forward(Tensor input, Tensor rois, double scale, int64_t row_bins, int64_t column_bins, int64_t ratio,
               bool aligned) {
  const Shape shape = shape_of(input, kOp);
  check_bins(row_bins, column_bins);
  return for_dtype(input.scalar_type(), kOp, [&](auto type) {
    using S = decltype(type);
    using T = Compute<S>;
    const auto regions = read_regions<T>(rois, shape.batch, kOp);
    const AllTaps<T> taps(regions, shape, T(scale), int(row_bins), int(column_bins), int(ratio), aligned);
    Tensor output =
        fresh(input, {regions.count, shape.channels, row_bins, column_bins});
    const Layout layout = layout_of(input);
    const auto* maps = static_cast<const S*>(input.data_ptr());
    auto* out = static_cast<S*>(output.data_ptr());
    const Items items = make_items(shape, kBlock, regions.count);
    const auto& kernels = of<S>(level());
    torch::stable::parallel_for(0, items.count, 1, [&](int64_t begin, int64_t end) {
      const Scratch<T> scratch(scratch_size(row_bins, column_bins));
      const Scratch<T> tile(shape.height * shape.width * kBlock);
      for (int64_t i = begin; i < end; ++i) {
        const Item item = item_of(items, i, shape, regions);
        if (item.begin == item.end) continue;
        const auto cells = cells_of(maps + item.picture * layout.batch + item.channel * layout.map.channel, layout.map,
                                    window_of(taps.bounds, regions, item), item.channels, tile.get());
        for (int64_t k = item.begin; k < item.end; ++k) {
          const int64_t r = regions.order[k];
          kernels.align(cells.origin, cells.row_stride, cells.column_stride, taps.get(r, 0), taps.get(r, 1),
                        int(row_bins), int(column_bins), item.channels, scratch.get(),
                        out + (r * shape.channels + item.channel) * row_bins * column_bins);
        }
      }
    });
    return output;
  });
}

Tensor backward(Tensor grad, Tensor rois, double scale, int64_t batch, int64_t channels, int64_t height, int64_t width,
                int64_t ratio, bool aligned, bool channels_last, bool) {
  const Shape shape = {batch, channels, height, width};
  check_shape(shape, kOp);
  STD_TORCH_CHECK(grad.dim() == 4 && grad.size(0) == rois.size(0) && grad.size(1) == channels, kOp,
                  ": grad must be (R, C, rows, columns)");
  const int row_bins = int(grad.size(2)), column_bins = int(grad.size(3));
  return for_dtype(grad.scalar_type(), kOp, [&](auto type) {
    using S = decltype(type);
    using T = Compute<S>;
    grad = torch::stable::contiguous(grad);
    const auto regions = read_regions<T>(rois, shape.batch, kOp);
    const AllTaps<T> taps(regions, shape, T(scale), row_bins, column_bins, int(ratio), aligned);
    const MapGradient result = map_gradient(grad, shape, channels_last);
    const auto* from = static_cast<const S*>(grad.data_ptr());
    auto* maps = static_cast<S*>(result.tensor.data_ptr());
    const Items items = make_items(shape, kBlock);  // an item owns its cells: no two write to one
    const auto& kernels = of<S>(level());
    torch::stable::parallel_for(0, items.count, 1, [&](int64_t begin, int64_t end) {
      const Scratch<T> scratch(scratch_size(row_bins, column_bins));
      const Scratch<T> tile(shape.height * shape.width * kBlock);
      for (int64_t i = begin; i < end; ++i) {
        const Item item = item_of(items, i, shape, regions);
        const Window window = window_of(taps.bounds, regions, item);
        if (window.height == 0) continue;
        std::fill_n(tile.get(), int64_t(window.height) * window.width * kBlock, T(0));
        const int64_t row = int64_t(window.width) * kBlock;
        T* origin = tile.get() - window.top * row - int64_t(window.left) * kBlock;
        for (int64_t k = item.begin; k < item.end; ++k) {
          const int64_t r = regions.order[k];
          kernels.align_backward(from + (r * shape.channels + item.channel) * row_bins * column_bins, taps.get(r, 0),
                                 taps.get(r, 1), row_bins, column_bins, item.channels, scratch.get(), origin, row,
                                 kBlock);
        }
        kernels.unpack(tile.get(),
                       maps + item.picture * result.layout.batch + item.channel * result.layout.map.channel,
                       result.layout.map, window, item.channels);
      }
    });
    return result.tensor;
  });
}

// The gradient with respect to the regions (R, 5), in the type that is computed in; 0 for the pictures' numbers.
Tensor backward_boxes(Tensor grad, Tensor input, Tensor rois, double scale, int64_t ratio, bool aligned) {
  const Shape shape = shape_of(input, kOp);
  STD_TORCH_CHECK(grad.dim() == 4 && grad.size(0) == rois.size(0) && grad.size(1) == shape.channels &&
                      grad.scalar_type() == input.scalar_type(),
                  kOp, ": grad must be (R, C, rows, columns) of the input's type");
  const int row_bins = int(grad.size(2)), column_bins = int(grad.size(3)), channels = int(shape.channels);
  return for_dtype(grad.scalar_type(), kOp, [&](auto type) {
    using S = decltype(type);
    using T = Compute<S>;
    grad = torch::stable::contiguous(grad);
    const auto regions = read_regions<T>(rois, shape.batch, kOp);
    const AllTaps<T> taps(regions, shape, T(scale), row_bins, column_bins, int(ratio), aligned, true);
    Tensor result = torch::stable::new_zeros(grad, {regions.count, 5}, scalar_type<T>);
    const Layout layout = layout_of(input);
    const auto* from = static_cast<const S*>(grad.data_ptr());
    const auto* maps = static_cast<const S*>(input.data_ptr());
    auto* sums = static_cast<T*>(result.data_ptr());
    const int64_t blocks = (shape.channels + kBlock - 1) / kBlock, bins = int64_t(row_bins) * column_bins;
    const auto& kernels = of<S>(level());
    for (int64_t picture = 0; picture < shape.batch && shape.channels > 0; ++picture) {
      const Item all = {picture, 0, regions.first[picture], regions.first[picture + 1], channels};
      const Window window = window_of(taps.bounds, regions, all);
      if (window.height == 0) continue;
      // All channels of a cell, block by block: the map itself where it is channels last, else a packed copy.
      const S* map = maps + picture * layout.batch;
      const bool as_it_is = std::is_same_v<S, T> && layout.map.channel == 1 && channels % kBlock == 0;
      const int64_t row = as_it_is ? layout.map.row : int64_t(window.width) * kBlock;
      const int64_t column = as_it_is ? layout.map.column : int64_t(kBlock);
      const int64_t block = as_it_is ? int64_t(kBlock) : window.height * row;
      const Scratch<T> packed(as_it_is ? 0 : blocks * block);
      const T* origin = packed.get() - window.top * row - window.left * column;
      if constexpr (std::is_same_v<S, T>)
        if (as_it_is) origin = map;
      if (!as_it_is)
        torch::stable::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
          for (int64_t b = begin; b < end; ++b)
            kernels.pack(map + b * kBlock * layout.map.channel, layout.map, window,
                         int(std::min<int64_t>(kBlock, channels - b * kBlock)), packed.get() + b * block);
        });
      torch::stable::parallel_for(all.begin, all.end, 16, [&](int64_t begin, int64_t end) {
        const Scratch<T> scratch(blocks * bins * kBlock);
        for (int64_t k = begin; k < end; ++k) {
          const int64_t r = regions.order[k];
          if (taps.bounds[r].empty()) continue;
          kernels.align_boxes(from + r * shape.channels * bins, origin, block, row, column, taps.get(r, 0),
                              taps.get(r, 1), row_bins, column_bins, channels, scratch.get(), sums + 5 * r + 1);
        }
      });
    }
    return result;
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rcnnkit, CPU, m) {
  m.impl("roi_align", TORCH_BOX(&forward));
  m.impl("roi_align_backward", TORCH_BOX(&backward));
  m.impl("roi_align_backward_boxes", TORCH_BOX(&backward_boxes));
}

}  // namespace rcnnkit
