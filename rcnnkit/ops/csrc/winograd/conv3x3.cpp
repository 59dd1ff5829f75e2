// 3×3 convolutions on the CPU, tiles block by block.
#include "../cpu/regions.h"
#include "kernels.h"

#include <array>
#include <limits>
#include <string_view>

namespace rcnnkit {
namespace {

using namespace winograd;

constexpr const char* kOp = "conv3x3";
// Tiles in a block, at most, so that its coefficients stay in the caches; and what it costs in tiles to begin one, as
// each reads all weights.
constexpr int64_t kMostTiles = 60, kBeginning = 8;
constexpr int64_t kPad = 16;  // floats after each tile's coefficients: rows must not all meet in the same cache sets

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// How many of `count` tiles a block takes, so that the thread with most to do is done soonest.
int64_t block_of(int64_t count, int64_t threads) {
  int64_t best = kRows, least = std::numeric_limits<int64_t>::max();
  for (int64_t block = kRows; block <= kMostTiles; block += kRows) {
    const int64_t cost = divide_up(divide_up(count, block), threads) * (block + kBeginning);
    if (cost <= least) best = block, least = cost;
  }
  return best;
}

// The products of bfloat16, by the instruction for them where there is one.
auto multiply_bf16() -> decltype(winograd::Kernels::multiply_bf16) {
#ifdef RCNNKIT_X86_LEVELS
  static const bool has_pairs = std::string_view(level().name) == "avx512" && __builtin_cpu_supports("avx512bf16");
  if (has_pairs) return multiply_pairs;
#endif
  return level().winograd->multiply_bf16;
}

template <class S, class Read, class Multiply, class Write>
void convolve(const S* input, Shape shape, const S* weight, const float* bias, bool relu, int64_t outputs, S* output,
              Read read, Multiply multiply, Write write) {
  const int64_t rows = divide_up(shape.height, kOutputs), columns = divide_up(shape.width, kOutputs);
  const int64_t count = shape.batch * rows * columns, channels = shape.channels;
  const int64_t block = block_of(count, torch::stable::get_num_threads());
  const int64_t panels = divide_up(outputs, kPanel), wide = panels * kPanel + kPad, deep = channels + kPad;
  const float least = relu ? 0.f : -std::numeric_limits<float>::infinity();
  torch::stable::parallel_for(0, divide_up(count, block), 1, [&](int64_t begin, int64_t end) {
    const Scratch<S> before(kCoefficients * block * deep);
    const Scratch<float> after(kCoefficients * block * wide);
    std::fill_n(before.get(), kCoefficients * block * deep, S());  // the last block may not be full
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

// input (B, H, W, C) float or bfloat16; weight of the same type, (36, panels, C, kPanel), or of bfloat16
// (36, panels, C / 2, 2 kPanel); bias (O,) float; → (B, H, W, O).
Tensor forward(Tensor input, Tensor weight, Tensor bias, bool relu) {
  STD_TORCH_CHECK(input.dim() == 4 && weight.dim() == 4 && bias.dim() == 1, kOp,
                  ": expected input (B, H, W, C), weight (36, panels, C, 32) and bias (O,)");
  const Shape shape = {input.size(0), input.size(3), input.size(1), input.size(2)};
  const int64_t outputs = bias.size(0);
  STD_TORCH_CHECK(shape.channels % kLanes == 0 && outputs % kLanes == 0 && outputs > 0, kOp, ": ", shape.channels,
                  " → ", outputs, " channels; both must be multiples of ", kLanes);
  const auto type = input.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::BFloat16, kOp, ": input must be float32 or bfloat16");
  STD_TORCH_CHECK(weight.scalar_type() == type && bias.scalar_type() == ScalarType::Float, kOp,
                  ": weight must be of the input's type, and bias float32");
  const int64_t together = type == ScalarType::Float ? 1 : 2;
  STD_TORCH_CHECK(weight.size(0) == kCoefficients && weight.size(1) == divide_up(outputs, kPanel) &&
                      weight.size(2) * together == shape.channels && weight.size(3) == together * kPanel,
                  kOp, ": the weights are not for ", shape.channels, " → ", outputs, " channels");
  input = torch::stable::contiguous(input), weight = torch::stable::contiguous(weight);
  bias = torch::stable::contiguous(bias);
  Tensor output =
      with_huge_pages(torch::stable::new_empty(input, {shape.batch, shape.height, shape.width, outputs}));
  if (output.numel() == 0) return output;
  const auto* biases = static_cast<const float*>(bias.data_ptr());
  const winograd::Kernels& kernels = *level().winograd;
  const auto run = [&]<class S>(S, auto read, auto multiply, auto write) {
    convolve(static_cast<const S*>(input.data_ptr()), shape, static_cast<const S*>(weight.data_ptr()), biases, relu,
             outputs, static_cast<S*>(output.data_ptr()), read, multiply, write);
  };
  if (type == ScalarType::Float)
    run(float(), kernels.read_f32, kernels.multiply_f32, kernels.write_f32);
  else
    run(uint16_t(), kernels.read_bf16, multiply_bf16(), kernels.write_bf16);
  return output;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rcnnkit, CPU, m) { m.impl("conv3x3", TORCH_BOX(&forward)); }

}  // namespace rcnnkit
