// Attention of whole rows: every token looks at every token of its row. See dense_attention.cpp.
#pragma once

#include "pointwise.h"

namespace TUTTI_MODULE {

// q, k, v, out bfloat16 [tokens, heads, dim], rows of which lie end to end: row g has the tokens starts[g] to
// starts[g + 1]. out = softmax(q k^T * scale) v.
struct DenseAttention {
  Grid q, k, v, out;
  int heads, dim;
  const int32_t* starts;
  int rows;
  float scale;
};

// Whether it is made here: in tiles, of heads whose width is whole tiles.
bool attends_densely(int dim);
void attend_densely(const DenseAttention& over, int threads);

}  // namespace TUTTI_MODULE
