// Memory that is not worth zeroing; in huge pages where it is large, since page faults would cost more than the work.
#pragma once
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <new>
#include <utility>

namespace rcnnkit::search {

template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t count) {
    const size_t bytes = sizeof(T) * size_t(std::max<int64_t>(count, 1));
    large_ = bytes >= kPage;
    memory_ = static_cast<T*>(::operator new(bytes, std::align_val_t(large_ ? kPage : 64)));
#ifdef MADV_HUGEPAGE
    if (large_) madvise(memory_, bytes / kPage * kPage, MADV_HUGEPAGE);
#endif
  }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer() {
    if (memory_) ::operator delete(memory_, std::align_val_t(large_ ? kPage : 64));
  }

  T* get() const { return memory_; }
  T& operator[](int64_t i) const { return memory_[i]; }
  void clear() {
    Buffer none;
    swap(none);
  }

 private:
  static constexpr size_t kPage = size_t(2) << 20;
  void swap(Buffer& other) {
    std::swap(memory_, other.memory_);
    std::swap(large_, other.large_);
  }
  T* memory_ = nullptr;
  bool large_ = false;
};

}  // namespace rcnnkit::search
