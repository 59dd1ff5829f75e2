// Graph-based segmentation (Felzenszwalb and Huttenlocher, IJCV 2004).
#pragma once
#include "colour.h"
#include "kernels.h"

#include <vector>

namespace rcnnkit::search {

struct Box {
  int x1, y1, x2, y2;  // half-open
};

// The 8-neighbour edges of a picture, ascending by the distance of their ends' blurred colours (sigma 0.8).
struct Edges {
  Buffer<uint32_t> sorted;        // 4 · pixel + direction
  std::vector<uint32_t> first;    // edges of key k are sorted[first[k]] … sorted[first[k + 1] - 1]
};

Edges sort_edges(const Planes& planes, Size size, const Kernels& kernels);

// The start regions of one segmentation, numbered in raster order.
struct Segmentation {
  int count;
  Buffer<int32_t> labels;               // (height, width)
  std::vector<int64_t> sizes;           // pixels
  std::vector<Box> boxes;
  std::vector<uint64_t> neighbours;     // pairs a < b that touch (4-connectivity), each once: a << 32 | b
};

// Regions are joined while no edge between them is longer than either's longest inner one plus k / its size, and then
// while one has fewer pixels than min_size.
Segmentation segment(const Edges& edges, Size size, float k, int min_size);

}  // namespace rcnnkit::search
