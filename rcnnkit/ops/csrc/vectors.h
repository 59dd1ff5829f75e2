// Vectors as wide as the instruction set that a file is compiled for. The kernel files include this, each once a level, so
// all of it is in the level's namespace and in that file alone.
#pragma once
#include <cstdint>

#if defined(__AVX512F__)
#define RCNNKIT_VECTOR_BYTES 64
#elif defined(__AVX__)
#define RCNNKIT_VECTOR_BYTES 32
#else
#define RCNNKIT_VECTOR_BYTES 16
#endif

namespace rcnnkit::RCNNKIT_LEVEL {
namespace {

template <class T> struct Vectors {
  typedef T Wide __attribute__((vector_size(RCNNKIT_VECTOR_BYTES)));
  typedef T Loose __attribute__((vector_size(RCNNKIT_VECTOR_BYTES), aligned(sizeof(T)), may_alias));  // in memory
  static constexpr int lanes = RCNNKIT_VECTOR_BYTES / sizeof(T);
};
template <class T> using Wide = typename Vectors<T>::Wide;

template <class T> inline Wide<T> load(const T* from) {
  return *reinterpret_cast<const typename Vectors<T>::Loose*>(from);
}
template <class T> inline void store(T* to, Wide<T> vector) {
  *reinterpret_cast<typename Vectors<T>::Loose*>(to) = vector;
}

// The bits of bfloat16 from those of a float, to nearest, ties to even, for a value or a vector; the upper 16 count.
template <class Bits, class Float> inline Bits rounded_to_bfloat16(Bits bits, Float x) {
  const Bits rounded = bits + 0x7fffu + ((bits >> 16) & 1);
  return x == x ? rounded : bits | 0x400000u;
}

}  // namespace
}  // namespace rcnnkit::RCNNKIT_LEVEL
