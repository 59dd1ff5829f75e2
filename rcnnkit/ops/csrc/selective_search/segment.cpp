#include "segment.h"

#include "filters.h"

#include <cmath>
#include <cstring>
#include <numeric>

namespace rcnnkit::search {
namespace {

// 9 taps of exp(−x² / 2σ²) that sum to 1.
void gaussian(double sigma, float* taps) {
  double values[kTaps], sum = 0;
  for (int i = 0; i < kTaps; ++i) sum += values[i] = std::exp(-0.5 * std::pow((i - kRadius) / sigma, 2));
  for (int i = 0; i < kTaps; ++i) taps[i] = float(values[i] / sum);
}

// A plane, filtered along its rows and columns, the border repeated.
Buffer<float> blur(const uint8_t* plane, Size size, const float* taps, const Kernels& kernels) {
  const int h = size.height, w = size.width;
  Buffer<float> across(size.pixels()), out(size.pixels()), padded(w + 2 * kRadius);
  for (int y = 0; y < h; ++y) {
    pad_row(plane + int64_t(y) * w, w, padded.get());
    kernels.filter_row(padded.get(), taps, w, across.get() + int64_t(y) * w);
  }
  for (int y = 0; y < h; ++y) {
    const float* rows[kTaps];
    around(across.get(), size, y, rows);
    kernels.filter_column(rows, taps, w, out.get() + int64_t(y) * w);
  }
  return out;
}

// The length that stands for all edges of a key: the middle of what the key holds.
float length_of(int key) {
  const uint32_t bits = (uint32_t(key) + kKeyBase) << kKeyShift | 1u << (kKeyShift - 1);
  float square;
  std::memcpy(&square, &bits, 4);
  return key ? std::sqrt(square - kKeyOffset) : 0.f;
}

// Directions of an edge from its pixel: right, down, down right, up right.
struct Direction {
  int dy, dx;
};
constexpr Direction kDirections[4] = {{0, 1}, {1, 0}, {1, 1}, {-1, 1}};

// Disjoint sets of pixels, each with what its root knows of it.
struct Forest {
  struct Tree {
    float limit;  // the longest edge that may join it to another
    int size;
  };
  Buffer<int> parent;
  Buffer<Tree> tree;

  Forest(int64_t count, float limit) : parent(count), tree(count) {
    std::iota(parent.get(), parent.get() + count, 0);
    std::fill_n(tree.get(), count, Tree{limit, 1});
  }
  int find(int x) const {
    int* const up = parent.get();
    for (int p = up[x]; p != x; p = up[x]) {
      up[x] = up[p];
      x = p;
    }
    return x;
  }
  int join(int a, int b) const {  // two roots → their new root
    if (tree[a].size < tree[b].size) std::swap(a, b);
    parent[b] = a;
    tree[a].size += tree[b].size;
    return a;
  }
};

// Each pair that touches, once: an open hash table of pairs.
class Pairs {
 public:
  Pairs() : slots_(1 << 12, kFree) {}
  void add(int a, int b) {
    const uint64_t pair = uint64_t(std::min(a, b)) << 32 | uint64_t(std::max(a, b));
    size_t at = pair * 0x9e3779b97f4a7c15u >> 20 & (slots_.size() - 1);
    while (slots_[at] != kFree) {
      if (slots_[at] == pair) return;
      at = (at + 1) & (slots_.size() - 1);
    }
    slots_[at] = pair;
    found_.push_back(pair);
    if (2 * found_.size() > slots_.size()) grow();
  }
  std::vector<uint64_t> take() { return std::move(found_); }

 private:
  static constexpr uint64_t kFree = ~uint64_t(0);
  void grow() {
    const auto pairs = std::move(found_);
    found_.clear();
    slots_.assign(4 * slots_.size(), kFree);
    for (uint64_t pair : pairs) add(int(pair >> 32), int(pair & 0xffffffffu));
  }
  std::vector<uint64_t> slots_, found_;
};

// The trees of the regions.
Forest join(const Edges& edges, Size size, float k, int min_size) {
  const int w = size.width;
  Forest forest(size.pixels(), k);
  int* const parent = forest.parent.get();
  Forest::Tree* const tree = forest.tree.get();
  int step[4];
  for (int d = 0; d < 4; ++d) step[d] = kDirections[d].dy * w + kDirections[d].dx;

  Buffer<uint32_t> rejected(edges.first.back());
  int64_t rejections = 0;
  // Edges lie anywhere in the picture, so their trees are fetched a block at a time: first where they were, without
  // waiting, then what became of them.
  constexpr uint32_t kBlock = 32;
  int near[kBlock], far[kBlock];
  int key = -1;
  float length = 0;
  const uint32_t count = edges.first.back();
  for (uint32_t begin = 0; begin < count; begin += kBlock) {
    const uint32_t end = std::min(begin + kBlock, count);
    for (uint32_t i = begin; i < end; ++i) {
      const uint32_t edge = edges.sorted[i];
      const int p = int(edge >> 2), q = p + step[edge & 3];
      near[i - begin] = parent[p] = parent[parent[p]];
      far[i - begin] = parent[q] = parent[parent[q]];
      __builtin_prefetch(tree + near[i - begin]);
      __builtin_prefetch(tree + far[i - begin]);
    }
    for (uint32_t i = begin; i < end; ++i) {
      const int a = forest.find(near[i - begin]), b = forest.find(far[i - begin]);
      if (a == b) continue;
      while (i >= edges.first[key + 1]) length = length_of(++key);
      if (length <= tree[a].limit && length <= tree[b].limit) {
        const int root = forest.join(a, b);
        tree[root].limit = length + k / float(tree[root].size);
      } else {
        rejected[rejections++] = edges.sorted[i];
      }
    }
  }
  for (int64_t i = 0; i < rejections; ++i) {
    const int p = int(rejected[i] >> 2);
    const int a = forest.find(p), b = forest.find(p + step[rejected[i] & 3]);
    if (a != b && (tree[a].size < min_size || tree[b].size < min_size)) forest.join(a, b);
  }
  return forest;
}

// Numbers the trees in raster order and notes what each covers and touches.
Segmentation number_trees(const Forest& forest, Size size) {
  const int h = size.height, w = size.width;
  const int64_t n = size.pixels();
  Segmentation result{0, Buffer<int32_t>(n), {}, {}, {}};
  int32_t* labels = result.labels.get();
  Buffer<int32_t> number(n);
  std::fill_n(number.get(), n, -1);
  Pairs pairs;
  for (int y = 0; y < h; ++y) {
    int32_t* row = labels + int64_t(y) * w;
    int left = -1, root_before = -1;
    uint64_t touched = ~uint64_t(0);
    for (int x = 0; x < w; ++x) {
      const int root = forest.find(int(int64_t(y) * w + x));
      if (root != root_before) {
        int32_t& label = number[root];
        if (label < 0) {
          label = result.count++;
          result.sizes.push_back(forest.tree[root].size);
          result.boxes.push_back({x, y, x + 1, y + 1});
        }
        if (left >= 0) {
          Box& box = result.boxes[left];
          box.x2 = std::max(box.x2, x);
          pairs.add(left, label);
        }
        left = label, root_before = root;
        Box& box = result.boxes[left];
        box.x1 = std::min(box.x1, x), box.y2 = y + 1;
      }
      row[x] = left;
      if (y > 0 && row[x - w] != left) {
        const uint64_t pair = uint64_t(row[x - w]) << 32 | uint32_t(left);
        if (pair != touched) pairs.add(row[x - w], left);
        touched = pair;
      }
    }
    Box& box = result.boxes[left];
    box.x2 = w;
  }
  result.neighbours = pairs.take();
  return result;
}

}  // namespace

Edges sort_edges(const Planes& planes, Size size, const Kernels& kernels) {
  const int h = size.height, w = size.width;
  const int64_t n = size.pixels();
  float taps[kTaps];
  gaussian(0.8, taps);
  Buffer<float> blurred[3];
  for (int c = 0; c < planes.count; ++c) blurred[c] = blur(planes.values.get() + c * n, size, taps, kernels);

  Buffer<uint16_t> keys(4 * n);
  std::vector<uint32_t> first(kKeys + 1, 0);
  const auto each_row = [&](auto&& f) {  // (direction, row, first column, last column)
    for (int y = 0; y < h; ++y)
      for (int d = 0; d < 4; ++d) {
        const auto [dy, dx] = kDirections[d];
        if (y + dy >= 0 && y + dy < h && w > dx) f(d, y, w - dx);
      }
  };
  each_row([&](int d, int y, int count) {
    const float *from[3], *to[3];
    const auto [dy, dx] = kDirections[d];
    for (int c = 0; c < planes.count; ++c) {
      from[c] = blurred[c].get() + int64_t(y) * w;
      to[c] = from[c] + dy * w + dx;
    }
    uint16_t* key = keys.get() + d * n + int64_t(y) * w;
    kernels.edge_keys(from, to, planes.count, count, key);
    for (int x = 0; x < count; ++x) ++first[key[x] + 1];
  });
  std::partial_sum(first.begin(), first.end(), first.begin());
  Buffer<uint32_t> sorted(first.back());
  std::vector<uint32_t> next(first.begin(), first.end() - 1);
  each_row([&](int d, int y, int count) {
    const int64_t at = int64_t(y) * w;
    const uint16_t* key = keys.get() + d * n + at;
    for (int x = 0; x < count; ++x) sorted[next[key[x]]++] = uint32_t(4 * (at + x) + d);
  });
  return {std::move(sorted), std::move(first)};
}

Segmentation segment(const Edges& edges, Size size, float k, int min_size) {
  return number_trees(join(edges, size, k, min_size), size);
}

}  // namespace rcnnkit::search
