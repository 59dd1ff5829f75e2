// Max pooling on the CPU, channels last, without the indices that only a gradient needs.
#include "layer.h"

namespace rcnnkit {
namespace {

using namespace convolution;

constexpr const char* kOp = "max_pool2d";

// input (B, H, W, C) float or bfloat16 → (B, height, width, C); every window has a cell of the map.
Tensor forward(Tensor input, int64_t size, int64_t stride, int64_t padding, int64_t height, int64_t width) {
  STD_TORCH_CHECK(input.dim() == 4 && input.size(3) % kLanes == 0, kOp,
                  ": expected an input (B, H, W, C) with C a multiple of ", kLanes);
  const auto type = input.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::BFloat16, kOp, ": input must be float32 or bfloat16");
  const Shape shape = {input.size(0), input.size(3), input.size(1), input.size(2)};
  const bool steps = size > 0 && size < kMostSide && stride > 0 && stride < kMostSide && padding >= 0 && padding < size;
  const auto fits = [&](int64_t count, int64_t side) {
    return side > 0 && count > 0 && count <= side + padding && (count - 1) * stride - padding < side;
  };
  STD_TORCH_CHECK(steps && fits(height, shape.height) && fits(width, shape.width), kOp,
                  ": windows of ", size, ", stride ", stride, " and padding ", padding, " do not make ", height, " × ",
                  width, " of a map of ", shape.height, " × ", shape.width);
  input = torch::stable::contiguous(input);
  const Tensor output = fresh(input, {shape.batch, height, width, shape.channels});
  const auto run = [&]<class S>(S) {
    const auto& kernels = of<S>(*level().convolution);
    const auto* cells = static_cast<const S*>(input.data_ptr());
    auto* out = static_cast<S*>(output.data_ptr());
    torch::stable::parallel_for(0, shape.batch * height, 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const Map<const S> map = {cells + row / height * shape.height * shape.width * shape.channels, shape.height,
                                  shape.width, shape.channels};
        const int64_t top = row % height * stride - padding;
        for (int64_t x = 0; x < width; ++x) {
          const int64_t left = x * stride - padding;
          kernels.largest(map, std::max<int64_t>(top, 0), std::max<int64_t>(left, 0),
                          std::min(top + size, shape.height), std::min(left + size, shape.width),
                          out + (row * width + x) * shape.channels);
        }
      }
    });
  };
  if (type == ScalarType::Float) run(float());
  else run(uint16_t());
  return output;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rcnnkit, CPU, m) { m.impl("max_pool2d", TORCH_BOX(&forward)); }

}  // namespace rcnnkit
