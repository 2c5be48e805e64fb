// Several operations in one call, for steps of few rows: there the way through Python between them costs as much as the
// work. The operations are those of `matrix.h`, `pointwise.h` and `attention.h`, in the same order, so that every number
// is what they give one by one.
#pragma once

#include <vector>

#include "attention.h"
#include "matrix.h"
#include "pointwise.h"

namespace TUTTI_MODULE {

// A packed matrix of any form, and its bias (float32 [outputs] or null). Whoever makes it keeps both alive.
struct Linear {
  using Multiply = void (*)(const void* matrix, const Rows& x, int rows, const float* bias, const Rows& out,
                            int threads);
  const void* matrix;
  Multiply multiply;
  const float* bias;
  int outputs;
};

// Layers on the same input, their results side by side.
using Stack = std::vector<Linear>;

int outputs(const Stack& stack);

// out [rows][outputs(stack)] = x W^T + bias.
void multiply(const Stack& stack, const Rows& x, int rows, const Rows& out, int threads);

// An RMS norm: see `Norm`. `on` false: there is none.
struct Scaling {
  bool on;
  const void* weight;
  Type weight_type;
  float eps, offset;
};

// down(act(up(x))), gated or not. `up` empty: there is none.
struct FeedForward {
  Stack up, down;
  Activation activation;
  bool gated;

  int inner() const { return outputs(up) / (gated ? 2 : 1); }
};

// Attention and feed-forward on a residual stream. Without a feed-forward layer, what it would be given is the result.
struct Block {
  Scaling attention_norm, attention_out_norm, q_norm, k_norm, feed_forward_norm, feed_forward_out_norm;
  Stack qkv, out;
  int heads, kv_heads, head_dim;
  float scale;
  int window;          // 0: none
  float softcap;       // 0: none
  const float* sinks;  // [heads] or null
  FeedForward feed_forward;
};

// What a step brings. Its `attention` has the cache, the requests and the number of tokens; the rest is filled in.
struct Step {
  Attention attention;
  const float *cos, *sin;  // float32 [tokens][half], or null: no rotation
  int half;
  bool interleaved;
};

// x [tokens][width] and `residual` (null at the first layer) to `out_x` and `out_residual`, all of one type, contiguous.
void run(const Block& block, const Step& step, Type type, int width, const void* x, const void* residual, void* out_x,
         void* out_residual, int threads);

// out [rows][width] = sum over a row's experts, in the order given, of weight * expert(x). `chosen` [rows][active] are
// their numbers, `weights` float32 alike. What a row gets does not depend on the rows beside it.
void mix(const std::vector<FeedForward>& experts, Type type, int rows, int width, int active, const void* x,
         const int64_t* chosen, const float* weights, void* out, int threads);

}  // namespace TUTTI_MODULE
