// The periodic activation of neural vocoders, one pass over memory, float32. See snake.cpp.
#pragma once

#include "vector.h"

namespace TUTTI_MODULE {

constexpr int TAPS = 12;

// out = x + sin^2(speed * x) * height for x [rows, channels, samples]; speed, height [channels].
struct Snake {
  const float *x, *speed, *height;
  float* out;
  int rows, channels;
  int64_t samples;
  const float* taps;  // [TAPS], or null
};
// With `taps`, a low-pass filter at half the band, the activation is applied at twice the rate, between filters.
void snake(const Snake& work, int threads);

}  // namespace TUTTI_MODULE
