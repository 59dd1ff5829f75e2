// The CUDA kernels, run on the host: as a library that the tests call with numpy arrays, and with RCNNKIT_MAIN as
// a program that runs fixed cases under a sanitizer.
#include "shim.h"

#include "nms.cuh"
#include "roi_align.cuh"
#include "roi_pool.cuh"
#include "warp_regions.cuh"

#include <cstring>

namespace {

using namespace rcnnkit;

struct BFloat16 {  // the upper half of a float
  uint16_t bits = 0;
  BFloat16() = default;
  explicit BFloat16(float x) {
    uint32_t all;
    std::memcpy(&all, &x, 4);
    bits = uint16_t((all + 0x7fff + (all >> 16 & 1)) >> 16);
  }
  operator float() const {
    const uint32_t all = uint32_t(bits) << 16;
    float x;
    std::memcpy(&x, &all, 4);
    return x;
  }
};

// kind: 0 float, 1 double, 2 bfloat16 computed in float
template <class Run>
void dispatch(int kind, Run run) {
  if (kind == 0) run(float(), float());
  if (kind == 1) run(double(), double());
  if (kind == 2) run(BFloat16(), float());
}

// `dims`: four sizes, then four strides in elements
template <class S>
Map<S> map_of(const void* data, const int64_t* dims) {
  Map<S> map{static_cast<S*>(const_cast<void*>(data)), {}, {}};
  for (int i = 0; i < 4; ++i) map.size[i] = dims[i], map.stride[i] = dims[i + 4];
  return map;
}

// Fewer threads than there is work for, so that the kernels' loops go round.
template <class... Parameters, class... Arguments>
void run_over(void (*kernel)(Parameters...), Arguments... arguments) {
  launch({3}, 16, kernel, arguments...);
}

}  // namespace

extern "C" {

// A small budget also has the sweep run out of shared memory. With `counts` there are so many rows of `count` boxes,
// swept together; else one.
void nms(int kind, const void* boxes, const int64_t* groups, const int64_t* ranks, const int64_t* counts,
         int64_t rows, int64_t count, double threshold, int64_t budget, bool* keep) {
  const int64_t blocks = (count + kBits - 1) / kBits;
  std::vector<Word> mask(rows * mask_words(blocks, budget)), removed(rows * blocks);
  for (int64_t first = 0, panel; first < blocks; first += panel) {
    panel = panel_blocks(first, blocks, budget);
    const dim3 grid{unsigned(blocks - first), unsigned(panel), unsigned(rows)};
    if (kind == 1)
      launch(grid, kBits, nms_mask<double>, static_cast<const double*>(boxes), groups, counts, count, threshold, first,
             blocks, mask.data());
    else
      launch(grid, kBits, nms_mask<float>, static_cast<const float*>(boxes), groups, counts, count, float(threshold),
             first, blocks, mask.data());
    launch({unsigned(rows)}, 96, budget < 1000 ? nms_sweep<4> : nms_sweep<kSweepWords>, groups, ranks, counts, count,
           first, panel, blocks, mask.data(), removed.data(), keep);
  }
}

void roi_align(int kind, const void* input, const int64_t* input_dims, const void* rois, double scale, int ratio,
               bool aligned, void* output, const int64_t* output_dims) {
  dispatch(kind, [&]<class S, class T>(S, T) {
    run_over(roi_align_forward<S, T>, map_of<const S>(input, input_dims), static_cast<const T*>(rois),
             AlignOptions<T>{T(scale), ratio, aligned}, map_of<S>(output, output_dims));
  });
}

void roi_align_backward(int kind, const void* grad, const int64_t* grad_dims, const void* rois, double scale,
                        int ratio, bool aligned, bool deterministic, void* into, const int64_t* into_dims) {
  dispatch(kind, [&]<class S, class T>(S, T) {
    run_over(deterministic ? roi_align_in_order<S, T> : roi_align_scatter<S, T>, map_of<const S>(grad, grad_dims),
             static_cast<const T*>(rois), AlignOptions<T>{T(scale), ratio, aligned}, map_of<T>(into, into_dims));
  });
}

void roi_align_boxes(int kind, const void* grad, const int64_t* grad_dims, const void* input,
                     const int64_t* input_dims, const void* rois, double scale, int ratio, bool aligned, void* into) {
  dispatch(kind, [&]<class S, class T>(S, T) {
    launch({2}, kBoxThreads, rcnnkit::roi_align_boxes<S, T>, map_of<const S>(grad, grad_dims),
           map_of<const S>(input, input_dims), static_cast<const T*>(rois), AlignOptions<T>{T(scale), ratio, aligned},
           static_cast<T*>(into));
  });
}

void roi_pool(int kind, const void* input, const int64_t* input_dims, const void* rois, double scale, void* output,
              const int64_t* output_dims, int32_t* argmax) {
  dispatch(kind, [&]<class S, class T>(S, T) {
    run_over(roi_pool_forward<S, T>, map_of<const S>(input, input_dims), static_cast<const T*>(rois), T(scale),
             map_of<S>(output, output_dims), argmax);
  });
}

void roi_pool_backward(int kind, const void* grad, const int64_t* grad_dims, const void* rois, const int32_t* argmax,
                       bool deterministic, void* into, const int64_t* into_dims) {
  dispatch(kind, [&]<class S, class T>(S, T) {
    run_over(deterministic ? roi_pool_in_order<S, T> : roi_pool_scatter<S, T>, map_of<const S>(grad, grad_dims),
             static_cast<const T*>(rois), argmax, map_of<T>(into, into_dims));
  });
}

void warp_regions(int kind, const void* input, const int64_t* input_dims, const void* rois, const void* fill,
                  int context, bool square, void* output, const int64_t* output_dims) {
  dispatch(kind, [&]<class S, class T>(S, T) {
    run_over(warp_forward<S, T>, map_of<const S>(input, input_dims), static_cast<const T*>(rois), static_cast<const T*>(fill),
             WarpOptions{context, square}, map_of<S>(output, output_dims));
  });
}

void warp_regions_backward(int kind, const void* grad, const int64_t* grad_dims, const void* rois, int context,
                           bool square, bool deterministic, void* into, const int64_t* into_dims) {
  dispatch(kind, [&]<class S, class T>(S, T) {
    run_over(deterministic ? warp_in_order<S, T> : warp_scatter<S, T>, map_of<const S>(grad, grad_dims),
             static_cast<const T*>(rois), WarpOptions{context, square}, map_of<T>(into, into_dims));
  });
}

}  // extern "C"

#ifdef RCNNKIT_MAIN
#include <cmath>
#include <cstdio>
#include <random>

namespace {

int failures = 0;

void expect(bool right, const char* what) {
  if (!right) std::printf("FAILED: %s\n", what), ++failures;
}

std::mt19937 random_bits(0);

float uniform(float low, float high) { return low + (high - low) * (random_bits() >> 8) / float(1 << 24); }

std::vector<float> uniforms(int64_t count, float low, float high) {
  std::vector<float> values(count);
  for (float& value : values) value = uniform(low, high);
  return values;
}

struct Dims {
  int64_t numbers[8];
  Dims(int64_t n, int64_t c, int64_t h, int64_t w, bool channels_last)
      : numbers{n, c, h, w, c * h * w, channels_last ? 1 : h * w, channels_last ? w * c : w, channels_last ? c : 1} {}
};

void check_nms(int64_t count, int64_t budget) {
  std::vector<float> boxes;
  for (int64_t i = 0; i < count; ++i) {
    const float x = uniform(0, 60), y = uniform(0, 60);
    for (float v : {x, y, x + uniform(-2, 30), y + uniform(-2, 30)}) boxes.push_back(v);
  }
  if (count > 5) boxes[4] = NAN, boxes[9] = -INFINITY, boxes[14] = INFINITY;
  std::vector<int64_t> groups(count), ranks(count);
  for (int64_t i = 0; i < count; ++i) groups[i] = i * 3 / count, ranks[i] = count - 1 - i;
  for (bool grouped : {false, true}) {
    std::vector<char> keep(count, 2), expected(count, 1);
    nms(0, boxes.data(), grouped ? groups.data() : nullptr, grouped ? ranks.data() : nullptr, nullptr, 1, count, 0.25,
        budget, reinterpret_cast<bool*>(keep.data()));
    for (int64_t i = 0; i < count; ++i)
      for (int64_t j = 0; j < i; ++j)
        if (expected[j] && (!grouped || groups[i] == groups[j]) && suppresses(&boxes[4 * j], &boxes[4 * i], 0.25f))
          expected[i] = 0;
    for (int64_t i = 0; i < count; ++i) expect(keep[grouped ? ranks[i] : i] == expected[i], "nms");
  }
}

// Rows beside each other, of which only the first boxes are boxes.
void check_rows(int64_t count, int64_t budget) {
  const std::vector<int64_t> counts = {count, 0, count / 2, 1};
  std::vector<float> boxes;
  for (int64_t i = 0; i < 4 * count; ++i) {
    const float x = uniform(0, 60), y = uniform(0, 60);
    for (float v : {x, y, x + uniform(-2, 30), y + uniform(-2, 30)}) boxes.push_back(v);
  }
  std::vector<char> together(4 * count, 0);
  nms(0, boxes.data(), nullptr, nullptr, counts.data(), 4, count, 0.25, budget,
      reinterpret_cast<bool*>(together.data()));
  for (int64_t g = 0; g < 4; ++g) {
    std::vector<char> alone(count, 0);
    nms(0, boxes.data() + 4 * count * g, nullptr, nullptr, nullptr, 1, counts[g], 0.25, budget,
        reinterpret_cast<bool*>(alone.data()));
    for (int64_t i = 0; i < count; ++i) expect(together[count * g + i] == alone[i], "rows of nms");
  }
}

// Both gradients of all operators agree, over regions inside, outside, upside down, huge and not finite.
void check_regions(bool channels_last) {
  const int64_t batch = 2, channels = 3, height = 7, width = 9, high = 5, wide = 4;
  const float inf = INFINITY;
  std::vector<float> rois = {0, 1, 1,   6,   6,   1, -20, -20, -9,  -9,   1, 6, 6, 1, 1, 0, -1e6, -1e6,
                             1e6, 1e6, 7,   1,    1,  5,  5,  -1,   1, 1, 5, 5, NAN, 1, 1, 5, 5, 0, NAN, 1,
                             5, 5, 1,   1, -inf, 5, inf,  0,  2, 2, 2, 2, 1, -1e30f, 0, 1e30f, 4};
  for (int r = 0; r < 6; ++r)
    for (float v : {float(r % 2), uniform(-3, 4), uniform(-3, 4), uniform(3, 14), uniform(3, 14)}) rois.push_back(v);
  const int64_t regions = int64_t(rois.size()) / 5;
  const Dims input_dims(batch, channels, height, width, channels_last), output_dims(regions, channels, high, wide, 0);
  const std::vector<float> input = uniforms(batch * channels * height * width, -1, 1), fill = {1, 2, 3};
  std::vector<float> output(regions * channels * high * wide);
  const std::vector<float> grad = uniforms(int64_t(output.size()), -1, 1);
  std::vector<int32_t> argmax(output.size());
  const auto compare = [&](const char* what, auto run) {
    std::vector<float> sums[2] = {std::vector<float>(input.size()), std::vector<float>(input.size())};
    for (bool deterministic : {false, true}) run(deterministic, sums[deterministic].data());
    for (size_t i = 0; i < input.size(); ++i) expect(std::abs(sums[0][i] - sums[1][i]) < 1e-3f, what);
  };
  for (int ratio : {0, 2})
    for (bool aligned : {false, true}) {
      roi_align(0, input.data(), input_dims.numbers, rois.data(), 0.7, ratio, aligned, output.data(),
                output_dims.numbers);
      std::vector<float> sides(rois.size(), NAN);
      roi_align_boxes(0, grad.data(), output_dims.numbers, input.data(), input_dims.numbers, rois.data(), 0.7, ratio,
                      aligned, sides.data());
      for (float side : sides) expect(std::isfinite(side), "roi_align_boxes");
      compare("roi_align", [&](bool deterministic, float* sums) {
        roi_align_backward(0, grad.data(), output_dims.numbers, rois.data(), 0.7, ratio, aligned, deterministic, sums,
                           input_dims.numbers);
      });
    }
  roi_pool(0, input.data(), input_dims.numbers, rois.data(), 0.7, output.data(), output_dims.numbers, argmax.data());
  compare("roi_pool", [&](bool deterministic, float* sums) {
    roi_pool_backward(0, grad.data(), output_dims.numbers, rois.data(), argmax.data(), deterministic, sums,
                      input_dims.numbers);
  });
  for (bool square : {false, true}) {
    warp_regions(0, input.data(), input_dims.numbers, rois.data(), fill.data(), 1, square, output.data(),
                 output_dims.numbers);
    compare("warp_regions", [&](bool deterministic, float* sums) {
      warp_regions_backward(0, grad.data(), output_dims.numbers, rois.data(), 1, square, deterministic, sums,
                            input_dims.numbers);
    });
  }
}

}  // namespace

int main() {
  for (int64_t count : {0, 1, 63, 64, 65, 200, 300})
    for (int64_t budget : {1 << 20, 300}) check_nms(count, budget);
  for (int64_t budget : {1 << 20, 300}) check_rows(200, budget);
  for (bool channels_last : {false, true}) check_regions(channels_last);
  return failures ? 1 : 0;
}
#endif
