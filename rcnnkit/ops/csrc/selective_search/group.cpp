#include "group.h"

namespace rcnnkit::search {
namespace {

Box united(const Box& a, const Box& b) {
  return {std::min(a.x1, b.x1), std::min(a.y1, b.y1), std::max(a.x2, b.x2), std::max(a.y2, b.y2)};
}

int64_t area(const Box& box) { return int64_t(box.x2 - box.x1) * (box.y2 - box.y1); }

// Of equally similar pairs the older one goes first.
bool later(const Hierarchy::Merge& p, const Hierarchy::Merge& q) {
  if (p.similarity != q.similarity) return p.similarity < q.similarity;
  return std::pair(p.a, p.b) > std::pair(q.a, q.b);
}

// The histograms of all regions of a hierarchy: the first ones are shared, the merged ones its own.
class Histograms {
 public:
  Histograms(const Features& features, int similarity, int first_regions, const Kernels& kernels)
      : features_(features),
        kernels_(kernels),
        begin_(similarity & kTexture ? 0 : features.layout.colour),
        count_((similarity & kColour ? features.layout.total : features.layout.colour) - begin_),
        shared_(first_regions),
        counts_(int64_t(count_) * std::max(first_regions - 1, 0)),
        bins_(int64_t(count_) * std::max(first_regions - 1, 0)) {}

  float intersection(int a, int b) const {
    return float(kernels_.intersect(bins(a), bins(b), count_)) / float(unit(features_.layout));
  }
  void merge(int a, int b, int to, int64_t size) const {
    kernels_.merge(counts(a), counts(b), count_, share(size), counts_.get() + at(to), bins_.get() + at(to));
  }

 private:
  int64_t at(int region) const { return int64_t(region - shared_) * count_; }
  int64_t at_shared(int region) const { return int64_t(region) * features_.layout.total + begin_; }
  const int32_t* counts(int r) const { return r < shared_ ? features_.counts.get() + at_shared(r) : counts_.get() + at(r); }
  const int16_t* bins(int r) const { return r < shared_ ? features_.bins.get() + at_shared(r) : bins_.get() + at(r); }

  const Features& features_;
  const Kernels& kernels_;
  int begin_, count_, shared_;
  Buffer<int32_t> counts_;
  Buffer<int16_t> bins_;
};

}  // namespace

Hierarchy group(const Segmentation& segmentation, const Features& features, int similarity, Size size,
                const Kernels& kernels) {
  const int first_regions = segmentation.count, all = 2 * first_regions - 1;
  Hierarchy result{{}, segmentation.boxes, segmentation.sizes};
  result.merges.reserve(first_regions);
  result.boxes.reserve(all);
  result.sizes.reserve(all);
  const bool looks = similarity & (kColour | kTexture);
  const Histograms histograms(features, looks ? similarity : kColour, looks ? first_regions : 0, kernels);
  const double pixels = double(size.pixels());
  const auto similar = [&](int a, int b) {
    double sum = looks ? histograms.intersection(a, b) : 0;
    const double both = double(result.sizes[a] + result.sizes[b]);
    if (similarity & kSize) sum += 1 - both / pixels;
    if (similarity & kFill) sum += 1 - (double(area(united(result.boxes[a], result.boxes[b]))) - both) / pixels;
    return Hierarchy::Merge{a, b, float(sum)};
  };

  std::vector<std::vector<int>> neighbours(all);
  std::vector<Hierarchy::Merge> heap;
  heap.reserve(4 * segmentation.neighbours.size());
  for (uint64_t pair : segmentation.neighbours) {
    const int a = int(pair >> 32), b = int(pair & 0xffffffffu);
    neighbours[a].push_back(b);
    neighbours[b].push_back(a);
    heap.push_back(similar(a, b));
  }
  std::make_heap(heap.begin(), heap.end(), later);
  std::vector<uint8_t> gone(all, 0);
  std::vector<int> seen(all, -1);  // by which new region a neighbour was last met
  for (int fresh = first_regions; fresh < all; ++fresh) {
    Hierarchy::Merge best;
    do {  // pairs of which one region was merged already are dropped when they come up
      std::pop_heap(heap.begin(), heap.end(), later);
      best = heap.back();
      heap.pop_back();
    } while (gone[best.a] || gone[best.b]);
    gone[best.a] = gone[best.b] = 1;
    result.merges.push_back(best);
    result.boxes.push_back(united(result.boxes[best.a], result.boxes[best.b]));
    result.sizes.push_back(result.sizes[best.a] + result.sizes[best.b]);
    if (looks) histograms.merge(best.a, best.b, fresh, result.sizes.back());
    for (int parent : {best.a, best.b})
      for (int other : neighbours[parent])
        if (!gone[other] && seen[other] != fresh) {
          seen[other] = fresh;
          neighbours[fresh].push_back(other);
          neighbours[other].push_back(fresh);
          heap.push_back(similar(other, fresh));
          std::push_heap(heap.begin(), heap.end(), later);
        }
  }
  return result;
}

}  // namespace rcnnkit::search
