// Non-maximum suppression: one kernel compares boxes 64 × 64 at a time into masks of 64 bits, another sweeps over
// the masks in the order of the scores. Both stay on the GPU.
//
// Boxes (x1, y1, x2, y2) come sorted, best score first. With groups they come sorted by group, and within a group
// by score: tiles of two groups apart are then passed over, and `ranks` says where a box stands among all scores.
//
// Several rows of `count` boxes each may be swept at once, as the grid's last dimension. Of row g the first
// `counts[g]` are boxes then, a number that only the device knows: what lies beyond ends at once, and is not kept.
#pragma once

#include "common.cuh"

namespace rcnnkit {

using Word = unsigned long long;
constexpr int kBits = 64;           // boxes in a word, and rows and columns of a tile
constexpr int kSweepThreads = 1024;
constexpr int kSweepWords = 4096;   // what shared memory has room for (32 KB): 262144 boxes

// Whether the better box `a` drops `b`. Boxes without a positive area drop nothing and are never dropped.
template <class T>
RCNNKIT_BOTH bool suppresses(const T* a, const T* b, T threshold) {
  const T a_width = a[2] - a[0], a_height = a[3] - a[1], b_width = b[2] - b[0], b_height = b[3] - b[1];
  if (!(a_width > 0 && a_height > 0 && b_width > 0 && b_height > 0)) return false;
  const T width = at_most(a[2], b[2]) - at_least(a[0], b[0]), height = at_most(a[3], b[3]) - at_least(a[1], b[1]);
  const T shared = width > 0 && height > 0 ? width * height : T(0);
  return shared / (a_width * a_height + b_width * b_height - shared) > threshold;
}

// The masks are made for a panel of rows at a time, so that their memory stays bounded: the number of row blocks,
// from block `first` of `blocks` on, whose masks fit in `budget` words.
inline int64_t panel_blocks(int64_t first, int64_t blocks, int64_t budget) {
  const int64_t left = blocks - first;
  return at_least<int64_t>(at_most<int64_t>(at_most(left, budget / (kBits * left)), 65535), 1);
}

inline int64_t mask_words(int64_t blocks, int64_t budget) {
  return at_least(at_most(budget, kBits * blocks * blocks), kBits * blocks);
}

// Bit j of a row's word for a column block: the row's box drops the block's box j. One block of 64 threads a tile;
// grid (blocks - first, row blocks of the panel, rows of boxes).
template <class T>
__global__ void nms_mask(const T* boxes, const int64_t* groups, const int64_t* counts, int64_t count, T threshold,
                         int64_t first, int64_t blocks, Word* mask) {
  boxes += blockIdx.z * count * 4;
  mask += int64_t(blockIdx.z) * gridDim.y * kBits * (blocks - first);
  if (counts) count = at_most(counts[blockIdx.z], count);
  const int64_t row_block = first + blockIdx.y, column_block = first + blockIdx.x;
  const int64_t row0 = row_block * kBits, column0 = column_block * kBits, row = row0 + threadIdx.x;
  if (column_block < row_block || column0 >= count) return;
  if (groups && groups[column0] > groups[at_most(row0 + kBits, count) - 1]) return;

  __shared__ T column_boxes[kBits][4];
  __shared__ int64_t column_groups[kBits];
  const int columns = int(at_most<int64_t>(kBits, count - column0)), t = threadIdx.x;
  if (t < columns) {
    for (int i = 0; i < 4; ++i) column_boxes[t][i] = boxes[(column0 + t) * 4 + i];
    if (groups) column_groups[t] = groups[column0 + t];
  }
  __syncthreads();
  if (row >= count) return;

  const T box[4] = {boxes[row * 4], boxes[row * 4 + 1], boxes[row * 4 + 2], boxes[row * 4 + 3]};
  const int64_t group = groups ? groups[row] : 0;
  Word word = 0;
  for (int j = row_block == column_block ? t + 1 : 0; j < columns; ++j)
    if ((!groups || column_groups[j] == group) && suppresses(box, column_boxes[j], threshold)) word |= Word(1) << j;
  mask[(row - first * kBits) * (blocks - first) + (column_block - first)] = word;
}

// Walks a panel's row blocks in order. One block of threads for each row of boxes, a multiple of 32 and at least 64;
// `removed` (blocks words, zero before the first panel) goes from panel to panel. Shared memory holds them where they
// are no more than kLocalWords.
template <int kLocalWords>
__global__ void __launch_bounds__(kSweepThreads)
    nms_sweep(const int64_t* groups, const int64_t* ranks, const int64_t* counts, int64_t count, int64_t first,
              int64_t panel, int64_t blocks, const Word* mask, Word* removed, bool* keep) {
  __shared__ Word local[kLocalWords], diagonal[2][kBits], kept;
  const int64_t stride = blocks - first;
  mask += blockIdx.x * panel * kBits * stride;
  removed += blockIdx.x * blocks;
  keep += blockIdx.x * count;
  if (counts) count = at_most(counts[blockIdx.x], count);
  const int64_t columns = at_most((count + kBits - 1) / kBits, blocks) - first;
  panel = at_most(panel, columns);
  const int t = threadIdx.x;
  const bool is_local = columns <= kLocalWords;
  Word* gone = is_local ? local : removed + first;
  if (is_local)
    for (int64_t c = t; c < columns; c += blockDim.x) local[c] = removed[first + c];
  if (t < kBits && first * kBits + t < count) diagonal[0][t] = mask[t * stride];
  __syncthreads();

  for (int64_t b = 0; b < panel; ++b) {
    const int64_t row0 = (first + b) * kBits;
    const int rows = int(at_most<int64_t>(kBits, count - row0));
    if (t == 0) {  // within the block each box depends on those before it
      Word alive = ~gone[b], result = 0;
      if (rows < kBits) alive &= (Word(1) << rows) - 1;
      while (alive) {
        const int i = __ffsll(alive) - 1;
        result |= Word(1) << i;
        alive &= ~(diagonal[b & 1][i] | Word(1) << i);
      }
      kept = result;
    }
    __syncthreads();

    const Word ours = kept;
    if (t < rows) keep[ranks ? ranks[row0 + t] : row0 + t] = ours >> t & 1;
    const int64_t next = row0 + kBits + t;  // the other half of `diagonal`, while nobody reads it
    if (t < kBits && b + 1 < panel && next < count)
      diagonal[(b + 1) & 1][t] = mask[(next - first * kBits) * stride + b + 1];
    // Each 32 threads (a warp) take a kept row and run along its words.
    for (int r = t / 32; r < rows; r += blockDim.x / 32) {
      if (!(ours >> r & 1)) continue;
      for (int64_t c = b + 1 + t % 32; c < columns; c += 32) {
        if (groups && groups[(first + c) * kBits] > groups[row0 + rows - 1]) break;  // no mask was made there
        const Word word = mask[(b * kBits + r) * stride + c];
        if (word) atomicOr(&gone[c], word);
      }
    }
    __syncthreads();
  }
  if (is_local)
    for (int64_t c = panel + t; c < columns; c += blockDim.x) removed[first + c] = local[c];
}

}  // namespace rcnnkit
