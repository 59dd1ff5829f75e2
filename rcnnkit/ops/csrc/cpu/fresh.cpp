// Memory for large outputs. glibc gives such memory back to the system as soon as it is freed, and the page faults of
// asking for it again cost more than the kernels need to fill it; so some of it is kept for the next output.
#include "fresh.h"

#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/Exception.h>

#include <sys/mman.h>

#include <cstdlib>
#include <list>
#include <mutex>
#include <vector>

namespace rcnnkit {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

namespace {

constexpr int64_t kPage = 2 << 20;    // of the larger pages that a system may have; smaller outputs are not kept
constexpr int64_t kMost = 512 << 20;  // bytes that are kept unused

struct Block {
  void* memory;
  int64_t bytes;
};

class Kept {
 public:
  Block take(int64_t bytes) {
    {
      const std::lock_guard lock(mutex_);
      auto best = blocks_.end();
      for (auto it = blocks_.begin(); it != blocks_.end(); ++it)
        if (it->bytes >= bytes && it->bytes <= bytes + bytes / 4 && (best == blocks_.end() || it->bytes <= best->bytes))
          best = it;
      if (best != blocks_.end()) {
        const Block found = *best;
        blocks_.erase(best);
        bytes_ -= found.bytes;
        return found;
      }
    }
    void* memory = std::aligned_alloc(kPage, bytes);
    if (!memory) {
      shrink(0);
      memory = std::aligned_alloc(kPage, bytes);
    }
    STD_TORCH_CHECK(memory, "can't allocate memory for an output of ", bytes, " bytes");
#ifdef MADV_HUGEPAGE
    madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    return {memory, bytes};
  }

  void give_back(Block block) {
    if (block.bytes > kMost) return std::free(block.memory);
    {
      const std::lock_guard lock(mutex_);
      blocks_.push_back(block);
      bytes_ += block.bytes;
    }
    shrink(kMost);
  }

 private:
  // Frees what is unused for longest, until so many bytes are left.
  void shrink(int64_t most) {
    std::list<Block> freed;
    {
      const std::lock_guard lock(mutex_);
      while (bytes_ > most) {
        bytes_ -= blocks_.front().bytes;
        freed.splice(freed.end(), blocks_, blocks_.begin());
      }
    }
    for (const Block& block : freed) std::free(block.memory);
  }

  std::mutex mutex_;
  std::list<Block> blocks_;
  int64_t bytes_ = 0;
};

Kept& kept() {
  static Kept& all = *new Kept;  // outlives the tensors that are freed when the process ends
  return all;
}

}  // namespace

Tensor fresh(const Tensor& like, std::initializer_list<int64_t> sizes, std::optional<ScalarType> type) {
  const std::vector<int64_t> shape(sizes);
  const Tensor typed = type ? torch::stable::new_empty(like, {0}, type) : like;
  int64_t bytes = typed.element_size();
  for (const int64_t size : shape)
    STD_TORCH_CHECK(!__builtin_mul_overflow(bytes, size, &bytes), "an output of more than 2⁶³ bytes");
  if (bytes < kPage) return torch::stable::new_empty(like, shape, type);
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size() - 1; i > 0; --i) strides[i - 1] = strides[i] * shape[i];
  const Block block = kept().take((bytes + kPage - 1) / kPage * kPage);
  return torch::stable::from_blob(block.memory, shape, strides, like.device(), typed.scalar_type(),
                                  [block](void*) { kept().give_back(block); });
}

}  // namespace rcnnkit
