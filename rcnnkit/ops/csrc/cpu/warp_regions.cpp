// R-CNN's warp on the CPU.
#include "../geometry.h"
#include "regions.h"

namespace rcnnkit {
namespace {

constexpr const char* kOp = "warp_regions";

// One axis of one region: where the outputs' two pixels are and how they are mixed.
struct AxisTaps {
  std::vector<int> low, high;
  std::vector<float> low_weight, high_weight;
  WarpTaps taps{};

  explicit AxisTaps(int output) : low(output), high(output), low_weight(output), high_weight(output) {}

  void set(const WarpAxis& axis) {
    for (int i = 0; i < axis.target_size; ++i) {
      const auto sample = warp_sample(axis, i);
      const int at = axis.target + i;
      low[at] = sample.low, high[at] = sample.high;
      low_weight[at] = sample.low_weight, high_weight[at] = sample.high_weight;
    }
    taps = {axis.target, axis.target + axis.target_size, low.data(), high.data(), low_weight.data(),
            high_weight.data()};
  }
};

struct RegionTaps {
  AxisTaps rows, columns;

  template <class T>
  void set(const T* roi, Shape shape, int context, bool square) {
    const int height = int(rows.low.size()), width = int(columns.low.size());
    WarpAxis y{0, 0, 0, 0}, x{0, 0, 0, 0};
    if (is_finite_region(roi)) {
      const double half_width = (double(roi[3]) - roi[1]) / 2, half_height = (double(roi[4]) - roi[2]) / 2;
      const double longer = std::max(half_width, half_height);
      x = warp_axis(roi[1], roi[3], square ? longer : half_width, width, context, square, int(shape.width));
      y = warp_axis(roi[2], roi[4], square ? longer : half_height, height, context, square, int(shape.height));
    }
    rows.set(y);
    columns.set(x);
  }
};

void check_output(int64_t height, int64_t width, int64_t context) {
  STD_TORCH_CHECK(height > 0 && width > 0 && height < (1 << 15) && width < (1 << 15), kOp, ": output_size is (", height,
                  ", ", width, "); both must be between 1 and 32767");
  STD_TORCH_CHECK(context >= 0 && 2 * context < std::min(height, width), kOp, ": context ", context,
                  " leaves nothing of an output of (", height, ", ", width, "); it must be less than half of it");
}

Tensor forward(Tensor input, Tensor rois, Tensor fill, int64_t height, int64_t width, int64_t context, bool square) {
  const Shape shape = shape_of(input, kOp);
  check_output(height, width, context);
  STD_TORCH_CHECK(fill.dim() == 1 && fill.size(0) == shape.channels, kOp, ": fill must be (C,)");
  return for_dtype(input.scalar_type(), kOp, [&](auto type) {
    using S = decltype(type);
    using T = Compute<S>;
    const auto regions = read_regions<T>(rois, shape.batch, kOp);
    const Tensor fills = torch::stable::contiguous(torch::stable::to(fill, scalar_type<T>));
    const auto* filling = static_cast<const T*>(fills.data_ptr());
    Tensor output = fresh(input, {regions.count, shape.channels, height, width});
    const Layout layout = layout_of(input);
    const auto* maps = static_cast<const S*>(input.data_ptr());
    auto* out = static_cast<S*>(output.data_ptr());
    const auto& kernels = of<S>(level());
    torch::stable::parallel_for(0, regions.count, 1, [&](int64_t begin, int64_t end) {
      RegionTaps taps{AxisTaps(int(height)), AxisTaps(int(width))};
      const Scratch<T> line(shape.width);
      for (int64_t r = begin; r < end; ++r) {
        taps.set(regions[r], shape, int(context), square);
        const S* map = maps + int64_t(regions[r][0]) * layout.batch;
        for (int64_t c = 0; c < shape.channels; ++c)
          kernels.warp(map + c * layout.map.channel, layout.map.row, layout.map.column, taps.rows.taps,
                       taps.columns.taps, int(height), int(width), filling[c], line.get(),
                       out + (r * shape.channels + c) * height * width);
      }
    });
    return output;
  });
}

Tensor backward(Tensor grad, Tensor rois, int64_t batch, int64_t channels, int64_t height, int64_t width,
                int64_t context, bool square, bool channels_last, bool) {
  const Shape shape = {batch, channels, height, width};
  check_shape(shape, kOp);
  STD_TORCH_CHECK(grad.dim() == 4 && grad.size(0) == rois.size(0) && grad.size(1) == channels, kOp,
                  ": grad must be (R, C, height, width)");
  const int rows = int(grad.size(2)), columns = int(grad.size(3));
  check_output(rows, columns, context);
  return for_dtype(grad.scalar_type(), kOp, [&](auto type) {
    using S = decltype(type);
    using T = Compute<S>;
    grad = torch::stable::contiguous(grad);
    const auto regions = read_regions<T>(rois, shape.batch, kOp);
    const MapGradient result = map_gradient(grad, shape, channels_last);
    const auto* from = static_cast<const S*>(grad.data_ptr());
    auto* maps = static_cast<S*>(result.tensor.data_ptr());
    const auto& kernels = of<S>(level());
    torch::stable::parallel_for(0, batch * channels, 1, [&](int64_t begin, int64_t end) {
      RegionTaps taps{AxisTaps(rows), AxisTaps(columns)};
      const Scratch<T> line(width), plane(height * width);
      for (int64_t i = begin; i < end; ++i) {
        const int64_t picture = i / channels, c = i % channels;
        std::fill_n(plane.get(), height * width, T(0));
        for (int64_t k = regions.first[picture]; k < regions.first[picture + 1]; ++k) {
          const int64_t r = regions.order[k];
          taps.set(regions[r], shape, int(context), square);
          kernels.warp_backward(from + (r * channels + c) * rows * columns, taps.rows.taps, taps.columns.taps, columns,
                                line.get(), plane.get(), int(width));
        }
        kernels.unpack_planes(plane.get(), maps + picture * result.layout.batch + c * result.layout.map.channel,
                              result.layout.map, int(height), int(width), 1);
      }
    });
    return result.tensor;
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rcnnkit, CPU, m) {
  m.impl("warp_regions", TORCH_BOX(&forward));
  m.impl("warp_regions_backward", TORCH_BOX(&backward));
}

}  // namespace rcnnkit
