// Non-maximum suppression on the CPU.
//
// Each group's boxes lie sorted along the axis on which they are spread widest. The best box left marks the others
// that it suppresses, all of which begin within a short stretch of it: two boxes' IoU is at most that of their sides
// on one axis, so with IoU > t the other's side begins less than (1 − t) of this box's side after it, and less than
// (1 / t − 1) of it before. A box that was kept leaves the field, so that no later one can mark it.
#include "regions.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace rcnnkit {
namespace {

constexpr const char* kOp = "nms";

// Unsigned keys that ascend as the numbers do; all NaN are one key above infinity, and −0 is 0.
inline uint32_t ascending(float x) {
  if (x != x) return UINT32_MAX;
  x += 0.f;
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
inline uint64_t ascending(double x) {
  if (x != x) return UINT64_MAX;
  x += 0.;
  uint64_t bits;
  std::memcpy(&bits, &x, sizeof x);
  return bits >> 63 ? ~bits : bits | (uint64_t(1) << 63);
}

// Stable: a byte at a time, least first; bytes that all keys share are passed over.
template <class K>
void radix_sort(std::vector<int32_t>& order, const std::vector<K>& keys) {
  std::vector<int32_t> other(order.size());
  std::vector<uint32_t> counts(sizeof(K) * 256);
  for (K key : keys)
    for (size_t byte = 0; byte < sizeof(K); ++byte) ++counts[byte * 256 + (key >> 8 * byte & 255)];
  for (size_t byte = 0; byte < sizeof(K); ++byte) {
    uint32_t* count = counts.data() + byte * 256;
    if (keys.empty() || count[keys[0] >> 8 * byte & 255] == keys.size()) continue;
    uint32_t total = 0;
    for (int digit = 0; digit < 256; ++digit) total += std::exchange(count[digit], total);
    for (int32_t i : order) other[count[keys[i] >> 8 * byte & 255]++] = i;
    order.swap(other);
  }
}

// The largest number that is no greater than the threshold: comparing with it in T is comparing with it in double.
template <class T>
T rounded_down(double threshold) {
  const T rounded = T(threshold);
  return double(rounded) > threshold ? std::nextafter(rounded, -std::numeric_limits<T>::infinity()) : rounded;
}

// Which of one group's boxes are kept. `ranked` names them, best first; the rest belongs to the other groups too.
template <class T>
void suppress_group(const T* boxes, const int32_t* ranked, int64_t count, T threshold, uint8_t* kept) {
  std::vector<int32_t> valid;  // the others, with a side that is not positive or NaN, overlap nothing
  valid.reserve(count);
  double low[2] = {HUGE_VAL, HUGE_VAL}, high[2] = {-HUGE_VAL, -HUGE_VAL}, side_sum[2] = {0, 0};
  for (int64_t k = 0; k < count; ++k) {
    const T* box = boxes + 4 * int64_t(ranked[k]);
    if (!(box[2] > box[0] && box[3] > box[1])) {
      kept[ranked[k]] = 1;
      continue;
    }
    valid.push_back(ranked[k]);
    for (int a = 0; a < 2; ++a) {
      low[a] = std::min(low[a], double(box[a])), high[a] = std::max(high[a], double(box[a]));
      side_sum[a] += double(box[a + 2]) - double(box[a]);
    }
  }
  const int64_t n = int64_t(valid.size());
  const int axis = side_sum[1] * (high[0] - low[0]) < side_sum[0] * (high[1] - low[1]) ? 1 : 0;

  using Key = decltype(ascending(T()));
  std::vector<Key> keys(n);
  std::vector<int32_t> order(n);  // places along the axis → places in `valid`
  for (int64_t i = 0; i < n; ++i) {
    keys[i] = ascending(boxes[4 * int64_t(valid[i]) + axis]);
    order[i] = int32_t(i);
  }
  radix_sort(order, keys);
  const Scratch<T> memory(5 * n);
  std::vector<int32_t> dead(n, 0), place(n);
  const BoxArrays<T> field = {memory.get(),         memory.get() + n,     memory.get() + 2 * n,
                              memory.get() + 3 * n, memory.get() + 4 * n, dead.data()};
  double longest = 0;
  for (int64_t p = 0; p < n; ++p) {
    const T* box = boxes + 4 * int64_t(valid[order[p]]);
    field.x1[p] = box[0], field.y1[p] = box[1], field.x2[p] = box[2], field.y2[p] = box[3];
    field.area[p] = (box[2] - box[0]) * (box[3] - box[1]);
    place[order[p]] = int32_t(p);
    longest = std::max(longest, double(box[axis + 2]) - double(box[axis]));
  }

  const auto run = [&] {
    if constexpr (std::is_same_v<T, double>) return level().suppress_f64;
    else return level().suppress_f32;
  }();
  const T* starts = axis ? field.y1 : field.x1;
  // The IoU is rounded, so the stretch is taken a little wider than the exact inequality asks for.
  const double loose = std::max(0.0, double(threshold) - 1e-5);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t p = place[i];
    if (dead[p]) continue;
    const T* box = boxes + 4 * int64_t(valid[i]);
    kept[valid[i]] = 1;
    field.x2[p] = -std::numeric_limits<T>::infinity();
    const double start = box[axis], side = double(box[axis + 2]) - start, slack = 1e-6 * (side + std::abs(start));
    const double before = std::min(side * (1 / loose - 1), longest), after = side * (1 - loose);
    const T from = T(start - before - slack), to = T(start + after + slack);
    const int64_t begin = std::lower_bound(starts, starts + n, from) - starts;
    const int64_t end = std::upper_bound(starts + begin, starts + n, to) - starts;
    run(field, begin, end, box[0], box[1], box[2], box[3], field.area[p], threshold);
  }
}

void check_threshold(double threshold) {
  STD_TORCH_CHECK(threshold >= 0, kOp, ": iou_threshold is ", threshold, "; it must be 0 or more");
}

void check(const Tensor& boxes, const Tensor& scores, double threshold) {
  STD_TORCH_CHECK(boxes.dim() == 2 && boxes.size(1) == 4, kOp, ": boxes must be (N, 4)");
  STD_TORCH_CHECK(scores.dim() == 1 && scores.size(0) == boxes.size(0), kOp, ": scores must be (N,), one a box");
  STD_TORCH_CHECK(boxes.size(0) < INT32_MAX, kOp, ": too many boxes");
  check_threshold(threshold);
}

Tensor run(const Tensor& boxes_in, const Tensor& scores_in, const int64_t* groups, double threshold) {
  check(boxes_in, scores_in, threshold);
  const int64_t n = boxes_in.size(0);
  const auto sorted = [&](const auto& keys, std::vector<int32_t> order) {
    radix_sort(order, keys);
    return order;
  };
  std::vector<int32_t> ranked(n);
  for (int64_t i = 0; i < n; ++i) ranked[i] = int32_t(i);
  const auto rank = [&](auto type) {
    using T = decltype(type);
    const Tensor scores = torch::stable::contiguous(torch::stable::to(scores_in, scalar_type<T>));
    const T* score = static_cast<const T*>(scores.data_ptr());
    std::vector<decltype(ascending(T()))> keys(n);
    for (int64_t i = 0; i < n; ++i) keys[i] = ~ascending(score[i]);  // best first
    ranked = sorted(keys, std::move(ranked));
  };
  scores_in.scalar_type() == ScalarType::Double ? rank(double{}) : rank(float{});

  std::vector<uint8_t> kept(n, 0);
  for_dtype(boxes_in.scalar_type(), kOp, [&](auto type) {
    using T = Compute<decltype(type)>;
    const Tensor boxes = torch::stable::contiguous(torch::stable::to(boxes_in, scalar_type<T>));
    const T* box = static_cast<const T*>(boxes.data_ptr());
    const T limit = rounded_down<T>(threshold);
    if (!groups) return suppress_group(box, ranked.data(), n, limit, kept.data());
    std::vector<uint64_t> keys(n);
    for (int64_t i = 0; i < n; ++i) keys[i] = uint64_t(groups[i]);
    const std::vector<int32_t> order = sorted(keys, ranked);
    std::vector<int64_t> first;
    for (int64_t k = 0; k < n; ++k)
      if (k == 0 || keys[order[k]] != keys[order[k - 1]]) first.push_back(k);
    first.push_back(n);
    // Small groups are not worth another thread.
    const int64_t group_count = int64_t(first.size()) - 1, grain = n < 512 ? std::max<int64_t>(group_count, 1) : 1;
    torch::stable::parallel_for(0, group_count, grain, [&](int64_t begin, int64_t end) {
      for (int64_t g = begin; g < end; ++g)
        suppress_group(box, order.data() + first[g], first[g + 1] - first[g], limit, kept.data());
    });
  });

  int64_t count = 0;
  for (uint8_t k : kept) count += k;
  Tensor result = torch::stable::new_empty(boxes_in, {count}, ScalarType::Long);
  auto* out = static_cast<int64_t*>(result.data_ptr());
  for (int32_t i : ranked)
    if (kept[i]) *out++ = i;
  return result;
}

Tensor nms(Tensor boxes, Tensor scores, double iou_threshold) { return run(boxes, scores, nullptr, iou_threshold); }

Tensor batched_nms(Tensor boxes, Tensor scores, Tensor groups, double iou_threshold) {
  STD_TORCH_CHECK(groups.dim() == 1 && groups.size(0) == boxes.size(0), kOp, ": groups must be (N,), one a box");
  groups = torch::stable::contiguous(torch::stable::to(groups, ScalarType::Long));
  return run(boxes, scores, static_cast<const int64_t*>(groups.data_ptr()), iou_threshold);
}

// Rows of boxes, each sorted already, of which the first `counts` are boxes.
Tensor nms_sorted(Tensor boxes_in, Tensor counts, double iou_threshold) {
  STD_TORCH_CHECK(boxes_in.dim() == 3 && boxes_in.size(2) == 4, kOp, ": sorted boxes must be (G, N, 4)");
  STD_TORCH_CHECK(counts.dim() == 1 && counts.size(0) == boxes_in.size(0), kOp, ": counts must be (G,), one a row");
  STD_TORCH_CHECK(boxes_in.size(1) < INT32_MAX, kOp, ": too many boxes");
  check_threshold(iou_threshold);
  const int64_t rows = boxes_in.size(0), n = boxes_in.size(1);
  Tensor result = torch::stable::new_zeros(boxes_in, {rows, n}, ScalarType::Bool);
  counts = torch::stable::contiguous(torch::stable::to(counts, ScalarType::Long));
  const auto* count = static_cast<const int64_t*>(counts.data_ptr());
  auto* kept = static_cast<uint8_t*>(result.data_ptr());
  std::vector<int32_t> ranked(n);
  for (int64_t i = 0; i < n; ++i) ranked[i] = int32_t(i);
  for_dtype(boxes_in.scalar_type(), kOp, [&](auto type) {
    using T = Compute<decltype(type)>;
    const Tensor boxes = torch::stable::contiguous(torch::stable::to(boxes_in, scalar_type<T>));
    const T* box = static_cast<const T*>(boxes.data_ptr());
    const T limit = rounded_down<T>(iou_threshold);
    torch::stable::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t g = begin; g < end; ++g)
        if (const int64_t some = std::clamp<int64_t>(count[g], 0, n))
          suppress_group(box + 4 * n * g, ranked.data(), some, limit, kept + n * g);
    });
  });
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rcnnkit, CPU, m) {
  m.impl("nms", TORCH_BOX(&nms));
  m.impl("batched_nms", TORCH_BOX(&batched_nms));
  m.impl("nms_sorted", TORCH_BOX(&nms_sorted));
}

}  // namespace rcnnkit
