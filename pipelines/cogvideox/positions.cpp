// SPDX-License-Identifier: Apache-2.0
#include "pipelines/cogvideox/positions.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "attention/error.h"
#include "pipelines/cogvideox/transformer.h"
#include "pipelines/common/joint/grid_rope.h"

namespace sagelab::cogvideox {
namespace {

// Note [Order of rounding]
// Sin-cos tables follow diffusers operation by operation: coordinates in fp32, then frequencies, angles and
// sines in fp64, cast once. They are made where the model is, every forward: fp64 leaves no doubt there, and
// it costs less than carrying the table.

constexpr double kTheta = 10000.0;

struct Span {
  double start, stop;
};
struct Crop {
  Span height, width;
};

// Fits the grid into the base grid at constant aspect ratio (diffusers get_resize_crop_region_for_grid).
// nearbyint rounds half to even, as Python's round does.
Crop resize_crop(double height, double width, double base_height, double base_width) {
  double fitted_height = base_height, fitted_width = base_width;
  if (height / width > base_height / base_width)
    fitted_width = std::nearbyint(base_height / height * width);
  else
    fitted_height = std::nearbyint(base_width / width * height);
  const double top = std::nearbyint((base_height - fitted_height) / 2.0);
  const double left = std::nearbyint((base_width - fitted_width) / 2.0);
  return {{top, top + fitted_height}, {left, left + fitted_width}};
}

at::Tensor spaced(Span span, int64_t count) {
  return at::linspace(span.start, span.stop * double(count - 1) / double(count), count, at::kFloat);
}

// [sin | cos] of n positions, k / scale each: [n, dim] fp64.
at::Tensor sincos_axis(int64_t n, double scale, int64_t dim, at::Device device) {
  const at::Tensor positions = at::arange(n, at::TensorOptions(device).dtype(at::kFloat)).div(scale);
  const at::Tensor exponents =
      at::arange(dim / 2, at::TensorOptions(device).dtype(at::kDouble)).div_(double(dim) / 2.0);
  const at::Tensor angles = at::outer(positions.to(at::kDouble), at::pow(kTheta, exponents).reciprocal());
  return at::cat({angles.sin(), angles.cos()}, 1);
}

}  // namespace

Grid grid_of(const TransformerConfig& config, const Extent& extent) {
  return {extent.frames / config.temporal_patch(), extent.height / config.patch_size,
          extent.width / config.patch_size};
}

bool uses_learned_table(const TransformerConfig& config, const Extent& extent) {
  return config.learned_positions && config.sample_height == extent.height &&
         config.sample_width == extent.width &&
         config.sample_frames == (extent.frames - 1) * config.temporal_compression_ratio + 1;
}

void check_positions(const TransformerConfig& config, const Extent& extent) {
  const int64_t p = config.patch_size, pt = config.temporal_patch();
  TORCH_CHECK(extent.frames > 0 && extent.height > 0 && extent.width > 0 && extent.frames % pt == 0 &&
                  extent.height % p == 0 && extent.width % p == 0,
              "latents of ", extent.frames, " x ", extent.height, " x ", extent.width,
              " do not divide into patches of ", pt, " x ", p, " x ", p);
  const Grid grid = grid_of(config, extent);
  const int64_t base_height = config.sample_height / p, base_width = config.sample_width / p;
  if (config.rotary && config.patch_size_t && (grid.height > base_height || grid.width > base_width))
    throw Error(
        fmt::format("this model has positions for {} x {} patches at most, not for {} x {} (height x width)",
                    base_height, base_width, grid.height, grid.width),
        "ask for a smaller picture");
  const bool table = !config.rotary || config.learned_positions;
  if (config.learned_positions &&
      (config.sample_height != extent.height || config.sample_width != extent.width))
    throw Error(
        fmt::format(
            "this model has learned positions for latents of {} x {}, not of {} x {} (height x width)",
            config.sample_height, config.sample_width, extent.height, extent.width),
        "ask for the model's own size");
  if (table && extent.text_len != config.max_text_seq_length)
    throw Error(fmt::format("this model has positions for {} text tokens, not for {}",
                            config.max_text_seq_length, extent.text_len),
                fmt::format("use max_sequence_length {}", config.max_text_seq_length));
}

attention::Rope rope_table(const TransformerConfig& config, const Extent& extent, at::Device device) {
  if (!config.rotary) return {};
  check_positions(config, extent);
  const Grid grid = grid_of(config, extent);
  at::Tensor t = at::arange(grid.frames, at::kFloat), rows, columns;
  if (config.patch_size_t) {
    rows = at::arange(grid.height, at::kFloat);
    columns = at::arange(grid.width, at::kFloat);
  } else {
    const Crop crop =
        resize_crop(double(grid.height), double(grid.width), double(config.sample_height / config.patch_size),
                    double(config.sample_width / config.patch_size));
    t = spaced({0.0, double(grid.frames)}, grid.frames);
    rows = spaced(crop.height, grid.height);
    columns = spaced(crop.width, grid.width);
  }
  const int64_t dim_t = config.head_dim / 4, dim_s = config.head_dim / 8 * 3;
  const attention::Rope rope = grid_rope(
      {rotary_axis(t, dim_t, kTheta), rotary_axis(rows, dim_s, kTheta), rotary_axis(columns, dim_s, kTheta)},
      extent.text_len, 0);
  return {rope.cos.to(device), rope.sin.to(device), {}, {}};
}

void add_sincos_(const at::Tensor& video, const TransformerConfig& config) {
  const int64_t dim_t = config.dim() / 4, dim_s = config.dim() / 8 * 3;
  const auto axis = [&](int64_t n, double scale, int64_t dim) {
    return sincos_axis(n, scale, dim, video.device()).to(video.scalar_type());
  };
  // Width comes before height in the channels.
  const double scale = config.spatial_interpolation_scale;
  video.narrow(-1, 0, dim_t)
      .add_(axis(video.size(1), config.temporal_interpolation_scale, dim_t).unsqueeze(1).unsqueeze(1));
  video.narrow(-1, dim_t, dim_s).add_(axis(video.size(3), scale, dim_s));
  video.narrow(-1, dim_t + dim_s, dim_s).add_(axis(video.size(2), scale, dim_s).unsqueeze(1));
}

at::Tensor sincos_table(const TransformerConfig& config, const Extent& extent, const Target& target) {
  const Grid grid = grid_of(config, extent);
  at::Tensor table = at::zeros({1, extent.text_len + grid.tokens(), config.dim()},
                               at::TensorOptions(target.device).dtype(target.dtype));
  add_sincos_(table.narrow(1, extent.text_len, grid.tokens())
                  .view({1, grid.frames, grid.height, grid.width, config.dim()}),
              config);
  return table;
}

}  // namespace sagelab::cogvideox
