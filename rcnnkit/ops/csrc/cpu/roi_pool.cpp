// RoI pooling on the CPU.
#include "../geometry.h"
#include "regions.h"

#include <tuple>

namespace rcnnkit {
namespace {

constexpr const char* kOp = "roi_pool";

// All regions' bins along both axes, and the window that each region needs.
class AllSpans {
 public:
  template <class T>
  AllSpans(const Regions<T>& regions, Shape shape, T scale, int row_bins, int column_bins)
      : bins_{row_bins, column_bins}, bounds(regions.count) {
    first_.resize(regions.count * (row_bins + column_bins));
    last_.resize(first_.size());
    const int cells[2] = {int(shape.height), int(shape.width)};
    for (int64_t i = 0; i < regions.count; ++i) {
      const T* roi = regions[i];
      const bool finite = is_finite_region(roi);
      int low[2] = {INT32_MAX, INT32_MAX}, high[2] = {0, 0};
      for (int a = 0; a < 2; ++a) {
        const auto axis = finite ? pool_axis(roi[2 - a], roi[4 - a], scale) : PoolAxis{0, 0};
        for (int b = 0; b < bins_[a]; ++b) {
          const auto bin = pool_bin<T>(axis, b, bins_[a], cells[a]);
          const int64_t at = start(i, a) + b;
          first_[at] = bin.first, last_[at] = bin.last;
          if (bin.last > bin.first) low[a] = std::min(low[a], bin.first), high[a] = std::max(high[a], bin.last);
        }
      }
      if (high[0] > 0 && high[1] > 0) bounds[i].add(low[0], high[0], low[1], high[1]);
    }
  }

  Spans get(int64_t region, int axis) const {
    return {first_.data() + start(region, axis), last_.data() + start(region, axis)};
  }

 private:
  int64_t start(int64_t region, int axis) const {
    return region * (bins_[0] + bins_[1]) + (axis ? bins_[0] : 0);
  }

  int bins_[2];
  std::vector<int> first_, last_;

 public:
  std::vector<Bounds> bounds;
};

std::tuple<Tensor, Tensor> forward(Tensor input, Tensor rois, double scale, int64_t row_bins, int64_t column_bins,
                                   bool with_argmax) {
  const Shape shape = shape_of(input, kOp);
  STD_TORCH_CHECK(row_bins > 0 && column_bins > 0 && row_bins < 4096 && column_bins < 4096, kOp, ": output_size is (",
                  row_bins, ", ", column_bins, "); both must be between 1 and 4095");
  return for_dtype(input.scalar_type(), kOp, [&](auto type) {
    using S = decltype(type);
    using T = Compute<S>;
    const auto regions = read_regions<T>(rois, shape.batch, kOp);
    const AllSpans spans(regions, shape, T(scale), int(row_bins), int(column_bins));
    const int64_t count = regions.count, bins = row_bins * column_bins;
    Tensor output = fresh(input, {count, shape.channels, row_bins, column_bins});
    Tensor argmax = with_argmax
                        ? fresh(input, {count, shape.channels, row_bins, column_bins}, ScalarType::Int)
                        : torch::stable::new_empty(input, {0}, ScalarType::Int);
    const Layout layout = layout_of(input);
    const auto* maps = static_cast<const S*>(input.data_ptr());
    auto* out = static_cast<S*>(output.data_ptr());
    auto* indices = with_argmax ? static_cast<int32_t*>(argmax.data_ptr()) : nullptr;
    const Items items = make_items(shape, kBlock, count);
    const auto& kernels = of<S>(level());
    torch::stable::parallel_for(0, items.count, 1, [&](int64_t begin, int64_t end) {
      const Scratch<T> scratch(2 * bins * kBlock);
      const Scratch<T> tile(shape.height * shape.width * kBlock);
      for (int64_t i = begin; i < end; ++i) {
        const Item item = item_of(items, i, shape, regions);
        if (item.begin == item.end) continue;
        const auto cells = cells_of(maps + item.picture * layout.batch + item.channel * layout.map.channel, layout.map,
                                    window_of(spans.bounds, regions, item), item.channels, tile.get());
        for (int64_t k = item.begin; k < item.end; ++k) {
          const int64_t r = regions.order[k], at = (r * shape.channels + item.channel) * bins;
          kernels.pool(cells.origin, cells.row_stride, cells.column_stride, spans.get(r, 0), spans.get(r, 1),
                       int(row_bins), int(column_bins), item.channels, int(shape.width), scratch.get(), out + at,
                       indices ? indices + at : nullptr);
        }
      }
    });
    return std::make_tuple(output, argmax);
  });
}

Tensor backward(Tensor grad, Tensor rois, Tensor argmax, int64_t batch, int64_t channels, int64_t height,
                int64_t width, bool channels_last, bool) {
  const Shape shape = {batch, channels, height, width};
  check_shape(shape, kOp);
  STD_TORCH_CHECK(grad.dim() == 4 && grad.size(0) == rois.size(0) && grad.size(1) == channels &&
                      argmax.numel() == grad.numel() && argmax.scalar_type() == ScalarType::Int,
                  kOp, ": grad and argmax must be (R, C, rows, columns)");
  const int64_t bins = grad.size(2) * grad.size(3), cells = height * width;
  return for_dtype(grad.scalar_type(), kOp, [&](auto type) {
    using S = decltype(type);
    using T = Compute<S>;
    grad = torch::stable::contiguous(grad);
    argmax = torch::stable::contiguous(argmax);
    const auto regions = read_regions<T>(rois, shape.batch, kOp);
    const MapGradient result = map_gradient(grad, shape, channels_last);
    const auto* from = static_cast<const S*>(grad.data_ptr());
    const auto* indices = static_cast<const int32_t*>(argmax.data_ptr());
    auto* maps = static_cast<S*>(result.tensor.data_ptr());
    // Additions go all over a plane: as many planes at a time as the L1 cache holds.
    const int64_t block = std::clamp<int64_t>(32768 / std::max<int64_t>(1, cells * sizeof(T)), 1, kBlock);
    const Items items = make_items(shape, block);
    const auto& kernels = of<S>(level());
    torch::stable::parallel_for(0, items.count, 1, [&](int64_t begin, int64_t end) {
      const Scratch<T> planes(block * cells);
      for (int64_t i = begin; i < end; ++i) {
        const Item item = item_of(items, i, shape, regions);
        std::fill_n(planes.get(), item.channels * cells, T(0));
        for (int64_t k = item.begin; k < item.end; ++k) {
          const int64_t at = (regions.order[k] * shape.channels + item.channel) * bins;
          const int64_t next = k + 1 < item.end ? (regions.order[k + 1] - regions.order[k]) * shape.channels * bins : 0;
          kernels.pool_backward(from + at, indices + at, next, int(bins), item.channels, cells, planes.get());
        }
        kernels.unpack_planes(planes.get(),
                              maps + item.picture * result.layout.batch + item.channel * result.layout.map.channel,
                              result.layout.map, int(height), int(width), item.channels);
      }
    });
    return result.tensor;
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rcnnkit, CPU, m) {
  m.impl("roi_pool", TORCH_BOX(&forward));
  m.impl("roi_pool_backward", TORCH_BOX(&backward));
}

}  // namespace rcnnkit
