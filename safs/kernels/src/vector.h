// Eight floats at a time, and the elementary functions that the operators need.
//
// The compiler's vector extensions carry everything: on a processor without 256-bit registers it
// splits a vector in two. Comparisons are written so that NaN survives: a clamp returns its
// argument when the comparison is false. No fast-math flag is used anywhere; sums that may be
// reordered are reordered by hand.
#pragma once
#include <cstdint>

typedef float v8 __attribute__((vector_size(32)));
typedef int32_t i8 __attribute__((vector_size(32)));
typedef float v8_unaligned __attribute__((vector_size(32), aligned(4), may_alias));

constexpr int64_t LANES = 8;

static inline v8 load(const float* p) { return *(const v8_unaligned*)p; }
static inline void store(float* p, v8 v) { *(v8_unaligned*)p = v; }
static inline v8 splat(float s) { return v8{s, s, s, s, s, s, s, s}; }

// a b + c with one rounding. Where products and sums are fused is written in the source, never left
// to the compiler (-ffp-contract=off): so every compiler and processor computes the same bits.
static inline v8 wide(v8 x) { return x; }
static inline v8 wide(float x) { return splat(x); }
#if defined(__FMA__) && defined(__AVX2__)
#include <immintrin.h>
static inline v8 fused(v8 a, v8 b, v8 c) {
  return (v8)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
#else
static inline v8 fused(v8 a, v8 b, v8 c) {
  v8 r{};
  for (int i = 0; i < 8; i++) r[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return r;
}
#endif
template <class A, class B, class C> static inline v8 mad(A a, B b, C c) {
  return fused(wide(a), wide(b), wide(c));
}
static inline v8 at_least(v8 x, float low) { return x < low ? splat(low) : x; }
static inline v8 at_most(v8 x, float high) { return x > high ? splat(high) : x; }
static inline v8 absolute(v8 x) { return (v8)((i8)x & 0x7fffffff); }
static inline v8 with_sign(v8 magnitude, v8 sign) {
  return (v8)(((i8)magnitude & 0x7fffffff) | ((i8)sign & (int32_t)0x80000000));
}
static inline float sum(v8 a) {
  return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
}
typedef int64_t q4 __attribute__((vector_size(32)));
static inline bool all(i8 mask) {
  const q4 q = (q4)mask;
  return ((q[0] & q[1]) & (q[2] & q[3])) == -1;
}
// Lanes below `count` are all ones, the others zero.
static inline i8 first_lanes(int64_t count) {
  return i8{0, 1, 2, 3, 4, 5, 6, 7} < (int32_t)(count < 0 ? 0 : count > LANES ? LANES : count);
}

static inline v8 add_halves(v8 a, v8 b) {
  return __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11) +
         __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
}
static inline v8 add_pairs(v8 a, v8 b) {
  return __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13) +
         __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
}
static inline v8 add_singles(v8 a, v8 b) {
  return __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14) +
         __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
}
// Lane j of the result is the sum of s[j].
static inline v8 sum_each(const v8 (&s)[8]) {
  const v8 a = add_halves(s[0], s[4]), b = add_halves(s[1], s[5]);
  const v8 c = add_halves(s[2], s[6]), d = add_halves(s[3], s[7]);
  return add_singles(add_pairs(a, c), add_pairs(b, d));
}

// Lane j of row i becomes lane i of row j.
static inline void transpose(v8 (&a)[8]) {
  v8 b[8];
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    b[2 * i] = __builtin_shufflevector(a[2 * i], a[2 * i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    b[2 * i + 1] = __builtin_shufflevector(a[2 * i], a[2 * i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    const v8 &low = b[i / 2 * 4 + i % 2], &high = b[i / 2 * 4 + i % 2 + 2];
    a[i / 2 * 4 + i % 2 * 2] = __builtin_shufflevector(low, high, 0, 1, 8, 9, 4, 5, 12, 13);
    a[i / 2 * 4 + i % 2 * 2 + 1] = __builtin_shufflevector(low, high, 2, 3, 10, 11, 6, 7, 14, 15);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    const v8 left = a[i], right = a[i + 4];
    a[i] = __builtin_shufflevector(left, right, 0, 1, 2, 3, 8, 9, 10, 11);
    a[i + 4] = __builtin_shufflevector(left, right, 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

// ---- exponentials -------------------------------------------------------------------------------
// exp(x) = scale * (1 + q) with scale = 2^k and q = expm1(r), |r| <= ln 2 / 2. The polynomial is a
// Chebyshev interpolation of (exp(r) - 1 - r) / r^2, relative error 3e-9. Arguments are held in
// [-87, 88], where scale is a normal number.
struct Exponential { v8 scale, q; };

static inline Exponential exponential(v8 x) {
  x = at_most(at_least(x, -87.f), 88.f);
  const float shift = 12582912.f;  // 1.5 * 2^23: rounds to an integer, kept in the low bits
  const v8 t = mad(x, 1.44269504088896341f, shift), k = t - shift;
  const v8 r = mad(k, 2.12194440e-4f, mad(k, -0.693359375f, x));
  v8 p = mad(1.989939246e-4f, r, 1.393373322e-3f);
  p = mad(p, r, 8.333298341e-3f);
  p = mad(p, r, 4.166646417e-2f);
  p = mad(p, r, 1.666666672e-1f);
  p = mad(p, r, 5.000000014e-1f);
  return {(v8)(((i8)t << 23) + 0x3f800000), mad(p, r * r, r)};
}
static inline v8 exp(Exponential e) { return mad(e.scale, e.q, e.scale); }
static inline v8 expm1(Exponential e) { return mad(e.scale, e.q, e.scale - 1.f); }
static inline v8 exp(v8 x) { return exp(exponential(x)); }

// ---- logarithms ---------------------------------------------------------------------------------
// log(x) for positive normal x; NaN stays NaN. x = 2^k (1 + f), f in [sqrt(1/2) - 1, sqrt(2) - 1],
// log(1 + f) = f - f^2 / 2 + f^3 p(f), p a Chebyshev interpolation.
static inline v8 log(v8 x) {
  const int32_t root_half = 0x3f3504f3;
  const i8 bits = (i8)x - root_half;
  const v8 k = __builtin_convertvector(bits >> 23, v8);
  const v8 f = (v8)((bits & 0x7fffff) + root_half) - 1.f, square = f * f;
  v8 p = mad(7.149753894e-2f, f, -1.157120073e-1f);
  p = mad(p, f, 1.166151107e-1f);
  p = mad(p, f, -1.241105068e-1f);
  p = mad(p, f, 1.424993653e-1f);
  p = mad(p, f, -1.666848024e-1f);
  p = mad(p, f, 2.000070748e-1f);
  p = mad(p, f, -2.499998905e-1f);
  p = mad(p, f, 3.333333119e-1f);
  const v8 low = mad(-0.5f, square, mad(k, -2.12194440e-4f, f * square * p));
  const v8 y = mad(k, 0.693359375f, f + low);
  return x == x ? y : x;
}
// log(1 + x) for x >= 0, given u = 1 + x and its reciprocal: what rounding lost in u comes back.
static inline v8 log1p(v8 x, v8 u, v8 reciprocal) { return mad(x - (u - 1.f), reciprocal, log(u)); }

// ---- sigmoid and its kin ------------------------------------------------------------------------
// Both tails come from exp(-|x|), so neither sigmoid(x) nor 1 - sigmoid(x) is ever a difference of
// nearly equal numbers.
struct Sigmoid2 { v8 value, complement; };

static inline Sigmoid2 sigmoid(v8 x) {
  const v8 e = exp(-absolute(x)), near = 1.f / (1.f + e), far = e * near;
  return {x < 0.f ? far : near, x < 0.f ? near : far};
}
// tanh and its derivative from q = exp(-2 |x|): (1 - q) / (1 + q) and 4 q / (1 + q)^2.
struct Tanh2 { v8 value, derivative; };

static inline Tanh2 tanh(v8 x) {
  const Exponential e = exponential(-2.f * absolute(x));
  const v8 m = expm1(e), r = 1.f / (2.f + m);
  return {with_sign(m * r, x), 4.f * exp(e) * r * r};
}
// Standard normal distribution function of x and its density. The tail is exp(-x^2 / 2) t q(t) with
// t = 1 / (1 + z / 2), z = |x| / sqrt(2): it keeps its relative accuracy (7e-8).
struct Normal2 { v8 distribution, density; };

static inline Normal2 normal(v8 x) {
  const v8 z = absolute(x) * 0.70710678118654752f, g = exp(-z * z), t = 1.f / mad(0.5f, z, 1.f);
  v8 q = mad(-5.854045888e-2f, t, 2.823165806e-1f);
  q = mad(q, t, -4.832259305e-1f);
  q = mad(q, t, 2.743652819e-1f);
  q = mad(q, t, -2.468010656e-2f);
  q = mad(q, t, 2.021251981e-1f);
  q = mad(q, t, 2.431797117e-1f);
  q = mad(q, t, 2.823736390e-1f);
  q = mad(q, t, 2.820860507e-1f);
  const v8 tail = 0.5f * g * t * q;
  return {x > 0.f ? 1.f - tail : tail, g * 0.39894228040143268f};
}
