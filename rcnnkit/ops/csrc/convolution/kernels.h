// The inner loops of convolutions: products of rows with weights, and what is before and after them. A row is what one
// output is made of, or of a tile its coefficients: 3×3 convolutions go by Winograd's minimal filtering, F(4×4, 3×3)
// (Lavin and Gray, arXiv:1509.09308), where 36 products make 16 outputs, which take 144 when they are computed one by
// one. A tile is 6×6 inputs or 4×4 outputs; in between it has 36 coefficients, in float or, of bfloat16 maps, in
// bfloat16. Torch-free, without the standard library, as cpu/kernels.h says why.
#pragma once
#include <cstdint>

namespace rcnnkit::convolution {

constexpr int kOutputs = 4, kInputs = 6, kCoefficients = 36;
constexpr int kRows = 12;    // rows that are multiplied at a time
constexpr int kPanel = 32;   // output channels that lie together in the weights
constexpr int kLanes = 16;   // channels are multiples of it: the widest vector
constexpr int kTile = 16;    // rows of a tile, each of kStep values
constexpr int kStep = 32;    // bfloat16 weights are padded to a multiple of it
constexpr int64_t kTall = 2 * kTile;

// The polynomials are evaluated at 0, ±kInner, ±kOuter and infinity. With the usual 1 and 2, coefficients in bfloat16
// would cost twice the error (0.020 of the outputs' deviation in place of 0.010). In ops/conv3x3.py as well.
constexpr float kInner = 0.75f, kOuter = 1.5f;

// A map of one picture, channels last, as float or as the bits of bfloat16.
template <class S>
struct Map {
  S* cells;
  int64_t height, width, channels;
};

template <class S>
struct Kernels {
  // The coefficients of the tile whose first input is (top, left), which may lie outside the map, where all is 0;
  // coefficient i of channel c goes to out[i · stride + c].
  void (*read)(Map<const S> map, int64_t top, int64_t left, S* out, int64_t stride);
  // out (kRows, kPanel) = rows (kRows, channels) · panel (channels, kPanel), rows apart by the strides; added to what is
  // in `out`, if `more`. A panel of bfloat16 is (channels / kStep, kPanel / kTile, kStep / 2, kTile, 2), as tiles are
  // loaded: two channels of an output lie together.
  void (*multiply)(const S* rows, int64_t row_stride, const S* panel, int64_t channels, bool more, float* out,
                   int64_t out_stride);
  // The first `channels` outputs of the tile whose first output is (top, left), with the bias (channels,) and, unless
  // it is null, the residual (a map like the output), and not less than `least`; those outside the map are left away.
  void (*write)(const float* coefficients, int64_t stride, const float* bias, const S* residual, float least,
                Map<S> map, int channels, int64_t top, int64_t left);
  // As `multiply`, added to `sums` unless that is null, then as `write`: the first `count` rows and `width` columns.
  void (*outputs)(const S* rows, int64_t row_stride, const S* panel, int64_t channels, const float* sums, int count,
                  int width, const float* bias, const S* residual, float least, S* out, int64_t out_stride);
  // The largest of the cells [top, bottom) × [left, right), at least one, of each channel; NaN if there is one.
  void (*largest)(Map<const S> map, int64_t top, int64_t left, int64_t bottom, int64_t right, S* out);
};

// Where 32 values of a row are, from the row's first, and where the weights for them, from the panel's first.
struct Step {
  int64_t row, weights;
};

// How a thread's tiles are configured.
struct alignas(64) TileState {
  uint8_t bytes[64];
};

// Products of bfloat16 in tiles (Intel's AMX), of levels that have them: 32 rows are multiplied with a panel at a time. Any
// 32 rows that lie equally far apart will do, so that those of a map need not be gathered.
struct Tiles {
  void (*begin)(TileState* before);     // before the first product in a thread
  void (*end)(const TileState* before);  // after the last: others' tiles are theirs again, such as oneDNN's
  // to (count, length) = rows of at most 64 values that lie `apart`.
  void (*copy)(const uint16_t* from, int64_t apart, int64_t count, int64_t length, uint16_t* to);
  // sums (32, kPanel) = rows · panel, added to what is in `sums`, if `more`. Rows from `count` on may be left out, but
  // must be readable up to a multiple of 16.
  void (*multiply)(const uint16_t* rows, int64_t row_stride, const Step* steps, int64_t deep, const uint16_t* panel,
                   int64_t count, int64_t width, bool more, float* sums);
  // As `multiply`, then with the bias, the residual and `least` as above: row i to out + places[i], unless that is
  // negative. The residual lies as the output does. The outputs of so many rows behind these, `next`, come soon.
  void (*outputs)(const uint16_t* rows, int64_t row_stride, const Step* steps, int64_t deep, const uint16_t* panel,
                  int64_t count, int64_t width, bool more, float* sums, const int64_t* places, int64_t next,
                  const float* bias, const uint16_t* residual, float least, uint16_t* out);
};

struct Layers {
  Kernels<float> f32;
  Kernels<uint16_t> bf16;
  const Tiles* tiles;  // null where there are none
};

template <class S> const Kernels<S>& of(const Layers& layers);
template <> inline const Kernels<float>& of<float>(const Layers& layers) { return layers.f32; }
template <> inline const Kernels<uint16_t>& of<uint16_t>(const Layers& layers) { return layers.bf16; }

}  // namespace rcnnkit::convolution
