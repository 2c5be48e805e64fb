// Attention over the paged cache: see attention.cpp.
#pragma once

#include "vector.h"

namespace TUTTI_MODULE {

// A tensor [tokens, heads, dim] whose last dimension is contiguous; strides in elements.
struct Heads {
  void* data;
  size_t token_stride, head_stride;
};

// A cache tensor [blocks, kv_heads, block_size, dim] whose last dimension is contiguous; strides in elements.
struct Cache {
  void* data;
  size_t block_stride, head_stride, slot_stride;
};

struct Attention {
  Heads q, k, v, out;  // v.data null: values are a view of the keys. out has q's type
  Type type;           // of q, k, v and out
  Cache keys, values;
  Type cache_type;
  int tokens, heads, kv_heads, key_dim, value_dim, block_size;
  int requests;
  const int32_t *query_starts, *lengths, *block_table;
  size_t table_stride;
  const int64_t* slots;
  float scale;
  int window;          // 0: none
  float softcap;       // 0: none
  const float* sinks;  // [heads] or null
};

// Writes k and v at `slots`, then fills `out`; rows no request owns become zero.
void attend(const Attention& attention, int threads);

}  // namespace TUTTI_MODULE
