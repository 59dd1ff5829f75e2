// Max pooling on the CPU, channels last, without the indices that only a gradient needs.
#include "layer.h"

namespace rcnnkit {
namespace {

using namespace convolution;

constexpr const char* kOp = "max_pool2d";

// input (B, H, W, C) float or bfloat16 → (B, H', W', C). With `ceil_mode` a last window may be cut off, as long as it
// begins on the map or its padding on the left.
Tensor forward(Tensor input, int64_t size, int64_t stride, int64_t padding, bool ceil_mode) {
  STD_TORCH_CHECK(input.dim() == 4 && input.size(3) % kLanes == 0, kOp,
                  ": expected an input (B, H, W, C) with C a multiple of ", kLanes);
  const Shape shape = maps_shape(input, kOp);
  const bool steps = size > 0 && size < kMostSide && stride > 0 && stride < kMostSide && padding >= 0 && padding < size;
  const int64_t further = ceil_mode ? stride - 1 : 0;  // how far a last window may reach beyond the padding
  const bool fits = steps && std::min(shape.height, shape.width) > 0 &&
                    std::min(shape.height, shape.width) + 2 * padding + further >= size;
  STD_TORCH_CHECK(fits, kOp, ": windows of ", size, ", stride ", stride, " and padding ", padding,
                  " do not fit on a map of ", shape.height, " × ", shape.width);
  const auto count = [&](int64_t side) {
    const int64_t windows = (side + 2 * padding + further - size) / stride + 1;
    return (windows - 1) * stride < side + padding ? windows : windows - 1;
  };
  const int64_t rows = count(shape.height), columns = count(shape.width);
  input = torch::stable::contiguous(input);
  const Tensor output = fresh(input, {shape.batch, rows, columns, shape.channels});
  with_type_of(input, [&]<class S>(S) {
    const auto& kernels = of<S>(*level().convolution);
    const auto* cells = static_cast<const S*>(input.data_ptr());
    auto* out = static_cast<S*>(output.data_ptr());
    share_out(shape.batch * rows, [&](auto next) {
      for (int64_t row = next(); row < shape.batch * rows; row = next()) {
        const Map<const S> map = {cells + row / rows * shape.height * shape.width * shape.channels, shape.height,
                                  shape.width, shape.channels};
        const int64_t top = row % rows * stride - padding;
        for (int64_t x = 0; x < columns; ++x) {
          const int64_t left = x * stride - padding;
          kernels.largest(map, std::max<int64_t>(top, 0), std::max<int64_t>(left, 0),
                          std::min(top + size, shape.height), std::min(left + size, shape.width),
                          out + (row * columns + x) * shape.channels);
        }
      }
    });
  });
  return output;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rcnnkit, CPU, m) { m.impl("max_pool2d", TORCH_BOX(&forward)); }

}  // namespace rcnnkit
