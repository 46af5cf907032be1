// The operators of safs/operators: value and derivative at u, and derivatives with respect to
// the operator's own parameters p.
//
// `shape` (that is `form`, unless own parameters spoil it) tells max pooling what it may assume of
// f. INCREASING: the largest input wins. VALLEY: falling below some negative u, then rising, and
// positive exactly for positive u: the largest input wins if it is positive, else the largest or
// the smallest. ANY: nothing; also taken by operators with flat parts on which the derivative with
// respect to an own parameter does not vanish, since there the winner among equals matters.
#pragma once
#include "vector.h"

enum Shape { INCREASING, VALLEY, ANY };
constexpr int MAX_OWN = 4;

struct Identity {
  static constexpr int own = 0;
  static constexpr Shape form = INCREASING;
  static Shape shape(const float*) { return form; }
  static inline void eval(v8 u, const float*, v8& f, v8& d) { f = u; d = splat(1.f); }
};

struct Relu {
  static constexpr int own = 0;
  static constexpr Shape form = INCREASING;
  static Shape shape(const float*) { return form; }
  static inline void eval(v8 u, const float*, v8& f, v8& d) {
    f = at_least(u, 0.f);
    d = u > 0.f ? splat(1.f) : v8{};
  }
};

struct Relu6 {
  static constexpr int own = 0;
  static constexpr Shape form = INCREASING;
  static Shape shape(const float*) { return form; }
  static inline void eval(v8 u, const float*, v8& f, v8& d) {
    f = at_most(at_least(u, 0.f), 6.f);
    d = ((u > 0.f) & (u < 6.f)) ? splat(1.f) : v8{};
  }
};

struct Swish {
  static constexpr int own = 0;
  static constexpr Shape form = VALLEY;
  static Shape shape(const float*) { return form; }
  static inline void eval(v8 u, const float*, v8& f, v8& d) {
    const Sigmoid2 s = sigmoid(u);
    f = u * s.value;
    d = s.value * (1.f + u * s.complement);
  }
};

struct Acon {  // p1, p2, b
  static constexpr int own = 3;
  static constexpr Shape form = VALLEY;
  static Shape shape(const float* p) {
    return p[0] > 0.f && p[1] == 0.f && p[2] > 0.f ? VALLEY : ANY;
  }
  static inline void eval(v8 u, const float* p, v8& f, v8& d) {
    const float k = p[0] - p[1];
    const v8 t = k * u;
    const Sigmoid2 s = sigmoid(p[2] * t);
    f = t * s.value + p[1] * u;
    d = k * (s.value + p[2] * t * s.value * s.complement) + p[1];
  }
  static inline void own_gradient(v8 u, const float* p, v8* g) {
    const v8 t = (p[0] - p[1]) * u;
    const Sigmoid2 s = sigmoid(p[2] * t);
    const v8 bend = s.value * s.complement;
    g[0] = u * (s.value + p[2] * t * bend);
    g[1] = u * (s.complement - p[2] * t * bend);
    g[2] = t * t * bend;
  }
};

struct Softplus2 { v8 value, derivative; };

static inline Softplus2 softplus(v8 u) {
  const v8 e = exp(-absolute(u)), w = 1.f + e, r = 1.f / w;
  return {at_least(u, 0.f) + log1p(e, w, r), u > 0.f ? r : e * r};
}

struct TanhSoft1 {  // a
  static constexpr int own = 1;
  static constexpr Shape form = VALLEY;
  static Shape shape(const float* p) { return p[0] > 0.f ? VALLEY : ANY; }
  static inline void eval(v8 u, const float* p, v8& f, v8& d) {
    const Softplus2 s = softplus(u);
    const Tanh2 t = tanh(p[0] * u);
    f = t.value * s.value;
    d = p[0] * t.derivative * s.value + t.value * s.derivative;
  }
  static inline void own_gradient(v8 u, const float* p, v8* g) {
    g[0] = u * tanh(p[0] * u).derivative * softplus(u).value;
  }
};

constexpr float LARGEST_EXPONENT = 87.72283905206835f;  // log(largest float) - 1

struct Srs {  // a, b, already held in their bounds
  static constexpr int own = 2;
  static constexpr Shape form = VALLEY;
  static Shape shape(const float*) { return form; }
  static inline void eval(v8 u, const float* p, v8& f, v8& d) {
    const v8 e = decay(u, p), r = 1.f / (u * (1.f / p[0]) + e);
    f = u * r;
    // With the exponent at its clamp e is constant; its slope is then 0.
    const v8 slope = -u * (1.f / p[1]) > LARGEST_EXPONENT ? v8{} : u * (1.f / p[1]);
    d = (e * r) * (1.f + slope) * r;
  }
  static inline void own_gradient(v8 u, const float* p, v8* g) {
    const float b = 1.f / p[1];
    const v8 e = decay(u, p), r = 1.f / (u * (1.f / p[0]) + e), y = u * r;
    g[0] = y * y * (1.f / (p[0] * p[0]));
    g[1] = -u * b > LARGEST_EXPONENT ? v8{} : -(y * (e * r)) * (u * (b * b));
  }
  static inline v8 decay(v8 u, const float* p) {
    return exp(at_most(-u * (1.f / p[1]), LARGEST_EXPONENT));
  }
};

struct Symlog {
  static constexpr int own = 0;
  static constexpr Shape form = INCREASING;
  static Shape shape(const float*) { return form; }
  static inline void eval(v8 u, const float*, v8& f, v8& d) {
    const v8 x = absolute(u), w = 1.f + x;
    d = 1.f / w;
    f = with_sign(log1p(x, w, d), u);
  }
};

struct Symexp {
  static constexpr int own = 0;
  static constexpr Shape form = INCREASING;
  static Shape shape(const float*) { return form; }
  static inline void eval(v8 u, const float*, v8& f, v8& d) {
    const v8 x = absolute(u);
    const Exponential e = exponential(at_most(x, LARGEST_EXPONENT));
    f = with_sign(expm1(e), u);
    d = x > LARGEST_EXPONENT ? v8{} : exp(e);
  }
};

struct Tanh {
  static constexpr int own = 0;
  static constexpr Shape form = INCREASING;
  static Shape shape(const float*) { return form; }
  static inline void eval(v8 u, const float*, v8& f, v8& d) {
    const Tanh2 t = tanh(u);
    f = t.value;
    d = t.derivative;
  }
};

struct Hardswish {
  static constexpr int own = 0;
  static constexpr Shape form = VALLEY;
  static Shape shape(const float*) { return form; }
  static inline void eval(v8 u, const float*, v8& f, v8& d) {
    f = u * (at_most(at_least(u + 3.f, 0.f), 6.f) * (1.f / 6.f));
    d = u * (1.f / 3.f) + 0.5f;
    d = u >= 3.f ? splat(1.f) : u <= -3.f ? v8{} : d;
  }
};

struct Elu {
  static constexpr int own = 0;
  static constexpr Shape form = INCREASING;
  static Shape shape(const float*) { return form; }
  static inline void eval(v8 u, const float*, v8& f, v8& d) {
    const Exponential e = exponential(at_most(u, 0.f));
    f = u > 0.f ? u : expm1(e);
    d = u > 0.f ? splat(1.f) : exp(e);
  }
};

struct Gelu {
  static constexpr int own = 0;
  static constexpr Shape form = VALLEY;
  static Shape shape(const float*) { return form; }
  static inline void eval(v8 u, const float*, v8& f, v8& d) {
    const Normal2 n = normal(u);
    f = u * n.distribution;
    d = n.distribution + u * n.density;
  }
};

struct Softplus {
  static constexpr int own = 0;
  static constexpr Shape form = INCREASING;
  static Shape shape(const float*) { return form; }
  static inline void eval(v8 u, const float*, v8& f, v8& d) {
    const Softplus2 s = softplus(u);
    f = s.value;
    d = s.derivative;
  }
};

struct LogSigmoid {
  static constexpr int own = 0;
  static constexpr Shape form = INCREASING;
  static Shape shape(const float*) { return form; }
  static inline void eval(v8 u, const float*, v8& f, v8& d) {
    const Softplus2 s = softplus(-u);
    f = -s.value;
    d = s.derivative;
  }
};

struct Sigmoid {
  static constexpr int own = 0;
  static constexpr Shape form = INCREASING;
  static Shape shape(const float*) { return form; }
  static inline void eval(v8 u, const float*, v8& f, v8& d) {
    const Sigmoid2 s = sigmoid(u);
    f = s.value;
    d = s.value * s.complement;
  }
};

struct Srelu {  // t_left, a_left, t_right, a_right; the right piece wins where the pieces overlap
  static constexpr int own = 4;
  static constexpr Shape form = ANY;
  static Shape shape(const float*) { return form; }
  static inline void eval(v8 u, const float* p, v8& f, v8& d) {
    const v8 right = p[2] + p[3] * (u - p[2]), left = p[0] + p[1] * (u - p[0]);
    f = u >= p[2] ? right : u <= p[0] ? left : u;
    d = u >= p[2] ? splat(p[3]) : u <= p[0] ? splat(p[1]) : splat(1.f);
  }
  static inline void own_gradient(v8 u, const float* p, v8* g) {
    const i8 right = u >= p[2], left = (u <= p[0]) & ~right;
    g[0] = left ? splat(1.f - p[1]) : v8{};
    g[1] = left ? u - p[0] : v8{};
    g[2] = right ? splat(1.f - p[3]) : v8{};
    g[3] = right ? u - p[2] : v8{};
  }
};

struct SreluReleased {  // t_left, a_left, t_right, a_right; a sum of four clipped lines
  static constexpr int own = 4;
  static constexpr Shape form = ANY;
  static Shape shape(const float*) { return form; }
  static inline void eval(v8 u, const float* p, v8& f, v8& d) {
    const v8 below = at_least(p[0] - u, 0.f), above = at_least(u - p[2], 0.f);
    f = -p[1] * below + at_least(u - p[0], 0.f) - above + p[3] * above;
    d = slope(u < p[0], p[1]) + slope(u > p[0], 1.f) + slope(u > p[2], p[3] - 1.f);
  }
  static inline void own_gradient(v8 u, const float* p, v8* g) {
    g[0] = slope(u < p[0], -p[1]) - slope(u > p[0], 1.f);
    g[1] = -at_least(p[0] - u, 0.f);
    g[2] = slope(u > p[2], 1.f - p[3]);
    g[3] = at_least(u - p[2], 0.f);
  }
  static inline v8 slope(i8 where, float value) { return where ? splat(value) : v8{}; }
};

struct Prelu {  // slope
  static constexpr int own = 1;
  static constexpr Shape form = ANY;
  static Shape shape(const float*) { return form; }
  static inline void eval(v8 u, const float* p, v8& f, v8& d) {
    f = u > 0.f ? u : p[0] * u;
    d = u > 0.f ? splat(1.f) : splat(p[0]);
  }
  static inline void own_gradient(v8 u, const float*, v8* g) { g[0] = u > 0.f ? v8{} : u; }
};

struct Falu {  // order, steepness, already held in their bounds
  static constexpr int own = 2;
  static constexpr Shape form = ANY;
  static Shape shape(const float*) { return form; }
  // With s = sigmoid(k u), t = 1 - s, z = u s: order o <= 1 is z + o s (1 - z), beyond that
  // z + s (1 - z) + (o - 1) s (1 - 2 (z + s (1 - z))).
  static inline void eval(v8 u, const float* p, v8& f, v8& d) {
    const Sigmoid2 s = sigmoid(p[1] * u);
    const v8 z = u * s.value, ds = p[1] * s.value * s.complement, dz = s.value + u * ds;
    blend(p[0], s.value, z, ds, dz, f, d);
  }
  static inline void own_gradient(v8 u, const float* p, v8* g) {
    const Sigmoid2 s = sigmoid(p[1] * u);
    const v8 z = u * s.value, ds = u * s.value * s.complement, dz = u * ds;
    v8 f;
    blend(p[0], s.value, z, ds, dz, f, g[1]);
    g[0] = p[0] <= 1.f ? s.value * (1.f - z) : s.value * (1.f - 2.f * (z + s.value * (1.f - z)));
  }
  // The value, and its derivative given those of s and z with respect to the same variable.
  static inline void blend(float order, v8 s, v8 z, v8 ds, v8 dz, v8& f, v8& d) {
    const v8 step = s * (1.f - z), d_step = ds * (1.f - z) - s * dz;
    if (order <= 1.f) {
      f = z + order * step;
      d = dz + order * d_step;
    } else {
      const v8 first = z + step, d_first = dz + d_step;
      f = first + (order - 1.f) * s * (1.f - 2.f * first);
      d = d_first + (order - 1.f) * (ds * (1.f - 2.f * first) - 2.f * s * d_first);
    }
  }
};

// Calls `f` with the operator of a code, chosen here, outside every loop. plan.py reads the codes off
// this switch: an operator has the name of its struct in lower case, or that of the comment.
template <class Call> static void with_operator(int64_t code, Call f) {
  switch (code) {
    case 0: f(Identity{}); break;
    case 1: f(Relu{}); break;
    case 2: f(Relu6{}); break;
    case 3: f(Acon{}); break;
    case 4: f(TanhSoft1{}); break;
    case 5: f(Srs{}); break;
    case 6: f(Symlog{}); break;
    case 7: f(Symexp{}); break;
    case 8: f(Swish{}); break;
    case 9: f(Tanh{}); break;
    case 10: f(Hardswish{}); break;
    case 11: f(Elu{}); break;
    case 12: f(Gelu{}); break;
    case 13: f(Softplus{}); break;
    case 14: f(Sigmoid{}); break;
    case 15: f(LogSigmoid{}); break;
    case 16: f(Srelu{}); break;
    case 17: f(Prelu{}); break;
    case 18: f(Falu{}); break;
    case 19: f(Srelu{}); break;  // srelu_layer
    case 20: f(SreluReleased{}); break;  // srelu_released
  }
}
