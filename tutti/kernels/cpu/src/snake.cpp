#include "snake.h"

#include <algorithm>

namespace TUTTI_MODULE {

namespace {

constexpr int TILE = 512;         // samples that one thread makes at a time: all it needs of them stays in its cache
constexpr int HALF = TAPS / 2;    // taps of each phase: those that meet samples, and those that meet what is between
constexpr int BEYOND = HALF / 2;  // samples of the doubled signal's halves that a tile needs beyond each of its ends
constexpr int ROOM = TILE + 4 * BEYOND + 2 * LANES;

// To 2e-7 for |x| up to some ten thousand.
Floats sin_squared(Floats x) {
  const Floats n = round(x * 0.318309886f);
  Floats r = x - n * 3.140625f;  // pi in three parts: x - n pi without losing low bits
  r = r - n * 9.67502593994140625e-4f;
  r = r - n * 1.509957990978376432e-7f;
  const Floats square = r * r;
  Floats p = square * -2.3889859e-8f + 2.7525562e-6f;  // minimax on [-pi / 2, pi / 2]
  p = p * square - 1.9840874e-4f;
  p = p * square + 8.3333310e-3f;
  p = p * square - 1.6666667e-1f;
  const Floats sine = r + r * square * p;
  return sine * sine;
}

struct Bend {
  float speed, height;
  Floats operator()(Floats x) const { return x + sin_squared(x * speed) * height; }
};

// The sum of HALF neighbours, the first at `from`, times the taps of one phase.
Floats filtered(const float* from, const float* taps) {
  Floats total = load(from) * taps[0];
  for (int k = 1; k < HALF; k++) total += load(from + k) * taps[k];
  return total;
}

// The taps of the two phases, on the way up (which must make up for the zeros in between) and on the way down.
struct Phases {
  float even[HALF], odd[HALF], even_up[HALF], odd_up[HALF];
  explicit Phases(const float* taps) {
    for (int k = 0; k < HALF; k++) {
      even[k] = taps[2 * k], odd[k] = taps[2 * k + 1];
      even_up[k] = 2 * even[k], odd_up[k] = 2 * odd[k];
    }
  }
};

// Samples start to start + count of a row. The doubled signal is kept as its halves: what is at the samples' places
// less a quarter, and what is at them plus a quarter. Beyond its ends it goes on as it begins and ends.
void smooth_tile(const float* x, float* out, int64_t samples, int64_t start, int count, const Phases& taps, Bend bend) {
  alignas(64) float near[ROOM], first[ROOM], second[ROOM];
  const int64_t begin = start - BEYOND, end = begin + count + 2 * BEYOND;  // of the halves
  for (int i = 0; i < count + 4 * BEYOND; i++) near[i] = x[std::clamp<int64_t>(begin - BEYOND + i, 0, samples - 1)];
  for (int i = count + 4 * BEYOND; i < ROOM; i++) near[i] = 0;
  for (int i = 0; i < count + 2 * BEYOND; i += LANES) {
    store(first + i, bend(filtered(near + i, taps.even_up)));
    store(second + i, bend(filtered(near + i + 1, taps.odd_up)));
  }
  for (int64_t at = begin; at < 0; at++) first[at - begin] = second[at - begin] = first[-begin];
  for (int64_t at = samples; at < end; at++) first[at - begin] = second[at - begin] = second[samples - 1 - begin];
  for (int i = 0; i < count; i += LANES)
    store(out + start + i, filtered(first + i + 1, taps.odd) + filtered(second + i, taps.even), count - i);
}

void plain_tile(const float* x, float* out, int64_t start, int count, Bend bend) {
  for (int i = 0; i < count; i += LANES) store(out + start + i, bend(load(x + start + i, count - i)), count - i);
}

}  // namespace

void snake(const Snake& work, int threads) {
  const int64_t tiles = (work.samples + TILE - 1) / TILE, rows = int64_t(work.rows) * work.channels;
  const float none[TAPS] = {};
  const Phases phases(work.taps ? work.taps : none);
  if (double(rows) * work.samples < 4096) threads = 1;
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t task = 0; task < rows * tiles; task++) {
    const int64_t row = task / tiles, start = task % tiles * TILE;
    const int count = int(std::min<int64_t>(TILE, work.samples - start));
    const float* x = work.x + row * work.samples;
    float* out = work.out + row * work.samples;
    const Bend bend{work.speed[row % work.channels], work.height[row % work.channels]};
    if (work.taps)
      smooth_tile(x, out, work.samples, start, count, phases, bend);
    else
      plain_tile(x, out, start, count, bend);
  }
}

}  // namespace TUTTI_MODULE
