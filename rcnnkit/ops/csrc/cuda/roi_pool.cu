// Launches RoI max pooling and its gradient.
#include "roi_pool.cuh"

#include "launch.cuh"

namespace rcnnkit {
namespace {

std::tuple<Tensor, Tensor> roi_pool(const Tensor& input, const Tensor& rois, double spatial_scale,
                                    int64_t pooled_height, int64_t pooled_width, bool with_argmax) {
  const DeviceGuard guard(input.get_device_index());
  const Tensor regions = regions_of(rois, input);
  const Tensor output = new_output(input, rois.size(0), input.size(1), pooled_height, pooled_width);
  const Tensor argmax = with_argmax ? stable::new_empty(output, output.sizes(), ScalarType::Int)
                                    : stable::new_empty(output, {0}, ScalarType::Int);
  dispatch(input.scalar_type(), [&](auto element) {
    using S = decltype(element);
    using T = Compute<S>;
    launch(output, output.numel(), roi_pool_forward<S, T>, map_of<const S>(input), data_of<T>(regions),
           T(spatial_scale), map_of<S>(output),
           with_argmax ? static_cast<int32_t*>(argmax.mutable_data_ptr()) : nullptr);
  });
  return {output, argmax};
}

Tensor roi_pool_backward(const Tensor& grad, const Tensor& rois, const Tensor& argmax, int64_t batch,
                         int64_t channels, int64_t height, int64_t width, bool channels_last, bool deterministic) {
  const DeviceGuard guard(grad.get_device_index());
  STD_TORCH_CHECK(argmax.scalar_type() == ScalarType::Int && argmax.numel() == grad.numel(),
                  "rcnnkit: expected the int32 argmax that roi_pool returned");
  const Tensor regions = regions_of(rois, grad), cells = stable::contiguous(argmax);
  const Tensor sums = new_sums(grad, rois, batch, channels, height, width, channels_last);
  dispatch(grad.scalar_type(), [&](auto element) {
    using S = decltype(element);
    using T = Compute<S>;
    launch(sums, deterministic ? batch * channels : grad.numel(),
           deterministic ? roi_pool_in_order<S, T> : roi_pool_scatter<S, T>, map_of<const S>(grad),
           data_of<T>(regions), data_of<int32_t>(cells), map_of<T>(sums));
  });
  return stable::to(sums, grad.scalar_type());
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rcnnkit, CUDA, m) {
  m.impl("roi_pool", TORCH_BOX(&roi_pool));
  m.impl("roi_pool_backward", TORCH_BOX(&roi_pool_backward));
}

}  // namespace rcnnkit
