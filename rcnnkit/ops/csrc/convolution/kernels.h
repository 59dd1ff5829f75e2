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

// The polynomials are evaluated at 0, ±kInner, ±kOuter and infinity. With the usual 1 and 2, coefficients in bfloat16
// would cost twice the error (0.020 of the outputs' deviation in place of 0.010). In ops/conv3x3.py as well.
constexpr float kInner = 0.75f, kOuter = 1.5f;

// A map of one picture, channels last, as float or as the bits of bfloat16.
template <class S>
struct Map {
  S* cells;
  int64_t height, width, channels;
};

struct Kernels {
  // The coefficients of the tile whose first input is (top, left), which may lie outside the map, where all is 0;
  // coefficient i of channel c goes to out[i · stride + c].
  void (*read_f32)(Map<const float> map, int64_t top, int64_t left, float* out, int64_t stride);
  void (*read_bf16)(Map<const uint16_t> map, int64_t top, int64_t left, uint16_t* out, int64_t stride);
  // out (kRows, kPanel) = rows (kRows, channels) · panel (channels, kPanel), rows apart by the strides. A panel of
  // bfloat16 is (channels / 2, kPanel, 2): two channels of an output lie together. Sums are float, and added to what
  // is in `out` where there is `more` to come.
  void (*multiply_f32)(const float* rows, int64_t row_stride, const float* panel, int64_t channels, bool more,
                       float* out, int64_t out_stride);
  void (*multiply_bf16)(const uint16_t* rows, int64_t row_stride, const uint16_t* panel, int64_t channels, bool more,
                        float* out, int64_t out_stride);
  // The first `channels` outputs of the tile whose first output is (top, left), with the bias (channels,) and, unless
  // it is null, the residual (a map like the output), and not less than `least`; those outside the map are left away.
  void (*write_f32)(const float* coefficients, int64_t stride, const float* bias, const float* residual, float least,
                    Map<float> map, int channels, int64_t top, int64_t left);
  void (*write_bf16)(const float* coefficients, int64_t stride, const float* bias, const uint16_t* residual,
                     float least, Map<uint16_t> map, int channels, int64_t top, int64_t left);
  // As `multiply`, begun at `sums` unless that is null, then as `write`: the first `count` rows and `width` columns.
  void (*outputs_f32)(const float* rows, int64_t row_stride, const float* panel, int64_t channels, const float* sums,
                      int count, int width, const float* bias, const float* residual, float least, float* out, int64_t out_stride);
  void (*outputs_bf16)(const uint16_t* rows, int64_t row_stride, const uint16_t* panel, int64_t channels, const float* sums,
                       int count, int width, const float* bias, const uint16_t* residual, float least, uint16_t* out,
                       int64_t out_stride);
  // The largest of the cells [top, bottom) × [left, right), at least one, of each channel; NaN if there is one.
  void (*largest_f32)(Map<const float> map, int64_t top, int64_t left, int64_t bottom, int64_t right, float* out);
  void (*largest_bf16)(Map<const uint16_t> map, int64_t top, int64_t left, int64_t bottom, int64_t right,
                       uint16_t* out);
};

}  // namespace rcnnkit::convolution
