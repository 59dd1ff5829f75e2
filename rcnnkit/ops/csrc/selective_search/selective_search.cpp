// Selective search (Uijlings et al., IJCV 2013): strategies, threads and ranking around segment, describe and group.
#include "../cpu/kernels.h"
#include "group.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <atomic>
#include <cstring>
#include <functional>

namespace rcnnkit::search {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr const char* kOp = "selective_search";

// All hierarchies from one segmentation.
struct Start {
  int colour;  // index into the colours
  float k;
  std::vector<int> similarities;
};

struct Strategies {
  std::vector<Colour> colours;
  std::vector<Start> starts;  // ascending by colour
};

// Rows (colour, k, similarity), gathered by colour, then by k.
Strategies read_strategies(const Tensor& rows) {
  STD_TORCH_CHECK(rows.dim() == 2 && rows.size(1) == 3 && rows.scalar_type() == ScalarType::Double &&
                      rows.is_contiguous(),
                  kOp, ": strategies must be (S, 3) float64");
  const auto* row = static_cast<const double*>(rows.data_ptr());
  Strategies result;
  for (int64_t i = 0; i < rows.size(0); ++i, row += 3) {
    STD_TORCH_CHECK(row[0] >= 0 && row[0] < kColours && row[1] > 0 && row[1] < 1e9 && row[2] >= 1 && row[2] < 16, kOp,
                    ": strategy ", i, " is (", row[0], ", ", row[1], ", ", row[2], ")");
    const auto colour = Colour(int(row[0]));
    const auto c = std::find(result.colours.begin(), result.colours.end(), colour) - result.colours.begin();
    if (c == int64_t(result.colours.size())) result.colours.push_back(colour);
    const auto same = [&](const Start& s) { return s.colour == int(c) && s.k == float(row[1]); };
    auto start = std::find_if(result.starts.begin(), result.starts.end(), same);
    if (start == result.starts.end()) start = result.starts.insert(start, {int(c), float(row[1]), {}});
    start->similarities.push_back(int(row[2]));
  }
  std::stable_sort(result.starts.begin(), result.starts.end(),
                   [](const Start& a, const Start& b) { return a.colour < b.colour; });
  return result;
}

struct Image {
  const uint8_t* pixels;
  Size size;
};

Image read_image(const Tensor& image) {
  STD_TORCH_CHECK(image.dim() == 3 && image.size(2) == 3 && image.scalar_type() == ScalarType::Byte &&
                      image.is_contiguous(),
                  kOp, ": image must be (height, width, 3) uint8, contiguous");
  STD_TORCH_CHECK(image.size(0) > 0 && image.size(1) > 0 && image.size(0) < 65536 && image.size(1) < 65536 &&
                      image.size(0) * image.size(1) <= (int64_t(1) << 27),
                  kOp, ": a picture of ", image.size(0), " × ", image.size(1), " cannot be searched");
  return {static_cast<const uint8_t*>(image.data_ptr()), {int(image.size(0)), int(image.size(1))}};
}

// f(0) … f(count - 1) on torch's threads, each taking the next one when it is free.
void in_parallel(int64_t count, const std::function<void(int64_t)>& f) {
  const int64_t threads = std::min<int64_t>(count, torch::stable::get_num_threads());
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    for (int64_t i = next++; i < count; i = next++) f(i);
  });
}

// What the strategies of one colour space share.
struct Prepared {
  Planes planes;
  Edges edges;
  Buffer<uint8_t> texture;
};

Prepared prepare(const Image& image, Colour colour, const Kernels& kernels) {
  Planes planes = convert(image.pixels, image.size, colour);
  Edges edges = sort_edges(planes, image.size, kernels);
  Buffer<uint8_t> texture = texture_planes(planes, image.size, kernels);
  return {std::move(planes), std::move(edges), std::move(texture)};
}

// A number in (0, 1) that depends on nothing but what it is drawn for.
double draw(uint64_t seed, uint64_t colour, uint64_t k, uint64_t similarity, uint64_t index) {
  uint64_t state = seed;
  for (uint64_t value : {colour, k, similarity, index}) {  // splitmix64
    state += 0x9e3779b97f4a7c15u + value;
    state = (state ^ state >> 30) * 0xbf58476d1ce4e5b9u;
    state = (state ^ state >> 27) * 0x94d049bb133111ebu;
    state ^= state >> 31;
  }
  return (double(state >> 11) + 0.5) * 0x1p-53;
}

struct Candidate {
  double value;  // lower is better
  uint64_t box;  // y1, x1, y2, x2, 16 bits each
};

uint64_t packed(const Box& box) {
  return uint64_t(box.y1) << 48 | uint64_t(box.x1) << 32 | uint64_t(box.y2) << 16 | uint64_t(box.x2);
}

// The hierarchies' regions: the root has priority 1, the first merge R - 1, the start regions R, once for each
// segmentation. A region's value is its priority times a random number (section 4.2).
class Ranking {
 public:
  Ranking(int min_side, int64_t seed) : min_side_(min_side), seed_(uint64_t(seed)) {}

  void add(const Box* boxes, int64_t count, int64_t first_priority, int step, const uint64_t (&of)[3]) {
    for (int64_t i = 0; i < count; ++i) {
      const Box& box = boxes[i];
      if (std::min(box.x2 - box.x1, box.y2 - box.y1) < min_side_) continue;
      const double value = double(first_priority + step * i) * draw(seed_, of[0], of[1], of[2], uint64_t(i));
      candidates_.push_back({value, packed(box)});
    }
  }

  // Each box once, where it ranks first; (N, 4) xyxy and descending scores 1 / (1 + value).
  std::tuple<Tensor, Tensor> sorted(const Tensor& like) {
    std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
      return a.value != b.value ? a.value < b.value : a.box < b.box;
    });
    size_t slots = 16;
    while (slots < 2 * candidates_.size()) slots *= 2;
    constexpr uint64_t free = ~uint64_t(0);  // no box: sides are positive
    std::vector<uint64_t> met(slots, free);
    int64_t count = 0;
    for (const Candidate& candidate : candidates_) {
      size_t at = candidate.box * 0x9e3779b97f4a7c15u >> 20 & (slots - 1);
      while (met[at] != free && met[at] != candidate.box) at = (at + 1) & (slots - 1);
      if (met[at] == free) {
        met[at] = candidate.box;
        candidates_[count++] = candidate;
      }
    }
    Tensor boxes = torch::stable::new_empty(like, {count, 4}, ScalarType::Float);
    Tensor scores = torch::stable::new_empty(like, {count}, ScalarType::Float);
    auto* box = static_cast<float*>(boxes.data_ptr());
    auto* score = static_cast<float*>(scores.data_ptr());
    for (int64_t i = 0; i < count; ++i, box += 4) {
      const uint64_t bits = candidates_[i].box;
      box[0] = float(bits >> 32 & 0xffff), box[1] = float(bits >> 48);
      box[2] = float(bits & 0xffff), box[3] = float(bits >> 16 & 0xffff);
      score[i] = float(1 / (1 + candidates_[i].value));
    }
    return {boxes, scores};
  }

 private:
  int min_side_;
  uint64_t seed_;
  std::vector<Candidate> candidates_;
};

std::tuple<Tensor, Tensor> selective_search(Tensor pixels, Tensor strategy_rows, int64_t min_side, int64_t seed) {
  const Image image = read_image(pixels);
  const Strategies strategies = read_strategies(strategy_rows);
  const Kernels& kernels = *level().search;
  Ranking ranking(int(std::clamp<int64_t>(min_side, 0, 65536)), seed);

  // As many colour spaces at a time as there are threads, so that memory grows with the threads alone.
  const int64_t at_once = std::max<int64_t>(1, torch::stable::get_num_threads());
  const int64_t colours = int64_t(strategies.colours.size());
  for (int64_t first = 0; first < colours; first += at_once) {
    const int64_t last = std::min(first + at_once, colours);
    std::vector<Prepared> prepared(last - first);
    in_parallel(last - first, [&](int64_t i) {
      prepared[i] = prepare(image, strategies.colours[first + i], kernels);
    });

    struct Work {
      const Start* start;
      Segmentation segmentation;
      Features features;
      std::vector<Hierarchy> hierarchies;
    };
    std::vector<Work> works;
    for (const Start& start : strategies.starts)
      if (start.colour >= first && start.colour < last)
        works.push_back({&start, {}, Features{BinLayout(1), {}, {}}, std::vector<Hierarchy>(start.similarities.size())});
    in_parallel(int64_t(works.size()), [&](int64_t i) {
      Work& work = works[i];
      const Prepared& colour = prepared[work.start->colour - first];
      work.segmentation = segment(colour.edges, image.size, work.start->k, int(work.start->k));
      work.features = describe(colour.planes, colour.texture, work.segmentation, image.size, kernels);
      work.segmentation.labels.clear();
    });
    prepared.clear();

    std::vector<std::pair<Work*, size_t>> hierarchies;
    for (Work& work : works)
      for (size_t s = 0; s < work.hierarchies.size(); ++s) hierarchies.emplace_back(&work, s);
    in_parallel(int64_t(hierarchies.size()), [&](int64_t i) {
      const auto [work, s] = hierarchies[i];
      work->hierarchies[s] =
          group(work->segmentation, work->features, work->start->similarities[s], image.size, kernels);
    });

    for (const Work& work : works) {
      const uint64_t colour = uint64_t(strategies.colours[work.start->colour]);
      uint32_t k;
      std::memcpy(&k, &work.start->k, 4);
      const int64_t count = work.segmentation.count;
      ranking.add(work.segmentation.boxes.data(), count, count, 0, {colour, k, 0});
      for (size_t s = 0; s < work.hierarchies.size(); ++s)
        ranking.add(work.hierarchies[s].boxes.data() + count, count - 1, count - 1, -1,
                    {colour, k, uint64_t(work.start->similarities[s])});
    }
  }
  return ranking.sorted(pixels);
}

// One strategy, with all that it did.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> hierarchy(Tensor pixels, Tensor strategy_rows) {
  const Image image = read_image(pixels);
  const Strategies strategies = read_strategies(strategy_rows);
  STD_TORCH_CHECK(strategy_rows.size(0) == 1, kOp, ": one strategy, please");
  const Kernels& kernels = *level().search;
  const Start& start = strategies.starts[0];
  const Prepared colour = prepare(image, strategies.colours[0], kernels);
  const Segmentation segmentation = segment(colour.edges, image.size, start.k, int(start.k));
  const Features features = describe(colour.planes, colour.texture, segmentation, image.size, kernels);
  const Hierarchy result = group(segmentation, features, start.similarities[0], image.size, kernels);

  const int64_t all = int64_t(result.boxes.size()), merges = int64_t(result.merges.size());
  Tensor labels = torch::stable::new_empty(pixels, {image.size.height, image.size.width}, ScalarType::Int);
  std::copy_n(segmentation.labels.get(), image.size.pixels(), static_cast<int32_t*>(labels.data_ptr()));
  Tensor boxes = torch::stable::new_empty(pixels, {all, 4}, ScalarType::Float);
  Tensor sizes = torch::stable::new_empty(pixels, {all}, ScalarType::Long);
  Tensor pairs = torch::stable::new_empty(pixels, {merges, 2}, ScalarType::Long);
  Tensor similarities = torch::stable::new_empty(pixels, {merges}, ScalarType::Float);
  for (int64_t i = 0; i < all; ++i) {
    const Box& box = result.boxes[i];
    float* to = static_cast<float*>(boxes.data_ptr()) + 4 * i;
    to[0] = float(box.x1), to[1] = float(box.y1), to[2] = float(box.x2), to[3] = float(box.y2);
    static_cast<int64_t*>(sizes.data_ptr())[i] = result.sizes[i];
  }
  for (int64_t i = 0; i < merges; ++i) {
    static_cast<int64_t*>(pairs.data_ptr())[2 * i] = result.merges[i].a;
    static_cast<int64_t*>(pairs.data_ptr())[2 * i + 1] = result.merges[i].b;
    static_cast<float*>(similarities.data_ptr())[i] = result.merges[i].similarity;
  }
  return {labels, boxes, sizes, pairs, similarities};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rcnnkit, CPU, m) {
  m.impl("selective_search", TORCH_BOX(&selective_search));
  m.impl("selective_search_hierarchy", TORCH_BOX(&hierarchy));
}

}  // namespace rcnnkit::search
