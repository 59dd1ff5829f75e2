// Convolutions of any size on the CPU: what each output is made of is gathered in a row, block by block, and the rows
// are multiplied with the weights.
#include "layer.h"

#include <cstring>

namespace rcnnkit {
namespace {

using namespace convolution;

constexpr const char* kOp = "conv2d";
constexpr int64_t kDeep = 1024;              // values of a row that are multiplied before those of the next rows
constexpr int64_t kBlockBytes = 384 << 10;  // of so many values of the rows in a block, so that they stay in the caches

struct Steps {
  int64_t height, width, stride, padding;
};

// memcpy, but without a call for the few bytes of a window's rows of pixels.
inline void copy(void* to, const void* from, size_t bytes) {
  const auto ends = [&]<size_t half>() {  // two halves that may overlap
    std::memcpy(to, from, half);
    std::memcpy(static_cast<char*>(to) + bytes - half, static_cast<const char*>(from) + bytes - half, half);
  };
  if (bytes > 128 || bytes < 32) std::memcpy(to, from, bytes);
  else if (bytes > 64) ends.template operator()<64>();
  else ends.template operator()<32>();
}

// Copies the window whose first cell is (top, left), which may lie outside the map, where all is 0.
template <class S>
void gather(Map<const S> map, int64_t top, int64_t left, Steps steps, S* row) {
  const int64_t whole = steps.width * map.channels;
  const int64_t first = std::clamp<int64_t>(-left, 0, steps.width);
  const int64_t last = std::clamp<int64_t>(map.width - left, first, steps.width);
  for (int64_t i = 0; i < steps.height; ++i, row += whole) {
    const int64_t y = top + i;
    const bool inside = y >= 0 && y < map.height;
    if (!inside || first > 0 || last < steps.width) std::fill_n(row, whole, S());
    if (inside && last > first)
      copy(row + first * map.channels, map.cells + (y * map.width + left + first) * map.channels,
           (last - first) * map.channels * sizeof(S));
  }
}

// input (B, H, W, C) float or bfloat16; weight of the same type, (panels, K, kPanel), or of bfloat16
// (panels, ⌈K / 2⌉, 2 kPanel), where K = height · width · C; bias (O,) float; residual like the output (B, H', W', O).
Tensor forward(Tensor input, Tensor weight, Tensor bias, std::optional<Tensor> residual, int64_t height, int64_t width,
               int64_t stride, int64_t padding, bool relu) {
  STD_TORCH_CHECK(input.dim() == 4 && weight.dim() == 3 && bias.dim() == 1, kOp,
                  ": expected input (B, H, W, C), weight (panels, K, 32) and bias (O,)");
  STD_TORCH_CHECK(height > 0 && width > 0 && stride > 0 && padding >= 0, kOp, ": a window of ", height, " × ", width,
                  ", stride ", stride, " and padding ", padding);
  const int64_t rows = (input.size(1) + 2 * padding - height) / stride + 1;
  const int64_t columns = (input.size(2) + 2 * padding - width) / stride + 1;
  STD_TORCH_CHECK(input.size(1) + 2 * padding >= height && input.size(2) + 2 * padding >= width, kOp, ": a map of ",
                  input.size(1), " × ", input.size(2), " is smaller than the window of ", height, " × ", width);
  const int64_t deep = height * width * input.size(3);
  const Arguments given = read_arguments(input, weight, bias, residual, relu, deep, rows, columns, kOp);
  const Steps steps = {height, width, stride, padding};
  given.run([&]<class S>(S, const S* cells, const S* weights, const float* biases, const S* added, S* out) {
    const Of<S> kernels;
    const Shape shape = given.shape;
    const int64_t count = shape.batch * rows * columns, outputs = given.outputs;
    const int64_t pair = together(given.input.scalar_type()), padded = divide_up(deep, pair) * pair;
    // The rows of a 1×1 convolution lie in the map itself, unless a row is so long that all begin in the same cache sets.
    const bool direct = deep == shape.channels && stride == 1 && padding == 0 && deep == padded && deep * sizeof(S) < 2048;
    const int64_t apart = direct ? deep : padded + kPad;
    const int64_t block =
        block_of(count, std::min<int64_t>(kBlockBytes / (std::min(apart, kDeep) * sizeof(S)), 20 * kRows));
    torch::stable::parallel_for(0, divide_up(count, block), 1, [&](int64_t begin, int64_t end) {
      const Scratch<S> gathered((direct ? kRows : block) * apart);
      const Scratch<float> sums(padded > kDeep ? given.panels * block * kPanel : 0);
      std::fill_n(gathered.get(), (direct ? kRows : block) * apart, S());  // the last rows may not be all
      for (int64_t b = begin; b < end; ++b) {
        const int64_t first = b * block, here = std::min(block, count - first), whole = here / kRows * kRows;
        const int64_t begun = first + (direct ? whole : 0);
        int64_t picture = begun / (rows * columns), y = begun / columns % rows, x = begun % columns;
        for (S* row = gathered.get(); row < gathered.get() + (first + here - begun) * apart; row += apart) {
          const S* map = cells + picture * shape.height * shape.width * shape.channels;
          gather<S>({map, shape.height, shape.width, shape.channels}, y * stride - padding, x * stride - padding, steps,
                    row);
          if (++x == columns) x = 0, ++y;
          if (y == rows) y = 0, ++picture;
        }
        for (int64_t c = 0; c < padded; c += kDeep)
          for (int64_t panel = 0; panel < given.panels; ++panel)
            for (int64_t i = 0; i < here; i += kRows) {
              const S* from = direct && i < whole ? cells + (first + i) * deep : gathered.get() + (direct ? 0 : i * apart);
              const S* by = weights + (panel * padded + c) * kPanel;
              float* partial = sums.get() + (panel * block + i) * kPanel;
              const int64_t at = (first + i) * outputs + panel * kPanel;
              if (padded - c > kDeep)
                kernels.multiply(from + c, apart, by, kDeep, c > 0, partial, kPanel);
              else
                kernels.outputs(from + c, apart, by, padded - c, c > 0 ? partial : nullptr,
                                int(std::min<int64_t>(kRows, here - i)),
                                int(std::min<int64_t>(kPanel, outputs - panel * kPanel)), biases + panel * kPanel,
                                added ? added + at : nullptr, given.least, out + at, outputs);
            }
      }
    });
  });
  return given.output;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rcnnkit, CPU, m) { m.impl("conv2d", TORCH_BOX(&forward)); }

}  // namespace rcnnkit
