// The inner loops of 3×3 convolutions by Winograd's minimal filtering, F(4×4, 3×3) (Lavin and Gray, arXiv:1509.09308):
// 36 products make 16 outputs, which take 144 when they are computed one by one. A tile is 6×6 inputs or 4×4 outputs;
// in between it has 36 coefficients. Torch-free, without the standard library, as cpu/kernels.h says why.
#pragma once
#include <cstdint>

namespace rcnnkit::winograd {

constexpr int kOutputs = 4, kInputs = 6, kCoefficients = 36;
constexpr int kRows = 12;    // tiles that are multiplied at a time
constexpr int kPanel = 32;   // output channels that lie together in the weights
constexpr int kLanes = 16;   // channels are multiples of it: the widest vector

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
  void (*read_bf16)(Map<const uint16_t> map, int64_t top, int64_t left, float* out, int64_t stride);
  // out (kRows, kPanel) = tiles (kRows, channels) · panel (channels, kPanel), rows apart by the strides.
  void (*multiply)(const float* tiles, int64_t tile_stride, const float* panel, int64_t channels, float* out,
                   int64_t out_stride);
  // The outputs of the tile whose first output is (top, left), with the bias (channels,), and not less than `least`;
  // those outside the map are left away.
  void (*write_f32)(const float* coefficients, int64_t stride, const float* bias, float least, Map<float> map,
                    int64_t top, int64_t left);
  void (*write_bf16)(const float* coefficients, int64_t stride, const float* bias, float least, Map<uint16_t> map,
                     int64_t top, int64_t left);
};

}  // namespace rcnnkit::winograd
