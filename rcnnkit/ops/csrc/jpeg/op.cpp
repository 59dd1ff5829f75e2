#include "check.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

namespace rcnnkit::jpeg {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

Tensor check_jpeg(Tensor data) {
  STD_TORCH_CHECK(data.dim() == 1 && data.scalar_type() == ScalarType::Byte && data.is_contiguous(),
                  "check_jpeg: data must be (N,) uint8");
  const Verdict verdict = check(static_cast<const uint8_t*>(data.data_ptr()), size_t(data.size(0)));
  Tensor result = torch::stable::new_empty(data, {3}, ScalarType::Long);
  auto* out = static_cast<int64_t*>(result.data_ptr());
  out[0] = int64_t(verdict.damage), out[1] = verdict.read, out[2] = verdict.blocks;
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rcnnkit, CPU, m) { m.impl("check_jpeg", TORCH_BOX(&check_jpeg)); }

}  // namespace rcnnkit::jpeg
