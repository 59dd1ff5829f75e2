// Launches non-maximum suppression: sorts on the device, and brings only the number of kept boxes to the host.
#include "nms.cuh"

#include <array>
#include <cmath>

#include "launch.cuh"

namespace rcnnkit {
namespace {

constexpr int64_t kMaskBudget = int64_t(8) << 20;  // words: 64 MiB

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

template <class T>
void sweep(const Tensor& boxes, const int64_t* groups, const int64_t* ranks, double threshold, Tensor& keep) {
  const int64_t count = boxes.size(0), blocks = (count + kBits - 1) / kBits;
  const int64_t words = mask_words(blocks, kMaskBudget);
  const Tensor masks = stable::new_empty(boxes, {words}, ScalarType::Long);
  const Tensor removed_words = stable::new_zeros(boxes, {blocks}, ScalarType::Long);
  Word* mask = static_cast<Word*>(masks.mutable_data_ptr());
  Word* removed = static_cast<Word*>(removed_words.mutable_data_ptr());
  const cudaStream_t stream = stream_of(boxes);
  for (int64_t first = 0, panel; first < blocks; first += panel) {
    panel = panel_blocks(first, blocks, kMaskBudget);
    nms_mask<T><<<dim3(unsigned(blocks - first), unsigned(panel)), kBits, 0, stream>>>(
        data_of<T>(boxes), groups, count, exact<T>(threshold), first, blocks, mask);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
    nms_sweep<kSweepWords><<<1, kSweepThreads, 0, stream>>>(groups, ranks, count, first, panel, blocks, mask, removed,
                                                            static_cast<bool*>(keep.mutable_data_ptr()));
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
}

Tensor suppress(const Tensor& boxes, const Tensor& scores, const Tensor* groups, double threshold) {
  const int64_t count = boxes.dim() == 2 ? boxes.size(0) : -1;
  STD_TORCH_CHECK(count >= 0 && boxes.size(1) == 4, "rcnnkit: expected boxes of shape (N, 4)");
  STD_TORCH_CHECK(scores.dim() == 1 && scores.size(0) == count, "rcnnkit: expected one score a box");
  STD_TORCH_CHECK(scores.is_cuda() && scores.get_device_index() == boxes.get_device_index(),
                  "rcnnkit: expected the scores on the same device as the boxes");
  STD_TORCH_CHECK(threshold >= 0, "rcnnkit: iou_threshold is ", threshold, "; it must be 0 or more");
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
    if (type == ScalarType::Double)
      sweep<double>(sorted, group_data, ranks, threshold, keep);
    else
      sweep<float>(sorted, group_data, ranks, threshold, keep);
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

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rcnnkit, CUDA, m) {
  m.impl("nms", TORCH_BOX(&nms));
  m.impl("batched_nms", TORCH_BOX(&batched_nms));
}

}  // namespace rcnnkit
