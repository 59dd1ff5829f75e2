// Hierarchical grouping (IJCV 2013, algorithm 1).
#pragma once
#include "features.h"

namespace rcnnkit::search {

// Which similarities are added up (section 3.2.2): a set of these.
enum Similarity : int { kColour = 1, kTexture = 2, kSize = 4, kFill = 8 };

// Regions 0 … R - 1 are the segmentation's; R + i is the union of merges[i], the last one the whole picture.
struct Hierarchy {
  struct Merge {
    int a, b;
    float similarity;
  };
  std::vector<Merge> merges;
  std::vector<Box> boxes;
  std::vector<int64_t> sizes;
};

Hierarchy group(const Segmentation& segmentation, const Features& features, int similarity, Size size,
                const Kernels& kernels);

}  // namespace rcnnkit::search
