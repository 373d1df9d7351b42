// SPDX-License-Identifier: Apache-2.0
// What the pipelines of all families do alike with the folder of a model.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "pipelines/common/residence.h"
#include "pipelines/core/memory.h"
#include "pipelines/pipeline.h"
#include "pipelines/registry.h"

namespace sagelab {

// Beside Folder a family has sampler_of(folder, request) and decode_peak_bytes(folder.vae, decoding, target).
// Transformer and Vae are made of weights and folder.transformer or folder.vae; Rows are TextRows. Encoders
// are the family's own.
template <class Folder, class Transformer, class Vae, class Rows>
class FolderPipeline : public Pipeline {
 public:
  void expect(std::vector<Request> requests) override {
    rows_.expect(requests);
    residence_.expect(!requests.empty());
  }

  // The latents in the prompt's dtype, whatever the sampler computes in.
  void advance(State& state, int i, const at::Tensor& prediction) override {
    state.latents = state.sampler->step(prediction, i, state.latents, state.generator)
                        .to(state.conditioning.embeds.scalar_type());
  }

 protected:
  FolderPipeline(const Request& request, Residence::Available available, typename Rows::TextsOf texts_of)
      : folder_(request),
        target_(resolve_target(request)),
        residence_(folder_.components, target_, std::move(available)),
        rows_(texts_of) {}

  // What prepare() begins with: the transformer is loaded; the state has all but latents and what is the
  // family's own.
  template <class FamilyState>
  std::unique_ptr<FamilyState> begin(const Request& request, Conditioning conditioning,
                                     const RunContext& run) {
    if (!request.negative_prompt.empty() && !conditioning.guided)
      run.notice("the negative prompt has no effect: at this scale nothing is guided by it");
    if (!transformer_) residence_.make_room(residence_.bytes("transformer"), request, vae_);
    residence_.load(transformer_, "transformer", run,
                    [&](const Weights& w) { return Transformer(w, folder_.transformer); });
    auto state = std::make_unique<FamilyState>();
    state->conditioning = std::move(conditioning);
    state->sampler = sampler_of(folder_, request);
    state->steps = int(state->sampler->timesteps().size());
    state->generator = at::detail::createCPUGenerator(request.seed);
    return state;
  }

  // The VAE, loaded, with room for such a decoding.
  template <class Decoding>
  const Vae& vae_for(const Decoding& decoding, const Request& request, const RunContext& run) {
    const int64_t peak = decode_peak_bytes(folder_.vae, decoding, target_);
    residence_.make_room_to_decode(peak + (vae_ ? 0 : residence_.bytes("vae")), request, transformer_);
    residence_.load(vae_, "vae", run, [&](const Weights& w) { return Vae(w, folder_.vae); });
    return *vae_;
  }

  Folder folder_;
  Target target_;
  Residence residence_;
  std::unique_ptr<Transformer> transformer_;
  std::unique_ptr<Vae> vae_;
  Rows rows_;
};

}  // namespace sagelab
