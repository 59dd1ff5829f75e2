// Memory for outputs.
#pragma once
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <initializer_list>
#include <optional>

namespace rcnnkit {

// An uninitialised, contiguous tensor on the CPU, of `like`'s type or of another. From 2 MiB on torch cannot resize it.
torch::stable::Tensor fresh(const torch::stable::Tensor& like, std::initializer_list<int64_t> sizes,
                            std::optional<torch::headeronly::ScalarType> type = std::nullopt);

}  // namespace rcnnkit
