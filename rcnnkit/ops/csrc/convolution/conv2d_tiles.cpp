// What a tile multiplies are rows that lie equally far apart. Neighbours on a map are such rows themselves: for each cell of
// the window, all outputs' values lie as far apart as the outputs do. So a block of the map, with its padding, is copied
// once, and not once for each cell of the window.
#include "conv2d_tiles.h"

#include <vector>

namespace rcnnkit::convolution {
namespace {

constexpr int64_t kLong = 4608;        // values of a row; of longer ones …
constexpr int64_t kDeep = 1024;        // … so many are multiplied before those of the next rows
constexpr int64_t kCached = 128 << 10;  // bytes of weights; so many stay near while rows come one after the other
constexpr int64_t kBlockBytes = 1 << 20;  // of the rows in a block, so that they stay in the caches
constexpr int64_t kMostRows = 1024;    // in a block
constexpr int64_t kFewRows = 256;      // which may be a block even if there are few of these
constexpr int64_t kPadding = kStep;    // values after each gathered row
constexpr int64_t kShort = 64;         // values of a window's row that `Tiles::copy` takes, at most
constexpr double kMostBetween = 1.25;  // products, those for no output among them, for one that counts

template <class T>
T up_to(T value, T multiple) { return divide_up(value, multiple) * multiple; }

class Convolution {
 public:
  Convolution(const Tiles& tiles, const Arguments& given, const Windows& windows, const Arrays& arrays)
      : tiles(tiles), given(given), windows(windows), arrays(arrays) {}

  void run() const {
    if (given.shape.batch >= kTile && channels % kStep == 0 && windows.are_mostly_outside()) by_place();
    else if (may_shift()) by_shifting();
    else by_window();
  }

 private:
  const Tiles& tiles;
  const Arguments& given;
  const Windows& windows;
  const Arrays& arrays;
  const int64_t channels = given.shape.channels, outputs = given.outputs;
  const int64_t places = windows.rows * windows.columns;
  const int64_t deep = windows.height * windows.width * channels, padded = up_to<int64_t>(deep, kStep);
  const int64_t map_size = given.shape.height * given.shape.width * channels;
  // Of a row of cells on the copy of a block, as many as the outputs of a row are apart there. What a window sees beyond
  // the map's right side is 0, as is what the next row begins with.
  const int64_t across = std::max(
      windows.columns, divide_up(std::min((windows.columns - 1) * windows.stride + windows.width,
                                          windows.padding + given.shape.width),
                                 windows.stride));
  const int64_t copied_row = across * windows.stride * channels, copied_padding = windows.padding * channels;

  template <class F>
  void for_each(int64_t count, F f) const {
    share_out(count, [&](auto next) {
      TileState before;
      tiles.begin(&before);
      f(next);
      tiles.end(&before);
    });
  }

  // A row is a whole window. Blocks of rows go on from place to place, and from picture to picture.
  void by_window() const {
    // Those of a 1×1 convolution lie in the map itself, unless they are so long that all begin in the same cache sets.
    const bool direct = deep == channels && windows.stride == 1 && windows.padding == 0 && deep == padded &&
                        (deep < 1024 || deep * sizeof(uint16_t) % 4096 != 0);
    const int64_t apart = direct ? deep : padded + kPadding, count = given.shape.batch * places;
    const int64_t block = block_for(count, apart);
    const std::vector<Step> steps = steps_of_rows();
    const int64_t blocks = divide_up(count, block);
    for_each(blocks, [&](auto next) {
      const int64_t gathered_rows = direct ? kTall : block;
      const Scratch<uint16_t> gathered(gathered_rows * apart);
      std::fill_n(gathered.get(), gathered_rows * apart, uint16_t());  // behind a row, its weights are 0
      const Scratch<float> sums(sums_for(block, steps.size()));
      std::vector<int64_t> to(block);
      for (int64_t b = next(); b < blocks; b = next()) {
        const int64_t first = b * block, here = std::min(block, count - first);
        for (int64_t i = 0; i < here; ++i) to[i] = (first + i) * outputs;
        // Tiles are read whole, but not beyond the end of the map.
        const int64_t whole = !direct ? 0 : first + here < count ? here : here / kTall * kTall;
        gather_windows(first + whole, here - whole, gathered.get(), apart);
        multiply(here, steps, apart, sums.get(), to.data(), [&](int64_t i) {
          return i < whole ? arrays.cells + (first + i) * deep : gathered.get() + (i - whole) * apart;
        });
      }
    });
  }

  // Of tiny maps most of a window is outside. A row is the rest, and the rows of one place in all pictures are a block.
  void by_place() const {
    const int64_t apart = padded + kPadding, count = given.shape.batch, block = block_for(count, apart);
    const int64_t blocks = divide_up(count, block);
    for_each(places * blocks, [&](auto next) {
      const Scratch<uint16_t> gathered(block * apart);
      std::fill_n(gathered.get(), block * apart, uint16_t());
      const Scratch<float> sums(sums_for(block, padded / kStep));
      std::vector<int64_t> to(block);
      for (int64_t b = next(); b < places * blocks; b = next()) {
        const int64_t place = b / blocks, first = b % blocks * block, here = std::min(block, count - first);
        const Part part = windows.inside(place / windows.columns, place % windows.columns);
        for (int64_t i = 0; i < here; ++i) {
          gather_window(first + i, place, part, gathered.get() + i * apart);
          to[i] = ((first + i) * places + place) * outputs;
        }
        multiply(here, steps_of(part), apart, sums.get(), to.data(),
                 [&](int64_t i) { return gathered.get() + i * apart; });
      }
    });
  }

  bool may_shift() const {
    if (channels % kStep != 0 || windows.height * windows.width == 1) return false;
    const int64_t rows = rows_in_block();
    return double(up_to<int64_t>(positions(rows), kTile)) <= kMostBetween * double(rows * windows.columns);
  }

  // Of so many rows of outputs, with those that are none between them.
  int64_t positions(int64_t rows) const { return rows * across - (across - windows.columns); }

  int64_t copied_rows(int64_t rows) const { return rows + divide_up(windows.height, windows.stride) - 1; }

  int64_t rows_in_block() const {
    const int64_t row_bytes = windows.stride * copied_row * sizeof(uint16_t);
    const int64_t threads = torch::stable::get_num_threads();
    const int64_t most = std::min(kBlockBytes / row_bytes - (copied_rows(1) - 1),
                                  share_of(given.shape.batch * windows.rows, divide_up(kFewRows, windows.columns)));
    int64_t best = 1, least = std::numeric_limits<int64_t>::max();
    for (int64_t rows = 1; rows <= std::min(most, windows.rows); ++rows) {
      const int64_t blocks = given.shape.batch * divide_up(windows.rows, rows);
      const int64_t cost = divide_up(blocks, threads) * (positions(rows) + kTall);
      if (cost <= least) best = rows, least = cost;
    }
    return best;
  }

  void by_shifting() const {
    const int64_t rows = rows_in_block(), blocks = divide_up(windows.rows, rows), stride = windows.stride;
    const int64_t plane = copied_rows(rows) * copied_row + copied_padding;  // of rows that are a stride apart
    std::vector<Step> steps;
    for (int64_t y = 0; y < windows.height; ++y)
      for (int64_t x = 0; x < windows.width; ++x)
        for (int64_t c = 0; c < channels; c += kStep)
          steps.push_back({y % stride * plane + y / stride * copied_row + x * channels + c,
                           ((y * windows.width + x) * channels + c) * kPanel});
    std::vector<int64_t> places_of_block(positions(rows), -1);
    for (int64_t i = 0; i < positions(rows); ++i)
      if (i % across < windows.columns) places_of_block[i] = (i / across * windows.columns + i % across) * outputs;
    for_each(given.shape.batch * blocks, [&](auto next) {
      const Scratch<uint16_t> copied(stride * plane + (kTall * stride + windows.width) * channels);
      const Scratch<float> sums(kTall * kPanel);
      std::vector<int64_t> to(places_of_block.size());
      for (int64_t b = next(); b < given.shape.batch * blocks; b = next()) {
        const int64_t picture = b / blocks, first = b % blocks * rows, here = std::min(rows, windows.rows - first);
        const Map<const uint16_t> map = {arrays.cells + picture * map_size, given.shape.height, given.shape.width,
                                         channels};
        for (int64_t i = 0; i < stride * copied_rows(here); ++i)
          gather<uint16_t>(map, windows.begin(first) + i, -windows.padding, {0, 0, 1, across * stride},
                           copied.get() + i % stride * plane + i / stride * copied_row);
        for (int64_t i = 0; i < stride; ++i)
          std::fill_n(copied.get() + i * plane + copied_rows(here) * copied_row, copied_padding, uint16_t());
        const int64_t at = (picture * places + first * windows.columns) * outputs;
        for (size_t i = 0; i < to.size(); ++i) to[i] = places_of_block[i] < 0 ? -1 : at + places_of_block[i];
        multiply(positions(here), steps, stride * channels, sums.get(), to.data(),
                 [&](int64_t i) { return copied.get() + i * stride * channels; });
      }
    });
  }

  // How many of `count` rows, `apart` values from each other, go together.
  int64_t block_for(int64_t count, int64_t apart) const {
    const int64_t most = kBlockBytes / (std::min(apart, kDeep) * int64_t(sizeof(uint16_t)));
    return block_of(count, std::min({most, kMostRows, share_of(count, kFewRows)}), kTall, kTall);
  }

  // `count` windows from the first on, `apart` values from each other.
  void gather_windows(int64_t first, int64_t count, uint16_t* row, int64_t apart) const {
    const int64_t height = given.shape.height, width = given.shape.width, length = windows.width * channels;
    int64_t picture = first / places, y = first % places / windows.columns, x = first % places % windows.columns;
    for (int64_t i = 0; i < count; ++i, row += apart) {
      const int64_t top = windows.begin(y), left = windows.begin(x);
      const Map<const uint16_t> map = {arrays.cells + picture * map_size, height, width, channels};
      const bool inside = top >= 0 && left >= 0 && top + windows.height <= height && left + windows.width <= width;
      if (inside && length <= kShort)
        tiles.copy(map.cells + (top * width + left) * channels, width * channels, windows.height, length, row);
      else
        gather<uint16_t>(map, top, left, windows.whole(), row);
      if (++x == windows.columns) x = 0, ++y;
      if (y == windows.rows) y = 0, ++picture;
    }
  }

  void gather_window(int64_t picture, int64_t place, Part part, uint16_t* row) const {
    gather<uint16_t>({arrays.cells + picture * map_size, given.shape.height, given.shape.width, channels},
                     windows.begin(place / windows.columns), windows.begin(place % windows.columns), part, row);
  }

  std::vector<Step> steps_of_rows() const {
    std::vector<Step> steps;
    for (int64_t k = 0; k < deep; k += kStep) steps.push_back({k, k * kPanel});
    return steps;
  }

  // Of a row that is a part of a window.
  std::vector<Step> steps_of(Part part) const {
    std::vector<Step> steps;
    int64_t row = 0;
    for (int64_t y = part.top; y < part.bottom; ++y)
      for (int64_t k = part.left * channels; k < part.right * channels; k += kStep, row += kStep)
        steps.push_back({row, (y * windows.width * channels + k) * kPanel});
    return steps;
  }

  // Whether rows of so many steps are so long that a part of all rows is multiplied before the next part.
  bool is_in_parts(int64_t steps) const { return steps * kStep > kLong; }

  // Floats for the sums of a block of rows.
  int64_t sums_for(int64_t block, int64_t steps) const {
    return (is_in_parts(steps) ? given.panels * divide_up(block, kTall) : 1) * kTall * kPanel;
  }

  // The outputs of `count` rows, `apart` values from each other, the i-th at row(i); its outputs go to out[places[i]].
  template <class Row>
  void multiply(int64_t count, const std::vector<Step>& steps, int64_t apart, float* sums, const int64_t* to,
                Row row) const {
    const int64_t all = steps.size(), most = kDeep / kStep, tall = divide_up(count, kTall);
    const auto product = [&](int64_t i, int64_t panel, int64_t from, int64_t length, float* sum) {
      const int64_t done = panel * kPanel, rows = std::min(kTall, count - i), width = std::min<int64_t>(kPanel, outputs - done);
      const uint16_t* by = arrays.weights + panel * padded * kPanel;
      if (from + length < all)
        tiles.multiply(row(i), apart, steps.data() + from, length, by, rows, width, from > 0, sum);
      else
        tiles.outputs(row(i), apart, steps.data() + from, length, by, rows, width, from > 0, sum, to + i,
                      std::clamp<int64_t>(count - i - kTall, 0, kTall), arrays.biases + done, arrays.added ? arrays.added + done : nullptr, given.least,
                      arrays.out + done);
    };
    if (deep * outputs * int64_t(sizeof(uint16_t)) <= kCached) {
      for (int64_t i = 0; i < count; i += kTall)
        for (int64_t panel = 0; panel < given.panels; ++panel) product(i, panel, 0, all, sums);
      return;
    }
    const int64_t part = is_in_parts(all) ? most : std::max<int64_t>(all, 1);
    for (int64_t from = 0; from == 0 || from < all; from += part)
      for (int64_t panel = 0; panel < given.panels; ++panel)
        for (int64_t i = 0; i < count; i += kTall)
          product(i, panel, from, std::min(part, all - from),
                  sums + (is_in_parts(all) ? (panel * tall + i / kTall) * kTall * kPanel : 0));
  }
};

}  // namespace

void conv2d_by_tiles(const Tiles& tiles, const Arguments& given, const Windows& windows, const Arrays& arrays) {
  Convolution(tiles, given, windows, arrays).run();
}

}  // namespace rcnnkit::convolution
