// RoIAlign on the CPU: every region's taps first, then all channels, a block at a time.
#include "../geometry.h"
#include "regions.h"

#include <optional>
#include <tuple>

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

// The same the other way round: the rows of the map that each region touches, with the bins that they belong to.
template <class T>
class AllRows {
 public:
  AllRows(const AllTaps<T>& taps, int64_t regions, int bins, bool with_sides) : with_sides_(with_sides) {
    begin_.reserve(regions + 1);
    for (int64_t i = 0; i < regions; ++i) {
      begin_.push_back(int(row_.size()));
      add(taps.get(i, 0), bins);
    }
    begin_.push_back(int(row_.size()));
  }

  Rows<T> get(int64_t region) const {
    const int begin = begin_[region];
    return {begin_[region + 1] - begin, row_.data() + begin, first_.data() + begin + region, bin_.data(),
            weight_.data(), low_.data(), high_.data()};
  }

 private:
  void add(Taps<T> taps, int bins) {
    const int begin = taps.first[0], end = taps.first[bins], known = int(row_.size());
    number_.clear();
    for (int i = begin; i < end; ++i) {
      // Samples come in order, so only the last few rows can come again.
      int number = int(row_.size());
      for (int back = 1; back <= kAgain && number - back >= known; ++back)
        if (row_[number - back] == taps.cell[i]) {
          number -= back;
          break;
        }
      if (number == int(row_.size())) row_.push_back(taps.cell[i]);
      number_.push_back(number - known);
    }
    // Counted, then put in their places, each row's in the order of the bins.
    const int rows = int(row_.size()) - known;
    next_.assign(rows + 1, begin);
    for (const int number : number_) ++next_[number + 1];
    for (int k = 0; k < rows; ++k) next_[k + 1] += next_[k] - begin;
    first_.insert(first_.end(), next_.begin(), next_.end());
    bin_.resize(end);
    weight_.resize(end);
    if (with_sides_) low_.resize(end), high_.resize(end);
    for (int b = 0; b < bins; ++b)
      for (int i = taps.first[b]; i < taps.first[b + 1]; ++i) {
        const int at = next_[number_[i - begin]]++;
        bin_[at] = b;
        weight_[at] = taps.weight[i];
        if (with_sides_) low_[at] = taps.low[i], high_[at] = taps.high[i];
      }
  }

  static constexpr int kAgain = 8;
  bool with_sides_;
  std::vector<int> begin_, row_, first_, bin_, number_, next_;
  std::vector<T> weight_, low_, high_;
};

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
      const Scratch<T> scratch((8 + row_bins) * column_bins * kBlock);
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

struct Options {
  double scale;
  int ratio;
  bool aligned;
};

// What a gradient (R, C, rows, columns) of the values becomes, for maps of that shape. Where `map` is given, `of_map` is
// added to: (B, C, H, W) zeros. Where `input` is given, the maps themselves, the gradient with respect to the regions
// comes back: (R, 5) in the type that is computed in; 0 for the pictures' numbers.
template <class S>
std::optional<Tensor> gradients(Tensor grad, const Tensor& rois, Shape shape, Options options, const MapGradient* of_map,
                                const Tensor* input) {
  using T = Compute<S>;
  grad = torch::stable::contiguous(grad);
  const int row_bins = int(grad.size(2)), column_bins = int(grad.size(3));
  const auto regions = read_regions<T>(rois, shape.batch, kOp);
  const AllTaps<T> taps(regions, shape, T(options.scale), row_bins, column_bins, options.ratio, options.aligned, input);
  const AllRows<T> rows(taps, regions.count, row_bins, input);
  const auto* from = static_cast<const S*>(grad.data_ptr());
  auto* into = of_map ? static_cast<S*>(of_map->tensor.data_ptr()) : nullptr;
  const auto* maps = input ? static_cast<const S*>(input->data_ptr()) : nullptr;
  const Layout layout = input ? layout_of(*input) : Layout{};
  // An item owns its cells: no two write to one.
  const Items items = make_items(shape, kBlock, of_map ? 0 : regions.count);
  std::vector<T> sides(input ? items.blocks * regions.count * 4 : 0);  // of each block of channels
  const auto& kernels = of<S>(level());
  torch::stable::parallel_for(0, items.count, 1, [&](int64_t begin, int64_t end) {
    const Scratch<T> scratch(int64_t(16 + row_bins) * column_bins * kBlock);
    const int64_t tile_size = shape.height * shape.width * kBlock;
    const Scratch<T> tiles((input && of_map ? 2 : 1) * tile_size);
    for (int64_t i = begin; i < end; ++i) {
      const Item item = item_of(items, i, shape, regions);
      const Window window = window_of(taps.bounds, regions, item);
      if (window.height == 0) continue;
      const int64_t row = int64_t(window.width) * kBlock, origin = window.top * row + int64_t(window.left) * kBlock;
      T* sums = of_map ? tiles.get() : nullptr;
      T* values = input ? tiles.get() + (of_map ? tile_size : 0) : nullptr;
      if (of_map) std::fill_n(sums, window.height * row, T(0));
      if (input)
        kernels.pack(maps + item.picture * layout.batch + item.channel * layout.map.channel, layout.map, window,
                     item.channels, values);
      for (int64_t k = item.begin; k < item.end; ++k) {
        const int64_t r = regions.order[k];
        if (taps.bounds[r].empty()) continue;
        kernels.align_backward(from + (r * shape.channels + item.channel) * row_bins * column_bins, rows.get(r),
                               taps.get(r, 1), row_bins, column_bins, item.channels, scratch.get(),
                               input ? values - origin : nullptr, of_map ? sums - origin : nullptr, row,
                               sides.data() + (item.channel / kBlock * regions.count + r) * 4);
      }
      if (of_map)
        kernels.unpack(sums, into + item.picture * of_map->layout.batch + item.channel * of_map->layout.map.channel,
                       of_map->layout.map, window, item.channels);
    }
  });
  if (!input) return std::nullopt;
  Tensor of_boxes = torch::stable::new_zeros(grad, {regions.count, 5}, scalar_type<T>);
  auto* to = static_cast<T*>(of_boxes.data_ptr());
  for (int64_t b = 0; b < items.blocks; ++b)
    for (int64_t r = 0; r < regions.count; ++r)
      for (int side = 0; side < 4; ++side) to[5 * r + 1 + side] += sides[(b * regions.count + r) * 4 + side];
  return of_boxes;
}

void check_gradient(const Tensor& grad, const Tensor& rois, Shape shape) {
  check_shape(shape, kOp);
  STD_TORCH_CHECK(grad.dim() == 4 && grad.size(0) == rois.size(0) && grad.size(1) == shape.channels, kOp,
                  ": grad must be (R, C, rows, columns)");
}

Tensor backward(Tensor grad, Tensor rois, double scale, int64_t batch, int64_t channels, int64_t height, int64_t width,
                int64_t ratio, bool aligned, bool channels_last, bool) {
  const Shape shape = {batch, channels, height, width};
  check_gradient(grad, rois, shape);
  const MapGradient of_map = map_gradient(grad, shape, channels_last);
  for_dtype(grad.scalar_type(), kOp, [&](auto type) {
    gradients<decltype(type)>(grad, rois, shape, {scale, int(ratio), aligned}, &of_map, nullptr);
  });
  return of_map.tensor;
}

Shape shape_beside(const Tensor& grad, const Tensor& input, const Tensor& rois) {
  const Shape shape = shape_of(input, kOp);
  check_gradient(grad, rois, shape);
  STD_TORCH_CHECK(grad.scalar_type() == input.scalar_type(), kOp, ": grad and input must have one type");
  return shape;
}

Tensor backward_boxes(Tensor grad, Tensor input, Tensor rois, double scale, int64_t ratio, bool aligned) {
  const Shape shape = shape_beside(grad, input, rois);
  return for_dtype(grad.scalar_type(), kOp, [&](auto type) {
    return *gradients<decltype(type)>(grad, rois, shape, {scale, int(ratio), aligned}, nullptr, &input);
  });
}

std::tuple<Tensor, Tensor> backward_both(Tensor grad, Tensor input, Tensor rois, double scale, int64_t ratio,
                                         bool aligned, bool channels_last) {
  const Shape shape = shape_beside(grad, input, rois);
  const MapGradient of_map = map_gradient(grad, shape, channels_last);
  return for_dtype(grad.scalar_type(), kOp, [&](auto type) {
    return std::tuple(of_map.tensor,
                      *gradients<decltype(type)>(grad, rois, shape, {scale, int(ratio), aligned}, &of_map, &input));
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rcnnkit, CPU, m) {
  m.impl("roi_align", TORCH_BOX(&forward));
  m.impl("roi_align_backward", TORCH_BOX(&backward));
  m.impl("roi_align_backward_boxes", TORCH_BOX(&backward_boxes));
  m.impl("roi_align_backward_both", TORCH_BOX(&backward_both));
}

}  // namespace rcnnkit
