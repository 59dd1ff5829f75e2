// Which object each box overlaps most, on the CPU. The matrix of all overlaps is never in memory: a block of boxes goes
// past the objects one by one, and all but the block's best stays in registers.
#include "fresh.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <mutex>
#include <tuple>
#include <vector>

namespace rcnnkit {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kBlock = 256;  // boxes

// Sides and areas of a block of boxes.
struct Block {
  float left[kBlock], top[kBlock], right[kBlock], bottom[kBlock], area[kBlock];
  int64_t count;

  Block(const float* boxes, int64_t count) : count(count) {
    for (int64_t i = 0; i < kBlock; ++i) {
      const float* box = boxes + 4 * std::min(i, count - 1);
      left[i] = box[0], top[i] = box[1], right[i] = box[2], bottom[i] = box[3];
      area[i] = (box[2] - box[0]) * (box[3] - box[1]);
    }
  }

  // As `boxes.iou` in Python, to the last bit. A NaN side leads to 0, since comparisons take the box's side then.
  void overlap(const float* object, float* overlaps) const {
    const float x1 = object[0], y1 = object[1], x2 = object[2], y2 = object[3], own = (x2 - x1) * (y2 - y1);
    for (int64_t i = 0; i < kBlock; ++i) {
      float width = (x2 < right[i] ? x2 : right[i]) - (x1 > left[i] ? x1 : left[i]);
      float height = (y2 < bottom[i] ? y2 : bottom[i]) - (y1 > top[i] ? y1 : top[i]);
      width = width > 0 ? width : 0;
      height = height > 0 ? height : 0;
      const float shared = width * height, quotient = shared / (area[i] + own - shared);
      overlaps[i] = shared > 0 ? quotient : 0;
    }
  }
};

template <class F>
void for_blocks(const Tensor& boxes, F f) {
  const auto* box = static_cast<const float*>(boxes.data_ptr());
  const int64_t n = boxes.size(0), blocks = (n + kBlock - 1) / kBlock;
  torch::stable::parallel_for(0, blocks, 16, [&](int64_t begin, int64_t end) {
    f(begin * kBlock, std::min(n, end * kBlock), [&](int64_t first) {
      return Block(box + 4 * first, std::min(kBlock, n - first));
    });
  });
}

// boxes (N, 4), objects (M, 4) float32, M > 0 → the greatest IoU of each box (N,), the first object with it (N,), and
// with `ties` whether the box has the greatest IoU of some object that any box overlaps (N,); without, all false.
std::tuple<Tensor, Tensor, Tensor> best_overlaps(Tensor boxes, Tensor objects, bool ties) {
  constexpr const char* kOp = "best_overlaps";
  for (const Tensor& some : {boxes, objects})
    STD_TORCH_CHECK(some.dim() == 2 && some.size(1) == 4 && some.scalar_type() == ScalarType::Float, kOp,
                    ": boxes and objects must be (N, 4) float32");
  STD_TORCH_CHECK(objects.size(0) > 0, kOp, ": there must be an object");
  boxes = torch::stable::contiguous(boxes), objects = torch::stable::contiguous(objects);
  const int64_t n = boxes.size(0), m = objects.size(0);
  const auto* object = static_cast<const float*>(objects.data_ptr());
  Tensor best = fresh(boxes, {n}), index = fresh(boxes, {n}, ScalarType::Long);
  Tensor tied = torch::stable::new_zeros(boxes, {n}, ScalarType::Bool);
  auto* const greatest = static_cast<float*>(best.data_ptr());
  auto* const which = static_cast<int64_t*>(index.data_ptr());
  auto* const is_tied = static_cast<bool*>(tied.data_ptr());
  std::vector<float> of_object(m, 0.f);
  std::mutex mutex;
  for_blocks(boxes, [&](int64_t begin, int64_t end, auto block_at) {
    std::vector<float> own(m, 0.f);
    for (int64_t first = begin; first < end; first += kBlock) {
      const Block block = block_at(first);
      float overlaps[kBlock], most[kBlock];
      int32_t at[kBlock] = {};
      std::fill_n(most, kBlock, -1.f);
      for (int64_t j = 0; j < m; ++j) {
        block.overlap(object + 4 * j, overlaps);
        float top = own[j];
        for (int64_t i = 0; i < kBlock; ++i) {
          at[i] = overlaps[i] > most[i] ? int32_t(j) : at[i];
          most[i] = overlaps[i] > most[i] ? overlaps[i] : most[i];
          top = overlaps[i] > top ? overlaps[i] : top;
        }
        own[j] = top;
      }
      std::copy_n(most, block.count, greatest + first);
      std::copy_n(at, block.count, which + first);
    }
    const std::lock_guard lock(mutex);
    for (int64_t j = 0; j < m; ++j) of_object[j] = std::max(of_object[j], own[j]);
  });
  if (ties)
    for_blocks(boxes, [&](int64_t begin, int64_t end, auto block_at) {
      for (int64_t first = begin; first < end; first += kBlock) {
        const Block block = block_at(first);
        float overlaps[kBlock];
        uint8_t any[kBlock] = {};
        for (int64_t j = 0; j < m; ++j) {
          if (!(of_object[j] > 0)) continue;
          block.overlap(object + 4 * j, overlaps);
          for (int64_t i = 0; i < kBlock; ++i) any[i] |= overlaps[i] == of_object[j];
        }
        std::copy_n(any, block.count, is_tied + first);
      }
    });
  return {best, index, tied};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rcnnkit, CPU, m) { m.impl("best_overlaps", TORCH_BOX(&best_overlaps)); }

}  // namespace rcnnkit
