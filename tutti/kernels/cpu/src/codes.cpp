// Products of grouped weights and bfloat16 rows in whole numbers, as far as they go.
//
// A row becomes int8, 32 numbers with a scale of their own; weights are taken by their codes. What a unit of inputs adds
// to an output (32 of them, or 16 where groups are as small) is an exact sum of products of codes, made a float once:
//
//     sum over units of   scale * x's scale * sum of (code - zero) * x's code
//                         + shift * x's scale * sum of x's codes
//
// Units follow one another in the order of the inputs, however many rows there are and in whatever instructions their
// products are made: what a row gives does not depend on the rows beside it.
#include <stdexcept>

#include "grouped.h"
#include "panels.h"

namespace TUTTI_MODULE {

namespace {

constexpr int BLOCK = 32;                      // numbers of a row with one scale
constexpr int INPUTS = 512;                    // of a panel unpacked at a time: half of a first-level cache
constexpr int FEW = LANES == 16 ? 3 : 2;       // rows whose sums of both kinds fit the registers
constexpr int UNSIGNED = int32_t(0x80808080);  // turns signed bytes into those plus 128, and back

// Numbers that lie FROM bits apart in the lower bits of a word, eight bits apart.
template <int FROM>
Words spread(Words word) {
  if constexpr (FROM == 2) {  // 0 2 4 6
    word &= 0xff;
    word = (word | (word << 12)) & 0x000f000f;
    return (word | (word << 6)) & 0x03030303;
  } else {  // 0 4 8 12
    word &= 0xffff;
    word = (word | (word << 8)) & 0x00ff00ff;
    return (word | (word << 4)) & 0x0f0f0f0f;
  }
}

// table[code] in each byte, codes below 16.
struct ByteLookup {
  explicit ByteLookup(const float* table) {
    int8_t bytes[LANES * 4];
    for (int i = 0; i < LANES * 4; i++) bytes[i] = int8_t(uint8_t(int(table[i % 16]) + 128));
    all = load_raw<Words>(bytes);
  }
  Words operator()(Words codes) const {
#if defined(__AVX512BW__)
    return reinterpret_cast<Words>(
        _mm512_shuffle_epi8(reinterpret_cast<__m512i>(all), reinterpret_cast<__m512i>(codes)));
#else
    return reinterpret_cast<Words>(
        _mm256_shuffle_epi8(reinterpret_cast<__m256i>(all), reinterpret_cast<__m256i>(codes)));
#endif
  }
  Words all;
};

// The order in which codes lie in words, when words of the plane are unpacked bit by bit: place in a run -> input.
int place_of(int low_bits, int place) {
  const int words = 8 / low_bits, run = 4 * words;  // of one word of the plane: so many words of bytes
  const int within = place % run;
  return place - within + within / 4 + within % 4 * words;
}

}  // namespace

// Rows in codes, in the order of the weights' codes.
struct Codes {
  Codes(int rows, int inputs, int unit)
      : blocks(inputs / BLOCK),
        units(inputs / unit),
        stride(inputs),
        codes(allocate<int8_t>(size_t(rows) * inputs)),
        scales(allocate<float>(size_t(rows) * units)),
        offsets(allocate<float>(size_t(rows) * units)),
        sums(allocate<int32_t>(size_t(rows) * units)) {}

  // Row `r` from `x`, whose order is `places` [BLOCK].
  template <class T>
  void take(int r, const T* x, const int* places) {
    const int unit = int(stride) / units;
    for (int block = 0; block < blocks; block++) {
      int8_t plain[BLOCK];
      const float scale = quantize_row(x + block * BLOCK, BLOCK, plain, BLOCK).scale;
      int8_t* to = codes.get() + size_t(r) * stride + block * BLOCK;
      for (int i = 0; i < BLOCK; i++) to[i] = plain[places[i]];
      for (int first = 0; first < BLOCK; first += unit) {
        int32_t sum = 0;
        for (int i = 0; i < unit; i++) sum += plain[first + i];
        const size_t at = size_t(r) * units + (block * BLOCK + first) / unit;
        scales[at] = scale;
        offsets[at] = scale * float(sum);
        sums[at] = sum;
      }
    }
  }

  const int blocks, units;
  const size_t stride;
  Buffer<int8_t> codes;   // [rows][inputs]
  Buffer<float> scales;   // [rows][units]
  Buffer<float> offsets;  // [rows][units]: what a shift of one adds
  Buffer<int32_t> sums;   // [rows][units], of codes
};

// One thread's memory for a part of a panel, and its tiles.
class Workspace {
 public:
  Workspace()
      : bytes(allocate<int32_t>(INPUTS / 4 * PANEL)),
        scales(allocate<float>(INPUTS / 16 * PANEL)),
        shifts(allocate<float>(INPUTS / 16 * PANEL)),
        made(allocate<int32_t>(8 * TILE_ROWS * LANES)) {}

  Buffer<int32_t> bytes;          // [INPUTS / 4][PANEL]
  Buffer<float> scales, shifts;   // [units][PANEL]
  Buffer<int32_t> made;           // eight tiles of sums
  Tiles tiles;
};

namespace {

// A part of a panel: `units` of them from unit `first` of the row on. Bytes are codes, of which `zero` stands for nothing,
// or (SIGNED, for tiles) what codes stand for.
struct Part {
  const int32_t* bytes;
  const float *scales, *shifts;  // [units][PANEL]
  int first, units, zero;
};

// What a unit adds to `total`.
template <bool SHIFT>
[[gnu::always_inline]] inline Floats settled(Floats total, Words sum, Floats scale, Floats shift, float x_scale,
                                             float x_offset) {
  total += __builtin_convertvector(sum, Floats) * (scale * x_scale);
  if constexpr (SHIFT) total += shift * x_offset;
  return total;
}

// sums [M][PANEL] += rows row .. row + M times the part.
template <int UNIT, bool SHIFT, bool SIGNED, int M>
void multiply_rows(const Part& part, const Codes& x, int row, float* sums) {
  constexpr int WORDS = UNIT / 4;
  const int zero = SIGNED ? 128 : part.zero;
  Floats totals[M][VECTORS];
  for (int r = 0; r < M; r++)
    for (int v = 0; v < VECTORS; v++) totals[r][v] = load(sums + r * PANEL + v * LANES);
  const int8_t* codes = x.codes.get() + row * x.stride + part.first * UNIT;
  const size_t first = size_t(row) * x.units + part.first;
  for (int unit = 0; unit < part.units; unit++) {
    Words made[M][VECTORS];
    for (int r = 0; r < M; r++)
      for (int v = 0; v < VECTORS; v++) made[r][v] = splat(-zero * x.sums[first + r * x.units + unit]);
    const int32_t* bytes = part.bytes + unit * WORDS * PANEL;
#pragma GCC unroll 8
    for (int w = 0; w < WORDS; w++) {
      Words columns[VECTORS];
      for (int v = 0; v < VECTORS; v++)
        columns[v] = load_raw<Words>(bytes + w * PANEL + v * LANES) ^ (SIGNED ? UNSIGNED : 0);
      for (int r = 0; r < M; r++) {
        int32_t word;
        std::memcpy(&word, codes + r * x.stride + unit * UNIT + w * 4, 4);
        for (int v = 0; v < VECTORS; v++) made[r][v] = Int8::step(made[r][v], splat(word), columns[v]);
      }
    }
    for (int v = 0; v < VECTORS; v++) {
      const Floats scale = load(part.scales + unit * PANEL + v * LANES);
      const Floats shift = SHIFT ? load(part.shifts + unit * PANEL + v * LANES) : Floats{};
      for (int r = 0; r < M; r++) {
        const size_t at = first + r * x.units + unit;
        totals[r][v] = settled<SHIFT>(totals[r][v], made[r][v], scale, shift, x.scales[at], x.offsets[at]);
      }
    }
  }
  for (int r = 0; r < M; r++)
    for (int v = 0; v < VECTORS; v++) store(sums + r * PANEL + v * LANES, totals[r][v]);
}

// TILE_ROWS rows from `row` on times COUNT units from `unit` on, in one vector of columns.
template <int UNIT, bool SHIFT, int COUNT>
struct TiledUnits {
  const Part& part;
  const Codes& x;
  int row, v, unit;

  // Their products, [COUNT][TILE_ROWS][LANES].
  void make(int32_t* made) const {
    constexpr int WORDS = UNIT / 4;
    const int8_t* codes = x.codes.get() + row * x.stride + (part.first + unit) * UNIT;
    const int32_t* bytes = part.bytes + unit * WORDS * PANEL + v * LANES;
    const auto one = [&]<int SUM>() {
      constexpr int A = 4 + SUM % 2, B = 6 + SUM % 2;
      clear_tile<SUM>();
      load_tile<A>(codes + SUM * UNIT, x.stride);
      load_tile<B>(bytes + SUM * WORDS * PANEL, PANEL * 4);
      multiply_signed_tile<SUM, A, B>();
      store_tile<SUM>(made + SUM * TILE_ROWS * LANES, LANES * 4);
    };
    one.template operator()<0>();
    if constexpr (COUNT == 4) {
      one.template operator()<1>();
      one.template operator()<2>();
      one.template operator()<3>();
    }
  }

  // What the products add to `sums` [TILE_ROWS][PANEL].
  void settle(const int32_t* made, float* sums) const {
    Floats scales[COUNT], shifts[COUNT];
    for (int i = 0; i < COUNT; i++) {
      scales[i] = load(part.scales + (unit + i) * PANEL + v * LANES);
      shifts[i] = SHIFT ? load(part.shifts + (unit + i) * PANEL + v * LANES) : Floats{};
    }
    const size_t first = size_t(row) * x.units + part.first + unit;
#pragma GCC unroll 4
    for (int r = 0; r < TILE_ROWS; r++) {
      float* kept = sums + r * PANEL + v * LANES;
      Floats total = load(kept);
      for (int i = 0; i < COUNT; i++) {
        const size_t at = first + r * x.units + i;
        total = settled<SHIFT>(total, load_raw<Words>(made + (i * TILE_ROWS + r) * LANES), scales[i], shifts[i],
                               x.scales[at], x.offsets[at]);
      }
      store(kept, total);
    }
  }
};

// sums [TILE_ROWS][PANEL] += rows row .. times the part. The next four units' products are on their way while those of
// the four before are added.
template <int UNIT, bool SHIFT>
void multiply_rows_tiled(const Part& part, const Codes& x, int row, float* sums, int32_t* made) {
  const int fours = part.units / 4 * 4;
  for (int v = 0; v < VECTORS; v++) {
    const auto place = [&](int unit) { return made + unit / 4 % 2 * (4 * TILE_ROWS * LANES); };
    if (fours) TiledUnits<UNIT, SHIFT, 4>{part, x, row, v, 0}.make(place(0));
    for (int unit = 0; unit < fours; unit += 4) {
      if (unit + 4 < fours) TiledUnits<UNIT, SHIFT, 4>{part, x, row, v, unit + 4}.make(place(unit + 4));
      TiledUnits<UNIT, SHIFT, 4>{part, x, row, v, unit}.settle(place(unit), sums);
    }
    for (int unit = fours; unit < part.units; unit++) {
      const TiledUnits<UNIT, SHIFT, 1> one{part, x, row, v, unit};
      one.make(made);
      one.settle(made, sums);
    }
  }
}

// sums [rows][PANEL] += rows first .. first + rows times the part.
template <int UNIT, bool SHIFT, bool SIGNED>
void multiply_part(const Part& part, const Codes& x, int first, int rows, float* sums, Workspace& work) {
  int row = 0;
  if constexpr (SIGNED) {
    work.tiles.shape(TILE_ROWS, UNIT / 4);
    for (; row + TILE_ROWS <= rows; row += TILE_ROWS)
      multiply_rows_tiled<UNIT, SHIFT>(part, x, first + row, sums + size_t(row) * PANEL, work.made.get());
  }
  for (; row + FEW <= rows; row += FEW)
    multiply_rows<UNIT, SHIFT, SIGNED, FEW>(part, x, first + row, sums + size_t(row) * PANEL);
  for (; row < rows; row++) multiply_rows<UNIT, SHIFT, SIGNED, 1>(part, x, first + row, sums + size_t(row) * PANEL);
}

// `bytes` less `by`, byte by byte.
Words minus_bytes(Words bytes, Words by) {
#if defined(__AVX512BW__)
  return reinterpret_cast<Words>(_mm512_sub_epi8(reinterpret_cast<__m512i>(bytes), reinterpret_cast<__m512i>(by)));
#else
  return reinterpret_cast<Words>(_mm256_sub_epi8(reinterpret_cast<__m256i>(bytes), reinterpret_cast<__m256i>(by)));
#endif
}

}  // namespace

GroupedMatrix::Unpack GroupedMatrix::unpacking(int low, int high) {
#define FORM(LOW, HIGH) \
  if (low == LOW && high == HIGH) return &GroupedMatrix::unpack<LOW, HIGH>;
  FORM(8, 0)
  FORM(4, 0)
  FORM(4, 1)
  FORM(4, 2)
  FORM(2, 0)
  FORM(2, 1)
#undef FORM
  throw std::invalid_argument("grouped matrix: codes of this form are not known");
}

// Codes of `count` inputs from `first` on, less `minus`, as bytes [count / 4][PANEL], in the order that `place_of` says.
template <int LOW, int HIGH>
void GroupedMatrix::unpack(int panel, int first, int count, int minus, int32_t* to) const {
  const Words less = splat(int32_t(0x01010101u * uint32_t(minus)));
  constexpr int PARTS = 8 / LOW, RUN = 4 * PARTS;  // inputs of a word
  constexpr auto MASK = int32_t(0x01010101u * ((1u << LOW) - 1)), HIGH_MASK = int32_t(0x01010101u * ((1u << HIGH) - 1));
  const ByteLookup lookup(table_);
  for (int input = first; input < first + count; input += RUN, to += PARTS * PANEL) {
    for (int v = 0; v < VECTORS; v++) {
      const Words low = low_.words(panel, input * LOW / 32, v);
      Words high = {};
      if constexpr (HIGH > 0) high = shifted(high_.words(panel, input * HIGH / 32, v), input * HIGH % 32);
#pragma GCC unroll 4
      for (int part = 0; part < PARTS; part++) {
        Words bytes = shifted(low, part * LOW) & MASK;
        if constexpr (HIGH > 0)
          bytes |= (spread<PARTS * HIGH>(shifted(high, part * HIGH)) & HIGH_MASK) << LOW;
        else if (LOW == 4 && is_lookup_)
          bytes = lookup(bytes);
        store_raw(to + part * PANEL + v * LANES, minus_bytes(bytes, less));
      }
    }
  }
}

// The scales or shifts of `units` from input `first` on, [units][PANEL].
template <int UNIT>
void GroupedMatrix::unit_scales(const Turned& fine, const Turned& coarse, int panel, int first, int units,
                                float* out) const {
  if (group_ == UNIT) {
    fine.floats(panel, first / UNIT, units, out);
  } else {
    for (int unit = 0; unit < units; unit++) fine.floats(panel, (first + unit * UNIT) / group_, 1, out + unit * PANEL);
  }
  if (!coarse) return;
  for (int unit = 0; unit < units;) {
    const int index = (first + unit * UNIT) / coarse_group_;
    const int end = std::min(units, ((index + 1) * coarse_group_ - first) / UNIT);  // of those with one factor
    for (int v = 0; v < VECTORS; v++) {
      const Floats factor = coarse.floats(panel, index, v);
      for (int i = unit; i < end; i++) {
        float* scale = out + i * PANEL + v * LANES;
        store(scale, factor * load(scale));
      }
    }
    unit = end;
  }
}

// sums [rows][PANEL] = rows first .. first + rows times the panel.
template <int UNIT>
void GroupedMatrix::multiply_panel(int panel, const Codes& x, int first, int rows, float* sums, Workspace& work) const {
  std::fill_n(sums, size_t(rows) * PANEL, 0.0f);
  const bool is_signed = HAS_TILES && fits_signed_ && rows >= TILE_ROWS;
  for (int input = 0; input < inputs; input += INPUTS) {
    const int count = std::min(INPUTS, inputs - input), units = count / UNIT;
    const int32_t* bytes = work.bytes.get();
    if (low_bits_ == 8 && !is_signed) bytes = low_.at(panel, input / 4);
    else (this->*unpack_)(panel, input, count, is_signed ? code_zero_ : 0, work.bytes.get());
    unit_scales<UNIT>(scale_, coarse_, panel, input, units, work.scales.get());
    if (shift_) unit_scales<UNIT>(shift_, coarse_shift_, panel, input, units, work.shifts.get());
    const Part part{bytes, work.scales.get(), work.shifts.get(), input / UNIT, units, code_zero_};
    const auto multiply = shift_ ? is_signed ? &multiply_part<UNIT, true, HAS_TILES> : &multiply_part<UNIT, true, false>
                          : is_signed ? &multiply_part<UNIT, false, HAS_TILES>
                                      : &multiply_part<UNIT, false, false>;
    multiply(part, x, first, rows, sums, work);
  }
}

template <int UNIT>
void GroupedMatrix::multiply_units(const Rows& x, int rows, const float* bias, const Rows& out, int threads) const {
  threads = threads_for(double(rows) * outputs * inputs, threads);
  Codes codes(rows, inputs, UNIT);
  int places[BLOCK];
  for (int i = 0; i < BLOCK; i++) places[i] = place_of(low_bits_, i);
  const int chunks = (rows + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE, tasks = panels * chunks;
  const int run = std::max(1, panels / (threads * 8));  // neighbouring panels: long streams of memory
  with_type(out, [&](auto* to) {
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
      with_type(x, [&](auto* from) {
#pragma omp for
        for (int r = 0; r < rows; r++) codes.take(r, from + r * x.stride, places);
      });
      Workspace work;
      auto sums = allocate<float>(size_t(std::min(rows, ROWS_AT_ONCE)) * PANEL);
#pragma omp for schedule(dynamic, run) nowait
      for (int task = 0; task < tasks; task++) {
        const int chunk = task / panels, panel = task % panels;
        const int first = int(int64_t(rows) * chunk / chunks), end = int(int64_t(rows) * (chunk + 1) / chunks);
        multiply_panel<UNIT>(panel, codes, first, end - first, sums.get(), work);
        for (int row = first; row < end; row++) {
          for (int column = panel * PANEL; column < std::min(outputs, (panel + 1) * PANEL); column += LANES) {
            Floats sum = load(sums.get() + size_t(row - first) * PANEL + column - panel * PANEL);
            if (bias) sum += load(bias + column, outputs - column);
            store(to + row * out.stride + column, sum, outputs - column);
          }
        }
      }
    }
  });
}

void GroupedMatrix::multiply_codes(const Rows& x, int rows, const float* bias, const Rows& out, int threads) const {
  if (group_ % BLOCK == 0) multiply_units<BLOCK>(x, rows, bias, out, threads);
  else multiply_units<BLOCK / 2>(x, rows, bias, out, threads);
}

}  // namespace TUTTI_MODULE
