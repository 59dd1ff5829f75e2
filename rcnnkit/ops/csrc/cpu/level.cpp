// Which instruction set the kernels run on.
#include "kernels.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

#if defined(RCNNKIT_X86_LEVELS) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace rcnnkit {

namespace baseline { extern const Level level; }
#ifdef RCNNKIT_X86_LEVELS
namespace avx2 { extern const Level level; }
namespace avx512 { extern const Level level; }
namespace avx512bf16 { extern const Level level; }
namespace amx { extern const Level level; }
#endif

namespace {

#ifdef RCNNKIT_X86_LEVELS
// Tiles are a process's own after it has asked the system for them, which may refuse.
bool grants_tiles() {
#ifdef __linux__
  constexpr int kAskFor = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM of asm/prctl.h
  return syscall(SYS_arch_prctl, kAskFor, kTileData) == 0;
#else
  return false;
#endif
}
#endif

const Level& choose() {
  const Level* runs[5] = {&baseline::level};
  int count = 1;
#ifdef RCNNKIT_X86_LEVELS
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    runs[count++] = &avx2::level;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      runs[count++] = &avx512::level;
      if (__builtin_cpu_supports("avx512bf16")) {
        runs[count++] = &avx512bf16::level;
        if (__builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") && grants_tiles())
          runs[count++] = &amx::level;
      }
    }
  }
#endif
  const char* wanted = std::getenv("RCNNKIT_CPU_LEVEL");
  if (!wanted || !*wanted) return *runs[count - 1];
  std::string names;
  for (int i = 0; i < count; ++i) {
    if (std::string(wanted) == runs[i]->name) return *runs[i];
    names += (i ? ", " : "") + std::string(runs[i]->name);
  }
  throw std::runtime_error("RCNNKIT_CPU_LEVEL=" + std::string(wanted) + " does not run here; choose one of: " + names);
}

}  // namespace

const Level& level() {
  static const Level& chosen = choose();
  return chosen;
}

}  // namespace rcnnkit
