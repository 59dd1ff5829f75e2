// What the launchers share: types, tensors as maps, streams and launches. Only torch's stable ABI is used.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <tuple>
#include <type_traits>

#include "common.cuh"

namespace rcnnkit {

namespace stable = torch::stable;
using stable::Tensor;
using torch::headeronly::ScalarType;
using stable::accelerator::DeviceGuard;

template <class S>
using Compute = std::conditional_t<std::is_same_v<S, double>, double, float>;

// Calls run(S()) for the type that elements are stored in.
template <class Run>
auto dispatch(ScalarType type, Run run) {
  switch (type) {
    case ScalarType::Float: return run(float());
    case ScalarType::Double: return run(double());
    case ScalarType::Half: return run(c10::Half());
    case ScalarType::BFloat16: return run(c10::BFloat16());
    default: STD_TORCH_CHECK(false, "rcnnkit: expected float32, float64, float16 or bfloat16");
  }
}

inline ScalarType compute_type(ScalarType type) {
  return type == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline cudaStream_t stream_of(const Tensor& tensor) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

// So many blocks of threads, up to a size; the kernels' loops do the rest.
template <class... Parameters, class... Arguments>
void launch_blocks(const Tensor& where, int64_t blocks, int threads, void (*kernel)(Parameters...),
                   Arguments... arguments) {
  if (blocks == 0) return;
  kernel<<<unsigned(at_most<int64_t>(blocks, 1 << 20)), threads, 0, stream_of(where)>>>(arguments...);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

// A thread for each of `total` indices.
template <class... Parameters, class... Arguments>
void launch(const Tensor& where, int64_t total, void (*kernel)(Parameters...), Arguments... arguments) {
  const int threads = 256;
  launch_blocks(where, (total + threads - 1) / threads, threads, kernel, arguments...);
}

template <class S>
Map<S> map_of(const Tensor& tensor) {
  Map<S> map;
  if constexpr (std::is_const_v<S>)
    map.data = static_cast<S*>(tensor.const_data_ptr());
  else
    map.data = static_cast<S*>(tensor.mutable_data_ptr());
  for (int i = 0; i < 4; ++i) map.size[i] = tensor.size(i), map.stride[i] = tensor.stride(i);
  return map;
}

// The regions on the device, in the type that the kernels compute in.
inline Tensor regions_of(const Tensor& rois, const Tensor& maps) {
  STD_TORCH_CHECK(maps.dim() == 4, "rcnnkit: expected a 4-D tensor of maps, got ", maps.dim(), " dimensions");
  STD_TORCH_CHECK(rois.dim() == 2 && rois.size(1) == 5, "rcnnkit: expected regions of shape (R, 5)");
  STD_TORCH_CHECK(rois.is_cuda() && rois.get_device_index() == maps.get_device_index(),
                  "rcnnkit: expected the regions on the same device as the maps");
  return stable::contiguous(stable::to(rois, compute_type(maps.scalar_type())));
}

template <class T>
const T* data_of(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

inline Tensor new_output(const Tensor& input, int64_t regions, int64_t channels, int64_t height, int64_t width) {
  STD_TORCH_CHECK(height > 0 && width > 0, "rcnnkit: expected a positive output size, got ", height, " × ", width);
  return stable::new_empty(input, {regions, channels, height, width});
}

// Zeros to sum a gradient in: float32 for the halves, whose own sums would be coarse.
inline Tensor new_sums(const Tensor& grad, const Tensor& rois, int64_t batch, int64_t channels, int64_t height,
                       int64_t width, bool channels_last) {
  STD_TORCH_CHECK(grad.size(0) == rois.size(0) && grad.size(1) == channels,
                  "rcnnkit: expected a gradient of shape (R, C, height, width)");
  using torch::headeronly::MemoryFormat;
  Tensor sums = stable::empty({batch, channels, height, width}, compute_type(grad.scalar_type()), std::nullopt,
                              grad.device(), std::nullopt,
                              channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous);
  return stable::zero_(sums);
}

}  // namespace rcnnkit
