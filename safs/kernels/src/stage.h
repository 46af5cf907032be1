// What stands between two convolutions, fused: batch norm, residual, operator, 2x2 pooling.
//
//   v = a[c] z + b[c] (+ residual),   y = alpha f(beta v),   optionally the maximum of each 2x2.
//
// a and b hold batch norm, or 1 and 0. Where the shape of f allows it pooling comes before f: the
// winner among four z is known before f is evaluated, once instead of four times. The winner is the
// first of the largest y in window order, as in torch; NaN wins. Backward needs the winner's z, its
// derivative and its position only.
//
// A channel that no weight feeds is constant: y = alpha f(beta fixed[c]). It is written as such,
// and its bias still gets its gradient.
#pragma once
#include <cmath>
#include "maps.h"
#include "operators.h"

struct Stage {
  Map z, y, gz, gy;
  Map residual, g_residual;     // p null: none
  Map winner, position;         // pooled: z and number (0 to 3) of each winner
  Map derivative, value;        // f' and f, kept from the forward pass; p null: evaluated again
  int64_t code, pool, norm, height, width;  // of z
  Channels varying, constant;
  int64_t scaled;               // alpha and beta are learned
  int64_t accumulates, residual_accumulates;  // 1: add to what gz, g_residual hold
  const float *alpha, *beta;    // null: 1
  const float* own;             // [C][MAX_OWN], or one row for all channels
  int64_t own_stride;           // MAX_OWN or 0
  Partial own_sums;             // gradients of `own`, in its shape, where they are learned
  const float* fixed;           // v of a constant channel
  float *a, *b;                 // [C]
  float *ga, *gb, *gc;          // batch norm's backward: gz = ga gv + gb z + gc
  Partial sums;                 // [C][2]: sums of gv and of gv z
  Partial scale_sums;           // gradients of alpha and beta
};

static inline float alpha_of(const Stage& s) { return s.alpha ? *s.alpha : 1.f; }
static inline float beta_of(const Stage& s) { return s.beta ? *s.beta : 1.f; }

template <class F> static inline v8 value_of(v8 u, const float* own) {
  v8 f, d;
  F::eval(u, own, f, d);
  return f;
}

// How a row is walked where maps may hold different numbers of images per pixel: `runs` runs of
// `length` floats, each map advancing by its own n from run to run.
struct Walk { int64_t runs, length; };

static inline Walk walk(int64_t width, int64_t n, bool same) {
  return same ? Walk{1, width * n} : Walk{width, n};
}

// Images that a stage handles per call.
static inline int64_t images_per_call(const Stage& s) { return smaller(s.z.n(), s.y.n()); }

template <class F> static void activate(const Stage& s, Place at) {
  const float alpha = alpha_of(s), beta = beta_of(s);
  const int64_t n = s.z.n(), m = s.y.n(), q = s.residual.p ? s.residual.n() : n;
  const Walk walked = walk(s.width, images_per_call(s), n == m && q == n);
  for (int64_t j = 0; j < s.varying.count; j++) {
    const int64_t c = s.varying.index[j];
    const float a = s.a[c], b = s.b[c], *own = s.own + c * s.own_stride;
    const float* z = s.z.at(at, c);
    const float* r = s.residual.p ? s.residual.at(at, c) : nullptr;
    float* y = s.y.at(at, c);
    float* d = s.derivative.p ? s.derivative.at(at, c) : nullptr;
    float* f = s.value.p ? s.value.at(at, c) : nullptr;
    for (int64_t h = 0; h < s.height; h++)
      for (int64_t w = 0; w < walked.runs; w++) {
        const int64_t from = h * s.z.row_stride + w * n, to = h * s.y.row_stride + w * m;
        const float* rr = r ? r + h * s.residual.row_stride + w * q : nullptr;
        for (int64_t k = 0; k < walked.length; k += LANES) {
          v8 v = mad(a, load(z + from + k), b), ff, dd;
          if (rr) v += load(rr + k);
          F::eval(beta * v, own, ff, dd);
          store(y + to + k, alpha * ff);
          if (d) store(d + h * s.derivative.row_stride + w * n + k, dd);
          if (f) store(f + h * s.value.row_stride + w * n + k, ff);
        }
      }
  }
}

// ---- 2x2 pooling --------------------------------------------------------------------------------
// The winner of a window: its z and position, and f and f' there.
struct Winner { v8 z, position, f, d; };

static inline v8 higher(v8 a, v8 b) { return a > b ? a : b; }
static inline v8 lower(v8 a, v8 b) { return a < b ? a : b; }
static inline v8 highest(const v8 (&z)[4]) {
  return higher(higher(z[0], z[1]), higher(z[2], z[3]));
}
static inline v8 lowest(const v8 (&z)[4]) {
  return lower(lower(z[0], z[1]), lower(z[2], z[3]));
}

// The first position of `x` in the window.
static inline v8 position_of(v8 x, const v8 (&z)[4]) {
  const v8 later = x == z[2] ? splat(2.f) : splat(3.f);
  return x == z[0] ? v8{} : x == z[1] ? splat(1.f) : later;
}
// `x`, or NaN where any z is NaN: comparisons would lose it.
static inline v8 or_nan(v8 x, const v8 (&z)[4]) {
  const i8 ordered = ((z[0] == z[0]) & (z[1] == z[1])) & ((z[2] == z[2]) & (z[3] == z[3]));
  return (v8)((i8)x | ~ordered);
}

// How the winner is found: as the largest z, as the largest or smallest, or by comparing four y.
enum Pooling { HIGHEST, EITHER, SEARCH };

static inline Pooling pooling_rule(Shape shape, float alpha, float slope) {
  if (shape == INCREASING && slope > 0.f) return HIGHEST;
  return shape == VALLEY && alpha > 0.f && slope != 0.f ? EITHER : SEARCH;
}

template <class F, int RULE>
static inline Winner pool(const v8 (&z)[4], float alpha, float a, float b, const float* own) {
  Winner best{};
  if (RULE == EITHER) {
    const v8 high = highest(z), small = lowest(z);
    const v8 top = or_nan(a > 0.f ? high : small, z), low = a > 0.f ? small : high;
    const v8 p_top = position_of(top, z);
    F::eval(mad(a, top, b), own, best.f, best.d);
    if (all((mad(a, top, b) > 0.f) | (top == low))) return {top, p_top, best.f, best.d};
    const v8 p_low = position_of(low, z);
    v8 f_low, d_low;
    F::eval(mad(a, low, b), own, f_low, d_low);
    const i8 wins = (f_low > best.f) | ((f_low == best.f) & (p_low < p_top));
    return {wins ? low : top, wins ? p_low : p_top, wins ? f_low : best.f, wins ? d_low : best.d};
  }
  if (RULE == SEARCH) {
    v8 key{};
    for (int i = 0; i < 4; i++) {
      v8 f, d;
      F::eval(mad(a, z[i], b), own, f, d);
      const v8 y = alpha * f;
      const i8 wins = i == 0 ? i8{} - 1 : (y > key) | (y != y);
      key = wins ? y : key;
      best = {wins ? z[i] : best.z, wins ? splat((float)i) : best.position, wins ? f : best.f,
              wins ? d : best.d};
    }
    return best;
  }
  best.z = or_nan(highest(z), z);
  best.position = position_of(best.z, z);
  F::eval(mad(a, best.z, b), own, best.f, best.d);
  return best;
}

template <class F, int RULE> static void pool_channel(const Stage& s, Place at, int64_t c) {
  const float alpha = alpha_of(s), beta = beta_of(s), *own = s.own + c * s.own_stride;
  const float a = s.a[c] * beta, b = s.b[c] * beta;
  const int64_t n = s.z.n(), m = s.y.n(), length = images_per_call(s);
  const float* z = s.z.at(at, c);
  float *y = s.y.at(at, c), *winner = s.winner.at(at, c), *position = s.position.at(at, c);
  float* derivative = s.derivative.at(at, c);
  float* value = s.value.p ? s.value.at(at, c) : nullptr;
  for (int64_t h = 0; h < s.height / 2; h++)
    for (int64_t w = 0; w < s.width / 2; w++)
      for (int64_t k = 0; k < length; k += LANES) {
        const float *top = z + 2 * h * s.z.row_stride + 2 * w * n + k, *low = top + s.z.row_stride;
        const v8 window[4] = {load(top), load(top + n), load(low), load(low + n)};
        const Winner best = pool<F, RULE>(window, alpha, a, b, own);
        const int64_t e = h * s.winner.row_stride + w * n + k;
        store(winner + e, best.z);
        store(position + e, best.position);
        store(derivative + e, best.d);
        if (value) store(value + e, best.f);
        store(y + h * s.y.row_stride + w * m + k, alpha * best.f);
      }
}

template <class F> static void activate_pooled(const Stage& s, Place at) {
  for (int64_t j = 0; j < s.varying.count; j++) {
    const int64_t c = s.varying.index[j];
    const float alpha = alpha_of(s), slope = alpha * beta_of(s) * s.a[c];
    const Pooling rule = pooling_rule(F::shape(s.own + c * s.own_stride), alpha, slope);
    if constexpr (F::form == INCREASING)
      if (rule == HIGHEST) pool_channel<F, HIGHEST>(s, at, c);
    if constexpr (F::form == VALLEY)
      if (rule == EITHER) pool_channel<F, EITHER>(s, at, c);
    if (rule == SEARCH) pool_channel<F, SEARCH>(s, at, c);
  }
}

static inline int64_t out_height(const Stage& s) { return s.pool ? s.height / 2 : s.height; }
static inline int64_t out_width(const Stage& s) { return s.pool ? s.width / 2 : s.width; }

template <class F> static void write_constants(const Stage& s, Place at) {
  const int64_t m = s.y.n(), length = images_per_call(s);
  const Walk walked = walk(out_width(s), length, length == m);
  for (int64_t j = 0; j < s.constant.count; j++) {
    const int64_t c = s.constant.index[j];
    float* y = s.y.at(at, c);
    const float* own = s.own + c * s.own_stride;
    const v8 v = alpha_of(s) * value_of<F>(splat(beta_of(s) * s.fixed[c]), own);
    for (int64_t h = 0; h < out_height(s); h++)
      for (int64_t w = 0; w < walked.runs; w++)
        for (int64_t k = 0; k < walked.length; k += LANES)
          store(y + h * s.y.row_stride + w * m + k, v);
  }
}

static void stage_forward(const Stage& s, Place at) {
  with_operator(s.code, [&](auto f) {
    using F = decltype(f);
    if (s.pool) activate_pooled<F>(s, at); else activate<F>(s, at);
    write_constants<F>(s, at);
  });
}

// ---- backward -----------------------------------------------------------------------------------
// The map that gives z at the pixels of y.
static inline const Map& z_of_y(const Stage& s) { return s.pool ? s.winner : s.z; }

// Gradients of the operator's own parameters: sums of gy alpha df/dp.
template <class F> static void add_own_gradient(const Stage& s, Place at) {
  if constexpr (F::own > 0) {
    const float alpha = alpha_of(s), beta = beta_of(s);
    const Map& zs = z_of_y(s);
    double* sums = s.own_sums.of(at);
    const int64_t n = zs.n(), m = s.gy.n(), length = images_per_call(s);
    for (int64_t j = 0; j < s.varying.count + s.constant.count; j++) {
      const bool varies = j < s.varying.count;
      const int64_t c = varies ? s.varying.index[j] : s.constant.index[j - s.varying.count];
      const float a = s.a[c], b = s.b[c], *own = s.own + c * s.own_stride;
      const float *z = zs.at(at, c), *gy = s.gy.at(at, c);
      const float* r = s.residual.p ? s.residual.at(at, c) : nullptr;
      v8 total[F::own] = {};
      for (int64_t h = 0; h < out_height(s); h++)
        for (int64_t w = 0; w < out_width(s); w++)
          for (int64_t k = 0; k < length; k += LANES) {
            v8 v = varies ? mad(a, load(z + h * zs.row_stride + w * n + k), b) : splat(s.fixed[c]);
            if (r) v += load(r + h * s.residual.row_stride + w * s.residual.n() + k);
            v8 g[F::own];
            F::own_gradient(beta * v, own, g);
            const v8 gradient = load(gy + h * s.gy.row_stride + w * m + k);
            for (int i = 0; i < F::own; i++) total[i] = mad(gradient, g[i], total[i]);
          }
      for (int i = 0; i < F::own; i++) sums[c * s.own_stride + i] += alpha * sum(total[i]);
    }
  }
}

// Where the backward pass of the operator leaves gv: over gy with batch norm, which needs sums over
// the whole batch before gz is known; else straight in gz, at the winner's place where pooled.
static inline void put(const Stage& s, float* gy, float* gz, v8 gv, v8 position, int64_t h,
                       int64_t w, int64_t k) {
  const int64_t n = s.gz.n();
  if (s.norm) return store(gy + h * s.gy.row_stride + w * s.gy.n() + k, gv);
  if (!s.pool) {
    float* t = gz + h * s.gz.row_stride + w * n + k;
    return store(t, s.accumulates ? load(t) + gv : gv);
  }
  float *top = gz + 2 * h * s.gz.row_stride + 2 * w * n + k, *low = top + s.gz.row_stride;
  store(top, position == 0.f ? gv : v8{});
  store(top + n, position == 1.f ? gv : v8{});
  store(low, position == 2.f ? gv : v8{});
  store(low + n, position == 3.f ? gv : v8{});
}

template <class F, bool POOL> static void differentiate(const Stage& s, Place at) {
  const float alpha = alpha_of(s), beta = beta_of(s);
  const Map& zs = z_of_y(s);
  const int64_t n = zs.n(), m = s.gy.n(), q = s.residual.p ? s.residual.n() : n;
  const Walk walked = walk(out_width(s), images_per_call(s), !POOL && n == m && q == n);
  const bool scaled = s.scaled, norm = s.norm, v_needed = scaled || !s.derivative.p;
  double *sums = s.sums.of(at), *scale_sums = s.scale_sums.of(at);
  for (int64_t j = 0; j < s.varying.count; j++) {
    const int64_t c = s.varying.index[j];
    const float a = s.a[c], b = s.b[c], *own = s.own + c * s.own_stride;
    const float* z = zs.at(at, c);
    const float* derivative = s.derivative.p ? s.derivative.at(at, c) : nullptr;
    const float* value = s.value.p ? s.value.at(at, c) : nullptr;
    const float* position = POOL ? s.position.at(at, c) : nullptr;
    const float* r = s.residual.p ? s.residual.at(at, c) : nullptr;
    float* gr = s.g_residual.p ? s.g_residual.at(at, c) : nullptr;
    float *gy = s.gy.at(at, c), *gz = s.gz.p ? s.gz.at(at, c) : nullptr;
    v8 total[4] = {};
    for (int64_t h = 0; h < out_height(s); h++) {
      v8 sum_gv{}, sum_gvz{}, sum_f{}, sum_v{};  // per row: short sums lose fewer digits
      for (int64_t w = 0; w < walked.runs; w++) {
        const int64_t e = h * zs.row_stride + w * n;
        for (int64_t k = 0; k < walked.length; k += LANES) {
          const v8 gradient = load(gy + h * s.gy.row_stride + w * m + k);
          v8 v{}, f{}, d;
          if (v_needed) v = mad(a, load(z + e + k), b);
          if (v_needed && r) v += load(r + h * s.residual.row_stride + w * q + k);
          if (derivative) {
            const int64_t kept = h * s.derivative.row_stride + w * n + k;
            d = load(derivative + kept);
            if (scaled) f = load(value + kept);
          } else {
            F::eval(beta * v, own, f, d);
          }
          const v8 slope = gradient * d, gv = slope * (alpha * beta);
          put(s, gy, gz, gv, POOL ? load(position + e + k) : v8{}, h, w, k);
          sum_gv += gv;
          if (norm) sum_gvz = mad(gv, load(z + e + k), sum_gvz);
          if (scaled) {
            sum_f = mad(gradient, f, sum_f);
            sum_v = mad(slope, v, sum_v);
          }
          if (gr) {
            float* t = gr + h * s.g_residual.row_stride + w * s.g_residual.n() + k;
            store(t, s.residual_accumulates ? load(t) + gv : gv);
          }
        }
      }
      total[0] += sum_gv;
      total[1] += sum_gvz;
      total[2] += sum_f;
      total[3] += sum_v;
    }
    sums[2 * c] += sum(total[0]);
    sums[2 * c + 1] += sum(total[1]);
    scale_sums[0] += sum(total[2]);
    scale_sums[1] += alpha * sum(total[3]);
  }
}

// Constant channels need the plain sum of gy only.
template <class F> static void differentiate_constants(const Stage& s, Place at) {
  const float alpha = alpha_of(s), beta = beta_of(s);
  const int64_t m = s.gy.n(), length = images_per_call(s);
  const Walk walked = walk(out_width(s), length, length == m);
  double *sums = s.sums.of(at), *scale_sums = s.scale_sums.of(at);
  for (int64_t j = 0; j < s.constant.count; j++) {
    const int64_t c = s.constant.index[j];
    const float* gy = s.gy.at(at, c);
    v8 t{}, f, d;
    for (int64_t h = 0; h < out_height(s); h++)
      for (int64_t w = 0; w < walked.runs; w++)
        for (int64_t k = 0; k < walked.length; k += LANES)
          t += load(gy + h * s.gy.row_stride + w * m + k);
    F::eval(splat(beta * s.fixed[c]), s.own + c * s.own_stride, f, d);
    const float total = sum(t);
    sums[2 * c] += total * alpha * beta * d[0];
    scale_sums[0] += total * f[0];
    scale_sums[1] += total * alpha * d[0] * s.fixed[c];
  }
}

static void stage_backward(const Stage& s, Place at) {
  with_operator(s.code, [&](auto f) {
    using F = decltype(f);
    if (s.own_sums.p) add_own_gradient<F>(s, at);
    differentiate_constants<F>(s, at);
    // With the derivative kept nothing depends on the operator any more.
    if (s.pool) differentiate<Identity, true>(s, at);
    else if (s.derivative.p) differentiate<Identity, false>(s, at);
    else differentiate<F, false>(s, at);
  });
}

// Batch norm's second half: gz from gv (which lies over gy) and z.
template <bool POOL> static void norm_input_gradient(const Stage& s, int64_t c, Place at) {
  const int64_t n = s.z.n(), m = s.gy.n();
  const Walk walked = walk(out_width(s), images_per_call(s), !POOL && n == m);
  const float ga = s.ga[c], gb = s.gb[c], gc = s.gc[c];
  const float *z = s.z.at(at, c), *gv = s.gy.at(at, c);
  const float* position = POOL ? s.position.at(at, c) : nullptr;
  float* gz = s.gz.at(at, c);
  const auto put = [&](int64_t h, int64_t w, int64_t k, v8 g) {
    const v8 zz = load(z + h * s.z.row_stride + w * n + k);
    store(gz + h * s.gz.row_stride + w * n + k, mad(gb, zz, g) + gc);
  };
  for (int64_t h = 0; h < out_height(s); h++)
    for (int64_t w = 0; w < walked.runs; w++)
      for (int64_t k = 0; k < walked.length; k += LANES) {
        const v8 g = ga * load(gv + h * s.gy.row_stride + w * m + k);
        if (!POOL) {
          put(h, w, k, g);
          continue;
        }
        const v8 place = load(position + h * s.position.row_stride + w * n + k);
        put(2 * h, 2 * w, k, place == 0.f ? g : v8{});
        put(2 * h, 2 * w + 1, k, place == 1.f ? g : v8{});
        put(2 * h + 1, 2 * w, k, place == 2.f ? g : v8{});
        put(2 * h + 1, 2 * w + 1, k, place == 3.f ? g : v8{});
      }
}

// Images that only fill the block get gradient 0, which batch norm's constant term has spoilt.
static void clear_lanes(const Stage& s, int64_t c, Place at, int64_t valid) {
  float* gz = s.gz.at(at, c);
  for (int64_t h = 0; h < s.height; h++)
    for (int64_t w = 0; w < s.width; w++)
      for (int64_t k = 0; k < images_per_call(s); k += LANES) {
        float* t = gz + h * s.gz.row_stride + w * s.gz.n() + k;
        store(t, first_lanes(valid - k) ? load(t) : v8{});
      }
}

static void norm_input_gradient(const Stage& s, const Batch& batch, Place at) {
  const int64_t valid = batch.count - at.block - at.offset;
  for (int64_t j = 0; j < s.varying.count; j++) {
    const int64_t c = s.varying.index[j];
    if (s.pool) norm_input_gradient<true>(s, c, at); else norm_input_gradient<false>(s, c, at);
    if (valid < images_per_call(s)) clear_lanes(s, c, at, valid);
  }
}
