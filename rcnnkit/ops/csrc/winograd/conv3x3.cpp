// 3×3 convolutions on the CPU, tiles block by block.
#include "../cpu/regions.h"
#include "kernels.h"

#include <array>
#include <limits>

namespace rcnnkit {
namespace {

using namespace winograd;

constexpr const char* kOp = "conv3x3";
// Tiles in a block: so many that the weights, which every block reads, cost little beside their products, and so few
// that the coefficients of a block stay in the caches.
constexpr int64_t kBlockTiles = 60;
constexpr int64_t kPad = 16;  // floats after each tile's coefficients: rows must not all meet in the same cache sets

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class S, class Read, class Write>
void convolve(const S* input, Shape shape, const float* weight, const float* bias, bool relu, int64_t outputs,
              S* output, Read read, Write write) {
  const int64_t rows = divide_up(shape.height, kOutputs), columns = divide_up(shape.width, kOutputs);
  const int64_t count = shape.batch * rows * columns, channels = shape.channels;
  // Blocks of one size, at least one for each thread.
  const int64_t blocks = std::max<int64_t>(divide_up(count, kBlockTiles), torch::stable::get_num_threads());
  const int64_t block = divide_up(divide_up(count, blocks), kRows) * kRows;
  const int64_t panels = divide_up(outputs, kPanel), wide = panels * kPanel + kPad, deep = channels + kPad;
  const float least = relu ? 0.f : -std::numeric_limits<float>::infinity();
  const auto multiply = level().winograd->multiply;
  torch::stable::parallel_for(0, divide_up(count, block), 1, [&](int64_t begin, int64_t end) {
    const Scratch<float> before(kCoefficients * block * deep), after(kCoefficients * block * wide);
    std::fill_n(before.get(), kCoefficients * block * deep, 0.f);  // the last block may not be full
    const auto tile = [&](int64_t i) {
      return std::array{i / (rows * columns), i / columns % rows * kOutputs, i % columns * kOutputs};
    };
    for (int64_t b = begin; b < end; ++b) {
      const int64_t first = b * block, here = std::min(block, count - first);
      for (int64_t i = 0; i < here; ++i) {
        const auto [picture, top, left] = tile(first + i);
        const S* cells = input + picture * shape.height * shape.width * channels;
        read({cells, shape.height, shape.width, channels}, top - 1, left - 1, before.get() + i * deep, block * deep);
      }
      for (int64_t k = 0; k < kCoefficients; ++k)
        for (int64_t panel = 0; panel < panels; ++panel)
          for (int64_t i = 0; i < here; i += kRows)
            multiply(before.get() + (k * block + i) * deep, deep, weight + (k * panels + panel) * channels * kPanel,
                     channels, after.get() + (k * block + i) * wide + panel * kPanel, wide);
      for (int64_t i = 0; i < here; ++i) {
        const auto [picture, top, left] = tile(first + i);
        S* cells = output + picture * shape.height * shape.width * outputs;
        write(after.get() + i * wide, block * wide, bias, least, {cells, shape.height, shape.width, outputs}, top, left);
      }
    }
  });
}

// input (B, H, W, C); weight (36, panels, C, kPanel) and bias (O,) float; → (B, H, W, O).
Tensor forward(Tensor input, Tensor weight, Tensor bias, bool relu) {
  STD_TORCH_CHECK(input.dim() == 4 && weight.dim() == 4 && bias.dim() == 1, kOp,
                  ": expected input (B, H, W, C), weight (36, panels, C, 32) and bias (O,)");
  const Shape shape = {input.size(0), input.size(3), input.size(1), input.size(2)};
  const int64_t outputs = bias.size(0);
  STD_TORCH_CHECK(shape.channels % kLanes == 0 && outputs % kLanes == 0 && outputs > 0, kOp, ": ", shape.channels,
                  " → ", outputs, " channels; both must be multiples of ", kLanes);
  STD_TORCH_CHECK(weight.size(0) == kCoefficients && weight.size(1) == divide_up(outputs, kPanel) &&
                      weight.size(2) == shape.channels && weight.size(3) == kPanel,
                  kOp, ": the weights are not for ", shape.channels, " → ", outputs, " channels");
  STD_TORCH_CHECK(weight.scalar_type() == ScalarType::Float && bias.scalar_type() == ScalarType::Float, kOp,
                  ": weight and bias must be float32");
  input = torch::stable::contiguous(input), weight = torch::stable::contiguous(weight);
  bias = torch::stable::contiguous(bias);
  Tensor output =
      with_huge_pages(torch::stable::new_empty(input, {shape.batch, shape.height, shape.width, outputs}));
  if (output.numel() == 0) return output;
  const auto* weights = static_cast<const float*>(weight.data_ptr());
  const auto* biases = static_cast<const float*>(bias.data_ptr());
  const winograd::Kernels& kernels = *level().winograd;
  if (input.scalar_type() == ScalarType::Float) {
    convolve(static_cast<const float*>(input.data_ptr()), shape, weights, biases, relu, outputs,
             static_cast<float*>(output.data_ptr()), kernels.read_f32, kernels.write_f32);
  } else {
    STD_TORCH_CHECK(input.scalar_type() == ScalarType::BFloat16, kOp, ": input must be float32 or bfloat16");
    convolve(static_cast<const uint16_t*>(input.data_ptr()), shape, weights, biases, relu, outputs,
             static_cast<uint16_t*>(output.data_ptr()), kernels.read_bf16, kernels.write_bf16);
  }
  return output;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rcnnkit, CPU, m) { m.impl("conv3x3", TORCH_BOX(&forward)); }

}  // namespace rcnnkit
