// Launches RoIAlign and its gradient.
#include "roi_align.cuh"

#include "launch.cuh"

namespace rcnnkit {
namespace {

Tensor roi_align(const Tensor& input, const Tensor& rois, double spatial_scale, int64_t pooled_height,
                 int64_t pooled_width, int64_t sampling_ratio, bool aligned) {
  const DeviceGuard guard(input.get_device_index());
  const Tensor regions = regions_of(rois, input);
  const Tensor output = new_output(input, rois.size(0), input.size(1), pooled_height, pooled_width);
  dispatch(input.scalar_type(), [&](auto element) {
    using S = decltype(element);
    using T = Compute<S>;
    const AlignOptions<T> options{T(spatial_scale), int(sampling_ratio), aligned};
    launch(output, output.numel(), roi_align_forward<S, T>, map_of<const S>(input), data_of<T>(regions), options,
           map_of<S>(output));
  });
  return output;
}

Tensor roi_align_backward(const Tensor& grad, const Tensor& rois, double spatial_scale, int64_t batch,
                          int64_t channels, int64_t height, int64_t width, int64_t sampling_ratio, bool aligned,
                          bool channels_last, bool deterministic) {
  const DeviceGuard guard(grad.get_device_index());
  const Tensor regions = regions_of(rois, grad);
  const Tensor sums = new_sums(grad, rois, batch, channels, height, width, channels_last);
  dispatch(grad.scalar_type(), [&](auto element) {
    using S = decltype(element);
    using T = Compute<S>;
    const AlignOptions<T> options{T(spatial_scale), int(sampling_ratio), aligned};
    launch(sums, deterministic ? batch * channels * height : grad.numel(),
           deterministic ? roi_align_in_order<S, T> : roi_align_scatter<S, T>, map_of<const S>(grad),
           data_of<T>(regions), options, map_of<T>(sums));
  });
  return stable::to(sums, grad.scalar_type());
}

Tensor roi_align_backward_boxes(const Tensor& grad, const Tensor& input, const Tensor& rois, double spatial_scale,
                                int64_t sampling_ratio, bool aligned) {
  const DeviceGuard guard(grad.get_device_index());
  const Tensor regions = regions_of(rois, input);
  STD_TORCH_CHECK(grad.size(0) == rois.size(0) && grad.size(1) == input.size(1) &&
                      grad.scalar_type() == input.scalar_type(),
                  "rcnnkit: expected a gradient of shape (R, C, height, width) and of the input's type");
  const Tensor boxes = stable::new_empty(regions, {rois.size(0), 5});
  dispatch(grad.scalar_type(), [&](auto element) {
    using S = decltype(element);
    using T = Compute<S>;
    const AlignOptions<T> options{T(spatial_scale), int(sampling_ratio), aligned};
    launch_blocks(boxes, rois.size(0), kBoxThreads, roi_align_boxes<S, T>, map_of<const S>(grad),
                  map_of<const S>(input), data_of<T>(regions), options, static_cast<T*>(boxes.mutable_data_ptr()));
  });
  return boxes;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rcnnkit, CUDA, m) {
  m.impl("roi_align", TORCH_BOX(&roi_align));
  m.impl("roi_align_backward", TORCH_BOX(&roi_align_backward));
  m.impl("roi_align_backward_boxes", TORCH_BOX(&roi_align_backward_boxes));
}

}  // namespace rcnnkit
