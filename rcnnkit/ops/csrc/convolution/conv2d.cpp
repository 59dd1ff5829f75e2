// Convolutions of any size on the CPU: what each output is made of is gathered in a row, block by block, and the rows
// are multiplied with the weights.
#include "conv2d_tiles.h"

#include <vector>

namespace rcnnkit {
namespace {

using namespace convolution;

constexpr const char* kOp = "conv2d";
constexpr int64_t kDeep = 1024;             // values of a row that are multiplied before those of the next rows
constexpr int64_t kBlockBytes = 384 << 10;  // of so many values of the rows in a block, so that they stay in the caches

// Values of a row, from `from` on, and where in the weights those for them are.
struct Span {
  int64_t from, by, length;
};

// Appends a span in pieces of kDeep.
void append(std::vector<Span>& spans, Span span) {
  for (int64_t done = 0; done < span.length; done += kDeep)
    spans.push_back({span.from + done, span.by + done, std::min(kDeep, span.length - done)});
}

// A convolution with the type of its values. The rows (of windows, R of them) are multiplied with the weights (K, O).
template <class S>
class Convolution {
 public:
  Convolution(const Arguments& given, const Windows& windows, const S* cells, const S* weights, const float* biases,
              const S* added, S* out)
      : given(given), windows(windows), cells(cells), weights(weights), biases(biases), added(added), out(out) {}

  void run() const {
    const int64_t whole = weights_deep(1, given.input.scalar_type());  // channels whose weights lie together
    if (given.shape.batch >= kRows && given.shape.channels % whole == 0 && windows.are_mostly_outside())
      by_place();
    else
      by_window();
  }

 private:
  const Arguments& given;
  const Windows& windows;
  const S *const cells, *const weights;
  const float* const biases;
  const S* const added;
  S* const out;
  const convolution::Kernels<S>& kernels = of<S>(*level().convolution);
  const int64_t places = windows.rows * windows.columns;
  const int64_t deep = windows.height * windows.width * given.shape.channels;  // K, the values of a row
  const int64_t pair = together(given.input.scalar_type());
  const int64_t padded = divide_up(deep, pair) * pair;
  const int64_t panel_size = weights_deep(deep, given.input.scalar_type()) * kPanel;

  // A row is a whole window. Blocks of rows go on from place to place, and from picture to picture.
  void by_window() const {
    // Those of a 1×1 convolution lie in the map itself, unless they are so long that all begin in the same cache sets.
    const bool direct = deep == given.shape.channels && windows.stride == 1 && windows.padding == 0 &&
                        deep == padded && deep * sizeof(S) < 2048;
    const int64_t apart = direct ? deep : padded + kPad, count = given.shape.batch * places;
    const int64_t block = block_for(count, apart);
    std::vector<Span> spans;
    append(spans, {0, 0, padded});
    const int64_t blocks = divide_up(count, block);
    share_out(blocks, [&](auto next) {
      const int64_t gathered_rows = direct ? kRows : block;
      const Scratch<S> gathered(gathered_rows * apart);
      const Scratch<float> sums(spans.size() > 1 ? given.panels * block * kPanel : 0);
      std::fill_n(gathered.get(), gathered_rows * apart, S());  // the last rows may not be all
      for (int64_t b = next(); b < blocks; b = next()) {
        const int64_t first = b * block, here = std::min(block, count - first);
        const int64_t whole = direct ? here / kRows * kRows : 0;  // rows that are not gathered
        for (int64_t i = whole; i < here; ++i)
          gather_window((first + i) / places, (first + i) % places, windows.whole(),
                        gathered.get() + (i - whole) * apart);
        multiply(here, spans, apart, sums.get(), block, first * given.outputs, given.outputs, [&](int64_t i) {
          return i < whole ? cells + (first + i) * deep : gathered.get() + (i - whole) * apart;
        });
      }
    });
  }

  // Of tiny maps most of a window is outside. A row is the rest, and the rows of one place in all pictures are a block.
  void by_place() const {
    const int64_t apart = padded + kPad, count = given.shape.batch, block = block_for(count, apart);
    const int64_t blocks = divide_up(count, block);
    share_out(places * blocks, [&](auto next) {
      const Scratch<S> gathered(block * apart);
      const Scratch<float> sums(given.panels * block * kPanel);
      std::fill_n(gathered.get(), block * apart, S());  // the last rows may not be all
      for (int64_t b = next(); b < places * blocks; b = next()) {
        const int64_t place = b / blocks, first = b % blocks * block, here = std::min(block, count - first);
        const Part part = windows.inside(place / windows.columns, place % windows.columns);
        for (int64_t i = 0; i < here; ++i) gather_window(first + i, place, part, gathered.get() + i * apart);
        multiply(here, spans_of(part), apart, sums.get(), block, (first * places + place) * given.outputs,
                 places * given.outputs, [&](int64_t i) { return gathered.get() + i * apart; });
      }
    });
  }

  // How many of `count` rows, `apart` values from each other, go together.
  int64_t block_for(int64_t count, int64_t apart) const {
    return block_of(count, std::min<int64_t>(kBlockBytes / (std::min(apart, kDeep) * sizeof(S)), 20 * kRows));
  }

  void gather_window(int64_t picture, int64_t place, Part part, S* row) const {
    const Shape shape = given.shape;
    const S* map = cells + picture * shape.height * shape.width * shape.channels;
    gather<S>({map, shape.height, shape.width, shape.channels},
              windows.begin(place / windows.columns), windows.begin(place % windows.columns), part, row);
  }

  // Where the weights for a part of a window are. One empty span where nothing of it is on the map.
  std::vector<Span> spans_of(Part part) const {
    const int64_t channels = given.shape.channels, length = (part.right - part.left) * channels;
    std::vector<Span> spans;
    for (int64_t i = part.top; i < part.bottom; ++i)
      append(spans, {(i - part.top) * length, (i * windows.width + part.left) * channels, length});
    if (spans.empty()) spans.push_back({0, 0, 0});
    return spans;
  }

  // The outputs of `count` rows, `apart` values from each other, the i-th at row(i). Those of the first go to out[at], of
  // the next out_apart further. The products of all spans but the last are kept in `sums` (panels, block, kPanel).
  template <class Row>
  void multiply(int64_t count, const std::vector<Span>& spans, int64_t apart, float* sums, int64_t block, int64_t at,
                int64_t out_apart, Row row) const {
    for (const Span& span : spans)
      for (int64_t panel = 0; panel < given.panels; ++panel)
        for (int64_t i = 0; i < count; i += kRows) {
          const S* values = row(i) + span.from;
          const S* by = weights + panel * panel_size + span.by * kPanel;
          float* partial = sums + (panel * block + i) * kPanel;
          const bool more = &span != &spans.front();
          const int64_t to = at + i * out_apart + panel * kPanel;
          if (&span != &spans.back())
            kernels.multiply(values, apart, by, span.length, more, partial, kPanel);
          else
            kernels.outputs(values, apart, by, span.length, more ? partial : nullptr,
                            int(std::min<int64_t>(kRows, count - i)),
                            int(std::min<int64_t>(kPanel, given.outputs - panel * kPanel)), biases + panel * kPanel,
                            added ? added + to : nullptr, given.least, out + to, out_apart);
        }
  }
};

// input (B, H, W, C) float or bfloat16; weight of the same type, (panels, K, kPanel), or of bfloat16
// (panels, K / 2, 2 kPanel), where K = height · width · C, of bfloat16 up to a multiple of kStep; bias (O,) float; residual
// like the output (B, H', W', O).
Tensor forward(Tensor input, Tensor weight, Tensor bias, std::optional<Tensor> residual, int64_t height, int64_t width,
               int64_t stride, int64_t padding, bool relu) {
  STD_TORCH_CHECK(input.dim() == 4 && weight.dim() == 3 && bias.dim() == 1, kOp,
                  ": expected input (B, H, W, C), weight (panels, K, 32) and bias (O,)");
  STD_TORCH_CHECK(input.size(3) > 0, kOp, ": the input has no channels");
  STD_TORCH_CHECK(height > 0 && width > 0 && stride > 0 && padding >= 0 &&
                      std::max({height, width, stride, padding}) < kMostSide,
                  kOp, ": a window of ", height, " × ", width, ", stride ", stride, " and padding ", padding);
  STD_TORCH_CHECK(input.size(1) + 2 * padding >= height && input.size(2) + 2 * padding >= width, kOp, ": a map of ",
                  input.size(1), " × ", input.size(2), " is smaller than the window of ", height, " × ", width);
  const int64_t rows = (input.size(1) + 2 * padding - height) / stride + 1;
  const int64_t columns = (input.size(2) + 2 * padding - width) / stride + 1;
  const Arguments given =
      read_arguments(input, weight, bias, residual, relu, height * width * input.size(3), rows, columns, kOp);
  const Windows windows = {given.shape, height, width, stride, padding, rows, columns};
  given.run([&]<class S>(S, const S* cells, const S* weights, const float* biases, const S* added, S* out) {
    if constexpr (std::is_same_v<S, uint16_t>)
      if (const Tiles* tiles = level().convolution->tiles)
        return conv2d_by_tiles(*tiles, given, windows, {cells, weights, biases, added, out});
    Convolution<S>(given, windows, cells, weights, biases, added, out).run();
  });
  return given.output;
}

bool has_tiles() { return level().convolution->tiles; }

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rcnnkit, CPU, m) { m.impl("conv2d", TORCH_BOX(&forward)); }
STABLE_TORCH_LIBRARY_IMPL(rcnnkit, CompositeExplicitAutograd, m) { m.impl("has_tiles", TORCH_BOX(&has_tiles)); }

}  // namespace rcnnkit
