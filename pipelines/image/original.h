// SPDX-License-Identifier: Apache-2.0
// AutoencoderKL as latent-diffusion files name it (ae.safetensors): diffusers' convert_ldm_vae_checkpoint,
// read backwards. Decoders of four blocks, as all released ones have.
#pragma once

#include "pipelines/core/checkpoint/original.h"

namespace sagelab {

const OriginalNames& original_autoencoder_names();

}  // namespace sagelab
