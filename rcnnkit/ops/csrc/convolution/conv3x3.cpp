// 3×3 convolutions on the CPU by Winograd's algorithm, tiles block by block.
#include "layer.h"

#include <array>

namespace rcnnkit {
namespace {

using namespace convolution;

constexpr const char* kOp = "conv3x3";
constexpr int64_t kMostTiles = 60;  // in a block, so that its coefficients stay in the caches

// input (B, H, W, C) float or bfloat16; weight of the same type, (36, panels, C, kPanel), or of bfloat16
// (36, panels, C / 2, 2 kPanel), C up to a multiple of kStep; bias (O,) float; residual like the output (B, H, W, O).
Tensor forward(Tensor input, Tensor weight, Tensor bias, std::optional<Tensor> residual, bool relu) {
  STD_TORCH_CHECK(input.dim() == 4 && weight.dim() == 4 && bias.dim() == 1, kOp,
                  ": expected input (B, H, W, C), weight (36, panels, C, 32) and bias (O,)");
  STD_TORCH_CHECK(input.size(3) % kLanes == 0, kOp, ": ", input.size(3), " channels; expected a multiple of ", kLanes);
  STD_TORCH_CHECK(weight.size(0) == kCoefficients, kOp, ": the weights are not 36 coefficients");
  const Arguments given =
      read_arguments(input, weight, bias, residual, relu, input.size(3), input.size(1), input.size(2), kOp);
  given.run([&]<class S>(S, const S* in, const S* weights, const float* biases, const S* added, S* out) {
    const auto& kernels = of<S>(*level().convolution);
    const Shape shape = given.shape;
    const int64_t channels = shape.channels, outputs = given.outputs, panels = given.panels;
    const int64_t rows = divide_up(shape.height, kOutputs), columns = divide_up(shape.width, kOutputs);
    const int64_t count = shape.batch * rows * columns, block = block_of(count, kMostTiles);
    const int64_t deep = channels + kPad, weights_apart = weights_deep(channels, given.input.scalar_type()) * kPanel;
    const int64_t blocks = divide_up(count, block);
    share_out(blocks, [&](auto next) {
      const Scratch<S> before(kCoefficients * block * deep);
      const Scratch<float> after(kCoefficients * block * kPanel);
      std::fill_n(before.get(), kCoefficients * block * deep, S());  // the last block may not be full
      const auto tile = [&](int64_t i) {
        return std::array{i / (rows * columns) * shape.height * shape.width, i / columns % rows * kOutputs,
                          i % columns * kOutputs};
      };
      for (int64_t b = next(); b < blocks; b = next()) {
        const int64_t first = b * block, here = std::min(block, count - first);
        for (int64_t i = 0; i < here; ++i) {
          const auto [cell, top, left] = tile(first + i);
          kernels.read({in + cell * channels, shape.height, shape.width, channels}, top - 1, left - 1,
                       before.get() + i * deep, block * deep);
        }
        for (int64_t panel = 0; panel < panels; ++panel) {
          for (int64_t k = 0; k < kCoefficients; ++k)
            for (int64_t i = 0; i < here; i += kRows)
              kernels.multiply(before.get() + (k * block + i) * deep, deep,
                               weights + (k * panels + panel) * weights_apart, channels, false,
                               after.get() + (k * block + i) * kPanel, kPanel);
          const int64_t done = panel * kPanel;
          for (int64_t i = 0; i < here; ++i) {
            const auto [cell, top, left] = tile(first + i);
            const int64_t at = cell * outputs + done;
            kernels.write(after.get() + i * kPanel, block * kPanel, biases + done, added ? added + at : nullptr,
                          given.least, {out + at, shape.height, shape.width, outputs},
                          int(std::min<int64_t>(kPanel, outputs - done)), top, left);
          }
        }
      }
    });
  });
  return given.output;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rcnnkit, CPU, m) { m.impl("conv3x3", TORCH_BOX(&forward)); }

}  // namespace rcnnkit
