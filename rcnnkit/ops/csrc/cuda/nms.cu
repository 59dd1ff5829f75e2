// Launches non-maximum suppression: sorts on the device, and brings only the number of kept boxes to the host;
// of rows that are sorted already not even that.
#include "nms.cuh"

#include <array>
#include <cmath>

#include "launch.cuh"

namespace rcnnkit {
namespace {

constexpr int64_t kMaskBudget = int64_t(8) << 20;  // words: 64 MiB
constexpr int kRowThreads = 256;                   // of a sweep where many rows are swept beside each other

template <size_t N>
void call(const char* name, const char* overload, std::array<StableIValue, N>& stack) {
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(name, overload, stack.data(), TORCH_ABI_VERSION));
}

using stable::detail::from;
using stable::detail::to;

// These three have no wrapper in the headers of every torch that this builds with.
Tensor sorted_order(const Tensor& keys, bool descending) {
  std::array<StableIValue, 4> stack{from(keys), from(std::optional<bool>(true)), from(int64_t(0)), from(descending)};
  call("aten::sort", "stable", stack);
  (void)to<Tensor>(stack[0]);  // the sorted keys, ours to free
  return to<Tensor>(stack[1]);
}

Tensor select(const Tensor& rows, const Tensor& index) {
  std::array<StableIValue, 3> stack{from(rows), from(int64_t(0)), from(index)};
  call("aten::index_select", "", stack);
  return to<Tensor>(stack[0]);
}

Tensor where_true(const Tensor& values, const Tensor& mask) {
  std::array<StableIValue, 2> stack{from(values), from(mask)};
  call("aten::masked_select", "", stack);
  return to<Tensor>(stack[0]);
}

// The largest T that is no larger than the threshold: an IoU in T is above the one where it is above the other.
template <class T>
T exact(double threshold) {
  const T rounded = T(threshold);
  return double(rounded) > threshold ? std::nextafter(rounded, -T(INFINITY)) : rounded;
}

// Rows of `count` sorted boxes each, as many at a time as have room for their masks.
template <class T>
void sweep(const Tensor& boxes, int64_t rows, int64_t count, const int64_t* groups, const int64_t* ranks,
           const int64_t* counts, double threshold, Tensor& keep) {
  const int64_t blocks = (count + kBits - 1) / kBits, words = mask_words(blocks, kMaskBudget);
  const int64_t together = at_least<int64_t>(at_most(at_most(rows, kMaskBudget / words), int64_t(65535)), 1);
  const Tensor masks = stable::new_empty(boxes, {together * words}, ScalarType::Long);
  const Tensor removed_words = stable::new_zeros(boxes, {rows * blocks}, ScalarType::Long);
  Word* mask = static_cast<Word*>(masks.mutable_data_ptr());
  Word* removed = static_cast<Word*>(removed_words.mutable_data_ptr());
  bool* kept = static_cast<bool*>(keep.mutable_data_ptr());
  const cudaStream_t stream = stream_of(boxes);
  for (int64_t row = 0; row < rows; row += together) {
    const unsigned some = unsigned(at_most(together, rows - row));
    const int64_t* some_counts = counts ? counts + row : nullptr;
    for (int64_t first = 0, panel; first < blocks; first += panel) {
      panel = panel_blocks(first, blocks, kMaskBudget);
      nms_mask<T><<<dim3(unsigned(blocks - first), unsigned(panel), some), kBits, 0, stream>>>(
          data_of<T>(boxes) + 4 * row * count, groups, some_counts, count, exact<T>(threshold), first, blocks, mask);
      STD_CUDA_KERNEL_LAUNCH_CHECK();
      nms_sweep<kSweepWords><<<some, rows > 1 ? kRowThreads : kSweepThreads, 0, stream>>>(
          groups, ranks, some_counts, count, first, panel, blocks, mask, removed + row * blocks, kept + row * count);
      STD_CUDA_KERNEL_LAUNCH_CHECK();
    }
  }
}

template <class... Arguments>
void sweep_in(ScalarType type, Arguments&&... arguments) {
  type == ScalarType::Double ? sweep<double>(arguments...) : sweep<float>(arguments...);
}

void check_threshold(double threshold) {
  STD_TORCH_CHECK(threshold >= 0, "rcnnkit: iou_threshold is ", threshold, "; it must be 0 or more");
}

Tensor suppress(const Tensor& boxes, const Tensor& scores, const Tensor* groups, double threshold) {
  const int64_t count = boxes.dim() == 2 ? boxes.size(0) : -1;
  STD_TORCH_CHECK(count >= 0 && boxes.size(1) == 4, "rcnnkit: expected boxes of shape (N, 4)");
  STD_TORCH_CHECK(scores.dim() == 1 && scores.size(0) == count, "rcnnkit: expected one score a box");
  STD_TORCH_CHECK(scores.is_cuda() && scores.get_device_index() == boxes.get_device_index(),
                  "rcnnkit: expected the scores on the same device as the boxes");
  check_threshold(threshold);
  if (groups) {
    STD_TORCH_CHECK(groups->dim() == 1 && groups->size(0) == count, "rcnnkit: expected one group a box");
    STD_TORCH_CHECK(groups->is_cuda() && groups->get_device_index() == boxes.get_device_index(),
                    "rcnnkit: expected the groups on the same device as the boxes");
  }
  const DeviceGuard guard(boxes.get_device_index());
  if (count == 0) return stable::new_empty(boxes, {count}, ScalarType::Long);

  const Tensor order = sorted_order(scores, true);
  Tensor keep = stable::new_empty(boxes, {count}, ScalarType::Bool);  // by rank among the scores
  const ScalarType type = compute_type(boxes.scalar_type());
  const auto run = [&](const Tensor& sorted, const int64_t* group_data, const int64_t* ranks) {
    sweep_in(type, sorted, 1, count, group_data, ranks, nullptr, threshold, keep);
  };
  if (groups) {
    const Tensor by_score = select(stable::to(*groups, ScalarType::Long), order), ranks = sorted_order(by_score, false);
    const Tensor sorted_groups = select(by_score, ranks);
    run(stable::to(select(boxes, select(order, ranks)), type), data_of<int64_t>(sorted_groups),
        data_of<int64_t>(ranks));
  } else {
    run(stable::to(select(boxes, order), type), nullptr, nullptr);
  }
  return where_true(order, keep);
}

Tensor nms(const Tensor& boxes, const Tensor& scores, double iou_threshold) {
  return suppress(boxes, scores, nullptr, iou_threshold);
}

Tensor batched_nms(const Tensor& boxes, const Tensor& scores, const Tensor& groups, double iou_threshold) {
  return suppress(boxes, scores, &groups, iou_threshold);
}

// No number comes to the host: only the first counts[g] boxes of a row are boxes.
Tensor nms_sorted(const Tensor& boxes, const Tensor& counts, double iou_threshold) {
  STD_TORCH_CHECK(boxes.dim() == 3 && boxes.size(2) == 4, "rcnnkit: expected sorted boxes of shape (G, N, 4)");
  const int64_t rows = boxes.size(0), count = boxes.size(1);
  STD_TORCH_CHECK(counts.dim() == 1 && counts.size(0) == rows, "rcnnkit: expected one count a row");
  STD_TORCH_CHECK(counts.is_cuda() && counts.get_device_index() == boxes.get_device_index(),
                  "rcnnkit: expected the counts on the same device as the boxes");
  check_threshold(iou_threshold);
  const DeviceGuard guard(boxes.get_device_index());
  Tensor keep = stable::new_zeros(boxes, {rows, count}, ScalarType::Bool);
  if (rows == 0 || count == 0) return keep;
  const ScalarType type = compute_type(boxes.scalar_type());
  const Tensor sorted = stable::contiguous(stable::to(boxes, type));
  const Tensor numbers = stable::contiguous(stable::to(counts, ScalarType::Long));
  sweep_in(type, sorted, rows, count, nullptr, nullptr, data_of<int64_t>(numbers), iou_threshold, keep);
  return keep;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rcnnkit, CUDA, m) {
  m.impl("nms", TORCH_BOX(&nms));
  m.impl("batched_nms", TORCH_BOX(&batched_nms));
  m.impl("nms_sorted", TORCH_BOX(&nms_sorted));
}

}  // namespace rcnnkit
