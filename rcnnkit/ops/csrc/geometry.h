// Where the regions' bins and samples lie: the arithmetic that the CPU and the CUDA kernels share.
//
// Free of torch and of the standard library, so that device code and tests may include it. Compile CPU sources
// that include it with -ffp-contract=off: a sample on the very border of the map must round as it does elsewhere.
#pragma once

#ifdef __CUDACC__
#define RCNNKIT_BOTH __host__ __device__ inline
#else
#define RCNNKIT_BOTH inline
#endif

namespace rcnnkit {

template <class T>
RCNNKIT_BOTH T at_least(T x, T low) { return x < low ? low : x; }
template <class T>
RCNNKIT_BOTH T at_most(T x, T high) { return x > high ? high : x; }
RCNNKIT_BOTH float round_down(float x) { return __builtin_floorf(x); }
RCNNKIT_BOTH double round_down(double x) { return __builtin_floor(x); }
RCNNKIT_BOTH float round_up(float x) { return __builtin_ceilf(x); }
RCNNKIT_BOTH double round_up(double x) { return __builtin_ceil(x); }
// Halves go away from zero, as C's round does.
RCNNKIT_BOTH float round_half_away(float x) { return __builtin_roundf(x); }
RCNNKIT_BOTH double round_half_away(double x) { return __builtin_round(x); }

// Whether a region (picture, x1, y1, x2, y2) has four finite coordinates; others are outside every map.
template <class T>
RCNNKIT_BOTH bool is_finite_region(const T* roi) {
  for (int i = 1; i < 5; ++i)
    if (!(roi[i] - roi[i] == 0)) return false;
  return true;
}

// --- RoIAlign (Mask R-CNN, section 3), one axis --------------------------------------------------------------

template <class T>
struct AlignAxis {
  T start;  // of the region, in cells
  T bin;    // its bins' size, in cells
  T grid;   // samples per bin
  bool adaptive;
  bool widened;  // to one cell: its size does not change with its sides
};

template <class T>
RCNNKIT_BOTH AlignAxis<T> align_axis(T low, T high, T scale, int bins, int sampling_ratio, bool aligned) {
  const T offset = aligned ? T(0.5) : T(0);
  const T start = low * scale - offset;
  T size = high * scale - offset - start;
  const bool widened = !aligned && size < T(1);
  if (widened) size = T(1);
  return {start, size / T(bins), sampling_ratio > 0 ? T(sampling_ratio) : round_up(size / T(bins)),
          sampling_ratio <= 0, widened};
}

// The samples [first, first + count) of a bin that can touch a map of `cells`. An adaptive grid has as many
// samples as the bin has cells; a bin far larger than the map would keep the loop busy with nothing.
struct SampleRange {
  double first;
  int count;
};

template <class T>
RCNNKIT_BOTH SampleRange sample_range(const AlignAxis<T>& axis, int bin, int cells) {
  if (!(axis.grid > 0)) return {0, 0};
  if (!axis.adaptive || axis.grid <= T(64)) return {0, int(axis.grid)};
  const double grid = axis.grid, step = double(axis.bin) / grid, base = double(axis.start) + bin * double(axis.bin);
  // Two samples of slack at either end: the exact test is made on each sample's own position.
  const double first = at_least(round_down((-1 - base) / step) - 2, 0.0);
  const double last = at_most(round_up((cells - base) / step) + 2, grid);
  // An adaptive step is more than half a cell, so no more than 2 (cells + 1) samples touch the map.
  return {first, last > first ? int(at_most(last - first, 2.0 * cells + 16)) : 0};
}

template <class T>
RCNNKIT_BOTH T sample_position(const AlignAxis<T>& axis, int bin, T sample) {
  return axis.start + T(bin) * axis.bin + (sample + T(0.5)) * axis.bin / axis.grid;
}

// The two cells that a sample lies between. Up to a cell outside the map the border continues; beyond that, and
// for NaN, the sample counts as zero (`inside` is false).
template <class T>
struct Sample {
  bool inside;
  int low, high;
  T low_weight, high_weight;
};

template <class T>
RCNNKIT_BOTH Sample<T> sample_at(T position, int cells) {
  if (!(position >= T(-1) && position <= T(cells))) return {false, 0, 0, T(0), T(0)};
  position = at_least(position, T(0));
  const int low = int(position);
  if (low >= cells - 1) return {true, cells - 1, cells - 1, T(1), T(0)};
  const T weight = position - T(low);
  return {true, low, low + 1, T(1) - weight, weight};
}

// How far a sample moves, in cells, as the region's low and high side move by a pixel each; nothing where its value
// does not change with it: beyond the map's outermost centres the border continues. On a cell's centre, where the
// derivative of bilinear interpolation jumps, it is the one towards higher positions (spatial transformer networks,
// arXiv:1506.02025, equation 7).
template <class T>
struct SampleMove {
  T low, high;
};

template <class T>
RCNNKIT_BOTH SampleMove<T> sample_move(const AlignAxis<T>& axis, int bin, int bins, T sample, T scale, int cells) {
  const T position = sample_position(axis, bin, sample);
  if (!(position >= T(0) && position < T(cells - 1))) return {T(0), T(0)};
  if (axis.widened) return {scale, T(0)};
  const T share = (T(bin) + (sample + T(0.5)) / axis.grid) / T(bins);  // of the way from the low side to the high one
  return {scale * (T(1) - share), scale * share};
}

// --- RoI pooling (Fast R-CNN, section 2.1), one axis ---------------------------------------------------------

struct PoolAxis {
  int start, size;  // of the region, in whole cells
};

struct PoolBin {
  int first, last;  // cells [first, last) of the map; none where last <= first
};

template <class T>
RCNNKIT_BOTH PoolAxis pool_axis(T low, T high, T scale) {
  // 2^28: far outside any map, and sums of a few still fit an int
  const T limit = T(268435456);
  const int start = int(at_least(at_most(round_half_away(low * scale), limit), -limit));
  const int end = int(at_least(at_most(round_half_away(high * scale), limit), -limit));
  return {start, at_least(end - start + 1, 1)};
}

template <class T>
RCNNKIT_BOTH PoolBin pool_bin(const PoolAxis& axis, int bin, int bins, int cells) {
  const T size = T(axis.size) / T(bins);
  const int first = int(round_down(T(bin) * size)) + axis.start, last = int(round_up(T(bin + 1) * size)) + axis.start;
  return {at_most(at_least(first, 0), cells), at_most(at_least(last, 0), cells)};
}

// --- R-CNN's warp (appendix A; the released Caffe window layer), one axis --------------------------------------

struct WarpAxis {
  int source, source_size;  // the clipped crop, in pixels of the picture
  int target, target_size;  // where it is pasted; 0 pixels where nothing of the crop is on the picture
};

// `half` is half the region's side, or half the longer one for square crops. The corners are rounded and then
// taken as inclusive, as released, so that a crop with context is about a pixel larger than its name says.
RCNNKIT_BOTH WarpAxis warp_axis(double low, double high, double half, int output, int context, bool square,
                                int pixels) {
  const double centre = (low + high) / 2, limit = 1073741824;  // 2^30
  const double scale = context > 0 ? double(output) / (output - 2 * context) : 1;
  double first = round_half_away(centre - half * scale), last = round_half_away(centre + half * scale);
  if (context == 0 && !square) last -= 1;  // a plain resize of the region's own pixels
  if (!(first >= -limit && last <= limit && last >= first)) return {0, 0, 0, 0};
  const double before = at_least(-first, 0.0), after = at_least(last - pixels + 1, 0.0);
  const double clipped = last - after - (first + before) + 1;
  if (!(clipped >= 1)) return {0, 0, 0, 0};
  const double stretch = output / (last - first + 1);
  const int target = int(round_half_away(before * stretch));
  const int size = at_most(int(round_half_away(clipped * stretch)), output - target);
  if (size <= 0) return {0, 0, 0, 0};
  return {int(first + before), int(clipped), target, size};
}

// The source position of pixel `i` of the pasted crop: bilinear, without antialiasing, edges repeated.
RCNNKIT_BOTH Sample<float> warp_sample(const WarpAxis& axis, int i) {
  const float position = float((i + 0.5) * (double(axis.source_size) / axis.target_size) - 0.5);
  const float floor = round_down(position);
  const int low = int(floor);
  if (low < 0) return {true, axis.source, axis.source, 1.f, 0.f};
  if (low >= axis.source_size - 1) {
    const int edge = axis.source + axis.source_size - 1;
    return {true, edge, edge, 1.f, 0.f};
  }
  const float weight = position - floor;
  return {true, axis.source + low, axis.source + low + 1, 1 - weight, weight};
}

}  // namespace rcnnkit
