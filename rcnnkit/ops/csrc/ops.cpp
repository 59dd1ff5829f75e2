// The operators' schemas. `deterministic` chooses between CUDA kernels; on the CPU every sum has one order.
// Kernels register themselves: cpu/*.cpp in this library, cuda/*.cu in the other.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(rcnnkit, m) {
  m.def("nms(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor");
  m.def("batched_nms(Tensor boxes, Tensor scores, Tensor groups, float iou_threshold) -> Tensor");
  m.def("nms_sorted(Tensor boxes, Tensor counts, float iou_threshold) -> Tensor");
  m.def("best_overlaps(Tensor boxes, Tensor objects, bool ties) -> (Tensor, Tensor, Tensor)");
  m.def(
      "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width,"
      " int sampling_ratio, bool aligned) -> Tensor");
  m.def(
      "roi_align_backward(Tensor grad, Tensor rois, float spatial_scale, SymInt batch, SymInt channels,"
      " SymInt height, SymInt width, int sampling_ratio, bool aligned, bool channels_last,"
      " bool deterministic) -> Tensor");
  m.def(
      "roi_align_backward_boxes(Tensor grad, Tensor input, Tensor rois, float spatial_scale, int sampling_ratio,"
      " bool aligned) -> Tensor");
  m.def(  // both of them at once, on the CPU alone
      "roi_align_backward_both(Tensor grad, Tensor input, Tensor rois, float spatial_scale, int sampling_ratio,"
      " bool aligned, bool channels_last) -> (Tensor, Tensor)");
  m.def(
      "roi_pool(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width,"
      " bool with_argmax) -> (Tensor, Tensor)");
  m.def(
      "roi_pool_backward(Tensor grad, Tensor rois, Tensor argmax, SymInt batch, SymInt channels,"
      " SymInt height, SymInt width, bool channels_last, bool deterministic) -> Tensor");
  m.def(
      "warp_regions(Tensor input, Tensor rois, Tensor fill, int height, int width, int context, bool square)"
      " -> Tensor");
  m.def(
      "warp_regions_backward(Tensor grad, Tensor rois, SymInt batch, SymInt channels, SymInt height,"
      " SymInt width, int context, bool square, bool channels_last, bool deterministic) -> Tensor");
  // Channels last: input (B, H, W, C), residual (B, H, W, O), weights as conv2d.py and conv3x3.py make them.
  m.def(
      "conv2d(Tensor input, Tensor weight, Tensor bias, Tensor? residual, int height, int width, int stride,"
      " int padding, bool relu) -> Tensor");
  m.def("conv3x3(Tensor input, Tensor weight, Tensor bias, Tensor? residual, bool relu) -> Tensor");
  m.def("max_pool2d(Tensor input, int size, int stride, int padding, bool ceil_mode) -> Tensor");
  m.def("has_tiles() -> bool");  // whether conv2d multiplies bfloat16 in tiles
  m.def("check_jpeg(Tensor data) -> Tensor");
  // Rows of `strategies` are (colour space, k, similarities), numbered as in selective_search.py.
  m.def("selective_search(Tensor image, Tensor strategies, int min_side, int seed) -> (Tensor, Tensor)");
  m.def("selective_search_hierarchy(Tensor image, Tensor strategies) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
}
