#include "grouped.h"

#include <stdexcept>

#include "panels.h"

namespace TUTTI_MODULE {

namespace {

constexpr int RUN = 16;  // inputs expanded at a time: they share a scale

int size_of(Number type) {
  switch (type) {
    case Number::Float32: return 4;
    case Number::BFloat16:
    case Number::Float16: return 2;
    default: return 1;
  }
}

// Keeps a product from being fused with the sum behind it: weights are rounded as they are in torch.
template <class V>
[[gnu::always_inline]] inline V rounded(V value) {
#if defined(__AVX512F__)
  asm("" : "+v"(value));
#else
  asm("" : "+x"(value));
#endif
  return value;
}

// table[code & 15] in each lane.
struct Lookup {
#if defined(__AVX512F__)
  explicit Lookup(const float* table) : all(load(table)) {}
  Floats operator()(Words code) const { return _mm512_permutexvar_ps(reinterpret_cast<__m512i>(code), all); }
  Floats all;
#else
  explicit Lookup(const float* table) : first(load(table)), second(load(table + 8)) {}
  Floats operator()(Words code) const {
    const Floats low = _mm256_permutevar8x32_ps(first, reinterpret_cast<__m256i>(code));
    const Floats high = _mm256_permutevar8x32_ps(second, reinterpret_cast<__m256i>(code));
    return _mm256_blendv_ps(low, high, as_floats(code << 28));
  }
  Floats first, second;
#endif
};

// The bits that a plane has of one code.
inline uint32_t bits_of(const Turned& plane, int bits, int output, int input) {
  return plane.word(output, input * bits / 32) >> (input * bits % 32) & ((1u << bits) - 1);
}

}  // namespace

Turned::Turned(const Numbers& from, int outputs, int threads)
    : type_(from.type),
      count_(from.data ? from.count : 0),
      size_(size_t((outputs + PANEL - 1) / PANEL) * count_ * PANEL * size_of(from.type)),
      bytes_(allocate<char>(size_)) {
  constexpr int AT_ONCE = 64;  // of a row: what they write stays in the first-level cache
  const int panels = (outputs + PANEL - 1) / PANEL, size = size_of(type_);
  const char* rows = static_cast<const char*>(from.data);
  auto turn = [&]<class T>(T) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int panel = 0; panel < panels; panel++) {
      T* to = reinterpret_cast<T*>(bytes_.get()) + place(panel, 0);
      for (int first = 0; first < count_; first += AT_ONCE) {
        const int end = std::min(first + AT_ONCE, count_);
        for (int c = 0; c < PANEL; c++) {
          const int output = panel * PANEL + c;
          for (int i = first; i < end; i++) {
            T value = 0;
            if (output < outputs) std::memcpy(&value, rows + (size_t(output) * count_ + i) * size, size);
            to[size_t(i) * PANEL + c] = value;
          }
        }
      }
    }
  };
  if (size == 4) turn(uint32_t{});
  if (size == 2) turn(uint16_t{});
  if (size == 1) turn(uint8_t{});
}

// The numbers from number `at` on, as floats.
template <Number TYPE>
[[gnu::always_inline]] inline Floats floats_at(const char* bytes, size_t at) {
  switch (TYPE) {
    case Number::Float32: return load(reinterpret_cast<const float*>(bytes) + at);
    case Number::BFloat16: return load(reinterpret_cast<const bfloat16*>(bytes) + at);
    case Number::Float16: {
      const auto halves = load_raw<Halves>(bytes + at * 2);
#if defined(__AVX512F__)
      return _mm512_cvtph_ps(reinterpret_cast<__m256i>(halves));
#else
      return _mm256_cvtph_ps(reinterpret_cast<__m128i>(halves));
#endif
    }
    default: {  // spelled out: compilers take the bytes apart one by one
      __m128i few = {};
      std::memcpy(&few, bytes + at, LANES);
#if defined(__AVX512F__)
      return _mm512_cvtepi32_ps(TYPE == Number::Int8 ? _mm512_cvtepi8_epi32(few) : _mm512_cvtepu8_epi32(few));
#else
      return _mm256_cvtepi32_ps(TYPE == Number::Int8 ? _mm256_cvtepi8_epi32(few) : _mm256_cvtepu8_epi32(few));
#endif
    }
  }
}

template <class Body>
auto Turned::with_type(Body&& body) const {
  switch (type_) {
    case Number::Float32: return body.template operator()<Number::Float32>();
    case Number::BFloat16: return body.template operator()<Number::BFloat16>();
    case Number::Float16: return body.template operator()<Number::Float16>();
    case Number::Int8: return body.template operator()<Number::Int8>();
    default: return body.template operator()<Number::UInt8>();
  }
}

Floats Turned::floats(int panel, int index, int vector) const {
  const size_t at = place(panel, index) + vector * LANES;
  return with_type([&]<Number TYPE>() { return floats_at<TYPE>(bytes_.get(), at); });
}

void Turned::floats(int panel, int index, int count, float* out) const {
  const size_t first = place(panel, index), numbers = size_t(count) * PANEL;
  with_type([&]<Number TYPE>() {
    for (size_t i = 0; i < numbers; i += LANES) store(out + i, floats_at<TYPE>(bytes_.get(), first + i));
  });
}

float Turned::one(int output, int index) const {
  const int lane = output % PANEL;
  return floats(output / PANEL, index, lane / LANES)[lane % LANES];
}

uint32_t Turned::word(int output, int index) const {
  uint32_t word;
  std::memcpy(&word, bytes_.get() + (place(output / PANEL, index) + output % PANEL) * 4, 4);
  return word;
}

GroupedMatrix::GroupedMatrix(const Grouped& from, int threads)
    : outputs(from.outputs),
      inputs(from.inputs),
      steps(from.inputs),
      panels((from.outputs + PANEL - 1) / PANEL),
      low_bits_(from.low_bits),
      high_bits_(from.high_bits),
      zero_(from.zero),
      has_table_(from.table != nullptr),
      low_(from.low, from.outputs, threads),
      high_(from.high, from.outputs, threads),
      scale_(from.scale, from.outputs, threads),
      coarse_(from.coarse, from.outputs, threads),
      shift_(from.shift, from.outputs, threads),
      coarse_shift_(from.coarse_shift, from.outputs, threads),
      group_(from.inputs / from.scale.count),
      coarse_group_(from.coarse.data ? from.inputs / from.coarse.count : 1),
      expand_(expansion(from.low_bits, from.high_bits, from.table != nullptr, from.shift.data != nullptr)),
      unpack_(unpacking(from.low_bits, from.high_bits)) {
  std::fill_n(table_, 16, 0.0f);
  if (has_table_) std::copy_n(from.table, 16, table_);
  for (int code = 0; has_table_ && code < 16; code++) is_lookup_ |= table_[code] != table_[0] + float(code);
  code_zero_ = is_lookup_ ? 128 : int(has_table_ ? -table_[0] : zero_);
  const int largest = is_lookup_ ? 255 : (1 << (low_bits_ + high_bits_)) - 1;
  fits_signed_ = code_zero_ >= 0 && code_zero_ <= 128 && largest - code_zero_ <= 127;
}

size_t GroupedMatrix::bytes() const {
  return low_.bytes() + high_.bytes() + scale_.bytes() + coarse_.bytes() + shift_.bytes() + coarse_shift_.bytes();
}

GroupedMatrix::Expand GroupedMatrix::expansion(int low, int high, bool table, bool shift) {
#define FORM(LOW, HIGH, TABLE)                             \
  if (low == LOW && high == HIGH && table == TABLE) \
    return shift ? &GroupedMatrix::expand<LOW, HIGH, TABLE, true> : &GroupedMatrix::expand<LOW, HIGH, TABLE, false>;
  FORM(8, 0, false)
  FORM(4, 0, true)
  FORM(4, 1, false)
  FORM(4, 2, false)
  FORM(2, 0, false)
  FORM(2, 1, false)
#undef FORM
  throw std::invalid_argument("grouped matrix: codes of this form are not known");
}

Floats GroupedMatrix::scale_of(const Turned& fine, const Turned& coarse, int panel, int input, int vector) const {
  const Floats scale = fine.floats(panel, input / group_, vector);
  return coarse ? coarse.floats(panel, input / coarse_group_, vector) * scale : scale;
}

float GroupedMatrix::scale_of(const Turned& fine, const Turned& coarse, int output, int input) const {
  const float scale = fine.one(output, input / group_);
  return coarse ? coarse.one(output, input / coarse_group_) * scale : scale;
}

template <int LOW, int HIGH, bool TABLE, bool SHIFT>
void GroupedMatrix::expand(int panel, int first, int count, int32_t* to) const {
  constexpr int WORDS = RUN * LOW / 32, MASK = (1 << LOW) - 1, HIGH_MASK = (1 << HIGH) - 1;
  const Lookup lookup(table_);
  for (int input = first; input < first + count; input += RUN, to += RUN * PANEL) {
    for (int v = 0; v < VECTORS; v++) {
      const Floats scale = scale_of(scale_, coarse_, panel, input, v);
      Floats shift = {};
      if constexpr (SHIFT) shift = rounded(scale_of(shift_, coarse_shift_, panel, input, v));
      Words low[WORDS], high = {};
#pragma GCC unroll 4
      for (int w = 0; w < WORDS; w++) low[w] = low_.words(panel, input * LOW / 32 + w, v);
      if constexpr (HIGH > 0) high = shifted(high_.words(panel, input * HIGH / 32, v), input * HIGH % 32);
#pragma GCC unroll 16
      for (int i = 0; i < RUN; i++) {
        Words code = shifted(low[i * LOW / 32], i * LOW % 32);
        Floats value;
        if constexpr (TABLE) {
          value = lookup(code);
        } else {
          code &= MASK;
          if constexpr (HIGH > 0) code |= (shifted(high, i * HIGH) & HIGH_MASK) << LOW;
          value = __builtin_convertvector(code, Floats) - zero_;
        }
        value *= scale;
        if constexpr (SHIFT) value = rounded(value) + shift;
        store_raw(to + i * PANEL + v * LANES, value);
      }
    }
  }
}

void GroupedMatrix::multiply(const Rows& x, int rows, const float* bias, const Rows& out, int threads) const {
  if (x.type == Type::BFloat16) return multiply_codes(x, rows, bias, out, threads);
  multiply_floats<Float32>(*this, x, rows, bias, out, threads);
}

void GroupedMatrix::read(const int64_t* rows, int count, float* out, int threads) const {
  threads = threads_for(10.0 * count * inputs, threads);
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int r = 0; r < count; r++) {
    const int output = int(rows[r]);
    float* to = out + size_t(r) * inputs;
    for (int first = 0; first < inputs; first += RUN) {
      const float scale = scale_of(scale_, coarse_, output, first);
      const float shift = shift_ ? rounded(scale_of(shift_, coarse_shift_, output, first)) : 0;
      for (int input = first; input < first + RUN; input++) {
        uint32_t code = bits_of(low_, low_bits_, output, input);
        if (high_bits_ > 0) code |= bits_of(high_, high_bits_, output, input) << low_bits_;
        const float value = rounded((has_table_ ? table_[code] : float(code) - zero_) * scale);
        to[input] = shift_ ? value + shift : value;
      }
    }
  }
}

}  // namespace TUTTI_MODULE
