// SPDX-License-Identifier: Apache-2.0
// Means of K and V and the largest value of each channel of V, over all tokens or over sampled ones, in an
// order that does not depend on the machine: partial results of chunks of tokens, then their sum.
#include <algorithm>

#include "attention/sage2/prologue/dispatch.cuh"
#include "attention/sage2/prologue/stages.h"

namespace sagelab::attention::sage2 {
namespace {

// Slots of a chunk's statistics, each [D].
enum Slot { kSumK, kSumV, kMostV, kLeastV, kSlots };

__device__ float* slot(const Scratch& s, int64_t bh, int64_t chunk, Slot which, int dim) {
  return s.statistics + ((bh * s.chunks + chunk) * kSlots + which) * dim;
}

// What a thread, and then a block, has of kCount statistics of eight channels each, to be combined over its
// rows.
template <class Source, int kCount>
struct Combined {
  static constexpr int kWarps = kThreads / 32, kLanes = Source::kDim / kVector;
  using Shared = float[kWarps][kCount * Source::kDim];

  float x[kCount][kVector];

  // combine(which, a, b). Writes to[which * kDim + channel].
  template <class Combine>
  __device__ void write(float* to, Shared& shared, Combine combine) {
    __syncthreads();
#pragma unroll
    for (int which = 0; which < kCount; ++which) {
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        float value = x[which][i];
        for (int offset = kLanes; offset < 32; offset *= 2)
          value = combine(which, value, __shfl_xor_sync(0xffffffffu, value, offset));
        if (threadIdx.x % 32 < kLanes)
          shared[threadIdx.x / 32][which * Source::kDim + Source::column() + i] = value;
      }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < kCount * Source::kDim; i += kThreads) {
      float value = shared[0][i];
#pragma unroll
      for (int warp = 1; warp < kWarps; ++warp) value = combine(i / Source::kDim, value, shared[warp][i]);
      to[i] = value;
    }
  }
};

// What to look at: every token, or the sampled one of each block.
struct Visits {
  int64_t first, last, length;
  bool all;

  __device__ Visits(int64_t chunk, int64_t tokens, bool every) : length(tokens), all(every) {
    const int64_t count = all ? length : tiles(length, kSampleStride);
    first = chunk * statistics_chunk(all);
    last = min(first + statistics_chunk(all), count);
  }
  __device__ int64_t token(int64_t visit) const { return all ? visit : sampled_token(visit, length); }
  __device__ bool counts(int64_t token, Mean mean) const {
    return mean == Mean::Full ||
           (mean == Mean::Sampled && token == sampled_token(token / kSampleStride, length));
  }
};

// f(values, token) for each row of the visits that falls to this thread, several of them on their way at
// once.
template <class From, Stream kStream, class F>
__device__ void each_row(const PrologueParams& p, int head, const Visits& visits, F f) {
  constexpr int kAtOnce = 4;
  Reader<From, kStream> fetch(p, blockIdx.z, head), finish = fetch;
  for (int64_t base = visits.first; base < visits.last; base += kAtOnce * From::kRowsAtOnce) {
    typename From::Packed in[kAtOnce];
    int64_t token[kAtOnce];
#pragma unroll
    for (int n = 0; n < kAtOnce; ++n) {
      const int64_t visit = base + n * From::kRowsAtOnce + From::row();
      token[n] = visit < visits.last ? visits.token(visit) : visits.length;
      in[n] = fetch.fetch(token[n]);
    }
#pragma unroll
    for (int n = 0; n < kAtOnce; ++n) {
      float x[kVector];
      finish.finish(x, in[n], token[n]);
      if (token[n] < visits.length) f(x, token[n]);
    }
  }
}

template <class From>
__device__ void look_at_keys(const PrologueParams& p, int head, const Visits& visits, float* to) {
  __shared__ typename Combined<From, 1>::Shared shared;
  Combined<From, 1> all{};
  each_row<From, Stream::K>(p, head, visits, [&](float(&x)[kVector], int64_t) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) all.x[0][i] += finite(x[i]) ? x[i] : 0.f;
  });
  all.write(to, shared, [](int, float a, float b) { return a + b; });
}

template <class From>
__device__ void look_at_values(const PrologueParams& p, int head, const Visits& visits, float* to) {
  __shared__ typename Combined<From, 3>::Shared shared;
  Combined<From, 3> all;
#pragma unroll
  for (int i = 0; i < kVector; ++i) all.x[0][i] = 0, all.x[1][i] = -FLT_MAX, all.x[2][i] = FLT_MAX;
  const Settings& settings = p.shape.settings;
  const Mean range = whole_maxima(settings) ? Mean::Full : Mean::Sampled;
  each_row<From, Stream::V>(p, head, visits, [&](float(&x)[kVector], int64_t token) {
    const bool counts = visits.counts(token, settings.smooth_v), ranges = visits.counts(token, range);
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      x[i] = finite(x[i]) ? x[i] : 0.f;
      if (counts) all.x[0][i] += x[i];
      if (ranges) all.x[1][i] = fmaxf(all.x[1][i], x[i]), all.x[2][i] = fminf(all.x[2][i], x[i]);
    }
  });
  all.write(to, shared, [](int which, float a, float b) {
    return which == 0 ? a + b : which == 1 ? fmaxf(a, b) : fminf(a, b);
  });
}

// blockIdx: kv head, of V and then of K, chunk, batch: heads first, since they lie side by side in memory.
template <class T, int kLanes>
__global__ __launch_bounds__(kThreads, 3) void statistics_kernel(const __grid_constant__ PrologueParams p,
                                                                 Scratch scratch) {
  using From = Source<T, kLanes>;
  const Settings& settings = p.shape.settings;
  const bool keys = blockIdx.x >= p.shape.kv_heads;
  const int head = keys ? blockIdx.x - p.shape.kv_heads : blockIdx.x;
  const int64_t bh = int64_t(blockIdx.z) * p.shape.kv_heads + head, chunk = blockIdx.y;
  if (!(keys ? wants_k_mean(settings) : wants_v_statistics(settings))) return;
  const Visits visits(chunk, p.shape.kv_len,
                      keys ? looks_at_all_keys(settings) : looks_at_all_values(settings));
  if (visits.first >= visits.last) return;
  float* to = slot(scratch, bh, chunk, keys ? kSumK : kSumV, From::kDim);
  if (keys) {
    look_at_keys<From>(p, head, visits, to);
  } else {
    look_at_values<From>(p, head, visits, to);
  }
}

__host__ __device__ int64_t visited(const AttentionParams& shape, Mean mean) {
  return mean == Mean::Full ? shape.kv_len : tiles(shape.kv_len, kSampleStride);
}

constexpr int kParts = 4;  // of the chunks, each summed by threads of its own

// One statistic of a channel over n chunks: every kParts-th by this thread, then all parts, in this order.
template <class Combine>
__device__ float over_chunks(const float* first, int64_t pitch, int64_t n, float start, Combine combine) {
  __shared__ float parts[kParts][128];
  const int channel = threadIdx.x, part = threadIdx.y;
  float value = start;
#pragma unroll 4
  for (int64_t chunk = part; chunk < n; chunk += kParts) value = combine(value, first[chunk * pitch]);
  __syncthreads();
  parts[part][channel] = value;
  __syncthreads();
  value = parts[0][channel];
  for (int i = 1; i < kParts; ++i) value = combine(value, parts[i][channel]);
  return value;
}

// blockIdx: kv head, batch; threadIdx: channel, part of the chunks.
__global__ void finish_kernel(const __grid_constant__ PrologueParams p, Scratch scratch) {
  const int dim = blockDim.x, channel = threadIdx.x;
  const int64_t bh = int64_t(blockIdx.y) * p.shape.kv_heads + blockIdx.x, at = bh * dim + channel;
  const Settings& settings = p.shape.settings;
  const auto over = [&](Slot which, int64_t n, float start, auto combine) {
    return over_chunks(slot(scratch, bh, 0, which, dim) + channel, int64_t(kSlots) * dim, n, start, combine);
  };
  const auto add = [](float a, float b) { return a + b; };
  if (wants_k_mean(settings)) {
    const int64_t count = visited(p.shape, settings.smooth_k);
    const float sum = over(kSumK, tiles(count, statistics_chunk(looks_at_all_keys(settings))), 0, add);
    if (threadIdx.y == 0) p.x.k_mean[at] = sum / float(count);
  }
  if (!wants_v_statistics(settings)) return;
  const bool all = looks_at_all_values(settings);
  const int64_t n = tiles(visited(p.shape, all ? Mean::Full : Mean::Sampled), statistics_chunk(all));
  const float most = over(kMostV, n, -FLT_MAX, [](float a, float b) { return fmaxf(a, b); });
  const float least = over(kLeastV, n, FLT_MAX, [](float a, float b) { return fminf(a, b); });
  float mean = 0;
  if (settings.smooth_v != Mean::Off) {
    mean = over(kSumV, n, 0, add) / float(visited(p.shape, settings.smooth_v));
    if (fabsf(mean) < __fmul_rn(fmaxf(most, -least), kSmallMean)) mean = 0;
    if (threadIdx.y == 0) p.x.v_mean[at] = mean;
  }
  if (settings.v == VScale::Tile || threadIdx.y > 0) return;
  float amax = fmaxf(fabsf(most - mean), fabsf(least - mean));
  if (settings.v == VScale::Sampled) amax = fminf(amax * kVMargin, kLargest);
  const Step step = v_step_of(amax, settings.pv);
  p.x.v_scale[at] = step.scale;
  scratch.v_inverse[at] = step.inverse;
}

int64_t chunks_of(const AttentionParams& shape) {
  const auto count = [&](bool all) {
    return tiles(visited(shape, all ? Mean::Full : Mean::Sampled), statistics_chunk(all));
  };
  return std::max(count(looks_at_all_keys(shape.settings)), count(looks_at_all_values(shape.settings)));
}

}  // namespace

Scratch scratch_of(const PrologueParams& params) {
  const AttentionParams& shape = params.shape;
  const int64_t dim = padded_head_dim(shape.head_dim), heads = int64_t(shape.batch) * shape.kv_heads;
  const int64_t chunks = chunks_of(shape);
  float* v_inverse = params.partial + heads * chunks * kSlots * dim;
  return {params.partial, v_inverse, chunks};
}

int64_t partial_floats(const AttentionParams& shape) {
  const int64_t dim = padded_head_dim(shape.head_dim), heads = int64_t(shape.batch) * shape.kv_heads;
  return heads * dim * (chunks_of(shape) * kSlots + 1);
}

cudaError_t launch_statistics(const PrologueParams& params, cudaStream_t stream) {
  const AttentionParams& shape = params.shape;
  if (!wants_k_mean(shape.settings) && !wants_v_statistics(shape.settings)) return cudaSuccess;
  const Scratch scratch = scratch_of(params);
  const dim3 grid(2 * shape.kv_heads, unsigned(scratch.chunks), shape.batch);
  return dispatch(shape, [&]<class T, int kLanes>() {
    statistics_kernel<T, kLanes><<<grid, kThreads, 0, stream>>>(params, scratch);
    const cudaError_t status = cudaGetLastError();
    if (status != cudaSuccess) return status;
    finish_kernel<<<dim3(shape.kv_heads, shape.batch), dim3(kLanes * kVector, kParts), 0, stream>>>(params,
                                                                                                    scratch);
    return cudaGetLastError();
  });
}

}  // namespace sagelab::attention::sage2
