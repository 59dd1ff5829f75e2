// Launches R-CNN's warp and its gradient.
#include "warp_regions.cuh"

#include "launch.cuh"

namespace rcnnkit {
namespace {

void check_context(int64_t context, int64_t height, int64_t width) {
  STD_TORCH_CHECK(context >= 0 && 2 * context < at_most(height, width), "rcnnkit: context ", context,
                  " leaves nothing of an output of ", height, " × ", width);
}

Tensor warp_regions(const Tensor& input, const Tensor& rois, const Tensor& fill, int64_t height, int64_t width,
                    int64_t context, bool square) {
  const DeviceGuard guard(input.get_device_index());
  const Tensor regions = regions_of(rois, input);
  STD_TORCH_CHECK(fill.dim() == 1 && fill.size(0) == input.size(1), "rcnnkit: expected one fill a channel");
  STD_TORCH_CHECK(fill.is_cuda() && fill.get_device_index() == input.get_device_index(),
                  "rcnnkit: expected the fill on the same device as the pictures");
  const Tensor fills = stable::contiguous(stable::to(fill, compute_type(input.scalar_type())));
  const Tensor output = new_output(input, rois.size(0), input.size(1), height, width);
  check_context(context, height, width);
  dispatch(input.scalar_type(), [&](auto element) {
    using S = decltype(element);
    using T = Compute<S>;
    launch(output, output.numel(), warp_forward<S, T>, map_of<const S>(input), data_of<T>(regions),
           data_of<T>(fills), WarpOptions{int(context), square}, map_of<S>(output));
  });
  return output;
}

Tensor warp_regions_backward(const Tensor& grad, const Tensor& rois, int64_t batch, int64_t channels, int64_t height,
                             int64_t width, int64_t context, bool square, bool channels_last, bool deterministic) {
  const DeviceGuard guard(grad.get_device_index());
  const Tensor regions = regions_of(rois, grad);
  check_context(context, grad.size(2), grad.size(3));
  const Tensor sums = new_sums(grad, rois, batch, channels, height, width, channels_last);
  dispatch(grad.scalar_type(), [&](auto element) {
    using S = decltype(element);
    using T = Compute<S>;
    launch(sums, deterministic ? batch * channels * height : grad.numel(),
           deterministic ? warp_in_order<S, T> : warp_scatter<S, T>, map_of<const S>(grad), data_of<T>(regions),
           WarpOptions{int(context), square}, map_of<T>(sums));
  });
  return stable::to(sums, grad.scalar_type());
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rcnnkit, CUDA, m) {
  m.impl("warp_regions", TORCH_BOX(&warp_regions));
  m.impl("warp_regions_backward", TORCH_BOX(&warp_regions_backward));
}

}  // namespace rcnnkit
