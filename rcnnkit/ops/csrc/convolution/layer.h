// What the layers here have in common: their arguments, and how they share out their rows.
#pragma once
#include "../cpu/regions.h"
#include "kernels.h"

#include <atomic>
#include <limits>
#include <optional>

namespace rcnnkit::convolution {

constexpr int64_t kMostSide = 1 << 24;  // of a window, and of its steps and padding

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// What it costs, in rows, to begin a block of them: all weights are read again.
constexpr int64_t kBeginning = 8;
constexpr int64_t kPad = 16;  // values after each row, which must not all meet in the same cache sets

// f(next) on all threads: next() is another of `count` items, or `count` when none is left. Threads take items as they
// have time for them, since the cores of a busy machine are not equally fast.
template <class F>
void share_out(int64_t count, F f) {
  const int64_t threads = std::min<int64_t>(torch::stable::get_num_threads(), count);
  std::atomic<int64_t> taken = 0;
  torch::stable::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    f([&] { return std::min(taken.fetch_add(1, std::memory_order_relaxed), count); });
  });
}

// At most so many of `count` rows are a block, unless it has `few`: a thread that is slow must be able to take fewer.
inline int64_t share_of(int64_t count, int64_t few) {
  return std::max(count / (4 * int64_t(torch::stable::get_num_threads())), few);
}

// How many of `count` rows a block takes, `most` at most, so that the thread with most to do is done soonest.
inline int64_t block_of(int64_t count, int64_t most, int64_t together = kRows, int64_t beginning = kBeginning) {
  const int64_t threads = torch::stable::get_num_threads();
  int64_t best = together, least = std::numeric_limits<int64_t>::max();
  for (int64_t block = together; block <= most; block += together) {
    const int64_t cost = divide_up(divide_up(count, block), threads) * (block + beginning);
    if (cost <= least) best = block, least = cost;
  }
  return best;
}

// The shape of maps (B, H, W, C), whose values must be float or bfloat16.
inline Shape maps_shape(const Tensor& maps, const char* op) {
  const auto type = maps.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::BFloat16, op, ": input must be float32 or bfloat16");
  return {maps.size(0), maps.size(3), maps.size(1), maps.size(2)};
}

// f(S()) with the type of such maps' values.
template <class F>
void with_type_of(const Tensor& maps, F f) {
  if (maps.scalar_type() == ScalarType::Float) f(float());
  else f(uint16_t());
}

// The arguments, checked: maps (B, H, W, C), and weights that end in panels of outputs.
struct Arguments {
  Tensor input, weight, bias;
  std::optional<Tensor> residual;
  Tensor output;
  Shape shape;  // of the input
  int64_t outputs, panels;
  float least;  // what an output is at least

  // f(S(), input, weight, bias, residual, output): the values' type and where they are.
  template <class F>
  void run(F f) const {
    if (output.numel() == 0) return;
    with_type_of(input, [&]<class S>(S) {
      f(S(), static_cast<const S*>(input.data_ptr()), static_cast<const S*>(weight.data_ptr()),
        static_cast<const float*>(bias.data_ptr()),
        residual ? static_cast<const S*>(residual->data_ptr()) : nullptr, static_cast<S*>(output.data_ptr()));
    });
  }
};

// Values of a row that lie together in a panel.
inline int64_t together(ScalarType type) { return type == ScalarType::Float ? 1 : 2; }

// For how many values of a row there are weights, those that are 0 because the row is shorter among them.
inline int64_t weights_deep(int64_t deep, ScalarType type) {
  return type == ScalarType::Float ? deep : divide_up(deep, kStep) * kStep;
}

// `deep`: the values of a row; `height` and `width`: of the output.
inline Arguments read_arguments(Tensor input, Tensor weight, Tensor bias, std::optional<Tensor> residual, bool relu,
                                int64_t deep, int64_t height, int64_t width, const char* op) {
  const Shape shape = maps_shape(input, op);
  const auto type = input.scalar_type();
  STD_TORCH_CHECK(weight.scalar_type() == type && bias.scalar_type() == ScalarType::Float, op,
                  ": weight must be of the input's type, and bias float32");
  const int64_t outputs = bias.size(0), panels = divide_up(outputs, kPanel), dims = weight.dim(), pair = together(type);
  STD_TORCH_CHECK(outputs > 0 && outputs % kLanes == 0, op, ": ", outputs, " outputs; expected a multiple of ", kLanes);
  STD_TORCH_CHECK(weight.size(dims - 3) == panels && weight.size(dims - 2) == weights_deep(deep, type) / pair &&
                      weight.size(dims - 1) == pair * kPanel,
                  op, ": the weights are not for ", input.size(3), " → ", outputs, " channels");
  if (residual) {
    STD_TORCH_CHECK(residual->dim() == 4 && residual->size(0) == shape.batch && residual->size(1) == height &&
                        residual->size(2) == width && residual->size(3) == outputs &&
                        residual->scalar_type() == type,
                    op, ": the residual is not like the output, ", shape.batch, " × ", height, " × ", width, " × ",
                    outputs);
    residual = torch::stable::contiguous(*residual);
  }
  Tensor output = fresh(input, {shape.batch, height, width, outputs});
  return {torch::stable::contiguous(input), torch::stable::contiguous(weight), torch::stable::contiguous(bias),
          residual, output, shape, outputs, panels, relu ? 0.f : -std::numeric_limits<float>::infinity()};
}

}  // namespace rcnnkit::convolution
